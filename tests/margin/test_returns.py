"""Joint returns, the EWMA filter and overlapping horizons against plain Python."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from margin.invariant import Int64Array, InvariantBroken
from margin.simulation.returns import (
    ewma_volatility,
    join,
    log_returns,
    long_run_volatility,
    moves_e9,
    overlapping_sums,
    rescale,
)
from tests.reference.reference_simulation import filtered_returns, forecasts, sums_ending_last


def column(*values: int) -> Int64Array:
    return np.array(values, dtype=np.int64)


def walk(seed: int, count: int) -> list[int]:
    chance = random.Random(seed)
    price = 10**12
    path = []
    for _ in range(count):
        price = round(price * math.exp(chance.gauss(0, 0.03)))
        path.append(price)
    return path


def test_only_dates_that_every_factor_has_are_joint() -> None:
    spot = (column(1, 2, 3, 5, 6), column(10, 20, 30, 50, 60))
    volatility = (column(2, 3, 4, 6), column(7, 8, 9, 11))
    time_ns, level = join([spot, volatility])
    assert time_ns.tolist() == [2, 3, 6]
    assert level.tolist() == [[20, 7], [30, 8], [60, 11]]


@pytest.mark.parametrize(
    ("time_ns", "level"),
    [(column(1, 1), column(5, 5)), (column(2, 1), column(5, 5)), (column(1, 2), column(5, 0))],
)
def test_a_series_with_repeated_or_falling_times_or_no_level_cannot_be_joined(
    time_ns: Int64Array, level: Int64Array
) -> None:
    with pytest.raises(InvariantBroken):
        join([(time_ns, level)])


def test_a_return_is_the_logarithm_of_the_ratio_whatever_the_scale_of_the_level() -> None:
    level = column(100, 110, 99).reshape(-1, 1)
    expected = [math.log(1.1), math.log(0.9)]
    assert log_returns(level)[:, 0].tolist() == pytest.approx(expected, rel=1e-14)
    assert log_returns(level * 10**9).tolist() == log_returns(level).tolist()


@pytest.mark.parametrize("decay", [0.94, 0.97, 0.99])
def test_a_forecast_is_the_recursion_of_the_returns_before_it(decay: float) -> None:
    returns = log_returns(column(*walk(3, 200)).reshape(-1, 1))
    expected = forecasts(returns[:, 0].tolist(), decay, 20)
    assert ewma_volatility(returns, decay, 20)[:, 0].tolist() == pytest.approx(expected, rel=1e-12)


def test_a_forecast_after_the_seed_knows_nothing_of_what_comes() -> None:
    returns = log_returns(column(*walk(4, 100)).reshape(-1, 1))
    changed = returns.copy()
    changed[60:] *= 5.0
    before, after = (ewma_volatility(r, 0.97, 20)[:61] for r in (returns, changed))
    assert before.tolist() == after.tolist()


def test_the_long_run_volatility_weighs_all_returns_alike() -> None:
    returns = np.array([[0.1], [-0.2], [0.2]])
    assert long_run_volatility(returns)[0] == pytest.approx(math.sqrt(0.03), rel=1e-14)


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_a_filtered_return_is_brought_to_the_volatility_of_today_or_the_floor(floor: float) -> None:
    path = walk(5, 300)
    returns = log_returns(column(*path).reshape(-1, 1))
    volatility = ewma_volatility(returns, 0.97, 50)
    scaled = rescale(returns, volatility[:-1], volatility[-1], np.array([floor]), 10.0)
    expected = filtered_returns([float(p) for p in path], 0.97, 50, floor, 10.0)
    assert scaled[50:, 0].tolist() == pytest.approx(expected, rel=1e-12)


def test_after_a_silence_the_filter_enlarges_a_return_only_so_much() -> None:
    returns, silence = np.array([[0.1]]), np.array([[1e-9]])
    scaled = rescale(returns, silence, np.array([0.02]), np.array([0.0]), 10.0)
    assert scaled[0, 0] == pytest.approx(1.0)


def test_where_no_volatility_was_seen_a_return_counts_as_it_is() -> None:
    zero = np.zeros((1, 1))
    scaled = rescale(np.array([[0.1]]), zero, np.array([0.02]), np.array([0.0]), 10.0)
    assert scaled[0, 0] == 0.1


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_horizons_overlap_and_end_on_the_same_dates(steps: int) -> None:
    returns = [math.sin(n) / 50 for n in range(30)]
    expected = sums_ending_last(returns, steps, 20)
    sums = overlapping_sums(np.array(returns).reshape(-1, 1), steps, 20)[:, 0]
    assert sums.tolist() == pytest.approx(expected, rel=1e-12)


def test_a_horizon_longer_than_the_history_is_refused() -> None:
    with pytest.raises(InvariantBroken, match="too short"):
        overlapping_sums(np.zeros((5, 1)), 3, 4)


def test_a_move_is_relative_and_whole_in_a_thousand_millionth() -> None:
    moves = moves_e9(np.array([[0.0, math.log(1.25)], [math.log(0.5), -800.0]]))
    assert moves.tolist() == [[0, 250_000_000], [-500_000_000, -1_000_000_000]]
    with pytest.raises(OverflowError):
        moves_e9(np.array([50.0]))
