"""Windows of real dates: joint residuals by hand, the stressed rows, and the preset they make."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.presets import parse_preset
from margin.presets.history_sections import History
from margin.presets.preset import Preset
from margin.presets.sections import NamedRate
from margin.simulation.dates import dated_moves
from margin.simulation.historical import FactorHistory, SimulationTerms, simulated_moves
from margin.simulation.returns import ewma_volatility, log_returns
from replays.price_file import PriceSeries
from replays.price_window import SEED_RETURNS, PriceWindow, WindowError, price_window

DAY_NS = 86_400 * 10**9
E8, E9 = 10**8, 10**9


def series(seed: int, count: int = 400, daily: float = 0.03, first_day: int = 0,
           wild: slice = slice(0, 0)) -> PriceSeries:  # fmt: skip
    """A walk of so many days; `wild` ones move three times as far."""
    moves = np.random.default_rng(seed).normal(0, daily, count)
    moves[wild] *= 3
    price = np.rint(10**12 * np.exp(np.cumsum(moves))).astype(np.int64)
    days = (first_day + np.arange(count, dtype=np.int64)) * DAY_NS
    return PriceSeries(days, price, None, DAY_NS, 0, "close")


def window(**given: object) -> PriceWindow:
    terms = {"spot": {"BTC": series(1), "ETH": series(2, daily=0.05)}, "volatility": {},
             "dates": 300, "stressed_dates": 20, "decay": 0.97}  # fmt: skip
    return price_window(**{**terms, **given})  # type: ignore[arg-type]


def preset_of(found: PriceWindow) -> tuple[Preset, History]:
    preset = parse_preset(found.toml("mine"), source="mine")
    assert preset.history is not None
    return preset, preset.history


def test_a_residual_is_a_return_over_what_was_forecast_for_it() -> None:
    found, prices = window(), series(1).price_e8
    returns = np.diff(np.log(prices))
    variance = (returns[:SEED_RETURNS] ** 2).mean()
    wanted = []
    for each in returns:
        wanted.append(each / np.sqrt(variance))
        variance = 0.97 * variance + 0.03 * each**2
    assert found.residual_e3["spot"]["BTC"] == [round(1e3 * z) for z in wanted[-300:]]
    assert found.spot["BTC"] == pytest.approx(np.sqrt((returns**2).mean()), rel=1e-9)
    assert (found.first, found.last) == ("1970-04-11", "1971-02-04")


def test_only_dates_of_all_files_count_and_other_coins_are_the_widest() -> None:
    found = window(spot={"BTC": series(1, first_day=30), "ETH": series(2, daily=0.05)})
    assert found.last == "1971-02-04", "the day of ETH's last price"
    assert found.residual_e3["spot"]["default"] == found.residual_e3["spot"]["ETH"]
    assert found.spot["default"] == found.spot["ETH"] > found.spot["BTC"]
    assert set(found.residual_e3["volatility"]["default"]) == {0}
    assert found.up is None


def test_the_stressed_rows_are_the_wildest_and_come_back_as_wild_as_they_were() -> None:
    wild = slice(250, 270)
    spot = {"BTC": series(1, wild=wild), "ETH": series(2, wild=wild)}
    found = window(spot=spot)
    first = 250 - 1 - (399 - 300)
    assert abs(found.stressed_first - first) <= 2
    preset, history = preset_of(found)
    assert history.stressed is not None
    moves = dated_moves(preset, ["BTC", "ETH"]).spot_move_e9[0, history.latest :] / E9
    rows = slice(99 + found.stressed_first, 99 + found.stressed_first + 20)
    seen = np.stack([np.diff(np.log(each.price_e8))[rows] for each in spot.values()], axis=1)
    assert np.sqrt((np.log1p(moves) ** 2).mean()) == pytest.approx(
        np.sqrt((seen**2).mean()), rel=0.02
    )


def test_at_the_forecast_of_today_its_dates_are_those_of_the_simulation() -> None:
    """Residuals times a range here, returns rescaled there: the same moves, to three digits."""
    spot = {"BTC": series(1), "ETH": series(2, daily=0.05)}
    levels = np.stack([each.price_e8 for each in spot.values()], axis=1)
    history = FactorHistory(levels, np.zeros((400, 2, 0), np.int64), np.zeros(0, np.int64))
    terms = SimulationTerms(horizons=(1, 2, 3), scenario_count=298)
    wanted = simulated_moves(history, terms).spot_move_e9
    now = ewma_volatility(log_returns(levels), 0.97, 60)[-1]
    preset, dates = preset_of(window(spot=spot))
    preset = msgspec.structs.replace(
        preset,
        spot_range=tuple(
            NamedRate(name=name, rate_e9=round(float(e) * E9))
            for name, e in zip((*spot, "default"), (*now, 0.05), strict=True)
        ),
        history=msgspec.structs.replace(dates, long_run=None, stressed=None),
    )
    found = dated_moves(preset, list(spot)).spot_move_e9
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() / E9 < 3 * 0.0005 * 0.06 * 1.3


def test_volatilities_of_a_file_move_with_the_dates() -> None:
    found = window(volatility={"BTC": series(9, daily=0.06)})
    preset, history = preset_of(found)
    assert found.up == pytest.approx(0.06, rel=0.15)
    assert preset.volatility.up_e9 == round(found.up, 6) * E9
    assert history.residuals_e9("volatility", "SOL") == history.residuals_e9("volatility", "BTC")
    assert len(set(history.residuals_e9("volatility", "BTC"))) > 200


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"dates": 340}, "400 dates are common to all files; 340 residuals need 401"),
        ({"stressed_dates": 299}, "299 stressed dates leave none of 300"),
        ({"spot": {"BTC": series(1)._replace(step_ns=3600 * E9)}}, "BTC: a window is made of days"),
        ({"spot": {"BTC": series(1)._replace(price_e8=np.full(400, E8))}}, "stands still"),
        (
            {"spot": {"BTC": series(1)._replace(price_e8=np.tile([E8, 4 * E8], 200))}},
            "deviation above 100 %",
        ),
    ],
)
def test_what_makes_no_window_is_told(given: dict[str, object], words: str) -> None:
    with pytest.raises(WindowError, match=words):
        window(**given)


def test_a_day_that_is_missing_everywhere_is_named() -> None:
    whole = series(1)
    kept = np.delete(np.arange(400), 200)
    gap = whole._replace(time_ns=whole.time_ns[kept], price_e8=whole.price_e8[kept])
    with pytest.raises(WindowError, match="no file of all has the day after 1970-07-19"):
        window(spot={"BTC": gap})
