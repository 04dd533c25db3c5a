"""Joint returns of risk factors, and the filter that brings them to the volatility of today.

A factor is a spot price or an implied volatility at a tenor; its return is the logarithm of the
ratio of two successive levels, so the level's scale does not matter (price_e8, volatility_e9).
Floats in here use + - * / sqrt and `margin.portable_math` in one written order; they leave as
relative moves of 10^-9 (`moves_e9`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Final

import numpy as np
from numba import njit

from margin.fixed_point import VOLATILITY_SCALE, quantise
from margin.invariant import Float64Array, Int64Array, check
from margin.portable_math import exp, log

_E9: Final = float(VOLATILITY_SCALE)


def join(series: Sequence[tuple[Int64Array, Int64Array]]) -> tuple[Int64Array, Int64Array]:
    """The times at which every series has a level, and the levels then, one column a series.

    Each series is (`time_ns[T_i]`, `level[T_i]`), times rising, levels positive; the result is
    (`time_ns[T]`, `level[T,F]`). Joint dates keep the dependence between factors: a scenario is
    what happened to all of them at once. `InvariantBroken` for an unusable series.
    """
    check(len(series) > 0, "returns: no series to join")
    for time_ns, level in series:
        check(time_ns.shape == level.shape, "returns: one level per time")
        check(bool((np.diff(time_ns) > 0).all()), "returns: times do not rise")
        check(bool((level > 0).all()), "returns: a level is not positive")
    times = [time_ns for time_ns, _ in series]
    shared = reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), times)
    columns = [level[np.searchsorted(time_ns, shared)] for time_ns, level in series]
    return shared, np.ascontiguousarray(np.stack(columns, axis=1))


@njit(cache=True, error_model="numpy")
def _log_ratios(level: Int64Array, out: Float64Array) -> None:
    for t in range(out.shape[0]):
        for f in range(out.shape[1]):
            out[t, f] = log(level[t + 1, f] / level[t, f])


def log_returns(level: Int64Array) -> Float64Array:
    """ln(level[t+1] / level[t]), shape [T-1,F] from positive `level[T,F]`."""
    check(level.ndim == 2 and len(level) >= 1, "returns: levels are a table of times and factors")
    check(bool((level > 0).all()), "returns: a level is not positive")
    out = np.empty((len(level) - 1, level.shape[1]))
    _log_ratios(level, out)
    return out


@njit(cache=True, error_model="numpy")
def _ewma(returns: Float64Array, decay: float, seed_count: int, volatility: Float64Array) -> None:
    for f in range(returns.shape[1]):
        variance = 0.0
        for t in range(seed_count):
            variance += returns[t, f] * returns[t, f]
        variance = variance / seed_count
        volatility[0, f] = np.sqrt(variance)
        for t in range(returns.shape[0]):
            square = returns[t, f] * returns[t, f]
            variance = decay * variance + (1.0 - decay) * square
            volatility[t + 1, f] = np.sqrt(variance)


def ewma_volatility(returns: Float64Array, decay: float, seed_count: int) -> Float64Array:
    """Volatility forecasts per period, shape [T+1,F] from `returns[T,F]`.

    Row t is the forecast for return t, made from those before it; row T is today's. The recursion
    is var = decay x var + (1 - decay) x r^2 (RiskMetrics, 1996), started at the mean square of the
    first `seed_count` returns: forecasts for these know them and are for nothing but the start.
    `InvariantBroken` unless 0 < decay < 1 and 0 < seed_count <= T.
    """
    check(0.0 < decay < 1.0, "returns: the decay must lie in 0 .. 1")
    check(0 < seed_count <= len(returns), "returns: the seed needs returns")
    volatility = np.empty((len(returns) + 1, returns.shape[1]))
    _ewma(np.ascontiguousarray(returns), decay, seed_count, volatility)
    return volatility


def long_run_volatility(returns: Float64Array) -> Float64Array:
    """Root of the mean square of all returns, shape [F]: what a volatility floor is a share of.

    With ten years of history it is the floor of EU regulation 153/2013, article 28(1)(c).
    """
    # Row 0 of the recursion is the mean square of the seed: of everything, here.
    volatility: Float64Array = ewma_volatility(returns, 0.5, len(returns))[0]
    return volatility


def rescale(
    returns: Float64Array,
    volatility: Float64Array,
    volatility_now: Float64Array,
    floor: Float64Array,
    ratio_most: float,
) -> Float64Array:
    """Filtered returns r* = z x max(sigma_now, floor) with z = r / sigma, shape [S,F].

    `returns[S,F]` and `volatility[S,F]`, the forecast for each; `volatility_now[F]`, `floor[F]`.
    max(sigma_now, floor) / sigma is at most `ratio_most`: after a long silence sigma is next to
    nothing and z says nothing. Where sigma is 0 the return counts as it is. Source: G.
    Barone-Adesi, K. Giannopoulos and L. Vosper (1999); Bank of England working paper 525.
    """
    check(returns.shape == volatility.shape, "returns: one volatility per return")
    target = np.maximum(volatility_now, floor)
    seen = volatility > 0.0
    ratio = np.where(seen, target / np.where(seen, volatility, 1.0), 1.0)
    scaled: Float64Array = returns * np.minimum(ratio, ratio_most)
    return scaled


def overlapping_sums(returns: Float64Array, steps: int, count: int) -> Float64Array:
    """The last `count` sums of `steps` successive returns, each one period on, shape [count,F].

    Sum k ends at the k-th of the last `count` returns. `InvariantBroken` if there are too few.
    """
    check(steps >= 1 and count >= 1, "returns: a sum of nothing")
    first = len(returns) - count
    check(first - steps + 1 >= 0, "returns: history too short for the horizon")
    total = returns[first:].copy()
    for back in range(1, steps):
        total += returns[first - back : len(returns) - back]
    return total


@njit(cache=True, error_model="numpy")
def _moves(log_return: Float64Array, out: Int64Array) -> None:
    for k in range(len(out)):
        out[k] = quantise((exp(log_return[k]) - 1.0) * _E9)


def moves_e9(log_return: Float64Array) -> Int64Array:
    """Relative moves exp(r) - 1 in 10^-9, of the shape of `log_return`.

    OverflowError for a move of 4.6 x 10^9 or more, which no market has made.
    """
    out = np.empty(log_return.size, np.int64)
    _moves(np.ascontiguousarray(log_return).reshape(-1), out)
    return out.reshape(log_return.shape)


def warm_up() -> None:
    """Compile the kernels of this module."""
    _log_ratios(np.ones((2, 1), np.int64), np.empty((1, 1)))
    _ewma(np.ones((1, 1)), 0.5, 1, np.empty((2, 1)))
    _moves(np.zeros(1), np.empty(1, np.int64))
