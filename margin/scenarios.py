"""What one lot of every instrument gains or loses in every scenario, in integers.

The only floats are inside two kernels; they leave through `fixed_point.quantise`. The unit of the
result is a *quantum*: 2^-e minor units of USDC, e being the risk exponent of the risk unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numba import njit

from margin.black76 import price
from margin.fixed_point import NS_PER_YEAR, PRICE_SCALE, USDC_SCALE, VOLATILITY_SCALE, quantise
from margin.invariant import Float64Array, Int64Array, check
from margin.portable_math import exp, log
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    LINEAR,
    LINEAR_CALL,
    NEVER_NS,
    Instruments,
    Marks,
)
from margin.preset import ONE_E9, Preset, VolatilityShock

MOST_RISK_EXPONENT: Final = 20
COIN_STEP_MINOR: Final = 10_000
"""Coin columns are per this many minor units of the coin: 10^-4 coin."""

_E8: Final = float(PRICE_SCALE)
_E9: Final = float(VOLATILITY_SCALE)
_MINOR_PER_USDC: Final = float(USDC_SCALE)
_COIN_STEP: Final = 1e-4
_DAYS_PER_YEAR: Final = 365.0
_SUM_BOUND: Final = 2**62
_SIDES_OF_AN_INSTRUMENT: Final = 3  # the position, all open buys, all open sells


class Scenarios(msgspec.Struct, frozen=True, gc=False):
    """The scenarios of one risk unit, shape [S] each.

    `spot_move_e9` is relative (-0.16 is -160,000,000), `volatility_side` -1 down, 0 unchanged,
    +1 up, `weight_e9` the part of the profit and loss that counts.
    """

    spot_move_e9: Int64Array
    volatility_side: Int64Array
    weight_e9: Int64Array

    def __len__(self) -> int:
        return int(self.spot_move_e9.shape[0])


class ScenarioMatrix(msgspec.Struct, frozen=True, gc=False):
    """Profit and loss per lot in quanta of 2^-risk_exponent[unit] minor USDC.

    `long[I,S]`, `short[I,S]`: one long lot, one short lot. `coin[U,S]`: `COIN_STEP_MINOR` minor
    units of coin cash; `coin_value[U]`: their value at the index now. `delta_one_mm[I]` and
    `delta_one_im_extra[I]`: contingency per lot held, either side, zero for options; `naked_mm[I]`
    and `naked_im_extra[I]`: per naked short lot, zero for delta-one. `risk_exponent[U]`.
    """

    long: Int64Array
    short: Int64Array
    coin: Int64Array
    coin_value: Int64Array
    delta_one_mm: Int64Array
    delta_one_im_extra: Int64Array
    naked_mm: Int64Array
    naked_im_extra: Int64Array
    risk_exponent: Int64Array


def scenarios_of(preset: Preset, unit_class: str) -> Scenarios:
    """The grid, then the tails, of a risk class (the coin's name; unknown names use "default").

    Grid: every fraction of the spot range x volatility down, unchanged, up, weight 1. Tails: the
    listed moves on raised volatility, weight = min(1, tail weight x range / |move|), rounded up.
    Form and tail weights: Derive PMRM 2 (`damp = kappa x range / |move|`), kappa from the preset.
    """
    range_e9 = preset.spot_range_e9(unit_class)
    rows: list[tuple[int, int, int]] = []
    for fraction_e9 in preset.grid.fraction_e9:
        size_e9 = (abs(fraction_e9) * range_e9 + ONE_E9 // 2) // ONE_E9
        move_e9 = size_e9 if fraction_e9 >= 0 else -size_e9
        rows.extend((move_e9, side, ONE_E9) for side in (-1, 0, 1))
    for move_e9 in preset.tails.move_e9:
        weight_e9 = -(-preset.tails.weight_e9 * range_e9 // abs(move_e9))
        rows.append((move_e9, 1, min(ONE_E9, weight_e9)))
    columns = np.array(rows, dtype=np.int64)
    return Scenarios(
        spot_move_e9=np.ascontiguousarray(columns[:, 0]),
        volatility_side=np.ascontiguousarray(columns[:, 1]),
        weight_e9=np.ascontiguousarray(columns[:, 2]),
    )


def loss_multiple(scenarios: Scenarios) -> int:
    """A whole number that |weighted profit and loss| / notional can never exceed, orders included.

    For a move m of weight w a delta-one position changes by notional x |m| w. An option is worth
    its discounted intrinsic value plus a time value between 0 and min(F, K) at every volatility;
    moving F to F (1 + m) changes the first by at most F |m| and the second by at most
    max(F, F (1 + m)), so the change is at most F (|m| + max(1, 1 + m)) w. An open order adds the
    distance from its limit to the mark, undamped and taken to be at most one notional.
    """
    largest_e18 = 0
    for move_e9, weight_e9 in zip(
        scenarios.spot_move_e9.tolist(), scenarios.weight_e9.tolist(), strict=True
    ):
        size_e9 = abs(move_e9) + max(ONE_E9, ONE_E9 + move_e9)
        largest_e18 = max(largest_e18, size_e9 * weight_e9)
    return -(-largest_e18 // (ONE_E9 * ONE_E9)) + 1


# Any move up to +500 % with weight 1, any volatility: 5 + 6, and 1 for the distance of a limit.
WIDEST_LOSS_MULTIPLE: Final = 12


def risk_exponent(
    position_notional_minor: int, instrument_count: int, multiple: int = WIDEST_LOSS_MULTIPLE
) -> int:
    """The finest risk exponent, 0 to 20, at which no sum of one risk unit can reach 2^62 quanta.

    `position_notional_minor`: the most that a position, the open buys or the open sells of one
    instrument may be worth, and a pool's coin cash too (USDC minor at index; size in coins x index
    for options; at least the value of one coin). `instrument_count`: the most instruments of the
    unit in one pool. `multiple`: `loss_multiple` of its scenarios.

    Bound: each instrument enters three times (position, buys, sells) and coin cash once more, so
    |sum| <= 3 (count + 1) x notional x multiple x 2^e. The product of the split of coin cash,
    a remainder below one step times the column of one step, is below the loss of 10^-4 coin
    x 10^4, so it has the same bound. Contingencies are below one notional each.
    `InvariantBroken` if not even exponent 0 fits.
    """
    check(position_notional_minor > 0 and instrument_count > 0, "risk exponent: empty bound")
    most = _SIDES_OF_AN_INSTRUMENT * (instrument_count + 1) * position_notional_minor * multiple
    check(most < _SUM_BOUND, "risk exponent: the allowed notional does not fit into 62 bits")
    exponent = 0
    while exponent < MOST_RISK_EXPONENT and most << (exponent + 1) < _SUM_BOUND:
        exponent += 1
    return exponent


@njit(cache=True, error_model="numpy")
def _shocked_volatilities(
    volatility: float, days: float, shock: Float64Array
) -> tuple[float, float]:
    """Volatility after the down and the up shock; `shock` as `_shock_numbers` lays it out."""
    up, down, reference_days, floor_days = shock[0], shock[1], shock[2], shock[3]
    short_power, long_power, least_up = shock[4], shock[5], shock[6]
    power = short_power if days <= reference_days else long_power
    counted = days if days > floor_days else floor_days
    scale = exp(power * log(reference_days / counted))
    lowered = 1.0 - down * scale
    lowered = volatility * (lowered if lowered > 0.0 else 0.0)
    raised = volatility * (1.0 + up * scale)
    return lowered, raised if raised > least_up else least_up


@njit(cache=True, error_model="numpy")
def _option_row(
    is_call: bool,
    terms: tuple[float, float, float, float, float],
    shock: Float64Array,
    moves: tuple[Float64Array, Int64Array, Float64Array],
    scale: float,
    long: Int64Array,
) -> None:
    """Fill one row of the matrix: difference of two Black-76 values, weighted, in quanta."""
    forward, strike, volatility, years, rate = terms
    spot_move, side, weight = moves
    lowered, raised = _shocked_volatilities(volatility, years * _DAYS_PER_YEAR, shock)
    discount = exp(-rate * years)
    now = price(forward, strike, volatility, years, discount, is_call)
    for s in range(len(long)):
        shocked = raised if side[s] > 0 else (lowered if side[s] < 0 else volatility)
        then = price(forward * (1.0 + spot_move[s]), strike, shocked, years, discount, is_call)
        long[s] = quantise((then - now) * weight[s] * scale)


@njit(cache=True, error_model="numpy")
def _instrument_kernel(
    instruments: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    now_ns: int,
    marks: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    moves: tuple[Float64Array, Int64Array, Float64Array],
    shock: Float64Array,
    rates: Float64Array,
    quanta: Float64Array,
    long: Int64Array,
    contingency: Int64Array,
) -> None:
    """Rows [I,S] of long profit and loss and [I,4] of contingencies; `quanta[U]` per USDC."""
    kind, unit, expiry_ns, strike_e8, lot_e8 = instruments
    index_e8, mark_e8, forward_e8, volatility_e9, rate_e9 = marks
    for i in range(len(kind)):
        u = unit[i]
        index = index_e8[u] / _E8
        lot = lot_e8[i] / _E8
        if kind[i] >= LINEAR_CALL:
            coins = lot
            terms = (
                forward_e8[i] / _E8,
                strike_e8[i] / _E8,
                volatility_e9[i] / _E9,
                max(0, expiry_ns[i] - now_ns) / NS_PER_YEAR,
                max(0, rate_e9[i]) / _E9,
            )
            row_moves = (moves[0][u], moves[1][u], moves[2][u])
            is_call = kind[i] == LINEAR_CALL or kind[i] == INVERSE_CALL
            _option_row(is_call, terms, shock, row_moves, lot * quanta[u], long[i])
        else:
            # An inverse lot gains lot (1/F - 1/F') coin, each worth S (1 + m) then; with
            # F' = F (1 + m) that is lot (S / F) m: its size in coins now, moved at the index.
            mark = mark_e8[i] / _E8
            coins = lot / mark if kind[i] == INVERSE else lot
            exposure = coins * (index if kind[i] == INVERSE else mark) * quanta[u]
            for s in range(long.shape[1]):
                long[i, s] = quantise(exposure * moves[0][u, s] * moves[2][u, s])
        first = 2 if kind[i] >= LINEAR_CALL else 0
        for column in range(first, first + 2):
            contingency[column, i] = quantise(coins * index * rates[column] * quanta[u])


@njit(cache=True, error_model="numpy")
def _coin_kernel(
    index_e8: Int64Array,
    spot_move: Float64Array,
    weight: Float64Array,
    quanta: Float64Array,
    coin: Int64Array,
    coin_value: Int64Array,
) -> None:
    """Columns [U,S] and values [U] of one step of coin cash."""
    for u in range(len(index_e8)):
        step = index_e8[u] / _E8 * _COIN_STEP * quanta[u]
        coin_value[u] = quantise(step)
        for s in range(coin.shape[1]):
            coin[u, s] = quantise(step * spot_move[u, s] * weight[u, s])


def _shock_numbers(shock: VolatilityShock) -> Float64Array:
    return np.array(
        [
            shock.up_e9 / _E9,
            shock.down_e9 / _E9,
            float(shock.reference_days),
            float(shock.floor_days),
            shock.short_power_e9 / _E9,
            shock.long_power_e9 / _E9,
            shock.least_up_e9 / _E9,
        ]
    )


def _contingency_rates(preset: Preset) -> Float64Array:
    charge = preset.contingency
    return np.array(
        [
            charge.delta_one_maintenance_ppb / _E9,
            charge.delta_one_initial_extra_ppb / _E9,
            charge.naked_option_maintenance_ppb / _E9,
            charge.naked_option_initial_extra_ppb / _E9,
        ]
    )


class ScenarioGrid(msgspec.Struct, frozen=True, gc=False):
    """Scenarios and constants as the kernels read them: they change with the model, not the marks.

    `moves[U,S]`, `sides[U,S]`, `weights[U,S]`, `quanta[U]` per USDC, `risk_exponent[U]`.
    """

    moves: Float64Array
    sides: Int64Array
    weights: Float64Array
    shock: Float64Array
    contingency: Float64Array
    quanta: Float64Array
    risk_exponent: Int64Array


def scenario_grid(
    preset: Preset, scenarios: Sequence[Scenarios], risk_exponent: Int64Array
) -> ScenarioGrid:
    """The grid of risk units with these scenarios, all of one length S, and `risk_exponent[U]`."""
    units = int(risk_exponent.shape[0])
    check(len(scenarios) == units, "scenarios: one per risk unit")
    count = len(scenarios[0]) if units else 0
    check(all(len(unit) == count for unit in scenarios), "scenarios: units differ in number")
    inside = (risk_exponent >= 0) & (risk_exponent <= MOST_RISK_EXPONENT)
    check(inside.all(), "risk exponent: out of range")
    shape = (units, count)
    quanta: Float64Array = (np.int64(1) << risk_exponent).astype(np.float64) * _MINOR_PER_USDC
    return ScenarioGrid(
        moves=np.array([u.spot_move_e9 for u in scenarios], np.int64).reshape(shape) / _E9,
        sides=np.array([u.volatility_side for u in scenarios], np.int64).reshape(shape),
        weights=np.array([u.weight_e9 for u in scenarios], np.int64).reshape(shape) / _E9,
        shock=_shock_numbers(preset.volatility),
        contingency=_contingency_rates(preset),
        quanta=quanta,
        risk_exponent=risk_exponent.copy(),
    )


def lot_matrix(grid: ScenarioGrid, instruments: Instruments, marks: Marks) -> ScenarioMatrix:
    """Revalue one lot of every instrument, and one step of every coin, in every scenario.

    The grid must cover `marks.index_e8[U]`. With m the spot move, w the weight, S the index, F
    the mark:
    linear: lot x F m w; inverse: lot_usd x (1/F - 1/F') x S (1 + m) w, F' = F (1 + m);
    option: (B76(F (1 + m), K, iv') - B76(F, K, iv)) x lot w, discounted by exp(-max(r, 0) tau);
    coin cash: S m w. Volatility shock: Derive PMRM 2, see `margin.preset.VolatilityShock`.
    An expired option is worth its intrinsic value. `short` is exactly `-long`: nothing in this
    model depends on the sign of a position. `InvariantBroken` if a value does not fit.
    """
    units = int(marks.index_e8.shape[0])
    check(units == grid.moves.shape[0], "scenarios: one per risk unit")
    long = np.zeros((len(instruments), grid.moves.shape[1]), dtype=np.int64)
    contingency = np.zeros((4, len(instruments)), dtype=np.int64)
    coin = np.zeros(grid.moves.shape, dtype=np.int64)
    coin_value = np.zeros(units, dtype=np.int64)
    _instrument_kernel(
        (instruments.kind, instruments.unit, instruments.expiry_ns, instruments.strike_e8,
         instruments.lot_e8),
        marks.now_ns,
        (marks.index_e8, marks.mark_e8, marks.forward_e8, marks.volatility_e9, marks.rate_e9),
        (grid.moves, grid.sides, grid.weights), grid.shock, grid.contingency, grid.quanta, long,
        contingency,
    )  # fmt: skip
    _coin_kernel(marks.index_e8, grid.moves, grid.weights, grid.quanta, coin, coin_value)
    charge, extra, naked, naked_extra = contingency
    return ScenarioMatrix(
        long, -long, coin, coin_value, charge, extra, naked, naked_extra, grid.risk_exponent
    )


def scenario_matrix(
    preset: Preset,
    scenarios: Sequence[Scenarios],
    instruments: Instruments,
    marks: Marks,
    risk_exponent: Int64Array,
) -> ScenarioMatrix:
    """`lot_matrix` of a grid made for this one call."""
    return lot_matrix(scenario_grid(preset, scenarios, risk_exponent), instruments, marks)


def warm_up() -> None:
    """Compile the kernels of this module."""
    one = np.ones(1, dtype=np.int64)
    moves = (np.zeros((1, 1)), np.zeros((1, 1), dtype=np.int64), np.ones((1, 1)))
    _instrument_kernel(
        (one * LINEAR, one * 0, one * NEVER_NS, one * 0, one), 0, (one, one, one, one, one),
        moves, np.ones(7), np.zeros(4), np.ones(1), np.zeros((1, 1), dtype=np.int64),
        np.zeros((4, 1), dtype=np.int64),
    )  # fmt: skip
    _coin_kernel(one, moves[0], moves[2], np.ones(1), np.zeros((1, 1), dtype=np.int64), one.copy())
