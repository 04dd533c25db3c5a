"""Positions in columns, sorted by (pool, risk unit, expiry, strike, instrument).

The key of a row is the pool above the instrument's rank in margin order, so one sorted column
finds a position and groups everything that margin reads together. Cash settlement of futures
telescopes: `settled_minor` is the value up to which a position has been paid, whatever the path.
Entry value and realised profit are memo fields for the wire and for deleveraging.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numba import njit

from exchange.core.stored.contracts import Contracts
from exchange.core.stored.sorted_column import first_at_least
from margin.fixed_point import mul_div_floor
from margin.invariant import Int64Array, check

RANK_BITS = 12
RANK_MASK = 2**RANK_BITS - 1

# Columns of one position.
KEY, LOTS, CARRIED_LOTS, SETTLED_MINOR, ENTRY_MINOR, REALISED_MINOR = range(6)
COLUMNS = 6


@njit(cache=True)
def _missing(keys: Int64Array, pool: Int64Array, slot: Int64Array, rank: Int64Array) -> Int64Array:
    """The keys of those (pool, slot) that have no row."""
    found = np.empty(len(pool), np.int64)
    count = 0
    for index in range(len(pool)):
        wanted = (pool[index] << RANK_BITS) | rank[slot[index]]
        row = first_at_least(keys, wanted)
        if row == len(keys) or keys[row] != wanted:
            found[count] = wanted
            count += 1
    return found[:count]


@njit(cache=True)
def _apply(
    table: Int64Array,
    pool: Int64Array,
    slot: Int64Array,
    rank: Int64Array,
    fill_lots: Int64Array,
    fill_value: Int64Array,
    is_option: Int64Array,
) -> None:
    """Add fills to positions that all have a row; futures owe the fill's value until revalued."""
    for index in range(len(pool)):
        row = first_at_least(table[KEY], (pool[index] << RANK_BITS) | rank[slot[index]])
        lots, traded, value = table[LOTS, row], fill_lots[index], fill_value[index]
        if lots == 0 or (lots > 0) == (traded > 0):
            table[ENTRY_MINOR, row] += value
        else:
            closed = min(abs(lots), abs(traded))
            entry_closed = mul_div_floor(table[ENTRY_MINOR, row], closed, abs(lots))
            value_closed = mul_div_floor(value, closed, abs(traded))
            table[REALISED_MINOR, row] -= entry_closed + value_closed
            table[ENTRY_MINOR, row] += value - value_closed - entry_closed
        table[LOTS, row] = lots + traded
        if is_option[slot[index]] == 0:
            table[SETTLED_MINOR, row] += value


@njit(cache=True)
def _without_flat(table: Int64Array) -> Int64Array:
    kept = 0
    for row in range(table.shape[1]):
        if (table[LOTS, row] | table[SETTLED_MINOR, row] | table[CARRIED_LOTS, row]) != 0:
            kept += 1
    if kept == table.shape[1]:
        return table
    out = np.empty((COLUMNS, kept), np.int64)
    at = 0
    for row in range(table.shape[1]):
        if (table[LOTS, row] | table[SETTLED_MINOR, row] | table[CARRIED_LOTS, row]) != 0:
            for column in range(COLUMNS):
                out[column, at] = table[column, row]
            at += 1
    return out


@njit(cache=True)
def _starts(keys: Int64Array, pools: int) -> Int64Array:
    start = np.zeros(pools + 1, np.int64)
    for row in range(len(keys)):
        start[(keys[row] >> RANK_BITS) + 1] += 1
    for pool in range(pools):
        start[pool + 1] += start[pool]
    return start


@njit(cache=True)
def _sums(table: Int64Array, by_rank: Int64Array) -> Int64Array:
    total = np.zeros(len(by_rank), np.int64)
    for row in range(table.shape[1]):
        total[by_rank[table[KEY, row] & RANK_MASK]] += table[LOTS, row]
    return total


def _joined(held: list[int], moved: list[int]) -> list[int]:
    """Two positions of one owner in one contract as one.

    Where they oppose, the smaller closes as much of the larger, at what both were entered for.
    """
    row = [held[KEY], *(a + b for a, b in zip(held[LOTS:], moved[LOTS:], strict=True))]
    if (held[LOTS] > 0) != (moved[LOTS] > 0):
        closed = min(abs(held[LOTS]), abs(moved[LOTS]))
        for part in (held, moved):
            if part[LOTS]:
                entered = part[ENTRY_MINOR] * closed // abs(part[LOTS])
                row[ENTRY_MINOR] -= entered
                row[REALISED_MINOR] -= entered
    return row


class Positions:
    """All positions of all pools."""

    def __init__(self, contracts: Contracts) -> None:
        self.contracts = contracts
        self.table: Int64Array = np.empty((COLUMNS, 0), np.int64)
        # Keys are never written to, so whose rows are where holds for as long as a table lives.
        self._of_table: Int64Array | None = None
        self._start = self._slot = np.zeros(1, np.int64)

    @property
    def pool(self) -> Int64Array:
        """Pool of each row."""
        pools: Int64Array = self.table[KEY] >> RANK_BITS
        return pools

    @property
    def instrument(self) -> Int64Array:
        """Instrument slot of each row; not to be written to."""
        return self._index()[1]

    @property
    def lots(self) -> Int64Array:
        """Signed quantity of each row."""
        lots: Int64Array = self.table[LOTS]
        return lots

    def _index(self) -> tuple[Int64Array, Int64Array]:
        """First row of each pool up to the last that holds anything, slot of each row."""
        if self._of_table is not self.table:
            keys = self.table[KEY]
            pools = (int(keys[-1]) >> RANK_BITS) + 1 if len(keys) else 0
            self._start, self._of_table = _starts(keys, pools), self.table
            self._slot = self.contracts.by_rank[keys & RANK_MASK]
        return self._start, self._slot

    def key_of(self, pool: int, instrument: int) -> int:
        """The key of a pool's position in an instrument."""
        return (pool << RANK_BITS) | int(self.contracts.rank[instrument])

    def row_of(self, pool: int, instrument: int) -> int:
        """The row of a position, or -1 where the pool has none."""
        key = self.key_of(pool, instrument)
        row = int(self.table[KEY].searchsorted(key))
        return row if row < self.table.shape[1] and self.table[KEY, row] == key else -1

    def lots_of(self, pool: int, instrument: int) -> int:
        """Signed position of a pool in an instrument."""
        row = self.row_of(pool, instrument)
        return 0 if row < 0 else int(self.table[LOTS, row])

    def rows_of(self, pool: int) -> slice:
        """The rows of one pool."""
        start = self._index()[0]
        if pool + 1 < len(start):
            return slice(int(start[pool]), int(start[pool + 1]))
        return slice(self.table.shape[1], self.table.shape[1])

    def starts(self, pools: int) -> Int64Array:
        """First row of each pool, length pools + 1."""
        start = self._index()[0]
        if len(start) != pools + 1:
            rest = np.full(pools + 1 - len(start), self.table.shape[1], np.int64)
            start = np.concatenate((start, rest))
        return start

    def apply(
        self, pool: Int64Array, instrument: Int64Array, lots: Int64Array, value_minor: Int64Array
    ) -> None:
        """Add signed `lots` traded at `value_minor` (signed alike) to the positions."""
        rank = self.contracts.rank
        missing = _missing(self.table[KEY], pool, instrument, rank)
        if len(missing):
            fresh = np.unique(missing)
            rows = np.zeros((COLUMNS, len(fresh)), np.int64)
            rows[KEY] = fresh
            at = self.table[KEY].searchsorted(fresh)
            self.table = np.ascontiguousarray(np.insert(self.table, at, rows, axis=1))
        is_option = self.contracts.is_option
        _apply(self.table, pool, instrument, rank, lots, value_minor, is_option)

    def move(self, giver: int, taker: int, instrument: int) -> int:
        """Hand a pool's whole position to another pool, memo fields and all; its signed lots.

        Nothing is paid: a future's value is settled in either pool. The table before stays as it
        was, for whoever wants to take the move back.
        """
        row = self.row_of(giver, instrument)
        if row < 0:
            return 0
        moved = self.table[:, row].copy()
        moved[KEY] = self.key_of(taker, instrument)
        table = np.delete(self.table, row, axis=1)
        at = int(table[KEY].searchsorted(moved[KEY]))
        if at < table.shape[1] and table[KEY, at] == moved[KEY]:
            table[:, at] = _joined(table[:, at].tolist(), moved.tolist())
        else:
            table = np.insert(table, at, moved, axis=1)
        self.table = _without_flat(np.ascontiguousarray(table))
        return int(moved[LOTS])

    def drop_flat(self) -> None:
        """Remove positions of zero lots that owe nothing and carry nothing."""
        self.table = _without_flat(self.table)

    def rekey(self, ranks_before: Int64Array) -> None:
        """Sort anew after listing changed the margin order (`ranks_before`: old rank -> slot)."""
        slots = ranks_before[self.table[KEY] & RANK_MASK]
        keys = (self.pool << RANK_BITS) | self.contracts.rank[slots]
        order = np.argsort(keys, kind="stable")
        self.table[KEY] = keys
        self.table = np.ascontiguousarray(self.table[:, order])

    def open_interest(self) -> Int64Array:
        """Long lots per instrument slot."""
        total = np.zeros(len(self.contracts), np.int64)
        long = self.lots > 0
        np.add.at(total, self.instrument[long], self.lots[long])
        return total

    def sums(self) -> Int64Array:
        """Sum of positions per instrument slot: zeros, always."""
        return _sums(self.table, self.contracts.by_rank)

    def validate(self) -> None:
        """Raise unless sorted and netting to zero per instrument."""
        keys = self.table[KEY]
        check(bool((keys[1:] > keys[:-1]).all()), "positions are sorted by key")
        check(not self.sums().any(), "positions sum to zero per instrument")

    def parts(self) -> Iterator[tuple[str, memoryview]]:
        """Canonical bytes of the positions: a view, since there are many in every cycle."""
        yield "positions.table", self.table.reshape(-1).view(np.uint8).data

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        flat = np.frombuffer(parts["positions.table"], np.int64)
        self.table = flat.reshape(COLUMNS, -1).copy()


def warm_up() -> None:
    """Compile the kernels of this module."""
    table = np.zeros((COLUMNS, 1), np.int64)
    none = np.empty(0, np.int64)
    _missing(table[KEY], none, none, none)
    _apply(table, none, none, none, none, none, none)
    _sums(table, np.zeros(1, np.int64))
    _starts(table[KEY], 1)
    _without_flat(table)
