"""Value at risk and expected shortfall of weighted scenarios: the twin, and the laws."""

from __future__ import annotations

import random
from fractions import Fraction
from math import ceil

import numpy as np
import pytest

from margin.invariant import Int64Array, InvariantBroken
from margin.simulation.tail_measures import tail_measures
from tests.reference.reference_simulation import tail

LEVELS = [500_000_000, 900_000_000, 975_000_000, 990_000_000, 997_500_000, 999_900_000]


def random_case(seed: int, size: int = 2**45) -> tuple[Int64Array, Int64Array]:
    """Rows of profits with many ties, and weights."""
    chance = random.Random(seed)
    count = chance.randint(1, 120)
    weights = np.array([chance.randint(1, 9) for _ in range(count)], np.int64)
    rows = [
        [chance.choice((chance.randint(-size, size), -7, 0, 5)) for _ in range(count)]
        for _ in range(8)
    ]
    return np.array(rows, np.int64), weights


def measures(profit: Int64Array, weight: Int64Array, level_ppb: int) -> tuple[list[int], list[int]]:
    value, shortfall = tail_measures(profit, weight, level_ppb)
    return value.tolist(), shortfall.tolist()


@pytest.mark.parametrize("level_ppb", LEVELS)
@pytest.mark.parametrize("seed", range(6))
def test_measures_equal_exact_fractions(seed: int, level_ppb: int) -> None:
    profit, weight = random_case(seed)
    value, shortfall = measures(profit, weight, level_ppb)
    for row, var, es in zip(profit.tolist(), value, shortfall, strict=True):
        losses = [-p for p in row]
        expected = tail(losses, weight.tolist(), Fraction(level_ppb, 10**9))
        assert (var, es) == (expected[0], ceil(expected[1]))


def test_the_largest_profits_that_are_allowed_do_not_wrap() -> None:
    profit = np.full((1, 500), 2**62 - 1, np.int64)
    profit[0, :250] = -(2**62 - 1)
    value, shortfall = measures(profit, np.ones(500, np.int64), 990_000_000)
    assert value == shortfall == [2**62 - 1]


def test_ninety_nine_of_a_hundred_equal_scenarios_is_the_worst_of_them() -> None:
    profit = -np.arange(1, 101).reshape(1, -1)
    assert measures(profit, np.ones(100, np.int64), 990_000_000) == ([100], [100])
    assert measures(profit, np.ones(100, np.int64), 975_000_000) == ([98], [100])  # ceil(99.2)


def test_a_scenario_that_weighs_double_counts_as_two() -> None:
    profit = np.array([[-9, -4, -1, 3]])
    doubled = np.array([[-9, -9, -4, -1, 3, 3, 3]])
    weight = np.array([2, 1, 1, 3])
    for level in LEVELS:
        assert measures(profit, weight, level) == measures(doubled, np.ones(7, np.int64), level)


@pytest.mark.parametrize("seed", range(10))
def test_shortfall_is_never_below_value_at_risk_and_both_rise_with_the_level(seed: int) -> None:
    profit, weight = random_case(seed)
    last_value, last_shortfall = [-(2**62)] * 8, [-(2**62)] * 8
    for level in LEVELS:
        value, shortfall = measures(profit, weight, level)
        assert all(a <= b for a, b in zip(value, shortfall, strict=True))
        assert all(a <= b for a, b in zip(last_value, value, strict=True))
        assert all(a <= b for a, b in zip(last_shortfall, shortfall, strict=True))
        last_value, last_shortfall = value, shortfall


@pytest.mark.parametrize("seed", range(10))
def test_seven_times_the_position_needs_seven_times_as_much_but_for_rounding(seed: int) -> None:
    profit, weight = random_case(seed)
    for level in LEVELS:
        value, shortfall = measures(profit, weight, level)
        more_value, more_shortfall = measures(7 * profit, weight, level)
        assert more_value == [7 * v for v in value]
        for one, seven in zip(shortfall, more_shortfall, strict=True):
            assert 7 * (one - 1) < seven <= 7 * one


@pytest.mark.parametrize("seed", range(10))
def test_the_shortfall_of_a_sum_is_at_most_the_sum_of_shortfalls(seed: int) -> None:
    profit, weight = random_case(seed)
    for level in LEVELS:
        apart = measures(profit, weight, level)[1]
        for a in range(8):
            for b in range(a):
                both = measures(profit[a : a + 1] + profit[b : b + 1], weight, level)[1][0]
                assert both <= apart[a] + apart[b]


def test_value_at_risk_of_a_sum_can_be_more_than_the_sum() -> None:
    """Why requirements rest on the shortfall."""
    first, second = np.zeros((1, 100), np.int64), np.zeros((1, 100), np.int64)
    first[0, :3], second[0, 3:6] = -100, -100
    weight = np.ones(100, np.int64)
    alone = [measures(p, weight, 960_000_000)[0][0] for p in (first, second)]
    assert alone == [0, 0]
    assert measures(first + second, weight, 960_000_000)[0] == [100]


@pytest.mark.parametrize("level_ppb", [0, 10**9])
def test_a_level_without_a_tail_is_refused(level_ppb: int) -> None:
    with pytest.raises(InvariantBroken, match="level"):
        tail_measures(np.zeros((1, 1), np.int64), np.ones(1, np.int64), level_ppb)


def test_weights_must_be_positive_and_one_per_scenario() -> None:
    with pytest.raises(InvariantBroken, match="positive"):
        tail_measures(np.zeros((1, 2), np.int64), np.array([1, 0]), 990_000_000)
    with pytest.raises(InvariantBroken, match="one weight"):
        tail_measures(np.zeros((1, 2), np.int64), np.array([1]), 990_000_000)
