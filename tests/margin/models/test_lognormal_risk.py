"""Lognormal VaR, ES and risk factors against the standard library, published figures and laws."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from margin.fixed_point import NS_PER_YEAR
from margin.models.lognormal import RiskModel, risk_factors, risk_factors_ppb, tail_risk
from tests.reference.reference_models import lognormal_factors, lognormal_tail

ROOT = Path(__file__).parents[3]


def test_published_var_and_es_come_out() -> None:
    """vegaprotocol/quant, riskmeasures_test.go."""
    risk = tail_risk(0.0, 0.1, 0.05)
    assert risk.value_at_risk == pytest.approx(-0.84833017412, abs=5e-12)
    assert risk.expected_shortfall == pytest.approx(-0.81416417294, abs=5e-12)


def test_the_published_risk_factor_comes_out() -> None:
    """Feature 0084-VDPR-012: volatility 1, a tenth of a year, a tail of 10^-6."""
    assert risk_factors(1.0, 0.1, 0.0, 1e-6)[1] == pytest.approx(3.5569036, abs=5e-8)


@pytest.mark.parametrize("seed", [1, 2])
def test_closed_forms_agree_with_the_standard_library(seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(2_500):
        tail = float(10 ** random.uniform(-9, -0.01))
        volatility, years = float(random.uniform(0, 3)), float(random.uniform(0, 1.5))
        drift = float(random.uniform(-1, 1))
        got = risk_factors(volatility, years, drift, tail)
        # 1 - x and x - 1 lose digits where x is near 1: the error is that of x
        for one, other in zip(got, lognormal_factors(volatility, years, drift, tail), strict=True):
            assert one == pytest.approx(other, rel=1e-11, abs=1e-11 * (1 + abs(other)))
        assert list(tail_risk(drift, volatility, tail)) == pytest.approx(
            lognormal_tail(drift, volatility, tail), rel=1e-11
        )


def test_es_is_the_mean_of_the_outcomes_beyond_var() -> None:
    """By summing the quantile function over the tail, in steps of equal probability."""
    tail, steps = 0.05, 4_000
    outcomes = [-tail_risk(0.1, 0.4, tail * (k + 0.5) / steps).value_at_risk for k in range(steps)]
    mean = math.fsum(outcomes) / steps
    assert -tail_risk(0.1, 0.4, tail).expected_shortfall == pytest.approx(mean, rel=1e-5)


def test_risk_factors_grow_with_volatility_and_with_rarer_tails() -> None:
    volatilities = [risk_factors(v / 20, 0.01, 0.0, 1e-3) for v in range(1, 60)]
    tails = [risk_factors(0.8, 0.01, 0.0, 10.0**-k) for k in range(1, 12)]
    for factors in (volatilities, tails):
        long, short = zip(*factors, strict=True)
        assert list(long) == sorted(long)
        assert list(short) == sorted(short)
        assert all(0 < x < 1 for x in long)


def test_a_certain_price_needs_nothing() -> None:
    assert risk_factors(0.0, 1.0, 0.0, 0.01) == pytest.approx((0, 0), abs=1e-13)
    at_once = risk_factors_ppb(RiskModel(horizon_ns=0), [10**9])
    assert (at_once <= 1).all()  # rounded up: at most 10^-9


def test_integer_factors_are_rounded_up_and_floored_at_zero() -> None:
    model = RiskModel(tail_ppb=10_000_000, horizon_ns=NS_PER_YEAR // 365)
    volatilities = [300_000_000, 800_000_000, 2_000_000_000]
    got = risk_factors_ppb(model, volatilities).tolist()
    for row, volatility in zip(got, volatilities, strict=True):
        exact = lognormal_factors(volatility / 1e9, 1 / 365, 0.0, 0.01)
        for whole, factor in zip(row, exact, strict=True):
            assert 0 <= whole - factor * 1e9 < 1 + 1e-4
    rising = RiskModel(tail_ppb=400_000_000, drift_e9=3 * 10**9, horizon_ns=NS_PER_YEAR)
    assert risk_factors_ppb(rising, [100_000_000])[0, 0] == 0  # the worst outcomes are gains


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 1.0, 0.0, 0.0), "tail probability"),
        ((1.0, 1.0, 0.0, 1.0), "tail probability"),
        ((1.0, 1.0, 0.0, math.nan), "tail probability"),
        ((-1.0, 1.0, 0.0, 0.1), "volatility"),
        ((1.0, -1.0, 0.0, 0.1), "years"),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: tuple[float, float, float, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        risk_factors(*arguments)


def figures() -> list[str]:
    """Bits of a few results."""
    return [
        value.hex()
        for k in range(1, 40)
        for value in (
            *risk_factors(k / 13, k / 50, 0.1, 0.3 / k**3),
            *tail_risk(0.1, k / 9, 0.9 / k),
        )
    ]


def test_compiled_and_interpreted_give_the_same_bits() -> None:
    program = "from tests.margin.models.test_lognormal_risk import figures; print(figures())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == str(figures())
