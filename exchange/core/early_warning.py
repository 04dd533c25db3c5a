"""Pools that are likely to be called soon: said once, when the probability crosses the threshold.

What a move does to a pool's cushion is read off the cushion itself, one deviation of the horizon
up and down (`exchange.core.exposures`). Nothing is charged here (`margin.predictive`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.core.events import Event, MarginWarned
from exchange.core.exposures import exposures
from exchange.core.ledger import HOUSE_POOLS
from exchange.core.risk import Risk
from exchange.core.state import State
from exchange.core.venue import USDC
from margin.dynamic_sections import Predictive
from margin.invariant import Int64Array
from margin.portfolio import NEVER_NS
from margin.predictive import TailLaw, call_probabilities_ppb, forecast_initial_minor

E9 = 10**9
E10 = 10**10


class Chance(NamedTuple):
    """What is forecast of one pool: the probability of a call, and its initial margin."""

    pool: int
    probability_ppb: int
    forecast_minor: int


def _funding_minor(state: State, risk: Risk, horizon_ns: int) -> Int64Array:
    """Funding that each pool pays over a horizon at the rates now, minor USDC; gains negative."""
    marks, positions = state.marks, state.positions
    total = np.zeros(state.accounts.pools, np.int64)
    for slot, rate in sorted(marks.funding_rate_e9.items()):
        if rate == 0 or state.contracts.specs[slot].expiry_ns != NEVER_NS:
            continue
        value_e6 = int(risk.holdings.value_e6[slot])
        if state.contracts.currency_column[slot] != USDC:
            # an inverse perpetual is worth minus its coin
            unit = state.contracts.specs[slot].underlying
            value_e6 = -value_e6 * int(marks.index_e8[unit]) // E10
        period_e15 = E9 * 10**6 * state.venue.funding.period_ns
        for row in np.flatnonzero(positions.instrument == slot).tolist():
            paid = value_e6 * int(positions.lots[row]) * rate * horizon_ns
            total[positions.pool[row]] += paid // period_e15
    return total


def _expiring(state: State, until_ns: int) -> Int64Array:
    """Pools that hold what expires by `until_ns`, rising."""
    expires = state.contracts.columns.expiry_ns <= until_ns
    return np.unique(state.positions.pool[expires[state.positions.instrument]])


def _after_expiry(state: State, risk: Risk, pool: int, until_ns: int) -> int:
    """Initial margin of a pool without what expires by `until_ns`."""
    columns = risk.holdings.columns_of(pool)
    expires = state.contracts.columns.expiry_ns[columns.instrument] <= until_ns
    return risk.requirement_of(pool, np.where(expires, 0, columns.quantity_lots).tolist())[0]


def call_chances(state: State, risk: Risk, number: int, section: Predictive) -> list[Chance]:
    """What one model says of every pool that it charges, that holds something and is not called.

    After a revaluation; `number` in `Venue.presets`, `section` its forecast. Nothing changes.
    """
    model, memory = risk.models[number], state.forecasts.memories[number]
    pools = state.accounts.pools_of_model(number)
    held = np.unique(state.positions.pool)
    horizon_ns = section.cycles * state.venue.interval_ns
    units = len(state.venue.underlyings)
    volatility = [memory.horizon_volatility_e9(unit, horizon_ns) for unit in range(units)]
    rho = np.full((units, units), E9, np.int64)
    correlated = memory.correlation is not None
    if correlated:
        rho = memory.correlations_ppb()
    slope, bend = exposures(state, risk, number, volatility)
    if not correlated:  # every coin moves against the pool at once
        slope = np.abs(slope)
    funding = _funding_minor(state, risk, horizon_ns)
    until_ns = state.marks.time_ns + horizon_ns
    shrinking = _expiring(state, until_ns).tolist()
    busy = [*range(HOUSE_POOLS), *state.accounts.calls, *state.accounts.cases]
    watched = np.setdiff1d(np.intersect1d(pools, held), np.array(busy, np.int64))
    # a floor has the growth in the margin already
    growths = (E9, E9) if section.floor else (model.growth_ppb, model.mean_growth_ppb)
    later = np.zeros(state.accounts.pools, np.int64)
    for pool in np.intersect1d(watched, shrinking).tolist():
        later[pool] = _after_expiry(state, risk, pool, until_ns)
    forecast, standing = (
        forecast_initial_minor(
            risk.initial[watched], risk.worst_minor[watched], int(model.table.factors_ppb[1]),
            growth, later[watched], funding[watched],
        )
        for growth in growths
    )  # fmt: skip
    law = TailLaw(section.fat_tail_e9, section.tail_freedom)
    likely = call_probabilities_ppb(
        slope[watched], bend[watched], rho, risk.backing.of_pools(watched) - standing, law,
        section.cycles,
    )  # fmt: skip
    rows = zip(watched.tolist(), likely.tolist(), forecast.tolist(), strict=True)
    return [Chance(*row) for row in rows]


def early_warnings(state: State, risk: Risk) -> list[Event]:
    """The pools that crossed their model's threshold since the last revaluation.

    Who stands above it is remembered in the state, so that each crossing is said once; a pool that
    is called or liquidated already is not warned.
    """
    if not state.forecasts.warns:
        return []
    above: list[Chance] = []
    for number, preset in enumerate(state.venue.presets()):
        section = preset.predictive
        if section is not None:
            chances = call_chances(state, risk, number, section)
            above += [row for row in chances if row.probability_ppb >= section.warning_ppb]
    before = state.forecasts.warned
    above.sort()
    state.forecasts.warned = [row.pool for row in above]
    return [MarginWarned(*row) for row in above if row.pool not in before]
