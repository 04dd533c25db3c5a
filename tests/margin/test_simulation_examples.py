"""The worked examples of simulation, tails, liquidity horizons, screen and backtests, computed."""

from __future__ import annotations

import numpy as np
import pytest

from margin.coverage import christoffersen, kupiec
from margin.delta_gamma import delta_gamma_screen
from margin.fixed_point import PRICE_SCALE, USDC_SCALE
from margin.historical_simulation import (
    FactorHistory,
    SimulatedMoves,
    SimulationTerms,
    lot_profits,
    simulated_moves,
)
from margin.portfolio import LINEAR, NEVER_NS, Instruments, Marks, Positions
from margin.returns import moves_e9, rescale
from margin.simulated_pools import liquidity_horizons, pool_tails
from margin.tail_measures import tail_measures

ONE = np.ones(1, np.int64)
PERPETUAL = Instruments(
    ONE * LINEAR, ONE * 0, ONE * NEVER_NS, ONE * 0, ONE * 10**5, ONE * -1
)  # 0.001 BTC a lot
MARKS = Marks(0, ONE * 100_000 * PRICE_SCALE, ONE * 100_000 * PRICE_SCALE, ONE, ONE, ONE * 0)
ONE_BTC = Positions(np.array([0, 1]), ONE * 0, ONE * 1000, np.zeros((1, 1), np.int64))


def rescaled_move(floor: float) -> int:
    """A fall of 5 % when 2 % a day were forecast, today 4 %."""
    scaled = rescale(
        np.array([[-0.05]]), np.array([[0.02]]), np.array([0.04]), np.array([floor]), 10.0
    )
    return int(moves_e9(scaled)[0, 0])


@pytest.mark.parametrize(("floor", "loss"), [(0.0, "9,516.26"), (0.05, "11,750.31")])
def test_a_fall_of_five_per_cent_in_calmer_days_is_twice_as_large_today(
    floor: float, loss: str
) -> None:
    move = np.full((1, 1, 1), rescaled_move(floor))
    moves = SimulatedMoves(move, np.zeros((1, 1, 1, 0), np.int64), ONE[:0], ONE)
    terms = SimulationTerms(horizons=(1,))
    profits = lot_profits(moves, PERPETUAL, MARKS, 4, terms)
    found = pool_tails(profits, ONE, terms.level_ppb, PERPETUAL, ONE_BTC)
    minor = int(found.expected_shortfall_minor[0])
    assert f"{minor / USDC_SCALE:,.2f}" == loss


def test_a_quarter_of_the_weight_makes_a_stressed_scenario_count_two_thirds_of_a_latest() -> None:
    price = 10**13 + np.arange(900, dtype=np.int64).reshape(-1, 1) % 7 * 10**11
    history = FactorHistory(price, np.zeros((900, 1, 0), np.int64), ONE[:0])
    terms = SimulationTerms(horizons=(1,), stress_weight_ppb=250_000_000)
    weight = simulated_moves(history, terms, stressed=(0, 250)).weight.tolist()
    assert weight == [3] * 500 + [2] * 250


def test_the_tail_of_a_hundred_losses() -> None:
    profit = -np.arange(1, 101).reshape(1, -1)
    found = [
        tail_measures(profit, np.ones(100, np.int64), level) for level in (99 * 10**7, 975 * 10**6)
    ]
    assert [(int(value[0]), int(mean[0])) for value, mean in found] == [(100, 100), (98, 100)]


def test_a_quarter_of_a_days_volume_at_a_tenth_a_day_takes_three_days() -> None:
    notional = np.array([[25_000_000 * USDC_SCALE]])
    place = liquidity_horizons(notional, ONE * 100_000_000 * USDC_SCALE, SimulationTerms())
    assert SimulationTerms().horizons[int(place[0, 0])] == 3


def test_the_screen_adds_to_the_linear_quantile() -> None:
    linear, bent, straddle = (
        delta_gamma_screen(delta, gamma, 10_000.0, 0.03, 2.3263478740408408)
        for delta, gamma in ((1.0, 0.0), (1.0, -5e-4), (0.0, -5e-4))
    )
    assert f"{linear.value_at_risk:.2f}" == "697.90"
    assert f"{bent.value_at_risk:.2f}" == "819.38"
    assert (bent.is_valid, straddle.is_valid) == (True, False)


def test_seven_breaches_in_250_days() -> None:
    test = kupiec(7, 250, 0.01)
    assert (f"{test.statistic:.3f}", f"{test.p_value:.4f}") == ("5.497", "0.0190")
    spread = [day % 36 == 20 for day in range(250)]
    together = [100 <= day < 107 for day in range(250)]
    assert sum(spread) == sum(together) == 7
    figures = [christoffersen(days, 0.01).independence for days in (spread, together)]
    assert [f"{f.statistic:.2f}" for f in figures] == ["0.41", "45.09"]
