"""Margin of the cycles to come: the range path a forecast implies, and the chance of a margin call.

The forecast of volatility gives expected variances, these the targets of the spot ranges, and the
caps on rises the path by which ranges get there. Margin is forecast at the highest range of the
path, without what expires on the way if that asks for more, and with the funding due. The forecast
is never below today's requirement: as a floor it can only raise margin.

The chance of a call is that of a first passage. What a unit does to a pool's cushion, equity less
requirement, is a_i z_i + b_i z_i^2, z the move in deviations of the horizon, read off the cushion
one deviation up and down: the requirement moves with the price, too. Over the units a^2 is
sum_ij rho_ij a_i a_j, b^2 is sum_ij rho_ij^2 b_i b_j with the sign of sum b_i (the moments of the
quadratic form are kept: J. Zangari, RiskMetrics, 1996), and what that leaves of sum b_i, if
negative, wears the cushion down on the way. a z + b z^2 = -cushion has a root on one side or on
both; each counts twice the chance to end beyond it (reflection principle, exact without drift when
every instant counts), and is moved away by 0.5826 deviations of one cycle since a call can come at
revaluations only (M. Broadie, P. Glasserman and S. Kou, 1997). It warns; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import sqrt
from typing import Final, NamedTuple

import numpy as np
from numba import njit

from margin.fixed_point import (
    NS_PER_DAY,
    NS_PER_SECOND,
    RATE_SCALE,
    mul_div_ceil,
    quantise,
    root_up,
)
from margin.forecasts.forecast import DAYS_OF_MONTH, DAYS_OF_WEEK, Ewma, Forecaster, Garch, Har
from margin.forecasts.ranges import RangeState, RangeTerms, capped, targets_e9
from margin.invariant import Int64Array, check
from margin.portable_math import normal_cdf

_E9: Final = 1e9
_CONTINUITY: Final = 0.5825971579390107
"""-zeta(1/2) / sqrt(2 pi): how much farther a barrier is that is looked at step by step."""


class TailLaw(NamedTuple):
    """How moves are distributed: Student's t of `freedom` degrees, even, at least 4; 0 is normal.

    Of deviation `fat_tail_e9` x 10^-9. Moves of a volatility that is not known are such a mixture
    of normals (P. Praetz, The distribution of share price changes, 1972).
    """

    fat_tail_e9: int
    freedom: int


def variance_path_e18(forecaster: Forecaster, memory: Sequence[int], periods: int) -> list[int]:
    """Expected variances of the next `periods` periods, the first of them `memory[0]`.

    `memory`: one column of `margin.forecasts.forecast`. EWMA stays where it is; GARCH returns to
    its long run by alpha + beta a period; HAR puts its own forecast in the place of what is not yet
    observed.
    """
    check(periods >= 1, "predictive: at least one period")
    path = [int(memory[0])]
    past = [int(v) for v in memory[1:]]
    for _ in range(periods - 1):
        variance = path[-1]
        if isinstance(forecaster, Garch):
            weights = forecaster.alpha_ppb + forecaster.beta_ppb
            path.append(forecaster.omega_e18 + variance * weights // RATE_SCALE)
        elif isinstance(forecaster, Har):
            past = [variance, *past[: DAYS_OF_MONTH - 1]]
            total = forecaster.day_ppb * variance
            total += forecaster.week_ppb * sum(past[:DAYS_OF_WEEK]) // DAYS_OF_WEEK
            total += forecaster.month_ppb * sum(past) // DAYS_OF_MONTH
            path.append(forecaster.constant_e18 + total // RATE_SCALE)
        else:
            check(isinstance(forecaster, Ewma), "predictive: unknown forecaster")
            path.append(variance)
    return path


def range_path_e9(
    terms: RangeTerms, state: RangeState, time_ns: int, interval_ns: int, cycles: int
) -> list[list[int]]:
    """Ranges of the next `cycles` cycles, each [U], if the market moves as is forecast.

    `time_ns`: of the revaluation that `state` has seen. Tools, bounds and caps are those of
    `margin.forecasts.ranges`; the long run takes in the expected variances.
    """
    section = terms.section
    period_ns = section.period_s * NS_PER_SECOND
    periods = (time_ns + cycles * interval_ns) // period_ns - time_ns // period_ns + 1
    paths = [
        variance_path_e18(forecaster, state.memory[:, unit].tolist(), periods)
        for unit, forecaster in enumerate(terms.forecasters)
    ]
    long_run, now = state.long_run_e18.tolist(), state.range_e9.tolist()
    at_day, day = state.day_range_e9.tolist(), state.day
    target, seen, found = state.target_e9.tolist(), 0, []
    for cycle in range(1, cycles + 1):
        at_ns = time_ns + cycle * interval_ns
        period = at_ns // period_ns - time_ns // period_ns
        for step in range(seen, period):
            long_run = [
                (slow * section.long_run_decay_ppb + path[step] * _rest(section.long_run_decay_ppb))
                // RATE_SCALE
                for slow, path in zip(long_run, paths, strict=True)
            ]
        if period > seen:
            target = targets_e9(terms, [path[period] for path in paths], long_run).tolist()
            seen = period
        if at_ns // NS_PER_DAY != day:
            day, at_day = at_ns // NS_PER_DAY, now
        if now != target:
            now = [
                capped(before, wanted, opened, section)
                for before, wanted, opened in zip(now, target, at_day, strict=True)
            ]
        found.append(now)
    return found


def _rest(decay_ppb: int) -> int:
    return RATE_SCALE - decay_ppb


def _growths(now_e9: Sequence[int], path_e9: Sequence[Sequence[int]]) -> Iterator[int]:
    """At each cycle of the path the most by which a range exceeds today's, x 10^9, at least 1."""
    found, before = RATE_SCALE, now_e9
    for ranges in path_e9:
        if ranges != before:  # most of a path stands still
            found, before = RATE_SCALE, ranges
            for now, then in zip(now_e9, ranges, strict=True):
                if then > now:
                    found = max(found, -(-then * RATE_SCALE // now))
        yield found


def growth_ppb(now_e9: Sequence[int], path_e9: Sequence[Sequence[int]]) -> int:
    """The most by which a unit's range exceeds today's on the path, x 10^9, at least 1; up."""
    return max(_growths(now_e9, path_e9), default=RATE_SCALE)


def mean_growth_ppb(now_e9: Sequence[int], path_e9: Sequence[Sequence[int]]) -> int:
    """The mean over the path of what `growth_ppb` is at each of its cycles, x 10^9; up.

    How high the requirement stands on the way, to which the chance of a call looks: a barrier that
    rises evenly is met about as often as one that stands at its mean.
    """
    check(len(path_e9) > 0, "predictive: an empty path")
    return -(-sum(_growths(now_e9, path_e9)) // len(path_e9))


@njit(cache=True)
def _grown(worst: Int64Array, factor_ppb: int, more_ppb: int, out: Int64Array) -> None:
    for p in range(len(worst)):
        charged = mul_div_ceil(worst[p], factor_ppb, RATE_SCALE)
        out[p] = mul_div_ceil(charged, more_ppb, RATE_SCALE)


def growth_minor(worst_minor: Int64Array, factor_ppb: int, growth: int) -> Int64Array:
    """What growing ranges add to the initial margins of worst losses [P], minor USDC.

    `factor_ppb` of a worst loss is charged, which grows by `growth` (`growth_ppb`, at least 1);
    both products are rounded up. Needs worst x (growth - 1) below 2^62.
    """
    check(growth >= RATE_SCALE, "predictive: margin is not forecast to fall")
    out = np.empty(len(worst_minor), np.int64)
    _grown(worst_minor, factor_ppb, growth - RATE_SCALE, out)
    return out


@njit(cache=True)
def _forecast(
    initial: Int64Array, growing: Int64Array, later: Int64Array, growth: int, funding: Int64Array,
    out: Int64Array,
) -> None:  # fmt: skip
    for p in range(len(initial)):
        after = mul_div_ceil(later[p], growth, RATE_SCALE)
        out[p] = max(initial[p] + growing[p], after) + max(0, funding[p])


def forecast_initial_minor(
    initial_minor: Int64Array, worst_minor: Int64Array, factor_ppb: int, growth: int,
    after_expiry_minor: Int64Array, funding_minor: Int64Array,
) -> Int64Array:  # fmt: skip
    """The most initial margin that pools [P] are forecast to need, minor USDC, not below today's.

    The worst loss, of which `factor_ppb` is charged, grows by `growth` (`growth_ppb`); all else in
    `initial_minor` stays. `after_expiry_minor`: the requirement without the positions that expire
    within the horizon, which grows likewise, as a whole; `funding_minor`: payable in it, if
    positive. Losses of short options grow faster than the range: this is a first order.
    """
    check(bool((worst_minor >= 0).all()), "predictive: a worst loss is not negative")
    out = np.empty(len(initial_minor), np.int64)
    growing = growth_minor(worst_minor, factor_ppb, growth)
    _forecast(initial_minor, growing, after_expiry_minor, growth, funding_minor, out)
    return out


@njit(cache=True, error_model="numpy")
def _beyond(distance: float, freedom: int) -> float:
    """Chance that a move of deviation 1 ends beyond `distance` > 0 on one side.

    Student's t of even freedom: M. Abramowitz and I. Stegun, 26.7.4.
    """
    if freedom == 0:
        return float(normal_cdf(-distance))
    t = distance * sqrt(freedom / (freedom - 2.0))
    sine = t / sqrt(freedom + t * t)
    square = freedom / (freedom + t * t)
    term, total = 1.0, 1.0
    for k in range(1, freedom // 2):
        term = term * square * (2.0 * k - 1.0) / (2.0 * k)
        total += term
    return max(0.0, 0.5 * (1.0 - sine * total))


@njit(cache=True, error_model="numpy")
def _passage(room: float, a: float, b: float, fat: float, freedom: int, shift: float) -> float:
    """Chance that a z + b z^2 falls to -room on the way, room > 0 and a >= 0."""
    under = a * a - 4.0 * b * room
    if under < 0.0 or (a == 0.0 and b >= 0.0):
        return 0.0  # gains from gamma hold the cushion above nothing, or nothing moves
    root = sqrt(under)
    likely = 2.0 * _beyond(2.0 * room / (a + root) / fat + shift, freedom)
    if b < 0.0:
        likely += 2.0 * _beyond((a + root) / (-2.0 * b) / fat + shift, freedom)
    return min(1.0, likely)


@njit(cache=True, error_model="numpy")
def _chances(
    slope: Int64Array, bend: Int64Array, rho: Int64Array, cushion: Int64Array,
    law: tuple[float, int, float], out: Int64Array,
) -> None:  # fmt: skip
    for p in range(len(cushion)):
        if cushion[p] <= 0:
            out[p] = RATE_SCALE
            continue
        linear, square, mean = 0.0, 0.0, 0.0
        for i in range(slope.shape[1]):
            mean += bend[p, i]
            for j in range(slope.shape[1]):
                r = rho[i, j] / _E9
                linear += r * slope[p, i] * slope[p, j]
                square += r * r * bend[p, i] * bend[p, j]
        a, b = sqrt(max(0.0, linear)), sqrt(max(0.0, square))
        b = -b if mean < 0.0 else b
        room = cushion[p] + min(0.0, mean - b)
        if not room > 0.0:
            out[p] = RATE_SCALE
            continue
        likely = _passage(room, a, b, law[0], law[1], law[2])
        out[p] = min(RATE_SCALE, quantise(likely * _E9) + (1 if likely > 0.0 else 0))


def call_probabilities_ppb(
    slope_minor: Int64Array, bend_minor: Int64Array, rho_ppb: Int64Array,
    cushion_minor: Int64Array, law: TailLaw, cycles: int,
) -> Int64Array:  # fmt: skip
    """Chance that equity falls below a requirement within so many cycles, x 10^9, up, shape [P].

    `slope_minor[P,U]`, `bend_minor[P,U]`: what a move of one deviation of the horizon does to the
    cushion of a pool, as a z + b z^2; `rho_ppb[U,U]`. `cushion_minor[P]`: equity less the
    requirement forecast, less funding due; the chance is 10^9 where it is not above 0.
    """
    check(cycles >= 1, "predictive: at least one cycle")
    check(slope_minor.shape == bend_minor.shape, "predictive: a bend for each slope")
    shift = _CONTINUITY / sqrt(float(cycles))
    out = np.empty(len(cushion_minor), np.int64)
    terms = (law.fat_tail_e9 / _E9, int(law.freedom), shift)
    _chances(slope_minor, bend_minor, rho_ppb, cushion_minor, terms, out)
    return out


def horizon_volatility_e9(
    variance_path: Sequence[int], period_s: int, horizon_ns: int
) -> int:  # fmt: skip
    """Volatility over a horizon at expected variances of its periods, x 10^9, rounded up.

    The path's mean variance a period x the horizon in periods, under a root.
    """
    check(len(variance_path) > 0, "predictive: an empty path")
    total = sum(variance_path) * horizon_ns
    variance_e18 = -(-total // (len(variance_path) * period_s * NS_PER_SECOND))
    return root_up(variance_e18)


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.ones(1, np.int64), np.ones((1, 1), np.int64)
    call_probabilities_ppb(grid, grid, grid, one, TailLaw(RATE_SCALE, 4), 1)
    forecast_initial_minor(one, one, RATE_SCALE, RATE_SCALE, one, one)
