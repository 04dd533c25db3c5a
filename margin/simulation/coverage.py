"""Did margins cover what happened? Tests of a backtest's breaches and of expected shortfall.

A *violation* (breach) is a period whose loss was above its margin. Counts in, statistics out; the
p-values of chi-square with one and two degrees of freedom have closed forms, so nothing but
`margin.portable_math` is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from margin.invariant import BoolArray, Float64Array
from margin.portable_math import exp, log, normal_cdf

# 95 % points of chi-square with 1 and 2 degrees of freedom.
CHI_SQUARE_1_CRITICAL_95: Final = 3.841458820694124
CHI_SQUARE_2_CRITICAL_95: Final = 5.991464547107979
# The published 95 % point of Z2, and the number of violations that was expected for it.
_SHORTFALL_CRITICAL_95: Final = 0.7
_SHORTFALL_CRITICAL_EXPECTED: Final = 250 * 0.025


class CoverageTest(NamedTuple):
    """A likelihood ratio, the chance of a larger one if the model is right, and its 95 % point."""

    statistic: float
    p_value: float
    critical_95: float

    @property
    def is_passed(self) -> bool:
        """Whether the model is not rejected at 95 %."""
        return self.statistic <= self.critical_95


class IndependenceTest(NamedTuple):
    """Christoffersen: do violations cluster, and is their number right as well?"""

    independence: CoverageTest
    conditional_coverage: CoverageTest


class ShortfallTest(NamedTuple):
    """Acerbi and Szekely's Z2 in loss form: 0 expected, positive where losses were larger."""

    statistic: float
    critical_95: float

    @property
    def is_passed(self) -> bool:
        """Whether expected shortfall is not found too small at about 95 %."""
        return self.statistic <= self.critical_95


def _times_log(count: int, numerator: int, denominator: int) -> float:
    """count x ln(numerator / denominator), 0 for a count of 0: the limit of x ln x."""
    return count * float(log(numerator / denominator)) if count else 0.0


def _one_degree(statistic: float) -> CoverageTest:
    bounded = max(0.0, statistic)  # below 0 by rounding only
    p_value = 2.0 * float(normal_cdf(-math.sqrt(bounded)))
    return CoverageTest(bounded, p_value, CHI_SQUARE_1_CRITICAL_95)


def kupiec(violations: int, observations: int, probability: float) -> CoverageTest:
    """Proportion of failures: is the share of violations the one that was promised?

    LR = -2 ln[(1-p)^(T-x) p^x / ((1-x/T)^(T-x) (x/T)^x)], chi-square with one degree of freedom;
    p is `probability` (0.01 for 99 % confidence), T `observations`, x `violations`. ValueError
    unless 0 <= x <= T, T > 0 and 0 < p < 1. Source: P. Kupiec, Techniques for verifying the
    accuracy of risk measurement models (1995).
    """
    if not (observations > 0 and 0 <= violations <= observations):
        raise ValueError(f"{violations} violations in {observations} observations")
    if not 0.0 < probability < 1.0:
        raise ValueError(f"the probability of a violation must lie in 0 .. 1, not {probability}")
    kept = observations - violations
    promised = kept * float(log(1.0 - probability)) + violations * float(log(probability))
    seen = _times_log(kept, kept, observations) + _times_log(violations, violations, observations)
    return _one_degree(2.0 * (seen - promised))


def christoffersen(violations: Sequence[bool] | BoolArray, probability: float) -> IndependenceTest:
    """Independence and conditional coverage of a series of violations, oldest first.

    With n_ij the periods in state j that follow one in state i (1 is a violation), pi_i = n_i1 /
    (n_i0 + n_i1) and pi = (n_01 + n_11) / all:
    LR_ind = -2 ln[(1-pi)^(n_00+n_10) pi^(n_01+n_11) / product over i of (1-pi_i)^n_i0 pi_i^n_i1],
    chi-square with one degree; LR_cc = LR of `kupiec` + LR_ind, with two, for which
    P(> x) = exp(-x/2). ValueError for fewer than two periods. Source: P. Christoffersen,
    Evaluating interval forecasts (1998).
    """
    states = [1 if violation else 0 for violation in violations]
    if len(states) < 2:
        raise ValueError("independence needs at least two observations")
    count = [[0, 0], [0, 0]]
    for before, after in pairwise(states):
        count[before][after] += 1
    (n00, n01), (n10, n11) = count
    pairs, kept, violated = len(states) - 1, n00 + n10, n01 + n11
    alike = _times_log(kept, kept, pairs) + _times_log(violated, violated, pairs)
    apart = 0.0
    for quiet, hit in count:
        apart += _times_log(quiet, quiet, quiet + hit) + _times_log(hit, hit, quiet + hit)
    independence = _one_degree(2.0 * (apart - alike))
    both = kupiec(sum(states), len(states), probability).statistic + independence.statistic
    conditional = CoverageTest(both, float(exp(-0.5 * both)), CHI_SQUARE_2_CRITICAL_95)
    return IndependenceTest(independence, conditional)


def acerbi_szekely(
    loss: Float64Array,
    value_at_risk: Float64Array,
    expected_shortfall: Float64Array,
    probability: float,
) -> ShortfallTest:
    """Z2 = sum over violations of L_t / ES_t, over T p, less 1: shortfall and frequency at once.

    All arrays have shape [T] and one unit; a violation is L_t > VaR_t. 0 is expected, 1 means tail
    losses twice as heavy as promised. There is no closed p-value; the 95 % point is about 0.7 for
    T = 250 and p = 0.025 over a wide range of tails, and taken to shrink with the root of the
    violations expected, T p, as the standard deviation of Z2 does. ValueError if shapes differ, T
    is 0, p is not in 0 .. 1, or an expected shortfall under a violation is not positive. Source:
    C. Acerbi and B. Szekely, Backtesting expected shortfall (2014), sign turned so that losses
    are positive.
    """
    if not loss.shape == value_at_risk.shape == expected_shortfall.shape or not len(loss):
        raise ValueError("one loss, value at risk and expected shortfall per observation")
    if not 0.0 < probability < 1.0:
        raise ValueError(f"the probability of a violation must lie in 0 .. 1, not {probability}")
    total = 0.0
    for happened, quantile, shortfall in zip(
        loss.tolist(), value_at_risk.tolist(), expected_shortfall.tolist(), strict=True
    ):
        if happened > quantile:
            if not shortfall > 0.0:
                raise ValueError("a violation of an expected shortfall that is not positive")
            total += happened / shortfall
    expected = len(loss) * probability
    critical = _SHORTFALL_CRITICAL_95 * math.sqrt(_SHORTFALL_CRITICAL_EXPECTED / expected)
    return ShortfallTest(total / expected - 1.0, critical)


def peak_to_trough(margin: Float64Array) -> float:
    """Largest over smallest margin of a fixed portfolio over time: how procyclical a model is.

    Infinite if a margin is 0. ValueError for no margins or a negative one. Source: D. Murphy,
    M. Vasios and N. Vause, An investigation into the procyclicality of risk-based initial margin
    models (Bank of England, 2014).
    """
    values = margin.tolist()
    if not values or min(values) < 0.0:
        raise ValueError("peak to trough needs margins, none of them negative")
    return max(values) / min(values) if min(values) > 0.0 else math.inf
