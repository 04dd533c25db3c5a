"""The layers of margin below and above an account's cross pool: whose they are, what may enter.

Every account starts with one cross pool. Its owner may wall off one contract's position with
collateral of its own (isolated), keep a strategy in a pool with a name (portfolio), or hold
collateral that stands behind several of its accounts (group). A loss stops at its pool's wall.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import msgspec
import numpy as np

from exchange.core import limits
from exchange.core.reject_reason import RejectReason
from margin.invariant import Int64Array, check

NO_POOL = -1
_encode = msgspec.msgpack.Encoder().encode


class PoolKind(IntEnum):
    """What a margin pool is."""

    HOUSE = 0
    CROSS = 1  # every account's first: whatever has no pool of its own
    ISOLATED = 2  # one contract's position and its collateral
    PORTFOLIO = 3  # a named part of an account
    GROUP = 4  # collateral behind the cross pools of one owner's accounts; holds no positions


OPENED_BY_OWNER = (PoolKind.ISOLATED, PoolKind.PORTFOLIO, PoolKind.GROUP)


class Layer(msgspec.Struct):
    """A pool that is nobody's first. `instrument`: of an isolated one; `name`: of a portfolio."""

    kind: int
    account: int
    instrument: int = -1
    name: str = ""
    is_open: bool = True


class Layers:
    """Pools beyond the cross ones, where each account's orders fill, and who owns accounts.

    Only what differs from one cross pool an account is stored: most accounts cost nothing here.
    """

    def __init__(self) -> None:
        self.of_pool: dict[int, Layer] = {}
        self.modes: dict[tuple[int, int], int] = {}  # (account, instrument) -> pool, if not cross
        self.parent_account: dict[int, int] = {}  # of sub-accounts only
        self.group_of: dict[int, int] = {}  # owner -> its open group pool
        self._further: dict[int, list[int]] = {}  # account -> its pools in `of_pool`
        self._sub_accounts: dict[int, list[int]] = {}
        self._bytes: bytes | None = None
        self._modes: Int64Array | None = None

    def _changed(self) -> None:
        self._bytes = self._modes = None

    def owner(self, account: int) -> int:
        """The account at the top: itself, or the one whose sub-account it is."""
        return self.parent_account.get(account, account)

    def accounts_of(self, owner: int) -> list[int]:
        """An owner's accounts, its own first."""
        return [owner, *self._sub_accounts.get(owner, ())]

    def further(self, account: int) -> list[int]:
        """An account's open pools besides its cross pool, by number."""
        return [pool for pool in self._further.get(account, ()) if self.of_pool[pool].is_open]

    def is_plain(self, account: int) -> bool:
        """Whether the account's cross pool is the only pool that its owner ever had."""
        owner = self.parent_account.get(account, account)
        return owner not in self._sub_accounts and owner not in self._further

    def find(self, account: int, kind: int, instrument: int, name: str) -> int:
        """An account's open pool of this kind, contract and name, or NO_POOL."""
        for pool in self.further(account):
            layer = self.of_pool[pool]
            if (layer.kind, layer.instrument, layer.name) == (kind, instrument, name):
                return pool
        return NO_POOL

    def count(self, owner: int, kinds: tuple[PoolKind, ...]) -> int:
        """How many open pools of these kinds an owner's accounts have, cross ones left out."""
        return sum(
            self.of_pool[pool].kind in kinds
            for account in self.accounts_of(owner)
            for pool in self.further(account)
        )

    def has_room(self, owner: int, kind: PoolKind) -> bool:
        """Whether an owner may have one more pool of a kind (see `limits`)."""
        if kind == PoolKind.ISOLATED:
            return self.count(owner, (kind,)) < limits.ISOLATED_POOLS_PER_OWNER_MAX
        if kind == PoolKind.GROUP:
            return owner not in self.group_of
        wide = len(self.accounts_of(owner)) + self.count(owner, (PoolKind.PORTFOLIO,))
        return wide < limits.WIDE_POOLS_PER_OWNER_MAX

    def closed_pool(self, account: int) -> int:
        """A pool that the account once closed, whose number is used again; or NO_POOL."""
        for pool in self._further.get(account, ()):
            if not self.of_pool[pool].is_open:
                return pool
        return NO_POOL

    def add(self, pool: int, layer: Layer) -> None:
        """Make `pool` a layer of its account: a new one, or one that was closed."""
        known = self._further.setdefault(layer.account, [])
        if pool not in known:
            known.append(pool)
        check(pool not in self.of_pool or not self.of_pool[pool].is_open, "the pool is free")
        self.of_pool[pool] = layer
        if layer.kind == PoolKind.GROUP and layer.is_open:
            self.group_of[layer.account] = pool
        self._changed()

    def close(self, pool: int) -> None:
        """End a pool; contracts that filled into it fill into the cross pool again."""
        layer = self.of_pool[pool]
        layer.is_open = False
        if layer.kind == PoolKind.GROUP:
            del self.group_of[layer.account]
        for key in [key for key, mode in self.modes.items() if mode == pool]:
            del self.modes[key]
        self._changed()

    def add_sub_account(self, account: int, parent: int) -> None:
        """Make an account the sub-account of another."""
        check(parent not in self.parent_account, "sub-accounts have none of their own")
        self.parent_account[account] = parent
        self._sub_accounts.setdefault(parent, []).append(account)
        self._changed()

    def set_mode(self, account: int, instrument: int, pool: int) -> None:
        """Let a contract's orders fill into a pool from now on; NO_POOL: into the cross pool."""
        if pool == NO_POOL:
            self.modes.pop((account, instrument), None)
        else:
            self.modes[account, instrument] = pool
        self._changed()

    def mode_columns(self) -> Int64Array:
        """The modes in columns, 2 x n: (account, contract) as a rising key, and the pool."""
        if self._modes is None:
            rows = [
                (account * limits.INSTRUMENTS_MAX + slot, pool)
                for (account, slot), pool in sorted(self.modes.items())
            ]
            self._modes = np.array(rows, np.int64).reshape(-1, 2).T.copy()
        return self._modes

    def refusal(self, account: int, pool: int, instrument: int) -> RejectReason:
        """Why an account's orders in a contract cannot fill into a pool that is no cross pool."""
        layer = self.of_pool.get(pool)
        if layer is None or not layer.is_open:
            return RejectReason.POOL_UNKNOWN
        if layer.account != account:
            return RejectReason.POOL_NOT_OWNED
        if layer.kind == PoolKind.GROUP:
            return RejectReason.POOL_WITHOUT_POSITIONS
        if layer.kind == PoolKind.ISOLATED and layer.instrument != instrument:
            return RejectReason.POOL_OF_OTHER_INSTRUMENT
        return RejectReason.NONE

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes, in order of pool and account."""
        if self._bytes is None:
            self._bytes = _encode(
                (
                    sorted(self.of_pool.items()),
                    sorted(self.modes.items()),
                    sorted(self.parent_account.items()),
                )
            )
        yield "accounts.layers", self._bytes

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        layout = tuple[
            list[tuple[int, Layer]], list[tuple[tuple[int, int], int]], list[tuple[int, int]]
        ]
        layers, modes, parents = msgspec.msgpack.decode(parts["accounts.layers"], type=layout)
        for account, parent in parents:
            self.add_sub_account(account, parent)
        for pool, layer in layers:
            self.add(pool, layer)
        self.modes = dict(modes)
        self._changed()
