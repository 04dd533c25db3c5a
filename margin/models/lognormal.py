"""Value at risk and expected shortfall of a lognormal price, and risk factors from them.

X = exp(mu + sigma Z) with Z standard normal and z the quantile of the tail probability l:

    VaR = -exp(mu + sigma z)        ES = -exp(mu + sigma^2 / 2) N(z - sigma) / l

Over t years at volatility v and drift m, a price of 1 now has s = v sqrt(t). The mean of its worst
l of outcomes, as a loss of a long and of a short position per unit of value:

    rf_long = 1 - e^(m t) N(z - s) / l        rf_short = e^(m t) N(z + s) / l - 1

Source: vegaprotocol/quant, riskmeasures; Vega's specification of its lognormal risk model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit

from margin.fixed_point import NS_PER_YEAR, RATE_SCALE, VOLATILITY_SCALE, quantise
from margin.invariant import Int64Array, check
from margin.models.linear import LinearCharges, charge_of, linear_charges
from margin.portable_math import exp, normal_cdf, normal_lower_quantile
from margin.portfolio import Instruments, Marks

_HALF: Final = 0.5


class TailRisk(NamedTuple):
    """Value at risk and expected shortfall of X, negative: what the worst outcomes are worth."""

    value_at_risk: float
    expected_shortfall: float


class RiskModel(msgspec.Struct, frozen=True, kw_only=True):
    """Tail probability l, horizon t, drift m a year; initial margin as a multiple of ES."""

    tail_ppb: int = 1_000
    horizon_ns: int = NS_PER_YEAR // 8_760
    drift_e9: int = 0
    initial_ppb: int = 1_200_000_000


@njit(cache=True, error_model="numpy")
def _tail(log_mean: float, deviation: float, probability: float) -> tuple[float, float, float]:
    """(quantile, mean below it, mean above its mirror) of X with log E(X) and a deviation."""
    upper = probability > _HALF
    z = normal_lower_quantile(1.0 - probability if upper else probability)
    z = -z if upper else z
    quantile = exp(log_mean - _HALF * deviation * deviation + deviation * z)
    mean = exp(log_mean)
    below = mean * normal_cdf(z - deviation) / probability
    above = mean * normal_cdf(z + deviation) / probability
    return quantile, below, above


def tail_risk(mu: float, sigma: float, probability: float) -> TailRisk:
    """VaR and ES of exp(mu + sigma Z) at a tail probability, in the source's sign: negative.

    `ValueError` unless 1e-300 <= probability < 1 and sigma >= 0. Accuracy about 1e-14 relative.
    """
    _require(sigma, probability)
    quantile, below, _ = _tail(mu + _HALF * sigma * sigma, sigma, probability)
    return TailRisk(-quantile, -below)


def risk_factors(
    volatility: float, years: float, drift: float, probability: float
) -> tuple[float, float]:
    """(rf_long, rf_short): expected shortfall per unit of value held for `years`.

    Volatility per square root of a year, drift a year, both as fractions. `ValueError` as above.
    """
    _require(volatility, probability)
    if not years >= 0.0:
        raise ValueError("years: must not be negative")
    _, below, above = _tail(drift * years, volatility * math.sqrt(years), probability)
    return 1.0 - below, above - 1.0


def _require(deviation: float, probability: float) -> None:
    if not 1e-300 <= probability < 1.0:
        raise ValueError("tail probability: must lie in 1e-300 .. 1")
    if not deviation >= 0.0:
        raise ValueError("volatility: must not be negative")


def risk_factors_ppb(model: RiskModel, volatilities_e9: Sequence[int]) -> Int64Array:
    """(rf_long, rf_short) of every volatility, x 10^9, rounded up, at least 0; shape [n, 2]."""
    factors = np.zeros((len(volatilities_e9), 2), dtype=np.int64)
    years = model.horizon_ns / NS_PER_YEAR
    drift, probability = model.drift_e9 / VOLATILITY_SCALE, model.tail_ppb / RATE_SCALE
    for row, volatility_e9 in enumerate(volatilities_e9):
        pair = risk_factors(volatility_e9 / VOLATILITY_SCALE, years, drift, probability)
        for side, factor in enumerate(pair):
            scaled = factor * RATE_SCALE
            nearest = quantise(scaled)
            factors[row, side] = max(0, nearest + (1 if nearest < scaled else 0))
    return factors


def lot_charges(
    instruments: Instruments,
    marks: Marks,
    risk_exponent: Int64Array,
    model: RiskModel,
    unit_volatility_e9: Int64Array,
) -> LinearCharges:
    """Charges per lot of delta-one instruments: maintenance is ES over the horizon at the mark.

    `unit_volatility_e9[U]`: volatility of each underlying. Initial margin is `initial_ppb` of it.
    """
    check(unit_volatility_e9.shape == marks.index_e8.shape, "lognormal: one volatility a unit")
    factors = risk_factors_ppb(model, unit_volatility_e9.tolist())[instruments.unit]
    initial = charge_of(factors, model.initial_ppb)
    return linear_charges(
        instruments, marks, risk_exponent,
        maintenance_ppb=(factors[:, 0], factors[:, 1]),
        initial_ppb=(initial[:, 0], initial[:, 1]),
    )  # fmt: skip


def warm_up() -> None:
    """Compile the kernel of this module."""
    tail_risk(0.0, 0.1, 0.05)
