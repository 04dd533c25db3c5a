"""Scenarios from the history in a preset, and the expected shortfall of a pool with open orders.

Every date of `margin.history_sections.History` is a joint scenario of all risk units:

    spot           exp(residual x range) - 1, the range one deviation over the horizon
    volatility     exp(residual x up x share of the tenor) - 1

One lot of everything is repriced in full on every date (`margin.historical_simulation.lot_profits`)
and pools are measured by `margin.simulated_pools`. With orders, each counts on every date with
min(0, profit and loss from its limit to the scenario): expected shortfall never falls when losses
grow, so the result is at least that of the pool after any subset of fills, gains booked at the fill
set aside. Source: Barone-Adesi, Giannopoulos and Vosper (1999), see `margin.historical_simulation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from margin.fixed_point import RATE_SCALE, mul_div_floor
from margin.historical_simulation import DAY_NS, LotProfits, SimulatedMoves, SimulationTerms
from margin.history_sections import History
from margin.invariant import Int64Array, check
from margin.open_orders import OpenOrders
from margin.preset import Preset
from margin.returns import moves_e9
from margin.scenarios import COIN_STEP_MINOR
from margin.tail_measures import tail_measures

_E9: Final = float(RATE_SCALE)
_E6: Final = 1_000_000


def history_of(preset: Preset) -> History:
    """The history of a preset; `InvariantBroken` where it has none."""
    check(preset.history is not None, "history: a preset without its section")
    assert preset.history is not None
    return preset.history


def simulation_terms(history: History) -> SimulationTerms:
    """Terms of the simulation: one horizon, options repriced now."""
    return SimulationTerms(level_ppb=history.level_ppb, horizons=(1,))


def dated_moves(preset: Preset, classes: Sequence[str]) -> SimulatedMoves:
    """Moves of every date at the preset's ranges, for risk units of these classes.

    `spot_move_e9[1,S,U]`, `volatility_move_e9[1,S,U,K]`; dates weigh the same.
    """
    history, units = history_of(preset), len(classes)
    dates, tenors = history.dates, len(history.tenor_days)
    spot = np.empty((1, dates, units))
    volatility = np.empty((1, dates, units, tenors))
    for unit, name in enumerate(classes):
        residual = np.array(history.residuals_e9("spot", name), np.int64) / _E9
        spot[0, :, unit] = residual * (preset.spot_range_e9(name) / _E9)
        residual = np.array(history.residuals_e9("volatility", name), np.int64) / _E9
        for k, share_e9 in enumerate(history.tenor_share_e9):
            deviation = preset.volatility.up_e9 / _E9 * (share_e9 / _E9)
            volatility[0, :, unit, k] = residual * deviation
    return SimulatedMoves(
        moves_e9(spot), moves_e9(volatility),
        np.array(history.tenor_days, np.int64) * DAY_NS, np.ones(dates, np.int64),
    )  # fmt: skip


def loss_multiple(moves: SimulatedMoves) -> int:
    """A whole number that profit and loss / notional can never exceed, orders included.

    As in `margin.scenario_list.loss_multiple` with weight 1 and without discounts: for a move m a
    delta-one position changes by |m| of its notional, an option by at most max(1, 1 + m); an order
    adds the distance from its limit to the mark, at most one notional.
    """
    highest, lowest = int(moves.spot_move_e9.max()), int(moves.spot_move_e9.min())
    largest = max(RATE_SCALE, RATE_SCALE + highest, -lowest)
    return -(-largest // RATE_SCALE) + 1


def covered_move_e9(preset: Preset, unit_class: str) -> int:
    """Expected shortfall of one coin long at the preset's range, as a part of its price x 10^9."""
    moves = dated_moves(preset, [unit_class])
    return shortfall(np.ascontiguousarray(moves.spot_move_e9[0, :, 0]), history_of(preset))


def shortfall(profit: Int64Array, history: History) -> int:
    """Expected shortfall of profits by date, rounded up, at least 0, in their own unit."""
    weight = np.ones(len(profit), np.int64)
    _, found = tail_measures(profit.reshape(1, -1), weight, history.level_ppb)
    return max(0, int(found[0]))


def profits_with_orders(
    profits: LotProfits,
    coin_value: Int64Array,
    unit: Int64Array,
    instrument: Int64Array,
    quantity_lots: Int64Array,
    coin_minor: Int64Array,
    orders: OpenOrders,
) -> Int64Array:
    """Quanta that one pool makes on every date if its orders fill where they lose, shape [S].

    `coin_value[U]`: `COIN_STEP_MINOR` minor units of coin at the index now; `unit[I]`;
    `instrument[n]`, `quantity_lots[n]`, `coin_minor[U]` the pool's. Positions and coin cash as in
    `margin.simulated_pools`; orders as in `margin.open_orders`, at one row and weight 1.
    """
    lot, coin = profits.lot[0], profits.coin[0]
    total: Int64Array = (quantity_lots[:, None] * lot[instrument]).sum(axis=0)
    for u in np.flatnonzero(coin_minor[: len(coin)]).tolist():
        whole, rest = divmod(int(coin_minor[u]), COIN_STEP_MINOR)
        total += whole * coin[u] + rest * coin[u] // COIN_STEP_MINOR
    for k, i in enumerate(orders.instrument.tolist()):
        signed, u = int(orders.side[k] * orders.lots[k]), int(unit[i])
        cash = np.full(len(total), signed * int(orders.loss_quanta_per_lot[k]), np.int64)
        e6 = int(orders.side[k]) * int(orders.loss_coin_minor_e6_per_lot[k])
        paid = mul_div_floor(e6, int(orders.lots[k]), _E6)
        if paid:
            whole, rest = divmod(paid, COIN_STEP_MINOR)
            column = coin_value[u] + coin[u]
            cash += whole * column + rest * column // COIN_STEP_MINOR
        total += np.minimum(0, signed * lot[i] + cash)
    return total
