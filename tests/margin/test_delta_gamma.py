"""The delta-gamma screen: right where it is exact, invalid where it cannot be trusted."""

from __future__ import annotations

import random

import pytest
from scipy.stats import norm

from margin.delta_gamma import Screen, delta_gamma_screen, full_reprice_is_needed

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
