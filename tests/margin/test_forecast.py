"""Forecasts of volatility in integers, against the recursions in fractions."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt

import numpy as np
import pytest

from margin.fixed_point import RATE_SCALE, integer_root
from margin.forecasts.forecast import (
    DAYS_OF_MONTH,
    DAYS_OF_WEEK,
    MOST_RETURN_E9,
    Ewma,
    Forecaster,
    Garch,
    Har,
    run,
    start,
    volatility_e9,
)
from margin.invariant import InvariantBroken
from tests.reference.reference_forecasts import HarTwin

EWMA = Ewma(970_000_000)
GARCH = Garch(9_000_000_000_000, 80_000_000, 910_000_000)
HAR = Har(0, 400_000_000, 300_000_000, 300_000_000)


def in_fractions(forecaster: Forecaster, opening: int, moves: list[int]) -> list[Fraction]:
    """The textbook recursions, without rounding."""
    variance = [Fraction(opening)]
    past = [Fraction(opening)] * DAYS_OF_MONTH
    for move in moves:
        square = Fraction(max(-MOST_RETURN_E9, min(MOST_RETURN_E9, move))) ** 2
        past = [square, *past[:-1]]
        if isinstance(forecaster, Ewma):
            decay = Fraction(forecaster.decay_ppb, RATE_SCALE)
            following = decay * variance[-1] + (1 - decay) * square
        elif isinstance(forecaster, Garch):
            alpha, beta = (
                Fraction(x, RATE_SCALE) for x in (forecaster.alpha_ppb, forecaster.beta_ppb)
            )
            following = forecaster.omega_e18 + alpha * square + beta * variance[-1]
        else:
            weights = (forecaster.day_ppb, forecaster.week_ppb, forecaster.month_ppb)
            means = (square, sum(past[:DAYS_OF_WEEK]) / DAYS_OF_WEEK, sum(past) / DAYS_OF_MONTH)
            following = forecaster.constant_e18 + sum(
                Fraction(w, RATE_SCALE) * mean for w, mean in zip(weights, means, strict=True)
            )
        variance.append(min(following, Fraction(10**18)))
    return variance


@pytest.mark.parametrize("forecaster", [EWMA, GARCH, HAR])
@pytest.mark.parametrize("seed", range(5))
def test_integers_follow_the_recursion_to_a_millionth(forecaster: Forecaster, seed: int) -> None:
    moves = np.random.default_rng(seed).normal(0, 3e7, 300).astype(np.int64)
    opening = np.array([9 * 10**14], np.int64)
    found = run(forecaster, start(forecaster, opening), moves[:, None])[:, 0]
    exact = in_fractions(forecaster, int(opening[0]), moves.tolist())
    assert all(
        abs(int(a) - b) <= b / 10**6 + 60 for a, b in zip(found.tolist(), exact, strict=True)
    )


@pytest.mark.parametrize("seed", range(3))
def test_har_is_its_slow_twin_to_the_last_digit(seed: int) -> None:
    moves = np.random.default_rng(seed).normal(0, 3e7, 120).astype(np.int64)
    har = Har(10**11, 350_000_000, 300_000_000, 250_000_000)
    twin = HarTwin(10**11, 350_000_000, 300_000_000, 250_000_000, 9 * 10**14)
    memory = start(har, np.array([9 * 10**14], np.int64))
    found = run(har, memory, moves[:, None])[:, 0].tolist()
    assert found[1:] == [twin.move(move) for move in moves.tolist()]


@pytest.mark.parametrize("forecaster", [EWMA, GARCH, HAR])
def test_a_memory_that_was_put_away_forecasts_on_as_if_nothing_happened(
    forecaster: Forecaster,
) -> None:
    moves = np.random.default_rng(1).normal(0, 3e7, (80, 3)).astype(np.int64)
    opening = np.full(3, 10**14, np.int64)
    whole = run(forecaster, start(forecaster, opening), moves)
    memory = start(forecaster, opening)
    first = run(forecaster, memory, moves[:33])
    second = run(forecaster, np.array(memory.tolist(), np.int64), moves[33:])
    assert np.array_equal(whole, np.concatenate((first, second[1:])))


def test_a_move_counts_as_at_most_all_of_the_price() -> None:
    memory = start(EWMA, np.zeros(1, np.int64))
    assert run(EWMA, memory, np.array([[5 * RATE_SCALE]], np.int64))[1, 0] == 3 * 10**16


def test_a_silent_market_s_garch_variance_comes_back_to_its_mean() -> None:
    mean = 9_000_000_000_000 * 100
    memory = start(GARCH, np.array([mean], np.int64))
    same = np.array([[isqrt(mean)]] * 50, np.int64)
    assert abs(int(run(GARCH, memory, same)[-1, 0]) - mean) < mean // 10**6


@pytest.mark.parametrize("x", [0, 1, 2, 3, 4, 8, 9, 10**18 - 1, 10**18, 2**62 - 1])
def test_integer_root_is_the_largest_whose_square_fits(x: int) -> None:
    assert integer_root(x) == isqrt(x)


def test_volatility_is_the_root_rounded_down() -> None:
    assert volatility_e9(np.array([[9 * 10**14, 24]], np.int64)).tolist() == [[30_000_000, 4]]


def test_terms_out_of_range_are_refused() -> None:
    with pytest.raises(InvariantBroken, match="below 1"):
        Garch(0, 500_000_000, 500_000_000)
    with pytest.raises(InvariantBroken, match="decay"):
        Ewma(RATE_SCALE)
    with pytest.raises(InvariantBroken, match="add up"):
        Har(0, RATE_SCALE, 1, 0)
    with pytest.raises(InvariantBroken, match="variance"):
        start(EWMA, np.array([-1], np.int64))


@pytest.mark.parametrize("forecaster", [Garch(10**18, 0, 900_000_000), Har(10**18, 0, 0, 10**9)])
def test_no_variance_is_above_that_of_a_move_of_the_whole_price(forecaster: Forecaster) -> None:
    memory = start(forecaster, np.array([10**17], np.int64))
    path = run(forecaster, memory, np.full((60, 1), MOST_RETURN_E9, np.int64))
    assert path[1:].tolist() == [[10**18]] * 60
