"""exp, log and the normal distribution with the same bits on every x86-64 machine.

The C library picks another code path per processor, so its last bits differ between machines
that must agree on a margin requirement. Here everything is built from + - * / and the square root
(correctly rounded by IEEE 754), comparisons and views of the bits, evaluated in one written order:
the result is the same compiled or interpreted, for any instruction set and any number of threads.
Nothing here branches on data or converts between integers and floats, so loops over these functions
vectorise.

The polynomials and the rational function are minimax fits (Remez exchange, 50 to 60 digits),
rounded to float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# 1.5 * 2^52: adding it to |x| < 2^51 rounds x, half to even, to an integer held in the low bits.
_ROUNDING_SHIFT = 6755399441055744.0
_LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first has 32 bits, so that an exponent times it is exact.
_LN2_HIGH = 0.6931471803691238
_LN2_LOW = 1.9082149292705877e-10
_EXP_LOWEST = -708.0  # below it the result would leave the normal range: flushed to zero
_EXP_HIGHEST = 709.0  # above it the result is reported as infinite

_MANTISSA_BITS = 52
_EXPONENT_MASK = -4503599627370496  # ~(2^52 - 1): sign and exponent of a float64
_SPLIT_MASK = -134217728  # ~(2^27 - 1): leaves 26 bits, whose square is exact
_SQRT_HALF_BITS = 4604544271217802189  # bits of sqrt(1/2)
_TWO_52_BITS = 4841369599423283200  # bits of 2^52
_TWO_52_PLUS_1023 = 4503599627371519.0
_SMALLEST_NORMAL = 2.2250738585072014e-308
_TWO_54 = 18014398509481984.0

_INVERSE_SQRT_2PI = 0.3989422804014327
_HALLEY_STEPS = 4
_TAIL_END = 39.0  # the fit of the tail ends here; exp(-x*x/2) is 0 from 37.63 on


def inlined_float(function: Kernel) -> Kernel:
    """Compile a scalar float kernel so that every caller inlines it (a decorator).

    Division follows IEEE 754: a test for zero in front of it would stop loops from vectorising.
    """
    return cast(Kernel, njit(cache=True, error_model="numpy", forceinline=True)(function))


@inlined_float
def exp_sum(high: float, low: float) -> float:
    """exp(high + low) for -708 <= high <= 709 and |low| < 3e-5, to about 1.5e-16 relative.

    The second part carries the digits that an argument such as a rounded square has lost.
    Outside the range the result is meaningless; `exp` is the function with all cases.
    Method: high + low = k ln 2 + r, a degree-11 polynomial for exp(r), k added to the exponent.
    """
    shifted = high * _LOG2_E + _ROUNDING_SHIFT
    whole = shifted - _ROUNDING_SHIFT
    r = ((high - whole * _LN2_HIGH) - whole * _LN2_LOW) + low
    r2 = r * r
    r4 = r2 * r2
    c01 = 0.5000000000000011 + 0.16666666666666413 * r
    c23 = 0.041666666666530065 + 0.008333333333494577 * r
    c45 = 0.001388888894365845 + 0.00019841269506398342 * r
    c67 = 2.480149306634379e-05 + 2.7557586471052807e-06 * r
    c89 = 2.7630260998210844e-07 + 2.500005132698232e-08 * r
    tail = (c01 + c23 * r2) + ((c45 + c67 * r2) + c89 * r4) * r4
    mantissa = 1.0 + (r + r2 * tail)
    exponent = np.float64(shifted).view(np.int64) << _MANTISSA_BITS
    return np.int64(np.float64(mantissa).view(np.int64) + exponent).view(np.float64)


@inlined_float
def exp(x: float) -> float:
    """e^x, to 3e-16 relative. 0 below -708, infinity above 709, NaN for NaN."""
    clipped = x if x > _EXP_LOWEST else _EXP_LOWEST
    clipped = clipped if clipped < _EXP_HIGHEST else _EXP_HIGHEST
    value = exp_sum(clipped, 0.0)
    value = value if x >= _EXP_LOWEST else 0.0
    value = value if x <= _EXP_HIGHEST else np.inf
    return value if x == x else x


@inlined_float
def log_normal_range(x: float) -> float:
    """Natural logarithm of a positive, normal, finite x, to about 2e-16 relative.

    For zero it gives about -709, which is low enough for an option's moneyness; anything else
    outside the range gives a meaningless finite number. `log` is the function with all cases.
    Method: x = 2^k m with m in [sqrt(1/2), sqrt(2)), s = (m-1)/(m+1), odd series in s arranged
    as in fdlibm's e_log.c so that k = 0 keeps its relative accuracy near x = 1.
    """
    bits = np.float64(x).view(np.int64)
    offset = bits - _SQRT_HALF_BITS
    # The exponent, biased by 1023 to stay positive, becomes the low bits of a float near 2^52.
    biased = ((offset + (1023 << _MANTISSA_BITS)) >> _MANTISSA_BITS) & 0xFFF
    whole = np.int64(biased | _TWO_52_BITS).view(np.float64) - _TWO_52_PLUS_1023
    m = np.int64(bits - (offset & _EXPONENT_MASK)).view(np.float64)
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    c01 = 0.6666666666666734 + 0.3999999999941461 * z
    c23 = 0.285714287424051 + 0.22222198571238505 * z
    c45 = 0.18183564434636335 + 0.15314047597130523 * z
    series = z * (c01 + z2 * (c23 + z2 * (c45 + z2 * 0.1479598097237215)))
    half_square = 0.5 * f * f
    correction = s * (half_square + series) + whole * _LN2_LOW
    return whole * _LN2_HIGH - ((half_square - correction) - f)


@inlined_float
def log(x: float) -> float:
    """Natural logarithm, to 3e-16 relative. -infinity for 0, NaN for x < 0 and NaN."""
    is_subnormal = x < _SMALLEST_NORMAL
    scaled = x * _TWO_54 if is_subnormal else x
    usable = (scaled >= _SMALLEST_NORMAL) & (scaled < np.inf)
    value = log_normal_range(scaled if usable else 1.0)
    value = value - 37.42994775023705 if is_subnormal else value
    value = value if x < np.inf else np.inf
    value = value if x > 0.0 else np.nan
    return value if x != 0.0 else -np.inf


@inlined_float
def exp_half_square(x: float) -> float:
    """exp(-x*x/2) for finite |x| <= 1e150, to about 2e-16 relative; 0 from |x| = 37.63 on.

    x is split into 26 leading bits and a rest (T. J. Dekker 1971), so that the leading square is
    exact and the rest is passed on: a rounded square would cost 12 bits where x = 37.
    """
    leading = np.int64(np.float64(x).view(np.int64) & _SPLIT_MASK).view(np.float64)
    high = -0.5 * (leading * leading)
    low = -0.5 * ((x - leading) * (x + leading))
    is_kept = high >= _EXP_LOWEST
    value = exp_sum(high if is_kept else 0.0, low if is_kept else 0.0)
    return value if is_kept else 0.0


@inlined_float
def mills_tail(x: float) -> float:
    """Phi(-x) * exp(x*x/2), the normal tail over exp(-x*x/2), for 0 <= x <= 39.

    This is the Mills ratio over sqrt(2 pi). One rational function of degrees 9 and 10, minimax
    relative error 5.1e-17; all coefficients are positive, so nothing cancels. The constant term
    is added last: near 0, where the tail is largest, one rounding then dominates.
    """
    x2 = x * x
    x4 = x2 * x2
    p12 = 0.7748815588536887 + 0.594057653507604 * x
    p34 = 0.2893409831842299 + 0.09770319386424645 * x
    p56 = 0.02362362940998165 + 0.004089575715544808 * x
    p78 = 0.0004904562468990621 + 3.72577862173246e-05 * x
    numerator = 0.5 + x * ((p12 + p34 * x2) + ((p56 + p78 * x2) + 1.3858679967515218e-06 * x4) * x4)
    q12 = 2.3476476785102327 + 2.5612671439035344 * x
    q34 = 1.7144151575892175 + 0.782062146479324 * x
    q56 = 0.2549698398268908 + 0.06043810163791866 * x
    q78 = 0.010344437529027445 + 0.0012328653520513795 * x
    q90 = 9.339142038036907e-05 + 3.473855905573894e-06 * x
    denominator = 1.0 + x * ((q12 + q34 * x2) + ((q56 + q78 * x2) + q90 * x4) * x4)
    return numerator / denominator


@inlined_float
def normal_cdf(x: float) -> float:
    """Standard normal distribution function, 3e-16 absolute, 1e-15 relative down to -37.

    0 from about -37.63 down (where the value is below 1e-308), NaN for NaN.
    """
    distance = x if x > 0.0 else -x
    distance = distance if distance < _TAIL_END else _TAIL_END
    tail = exp_half_square(distance) * mills_tail(distance)
    value = 1.0 - tail if x > 0.0 else tail
    return value if x == x else x


@inlined_float
def normal_pdf(x: float) -> float:
    """Standard normal density, to 4e-16 relative; 0 from |x| = 37.63 on, NaN for NaN."""
    distance = x if x > 0.0 else -x
    distance = distance if distance < _TAIL_END else _TAIL_END
    value = _INVERSE_SQRT_2PI * exp_half_square(distance)
    return value if x == x else x


@inlined_float
def normal_lower_quantile(probability: float) -> float:
    """z with `normal_cdf(z)` = probability, for 0 < probability <= 1/2, to 1e-15 relative.

    The start, good to 4.5e-4, is rational approximation 26.2.23 of Abramowitz and Stegun; every
    Halley step cubes the error, so that four leave that of `normal_cdf`.
    """
    t = math.sqrt(-2.0 * log(probability))
    numerator = 2.515517 + t * (0.802853 + t * 0.010328)
    denominator = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    z = numerator / denominator - t
    for _ in range(_HALLEY_STEPS):
        step = (normal_cdf(z) - probability) / normal_pdf(z)
        z = z - step / (1.0 + 0.5 * z * step)
    return z
