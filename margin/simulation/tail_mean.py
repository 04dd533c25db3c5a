"""Worst loss and mean of the worst losses of every pool, over joint scenarios of equal weight.

A pool's profit in a scenario is the sum of lots x row entries over all its instruments; its tail
mean is the mean of its `tail` largest losses (expected shortfall at 1 - tail / scenarios). This is
the fast special case of `margin.simulation.pools`: whole scenarios, one horizon, no coin cash.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit, prange

from margin.fixed_point import inlined, uncounted
from margin.invariant import Int64Array, check
from margin.pools.requirement import PARALLEL_POOLS
from margin.pools.risk_table import narrow_rows
from margin.pools.steps import add_four, add_one
from margin.portfolio import Positions

_POOLS_PER_CHUNK: Final = 256
_NOT_NEGATIVE: Final = 2**31 - 1  # see `margin.pools.steps`: no code for negative indices
_MOST: Final = 2**63 - 1


class TailMeans(NamedTuple):
    """Per pool, in quanta of the rows and at least 0, shape [P]."""

    worst: Int64Array
    tail_mean: Int64Array


@uncounted
def _add_rows(
    total: Int64Array, rows: Int64Array, instrument: Int64Array, lots: Int64Array
) -> None:
    """Set `total` to the sum of lots x row, four positions at a time."""
    total[:] = 0
    fours = len(lots) // 4 * 4
    for at in range(0, fours, 4):
        k = at & _NOT_NEGATIVE
        four = (
            instrument[k] & _NOT_NEGATIVE,
            instrument[k + 1] & _NOT_NEGATIVE,
            instrument[k + 2] & _NOT_NEGATIVE,
            instrument[k + 3] & _NOT_NEGATIVE,
        )
        add_four(total, rows, four, (lots[k], lots[k + 1], lots[k + 2], lots[k + 3]))
    for at in range(fours, len(lots)):
        k = at & _NOT_NEGATIVE
        add_one(total, rows, instrument[k], lots[k])


@uncounted
def _lowest(total: Int64Array, tail: int) -> tuple[int, int]:
    """The lowest entry, and the sum of the `tail` lowest.

    Entries are taken value by value in rising order: loops that vectorise, two for each value and
    one for the last, where a sort or a search would branch on data.
    """
    least = total[0]
    for s in range(len(total)):
        least = min(least, total[s])
    lowest, taken, left = least, 0, tail
    while left > 1:
        count = 0
        for s in range(len(total)):
            count += 1 if total[s] == least else 0
        counted = min(count, left)
        taken += counted * least
        left -= counted
        if left > 0:
            following = _MOST
            for s in range(len(total)):
                following = min(following, total[s] if total[s] > least else _MOST)
            least = following
    return lowest, taken + left * least


@inlined
def _tail_chunk(
    chunk: int,
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    rows: Int64Array,
    tail: int,
    worst: Int64Array,
    tail_mean: Int64Array,
) -> None:
    """Tail means of one chunk of pools; scratch is taken once for all of them."""
    total = np.empty(rows.shape[1], np.int64)
    last = min(len(worst), (chunk + 1) * _POOLS_PER_CHUNK)
    for p in range(chunk * _POOLS_PER_CHUNK, last):
        begin, end = pool_start[p], pool_start[p + 1]
        _add_rows(total, rows, instrument[begin:end], lots[begin:end])
        lowest, taken = _lowest(total, tail)
        worst[p] = max(0, -lowest)
        tail_mean[p] = max(0, -(taken // tail))


@njit(cache=True)
def _tails_serial(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in range(chunks):
        _tail_chunk(chunk, *columns)


@njit(cache=True, parallel=True)
def _tails_parallel(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in prange(chunks):
        _tail_chunk(np.int64(chunk), *columns)  # type: ignore[arg-type]  # the index is unsigned


def tail_means(rows: Int64Array, positions: Positions, tail: int) -> TailMeans:
    """Worst loss and mean of the `tail` largest losses of every pool, rounded up to quanta.

    `rows[I,S]`: profit of one long lot in every scenario, the scenarios joint over all units.
    Coin cash is not looked at. Needs the sum of |lots x entry| of a pool, times `tail`, below
    2^62. `InvariantBroken` unless 1 <= tail <= S.
    """
    check(1 <= tail <= rows.shape[1], "tail means: the tail must be a number of scenarios")
    pools = positions.pool_count
    worst, mean = np.zeros(pools, np.int64), np.zeros(pools, np.int64)
    many = pools >= PARALLEL_POOLS
    narrow = narrow_rows(rows, len(positions.instrument)) if many else rows
    (_tails_parallel if many else _tails_serial)(
        -(-pools // _POOLS_PER_CHUNK), positions.pool_start, positions.instrument,
        positions.quantity_lots, narrow, tail, worst, mean,
    )  # fmt: skip
    return TailMeans(worst, mean)


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 8), np.int64)
    tail_means(grid, Positions(np.array([0, 1], np.int64), one, one, grid[:, :1]), 1)
    many = np.zeros(PARALLEL_POOLS + 1, np.int64)
    flat = np.zeros((PARALLEL_POOLS, 1), np.int64)
    for held in (one[:0], many):  # rows of 64 bits, then of 32
        tail_means(grid, Positions(many, held, held, flat), 1)
