"""The delta-gamma screen: right where it is exact, invalid where it cannot be trusted."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from scipy.stats import norm

from margin.black76 import price
from margin.book import Book
from margin.fixed_point import COIN_SCALE, NS_PER_YEAR
from margin.models.venue_models import venue_model
from margin.portfolio import INVERSE, INVERSE_CALL, INVERSE_PUT, LINEAR, LINEAR_CALL
from margin.presets import load_preset
from margin.reasons.explain import explain
from margin.reasons.explain_dates import screen_asks_for_reprice
from margin.reasons.explanation import SimulatedUnit
from margin.simulation.dates import dated_moves
from margin.simulation.delta_gamma import (
    Exposure,
    Screen,
    delta_gamma_screen,
    exposures_of,
    full_reprice_is_needed,
    unit_screen,
)
from tests.margin.small_books import E8, random_book, small_book, with_conditions

FHS = venue_model("fhs-es")
QUANTILE = float(norm.ppf(0.99))


@pytest.mark.parametrize("delta", [2.0, -2.0])
def test_a_linear_position_loses_its_exposure_times_the_quantile(delta: float) -> None:
    screen = delta_gamma_screen(delta, 0.0, 50_000.0, 0.03, QUANTILE)
    assert screen.is_valid
    assert screen.value_at_risk == pytest.approx(2 * 50_000 * 0.03 * QUANTILE, rel=1e-12)


@pytest.mark.parametrize("gamma", [1e-4, -1e-4, 5e-4, -5e-4])
def test_a_little_gamma_is_within_two_per_cent_of_the_simulated_quantile(gamma: float) -> None:
    screen = delta_gamma_screen(1.0, gamma, 10_000.0, 0.03, QUANTILE)
    chance = random.Random(1)
    moves = (chance.gauss(0, 300) for _ in range(200_000))
    losses = sorted(-(d + gamma * d * d / 2) for d in moves)
    assert screen.is_valid
    assert screen.value_at_risk == pytest.approx(losses[int(0.99 * 200_000)], rel=0.02)


def test_short_gamma_raises_and_long_gamma_lowers_the_estimate() -> None:
    short, flat, long = (
        delta_gamma_screen(1.0, gamma, 10_000.0, 0.03, QUANTILE).value_at_risk
        for gamma in (-1e-4, 0.0, 1e-4)
    )
    assert long < flat < short


def test_a_straddle_has_too_much_gamma_for_the_expansion() -> None:
    assert not delta_gamma_screen(0.0, -1e-3, 10_000.0, 0.03, QUANTILE).is_valid


def test_nothing_held_needs_nothing() -> None:
    assert delta_gamma_screen(0.0, 0.0, 10_000.0, 0.03, QUANTILE) == Screen(0.0, True)


@pytest.mark.parametrize(
    ("now", "then", "equity", "needed"),
    [
        (Screen(100, True), Screen(100, True), 1000, False),
        (Screen(104, True), Screen(100, True), 1000, False),
        (Screen(106, True), Screen(100, True), 1000, True),  # 5 % of 100 is the tolerance
        (Screen(94, True), Screen(100, True), 1000, True),
        (Screen(100, False), Screen(100, True), 1000, True),
        (Screen(100, True), Screen(100, False), 1000, True),
        (Screen(104, True), Screen(100, True), 108, True),  # 100 + 4 + 5
        (Screen(104, True), Screen(100, True), 109, False),
    ],
)
def test_the_full_reprice_is_needed_when_in_doubt(
    now: Screen, then: Screen, equity: float, needed: bool
) -> None:
    assert full_reprice_is_needed(now, then, 100.0, equity, 50_000_000) == needed


def worth_usdc(book: Book, unit: int, move: float) -> float:
    """What a unit's positions and coin are worth at prices times 1 + move, each by its own rule."""
    columns, marks, coin = book.instruments, book.marks, book.coin_of_unit[unit]
    index = int(marks.index_e8[unit]) / E8
    total = int(book.cash_minor[coin]) / COIN_SCALE * index * (1 + move) if coin > 0 else 0.0
    for row in np.flatnonzero((columns.unit == unit) & (book.quantity_lots != 0)).tolist():
        kind = int(columns.kind[row])
        held = int(book.quantity_lots[row]) * int(columns.lot_e8[row]) / E8
        if kind == INVERSE:
            total += held * index / (int(marks.mark_e8[row]) / E8) * (1 + move)
        elif kind == LINEAR:
            total += held * int(marks.mark_e8[row]) / E8 * (1 + move)
        else:
            forward, in_coin = int(marks.forward_e8[row]) / E8, kind in (INVERSE_CALL, INVERSE_PUT)
            years = max(0, int(columns.expiry_ns[row]) - marks.now_ns) / NS_PER_YEAR
            rate = 0.0 if in_coin else max(0, int(marks.rate_e9[row])) / 1e9
            total += held * (index / forward if in_coin else 1.0) * price(
                forward * (1 + move), int(columns.strike_e8[row]) / E8,
                int(marks.volatility_e9[row]) / 1e9, years, math.exp(-rate * years),
                kind in (LINEAR_CALL, INVERSE_CALL),
            )  # fmt: skip
    return total


@pytest.mark.parametrize("seed", range(6))
def test_delta_and_gamma_are_the_slopes_of_what_the_book_is_worth(seed: int) -> None:
    """Central differences over one thousandth of the price."""
    book, step = random_book(seed), 1e-3
    for unit, exposure in enumerate(exposures_of(book)):
        low, at, high = (worth_usdc(book, unit, move) for move in (-step, 0.0, step))
        size = 1 + abs(exposure.slope_usdc) + abs(exposure.bend_usdc)
        assert exposure.slope_usdc == pytest.approx((high - low) / (2 * step), abs=1e-3 * size)
        bend = (high - 2 * at + low) / step**2
        assert exposure.bend_usdc == pytest.approx(bend, abs=1e-2 * size)


def told(book: Book) -> SimulatedUnit:
    found = explain(FHS, book, distances=False)
    assert found.simulated is not None
    return found.simulated.units[0]


def test_an_explanation_shows_the_screen_beside_the_full_value_at_risk() -> None:
    """One coin long at 100,000, range 3.14 % a day, level 97.5 %."""
    linear = told(small_book(1))
    assert (linear.delta_e8, linear.gamma_e8, linear.screen_is_valid) == (10**8, 0, True)
    exact = 100_000 * 0.0314 * float(norm.ppf(0.975))
    assert linear.screen_minor == pytest.approx(exact * 10**6, abs=1)
    assert linear.value_at_risk_minor > 1.2 * linear.screen_minor, "fat tails, stressed dates"
    short_put = told(small_book(1, -1))
    assert short_put.delta_e8 > 10**8
    assert short_put.gamma_e8 < 0
    assert short_put.screen_minor > linear.screen_minor
    assert told(small_book(0, 0, 0, coin=1)).delta_e8 == 10**8, "coin cash, too"


def test_the_value_at_risk_beside_it_is_the_least_that_less_than_the_tail_loses_more_than() -> None:
    """A coin's losses are those of the dates themselves, sorted, by weight."""
    moves = dated_moves(FHS, ["BTC"])
    lost, weight = -moves.spot_move_e9[0, :, 0] * 100_000 / 1e9, moves.weight
    order = np.argsort(-lost, kind="stable")
    beyond = np.cumsum(weight[order])
    at = int(np.searchsorted(beyond, 0.025 * weight.sum() - 1e-6))
    assert told(small_book(1)).value_at_risk_minor == pytest.approx(lost[order[at]] * 10**6, abs=2)


def test_a_longer_close_out_is_looked_at_over_more_days() -> None:
    thin = with_conditions(small_book(1), daily_volume_minor=np.array([600_000 * 10**6]))
    once, twice = told(small_book(1)), told(thin)
    assert twice.horizon_days == 2 * once.horizon_days == 2
    assert twice.screen_minor == pytest.approx(2**0.5 * once.screen_minor, rel=1e-6)
    assert twice.value_at_risk_minor > once.value_at_risk_minor


def test_what_a_change_needs_is_asked_of_both_screens() -> None:
    """A fifth more coin is beyond 5 % of the margin, a little cash is not."""
    before, richer, larger = (
        explain(FHS, book, distances=False)
        for book in (small_book(10, usdc=10**6), small_book(10, usdc=10**6 + 1),
                     small_book(12, usdc=10**6))
    )  # fmt: skip
    assert screen_asks_for_reprice(before, richer) is False
    assert screen_asks_for_reprice(before, larger) is True
    poor = explain(FHS, small_book(10, usdc=190_000), distances=False)
    assert screen_asks_for_reprice(before, poor) is True, (
        "near the line only the full figure counts"
    )
    bent = explain(FHS, small_book(0, -10, usdc=10**6), distances=False)
    again = screen_asks_for_reprice(bent, bent)
    assert bent.simulated is not None
    assert again is (not bent.simulated.units[0].screen_is_valid)
    ps_1 = explain(load_preset("ps-1"), small_book(1), distances=False)
    assert screen_asks_for_reprice(ps_1, ps_1) is None


def test_a_unit_screen_is_the_screen_of_its_dollars() -> None:
    for slope, bend in ((5e4, -2e5), (-5e4, 1e5), (0.0, -1e5)):
        found = unit_screen(Exposure(slope, bend), 30_000_000, 4, 990_000_000)
        assert found.is_valid == delta_gamma_screen(slope, bend, 1.0, 0.06, QUANTILE).is_valid
        assert found.value_at_risk == pytest.approx(
            delta_gamma_screen(slope, bend, 1.0, 0.06, QUANTILE).value_at_risk, rel=1e-12
        )
