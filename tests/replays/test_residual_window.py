"""The window that ships with fhs-es can be drawn again by anybody, to the digit."""

from __future__ import annotations

from math import sqrt

from margin.models.venue_models import venue_model
from replays.residual_window import DATES, MOST_E3, draw_window, window_text


def test_the_shipped_window_is_the_one_that_is_drawn() -> None:
    history = venue_model("fhs-es").history
    assert history is not None
    assert history.rows == DATES
    for factor, columns in draw_window().items():
        for name, drawn in columns.items():
            shipped = history.residuals_e9(factor, name)
            assert [value // 10**6 for value in shipped] == drawn


def test_residuals_have_a_deviation_of_one_fat_tails_and_move_together() -> None:
    window = draw_window()
    for columns in window.values():
        for column in columns.values():
            mean = sum(column) / DATES
            deviation = sqrt(sum((x - mean) ** 2 for x in column) / DATES)
            kurtosis = sum((x - mean) ** 4 for x in column) / DATES / deviation**4
            assert abs(mean) < 30
            assert 950 < deviation < 1_010, "what is cut at six takes a little off"
            assert kurtosis > 4
            assert max(map(abs, column)) <= MOST_E3
    btc, eth = window["spot"]["BTC"], window["spot"]["ETH"]
    both = sum(a * b for a, b in zip(btc, eth, strict=True)) / DATES / 10**6
    assert 0.7 < both < 0.95
    volatility = window["volatility"]["default"]
    leverage = sum(a * b for a, b in zip(btc, volatility, strict=True)) / DATES / 10**6
    assert leverage < -0.1, "volatility rises when prices fall"


def test_another_seed_is_another_window_and_text_keeps_signs() -> None:
    assert draw_window(20, 1) != draw_window(20, 2)
    text = window_text({"spot": {"X": [-7, 1_002, -2_500, 0]}})
    assert "-0.007, 1.002, -2.500, 0.000," in text
    assert '[[history.spot]]\nname = "X"' in text
