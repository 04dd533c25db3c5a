"""Profit and loss of one option lot, and of its expiry's basis moves, in every scenario.

Inlined into the kernel of `margin.scenarios.grid`; here is what a model does to one option.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numba import njit

from margin.black76 import price
from margin.fixed_point import VOLATILITY_SCALE, quantise
from margin.invariant import Float64Array, Int64Array
from margin.portable_math import exp, log
from margin.presets.preset import Basis, Preset, Skew, StaticDiscount, VolatilityShock

_E9: Final = float(VOLATILITY_SCALE)
_DAYS_PER_YEAR: Final = 365.0
_ABSOLUTE_SKEW: Final = 3

Moves = tuple[Float64Array, Int64Array, Float64Array]
"""Spot moves, volatility sides and weights of one unit's scenarios."""

Model = tuple[Float64Array, Float64Array, Float64Array, Float64Array]
"""Numbers of volatility shocks [U,7], skew, static discount and basis; these may be empty."""

OptionTerms = tuple[float, float, float, float, float, float]
"""Forward, the part of it that is still open, strike, volatility, years, rate."""


@njit(cache=True, error_model="numpy")
def shocked_volatilities(
    volatility: float, days: float, shock: Float64Array
) -> tuple[float, float]:
    """Volatility after the down and the up shock; `shock` as `model_numbers` lays it out."""
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
def skewed_volatilities(
    volatility: float, moneyness: float, years: float, skew: Float64Array
) -> tuple[float, float]:
    """Volatility after the linear and the absolute skew of k = `moneyness` = ln(K / F)."""
    root = math.sqrt(years)
    reach = root * skew[5] * (skew[6] + skew[7] * root)
    reach = reach if reach > skew[4] else skew[4]
    first, second = 0.0, 0.0
    for way in range(2):
        cap = skew[2 * way] + skew[2 * way + 1] * root
        k = moneyness if way == 0 or moneyness >= 0.0 else -moneyness
        turn = k * cap / reach
        turn = turn if turn < cap else cap
        turn = turn if turn > -cap else -cap
        factor = 1.0 + turn if turn > -1.0 else 0.0
        if way == 0:
            first = volatility * factor
        else:
            second = volatility * factor
    return first, second


@njit(cache=True, error_model="numpy")
def static_discounts(
    years: float, rate: float, discount: float, numbers: Float64Array
) -> tuple[float, float]:
    """Factors on a positive and on a negative shocked value; both 1 in a model without them."""
    if len(numbers) == 0:
        return 1.0, 1.0
    positive = numbers[0] * exp(-years * (rate * numbers[1] + numbers[2]))
    negative = numbers[3] * exp(years * (rate * numbers[4] + numbers[5]))
    most = 1.0 / discount
    return positive, negative if negative < most else most


@njit(cache=True, error_model="numpy")
def basis_weight(years: float, basis: Float64Array) -> float:
    """Weight of an expiry's basis moves, such that a future loses no more than its value."""
    size: float = basis[1] if basis[1] > -basis[0] else -basis[0]
    weight: float = basis[2] + basis[3] * years
    return weight if weight * size < 1.0 else 1.0 / size


@njit(cache=True, error_model="numpy")
def coin_factor(move: float, open_share: float) -> float:
    """(1 + m) / (1 + n m): what a coin gains on a forward of which only the part n still moves."""
    if open_share == 1.0:
        return 1.0
    return (1.0 + move) / (1.0 + open_share * move)


@njit(cache=True, error_model="numpy")
def option_row(
    is_call: bool,
    in_coin: bool,
    unit: int,
    terms: OptionTerms,
    carried: float,
    discounted: bool,
    model: Model,
    moves: Moves,
    scale: float,
    asset: Int64Array,
    liability: Int64Array,
) -> bool:
    """Fill the two rows of one option; True if the factor on positive values is the larger one.

    Per scenario: shocked value x factor - value now, weighted, in quanta; `asset` with the factor
    on positive, `liability` with the one on negative values of the expiry. The column after the
    scenarios is the basis, weighted by tenor, to which no factor applies: the move down in `asset`,
    the move up in `liability`, of which the lower counts as of the others. `carried`: the
    value now, or negative for the model's own.
    """
    forward, open_part, strike, volatility, years, rate = terms
    shocks, skew, discounts, basis = model
    spot_move, side, weight = moves
    lowered, raised = shocked_volatilities(volatility, years * _DAYS_PER_YEAR, shocks[unit])
    linear, absolute = volatility, volatility
    if len(skew) > 0:
        linear, absolute = skewed_volatilities(volatility, log(strike / forward), years, skew)
    discount = exp(-rate * years) if discounted else 1.0
    positive, negative = static_discounts(years, rate, discount, discounts)
    now = carried
    if carried < 0.0:
        now = price(forward, strike, volatility, years, discount, is_call)
    for s in range(len(spot_move)):
        shocked = volatility
        if side[s] < 0:
            shocked = lowered
        elif side[s] == 1:
            shocked = raised
        elif side[s] > 1:
            shocked = absolute if side[s] == _ABSOLUTE_SKEW else linear
        then = price(forward + open_part * spot_move[s], strike, shocked, years, discount, is_call)
        if in_coin:
            then *= coin_factor(spot_move[s], open_part / forward)
        asset[s] = quantise((then * positive - now) * weight[s] * scale)
        liability[s] = quantise((then * negative - now) * weight[s] * scale)
    if len(basis) > 0:
        weighted = basis_weight(years, basis) * scale
        for way in range(2):
            moved = forward + open_part * basis[way]
            then = price(moved, strike, volatility, years, discount, is_call)
            row = asset if way == 0 else liability
            row[len(spot_move)] = quantise((then - now) * weighted)
    return positive > negative


def _numbers(*fractions_e9: int) -> Float64Array:
    return np.array([fraction / _E9 for fraction in fractions_e9], dtype=np.float64)


def _shock_numbers(shock: VolatilityShock, up_e9: int) -> Float64Array:
    return np.array(
        [
            up_e9 / _E9,
            shock.down_e9 / _E9,
            float(shock.reference_days),
            shock.floor_days_e9 / _E9,
            shock.short_power_e9 / _E9,
            shock.long_power_e9 / _E9,
            shock.least_up_e9 / _E9,
        ]
    )


def _skew_numbers(skew: Skew | None) -> Float64Array:
    if skew is None:
        return _numbers()
    return _numbers(
        skew.linear_cap_e9,
        skew.linear_cap_per_root_year_e9,
        skew.absolute_cap_e9,
        skew.absolute_cap_per_root_year_e9,
        skew.least_reach_e9,
        skew.width_e9,
        skew.volatility_e9,
        skew.volatility_per_root_year_e9,
    )


def _discount_numbers(discount: StaticDiscount | None) -> Float64Array:
    if discount is None:
        return _numbers()
    return _numbers(
        discount.long_base_e9,
        discount.long_rate_share_e9,
        discount.long_add_e9,
        discount.short_base_e9,
        discount.short_rate_share_e9,
        discount.short_add_e9,
    )


def _basis_numbers(basis: Basis | None) -> Float64Array:
    if basis is None:
        return _numbers()
    return _numbers(basis.down_e9, basis.up_e9, basis.add_e9, basis.per_year_e9)


def model_numbers(preset: Preset, up_e9: Sequence[int]) -> Model:
    """Constants of a preset as the kernels read them; `up_e9[U]`: each unit's volatility up."""
    shocks = [_shock_numbers(preset.volatility, unit_e9) for unit_e9 in up_e9]
    return (
        np.array(shocks, np.float64).reshape(len(up_e9), 7),
        _skew_numbers(preset.skew),
        _discount_numbers(preset.discount),
        _basis_numbers(preset.basis),
    )
