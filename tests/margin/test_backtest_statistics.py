"""Kupiec, Christoffersen, Acerbi and Szekely: published figures, textbook counts, edges."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2

from margin.simulation.coverage import acerbi_szekely, christoffersen, kupiec, peak_to_trough


def test_seven_violations_in_250_days_at_one_per_cent() -> None:
    """Figures of vartests 0.4.1."""
    test = kupiec(7, 250, 0.01)
    assert test.statistic == pytest.approx(5.496990447792683, rel=1e-9)
    assert test.p_value == pytest.approx(0.019049230890526535, rel=1e-9)
    assert test.critical_95 == 3.841458820694124
    assert not test.is_passed


@pytest.mark.parametrize(("violations", "passed"), [(0, False), (1, True), (6, True), (7, False)])
def test_the_zone_of_250_days_at_one_per_cent_is_one_to_six_violations(
    violations: int, passed: bool
) -> None:
    """Kupiec (1995), table 3: not rejected for N < 7; 0 has LR 5.02."""
    assert kupiec(violations, 250, 0.01).is_passed == passed


def test_no_violation_at_all_and_nothing_but_violations_have_finite_statistics() -> None:
    assert kupiec(0, 250, 0.01).statistic == pytest.approx(-500 * math.log(0.99), rel=1e-12)
    assert kupiec(10, 10, 0.5).statistic == pytest.approx(20 * math.log(2), rel=1e-12)


def test_the_promised_share_gives_zero_and_a_p_value_of_one() -> None:
    test = kupiec(5, 500, 0.01)
    assert test.statistic == pytest.approx(0, abs=1e-12)
    assert test.p_value == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("violations", range(0, 60, 3))
def test_p_values_are_those_of_chi_square(violations: int) -> None:
    test = kupiec(violations, 1000, 0.02)
    assert test.p_value == pytest.approx(chi2.sf(test.statistic, 1), rel=1e-9, abs=1e-300)
    series = [k < violations for k in range(1000)]
    both = christoffersen(series, 0.02).conditional_coverage
    assert both.p_value == pytest.approx(chi2.sf(both.statistic, 2), rel=1e-9, abs=1e-300)
    assert both.critical_95 == pytest.approx(chi2.isf(0.05, 2), rel=1e-12)


@pytest.mark.parametrize(
    ("violations", "observations", "probability"), [(3, 2, 0.1), (-1, 2, 0.1), (0, 0, 0.1),
                                                    (1, 2, 0.0), (1, 2, 1.0)],
)  # fmt: skip
def test_counts_that_cannot_be_are_refused(
    violations: int, observations: int, probability: float
) -> None:
    with pytest.raises(ValueError, match="violation"):
        kupiec(violations, observations, probability)


def transition_likelihood(series: list[bool]) -> float:
    """LR of independence by the definition, with logarithms of the library."""
    pairs = list(pairwise(series))
    count = {key: pairs.count(key) for key in [(a, b) for a in (0, 1) for b in (0, 1)]}

    def likelihood(quiet: int, hit: int, share: float) -> float:
        return (quiet * math.log(1 - share) if quiet else 0) + (hit * math.log(share) if hit else 0)

    hits = count[0, 1] + count[1, 1]
    alike = likelihood(len(pairs) - hits, hits, hits / len(pairs))
    apart = 0.0
    for state in (0, 1):
        quiet, hit = count[state, 0], count[state, 1]
        if quiet + hit:
            apart += likelihood(quiet, hit, hit / (quiet + hit))
    return 2 * (apart - alike)


@pytest.mark.parametrize("seed", range(8))
def test_independence_follows_the_counts_of_transitions(seed: int) -> None:
    chance = random.Random(seed)
    series = [chance.random() < 0.05 for _ in range(400)]
    test = christoffersen(series, 0.05)
    expected = max(0.0, transition_likelihood(series))
    assert test.independence.statistic == pytest.approx(expected, abs=1e-10)
    whole = test.independence.statistic + kupiec(sum(series), 400, 0.05).statistic
    assert test.conditional_coverage.statistic == whole


def test_ten_violations_in_a_row_are_not_independent_though_their_number_is_right() -> None:
    spread = [n % 100 == 50 for n in range(1000)]
    clustered = [500 <= n < 510 for n in range(1000)]
    assert christoffersen(spread, 0.01).independence.is_passed
    test = christoffersen(clustered, 0.01)
    assert kupiec(10, 1000, 0.01).is_passed
    assert not test.independence.is_passed
    assert not test.conditional_coverage.is_passed


def test_a_series_without_violations_is_independent_and_one_period_is_too_few() -> None:
    assert christoffersen([False] * 50, 0.01).independence.statistic == 0
    with pytest.raises(ValueError, match="two observations"):
        christoffersen([True], 0.01)


def test_shortfall_is_zero_when_tail_losses_are_as_promised_and_one_when_twice() -> None:
    loss = np.zeros(1000)
    loss[:10] = 5.0
    quantile, shortfall = np.full(1000, 4.0), np.full(1000, 5.0)
    assert acerbi_szekely(loss, quantile, shortfall, 0.01).statistic == pytest.approx(0, abs=1e-12)
    doubled = acerbi_szekely(2 * loss, quantile, shortfall, 0.01)
    assert doubled.statistic == pytest.approx(1)
    assert not doubled.is_passed
    assert acerbi_szekely(loss * 0, quantile, shortfall, 0.01).statistic == -1


def test_the_critical_value_of_the_shortfall_test_is_the_published_one_at_250_days() -> None:
    one = np.ones(250)
    assert acerbi_szekely(one, one, one, 0.025).critical_95 == pytest.approx(0.7)
    long = np.ones(1000)
    assert acerbi_szekely(long, long, long, 0.025).critical_95 == pytest.approx(0.35)


def test_five_per_cent_of_right_models_are_rejected_by_the_shortfall_test() -> None:
    """Student's t with five degrees of freedom, whose quantile and shortfall are known."""
    generator = np.random.Generator(np.random.PCG64(7))
    sample = generator.standard_t(5, 400_000)
    quantile, probability = 2.5705818366147395, 0.025
    shortfall = float(sample[sample > quantile].mean())
    rejected = 0
    for _ in range(1000):
        loss = generator.standard_t(5, 1000)
        test = acerbi_szekely(loss, np.full(1000, quantile), np.full(1000, shortfall), probability)
        rejected += not test.is_passed
    assert 25 <= rejected <= 80


def test_a_violation_of_a_shortfall_that_is_not_positive_is_refused() -> None:
    one = np.ones(3)
    with pytest.raises(ValueError, match="not positive"):
        acerbi_szekely(one, 0 * one, 0 * one, 0.01)


def test_peak_to_trough_is_the_largest_margin_over_the_smallest() -> None:
    assert peak_to_trough(np.array([2.0, 8.0, 4.0])) == 4.0
    assert peak_to_trough(np.array([0.0, 1.0])) == math.inf
    with pytest.raises(ValueError, match="negative"):
        peak_to_trough(np.array([-1.0, 1.0]))


def test_a_loss_of_just_the_value_at_risk_is_no_violation() -> None:
    at, beyond = (
        acerbi_szekely(np.array([loss]), np.array([1.0]), np.array([2.0]), 0.5)
        for loss in (1.0, 1.5)
    )
    assert at.statistic == -1.0
    assert beyond.statistic == pytest.approx(1.5 / 2.0 / 0.5 - 1.0)
