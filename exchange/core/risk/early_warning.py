"""Pools that are likely to be called soon: said once, when the probability crosses the threshold.

The same is computed of one pool when somebody asks (`call_chance`), by the same functions.
What a move does to a pool's cushion is read off the cushion itself, one deviation of the horizon
up and down (`exchange.core.risk.exposures`). Nothing is charged here: that is for a floor
(`margin.forecasts.predictive`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.core.events import Event, MarginWarned
from exchange.core.risk.exposures import Charged, all_charged, exposures, pool_charged
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.ledger import HOUSE_POOLS
from exchange.core.stored.state import State
from exchange.core.venue import USDC
from margin.fixed_point import RATE_SCALE
from margin.forecasts.predictive import TailLaw, call_probabilities_ppb, forecast_initial_minor
from margin.invariant import Int64Array
from margin.portfolio import NEVER_NS
from margin.presets.dynamic_sections import Predictive

E10 = 10**10


class Chance(NamedTuple):
    """What is forecast of one pool: the probability of a call, and its initial margin."""

    pool: int
    probability_ppb: int
    forecast_minor: int


def predictive_of(state: State, pool: int) -> Predictive | None:
    """How the margin of a pool is forecast; None where its margin model does not forecast."""
    return state.venue.presets()[state.accounts.model_of[pool]].predictive


def _funding_minor(state: State, risk: Risk, charged: Charged, horizon_ns: int) -> Int64Array:
    """Funding that each pool pays over a horizon at the rates now, minor USDC; gains negative."""
    marks, columns = state.marks, charged.columns
    total = np.zeros(len(charged.initial_minor), np.int64)
    for slot, rate in sorted(marks.funding_rate_e9.items()):
        if rate == 0 or state.contracts.specs[slot].expiry_ns != NEVER_NS:
            continue
        value_e6 = int(risk.holdings.value_e6[slot])
        if state.contracts.currency_column[slot] != USDC:
            # an inverse perpetual is worth minus its coin
            unit = state.contracts.specs[slot].underlying
            value_e6 = -value_e6 * int(marks.index_e8[unit]) // E10
        period_e15 = RATE_SCALE * 10**6 * state.venue.funding.period_ns
        for at in np.flatnonzero(columns.instrument == slot).tolist():
            paid = value_e6 * int(columns.quantity_lots[at]) * rate * horizon_ns
            total[charged.row[at]] += paid // period_e15
    return total


def _expiring(state: State, charged: Charged, until_ns: int) -> Int64Array:
    """Rows of pools that hold what expires by `until_ns`, rising."""
    expires = state.contracts.columns.expiry_ns <= until_ns
    return np.unique(charged.row[expires[charged.columns.instrument]])


def _after_expiry(state: State, risk: Risk, pool: int, until_ns: int) -> int:
    """Initial margin of a pool without what expires by `until_ns`."""
    columns = risk.holdings.columns_of(pool)
    expires = state.contracts.columns.expiry_ns[columns.instrument] <= until_ns
    return risk.requirement_of(pool, np.where(expires, 0, columns.quantity_lots).tolist())[0]


def call_chances(state: State, risk: Risk, number: int, section: Predictive) -> list[Chance]:
    """What one model says of every pool that it charges, that holds something and is not called.

    After a revaluation; `number` in `Venue.presets`, `section` its forecast. Nothing changes.
    """
    charged, pools = all_charged(state, risk), state.accounts.pools_of_model(number)
    busy = [*range(HOUSE_POOLS), *state.accounts.calls, *state.accounts.cases]
    held = np.intersect1d(pools, np.unique(charged.row))
    watched = np.setdiff1d(held, np.array(busy, np.int64))
    return _chances(state, risk, number, section, charged, watched, watched)


def call_chance(state: State, risk: Risk, pool: int) -> Chance | None:
    """The same of one pool as it stands, called or not: after a revaluation its row of all.

    None where its model does not forecast, or it holds no position.
    """
    section, number = predictive_of(state, pool), state.accounts.model_of[pool]
    held = state.positions.rows_of(pool)
    if section is None or held.start == held.stop:
        return None
    pools, rows = np.array([pool], np.int64), np.zeros(1, np.int64)
    (chance,) = _chances(state, risk, number, section, pool_charged(risk, pool), pools, rows)
    return chance


def _chances(
    state: State, risk: Risk, number: int, section: Predictive, charged: Charged,
    pools: Int64Array, rows: Int64Array,
) -> list[Chance]:  # fmt: skip
    """The chances of `pools`, which stand in `rows` of `charged`."""
    model, memory = risk.models[number], state.forecasts.memories[number]
    horizon_ns = section.cycles * state.venue.interval_ns
    units = len(state.venue.underlyings)
    volatility = [memory.horizon_volatility_e9(unit, horizon_ns) for unit in range(units)]
    rho = np.full((units, units), RATE_SCALE, np.int64)
    correlated = memory.correlation is not None
    if correlated:
        rho = memory.correlations_ppb()
    slope, bend = exposures(state, risk, number, volatility, charged)
    if not correlated:  # every coin moves against the pool at once
        slope = np.abs(slope)
    funding = _funding_minor(state, risk, charged, horizon_ns)
    until_ns = state.marks.time_ns + horizon_ns
    shrinking = np.isin(rows, _expiring(state, charged, until_ns))
    # a floor has the growth in the margin already
    growths = (
        (RATE_SCALE, RATE_SCALE) if section.floor else (model.growth_ppb, model.mean_growth_ppb)
    )
    later = np.zeros(len(pools), np.int64)
    for at in np.flatnonzero(shrinking).tolist():
        later[at] = _after_expiry(state, risk, int(pools[at]), until_ns)
    forecast, standing = (
        forecast_initial_minor(
            charged.initial_minor[rows], charged.worst_minor[rows],
            int(model.table.factors_ppb[1]), growth, later, funding[rows],
        )
        for growth in growths
    )  # fmt: skip
    law = TailLaw(section.fat_tail_e9, section.tail_freedom)
    likely = call_probabilities_ppb(
        slope[rows], bend[rows], rho, risk.backing.of_pools(pools) - standing, law, section.cycles,
    )  # fmt: skip
    found = zip(pools.tolist(), likely.tolist(), forecast.tolist(), strict=True)
    return [Chance(*row) for row in found]


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
