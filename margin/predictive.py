"""Margin of the cycles to come: the range path a forecast implies, and the chance of a margin call.

The forecast of volatility gives expected variances, these the targets of the spot ranges, and the
caps on rises the path by which ranges get there. Margin is forecast at the highest range of the
path, without what expires on the way if that asks for more, and with the funding due. The forecast
is never below today's requirement: as a floor it can only raise margin.

The chance of a call within the horizon treats profit and loss as delta-gamma: with a_i = D_i S_i
sigma_i, b_i = G_i S_i^2 sigma_i^2 / 2 and z jointly normal, mean = sum b_i and variance =
sum_ij rho_ij a_i a_j + 2 sum_ij rho_ij^2 b_i b_j (moments of quadratic forms: J. Zangari,
RiskMetrics, 1996). The law is taken as normal with `fat_tail` times that deviation, and the lowest
point on the way is twice as likely to lie beyond a level as the last one (reflection principle,
exact without drift when every instant counts; cycles see less). It warns; it decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final, NamedTuple

import numpy as np

from margin.dynamic import RangeState, RangeTerms, capped, root_up, targets_e9
from margin.fixed_point import NS_PER_SECOND, RATE_SCALE, quantise
from margin.forecast import DAYS_OF_MONTH, DAYS_OF_WEEK, Ewma, Forecaster, Garch, Har
from margin.invariant import Int64Array, check
from margin.portable_math import normal_cdf

_DAY_NS: Final = 86_400 * NS_PER_SECOND
_E9: Final = 1e9


class UnitRisk(NamedTuple):
    """A pool's exposure to one unit in minor USDC: D S and G S^2, and sigma over the horizon."""

    delta_minor: int
    gamma_minor: int
    volatility_e9: int


def variance_path_e18(forecaster: Forecaster, memory: Sequence[int], periods: int) -> list[int]:
    """Expected variances of the next `periods` periods, the first of them `memory[0]`.

    `memory`: one column of `margin.forecast`. EWMA stays where it is; GARCH returns to its long run
    by alpha + beta a period; HAR puts its own forecast in the place of what is not yet observed.
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
    `margin.dynamic`; the long run takes in the expected variances.
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
        if at_ns // _DAY_NS != day:
            day, at_day = at_ns // _DAY_NS, now
        now = [
            capped(before, wanted, opened, section)
            for before, wanted, opened in zip(now, target, at_day, strict=True)
        ]
        found.append(now)
    return found


def _rest(decay_ppb: int) -> int:
    return RATE_SCALE - decay_ppb


def growth_ppb(now_e9: Sequence[int], path_e9: Sequence[Sequence[int]]) -> int:
    """The most by which a unit's range exceeds today's on the path, x 10^9, at least 1; up."""
    most = RATE_SCALE
    for ranges in path_e9:
        for before, then in zip(now_e9, ranges, strict=True):
            most = max(most, -(-then * RATE_SCALE // before))
    return most


def growth_minor(worst_minor: Int64Array, factor_ppb: int, growth: int) -> Int64Array:
    """What growing ranges add to the initial margins of worst losses [P], minor USDC, rounded up.

    `factor_ppb` of a worst loss is charged; `growth` as from `growth_ppb`, at least 1.
    """
    check(growth >= RATE_SCALE, "predictive: margin is not forecast to fall")
    more = int(factor_ppb) * (growth - RATE_SCALE)
    found = [-(-worst * more // (RATE_SCALE * RATE_SCALE)) for worst in worst_minor.tolist()]
    return np.array(found, np.int64)


def forecast_initial_minor(
    initial_minor: int, worst_minor: int, factor_ppb: int, growth: int,
    after_expiry_minor: int = 0, funding_minor: int = 0,
) -> int:  # fmt: skip
    """The most initial margin a pool is forecast to need, minor USDC, never below today's.

    The worst loss, of which `factor_ppb` is charged, grows by `growth` (`growth_ppb`); all else in
    `initial_minor` stays. `after_expiry_minor`: the requirement without the positions that expire
    within the horizon, which grows likewise, as a whole; `funding_minor`: payable in it, if
    positive. Losses of short options grow faster than the range: this is a first order.
    """
    check(growth >= RATE_SCALE, "predictive: margin is not forecast to fall")
    check(worst_minor >= 0, "predictive: a worst loss is not negative")
    more = growth - RATE_SCALE
    grown = initial_minor - (-worst_minor * factor_ppb * more // (RATE_SCALE * RATE_SCALE))
    later = -(-after_expiry_minor * growth // RATE_SCALE)
    return max(initial_minor, grown, later) + max(0, funding_minor)


def call_probability_ppb(
    units: Sequence[UnitRisk], rho_ppb: Sequence[Sequence[int]], cushion_minor: int,
    fat_tail_e9: int,
) -> int:  # fmt: skip
    """Chance that equity falls below a requirement on the way, x 10^9, rounded up.

    `cushion_minor`: equity less the requirement forecast, less funding due; 10^9 if not above 0.
    """
    if cushion_minor <= 0:
        return RATE_SCALE
    slopes, bends = [], []
    for unit in units:
        deviation = unit.volatility_e9 / _E9
        slopes.append(unit.delta_minor * deviation)
        bends.append(0.5 * unit.gamma_minor * deviation * deviation)
    mean, variance = 0.0, 0.0
    for i in range(len(units)):
        mean += bends[i]
        for j in range(len(units)):
            rho = rho_ppb[i][j] / _E9
            variance += rho * slopes[i] * slopes[j] + 2.0 * rho * rho * bends[i] * bends[j]
    room = cushion_minor + mean
    if not variance > 0.0:
        return 0 if room > 0.0 else RATE_SCALE
    distance = room / (fat_tail_e9 / _E9 * sqrt(variance))
    likely = 2.0 * float(normal_cdf(-distance))
    return min(RATE_SCALE, int(quantise(likely * _E9)) + 1)


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
