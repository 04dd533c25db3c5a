"""Black-76: European options on a forward; prices, Greeks and implied volatilities.

Source: F. Black, "The pricing of commodity contracts" (1976). With s = volatility * sqrt(years),
d1 = ln(F/K)/s + s/2 and d2 = d1 - s, a call is worth D (F N(d1) - K N(d2)), a put
D (K N(-d2) - F N(-d1)). Only one exponential is needed, because K n(d2) = F n(d1).

Units: forward, strike and price in the same currency; volatility as a fraction per square root of
a year; year_fraction in years; discount = exp(-r * year_fraction), above 0. Preconditions, which
the caller's limits ensure and nothing here tests: 0 <= forward, 0 < strike, their quotient within
1e-150 and 1e150, volatility >= 0, all finite.

The scalar functions are inlined into compiled loops; the array kernels (`..._into`) write into
arrays of the caller, each element by one iteration, so threads cannot change a bit.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange

from margin.invariant import BoolArray, Float64Array
from margin.portable_math import exp_half_square, inlined_float, log, log_normal_range, mills_tail

_INVERSE_SQRT_2PI = 0.3989422804014327
_TAIL_END = 39.0  # where the normal tail has long been flushed to zero
# A deviation of 0 (expired, or no volatility) becomes so small that d1 and d2 are 0 or beyond any
# tail, which is the intrinsic value; above 29 the value is its upper bound to the last digit.
_DEVIATION_LOWEST = 1e-100
_DEVIATION_HIGHEST = 29.0

GREEK_ROWS = 5  # rows of `price_and_greeks_into`: price, delta, gamma, vega, theta

# Implied volatility: what an undiscounted price may have lost by rounding, against its intrinsic.
_TIME_VALUE_NOISE = 1e-15
_SOLVER_LOWEST = 1e-10
_SOLVER_STEPS_HIGHEST = 80
_SOLVER_STEP_CLOSED = 1e-15
_WARM_STEPS = 3
_WARM_STEP_CLOSED = 1e-4


@inlined_float
def _distance(d: float) -> float:
    """|d|, cut where the tail is zero."""
    distance = d if d > 0.0 else -d
    return distance if distance < _TAIL_END else _TAIL_END


@inlined_float
def _probabilities(
    forward: float, strike: float, deviation: float, sign: float
) -> tuple[float, float, float, float]:
    """N(sign d1), N(sign d2), exp(-d1^2/2) and 1/deviation (of the deviation in bounds)."""
    bounded = deviation if deviation > _DEVIATION_LOWEST else _DEVIATION_LOWEST
    bounded = bounded if bounded < _DEVIATION_HIGHEST else _DEVIATION_HIGHEST
    inverse = 1.0 / bounded
    ratio = forward / strike
    d1 = log_normal_range(ratio) * inverse + 0.5 * bounded
    d2 = d1 - bounded
    density = exp_half_square(_distance(d1))
    tail1 = density * mills_tail(_distance(d1))
    tail2 = density * ratio * mills_tail(_distance(d2))
    probability1 = 1.0 - tail1 if sign * d1 > 0.0 else tail1
    probability2 = 1.0 - tail2 if sign * d2 > 0.0 else tail2
    return probability1, probability2, density, inverse


@inlined_float
def price(
    forward: float,
    strike: float,
    volatility: float,
    year_fraction: float,
    discount: float,
    is_call: bool,
) -> float:
    """Discounted value of one European option, never negative.

    With year_fraction <= 0 or volatility 0 it is the discounted intrinsic value. The error is a
    few units of the last place of discount * max(forward, strike).
    """
    years = year_fraction if year_fraction > 0.0 else 0.0
    sign = 1.0 if is_call else -1.0
    probability1, probability2, _, _ = _probabilities(
        forward, strike, volatility * math.sqrt(years), sign
    )
    value = discount * (sign * (forward * probability1 - strike * probability2))
    return 0.0 if value <= 0.0 else value


@inlined_float
def price_and_greeks(
    forward: float,
    strike: float,
    volatility: float,
    year_fraction: float,
    discount: float,
    is_call: bool,
) -> tuple[float, float, float, float, float]:
    """(price, delta, gamma, vega, theta) of one European option; the price is that of `price`.

    delta, gamma: first and second derivative with respect to the forward.
    vega: derivative with respect to volatility, for a change of 1.00 (100 volatility points).
    theta: change per year as time passes, -d price / d year_fraction, with forward, volatility
    and the rate r = -ln(discount) / year_fraction held, so that the discount moves:
    r * price - discount * F n(d1) volatility / (2 sqrt(year_fraction)).
    rho is left out: with the forward given, it is -year_fraction * price.
    Expired (year_fraction <= 0): gamma, vega, theta are 0 and delta is discount times +-1 in the
    money, 0 out of it, +-1/2 at the strike; the same with volatility 0, except that theta keeps
    its r * price.
    """
    years = year_fraction if year_fraction > 0.0 else 0.0
    root_years = math.sqrt(years)
    deviation = volatility * root_years
    sign = 1.0 if is_call else -1.0
    probability1, probability2, density, inverse = _probabilities(forward, strike, deviation, sign)
    value = discount * (sign * (forward * probability1 - strike * probability2))
    value = 0.0 if value <= 0.0 else value
    delta = discount * (sign * probability1)
    density = density * (discount * _INVERSE_SQRT_2PI)
    density = density if deviation > 0.0 else 0.0
    gamma = density * inverse / (forward if forward > 0.0 else 1.0)
    vega = forward * density * root_years
    decay = 0.5 * (vega * volatility) + log_normal_range(discount) * value
    theta = -decay / (years if years > 0.0 else 1.0)
    return value, delta, gamma, vega, theta if years > 0.0 else 0.0


@inlined_float
def _out_of_money_value(log_ratio: float, deviation: float) -> tuple[float, float, float]:
    """Value over min(F, K), its slope in the deviation, and slope' / slope.

    An out-of-the-money put is the call with forward and strike exchanged, so one function of
    log_ratio = ln(max / min) >= 0 and the deviation serves both. d2 is never above 0.
    """
    scaled = log_ratio / deviation
    d1 = 0.5 * deviation - scaled
    d2 = -0.5 * deviation - scaled
    density = exp_half_square(_distance(d1))
    tail1 = density * mills_tail(_distance(d1))
    value = (1.0 - tail1 if d1 > 0.0 else tail1) - density * mills_tail(_distance(d2))
    return value, density * _INVERSE_SQRT_2PI, d1 * d2 / deviation


@inlined_float
def _time_value(
    price: float, forward: float, strike: float, discount: float, is_call: bool
) -> float:
    """Undiscounted time value over min(F, K); NaN unless it is above rounding and below 1."""
    sign = 1.0 if is_call else -1.0
    intrinsic = sign * (forward - strike)
    intrinsic = intrinsic if intrinsic > 0.0 else 0.0
    undiscounted = price / discount
    time_value = undiscounted - intrinsic
    lower = forward if forward < strike else strike
    is_usable = (time_value > _TIME_VALUE_NOISE * intrinsic) & (time_value < lower)
    return time_value / lower if is_usable else np.nan


@njit(cache=True, error_model="numpy")
def implied_volatility(
    price: float,
    forward: float,
    strike: float,
    year_fraction: float,
    discount: float,
    is_call: bool,
) -> float:
    """The volatility at which `price` is the option's value; NaN if there is none.

    NaN means: expired, or no time value above the rounding of the price (1e-15 of the intrinsic
    value; an out-of-the-money price of 0), or a price at or above the upper bound (the discounted
    forward for a call, the discounted strike for a put).
    Halley steps for the logarithm of the out-of-the-money value below its inflection point
    sqrt(2 |ln(F/K)|), for the value itself above it, starting at that point (S. Manaster and
    G. Koehler 1982); a step that leaves the bracket is replaced by halving it.
    """
    target = _time_value(price, forward, strike, discount, is_call)
    if not (target > 0.0 and year_fraction > 0.0):
        return np.nan
    ratio = forward / strike if forward > strike else strike / forward
    log_ratio = log(ratio)
    low = 0.0
    high = _DEVIATION_HIGHEST
    deviation = math.sqrt(2.0 * log_ratio)
    deviation = min(max(deviation, _SOLVER_LOWEST), 0.5 * high)
    use_logarithm = _out_of_money_value(log_ratio, deviation)[0] > target
    for _ in range(_SOLVER_STEPS_HIGHEST):
        value, slope, bend = _out_of_money_value(log_ratio, deviation)
        if value > target:
            high = deviation
        else:
            low = deviation
        following = -1.0
        if slope > 0.0 and value > 0.0:
            newton = (value - target) / slope
            if use_logarithm:
                newton = log(value / target) * (value / slope)
                bend = bend - slope / value
            divisor = 1.0 - 0.5 * newton * bend
            following = deviation - newton / (divisor if divisor > 0.5 else 0.5)
        step_closed = _SOLVER_STEP_CLOSED * deviation
        if abs(following - deviation) <= step_closed or high - low <= step_closed:
            break
        if not (low < following < high):
            following = 0.5 * (low + high)
        deviation = following
    return deviation / math.sqrt(year_fraction)


@inlined_float
def implied_volatility_near(
    price: float,
    forward: float,
    strike: float,
    year_fraction: float,
    discount: float,
    is_call: bool,
    volatility_guess: float,
) -> float:
    """Implied volatility from a guess a few per cent away: three Halley steps, no branches.

    Within 3 % and |d1| < 4 three steps reach the rounding of the price. NaN where
    `implied_volatility` gives NaN, for a guess that is not positive, and where Newton's step
    before the last one was still above 1e-4 of the result: then ask `implied_volatility`.
    """
    target = _time_value(price, forward, strike, discount, is_call)
    ratio = forward / strike
    moneyness = log_normal_range(ratio)
    log_ratio = moneyness if moneyness > 0.0 else -moneyness
    years = year_fraction if year_fraction > 0.0 else 0.0
    root_years = math.sqrt(years)
    deviation = volatility_guess * root_years
    deviation = deviation if deviation > _SOLVER_LOWEST else _SOLVER_LOWEST
    deviation = deviation if deviation < _DEVIATION_HIGHEST else _DEVIATION_HIGHEST
    newton = 0.0
    for _ in range(_WARM_STEPS):
        before = deviation
        value, slope, bend = _out_of_money_value(log_ratio, deviation)
        newton = (value - target) / (slope if slope > 1e-100 else 1e-100)
        divisor = 1.0 - 0.5 * newton * bend
        following = deviation - newton / (divisor if divisor > 0.5 else 0.5)
        following = following if following > 0.5 * before else 0.5 * before
        deviation = following if following < 2.0 * before else 2.0 * before
    # Judged by Newton's step: far off, the divisor makes Halley's as small as one likes.
    newton = newton if newton > 0.0 else -newton
    is_solved = (newton <= _WARM_STEP_CLOSED * deviation) & (target > 0.0)
    is_solved = is_solved & (years > 0.0) & (volatility_guess > 0.0)
    return deviation / (root_years if years > 0.0 else 1.0) if is_solved else np.nan


@njit(cache=True)
def _check_lengths(
    strike: Float64Array,
    volatility: Float64Array,
    year_fraction: Float64Array,
    discount: Float64Array,
    is_call: BoolArray,
    count: int,
) -> None:
    """Compiled indexing has no bounds: a short column would be read past its end."""
    if (
        strike.shape[0] != count
        or volatility.shape[0] != count
        or year_fraction.shape[0] != count
        or discount.shape[0] != count
        or is_call.shape[0] != count
    ):
        raise ValueError("the columns of an option table must have the same length")


@njit(cache=True, error_model="numpy", parallel=True)
def price_into(
    forward: Float64Array,
    strike: Float64Array,
    volatility: Float64Array,
    year_fraction: Float64Array,
    discount: Float64Array,
    is_call: BoolArray,
    out: Float64Array,
) -> None:
    """`price` of each option; columns and `out` of shape (options,). ValueError if they differ."""
    _check_lengths(strike, volatility, year_fraction, discount, is_call, forward.shape[0])
    if out.shape[0] != forward.shape[0]:
        raise ValueError("out must have one element per option")
    for i in prange(forward.shape[0]):
        out[i] = price(
            forward[i], strike[i], volatility[i], year_fraction[i], discount[i], is_call[i]
        )


@njit(cache=True, error_model="numpy", parallel=True)
def price_and_greeks_into(
    forward: Float64Array,
    strike: Float64Array,
    volatility: Float64Array,
    year_fraction: Float64Array,
    discount: Float64Array,
    is_call: BoolArray,
    out: Float64Array,
) -> None:
    """`price_and_greeks` of each option; `out` of shape (5, options), one row per result.

    The columns have shape (options,). ValueError if shapes differ.
    """
    _check_lengths(strike, volatility, year_fraction, discount, is_call, forward.shape[0])
    if out.shape[0] != GREEK_ROWS or out.shape[1] != forward.shape[0]:
        raise ValueError("out must have five rows and one column per option")
    for i in prange(forward.shape[0]):
        value, delta, gamma, vega, theta = price_and_greeks(
            forward[i], strike[i], volatility[i], year_fraction[i], discount[i], is_call[i]
        )
        out[0, i] = value
        out[1, i] = delta
        out[2, i] = gamma
        out[3, i] = vega
        out[4, i] = theta


@njit(cache=True, error_model="numpy", parallel=True)
def implied_volatility_into(
    prices: Float64Array,
    forward: Float64Array,
    strike: Float64Array,
    year_fraction: Float64Array,
    discount: Float64Array,
    is_call: BoolArray,
    out: Float64Array,
) -> None:
    """`implied_volatility` of each option; all arrays of shape (options,), else ValueError."""
    _check_lengths(strike, prices, year_fraction, discount, is_call, forward.shape[0])
    if out.shape[0] != forward.shape[0]:
        raise ValueError("out must have one element per option")
    for i in prange(forward.shape[0]):
        out[i] = implied_volatility(
            prices[i], forward[i], strike[i], year_fraction[i], discount[i], is_call[i]
        )


@njit(cache=True, error_model="numpy", parallel=True)
def implied_volatility_near_into(
    prices: Float64Array,
    forward: Float64Array,
    strike: Float64Array,
    year_fraction: Float64Array,
    discount: Float64Array,
    is_call: BoolArray,
    volatility_guess: Float64Array,
    out: Float64Array,
) -> None:
    """`implied_volatility_near` of each option; arrays of shape (options,), else ValueError.

    `out` may be `volatility_guess` itself.
    """
    _check_lengths(strike, prices, year_fraction, discount, is_call, forward.shape[0])
    if out.shape[0] != forward.shape[0] or volatility_guess.shape[0] != forward.shape[0]:
        raise ValueError("out and volatility_guess must have one element per option")
    for i in prange(forward.shape[0]):
        out[i] = implied_volatility_near(
            prices[i],
            forward[i],
            strike[i],
            year_fraction[i],
            discount[i],
            is_call[i],
            volatility_guess[i],
        )


def warm_up() -> None:
    """Compile the array kernels, or load them from the cache, on one option."""
    one = np.ones(1)
    call = np.ones(1, dtype=np.bool_)
    value = np.empty(1)
    price_into(one, one, one, one, one, call, value)
    price_and_greeks_into(one, one, one, one, one, call, np.empty((GREEK_ROWS, 1)))
    implied_volatility_into(value, one, one, one, one, call, np.empty(1))
    implied_volatility_near_into(value, one, one, one, one, call, one, np.empty(1))
