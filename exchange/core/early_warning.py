"""Pools that are likely to be called soon: said once, when the probability crosses the threshold.

Delta and gamma are read off the margin model's own grid: the two smallest moves of spot at
unchanged volatility, one up and one down. Nothing is charged here (`margin.predictive`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.core.events import Event, MarginWarned
from exchange.core.ledger import HOUSE_POOLS
from exchange.core.risk import Risk
from exchange.core.risk_model import RiskModel
from exchange.core.state import State
from exchange.core.venue import USDC
from margin.dynamic_sections import Predictive
from margin.invariant import Int64Array, check
from margin.portfolio import NEVER_NS
from margin.predictive import UnitRisk, call_probability_ppb, forecast_initial_minor
from margin.scenario_list import SIDE_UNCHANGED
from margin.scenarios import COIN_STEP_MINOR

E9 = 10**9
E10 = 10**10


class Exposures(NamedTuple):
    """Profit of every pool in two moves of each unit: `up[P,U]`, `down[P,U]` minor USDC, moves."""

    up: Int64Array
    down: Int64Array
    move_e9: list[int]


def _smallest_moves(model: RiskModel, unit: int) -> tuple[int, int]:
    """Columns of the smallest move up and down at unchanged volatility."""
    scenarios = model.scenarios[unit]
    flat = np.flatnonzero(scenarios.volatility_side == SIDE_UNCHANGED)
    moves = scenarios.spot_move_e9[flat]
    check((moves > 0).any() and (moves < 0).any(), "early warning: a grid with moves both ways")
    return (
        int(flat[np.where(moves > 0, moves, 2**62).argmin()]),
        int(flat[np.where(moves < 0, moves, -(2**62)).argmax()]),
    )


def _exposures(state: State, risk: Risk, model: RiskModel) -> Exposures:
    matrix, positions = model.matrix, state.positions
    rows = matrix.long if matrix.expiry_rows is None else matrix.expiry_rows.asset
    units = state.contracts.columns.unit
    columns = [_smallest_moves(model, unit) for unit in range(len(state.venue.underlyings))]
    coins = risk.coin_columns()
    found = []
    for way in range(2):
        at = np.array([pair[way] for pair in columns], np.int64)
        profit = np.zeros((state.accounts.pools, len(columns)), np.int64)
        slot = positions.instrument
        worth = positions.lots * rows[slot, at[units[slot]]]
        np.add.at(profit, (positions.pool, units[slot]), worth)
        for unit, column in enumerate(at.tolist()):
            profit[:, unit] += coins[:, unit] // COIN_STEP_MINOR * matrix.coin[unit, column]
        found.append(profit >> model.exponent)
    moves = [int(model.scenarios[unit].spot_move_e9[pair[0]]) for unit, pair in enumerate(columns)]
    return Exposures(found[0], found[1], moves)


def _unit_risks(
    exposures: Exposures, pool: int, volatility_e9: list[int], correlated: bool
) -> list[UnitRisk]:
    """Central differences: D S = (up - down) / 2m, G S^2 = (up + down) / m^2.

    Where no correlation is known, every coin moves against the pool at once.
    """
    found = []
    for unit, move in enumerate(exposures.move_e9):
        up, down = int(exposures.up[pool, unit]), int(exposures.down[pool, unit])
        delta = (up - down) * E9 // (2 * move)
        delta = delta if correlated else abs(delta)
        gamma = (up + down) * E9 * E9 // (move * move)
        found.append(UnitRisk(delta, gamma, volatility_e9[unit]))
    return found


def _funding_minor(state: State, risk: Risk, horizon_ns: int) -> Int64Array:
    """Funding that each pool pays over a horizon at the rates now, minor USDC; gains negative."""
    marks, positions = state.marks, state.positions
    total = np.zeros(state.accounts.pools, np.int64)
    for slot, rate in sorted(marks.funding_rate_e9.items()):
        if rate == 0 or state.contracts.specs[slot].expiry_ns != NEVER_NS:
            continue
        value_e6 = int(risk.value_e6[slot])
        if state.contracts.currency_column[slot] != USDC:
            unit = state.contracts.specs[slot].underlying
            value_e6 = value_e6 * int(marks.index_e8[unit]) // E10
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
    columns = risk.columns_of(pool)
    expires = state.contracts.columns.expiry_ns[columns.instrument] <= until_ns
    return risk.requirement_of(pool, np.where(expires, 0, columns.quantity_lots).tolist())[0]


def _warn_class(
    state: State, risk: Risk, number: int, section: Predictive
) -> list[tuple[int, int, int]]:
    """Pools of one model at or above its threshold: pool, probability, forecast."""
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
    exposures, funding = _exposures(state, risk, model), _funding_minor(state, risk, horizon_ns)
    until_ns = state.marks.time_ns + horizon_ns
    shrinking, correlation = set(_expiring(state, until_ns).tolist()), rho.tolist()
    found = []
    for pool in np.intersect1d(pools, held).tolist():
        if pool < HOUSE_POOLS or pool in state.accounts.calls or pool in state.accounts.cases:
            continue
        growth = model.growth_ppb if not section.floor else E9  # a floor has it in the margin
        forecast = forecast_initial_minor(
            int(risk.initial[pool]), int(risk.worst_minor[pool]), int(model.table.factors_ppb[1]),
            growth, _after_expiry(state, risk, pool, until_ns) if pool in shrinking else 0,
            int(funding[pool]),
        )  # fmt: skip
        likely = call_probability_ppb(
            _unit_risks(exposures, pool, volatility, correlated), correlation,
            risk.backing.of(pool) - forecast, section.fat_tail_e9,
        )  # fmt: skip
        if likely >= section.warning_ppb:
            found.append((pool, likely, forecast))
    return found


def early_warnings(state: State, risk: Risk) -> list[Event]:
    """The pools that crossed their model's threshold since the last revaluation.

    Who stands above it is remembered in the state, so that each crossing is said once; a pool that
    is called or liquidated already is not warned.
    """
    if not state.forecasts.warns:
        return []
    above: list[tuple[int, int, int]] = []
    for number, preset in enumerate(state.venue.presets()):
        if preset.predictive is not None:
            above += _warn_class(state, risk, number, preset.predictive)
    before = state.forecasts.warned
    above.sort()
    state.forecasts.warned = [pool for pool, _, _ in above]
    return [MarginWarned(*row) for row in above if row[0] not in before]
