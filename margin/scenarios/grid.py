"""What one lot of every instrument gains or loses in every scenario, in integers.

The only floats are inside two kernels; they leave through `fixed_point.quantise`. The unit of the
result is a *quantum*: 2^-e minor units of USDC, e being the risk exponent of the risk unit. What
rows and columns are: `margin.scenarios.matrix`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from margin.fixed_point import NS_PER_SECOND, RATE_SCALE, USDC_SCALE
from margin.invariant import Float64Array, Int64Array, check
from margin.portfolio import (
    CERTAIN_PPB,
    LINEAR,
    NEVER_NS,
    NO_DELTA_E9,
    STABLE_E9,
    Collateral,
    Instruments,
    Marks,
    unit_coins,
)
from margin.presets.preset import Preset
from margin.presets.sections import COIN
from margin.scenarios.listed import (
    MOST_RISK_EXPONENT,
    WIDEST_LOSS_MULTIPLE,
    Scenarios,
    loss_multiple,
    risk_exponent,
    scenarios_of,
)
from margin.scenarios.lot_rows import NET_FLOOR, lot_rows
from margin.scenarios.matrix import ExpiryRows, ScenarioMatrix
from margin.scenarios.option_rows import Model, model_numbers

__all__ = [
    "COIN_STEP_MINOR",
    "MOST_RISK_EXPONENT",
    "WIDEST_LOSS_MULTIPLE",
    "ExpiryRows",
    "ScenarioGrid",
    "ScenarioMatrix",
    "Scenarios",
    "loss_multiple",
    "lot_matrix",
    "risk_exponent",
    "scenario_grid",
    "scenario_matrix",
    "scenarios_of",
    "warm_up",
]

COIN_STEP_MINOR: Final = 10_000
"""Coin columns are per this many minor units of the coin: 10^-4 coin."""

_E9: Final = 1e9
_MINOR_PER_USDC: Final = float(USDC_SCALE)


class ScenarioGrid(msgspec.Struct, frozen=True, gc=False):
    """Scenarios and constants as the kernels read them: they change with the model, not the marks.

    `moves[U,S]`, `sides[U,S]`, `weights[U,S]`, `quanta[U]` per USDC, `risk_exponent[U]`; `model`
    the numbers of shock [U,7], skew, discount and basis, `skews` how many scenarios are skews,
    `roll[U,2]` least and annual rate of the roll charge, `allowance[U,S]` in quanta, `rates`
    of the charges while the stable coin holds its peg.
    """

    preset: Preset
    moves: Float64Array
    sides: Int64Array
    weights: Float64Array
    model: Model
    skews: int
    roll: Float64Array
    allowance: Int64Array | None
    rates: Float64Array
    quanta: Float64Array
    risk_exponent: Int64Array

    @property
    def by_expiry(self) -> bool:
        """Whether anything in the model makes expiries count on their own."""
        preset = self.preset
        return preset.discount is not None or preset.basis is not None or self.skews > 0


def scenario_grid(
    preset: Preset, scenarios: Sequence[Scenarios], risk_exponent: Int64Array
) -> ScenarioGrid:
    """The grid of risk units with these scenarios, all of one length S, and `risk_exponent[U]`."""
    units = int(risk_exponent.shape[0])
    check(len(scenarios) == units, "scenarios: one per risk unit")
    count = len(scenarios[0]) if units else 0
    check(all(len(unit) == count for unit in scenarios), "scenarios: units differ in number")
    skews = scenarios[0].skew_count if units else 0
    check(all(u.skew_count == skews for u in scenarios), "scenarios: units differ in skews")
    check(all((u.volatility_side[: count - skews] <= 1).all() for u in scenarios), "skews not last")
    check(skews == 0 or preset.skew is not None, "scenarios: a skew without its constants")
    inside = (risk_exponent >= 0) & (risk_exponent <= MOST_RISK_EXPONENT)
    check(inside.all(), "risk exponent: out of range")
    shape = (units, count)
    quanta: Float64Array = (np.int64(1) << risk_exponent).astype(np.float64) * _MINOR_PER_USDC
    return ScenarioGrid(
        preset=preset,
        moves=np.array([u.spot_move_e9 for u in scenarios], np.int64).reshape(shape) / _E9,
        sides=np.array([u.volatility_side for u in scenarios], np.int64).reshape(shape),
        weights=np.array([u.weight_e9 for u in scenarios], np.int64).reshape(shape) / _E9,
        model=model_numbers(preset, [u.volatility_up_e9 for u in scenarios]),
        skews=skews,
        roll=np.array([u.roll_e9 for u in scenarios], np.int64).reshape(units, 2) / _E9,
        allowance=None
        if units == 0 or scenarios[0].allowance_minor is None
        else np.array([u.allowance_minor for u in scenarios], np.int64) << risk_exponent[:, None],
        rates=_contingency_rates(preset, 0),
        quanta=quanta,
        risk_exponent=risk_exponent.copy(),
    )


def _contingency_rates(preset: Preset, peg_ppb: int) -> Float64Array:
    """Contingencies per notional, doubtful prices, factors on the roll, parts of a delta floor."""
    charge, factor = preset.contingency, preset.factor
    rates = [
        charge.delta_one_maintenance_ppb,
        charge.delta_one_initial_extra_ppb,
        charge.naked_option_maintenance_ppb,
        charge.naked_option_initial_extra_ppb,
    ]
    if factor.scales_contingency:
        more_ppb = factor.initial_ppb + peg_ppb - RATE_SCALE
        rates[1] += -(-rates[0] * more_ppb // RATE_SCALE)
        rates[3] += -(-rates[2] * more_ppb // RATE_SCALE)
    oracle, floor = preset.oracle, preset.delta_floor
    rates += [oracle.threshold_ppb, oracle.margin_ppb] if oracle is not None else [0, 0]
    rates += [factor.maintenance_ppb, factor.initial_ppb - factor.maintenance_ppb]
    if floor is None:
        return np.array([*rates, 0, 0], np.int64) / _E9
    # With G the gross and N the net delta, hedged are (G - |N|) / 2 and unhedged |N|.
    rates += [floor.hedged_ppb // 2, floor.unhedged_ppb - floor.hedged_ppb // 2]
    return np.array(rates, np.int64) / _E9


def _scaled_charges(preset: Preset, coins: Collateral, peg_ppb: int) -> Int64Array:
    """Extra initial charges on coin cash, with what the initial factor adds to maintenance."""
    if not preset.factor.scales_contingency:
        return coins.initial_extra_ppb
    more_ppb = preset.factor.initial_ppb + peg_ppb - RATE_SCALE
    scaled: Int64Array = -(-coins.maintenance_ppb * more_ppb // RATE_SCALE)
    return coins.initial_extra_ppb + scaled


def peg_addition_ppb(preset: Preset, stable_e9: int) -> int:
    """What the IM factor gains while the stable coin is below the peg's threshold, rounded up."""
    if preset.peg is None or stable_e9 >= preset.peg.threshold_e9:
        return 0
    return -(-(preset.peg.threshold_e9 - stable_e9) * preset.peg.factor_e9 // RATE_SCALE)


def _valued(preset: Preset) -> tuple[bool, bool]:
    option = preset.option
    return (True, False) if option is None else (option.discounted, option.from_mark)


@lru_cache(maxsize=64)  # a small revaluation would spend a tenth of its time on these
def _constant(count: int, value: int) -> Int64Array:
    return np.full(count, value, np.int64)


def _or(column: Int64Array | None, count: int, value: int) -> Int64Array:
    """A column, or one of `value` that nobody writes to."""
    return _constant(count, value) if column is None else column


def _blank(grid: ScenarioGrid, instruments: Instruments, coins: Collateral) -> ScenarioMatrix:
    """A matrix of zeros for these instruments and coins."""
    preset, scenarios = grid.preset, grid.moves.shape[1]
    basis = 1 if preset.basis is not None else 0
    floored = preset.delta_floor is not None
    shape = (len(instruments), scenarios + (1 if basis or floored else 0))
    rows = ExpiryRows(
        np.zeros(shape, np.int64), np.zeros(shape, np.int64), scenarios - grid.skews, grid.skews,
        basis, np.zeros(shape[0], np.bool_),
    )  # fmt: skip
    return ScenarioMatrix(
        rows=rows,
        by_expiry=grid.by_expiry and bool((instruments.expiry_ns != NEVER_NS).any()),
        coin=np.zeros((len(coins.unit), shape[1]), np.int64),
        coin_terms=np.zeros((3, len(coins.unit)), np.int64),
        coin_unit=coins.unit,
        contingency=np.zeros((8, shape[0]), np.int64),
        risk_exponent=grid.risk_exponent,
        allowance=grid.allowance,
        floored=floored,
    )


def lot_matrix(
    grid: ScenarioGrid,
    instruments: Instruments,
    marks: Marks,
    collateral: Collateral | None = None,
    into: ScenarioMatrix | None = None,
) -> ScenarioMatrix:
    """Revalue one lot of every instrument, and one step of every coin, in every scenario.

    The grid must cover `marks.index_e8[U]`. With m the spot move, w the weight, S the index, F
    the mark, n the part of F that no settlement observation has fixed:
    linear: lot x F n m w; inverse: lot_usd x (1/F - 1/F') x S (1 + m) w, F' = F (1 + n m);
    option: (d B76(F', K, iv') - B76(F, K, iv)) x lot w, discounted by exp(-max(r, 0) t),
    d one of the two static discounts; inverse option: the same x S / F undiscounted, and its first
    term x (1 + m) / (1 + n m); coin cash: S m w.
    Volatility shock, skew, static discount, basis: Derive PMRM 2, see `margin.presets.sections`.
    An expired option is worth its intrinsic value. Without `collateral` there is one coin a unit,
    at its index, without charges. `into`: a matrix of the same grid, instruments and coins, which
    is overwritten: half of a small revaluation would else go into making room. `InvariantBroken` if
    a value does not fit.
    """
    units, count, preset = grid.moves.shape[0], len(instruments), grid.preset
    check(marks.index_e8.shape[0] == units, "scenarios: one per risk unit")
    peg_ppb = peg_addition_ppb(preset, marks.stable_e9)
    coins = collateral if collateral is not None else unit_coins(marks)
    matrix = into if into is not None else _blank(grid, instruments, coins)
    window = (0, False)
    if preset.averaging is not None:
        window = preset.averaging.window_s * NS_PER_SECOND, preset.averaging.scales_profit
    stable = preset.peg is not None and preset.peg.collateral_in_stable
    rows = matrix.rows
    rates = grid.rates if peg_ppb == 0 else _contingency_rates(preset, peg_ppb)
    lot_rows(
        ((coins.unit, coins.price_e8,
          coins.moves if preset.numeraire != COIN else 0 * coins.moves, coins.maintenance_ppb,
          _scaled_charges(preset, coins, peg_ppb), coins.confidence_ppb),
         (marks.stable_e9 if stable else STABLE_E9) / _E9, rates, (grid.moves, grid.weights),
         grid.quanta, matrix.coin, matrix.coin_terms),
        instruments.kernel_columns(),
        marks.now_ns,
        marks.kernel_columns(),
        (_or(marks.index_confidence_ppb, units, CERTAIN_PPB),
         _or(marks.confidence_ppb, count, CERTAIN_PPB), _or(marks.fixed_e8, count, -1),
         _or(marks.delta_e9, count, NO_DELTA_E9)),
        window, (grid.moves, grid.sides, grid.weights), grid.model, grid.roll,
        _valued(preset), rates, grid.quanta, (rows.asset, rows.liability), rows.reversed_discount,
        matrix.contingency,
    )  # fmt: skip
    if matrix.floored and rows.basis == 0:
        rows.asset[:, -1] = rows.liability[:, -1] = matrix.contingency[NET_FLOOR]
    if peg_ppb != matrix.peg_ppb:
        return msgspec.structs.replace(matrix, peg_ppb=peg_ppb)
    return matrix


def scenario_matrix(
    preset: Preset,
    scenarios: Sequence[Scenarios],
    instruments: Instruments,
    marks: Marks,
    risk_exponent: Int64Array,
    collateral: Collateral | None = None,
) -> ScenarioMatrix:
    """`lot_matrix` of a grid made for this one call."""
    grid = scenario_grid(preset, scenarios, risk_exponent)
    return lot_matrix(grid, instruments, marks, collateral)


def warm_up() -> None:
    """Compile the kernel that `lot_matrix` calls."""
    one, none = np.ones(1, dtype=np.int64), np.zeros(0)
    moves = (np.zeros((1, 1)), np.zeros((1, 1), dtype=np.int64), np.ones((1, 1)))
    row = np.zeros((1, 1), dtype=np.int64)
    lot_rows(
        ((one * 0, one, one, one, one, one), 1.0, np.zeros(10), (moves[0], moves[2]), np.ones(1),
         row, np.zeros((3, 1), dtype=np.int64)),
        (one * LINEAR, one * 0, one * NEVER_NS, one * 0, one), 0, (one, one, one, one, one),
        (one, one, one, one), (0, False), moves, (np.ones((1, 7)), none, none, none),
        np.zeros((1, 2)), (True, False), np.zeros(10), np.ones(1), (row, row.copy()),
        np.zeros(1, np.bool_),
        np.zeros((8, 1), dtype=np.int64),
    )  # fmt: skip
