"""Value at risk and expected shortfall of many pools over simulated scenarios, in integers.

What a pool holds times the table of `margin.historical_simulation`, summed over all its risk
units in each scenario; then `margin.tail_measures`. Positions that take long to close are measured
over more periods.

    horizon of a unit = ceil(notional / (participation x daily volume))
    requirement       = expected shortfall over the weighted scenarios of all units together
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit, prange

from margin.fixed_point import PRICE_SCALE, RATE_SCALE, USDC_SCALE, inlined, mul_div_floor
from margin.historical_simulation import DAY_NS, LotProfits, SimulationTerms
from margin.invariant import Int64Array, check
from margin.portfolio import INVERSE, Instruments, Marks, Positions
from margin.requirement import PARALLEL_POOLS, Requirements
from margin.scenarios import COIN_STEP_MINOR
from margin.tail_measures import tail_of, tail_weights

_POOLS_PER_CHUNK: Final = 64


class PoolTails(NamedTuple):
    """Per pool, in USDC minor units rounded up and at least 0, shape [P].

    `worst_scenario` is the scenario of the largest loss, -1 where nothing is lost.
    """

    value_at_risk_minor: Int64Array
    expected_shortfall_minor: Int64Array
    worst_scenario: Int64Array


def gross_notional_minor(
    instruments: Instruments, marks: Marks, positions: Positions
) -> Int64Array:
    """|lots| x value of a lot, summed over the instruments of a unit, shape [P,U], rounded up.

    A lot is worth its coins at the index, options too; an inverse lot its USD at index / mark.
    """
    scale = PRICE_SCALE * PRICE_SCALE // USDC_SCALE
    value = []
    for i in range(len(instruments)):
        index = int(marks.index_e8[instruments.unit[i]])
        lot = int(instruments.lot_e8[i])
        if instruments.kind[i] == INVERSE:
            value.append(-(-lot * index * USDC_SCALE // (int(marks.mark_e8[i]) * PRICE_SCALE)))
        else:
            value.append(-(-lot * index // scale))
    pool = np.repeat(np.arange(positions.pool_count), np.diff(positions.pool_start))
    notional = np.zeros(positions.coin_minor.shape, np.int64)
    held = np.abs(positions.quantity_lots) * np.array(value, np.int64)[positions.instrument]
    np.add.at(notional, (pool, instruments.unit[positions.instrument]), held)
    return notional


def liquidity_horizons(
    notional_minor: Int64Array, daily_volume_minor: Int64Array, terms: SimulationTerms
) -> Int64Array:
    """The horizon that a position needs, as an index into `terms.horizons`, shape [P,U].

    Periods to close = ceil(notional / (daily volume x participation x period in days)), from
    `notional_minor[P,U]` and `daily_volume_minor[U]`; the first horizon that is not shorter, or
    the last where none is: what that leaves open is for a concentration charge. A unit without
    volume takes the last.
    """
    place = np.zeros(notional_minor.shape, np.int64)
    for u, volume in enumerate(daily_volume_minor.tolist()):
        a_day = volume * terms.participation_ppb // RATE_SCALE
        capacity = a_day * terms.step_ns // DAY_NS
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
    for p in range(chunk * _POOLS_PER_CHUNK, min(len(horizon), (chunk + 1) * _POOLS_PER_CHUNK)):
        total[:] = 0
        for k in range(pool_start[p], pool_start[p + 1]):
            i, size = instrument[k], lots[k]
            row = lot[horizon[p, unit[i]], i]
            for s in range(len(total)):
                total[s] += size * row[s]
        for u in range(coin.shape[1]):
            if coin_minor[p, u] != 0:
                h = horizon[p, u]
                for s in range(len(total)):
                    total[s] += mul_div_floor(coin_minor[p, u], coin[h, u, s], COIN_STEP_MINOR)
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

    `horizon[P,U]` indexes the horizons (`liquidity_horizons`); without it all take the first.
    Exact in quanta, then rounded up to minor units once, and at least 0.
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


def simulated_requirements(
    tails: PoolTails, positions: Positions, factors_ppb: tuple[int, int]
) -> Requirements:
    """Requirements whose worst loss is the expected shortfall; `factors_ppb` maintenance, initial.

    Each is ceil(shortfall x factor). The scenario named is the date of the pool's largest loss,
    the same for all units, -1 where nothing is needed. Units have no loss of their own here: 0.
    """
    worst = tails.expected_shortfall_minor
    whole, rest = worst // RATE_SCALE, worst % RATE_SCALE  # the product itself could be too large
    maintenance, initial = (
        whole * factor - (-rest * factor) // RATE_SCALE for factor in factors_ppb
    )
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
