"""Scenarios from dates of the past: their moves, what they cost a coin, and what a file may say."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from margin.history import covered_move_e9, dated_moves, history_of, loss_multiple, shortfall
from margin.history_sections import History, Residuals
from margin.invariant import InvariantBroken
from margin.preset import Preset
from margin.presets import PresetError, load_preset, parse_preset
from margin.strict_toml import shipped_text
from margin.venue_models import venue_model

E9 = 10**9
FHS = venue_model("fhs-es")
TEXT = shipped_text("margin.models", "fhs-es")
TEN = (-5, -2, -1, -1, 0, 0, 1, 1, 2, 5)


def ten_dates(level_ppb: int = 800_000_000) -> Preset:
    """Ten dates of -5 to 5 deviations, volatility up by one deviation where spot falls."""
    whole = tuple(x * E9 for x in TEN)
    away = tuple(E9 if x < 0 else 0 for x in TEN)
    history = History(
        level_ppb=level_ppb, tenor_days=(30,), tenor_share_e9=(E9,),
        spot=(Residuals(name="default", residual_e9=whole),),
        volatility=(Residuals(name="default", residual_e9=away),),
    )  # fmt: skip
    return msgspec.structs.replace(FHS, history=history)


def test_a_date_moves_spot_by_its_residual_times_the_range() -> None:
    moves = dated_moves(ten_dates(), ["BTC", "SOL"])
    assert moves.spot_move_e9.shape == (1, 10, 2)
    for date, residual in enumerate(TEN):
        for unit, deviation in enumerate((0.0314, 0.0523)):
            exact = (math.exp(residual * deviation) - 1) * E9
            assert moves.spot_move_e9[0, date, unit] == pytest.approx(exact, abs=2)
    up = (math.exp(0.08) - 1) * E9
    assert moves.volatility_move_e9[0, 0, 0, 0] == pytest.approx(up, abs=2)
    assert moves.volatility_move_e9[0, -1, 0, 0] == 0


def test_a_coin_long_needs_the_mean_of_its_worst_dates() -> None:
    """The worst two of ten at 80 %: five and two deviations."""
    expected = -sum(math.exp(x * 0.0314) - 1 for x in (-5, -2)) / 2
    assert covered_move_e9(ten_dates(), "BTC") == pytest.approx(expected * E9, abs=2)
    half = -(math.exp(-5 * 0.0314) - 1) * 2 / 3 - (math.exp(-2 * 0.0314) - 1) / 3
    assert covered_move_e9(ten_dates(850_000_000), "BTC") == pytest.approx(half * E9, abs=2)


def test_gains_alone_need_nothing() -> None:
    assert shortfall(np.arange(1, 11), history_of(ten_dates())) == 0
    assert shortfall(-np.arange(1, 11), history_of(ten_dates())) == 10, "9.5, rounded up"


def test_no_lot_loses_more_than_the_multiple_says() -> None:
    """Five deviations of 5.23 % are exp(0.2615), 1.30: 2 for the option, 1 for an order's limit."""
    assert loss_multiple(dated_moves(ten_dates(), ["SOL"])) == 3


def test_a_preset_without_dates_has_no_history() -> None:
    with pytest.raises(InvariantBroken, match="without its section"):
        history_of(load_preset("ps-1"))


@pytest.mark.parametrize(
    ("line", "other", "told"),
    [
        ("level = 0.975", "level = 1", "history.level: must lie in 0 .. 1"),
        ("tenor_days = [1, 7,", "tenor_days = [7, 1,", "history.tenor_days: must rise"),
        ("tenor_share = [2, 1.5,", "tenor_share = [2,", "history.tenor_days: must rise, each"),
        ("\n[history]\n", "\n[gamma]\nquantile = 4\nleast_gap = 0.08\nnear_days = 7\n"
         "half_spread = 0.0005\n[history]\n", "history: stands without gamma"),
        ("move = 0\n", "move = 0.1\n", "history: needs one listed scenario, of no move at all"),
        ('[[history.spot]]\nname = "ETH"', '[[history.spot]]\nname = "BTC"', "must be sorted"),
        ("residual = [\n", "residual = [\n    6.5,\n", "residual: must lie in -6 .. 6"),
        ("residual = [\n", "residual = [\n    0.5,\n", "needs one residual a date of everything"),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_refused(line: str, other: str, told: str) -> None:
    assert line in TEXT
    with pytest.raises(PresetError, match=told):
        parse_preset(TEXT.replace(line, other, 1), source="own.toml")


def test_rules_stand_alone() -> None:
    standard = venue_model("standard")
    with pytest.raises(ValueError, match="standard: stands without history"):
        msgspec.structs.replace(standard, history=FHS.history)
    with pytest.raises(ValueError, match="standard: stands without dynamic"):
        msgspec.structs.replace(standard, dynamic=FHS.dynamic)
