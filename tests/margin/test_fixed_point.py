"""Exact products and the one exit from floats, against Python's big integers and fractions."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from numba import njit

from margin import fixed_point
from margin.fixed_point import mul_div_ceil, mul_div_floor, quantise

BOUND = 2**62


def _products(seed: int, count: int) -> list[tuple[int, int, int]]:
    """Random (a, b, c) of all sizes and signs that meet the stated precondition."""
    chance = random.Random(seed)
    cases = []
    while len(cases) < count:
        c = chance.randint(1, 2 ** chance.randint(1, 40))
        a = chance.randint(-1, 1) * chance.randint(0, 2 ** chance.randint(1, 62))
        b = chance.randint(-1, 1) * chance.randint(0, 2 ** chance.randint(1, 62))
        quotient, rest = divmod(a, c)
        if abs(quotient * b) < BOUND and abs(rest * b) < BOUND:
            cases.append((a, b, c))
    return cases


@pytest.mark.parametrize("seed", [1, 2])
def test_floor_and_ceiling_equal_big_integer_division(seed: int) -> None:
    for a, b, c in _products(seed, 5_000):
        exact = Fraction(a * b, c)
        assert mul_div_floor(a, b, c) == math.floor(exact)
        assert mul_div_ceil(a, b, c) == math.ceil(exact)


@pytest.mark.parametrize("seed", [3])
def test_interpreted_twins_give_the_same_integers(seed: int) -> None:
    for a, b, c in _products(seed, 2_000):
        assert mul_div_floor(a, b, c) == mul_div_floor.py_func(np.int64(a), np.int64(b), c)
        assert mul_div_ceil(a, b, c) == mul_div_ceil.py_func(np.int64(a), np.int64(b), c)


def test_a_product_beyond_int64_is_exact_when_the_quotient_fits() -> None:
    amount_minor = 10**18 + 7
    rate_ppb = 999_999_999
    exact = amount_minor * rate_ppb
    assert exact > 2**63
    assert mul_div_floor(amount_minor, rate_ppb, 10**9) == exact // 10**9
    assert mul_div_ceil(amount_minor, rate_ppb, 10**9) == exact // 10**9 + 1
    assert mul_div_floor(-amount_minor, rate_ppb, 10**9) == -(exact // 10**9) - 1
    assert mul_div_ceil(-amount_minor, rate_ppb, 10**9) == -(exact // 10**9)


def test_exact_quotients_have_equal_floor_and_ceiling() -> None:
    for a in (-12, -4, 0, 4, 12):
        for b in (-3, 0, 3):
            assert mul_div_floor(a, b, 4) == mul_div_ceil(a, b, 4) == a * b // 4


def test_division_by_zero_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        mul_div_floor(1, 1, 0)


@pytest.mark.parametrize(
    ("x", "integer"),
    [
        (0.0, 0),
        (-0.0, 0),
        (0.5, 0),
        (1.5, 2),
        (2.5, 2),
        (-0.5, 0),
        (-1.5, -2),
        (-2.5, -2),
        (0.49999999999999994, 0),
        (0.5000000000000001, 1),
        (2.0**51 + 0.5, 2**51),
        (2.0**51 + 1.5, 2**51 + 2),
        (2.0**52 - 0.5, 2**52),
        (2.0**52 + 1.0, 2**52 + 1),
        (2.0**53 - 1.0, 2**53 - 1),
        (-(2.0**53) + 1.0, -(2**53) + 1),
        (math.nextafter(2.0**62, 0.0), 2**62 - 512),
        (-math.nextafter(2.0**62, 0.0), -(2**62) + 512),
    ],
)
def test_quantise_rounds_to_the_nearest_integer_half_to_even(x: float, integer: int) -> None:
    assert quantise(x) == integer
    assert quantise.py_func(x) == integer


@pytest.mark.parametrize("seed", [4])
def test_quantise_equals_pythons_rounding_over_all_magnitudes(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(10_000):
        x = chance.choice((-1.0, 1.0)) * math.ldexp(1.0 + chance.random(), chance.randint(-5, 60))
        halves = math.ldexp(float(chance.randint(-(2**53), 2**53)), -1)
        assert quantise(x) == round(x)
        assert quantise(halves) == round(halves)


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf, 2.0**62, -(2.0**62), 1e300])
def test_quantise_refuses_what_is_not_finite_or_not_below_two_to_the_62(x: float) -> None:
    with pytest.raises(OverflowError):
        quantise(x)
    with pytest.raises(OverflowError):
        quantise.py_func(x)


@njit
def _quantise_quarters(values: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(values)):
        out[i] = quantise(values[i] * 4.0)


def test_quantise_works_and_refuses_inside_a_compiled_kernel() -> None:
    out = np.zeros(2, dtype=np.int64)
    _quantise_quarters(np.array([0.625, -0.375]), out)
    assert out.tolist() == [2, -2]
    with pytest.raises(OverflowError):
        _quantise_quarters(np.array([1.0, np.nan]), out)


def test_a_year_is_365_days_of_nanoseconds() -> None:
    assert fixed_point.NS_PER_YEAR == 31_536_000_000_000_000
    assert fixed_point.NS_PER_YEAR // fixed_point.NS_PER_SECOND == 365 * 24 * 60 * 60
