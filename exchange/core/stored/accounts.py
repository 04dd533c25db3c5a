"""Accounts and their margin pools: who owns what, and where each pool stands.

A pool is the row of ledger, margin and default. Every account starts with one cross pool and may
have more (see `layers`); the house's own pools come first (see `ledger.House`).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from exchange.core import limits
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.layers import NO_POOL, Layer, Layers, PoolKind
from exchange.core.stored.ledger import HOUSE_POOLS
from margin.default.margin_call import MarginCall
from margin.invariant import Int64Array, check

NO_OWNER = -1
_encode = msgspec.msgpack.Encoder().encode


class LiquidationOrder(msgspec.Struct):
    """One order of a case in the running batch, the fee on all of it, and what it filled."""

    order_id: int
    instrument: int
    quantity_lots: int
    fee_minor: int
    filled_lots: int = 0


class LiquidationCase(msgspec.Struct):
    """A default being worked off, one step a cycle, until the pool is healthy or empty."""

    pool: int
    opened_cycle: int
    call_expired: bool
    public_attempts: int = 0
    orders: list[LiquidationOrder] = []


class Accounts:
    """Names, pools, order sequences, standing margin calls and open liquidation cases."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.number_of: dict[str, int] = {}
        self.pool_of: list[int] = []  # the cross pool of each account
        self.owner_of: list[int] = [NO_OWNER] * HOUSE_POOLS
        self.model_of: list[int] = [0] * HOUSE_POOLS  # number in `Venue.presets`, by pool
        self.layers = Layers()
        self._drawing: Int64Array = np.zeros(0, np.int64)
        self._accounts: Int64Array = np.zeros(0, np.int64)
        self._owners: Int64Array = np.zeros(0, np.int64)
        self._models: Int64Array = np.zeros(0, np.int64)
        self._pools: Int64Array = np.zeros(0, np.int64)
        self.own_sequence: Int64Array = np.zeros(0, np.int64)
        self.calls: dict[int, MarginCall] = {}
        self.cases: dict[int, LiquidationCase] = {}
        self.withdrawals_frozen = False
        self._naming: bytes | None = None

    @property
    def pools(self) -> int:
        """Number of pools, the house's included."""
        return len(self.owner_of)

    def open(self, name: str, model: int = 0) -> tuple[int, int]:
        """Add an account and its cross pool, charged by a margin model; returns both numbers."""
        check(name not in self.number_of, "account names are unique")
        account = len(self.names)
        self.names.append(name)
        self.number_of[name] = account
        pool = self._add_pool(account, model)
        self.pool_of.append(pool)
        if account >= len(self.own_sequence):
            room = np.zeros(max(16, len(self.own_sequence)), np.int64)
            self.own_sequence = np.concatenate((self.own_sequence, room))
        return account, pool

    def _add_pool(self, account: int, model: int) -> int:
        check(self.pools < limits.POOLS_MAX, "room for another pool")
        pool = self.pools
        self.owner_of.append(account)
        self.model_of.append(model)
        self._naming = None
        return pool

    def open_layer(self, layer: Layer) -> tuple[int, bool]:
        """Add a pool to an account; its number, and whether there was no such number before."""
        pool = self.layers.closed_pool(layer.account)
        is_new = pool == NO_POOL
        if is_new:
            pool = self._add_pool(layer.account, self.model_of[self.pool_of[layer.account]])
        self.layers.add(pool, layer)
        return pool, is_new

    def kind_of(self, pool: int) -> PoolKind:
        """What a pool is."""
        if pool < HOUSE_POOLS:
            return PoolKind.HOUSE
        layer = self.layers.of_pool.get(pool)
        return PoolKind.CROSS if layer is None else PoolKind(layer.kind)

    def parent_of(self, pool: int) -> int:
        """The pool above: an account's cross pool, its owner's group pool, or NO_POOL."""
        kind, account = self.kind_of(pool), self.owner_of[pool]
        if kind in (PoolKind.ISOLATED, PoolKind.PORTFOLIO):
            return self.pool_of[account]
        if kind == PoolKind.CROSS:
            return self.layers.group_of.get(self.layers.owner(account), NO_POOL)
        return NO_POOL

    def pools_of(self, account: int) -> list[int]:
        """An account's open pools, its cross pool first."""
        return [self.pool_of[account], *self.layers.further(account)]

    def is_open_pool(self, pool: int) -> bool:
        """Whether this is the number of an account's pool that has not been closed."""
        if not HOUSE_POOLS <= pool < self.pools:
            return False
        layer = self.layers.of_pool.get(pool)
        return layer is None or layer.is_open

    def pool_for(self, account: int, instrument: int, named: int) -> tuple[int, RejectReason]:
        """The pool that an account's order fills into, or why there is none.

        `named` NO_POOL: that of the account's mode for the contract, else its cross pool.
        """
        if not 0 <= account < len(self.pool_of):
            return NO_POOL, RejectReason.ACCOUNT_UNKNOWN
        cross = self.pool_of[account]
        if named == NO_POOL:
            return self.layers.modes.get((account, instrument), cross), RejectReason.NONE
        if named == cross:
            return cross, RejectReason.NONE
        if named < HOUSE_POOLS or named >= self.pools:
            return NO_POOL, RejectReason.POOL_UNKNOWN
        if self.owner_of[named] != account:
            return NO_POOL, RejectReason.POOL_NOT_OWNED
        return named, self.layers.refusal(account, named, instrument)

    def family(self, pool: int) -> list[int]:
        """All pools that one owner has together with this one, rising; the house's are alone."""
        account = self.owner_of[pool]
        if account == NO_OWNER or self.layers.is_plain(account):
            return [pool]
        accounts = self.layers.accounts_of(self.layers.owner(account))
        return sorted(each for number in accounts for each in self.pools_of(number))

    def refusal_of_holder(self, account: int, pool: int) -> RejectReason:
        """Why an account has no say over the money of a pool, or NONE.

        It has over that of its own pools and of its sub-accounts'.
        """
        if not 0 <= account < len(self.names):
            return RejectReason.ACCOUNT_UNKNOWN
        if not self.is_open_pool(pool):
            return RejectReason.POOL_UNKNOWN
        holder = self.owner_of[pool]
        own = account in (holder, self.layers.owner(holder))
        return RejectReason.NONE if own else RejectReason.POOL_NOT_OWNED

    def drawing_column(self) -> Int64Array:
        """The account that draws lots for each pool; a pool of the house draws for itself."""
        if len(self._drawing) != len(self.owner_of):
            owner = np.array(self.owner_of, np.int64)
            itself = limits.POOLS_MAX + np.arange(len(owner))
            self._drawing = np.where(owner >= 0, owner, itself)
        return self._drawing

    def owner_column(self) -> Int64Array:
        """A number of its owner for each pool, below the number of pools; the house's own last."""
        if len(self._owners) != len(self.owner_of):
            account = np.array(self.owner_of, np.int64)
            top = np.arange(len(self.names) + 1)
            for sub_account, parent in self.layers.parent_account.items():
                top[sub_account] = parent
            itself = len(self.names) + np.arange(len(account))
            self._owners = np.where(account >= 0, top[account], itself)
        return self._owners

    def account_column(self) -> Int64Array:
        """The account of each pool; NO_OWNER for the house's."""
        if len(self._accounts) != len(self.owner_of):
            self._accounts = np.array(self.owner_of, np.int64)
        return self._accounts

    def pools_of_model(self, model: int) -> Int64Array:
        """Pools that one of the venue's margin models charges, rising."""
        if len(self._models) != len(self.model_of):
            self._models = np.array(self.model_of, np.int64)
        pools: Int64Array = (self._models == model).nonzero()[0]
        return pools

    def pool_column(self) -> Int64Array:
        """Cross pool of each account."""
        if len(self._pools) != len(self.pool_of):
            self._pools = np.array(self.pool_of, np.int64)
        return self._pools

    def next_own_sequence(self, account: int) -> int:
        """Count up the account's own order sequence (its only claim inside a batch)."""
        following = int(self.own_sequence[account]) + 1
        self.own_sequence[account] = following
        return following

    def in_liquidation(self, pool: int) -> bool:
        """Whether a liquidation case is open for the pool."""
        return pool in self.cases

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes: dictionaries in order of pool number."""
        if self._naming is None:
            self._naming = _encode((self.names, self.pool_of, self.owner_of, self.model_of))
        calls = [(pool, self.calls[pool]) for pool in sorted(self.calls)]
        cases = [self.cases[pool] for pool in sorted(self.cases)]
        sequence = self.own_sequence[: len(self.names)].tobytes()
        standing = (sequence, calls, cases, self.withdrawals_frozen)
        yield "accounts.naming", self._naming
        yield from self.layers.parts()
        yield "accounts.standing", _encode(standing)

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        naming = tuple[list[str], list[int], list[int], list[int]]
        named = msgspec.msgpack.decode(parts["accounts.naming"], type=naming)
        for name in named[0]:
            self.open(name)
        _, self.pool_of, self.owner_of, self.model_of = named
        self._naming = None
        self.layers.load(parts)
        standing = tuple[bytes, list[tuple[int, MarginCall]], list[LiquidationCase], bool]
        data = msgspec.msgpack.decode(parts["accounts.standing"], type=standing)
        sequence = np.frombuffer(data[0], np.int64)
        self.own_sequence[: len(sequence)] = sequence
        self.calls = dict(data[1])
        self.cases = {case.pool: case for case in data[2]}
        self.withdrawals_frozen = data[3]
