"""Open orders in columns: the resting ones sorted by identifier, this batch's in arrival order.

An order identifier holds the instrument above a sequence that the venue counts up, so the resting
table is grouped by instrument and, inside it, sorted by acceptance. Orders of the running batch
are appended to a flat buffer; because each takes the next sequence, its row is found by
subtraction. `seal` merges the two into the table that the auction clears.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from struct import Struct

import msgspec
import numpy as np
from numba import njit

from exchange.core import limits
from margin.invariant import BoolArray, Int64Array, check

# Columns of one order.
ORDER_ID, POOL, SIDE, PRICE_TICKS, OPEN_LOTS, FLAGS, AGE_BATCH, OWN_SEQUENCE = range(8)
COLUMNS = 8
_encode = msgspec.msgpack.Encoder().encode
_pack = Struct("8q").pack  # faster than extending the buffer by a tuple

# Flags of one order.
MARKET, IMMEDIATE, REDUCE_ONLY, LIQUIDATION, POST_ONLY = 1, 2, 4, 8, 16

SEQUENCE_MASK = limits.ORDER_SEQUENCE_MAX
INSTRUMENT_SHIFT = limits.ORDER_SEQUENCE_BITS


@njit(cache=True)
def _merge(resting: Int64Array, incoming: Int64Array, instruments: int) -> tuple[Int64Array, int]:
    """Resting (columns x n) and incoming (m x columns) rows with open lots, sorted by order id.

    Also the union of their flags.
    """
    start = np.zeros(instruments + 1, np.int64)
    arrived = 0
    for row in range(incoming.shape[0]):
        if incoming[row, OPEN_LOTS] > 0:
            start[(incoming[row, ORDER_ID] >> INSTRUMENT_SHIFT) + 1] += 1
            arrived += 1
    for slot in range(instruments):
        start[slot + 1] += start[slot]
    by_id = np.empty(arrived, np.int64)
    for row in range(incoming.shape[0]):
        if incoming[row, OPEN_LOTS] > 0:
            slot = incoming[row, ORDER_ID] >> INSTRUMENT_SHIFT
            by_id[start[slot]] = row
            start[slot] += 1
    open_resting = 0
    for row in range(resting.shape[1]):
        if resting[OPEN_LOTS, row] > 0:
            open_resting += 1
    merged = np.empty((COLUMNS, arrived + open_resting), np.int64)
    left, right, flags = 0, 0, 0
    for out in range(merged.shape[1]):
        while left < resting.shape[1] and resting[OPEN_LOTS, left] == 0:
            left += 1
        take_left = right == arrived or (
            left < resting.shape[1] and resting[ORDER_ID, left] < incoming[by_id[right], ORDER_ID]
        )
        if take_left:
            for column in range(COLUMNS):
                merged[column, out] = resting[column, left]
            left += 1
        else:
            for column in range(COLUMNS):
                merged[column, out] = incoming[by_id[right], column]
            right += 1
        flags |= merged[FLAGS, out]
    return merged, flags


@njit(cache=True)
def _books(order_id: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Instruments with orders in a table sorted by order id, and where each one's rows start.

    The second array has one entry more than the first: the number of rows.
    """
    count = 0
    for row in range(len(order_id)):
        slot = order_id[row] >> INSTRUMENT_SHIFT
        if row == 0 or slot != order_id[row - 1] >> INSTRUMENT_SHIFT:
            count += 1
    instrument, start = np.empty(count, np.int64), np.empty(count + 1, np.int64)
    at = 0
    for row in range(len(order_id)):
        slot = order_id[row] >> INSTRUMENT_SHIFT
        if row == 0 or slot != order_id[row - 1] >> INSTRUMENT_SHIFT:
            instrument[at], start[at] = slot, row
            at += 1
    start[count] = len(order_id)
    return instrument, start


@njit(cache=True)
def _kept(table: Int64Array, kept: BoolArray) -> Int64Array:
    count = 0
    for row in range(len(kept)):
        if kept[row]:
            count += 1
    out = np.empty((COLUMNS, count), np.int64)
    at = 0
    for row in range(table.shape[1]):
        if kept[row]:
            for column in range(COLUMNS):
                out[column, at] = table[column, row]
            at += 1
    return out


@njit(cache=True)
def _packed(table: Int64Array) -> Int64Array:
    """Four words an order: id; pool, own sequence; price, lots; age, flags, side."""
    words = np.empty((table.shape[1], 4), np.int64)
    for row in range(table.shape[1]):
        words[row, 0] = table[ORDER_ID, row]
        words[row, 1] = (table[POOL, row] << INSTRUMENT_SHIFT) | table[OWN_SEQUENCE, row]
        words[row, 2] = (table[PRICE_TICKS, row] << 31) | table[OPEN_LOTS, row]
        side = 1 if table[SIDE, row] > 0 else 0
        words[row, 3] = (table[AGE_BATCH, row] << 8) | (table[FLAGS, row] << 1) | side
    return words


@njit(cache=True)
def _unpacked(words: Int64Array) -> Int64Array:
    table = np.empty((COLUMNS, words.shape[0]), np.int64)
    for row in range(words.shape[0]):
        table[ORDER_ID, row] = words[row, 0]
        table[POOL, row] = words[row, 1] >> INSTRUMENT_SHIFT
        table[OWN_SEQUENCE, row] = words[row, 1] & SEQUENCE_MASK
        table[PRICE_TICKS, row] = words[row, 2] >> 31
        table[OPEN_LOTS, row] = words[row, 2] & 0x7FFFFFFF
        table[AGE_BATCH, row] = words[row, 3] >> 8
        table[FLAGS, row] = (words[row, 3] & 0xFF) >> 1
        table[SIDE, row] = 1 if words[row, 3] & 1 else -1
    return table


def _by_acceptance(rows: Int64Array) -> Int64Array:
    return rows[:, np.argsort(rows[ORDER_ID] & SEQUENCE_MASK, kind="stable")]


class OrderTable:
    """All open orders of the venue, and the sequence that names the next one."""

    def __init__(self) -> None:
        self.resting: Int64Array = np.empty((COLUMNS, 0), np.int64)
        self.incoming = array("q")
        self.next_sequence = 1
        self.first_incoming = 1
        self.flags_sealed = 0  # union of the flags of all sealed orders
        self._books_of: Int64Array | None = None
        self._books: tuple[Int64Array, Int64Array]

    def append(
        self,
        instrument: int,
        pool: int,
        side: int,
        price_ticks: int,
        lots: int,
        flags: int,
        age_batch: int,
        own_sequence: int,
    ) -> int:
        """Add an order of the running batch and return its identifier."""
        sequence = self.next_sequence
        self.next_sequence = sequence + 1
        order_id = (instrument << INSTRUMENT_SHIFT) | sequence
        self.incoming.frombytes(
            _pack(order_id, pool, side, price_ticks, lots, flags, age_batch, own_sequence)
        )
        return order_id

    def append_rows(self, rows: Int64Array) -> None:
        """Add rows (n x columns) whose identifiers continue the sequence."""
        self.incoming.frombytes(rows.tobytes())
        self.next_sequence += len(rows)

    def find(self, order_id: int) -> tuple[int, ...] | None:
        """The columns of an open order, or None where it is not open."""
        row = (order_id & SEQUENCE_MASK) - self.first_incoming
        if row >= 0:
            base = row * COLUMNS
            if base >= len(self.incoming) or self.incoming[base] != order_id:
                return None
            found = tuple(self.incoming[base : base + COLUMNS])
        else:
            column = self.resting[ORDER_ID]
            row = int(column.searchsorted(order_id))
            if row == len(column) or column[row] != order_id:
                return None
            found = tuple(self.resting[:, row].tolist())
        return found if found[OPEN_LOTS] > 0 else None

    def set(self, order_id: int, column: int, value: int) -> None:
        """Write one column of an open order."""
        row = (order_id & SEQUENCE_MASK) - self.first_incoming
        if row >= 0:
            self.incoming[row * COLUMNS + column] = value
        else:
            self.resting[column, int(self.resting[ORDER_ID].searchsorted(order_id))] = value

    def close_own(self, order_id: int, pool: int) -> int:
        """Take out an open order of the running batch that is the pool's own.

        Returns its open lots; 0 where it is not such an order, and nothing changed.
        """
        base = ((order_id & SEQUENCE_MASK) - self.first_incoming) * COLUMNS
        rows = self.incoming
        if base < 0 or base >= len(rows) or rows[base] != order_id or rows[base + POOL] != pool:
            return 0
        if rows[base + FLAGS] & LIQUIDATION:
            return 0
        open_lots: int = rows[base + OPEN_LOTS]
        rows[base + OPEN_LOTS] = 0
        return open_lots

    def close(self, order_id: int) -> None:
        """Take an order out; its row disappears at the next seal."""
        self.set(order_id, OPEN_LOTS, 0)

    def incoming_rows(self) -> Int64Array:
        """This batch's orders as rows x columns; a copy, so that the buffer may grow on."""
        return np.array(self.incoming, np.int64).reshape(-1, COLUMNS)

    def of_pool(self, pool: int) -> Int64Array:
        """All open orders of a pool, columns x n, in order of acceptance."""
        rows = self.incoming_rows()
        arrived = rows[(rows[:, POOL] == pool) & (rows[:, OPEN_LOTS] > 0)].T
        mine = (self.resting[POOL] == pool) & (self.resting[OPEN_LOTS] > 0)
        return _by_acceptance(np.concatenate((self.resting[:, mine], arrived), axis=1))

    def of_pools(self, pools: list[int]) -> Int64Array:
        """All open orders of several pools, columns x n, in order of acceptance."""
        return _by_acceptance(np.concatenate([self.of_pool(pool) for pool in pools], axis=1))

    def move(self, giver: int, taker: int, instrument: int) -> int:
        """Hand a pool's open orders in a contract to another pool; how many there were."""
        table = self.resting
        mine = (table[POOL] == giver) & (table[ORDER_ID] >> INSTRUMENT_SHIFT == instrument)
        mine &= table[OPEN_LOTS] > 0
        table[POOL, mine] = taker
        rows = np.frombuffer(self.incoming, np.int64).reshape(-1, COLUMNS)
        new = (rows[:, POOL] == giver) & (rows[:, ORDER_ID] >> INSTRUMENT_SHIFT == instrument)
        new &= rows[:, OPEN_LOTS] > 0
        rows[new, POOL] = taker
        return int(mine.sum()) + int(new.sum())

    def seal(self, instruments: int) -> Int64Array:
        """Merge this batch's orders into the resting table and return it (columns x n)."""
        rows = np.frombuffer(self.incoming, np.int64).reshape(-1, COLUMNS)
        self.resting, self.flags_sealed = _merge(self.resting, rows, instruments)
        del rows
        self.incoming = array("q")
        self.first_incoming = self.next_sequence
        return self.resting

    def books(self) -> tuple[Int64Array, Int64Array]:
        """Instruments with resting orders, and the first row of each book and the end."""
        if self._books_of is not self.resting:  # whose identifiers are never written to
            self._books, self._books_of = _books(self.resting[ORDER_ID]), self.resting
        return self._books

    def keep(self, kept: BoolArray) -> None:
        """Drop the resting rows that are not `kept`."""
        self.resting = _kept(self.resting, kept)

    def validate(self) -> None:
        """Raise where the table contradicts itself."""
        ids = self.resting[ORDER_ID]
        check(bool((ids[1:] > ids[:-1]).all()), "resting orders are sorted by identifier")
        check(bool((self.resting[OPEN_LOTS] >= 0).all()), "open quantity is never negative")
        check(len(self.incoming) % COLUMNS == 0, "incoming rows are whole")

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes of the table (see `state_hash`)."""
        sequences = (self.next_sequence, self.first_incoming)
        yield "orders.resting", _packed(self.resting).tobytes()
        yield "orders.incoming", _encode((self.incoming.tobytes(), sequences))

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        layout = tuple[bytes, tuple[int, int]]
        incoming, sequences = msgspec.msgpack.decode(parts["orders.incoming"], type=layout)
        words = np.frombuffer(parts["orders.resting"], np.int64).reshape(-1, 4).copy()
        self.resting = _unpacked(words)
        self.incoming = array("q")
        self.incoming.frombytes(incoming)
        self.next_sequence, self.first_incoming = sequences


def warm_up() -> None:
    """Compile the kernels of this module."""
    empty = np.empty((COLUMNS, 0), np.int64)
    rows = np.empty((0, COLUMNS), np.int64)
    rows.flags.writeable = True
    _books(_merge(empty, rows, 1)[0][ORDER_ID])
    _unpacked(_packed(_kept(empty, np.ones(0, np.bool_))))
