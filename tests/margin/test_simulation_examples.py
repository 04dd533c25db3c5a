"""The worked examples of simulation, tails and backtests in margin/README.md, computed."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.fixed_point import PRICE_SCALE, USDC_SCALE
from margin.forecasts.ranges import preset_at
from margin.models.venue_models import venue_model
from margin.portfolio import LINEAR, NEVER_NS, Instruments, Marks, Positions
from margin.reasons.explain import explain
from margin.simulation.coverage import christoffersen, kupiec
from margin.simulation.delta_gamma import delta_gamma_screen
from margin.simulation.historical import (
    FactorHistory,
    SimulatedMoves,
    SimulationTerms,
    lot_profits,
    simulated_moves,
)
from margin.simulation.pools import liquidity_horizons, pool_tails
from margin.simulation.returns import moves_e9, rescale
from margin.simulation.tail_measures import tail_measures
from tests.margin.readme_page import FLAT, Examples, Page, compute, usdc
from tests.margin.small_books import small_book, with_conditions

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


def simulation(page: Page) -> None:
    page.given("0.05", "0.10", "100,000")
    for floor in (0.0, 0.05):
        move = np.full((1, 1, 1), rescaled_move(floor))
        moves = SimulatedMoves(move, np.zeros((1, 1, 1, 0), np.int64), ONE[:0], ONE)
        terms = SimulationTerms(horizons=(1,))
        profits = lot_profits(moves, PERPETUAL, MARKS, 4, terms)
        found = pool_tails(profits, ONE, terms.level_ppb, PERPETUAL, ONE_BTC)
        page.says(f"{int(found.expected_shortfall_minor[0]) / USDC_SCALE:,.2f}")
    weights_of_a_stressed_period(page)


def weights_of_a_stressed_period(page: Page) -> None:
    price = 10**13 + np.arange(900, dtype=np.int64).reshape(-1, 1) % 7 * 10**11
    history = FactorHistory(price, np.zeros((900, 1, 0), np.int64), ONE[:0])
    terms = SimulationTerms(horizons=(1,), stress_weight_ppb=250_000_000)
    weight = simulated_moves(history, terms, stressed=(0, 250)).weight.tolist()
    latest, stressed = weight[0], weight[-1]
    assert weight == [latest] * 500 + [stressed] * 250
    page.says(f"weigh {latest} and {stressed} each")


def tails(page: Page) -> None:
    page.given("97.5", "99.2")
    profit = -np.arange(1, 101).reshape(1, -1)
    found = [
        tail_measures(profit, np.ones(100, np.int64), level) for level in (99 * 10**7, 975 * 10**6)
    ]
    (value, mean), (lower, rounded) = ((int(v[0]), int(m[0])) for v, m in found)
    assert value == mean
    page.says(f"VaR and ES are {value}.", f"VaR is {lower}", f"rounded up to {rounded}")


def horizon(page: Page) -> None:
    page.given("2.5")
    notional = np.array([[25_000_000 * USDC_SCALE]])
    place = liquidity_horizons(notional, ONE * 100_000_000 * USDC_SCALE, SimulationTerms())
    page.says(f"the horizon is {SimulationTerms().horizons[int(place[0, 0])]} days")


def screen(page: Page) -> None:
    page.given("10,000", "0.0005")
    linear, bent, straddle = (
        delta_gamma_screen(delta, gamma, 10_000.0, 0.03, 2.3263478740408408)
        for delta, gamma in ((1.0, 0.0), (1.0, -5e-4), (0.0, -5e-4))
    )
    page.says(f"{linear.value_at_risk:.2f}", f"{bent.value_at_risk:.2f}")
    assert (bent.is_valid, straddle.is_valid) == (True, False)
    page.given("100,000", "97.5 %")
    coin = explain(venue_model("fhs-es"), small_book(1), distances=False).simulated
    assert coin is not None
    page.says(usdc(coin.units[0].screen_minor), usdc(coin.units[0].value_at_risk_minor))


def dates(page: Page) -> None:
    page.given("100,000", "90,000", "600,000 a day", "300,000 four days")
    preset = venue_model("fhs-es")
    history = preset.history
    assert history is not None
    weight = history.weights()
    assert (
        f"{history.latest} dates follow the forecast (weight {weight[0]} each), "
        f"{history.dates - history.latest} are stressed ({weight[-1]} each)"
    ) in FLAT
    long = explain(preset, small_book(1), distances=False)
    page.says(*map(usdc, (long.worst_minor, long.initial_minor, long.maintenance_minor)))
    plain = msgspec.structs.replace(history, horizon_days=(1,), long_run=None, stressed=None)
    calm = msgspec.structs.replace(history, stressed=None)
    for base, factor, other in (
        (preset, 1, plain), (preset, 2, None), (preset, 0.5, None), (preset, 0.5, calm)
    ):  # fmt: skip
        moved = preset_at(base, ["BTC"], [round(factor * base.spot_range_e9("BTC"))])
        moved = msgspec.structs.replace(moved, history=other or history)
        found = explain(moved, small_book(1), distances=False)
        page.says(usdc(found.worst_minor))
        if factor == 2:
            page.says(f"IM {usdc(found.initial_minor)}")
    both = explain(preset, small_book(1, -1), distances=False)
    put = next(part for part in both.units[0].positions if part.name == "put")
    alone = explain(preset, small_book(0, -1), distances=False)
    page.says(*map(usdc, (both.worst_minor, -put.profit_minor, alone.worst_minor)))
    for volume, days in ((600_000, 2), (300_000, 3)):
        thin = with_conditions(
            small_book(1), daily_volume_minor=np.array([volume * USDC_SCALE], np.int64)
        )
        found = explain(preset, thin, distances=False)
        assert found.simulated is not None
        assert found.simulated.units[0].horizon_days == days
        page.says(usdc(found.worst_minor))


def backtests(page: Page) -> None:
    page.given("3.841")
    test = kupiec(7, 250, 0.01)
    page.says(f"LR {test.statistic:.3f}", f"p {test.p_value:.4f}")
    spread = [day % 36 == 20 for day in range(250)]
    together = [100 <= day < 107 for day in range(250)]
    assert sum(spread) == sum(together) == 7
    figures = [christoffersen(days, 0.01).independence for days in (spread, together)]
    page.says(*(f"LR_ind {f.statistic:.2f}" for f in figures))


EXAMPLES: Examples = {
    "Filtered historical simulation": simulation,
    "Value at risk and expected shortfall": tails,
    "Liquidity horizon": horizon,
    "Delta-gamma screen": screen,
    "Dates that charge a venue": dates,
    "Backtests": backtests,
}


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_example_is_what_the_code_computes(section: str) -> None:
    compute(section, EXAMPLES[section])
