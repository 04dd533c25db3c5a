"""Margin of the cycles to come: paths of variance and range, the floor, the chance of a call."""

from __future__ import annotations

import random
from itertools import pairwise
from math import erfc, sqrt
from typing import Any

import msgspec
import numpy as np
import pytest

from margin.forecasts.forecast import Ewma, Forecaster, Garch, Har, run, start
from margin.forecasts.predictive import (
    TailLaw,
    call_probabilities_ppb,
    forecast_initial_minor,
    growth_minor,
    growth_ppb,
    horizon_volatility_e9,
    mean_growth_ppb,
    range_path_e9,
    variance_path_e18,
)
from margin.forecasts.ranges import opening, period_variance_e18, range_terms, step
from margin.invariant import InvariantBroken
from margin.presets import load_preset
from margin.presets.dynamic_sections import GarchRule
from margin.presets.preset import NamedRate
from tests.margin.readme_page import FLAT
from tests.reference import reference_predictive

E9 = 10**9
MINUTE = 60 * 10**9
USD = 10**6
DYNAMIC = load_preset("ps-1-dynamic")


def terms_of(**parts: Any) -> Any:
    section = msgspec.structs.replace(DYNAMIC.dynamic, **parts)
    return range_terms(msgspec.structs.replace(DYNAMIC, dynamic=section), ("BTC", "ETH"))


def test_an_ewma_expects_what_it_knows_and_a_garch_returns_to_its_long_run() -> None:
    assert variance_path_e18(Ewma(970_000_000), [7], 4) == [7, 7, 7, 7]
    garch = Garch(10**10, 100_000_000, 800_000_000)  # long run 10^11
    path = variance_path_e18(garch, [3 * 10**11], 60)
    assert path[:3] == [300_000_000_000, 280_000_000_000, 262_000_000_000]
    assert path[-1] == pytest.approx(10**11, rel=0.01)


@pytest.mark.parametrize(
    "forecaster",
    [Garch(10**10, 80_000_000, 900_000_000), Har(10**10, 300_000_000, 300_000_000, 300_000_000)],
)
def test_a_path_is_what_the_forecaster_says_if_every_move_is_as_expected(
    forecaster: Forecaster,
) -> None:
    memory = start(forecaster, np.array([4 * 10**14], np.int64))
    expected = variance_path_e18(forecaster, memory[:, 0].tolist(), 30)
    for variance in expected[:-1]:
        move = round(sqrt(variance))
        run(forecaster, memory, np.array([[move]], np.int64))
    assert int(memory[0, 0]) == pytest.approx(expected[-1], rel=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_the_range_path_is_the_one_that_a_market_as_forecast_takes(seed: int) -> None:
    """GARCH, caps of cycle and day, a boundary every third cycle: step by step and at once."""
    dice = random.Random(seed)
    rule = GarchRule(long_run=(NamedRate(name="default", rate_e9=E9),), alpha_ppb=100_000_000,
                     beta_ppb=880_000_000)  # fmt: skip
    terms = terms_of(ewma=None, garch=rule, implied=None, day_rise_ppb=400_000_000)
    state = opening(terms, [400_000_000, 700_000_000])
    now, price = 86_400 * 10**9 - 45 * MINUTE, [10**12, 10**11]
    for _ in range(20):
        now += 20 * 10**9
        price = [p * (E9 + dice.randint(-(10**7), 10**7)) // E9 for p in price]
        step(terms, state, now, price, [True] * 2)
    path = range_path_e9(terms, state, now, 20 * 10**9, 400)
    for ranges in path:
        now += 20 * 10**9
        crossed = now // MINUTE != (now - 20 * 10**9) // MINUTE
        if crossed:  # a move of one expected deviation, from the price of the last boundary
            price = [
                int(p) * (E9 + round(sqrt(v))) // E9
                for p, v in zip(state.price_e8.tolist(), state.memory[0].tolist(), strict=True)
            ]
        step(terms, state, now, price, [True] * 2)
        assert ranges == pytest.approx(state.range_e9.tolist(), rel=1e-4)


def test_growth_is_the_most_of_any_unit_and_never_below_one() -> None:
    assert growth_ppb([100, 200], [[90, 190], [80, 100]]) == E9
    assert growth_ppb([100, 300], [[90, 301], [125, 300]]) == 1_250_000_000
    assert growth_ppb([3, 3], [[3, 4]]) == 1_333_333_334


def test_the_mean_growth_counts_cycles_below_today_as_today() -> None:
    assert mean_growth_ppb([100, 200], [[90, 190], [80, 100]]) == E9
    assert mean_growth_ppb([100, 300], [[90, 301], [125, 300], [150, 300]]) == 1_251_111_112
    path = [[dice, 100] for dice in (70, 130, 180, 110)]
    assert mean_growth_ppb([100, 100], path) <= growth_ppb([100, 100], path)


def forecast(initial: int, worst: int, growth: int, after: int = 0, funding: int = 0) -> int:
    """Of one pool whose worst loss is charged whole."""
    columns = [np.array([x], np.int64) for x in (initial, worst, after, funding)]
    return int(forecast_initial_minor(columns[0], columns[1], E9, growth, *columns[2:])[0])


@pytest.mark.parametrize("seed", range(3))
def test_the_forecast_is_never_below_today_s_margin_and_that_of_the_slow_twin(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(20):
        factor, growth = dice.randint(1, 2 * E9), dice.randint(E9, 3 * E9)
        initial = [dice.randrange(10**15) for _ in range(50)]
        worst = [dice.randrange(most + 1) for most in initial]
        after = [dice.randrange(10**15) for _ in range(50)]
        due = [dice.randint(-(10**9), 10**9) for _ in range(50)]
        columns = [np.array(x, np.int64) for x in (initial, worst, after, due)]
        found = forecast_initial_minor(columns[0], columns[1], factor, growth, *columns[2:])
        assert (found >= columns[0]).all()
        more = growth_minor(columns[1], factor, growth)
        assert ((more >= 0) & (more <= found - columns[0])).all()
        assert found.tolist() == [
            reference_predictive.forecast_initial(*row[:2], factor, growth, *row[2:])
            for row in zip(initial, worst, after, due, strict=True)
        ]
    with pytest.raises(InvariantBroken):
        forecast(10, 10, E9 - 1)


def test_a_worked_forecast() -> None:
    """Initial 1,000 of which 900 is the worst loss; ranges grow by a tenth; 5 of funding."""
    assert forecast(1000 * USD, 900 * USD, 1_100_000_000) == 1_090 * USD
    assert forecast(1000 * USD, 900 * USD, 1_100_000_000, 1_200 * USD, 5 * USD) == 1_325 * USD
    # without what expires it would be 1,200, and grow to 1,320


NORMAL, SHIPPED = TailLaw(E9, 0), TailLaw(1_100_000_000, 4)


def chance(
    slopes: list[int], bends: list[int], cushion: int, law: TailLaw = NORMAL,
    rho: list[list[int]] | None = None, cycles: int = 60,
) -> int:  # fmt: skip
    """Of one pool, in whole USD."""
    one = [np.array([column], np.int64) * USD for column in (slopes, bends)]
    matrix = np.array(rho or [[E9] * len(slopes)] * len(slopes), np.int64)
    matrix = matrix.reshape(len(slopes), len(slopes))
    cushions = np.array([cushion * USD], np.int64)
    return int(call_probabilities_ppb(one[0], one[1], matrix, cushions, law, cycles)[0])


def test_a_worked_probability() -> None:
    """Long 100,000 USD of which 16 % are margin, at 2 %: 1,680 a deviation; a cushion of 4,200.

    2.5 deviations, and 0.0752 for what 60 cycles do not see; Student's t of four degrees with 1.1
    times the deviation: 2.2727 and 0.0752, times root 2.
    """
    assert chance([1_680], [0], 4_200) == 10_017_839
    assert chance([1_680], [0], 4_200) == pytest.approx(
        2 * normal(-2.5 - 0.5825971579 / sqrt(60)) * E9, abs=2
    )
    assert chance([1_680], [0], 4_200, SHIPPED) == 29_365_121
    assert "1.0017839 % under the normal law, with 2.9365121 % under the shipped one" in FLAT
    section = DYNAMIC.predictive
    assert section is not None
    assert TailLaw(section.fat_tail_e9, section.tail_freedom) == SHIPPED
    assert "`ps-1-dynamic`: 4 degrees, `fat_tail` 1.1." in FLAT


@pytest.mark.parametrize("seed", range(4))
def test_random_probabilities_are_those_of_the_slow_twin(seed: int) -> None:
    """Roots by bisection, Student's t by quadrature of its density."""
    dice = random.Random(seed)
    for _ in range(40):
        units = dice.randint(1, 3)
        slopes = [dice.randint(-5_000, 5_000) for _ in range(units)]
        bends = [dice.choice([0, dice.randint(-2_000, 800)]) for _ in range(units)]
        pairs = dice.randint(-300, 900) * 10**6
        rho = [[E9 if i == j else pairs for j in range(units)] for i in range(units)]
        law = TailLaw(dice.randint(E9, 2 * E9), dice.choice([0, 4, 6, 12]))
        cushion, cycles = dice.randint(-100, 20_000), dice.randint(1, 100)
        said = chance(slopes, bends, cushion, law, rho, cycles)
        exact = reference_predictive.call_probability(
            slopes, bends, rho, cushion, law.fat_tail_e9, law.freedom, cycles
        )
        assert said / E9 == pytest.approx(exact, abs=2e-7), (slopes, bends, cushion, law)


def normal(x: float) -> float:
    return 0.5 * erfc(-x / sqrt(2))


def test_a_probability_falls_with_equity_and_rises_with_short_gamma_and_fat_tails() -> None:
    path = [chance([2_000], [0], cushion) for cushion in range(0, 20_000, 500)]
    assert path[0] == E9
    assert all(a >= b for a, b in pairwise(path))
    assert chance([2_000], [-300], 5_000) > chance([2_000], [0], 5_000)
    assert chance([2_000], [300], 5_000) < chance([2_000], [0], 5_000)
    assert chance([2_000], [0], 5_000, SHIPPED) > chance([2_000], [0], 5_000)
    assert chance([2_000], [0], -1) == chance([2_000], [0], 0) == E9
    assert chance([0], [0], 1) == 0
    assert chance([100], [1_000], 5) == 0, "gains from gamma hold it above nothing"


def test_the_more_often_it_is_looked_the_likelier_a_call_is_seen() -> None:
    path = [chance([2_000], [0], 3_000, cycles=cycles) for cycles in (1, 5, 24, 1000, 10**6)]
    assert path == sorted(path)
    assert path[-1] == pytest.approx(2 * normal(-1.5) * E9, rel=2e-3)


def test_hedged_coins_are_called_less_often_than_coins_that_fall_together() -> None:
    def pair(second: int, rho: int) -> int:
        return chance([2_000, second], [0, 0], 6_000, NORMAL, [[E9, rho], [rho, E9]])

    assert pair(-2_000, 900_000_000) < pair(-2_000, 0) < pair(2_000, 900_000_000)
    assert pair(-2_000, E9) == 0, "nothing is left to move"


@pytest.mark.parametrize(("slope", "bend"), [(3_000, 0), (1_800, -220), (0, -900), (-2_000, 150)])
@pytest.mark.parametrize("cushion", [2_000, 4_000])
def test_normal_paths_are_called_as_often_as_the_probability_says(
    slope: int, bend: int, cushion: int
) -> None:
    """20,000 paths of 50 cycles: within 1 % and three standard errors, both sides counted."""
    generator = np.random.default_rng(5)
    walk = generator.normal(0, 1 / sqrt(50), (20_000, 50)).cumsum(axis=1)
    lowest = (slope * walk + bend * walk**2).min(axis=1)
    seen = float((lowest < -cushion).mean())
    said = chance([slope], [bend], cushion, cycles=50) / E9
    assert abs(said - seen) < 0.01 + 3 * sqrt(seen / 20_000)


def test_student_s_law_has_the_deviation_it_is_given() -> None:
    """P(|t| > 2.776) = 5 % at four degrees, whose deviation is root 2 (tables of Student's t)."""
    barrier = round(2.7764451 / sqrt(2) * 10**6)
    one = np.array([[10**6]], np.int64)
    found = call_probabilities_ppb(
        one, one * 0, one * 1000, np.array([barrier], np.int64), TailLaw(E9, 4), 10**12
    )
    assert int(found[0]) == pytest.approx(0.05 * E9, rel=1e-5)


def test_a_horizon_is_as_volatile_as_its_periods_together() -> None:
    variance = period_variance_e18(600_000_000, 60)
    day = horizon_volatility_e9([variance] * 1440, 60, 86_400 * 10**9)
    assert day == pytest.approx(0.6 / sqrt(365) * E9, rel=1e-6)
    half = horizon_volatility_e9([variance], 60, 30 * 10**9)
    assert half == pytest.approx(sqrt(variance / 2), abs=2)
