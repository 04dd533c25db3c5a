"""Forecasts of volatility that a clearing house can journal: integers in, integers out.

A forecaster turns the relative moves of a price, one a period (`return_e9`), into the variance of
the next period (`variance_e18`). Its memory is a column of integers, so that a market that recovers
from its journal forecasts on as if nothing had happened. Columns stand for factors, or for
simulated paths: every function works on all of them at once.

A move counts as at most 100 % and at least -100 %.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numba import njit

from margin.fixed_point import RATE_SCALE, integer_root, mul_div_floor
from margin.invariant import Int64Array, check

MOST_RETURN_E9: Final = RATE_SCALE
DAYS_OF_WEEK: Final = 5
DAYS_OF_MONTH: Final = 22
_MOST_VARIANCE_E18: Final = RATE_SCALE * RATE_SCALE


class Ewma(msgspec.Struct, frozen=True):
    """var' = decay x var + (1 - decay) x r^2. Source: RiskMetrics technical document, 1996."""

    decay_ppb: int

    def __post_init__(self) -> None:
        check(0 < self.decay_ppb < RATE_SCALE, "forecast: the decay must lie in 0 .. 1")


class Garch(msgspec.Struct, frozen=True):
    """var' = omega + alpha r^2 + beta var. Source: T. Bollerslev, 1986.

    `omega_e18` is a variance; the two weights together are below 1, so that the variance comes
    back to omega / (1 - alpha - beta).
    """

    omega_e18: int
    alpha_ppb: int
    beta_ppb: int

    def __post_init__(self) -> None:
        weights = (self.alpha_ppb, self.beta_ppb)
        check(min(weights) >= 0 and sum(weights) < RATE_SCALE, "forecast: alpha + beta below 1")
        check(0 <= self.omega_e18 <= _MOST_VARIANCE_E18, "forecast: omega out of range")


class Har(msgspec.Struct, frozen=True):
    """var' = constant + day x RV_1 + week x RV_5 + month x RV_22, means of realised variances.

    Source: F. Corsi, A simple approximate long-memory model of realized volatility, 2009.
    """

    constant_e18: int
    day_ppb: int
    week_ppb: int
    month_ppb: int

    def __post_init__(self) -> None:
        weights = (self.day_ppb, self.week_ppb, self.month_ppb)
        check(min(weights) >= 0 and sum(weights) <= RATE_SCALE, "forecast: weights add up to 1")
        check(0 <= self.constant_e18 <= _MOST_VARIANCE_E18, "forecast: constant out of range")


Forecaster = Ewma | Garch | Har


def memory_rows(forecaster: Forecaster) -> int:
    """How many rows `start` gives: the variance, and a month of realised variances under HAR."""
    return 1 + (DAYS_OF_MONTH if isinstance(forecaster, Har) else 0)


def start(forecaster: Forecaster, variance_e18: Int64Array) -> Int64Array:
    """Memory of a forecaster that has only ever seen this variance, shape [rows, F].

    Row 0 is the forecast for the next period; under HAR the realised variances of the last 22
    periods follow, the latest first.
    """
    inside = (variance_e18 >= 0) & (variance_e18 <= _MOST_VARIANCE_E18)
    check(bool(inside.all()), "forecast: a variance is out of range")
    memory: Int64Array = np.repeat(variance_e18[None, :], memory_rows(forecaster), axis=0)
    return np.ascontiguousarray(memory)


@njit(cache=True)
def _recursion(
    return_e9: Int64Array, constant_e18: int, weight_ppb: int, decay_ppb: int, variance: Int64Array
) -> None:
    """variance[t+1] from variance[t] and return t, both [T, F] and [T+1, F]."""
    for t in range(return_e9.shape[0]):
        for f in range(return_e9.shape[1]):
            move = max(-MOST_RETURN_E9, min(MOST_RETURN_E9, return_e9[t, f]))
            kept = mul_div_floor(variance[t, f], decay_ppb, RATE_SCALE)
            added = mul_div_floor(move * move, weight_ppb, RATE_SCALE)
            variance[t + 1, f] = min(_MOST_VARIANCE_E18, constant_e18 + kept + added)


@njit(cache=True)
def _realised(
    return_e9: Int64Array,
    constant_e18: int,
    weight_ppb: tuple[int, int, int],
    past: Int64Array,
    variance: Int64Array,
) -> None:
    """HAR forecasts; `past[22, F]`, the latest first, moves on."""
    for t in range(return_e9.shape[0]):
        for f in range(return_e9.shape[1]):
            for back in range(DAYS_OF_MONTH - 1, 0, -1):
                past[back, f] = past[back - 1, f]
            move = max(-MOST_RETURN_E9, min(MOST_RETURN_E9, return_e9[t, f]))
            past[0, f] = move * move
            week, month = 0, 0
            for back in range(DAYS_OF_MONTH):  # divided first: a sum of 22 squares may not fit
                week += past[back, f] // DAYS_OF_WEEK if back < DAYS_OF_WEEK else 0
                month += past[back, f] // DAYS_OF_MONTH
            total = constant_e18 + mul_div_floor(past[0, f], weight_ppb[0], RATE_SCALE)
            total += mul_div_floor(week, weight_ppb[1], RATE_SCALE)
            total += mul_div_floor(month, weight_ppb[2], RATE_SCALE)
            variance[t + 1, f] = min(_MOST_VARIANCE_E18, total)


def run(forecaster: Forecaster, memory: Int64Array, return_e9: Int64Array) -> Int64Array:
    """Forecasts `variance_e18[T+1, F]` along `return_e9[T, F]`; `memory` moves on with them.

    Row t is made from the returns before t alone; row 0 is what `memory` forecast already.
    """
    check(return_e9.ndim == 2, "forecast: returns are a table of periods and factors")
    shape = (memory_rows(forecaster), return_e9.shape[1])
    check(memory.shape == shape, f"forecast: memory of shape {memory.shape}, expected {shape}")
    variance = np.empty((len(return_e9) + 1, return_e9.shape[1]), np.int64)
    variance[0] = memory[0]
    if isinstance(forecaster, Har):
        weights = (forecaster.day_ppb, forecaster.week_ppb, forecaster.month_ppb)
        _realised(return_e9, forecaster.constant_e18, weights, memory[1:], variance)
    elif isinstance(forecaster, Garch):
        _recursion(
            return_e9, forecaster.omega_e18, forecaster.alpha_ppb, forecaster.beta_ppb, variance
        )
    else:
        decay = forecaster.decay_ppb
        _recursion(return_e9, 0, RATE_SCALE - decay, decay, variance)
    memory[0] = variance[-1]
    return variance


@njit(cache=True)
def _roots(variance_e18: Int64Array, out: Int64Array) -> None:
    for k in range(len(variance_e18)):
        out[k] = integer_root(variance_e18[k])


def volatility_e9(variance_e18: Int64Array) -> Int64Array:
    """Root of a variance, rounded down, of the shape of `variance_e18`: one period's volatility."""
    out = np.empty(variance_e18.size, np.int64)
    _roots(np.ascontiguousarray(variance_e18).reshape(-1), out)
    return out.reshape(variance_e18.shape)


def warm_up() -> None:
    """Compile the kernels of this module."""
    one = np.zeros((1, 1), np.int64)
    for forecaster in (Ewma(1), Har(0, 0, 0, 0)):
        run(forecaster, start(forecaster, one[0]), one)
    volatility_e9(one)
