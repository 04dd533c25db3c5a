"""What one lot of every instrument gains or loses in every scenario, in integers.

The only floats are inside two kernels; they leave through `fixed_point.quantise`. The unit of the
result is a *quantum*: 2^-e minor units of USDC, e being the risk exponent of the risk unit.

Columns: the spot scenarios, then the skews, then the basis. An instrument has two rows of them,
`asset` and `liability`: profit and loss of a long lot if its expiry's shocked net value is positive
and if it is negative, since a static discount depends on that sign. Where the model has no such
discount the two are the same, and where it has no skew and no basis either, or only perpetuals are
listed, expiries do not matter and one row is all there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np

from margin.fixed_point import NS_PER_SECOND, USDC_SCALE
from margin.invariant import BoolArray, Float64Array, Int64Array, check
from margin.lot_rows import (
    DELTA_ONE,
    DELTA_ONE_EXTRA,
    GROSS_FLOOR,
    NAKED,
    NAKED_EXTRA,
    NET_FLOOR,
    OPTION,
    OPTION_EXTRA,
    lot_rows,
)
from margin.option_rows import Model, model_numbers
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
from margin.preset import ONE_E9, Preset
from margin.preset_sections import COIN
from margin.scenario_list import (
    MOST_RISK_EXPONENT,
    WIDEST_LOSS_MULTIPLE,
    Scenarios,
    loss_multiple,
    risk_exponent,
    scenarios_of,
)

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


class ExpiryRows(msgspec.Struct, frozen=True, gc=False):
    """Rows of a model in which expiries count on their own: [I, regular + skews + basis].

    `regular` spot scenarios, `skews` skew scenarios, `basis` 0 or 1: a column with the forward's
    move down in `asset` and its move up in `liability`. `reversed_discount[I]`: true where the
    factor on positive values is the larger one, so that the better row counts.
    """

    asset: Int64Array
    liability: Int64Array
    regular: int
    skews: int
    basis: int
    reversed_discount: BoolArray


def _row(rows: Int64Array, at: int) -> Int64Array:
    row: Int64Array = rows[at]
    return row


class ScenarioMatrix(msgspec.Struct, frozen=True, gc=False):
    """Profit and loss per lot in quanta of 2^-risk_exponent[unit] minor USDC.

    `rows`: of every instrument; where `by_expiry` is false both are the same and are all there is.
    `coin[C,S']`: `COIN_STEP_MINOR` minor units of coin cash; C counts the units' own coins, then
    tokens, `coin_unit[C]` their risk units. `coin_terms[3,C]`: value at the index now, maintenance
    and extra initial charge per step of coin. `contingency[8,I]`: what the properties read.
    `risk_exponent[U]`. `allowance[U,S']`: what a unit's loss is forgiven. `floored`: the last
    column of `rows` is part of a delta floor. `peg_ppb`: what a stable coin below its peg adds to
    the IM factor.
    """

    rows: ExpiryRows
    by_expiry: bool
    coin: Int64Array
    coin_terms: Int64Array
    coin_unit: Int64Array
    contingency: Int64Array
    risk_exponent: Int64Array
    allowance: Int64Array | None = None
    floored: bool = False
    peg_ppb: int = 0

    @property
    def expiry_rows(self) -> ExpiryRows | None:
        """The rows of positions where expiries count on their own."""
        return self.rows if self.by_expiry else None

    @property
    def long(self) -> Int64Array:
        """What one long lot adds at least to any pool in every scenario, skew and basis, [I,S']."""
        return self._alone()[0]

    @property
    def short(self) -> Int64Array:
        """The same of one short lot."""
        return self._alone()[1]

    def _alone(self) -> tuple[Int64Array, Int64Array]:
        if self.by_expiry:
            return _alone(self.rows)
        long = self.rows.asset.copy()
        short = -long
        if self.floor is not None:
            long[:, -1] = short[:, -1] = -self.floor[0] - np.abs(self.floor[1])
        return long, short

    @property
    def coin_value(self) -> Int64Array:
        """Value of a step of coin at the index now, [C]."""
        return _row(self.coin_terms, 0)

    @property
    def coin_mm(self) -> Int64Array:
        """Maintenance charge per step of coin, [C]."""
        return _row(self.coin_terms, 1)

    @property
    def coin_im_extra(self) -> Int64Array:
        """Extra initial charge per step of coin, [C]."""
        return _row(self.coin_terms, 2)

    @property
    def delta_one_mm(self) -> Int64Array:
        """Contingency per lot held, either side, [I]; zero for options."""
        return _row(self.contingency, DELTA_ONE)

    @property
    def delta_one_im_extra(self) -> Int64Array:
        """Extra initial contingency per lot held, either side, [I]; zero for options."""
        return _row(self.contingency, DELTA_ONE_EXTRA)

    @property
    def naked_mm(self) -> Int64Array:
        """Contingency per naked short lot, [I]; zero for delta-one."""
        return _row(self.contingency, NAKED)

    @property
    def naked_im_extra(self) -> Int64Array:
        """Extra initial contingency per naked short lot, [I]; zero for delta-one."""
        return _row(self.contingency, NAKED_EXTRA)

    @property
    def option_mm(self) -> Int64Array:
        """Charge per option lot held, either side (roll), [I]."""
        return _row(self.contingency, OPTION)

    @property
    def option_im_extra(self) -> Int64Array:
        """Extra initial charge per option lot held, either side (roll, doubtful prices), [I]."""
        return _row(self.contingency, OPTION_EXTRA)

    @property
    def floor(self) -> Int64Array | None:
        """Parts of a delta floor per lot, on gross and on net delta, [2,I]; None without one."""
        return self.contingency[GROSS_FLOOR:] if self.floored else None


class ScenarioGrid(msgspec.Struct, frozen=True, gc=False):
    """Scenarios and constants as the kernels read them: they change with the model, not the marks.

    `moves[U,S]`, `sides[U,S]`, `weights[U,S]`, `quanta[U]` per USDC, `risk_exponent[U]`; `model`
    the numbers of shock, skew, discount and basis, `skews` how many scenarios are skews,
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
        model=model_numbers(preset),
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
        more_ppb = factor.initial_ppb + peg_ppb - ONE_E9
        rates[1] += -(-rates[0] * more_ppb // ONE_E9)
        rates[3] += -(-rates[2] * more_ppb // ONE_E9)
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
    more_ppb = preset.factor.initial_ppb + peg_ppb - ONE_E9
    scaled: Int64Array = -(-coins.maintenance_ppb * more_ppb // ONE_E9)
    return coins.initial_extra_ppb + scaled


def peg_addition_ppb(preset: Preset, stable_e9: int) -> int:
    """What the IM factor gains while the stable coin is below the peg's threshold, rounded up."""
    if preset.peg is None or stable_e9 >= preset.peg.threshold_e9:
        return 0
    return -(-(preset.peg.threshold_e9 - stable_e9) * preset.peg.factor_e9 // ONE_E9)


def _alone(rows: ExpiryRows) -> tuple[Int64Array, Int64Array]:
    """What a long and a short lot add at least, per scenario, skew and to the basis candidate.

    With V the rows of a pool and v those of a lot, min(V_a + v_a, V_l + v_l) is at least
    min(V_a, V_l) + min(v_a, v_l), and the larger of the two moves by no less; |min(...)| grows by
    no more than the larger of |v_a| and |v_l|; a basis minimum by no more than its own loss.
    """
    spot, end = rows.regular, rows.regular + rows.skews
    low = np.minimum(rows.asset, rows.liability)
    high = np.maximum(rows.asset, rows.liability)
    long = np.empty_like(low)
    long[:, :spot] = low[:, :spot]
    long[:, spot:end] = np.minimum(low[:, spot:end], -high[:, spot:end])
    short = np.empty_like(long)
    short[:, :spot] = -high[:, :spot]
    short[:, spot:end] = long[:, spot:end]
    if rows.basis:
        long[:, end] = np.minimum(0, low[:, end])
        short[:, end] = np.minimum(0, -high[:, end])
    return long, short


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
    linear: lot x F n m w; inverse: lot_usd x (1/F - 1/F') x S (1 + m) w, F' = F (1 + m);
    option: (d B76(F (1 + n m), K, iv') - B76(F, K, iv)) x lot w, discounted by exp(-max(r, 0) t),
    d one of the two static discounts; inverse option: the same x S / F; coin cash: S m w.
    Volatility shock, skew, static discount, basis: Derive PMRM 2, see `margin.preset_sections`.
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
        (instruments.kind, instruments.unit, instruments.expiry_ns, instruments.strike_e8,
         instruments.lot_e8),
        marks.now_ns,
        (marks.index_e8, marks.mark_e8, marks.forward_e8, marks.volatility_e9, marks.rate_e9),
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
        (one, one, one, one), (0, False), moves, (np.ones(7), none, none, none), np.zeros((1, 2)),
        (True, False), np.zeros(10), np.ones(1), (row, row.copy()), np.zeros(1, np.bool_),
        np.zeros((8, 1), dtype=np.int64),
    )  # fmt: skip
