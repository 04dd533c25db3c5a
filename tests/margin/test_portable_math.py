"""Accuracy against 45-digit decimals, the defined edges, and one set of bits in every mode."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from scipy.special import ndtr, ndtri

from margin.portable_math import exp, log, normal_cdf, normal_lower_quantile, normal_pdf

ROOT = Path(__file__).resolve().parents[2]
DIGITS = 45
SQRT_2PI = Decimal("2.50662827463100050241576528481104525300698674060994")

# Prints a digest of the results of 3,000 arguments for each function.
BITS_PROGRAM = """
import hashlib, random
import numpy as np
from margin.portable_math import exp, log, normal_cdf, normal_lower_quantile, normal_pdf
chance = random.Random(11)
results = []
for _ in range(3000):
    results.append(exp(chance.uniform(-720.0, 720.0)))
    results.append(log(chance.random() * 10.0 ** chance.randint(-320, 300)))
    results.append(normal_cdf(chance.uniform(-40.0, 10.0)))
    results.append(normal_pdf(chance.uniform(-40.0, 40.0)))
    results.append(normal_lower_quantile(chance.random() / 2.0))
for x in (0.0, -1.0, 5e-324, 1e308, float("inf"), float("-inf")):
    results += [exp(x), normal_cdf(x), normal_pdf(x)] + ([log(x)] if x >= 0.0 else [])
print(hashlib.sha256(np.array(results).tobytes()).hexdigest())
"""


def _bits(**settings: str) -> str:
    """The digest printed by a fresh interpreter with these environment settings."""
    command = [sys.executable, "-W", "error", "-c", BITS_PROGRAM]
    run = subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def _decimal_pdf(x: float) -> Decimal:
    return (-(Decimal(x) ** 2) / 2).exp() / SQRT_2PI


def _decimal_cdf(x: float) -> Decimal:
    """Power series around 0 (A&S 26.2.11), Laplace's continued fraction in the tails (26.2.14)."""
    distance = abs(Decimal(x))
    if distance < 5:
        term = total = distance
        for odd in range(3, 401, 2):
            term = term * distance * distance / odd
            total += term
        tail = Decimal("0.5") - _decimal_pdf(x) * total
    else:
        fraction = distance
        for step in range(300, 0, -1):
            fraction = distance + step / fraction
        tail = _decimal_pdf(x) / fraction
    return tail if x < 0 else 1 - tail


def _worst_errors(
    function: Callable[[float], float],
    reference: Callable[[float], Decimal],
    arguments: list[float],
) -> tuple[float, float]:
    """(largest absolute, largest relative) error of `function`."""
    worst_absolute = worst_relative = Decimal(0)
    with localcontext() as context:
        context.prec = DIGITS
        for x in arguments:
            exact = reference(x)
            error = abs(Decimal(float(function(x))) - exact)
            worst_absolute = max(worst_absolute, error)
            worst_relative = max(worst_relative, error / abs(exact))
    return float(worst_absolute), float(worst_relative)


def test_exp_is_within_3e16_relative() -> None:
    chance = random.Random(1)
    arguments = [chance.uniform(-708.0, 709.0) for _ in range(5_000)]
    arguments += [chance.uniform(-1.0, 1.0) for _ in range(5_000)]
    _, relative = _worst_errors(exp, lambda x: Decimal(x).exp(), arguments)
    assert relative <= 3e-16


def test_log_is_within_3e16_relative_also_next_to_one_and_below_the_normal_range() -> None:
    chance = random.Random(2)
    arguments = [10.0 ** chance.uniform(-300.0, 300.0) for _ in range(3_000)]
    arguments += [chance.uniform(0.5, 2.0) for _ in range(3_000)]
    arguments += [1.0 + chance.uniform(1e-9, 1e-3) for _ in range(1_000)]
    arguments += [chance.randint(1, 2**40) * 5e-324 for _ in range(100)]
    _, relative = _worst_errors(log, lambda x: Decimal(x).ln(), arguments)
    assert relative <= 3e-16


def test_normal_cdf_is_within_3e16_absolute_and_1e15_relative_in_the_tail() -> None:
    chance = random.Random(3)
    arguments = [chance.uniform(-8.0, 8.0) for _ in range(3_000)]
    absolute, _ = _worst_errors(normal_cdf, _decimal_cdf, arguments)
    assert absolute <= 3e-16
    arguments = [chance.uniform(-37.0, 0.0) for _ in range(3_000)]
    _, relative = _worst_errors(normal_cdf, _decimal_cdf, arguments)
    assert relative <= 1e-15


def test_normal_cdf_agrees_with_scipy_in_the_body() -> None:
    chance = random.Random(4)
    for _ in range(5_000):
        x = chance.uniform(-8.0, 8.0)
        assert abs(normal_cdf(x) - float(ndtr(x))) <= 5e-16


def test_normal_pdf_is_within_4e16_relative() -> None:
    chance = random.Random(5)
    arguments = [chance.uniform(-37.0, 37.0) for _ in range(3_000)]
    _, relative = _worst_errors(normal_pdf, _decimal_pdf, arguments)
    assert relative <= 4e-16


def test_the_lower_quantile_agrees_with_scipy() -> None:
    chance = random.Random(8)
    for _ in range(2000):
        probability = 0.5 * 10.0 ** chance.uniform(-290.0, 0.0)
        assert normal_lower_quantile(probability) == pytest.approx(
            float(ndtri(probability)), rel=2e-15, abs=1e-15
        )


def test_normal_cdf_never_decreases_from_one_float_to_a_clearly_larger_one() -> None:
    values = [normal_cdf(step / 64.0) for step in range(-40 * 64, 9 * 64)]
    assert values == sorted(values)


@pytest.mark.parametrize(
    ("function", "x", "value"),
    [
        (exp, 0.0, 1.0),
        (exp, -708.0000001, 0.0),
        (exp, -math.inf, 0.0),
        (exp, 709.0000001, math.inf),
        (exp, math.inf, math.inf),
        (log, 1.0, 0.0),
        (log, 0.0, -math.inf),
        (log, -0.0, -math.inf),
        (log, math.inf, math.inf),
        (normal_cdf, 0.0, 0.5),
        (normal_cdf, -38.0, 0.0),
        (normal_cdf, -math.inf, 0.0),
        (normal_cdf, 9.0, 1.0),
        (normal_cdf, math.inf, 1.0),
        (normal_pdf, 38.0, 0.0),
        (normal_pdf, -math.inf, 0.0),
    ],
)
def test_edges_have_defined_values(
    function: Callable[[float], float], x: float, value: float
) -> None:
    assert function(x) == value


@pytest.mark.parametrize("function", [exp, log, normal_cdf, normal_pdf])
def test_nan_stays_nan(function: Callable[[float], float]) -> None:
    assert math.isnan(function(math.nan))


def test_the_logarithm_of_a_negative_number_is_nan() -> None:
    assert math.isnan(log(-1.0))
    assert math.isnan(log(-math.inf))


@pytest.fixture(scope="module")
def native_bits() -> str:
    return _bits()


def test_interpreted_code_gives_the_same_bits_without_a_warning(native_bits: str) -> None:
    assert _bits(NUMBA_DISABLE_JIT="1") == native_bits


def test_a_generic_processor_gives_the_same_bits(native_bits: str, tmp_path: Path) -> None:
    assert _bits(NUMBA_CPU_NAME="generic", NUMBA_CACHE_DIR=str(tmp_path)) == native_bits
