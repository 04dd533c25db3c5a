"""The whole state of the venue, its canonical bytes, and their digest.

Each component yields its parts as (name, bytes) in a fixed order. A snapshot stores exactly the
parts that the state hash digests (and the client order ids behind their digests), so a snapshot
that restores to the same hash is complete. It also says by which version of the rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from enum import IntEnum

import msgspec
import numpy as np
from numba import njit

from exchange.core import limits
from exchange.core.stored.accounts import Accounts
from exchange.core.stored.attestations import Attestations
from exchange.core.stored.client_orders import ClientOrders
from exchange.core.stored.collar import Collars
from exchange.core.stored.contracts import Contracts
from exchange.core.stored.forecasts import Forecasts
from exchange.core.stored.last_prints import LastPrints
from exchange.core.stored.ledger import HOUSE_POOLS, Ledger
from exchange.core.stored.marks import MarkBoard
from exchange.core.stored.orders import OPEN_LOTS, ORDER_ID, OrderTable
from exchange.core.stored.positions import KEY, LOTS, RANK_MASK, Positions
from exchange.core.venue import Venue
from margin.invariant import Int64Array, check

VERSION = "3"
"""Version of the rules and of the state's parts: a journal or a snapshot of another is refused.

The code that wrote a journal replays it; from a journal of this version a refused snapshot's state
is computed again.
"""


class Phase(IntEnum):
    """Where the venue stands in its cycle."""

    COLLECTING = 0
    SEALED = 1
    UNCROSSED = 2


class State:
    """Everything that commands change, and nothing that can be derived from it."""

    def __init__(self, venue: Venue, seed: int) -> None:
        self.venue, self.seed = venue, seed
        self.phase = Phase.COLLECTING
        self.batch = 0  # the batch that is being collected, sealed or uncrossed
        self.cycle = -1  # the last finished cycle
        self.time_ns = 0
        self.contracts = Contracts(venue)
        self.accounts = Accounts()
        self.orders = OrderTable()
        self.ledger = Ledger(len(venue.currencies()))
        self.positions = Positions(self.contracts)
        self.collars = Collars(venue.collar)
        self.last_prints = LastPrints()
        self.marks = MarkBoard(venue, self.contracts)
        self.forecasts = Forecasts(venue)
        self.attestations = Attestations(venue)
        self.client_orders = ClientOrders(venue.client_order_id_cycles)
        self.last_hash = bytes(32)
        self._venue_bytes = msgspec.msgpack.encode((venue, seed))

    def parts(self) -> Iterator[tuple[str, bytes | memoryview]]:
        """Canonical bytes of everything, in a fixed order; views live until the next command."""
        yield "venue", self._venue_bytes
        yield "clock", b"%d,%d,%d,%d" % (self.phase, self.batch, self.cycle, self.time_ns)
        yield "last_hash", self.last_hash
        yield from self.contracts.parts()
        yield from self.accounts.parts()
        yield from self.orders.parts()
        yield from self.ledger.parts()
        yield from self.positions.parts()
        yield from self.collars.parts()
        yield from self.last_prints.parts()
        yield from self.marks.parts()
        yield from self.client_orders.parts()
        yield from self.forecasts.parts()
        yield from self.attestations.parts()

    def digest(self) -> bytes:
        """SHA-256 over the lengths of all parts, then their bytes."""
        data = [data for _, data in self.parts()]
        lengths = np.array([len(part) for part in data], np.int64).tobytes()
        found = hashlib.sha256(lengths)
        for part in data:  # not joined first: positions of many pools are megabytes
            found.update(part)
        return found.digest()

    def snapshot(self) -> bytes:
        """Canonical bytes from which `restore` makes an equal state."""
        entries = ("client_orders.entries", self.client_orders.entries())
        version = ("version", VERSION.encode())
        return msgspec.msgpack.encode([*self.parts(), entries, version])

    @classmethod
    def restore(cls, data: bytes) -> State:
        """The state whose snapshot this is; `InvariantBroken` for one of another version."""
        parts = dict(msgspec.msgpack.decode(data, type=list[tuple[str, bytes]]))
        version = parts.get("version", b"1").decode()
        check(version == VERSION, f"a snapshot of version {version}; this is version {VERSION}")
        venue, seed = msgspec.msgpack.decode(parts["venue"], type=tuple[Venue, int])
        state = cls(venue, seed)
        phase, state.batch, state.cycle, state.time_ns = map(int, parts["clock"].split(b","))
        state.phase = Phase(phase)
        state.last_hash = parts["last_hash"]
        state.contracts.load(parts)
        state.accounts.load(parts)
        state.orders.load(parts)
        state.ledger.load(parts)
        state.positions.load(parts)
        state.collars.load(parts)
        state.last_prints.load(parts)
        state.marks.load(parts)
        state.client_orders.load(parts)
        state.forecasts.load(parts)
        state.attestations.load(parts)
        return state

    def validate(self) -> None:
        """Raise where the books contradict themselves."""
        table, contracts = self.positions.table, self.contracts
        broken = _first_broken_law(
            self.orders.resting,
            self.ledger.cash,
            table,
            contracts.by_rank,
            RANK_MASK,
            limits.BALANCE_MINOR_MAX,
            HOUSE_POOLS,
        )
        check(broken == 0, LAWS[broken])


LAWS = (
    "all laws hold",
    "resting orders are sorted by identifier",
    "an open quantity is never negative",
    "the trial balance is zero in every currency",
    "every balance is within bounds",
    "positions are sorted by key",
    "positions sum to zero per instrument",
)


@njit(cache=True)
def _first_broken_law(
    orders: Int64Array,
    cash: Int64Array,
    positions: Int64Array,
    by_rank: Int64Array,
    rank_mask: int,
    balance_max: int,
    house_pools: int,
) -> int:
    """The number in `LAWS` of the first law that does not hold, or 0."""
    for row in range(orders.shape[1]):
        if row > 0 and orders[ORDER_ID, row] <= orders[ORDER_ID, row - 1]:
            return 1
        if orders[OPEN_LOTS, row] < 0:
            return 2
    for currency in range(cash.shape[1]):
        total = 0
        for pool in range(cash.shape[0]):
            total += cash[pool, currency]
            if pool >= house_pools and abs(cash[pool, currency]) > balance_max:
                return 4
        if total != 0:
            return 3
    held = np.zeros(len(by_rank), np.int64)
    for row in range(positions.shape[1]):
        if row > 0 and positions[KEY, row] <= positions[KEY, row - 1]:
            return 5
        held[by_rank[positions[KEY, row] & rank_mask]] += positions[LOTS, row]
    for slot in range(len(held)):
        if held[slot] != 0:
            return 6
    return 0


def warm_up() -> None:
    """Compile the kernels of this module."""
    empty = np.zeros((8, 0), np.int64)
    _first_broken_law(empty, np.zeros((1, 1), np.int64), empty, empty[0], 1, 1, 1)
