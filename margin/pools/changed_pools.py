"""Some pools only: their requirements by the pass of all pools, their rows on their own.

A requirement depends on nothing but the pool's own rows and the risk table, so a pass over some
pools gives, pool by pool, the integers of a pass over everything.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from margin.invariant import BoolArray, Int64Array, check
from margin.pools.requirement import Requirements, pool_requirements
from margin.pools.risk_table import RiskTable
from margin.portfolio import Positions


@njit(cache=True)
def _gather(
    pools: Int64Array,
    start: Int64Array,
    from_start: Int64Array,
    from_instrument: Int64Array,
    from_lots: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
) -> None:
    """Copy the rows of `pools` one after the other; `start` says where each begins."""
    for n in range(len(pools)):
        begin, shift = start[n], from_start[pools[n]] - start[n]
        for k in range(begin, start[n + 1]):
            instrument[k] = from_instrument[k + shift]
            lots[k] = from_lots[k + shift]


@njit(cache=True)
def _scatter(pools: Int64Array, renewed: Requirements, requirements: Requirements) -> None:
    """Row n of what was renewed is of pool `pools[n]`; a third of the time of an index each."""
    for n in range(len(pools)):
        p = pools[n]
        requirements.worst_minor[p] = renewed.worst_minor[n]
        requirements.initial_minor[p] = renewed.initial_minor[n]
        requirements.maintenance_minor[p] = renewed.maintenance_minor[n]
        for u in range(renewed.unit_loss.shape[1]):
            requirements.worst_scenario[p, u] = renewed.worst_scenario[n, u]
            requirements.unit_loss[p, u] = renewed.unit_loss[n, u]


@njit(cache=True, parallel=True)
def _compare(
    before_start: Int64Array,
    before_instrument: Int64Array,
    before_lots: Int64Array,
    start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    differs: BoolArray,
) -> None:
    """Whether the rows of each pool are not what they were."""
    for p in prange(len(differs)):
        then, now = before_start[p], start[p]
        count = start[p + 1] - now
        same = before_start[p + 1] - then == count
        if same:
            for k in range(count):
                same &= before_instrument[then + k] == instrument[now + k]
                same &= before_lots[then + k] == lots[now + k]
        differs[p] = not same


def differing_pools(before: Positions, now: Positions) -> Int64Array:
    """The pools, rising, that hold other positions `now` than `before`, and those that are new.

    Coin cash is not read. Raises `InvariantBroken` where pools are gone.
    """
    known = before.pool_count
    check(now.pool_count >= known, "changed pools: fewer pools than before")
    differs = np.ones(now.pool_count, np.bool_)
    _compare(
        before.pool_start, before.instrument, before.quantity_lots,
        now.pool_start, now.instrument, now.quantity_lots, differs[:known],
    )  # fmt: skip
    return np.flatnonzero(differs)


def _check_known(positions: Positions, pools: Int64Array) -> None:
    known = (pools >= 0) & (pools < positions.pool_count)
    check(known.all(), "changed pools: no such pool")


def gather_pools(positions: Positions, pools: Int64Array) -> Positions:
    """The positions of `pools` alone, shape [K], in the order given: row n is pool `pools[n]`.

    Raises `InvariantBroken` for a pool that does not exist. Arrays are copied.
    """
    _check_known(positions, pools)
    start = np.zeros(len(pools) + 1, dtype=np.int64)
    np.cumsum(positions.pool_start[pools + 1] - positions.pool_start[pools], out=start[1:])
    instrument = np.empty(start[-1], dtype=np.int64)
    lots = np.empty(start[-1], dtype=np.int64)
    _gather(
        pools, start, positions.pool_start, positions.instrument, positions.quantity_lots,
        instrument, lots,
    )  # fmt: skip
    return Positions(start, instrument, lots, positions.coin_minor[pools])


def requirements_of(table: RiskTable, positions: Positions, pools: Int64Array) -> Requirements:
    """Requirements of `pools`, shape [K]: those that `pool_requirements` gives them.

    Errors as in `gather_pools` and `pool_requirements`.
    """
    _check_known(positions, pools)
    return pool_requirements(table, positions, pools)


def renew_requirements(
    table: RiskTable, positions: Positions, pools: Int64Array, requirements: Requirements
) -> None:
    """Overwrite the rows of `pools` in `requirements`, arrays over all pools, in place.

    After positions or coin cash of `pools` changed at unchanged marks, `requirements` is again
    what a pass over all pools would give. Errors as in `requirements_of`.
    """
    pool_count = positions.pool_count
    check(
        all(len(column) == pool_count for column in requirements),
        "changed pools: requirements of another number of pools",
    )
    _scatter(pools, requirements_of(table, positions, pools), requirements)


def warm_up() -> None:
    """Compile the kernels of this module; the pass is that of `margin.pools.requirement`."""
    none = np.zeros(0, dtype=np.int64)
    one = np.zeros(1, dtype=np.int64)
    _gather(none, one, one, none, none, none, none)
    _compare(one, none, none, one, none, none, np.zeros(0, np.bool_))
    parts = Requirements(one, one, one, one.reshape(1, 1), one.reshape(1, 1))
    _scatter(none, parts, parts)
