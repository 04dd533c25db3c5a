"""Value at risk and expected shortfall of many pools over simulated scenarios, in integers.

What a pool holds times the table of `margin.simulation.historical`, summed over all its risk units
in each scenario; then `margin.simulation.tail_measures`. Positions that take long to close are
measured over more periods, too: in each scenario a unit counts with the worst of all horizons up to
its own, since a loss on the way is a loss. So a longer horizon, and with it a larger position,
never lowers a requirement.

    horizon of a unit = ceil(notional / (participation x daily volume))
    profit of a unit  = least profit in the scenario over the horizons up to its own
    requirement       = expected shortfall over the weighted scenarios of all units together

Source of the worst on the way: J. Boudoukh, M. Richardson, R. Stanton and R. Whitelaw, MaxVaR:
long-horizon value at risk in a mark-to-market environment (2004).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit, prange

from margin.fixed_point import (
    NS_PER_DAY,
    PRICE_SCALE,
    RATE_SCALE,
    USDC_SCALE,
    inlined,
    mul_div_floor,
)
from margin.invariant import Int64Array, check
from margin.pools.requirement import PARALLEL_POOLS, Requirements
from margin.portfolio import INVERSE, Instruments, Marks, Positions
from margin.scenarios.grid import COIN_STEP_MINOR
from margin.simulation.historical import LotProfits, SimulationTerms
from margin.simulation.tail_measures import tail_of, tail_weights

_POOLS_PER_CHUNK: Final = 64

UNKNOWN_VOLUME_MINOR: Final = 2**56
"""A daily volume that stands for one that nobody gave: no position is large against it."""


class PoolTails(NamedTuple):
    """Per pool, in USDC minor units rounded up and at least 0, shape [P].

    `worst_scenario` is the scenario of the largest loss, -1 where nothing is lost.
    """

    value_at_risk_minor: Int64Array
    expected_shortfall_minor: Int64Array
    worst_scenario: Int64Array


def lot_notional_minor(instruments: Instruments, marks: Marks) -> Int64Array:
    """Value of a lot of every instrument in USDC minor units, shape [I], rounded up.

    A lot is worth its coins at the index, options too; an inverse lot its USD at index / mark.
    """
    scale = PRICE_SCALE * PRICE_SCALE // USDC_SCALE
    value = []
    rows = zip(
        instruments.kind.tolist(), instruments.lot_e8.tolist(),
        marks.index_e8[instruments.unit].tolist(), marks.mark_e8.tolist(), strict=True,
    )  # fmt: skip
    for kind, lot, index, mark in rows:
        if kind == INVERSE:
            value.append(-(-lot * index * USDC_SCALE // (mark * PRICE_SCALE)))
        else:
            value.append(-(-lot * index // scale))
    return np.array(value, np.int64)


def gross_notional_minor(
    instruments: Instruments, lot_minor: Int64Array, positions: Positions
) -> Int64Array:
    """|lots| x value of a lot (`lot_notional_minor`), summed over a unit's instruments, [P,U]."""
    pool = np.repeat(np.arange(positions.pool_count), np.diff(positions.pool_start))
    notional = np.zeros(positions.coin_minor.shape, np.int64)
    held = np.abs(positions.quantity_lots) * lot_minor[positions.instrument]
    np.add.at(notional, (pool, instruments.unit[positions.instrument]), held)
    return notional


def liquidity_horizons(
    notional_minor: Int64Array, daily_volume_minor: Int64Array, terms: SimulationTerms
) -> Int64Array:
    """The horizon that a position needs, as an index into `terms.horizons`, shape [P,U].

    Periods to close = ceil(notional / (daily volume x participation x period in days)), from
    `notional_minor[P,U]` and `daily_volume_minor[U]`; the first horizon that is not shorter, or
    the last where none is: what that leaves open is for a concentration charge. A unit without
    volume takes the last, one whose volume nobody knows (`UNKNOWN_VOLUME_MINOR`) the first.
    """
    place = np.zeros(notional_minor.shape, np.int64)
    for u, volume in enumerate(daily_volume_minor.tolist()):
        if volume >= UNKNOWN_VOLUME_MINOR:
            continue
        a_day = volume * terms.participation_ppb // RATE_SCALE
        capacity = a_day * terms.step_ns // NS_PER_DAY
        if capacity <= 0:
            place[:, u] = len(terms.horizons) - 1
            continue
        needed = -(-notional_minor[:, u] // capacity)
        place[:, u] = np.searchsorted(np.array(terms.horizons, np.int64), needed)
    return np.minimum(place, len(terms.horizons) - 1)


@inlined
def _tail_chunk(
    chunk: int,
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    unit: Int64Array,
    horizon: Int64Array,
    lot: Int64Array,
    coin: Int64Array,
    weight: Int64Array,
    tail: int,
    out: Int64Array,
) -> None:
    """Value at risk, shortfall (quanta) and worst scenario of one chunk of pools."""
    total = np.empty(lot.shape[2], np.int64)
    made, least = np.empty_like(total), np.empty_like(total)
    for p in range(chunk * _POOLS_PER_CHUNK, min(len(horizon), (chunk + 1) * _POOLS_PER_CHUNK)):
        total[:] = 0
        for k in range(pool_start[p], pool_start[p + 1]):
            i, size = instrument[k], lots[k]
            if horizon[p, unit[i]] == 0:
                row = lot[0, i]
                for s in range(len(total)):
                    total[s] += size * row[s]
        for u in range(coin.shape[1]):
            if horizon[p, u] == 0 and coin_minor[p, u] != 0:
                for s in range(len(total)):
                    total[s] += mul_div_floor(coin_minor[p, u], coin[0, u, s], COIN_STEP_MINOR)
        for u in range(coin.shape[1]):
            if horizon[p, u] == 0:
                continue
            for h in range(horizon[p, u] + 1):
                made[:] = 0
                for k in range(pool_start[p], pool_start[p + 1]):
                    i, size = instrument[k], lots[k]
                    if unit[i] == u:
                        row = lot[h, i]
                        for s in range(len(made)):
                            made[s] += size * row[s]
                if coin_minor[p, u] != 0:
                    for s in range(len(made)):
                        made[s] += mul_div_floor(coin_minor[p, u], coin[h, u, s], COIN_STEP_MINOR)
                for s in range(len(made)):
                    least[s] = made[s] if h == 0 else min(least[s], made[s])
            for s in range(len(total)):
                total[s] += least[s]
        out[0, p], out[1, p], out[2, p] = tail_of(total, weight, tail)


@njit(cache=True)
def _tails_serial(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in range(chunks):
        _tail_chunk(chunk, *columns)


@njit(cache=True, parallel=True)
def _tails_parallel(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in prange(chunks):
        _tail_chunk(np.int64(chunk), *columns)  # type: ignore[arg-type]  # the index is unsigned


def pool_tails(
    profits: LotProfits,
    weight: Int64Array,
    level_ppb: int,
    instruments: Instruments,
    positions: Positions,
    horizon: Int64Array | None = None,
) -> PoolTails:
    """Value at risk and expected shortfall of every pool, over all its units together.

    `horizon[P,U]` indexes the horizons (`liquidity_horizons`), up to which a unit counts with the
    worst in each scenario; without it all take the first. Exact in quanta, then rounded up to
    minor units once, and at least 0.
    """
    pools, units = positions.coin_minor.shape
    horizon = np.zeros((pools, units), np.int64) if horizon is None else horizon
    check(horizon.shape == (pools, units), "simulation: one horizon per pool and unit")
    check(units == profits.coin.shape[1], "simulation: other risk units")
    inside = bool(((horizon >= 0) & (horizon < len(profits.lot))).all())
    check(inside, "simulation: no such horizon")
    check(profits.lot.shape[1:] == (len(instruments), len(weight)), "simulation: other table")
    scaled, tail = tail_weights(weight, level_ppb)
    out = np.zeros((3, pools), np.int64)
    kernel = _tails_serial if pools < PARALLEL_POOLS else _tails_parallel
    kernel(
        -(-pools // _POOLS_PER_CHUNK), positions.pool_start, positions.instrument,
        positions.quantity_lots, positions.coin_minor, instruments.unit, horizon, profits.lot,
        profits.coin, scaled, tail, out,
    )  # fmt: skip
    value, shortfall = (np.maximum(-(-row >> profits.exponent), 0) for row in out[:2])
    return PoolTails(value, shortfall, np.where(shortfall > 0, out[2], -1))


def factor_minor(worst_minor: Int64Array, factor_ppb: int) -> Int64Array:
    """ceil(worst loss x factor); the product itself could be too large."""
    whole, rest = worst_minor // RATE_SCALE, worst_minor % RATE_SCALE
    return whole * factor_ppb - (-rest * factor_ppb) // RATE_SCALE


def simulated_requirements(
    tails: PoolTails, positions: Positions, factors_ppb: tuple[int, int]
) -> Requirements:
    """Requirements whose worst loss is the expected shortfall; `factors_ppb` maintenance, initial.

    Each is ceil(shortfall x factor). The scenario named is the date of the pool's largest loss,
    the same for all units, -1 where nothing is needed. Units have no loss of their own here: 0.
    """
    worst = tails.expected_shortfall_minor
    maintenance, initial = (factor_minor(worst, factor) for factor in factors_ppb)
    scenario = np.repeat(tails.worst_scenario[:, None], positions.coin_minor.shape[1], axis=1)
    return Requirements(worst, initial, maintenance, scenario, np.zeros_like(scenario))


def warm_up() -> None:
    """Compile the kernels of this module."""
    start, one = np.array([0, 1], np.int64), np.zeros(1, np.int64)
    table = np.zeros((1, 1, 1), np.int64)
    grid = np.zeros((1, 1), np.int64)
    for kernel in (_tails_serial, _tails_parallel):
        kernel(1, start, one, one, grid, one, grid, table, table, one + 1, 1,
               np.zeros((3, 1), np.int64))  # fmt: skip
