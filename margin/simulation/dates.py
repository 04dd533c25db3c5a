"""Scenarios from the history in a preset, and the expected shortfall of a pool with open orders.

Every date of `margin.presets.history_sections.History` is a joint scenario of all risk units:

    spot           exp(sum of h residuals x max(range, floor)) - 1        range of one day
    volatility     exp(sum of h residuals x max(up, floor) x share of the tenor) - 1

h successive dates for a horizon of h days, one unless a position is large for its market
(`margin.simulation.pools.liquidity_horizons`). The dates of a stressed period count once more, at
the volatility that they had, with a weight of their own.

One lot of everything is repriced in full on every date (`margin.simulation.historical.lot_profits`)
and pools are measured by `margin.simulation.pools`. With orders, each counts on every date with
min(0, profit and loss from its limit to the scenario), at every horizon that the pool may need once
any of them have filled: expected shortfall never falls when losses grow, so the result is at least
that of the pool after any subset of fills, gains booked at the fill set aside. Source:
Barone-Adesi, Giannopoulos and Vosper (1999), see `margin.simulation.historical`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from margin.fixed_point import NS_PER_DAY, RATE_SCALE, mul_div_floor
from margin.invariant import Float64Array, Int64Array, check
from margin.pools.open_orders import OpenOrders
from margin.portfolio import Positions
from margin.presets.history_sections import History
from margin.presets.preset import Preset
from margin.scenarios.grid import COIN_STEP_MINOR
from margin.simulation.historical import LotProfits, SimulatedMoves, SimulationTerms
from margin.simulation.pools import liquidity_horizons
from margin.simulation.returns import moves_e9, overlapping_sums
from margin.simulation.tail_measures import tail_measures

_E9: Final = float(RATE_SCALE)
_E6: Final = 1_000_000
_MOST_MINOR: Final = 2**62


def history_of(preset: Preset) -> History:
    """The history of a preset; `InvariantBroken` where it has none."""
    check(preset.history is not None, "history: a preset without its section")
    assert preset.history is not None
    return preset.history


def simulation_terms(history: History) -> SimulationTerms:
    """Terms of the simulation: horizons in days, options repriced now."""
    return SimulationTerms(
        level_ppb=history.level_ppb, horizons=history.horizon_days,
        participation_ppb=history.participation_ppb,
    )  # fmt: skip


def dated_moves(preset: Preset, classes: Sequence[str]) -> SimulatedMoves:
    """Moves of every date at the preset's ranges, for risk units of these classes.

    `spot_move_e9[H,S,U]`, `volatility_move_e9[H,S,U,K]`; the dates of the stressed period last.
    """
    history = history_of(preset)
    latest = _returns(history, classes, [
        (max(preset.spot_range_e9(name), history.floor_e9(name)),
         max(preset.volatility.up_e9, history.floor_up_e9())) for name in classes
    ])  # fmt: skip
    sums = [overlapping_sums(latest, h, history.latest) for h in history.horizon_days]
    if history.stressed is not None:
        count, past = history.stressed.dates, history.stressed.first + history.stressed.dates
        seen = _returns(history, classes, [history.stressed_e9(name) for name in classes])[:past]
        sums = [
            np.vstack((total, overlapping_sums(seen, h, count)))
            for total, h in zip(sums, history.horizon_days, strict=True)
        ]
    units, shape = len(classes), (len(sums), history.dates)
    moves = moves_e9(np.stack(sums))
    return SimulatedMoves(
        np.ascontiguousarray(moves[:, :, :units]),
        np.ascontiguousarray(moves[:, :, units:]).reshape(*shape, units, len(history.tenor_days)),
        np.array(history.tenor_days, np.int64) * NS_PER_DAY, np.array(history.weights(), np.int64),
    )  # fmt: skip


def _returns(
    history: History, classes: Sequence[str], deviations_e9: Sequence[tuple[int, int]]
) -> Float64Array:
    """Log returns of a day on every row, [rows, U + U K]: spot of all units, then volatilities.

    `deviations_e9`: of spot and of a 30-day volatility, by unit.
    """
    columns, surfaces = [], []
    for name, (spot_e9, up_e9) in zip(classes, deviations_e9, strict=True):
        residual = np.array(history.residuals_e9("spot", name), np.int64) / _E9
        columns.append(residual * (spot_e9 / _E9))
        residual = np.array(history.residuals_e9("volatility", name), np.int64) / _E9
        surfaces += [residual * (up_e9 / _E9 * (e9 / _E9)) for e9 in history.tenor_share_e9]
    return np.stack([*columns, *surfaces], axis=1)


def loss_multiple(moves: SimulatedMoves) -> int:
    """A whole number that profit and loss / notional can never exceed, orders included.

    As in `margin.scenarios.listed.loss_multiple` with weight 1 and without discounts: for a move m
    a delta-one position changes by |m| of its notional, an option by at most max(1, 1 + m); an
    order adds the distance from its limit to the mark, at most one notional.
    """
    highest, lowest = int(moves.spot_move_e9.max()), int(moves.spot_move_e9.min())
    largest = max(RATE_SCALE, RATE_SCALE + highest, -lowest)
    return -(-largest // RATE_SCALE) + 1


def covered_move_e9(preset: Preset, unit_class: str) -> int:
    """Expected shortfall of one coin long over a day at the preset's range, of its price x 10^9."""
    moves, level_ppb = dated_moves(preset, [unit_class]), history_of(preset).level_ppb
    profit = np.ascontiguousarray(moves.spot_move_e9[0, :, 0])
    return shortfall(profit, moves.weight, level_ppb)


def shortfall(profit: Int64Array, weight: Int64Array, level_ppb: int) -> int:
    """Expected shortfall of profits by date, rounded up, at least 0, in their own unit."""
    _, found = tail_measures(profit.reshape(1, -1), weight, level_ppb)
    return max(0, int(found[0]))


def profits_with_orders(
    profits: LotProfits,
    coin_value: Int64Array,
    unit: Int64Array,
    instrument: Int64Array,
    quantity_lots: Int64Array,
    coin_minor: Int64Array,
    orders: OpenOrders,
    horizon: Int64Array,
) -> Int64Array:
    """Quanta that one pool makes on every date if its orders fill where they lose, shape [S].

    `coin_value[U]`: `COIN_STEP_MINOR` minor units of coin at the index now; `unit[I]`;
    `instrument[n]`, `quantity_lots[n]`, `coin_minor[U]` the pool's; `horizon[U]` the longest that
    any fills may need (`horizons_with_orders`). Positions and coin cash as in
    `margin.simulation.pools`; orders as in `margin.pools.open_orders`, at one row and weight 1.
    """
    total = np.zeros(profits.lot.shape[2], np.int64)
    for u, longest in enumerate(horizon.tolist()):
        held, of_unit = unit[instrument] == u, unit[orders.instrument] == u
        if not (held.any() or of_unit.any() or coin_minor[u]):
            continue
        profit = np.empty((longest + 1, len(total)), np.int64)
        for h in range(longest + 1):
            lot, coin = profits.lot[h], profits.coin[h, u]
            made: Int64Array = (quantity_lots[held, None] * lot[instrument[held]]).sum(axis=0)
            whole, rest = divmod(int(coin_minor[u]), COIN_STEP_MINOR)
            if whole or rest:
                made += whole * coin + rest * coin // COIN_STEP_MINOR
            for k in np.flatnonzero(of_unit).tolist():
                made += np.minimum(0, _fill_profit(lot, coin, int(coin_value[u]), orders, k))
            profit[h] = made
        total += profit.min(axis=0)
    return total


def _fill_profit(
    lot: Int64Array, coin: Int64Array, coin_value: int, orders: OpenOrders, k: int
) -> Int64Array:
    """Quanta that the fill of order `k` makes on every date, from its limit on, shape [S]."""
    signed = int(orders.side[k] * orders.lots[k])
    cash = np.full(lot.shape[1], signed * int(orders.loss_quanta_per_lot[k]), np.int64)
    e6 = int(orders.side[k]) * int(orders.loss_coin_minor_e6_per_lot[k])
    paid = mul_div_floor(e6, int(orders.lots[k]), _E6)
    if paid:
        whole, rest = divmod(paid, COIN_STEP_MINOR)
        column = coin_value + coin
        cash += whole * column + rest * column // COIN_STEP_MINOR
    found: Int64Array = signed * lot[int(orders.instrument[k])] + cash
    return found


def horizons_with_orders(
    lot_notional_minor: Int64Array,
    unit: Int64Array,
    positions: Positions,
    orders: OpenOrders,
    daily_volume_minor: Int64Array,
    terms: SimulationTerms,
) -> Int64Array:
    """The longest horizon that one pool may need after any subset of fills, shape [U].

    Of each contract the larger of what it holds after all that buys and after all that sells: no
    subset leaves more, and one that leaves as much of every contract exists.
    """
    held = dict(zip(positions.instrument.tolist(), positions.quantity_lots.tolist(), strict=True))
    reach = {i: [lots, lots] for i, lots in held.items()}
    for i, side, lots in zip(
        orders.instrument.tolist(), orders.side.tolist(), orders.lots.tolist(), strict=True
    ):
        reach.setdefault(i, [0, 0])[0 if side < 0 else 1] += side * lots
    notional = [0] * len(daily_volume_minor)
    for i, (low, high) in reach.items():
        notional[int(unit[i])] += max(abs(low), abs(high)) * int(lot_notional_minor[i])
    bounded = np.array([[min(minor, _MOST_MINOR) for minor in notional]], np.int64)
    found: Int64Array = liquidity_horizons(bounded, daily_volume_minor, terms)[0]
    return found
