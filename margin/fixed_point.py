"""Scales of the integers that carry money, prices and rates, and exact arithmetic on them.

A name ends in its scale: `price_e8`, `volatility_e9`, `amount_minor`. Products go through
`mul_div_floor` and `mul_div_ceil`; floats become integers only in `quantise`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit
from numba.core.compiler import Compiler

PRICE_SCALE = 10**8  # marks and indices, price_e8
VOLATILITY_SCALE = 10**9  # volatilities as fractions, volatility_e9
RATE_SCALE = 10**9  # rates and factors as fractions, rate_ppb and rate_e9
USDC_SCALE = 10**6  # amount_minor of USDC
COIN_SCALE = 10**8  # amount_minor of any coin
NS_PER_SECOND = 10**9
NS_PER_DAY = 86_400 * NS_PER_SECOND
NS_PER_YEAR = 365 * NS_PER_DAY  # a year of options is 365 days

_TWO_52 = 4503599627370496.0
_TWO_62 = 4611686018427387904.0

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

# An option of numba that its annotations do not know.
_NO_REFERENCES: dict[str, Any] = {"_nrt": False}


def inlined(function: Kernel) -> Kernel:
    """Compile and inline into every caller; integer division keeps Python's rules: zero raises."""
    return cast(Kernel, njit(cache=True, forceinline=True)(function))


def uncounted(function: Kernel) -> Kernel:
    """`inlined`, for steps that allocate nothing: references to their arrays are not counted.

    Their callers hold the arrays. Counting every slice costs a third of a pass over many pools.
    """
    return cast(Kernel, njit(cache=True, forceinline=True, **_NO_REFERENCES)(function))


class _Apart(Compiler):
    """The standard compiler, told that the arrays of a call share no memory."""

    def define_pipelines(self) -> list[Any]:
        """The passes of the standard compiler."""
        self.state.flags.noalias = True
        pipelines: Callable[[], list[Any]] = super().define_pipelines
        return pipelines()


def apart(function: Kernel) -> Kernel:
    """`uncounted`, for loops over arrays that never share memory.

    Else every call begins with a comparison of each array with each that is written to: a
    fifteenth of a pass over many pools, whose loops are short.
    """
    compiled = njit(cache=True, forceinline=True, pipeline_class=_Apart, **_NO_REFERENCES)
    return cast(Kernel, compiled(function))


@inlined
def mul_div_floor(a: int, b: int, c: int) -> int:
    """Floor of a * b / c, exact, for c > 0 and any signs of a and b.

    The product is never formed: with a = q c + r and 0 <= r < c it is q b + floor(r b / c).
    Precondition, to be shown from the limits of the arguments: |q b| < 2^62 and |r b| < 2^62.
    ZeroDivisionError if c is 0.
    """
    quotient = a // c
    return quotient * b + ((a - quotient * c) * b) // c


@inlined
def mul_div_ceil(a: int, b: int, c: int) -> int:
    """Ceiling of a * b / c; conditions as in `mul_div_floor`."""
    quotient = a // c
    return quotient * b - (((quotient * c - a) * b) // c)


@inlined
def integer_root(x: int) -> int:
    """The largest integer whose square is at most x, for 0 <= x < 2^62.

    The correctly rounded root of the nearest float, the same on every machine, is off by one at
    most: a float has 53 bits, the root 31. Four times as fast as Newton's method on integers.
    """
    root = np.int64(math.sqrt(x))
    if root * root > x:
        root -= 1
    elif (root + 1) * (root + 1) <= x:
        root += 1
    return root  # type: ignore[return-value]


def root_up(x: int) -> int:
    """The least integer whose square is at least x, for any x >= 0; not for kernels."""
    root = math.isqrt(x)
    return root + (root * root < x)


@inlined
def quantise(x: float) -> int:
    """The integer nearest to x, half to even: the only way from a float to the integer state.

    OverflowError unless x is finite and |x| < 2^62. It is raised here, not left to the caller,
    since a conversion out of range gives a plausible integer that differs between processors.
    Call it in serial loops only: numba drops what is raised inside `prange`, so a parallel kernel
    leaves its floats in an array for a serial loop to quantise.
    Adding and subtracting 2^52 rounds a magnitude below 2^52; from there on floats are integers.
    """
    magnitude = x if x >= 0.0 else -x
    if not magnitude < _TWO_62:
        raise OverflowError("a value to be quantised is not finite or not below 2^62")
    rounded = (magnitude + _TWO_52) - _TWO_52 if magnitude < _TWO_52 else magnitude
    return np.int64(rounded if x >= 0.0 else -rounded)  # type: ignore[return-value]
