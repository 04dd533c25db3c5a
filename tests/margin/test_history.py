"""Scenarios from dates of the past: their moves, what they cost a coin, and what a file may say."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from margin.forecasts.ranges import preset_at
from margin.invariant import InvariantBroken
from margin.models.venue_models import venue_model
from margin.presets import PresetError, load_preset, parse_preset
from margin.presets.history_sections import History, LongRun, Residuals, Stressed
from margin.presets.preset import NamedRate, Preset
from margin.presets.strict_toml import shipped_text
from margin.simulation.dates import (
    covered_move_e9,
    dated_moves,
    history_of,
    loss_multiple,
    shortfall,
)

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


def with_dates(**parts: object) -> Preset:
    """Ten dates with other constants; the long run is that of the shipped file."""
    preset = ten_dates()
    history = msgspec.structs.replace(history_of(preset), **parts)
    return msgspec.structs.replace(preset, history=history)


LONG_RUN = LongRun(spot_range=(NamedRate(name="default", rate_e9=E9 // 20),), up_e9=E9 // 10)


def test_a_horizon_of_days_sums_successive_dates_that_end_together() -> None:
    moves = dated_moves(with_dates(horizon_days=(1, 3)), ["BTC"])
    assert moves.spot_move_e9.shape == (2, 8, 1), "the first two dates only begin a sum"
    for date in range(8):
        for h, days in enumerate((1, 3)):
            residual = sum(TEN[date + 3 - days : date + 3])
            exact = (math.exp(residual * 0.0314) - 1) * E9
            assert moves.spot_move_e9[h, date, 0] == pytest.approx(exact, abs=2)
    assert moves.weight.tolist() == [1] * 8


@pytest.mark.parametrize(("share", "deviation"), [(0, 0.0314), (0.6, 0.0314), (1, 0.05)])
def test_no_date_counts_at_less_than_the_floor(share: float, deviation: float) -> None:
    """The floor is a share of 5 % a day and of 10 % of volatility; the forecasts are below."""
    long_run = msgspec.structs.replace(LONG_RUN, floor_share_ppb=round(share * E9))
    moves = dated_moves(with_dates(long_run=long_run), ["BTC"])
    exact = (math.exp(-5 * deviation) - 1) * E9
    assert moves.spot_move_e9[0, 0, 0] == pytest.approx(exact, abs=2)
    up = (math.exp(max(0.08, 0.1 * share)) - 1) * E9
    assert moves.volatility_move_e9[0, 0, 0, 0] == pytest.approx(up, abs=2)


def test_stressed_dates_count_once_more_at_their_own_volatility_and_weight() -> None:
    stressed = Stressed(first=0, dates=2, weight_ppb=E9 // 4, multiple_e9=2 * E9)
    preset = with_dates(long_run=LONG_RUN, stressed=stressed)
    for factor in (1, 3):  # whatever is forecast
        wide = preset_at(preset, ["BTC"], [factor * preset.spot_range_e9("BTC")])
        moves = dated_moves(wide, ["BTC"])
        assert moves.spot_move_e9.shape == (1, 12, 1)
        for at, residual in ((10, -5), (11, -2)):
            exact = (math.exp(residual * 0.1) - 1) * E9
            assert moves.spot_move_e9[0, at, 0] == pytest.approx(exact, abs=2)
            up = (math.exp(0.2) - 1) * E9
            assert moves.volatility_move_e9[0, at, 0, 0] == pytest.approx(up, abs=2)
    weight = moves.weight.tolist()
    assert sum(weight[10:]) * 4 == sum(weight)
    assert len({*weight[:10]}) == len({*weight[10:]}) == 1
    assert covered_move_e9(preset, "BTC") > covered_move_e9(ten_dates(), "BTC")


def test_the_model_that_ships_has_horizons_a_floor_and_a_stressed_quarter() -> None:
    history = history_of(FHS)
    assert history.horizon_days == (1, 2, 3)
    assert (history.floor_e9("BTC"), history.floor_up_e9()) == (25_120_000, 64_000_000)
    assert history.stressed_e9("BTC") == (47_100_000, 120_000_000)
    weight = history.weights()
    assert history.dates == len(weight) == 398 + 40
    assert sum(weight[398:]) * 4 == sum(weight)


def test_gains_alone_need_nothing() -> None:
    ones, level_ppb = np.ones(10, np.int64), history_of(ten_dates()).level_ppb
    assert shortfall(np.arange(1, 11), ones, level_ppb) == 0
    assert shortfall(-np.arange(1, 11), ones, level_ppb) == 10, "9.5, rounded up"


def test_no_lot_loses_more_than_the_multiple_says() -> None:
    """Five deviations of 5.23 % are exp(0.2615), 1.30: 2 for the option, 1 for an order's limit."""
    assert loss_multiple(dated_moves(ten_dates(), ["SOL"])) == 3


def test_a_preset_without_dates_has_no_history() -> None:
    with pytest.raises(InvariantBroken, match="without its section"):
        history_of(load_preset("ps-1"))


@pytest.mark.parametrize(
    ("line", "other", "told"),
    [
        ("level = 0.975", "level = 1", "history.level: must be at least 0.5 and below 1"),
        ("level = 0.975", "level = 0.499", "history.level: must be at least 0.5 and below 1"),
        ("tenor_days = [1, 7,", "tenor_days = [7, 1,", "history.tenor_days: must rise"),
        ("tenor_share = [2, 1.5,", "tenor_share = [2,", "history.tenor_days: must rise, each"),
        ("\n[history]\n", "\n[gamma]\nquantile = 4\nleast_gap = 0.08\nnear_days = 7\n"
         "half_spread = 0.0005\n[history]\n", "history: stands without gamma"),
        ("move = 0\n", "move = 0.1\n", "history: needs one listed scenario, of no move at all"),
        ('[[history.spot]]\nname = "ETH"', '[[history.spot]]\nname = "BTC"', "must be sorted"),
        ("horizon_days = [1,", "horizon_days = [3,", "history.horizon_days: must rise"),
        ("horizon_days = [1, 2, 3]", "horizon_days = []", "history.horizon_days: must rise"),
        ("horizon_days = [1, 2, 3]", "horizon_days = [21]", "must rise within 1 .. 20"),
        ("participation = 0.1", "participation = 0", "history.participation: must lie above 0"),
        ("floor_share = 0.8", "floor_share = 2.5", "long_run.floor_share: must lie in 0 .. 2"),
        ("first = 190", "first = 1", r"history.stressed: must lie in rows 2 .. 399"),
        ("dates = 40", "dates = 211", r"history.stressed: must lie in rows 2 .. 399"),
        ("weight = 0.25", "weight = 1", "history.stressed.weight: must lie between 0 and 1"),
        ("weight = 0.25", "weight = 0.123456789", "stressed.weight are too fine"),
        ("multiple = 1.5", "multiple = 0", "history.stressed.multiple: must lie above 0"),
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
