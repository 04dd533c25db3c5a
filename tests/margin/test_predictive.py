"""Margin of the cycles to come: paths of variance and range, the floor, the chance of a call."""

from __future__ import annotations

import random
from itertools import pairwise
from math import erfc, sqrt
from typing import Any

import msgspec
import numpy as np
import pytest

from margin.dynamic import opening, period_variance_e18, range_terms, step
from margin.dynamic_sections import GarchRule
from margin.forecast import Ewma, Forecaster, Garch, Har, run, start
from margin.invariant import InvariantBroken
from margin.predictive import (
    UnitRisk,
    call_probability_ppb,
    forecast_initial_minor,
    growth_minor,
    growth_ppb,
    horizon_volatility_e9,
    range_path_e9,
    variance_path_e18,
)
from margin.preset import NamedRate
from margin.presets import load_preset

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


def test_the_forecast_is_never_below_today_s_margin() -> None:
    dice = random.Random(9)
    for _ in range(1000):
        initial, growth = dice.randrange(10**15), dice.randint(E9, 3 * E9)
        worst = dice.randrange(initial + 1)
        found = forecast_initial_minor(
            initial, worst, E9, growth, dice.randrange(10**15), dice.randint(-(10**9), 10**9)
        )
        assert found >= initial
        more = growth_minor(np.array([worst], np.int64), E9, growth)
        assert 0 <= more[0] <= found - initial
    with pytest.raises(InvariantBroken):
        forecast_initial_minor(10, 10, E9, E9 - 1)


def test_a_worked_forecast() -> None:
    """Initial 1,000 of which 900 is the worst loss; ranges grow by a tenth; 5 of funding."""
    assert forecast_initial_minor(1000 * USD, 900 * USD, E9, 1_100_000_000) == 1_090 * USD
    assert (
        forecast_initial_minor(1000 * USD, 900 * USD, E9, 1_100_000_000, 1_200 * USD, 5 * USD)
        == 1_325 * USD
    )  # without what expires it would be 1,200, and grow to 1,320


def normal(x: float) -> float:
    return 0.5 * erfc(-x / sqrt(2))


def test_a_worked_probability() -> None:
    """Long 100,000 USD at 2 %: a cushion of 5,000 is 2.5 deviations, 1.67 with fat tails of 1.5."""
    unit = [UnitRisk(100_000 * USD, 0, 20_000_000)]
    plain = call_probability_ppb(unit, [[E9]], 5_000 * USD, E9)
    assert plain == pytest.approx(2 * normal(-2.5) * E9, abs=2)
    assert plain == 12_419_332
    fat = call_probability_ppb(unit, [[E9]], 5_000 * USD, 1_500_000_000)
    assert fat == pytest.approx(2 * normal(-5 / 3) * E9, abs=2)
    assert fat == 95_580_706


def test_a_probability_falls_with_equity_and_rises_with_short_gamma_and_fat_tails() -> None:
    def chance(cushion: int, gamma: int = 0, fat: int = E9) -> int:
        return call_probability_ppb(
            [UnitRisk(100_000 * USD, gamma, 20_000_000)], [[E9]], cushion * USD, fat
        )

    path = [chance(cushion) for cushion in range(0, 20_000, 500)]
    assert path[0] == E9
    assert all(a >= b for a, b in pairwise(path))
    assert chance(5_000, -(10**6) * USD) > chance(5_000) > chance(5_000, 10**6 * USD)
    assert chance(5_000, 0, 2 * E9) > chance(5_000)
    assert chance(-1) == chance(0) == E9
    assert call_probability_ppb([], [], 1, E9) == 0


def test_hedged_coins_are_called_less_often_than_coins_that_fall_together() -> None:
    def chance(second: int, rho: int) -> int:
        units = [UnitRisk(100_000 * USD, 0, 20_000_000), UnitRisk(second * USD, 0, 20_000_000)]
        return call_probability_ppb(units, [[E9, rho], [rho, E9]], 6_000 * USD, E9)

    assert chance(-100_000, 900_000_000) < chance(-100_000, 0) < chance(100_000, 900_000_000)
    assert chance(-100_000, E9) == 0, "nothing is left to move"


@pytest.mark.parametrize(("delta", "gamma"), [(100_000, 0), (60_000, -500_000), (0, -2_000_000)])
def test_simulated_calls_are_no_more_frequent_than_the_probability_says(
    delta: int, gamma: int
) -> None:
    """20,000 normal paths of 50 cycles; the bound holds and is not idle."""
    generator = np.random.default_rng(5)
    steps = generator.normal(0, 0.03 / sqrt(50), (20_000, 50)).cumsum(axis=1)
    lowest = (delta * steps + 0.5 * gamma * steps**2).min(axis=1)
    unit = [UnitRisk(delta * USD, gamma * USD, 30_000_000)]
    for cushion in (2_000, 4_000):
        seen = float((lowest < -cushion).mean())
        said = call_probability_ppb(unit, [[E9]], cushion * USD, 1_500_000_000) / E9
        assert said > seen - 3 * sqrt(seen / 20_000)
        assert said < 0.1 + 4 * seen


def test_a_horizon_is_as_volatile_as_its_periods_together() -> None:
    variance = period_variance_e18(600_000_000, 60)
    day = horizon_volatility_e9([variance] * 1440, 60, 86_400 * 10**9)
    assert day == pytest.approx(0.6 / sqrt(365) * E9, rel=1e-6)
    half = horizon_volatility_e9([variance], 60, 30 * 10**9)
    assert half == pytest.approx(sqrt(variance / 2), abs=2)
