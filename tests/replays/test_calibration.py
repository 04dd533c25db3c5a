"""Probabilities of a margin call against calls: better than a base rate, and in order."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from margin.fixed_point import RATE_SCALE
from margin.invariant import InvariantBroken
from replays.calibration import (
    Study,
    coin_named,
    simulated_prices_e8,
    study_paths,
    study_prices,
)
from replays.price_file import PriceFileError, PriceSeries, read_prices
from replays.reliability import reliability
from replays.watched_pools import (
    LONG,
    SHORT,
    STRADDLE,
    WARM_UP,
    Setting,
    WatchedMarket,
    watched_preset,
)
from tests.reference.reference_replay import data_file

HOUR_NS = 3600 * 10**9
RECORDED = ("Bitstamp_BTCUSD_1h_2018-05_2021-10.csv.gz", "BTCUSDT_1h_2023-01_2026-03.parquet",
            "ETHUSDT_1h_2023-01_2026-03.parquet", "SOLUSDT_1h_2023-01_2026-03.parquet")  # fmt: skip


MARGIN_PAGE = (Path(__file__).parents[2] / "margin" / "README.md").read_text("utf-8")


def is_in_order(study: Study, least: int, slack: float) -> bool:
    """Whether what happened rises with what was said, in bins of at least so many forecasts."""
    seen = [row.observed for row in study.whole.bins if row.count >= least]
    return len(seen) >= 4 and all(a <= b + slack for a, b in pairwise(seen))


@pytest.fixture(scope="module")
def study() -> Study:
    return study_paths(12, 7)


def test_the_forecasts_score_better_than_the_base_rate(study: Study) -> None:
    assert study.whole.brier < study.whole.base_brier
    assert set(study.by_position) == {LONG, SHORT, STRADDLE}
    for position, found in study.by_position.items():
        assert found.skill > 0.05, position
        assert found.count == study.whole.count // 3


def test_calls_are_more_frequent_where_they_are_said_to_be(study: Study) -> None:
    assert is_in_order(study, 100, 0.03)
    assert study.whole.mean_forecast == pytest.approx(study.whole.observed, abs=0.06)


@pytest.mark.long
def test_two_hundred_paths_are_calibrated() -> None:
    """The table of the page: skill of 30 %, and each bin near its forecast."""
    whole = study_paths(200, 7)
    assert is_in_order(whole, 100, 0.0)
    assert whole.whole.skill > 0.28
    assert whole.whole.brier < whole.cell_brier
    assert whole.whole.mean_forecast == pytest.approx(whole.whole.observed, abs=0.02)
    for row in whole.whole.bins:
        assert abs(row.mean_forecast - row.observed) < 0.08

    assert page_row(whole) in MARGIN_PAGE
    for row in whole.whole.bins:
        line = (
            f"| {100 * row.low:g} to {100 * row.high:g} % | {row.count:,} | "
            f"{100 * row.mean_forecast:.2f} % | {100 * row.observed:.2f} % |"
        )
        assert line in MARGIN_PAGE


def page_row(study: Study) -> str:
    """The row of a study in margin/README.md."""
    whole = study.whole
    return (
        f"| {study.source} | {study.horizons:,} | {100 * whole.mean_forecast:.1f} % | "
        f"{100 * whole.observed:.1f} % | {whole.brier:.4f} | {whole.base_brier:.4f} | "
        f"{100 * whole.skill:.1f} % |"
    )


@pytest.mark.long
@pytest.mark.parametrize("name", [*RECORDED, "Bitstamp_ETHUSD_1h_2018-05_2021-10.csv.gz"])
def test_the_page_says_what_recorded_hours_come_to(name: str) -> None:
    assert page_row(study_prices(name, recorded(name))) in MARGIN_PAGE


def recorded(name: str) -> PriceSeries:
    path = data_file(f"prices_hourly/{name}")
    if path is None:
        pytest.skip(f"real data absent: prices_hourly/{name} under $UNCROSS_DATA or ../shared/data")
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="the extra `parquet` is not installed")
    return read_prices(path)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_hours_are_calibrated(name: str) -> None:
    series = recorded(name)
    part = series._replace(time_ns=series.time_ns[:2_000], price_e8=series.price_e8[:2_000])
    found = study_prices(name, part)
    assert found.whole.skill > 0.1
    assert is_in_order(found, 60, 0.06)


def test_a_forecast_of_margin_is_never_below_the_margin_of_today() -> None:
    """The law of `margin.forecasts.predictive`, at every horizon: the floor can only raise."""
    setting = Setting(cycles=6)
    price = simulated_prices_e8(setting, 1, 3)[:, 0]
    market = WatchedMarket(setting, np.ascontiguousarray(price))
    for _ in range(8):
        market.fund()
        forecast = {row.pool: row.forecast_minor for row in market.chances()}
        initial = market.engine.risk.initial
        assert all(forecast[pool] >= int(initial[pool]) for pool in market.pools.tolist())
        for _ in range(setting.cycles):
            market.step()


def test_a_pool_is_called_where_its_equity_falls_below_its_initial_margin() -> None:
    """Long one coin through a fall of 20 %: every cushion is used up; short: none."""
    setting = Setting(cycles=5, positions=(LONG, SHORT))
    price = np.full(WARM_UP + 7, 10**12)
    price[1::2] += 3 * 10**9  # the forecasts know some volatility
    price[WARM_UP + 4 :] = 8 * 10**11
    seen = WatchedMarket(setting, price).watch()
    width = len(setting.cushions_ppb)
    assert seen.called.tolist() == [[1] * width + [0] * width]
    assert (np.diff(seen.chance_ppb.reshape(2, width), axis=1) <= 0).all()


def test_the_books_balance_and_positions_stay() -> None:
    setting = Setting(cycles=4)
    price = simulated_prices_e8(setting, 1, 5)[:, 0]
    market = WatchedMarket(setting, np.ascontiguousarray(price))
    held = market.engine.state.positions.lots.tolist()
    market.watch()
    assert market.engine.state.positions.lots.tolist() == held
    assert set(market.engine.state.ledger.trial_balance()) == {0}


def test_a_study_is_its_seed_s() -> None:
    tiny = Setting(cycles=2, positions=(LONG,))
    assert study_paths(2, 5, tiny) == study_paths(2, 5, tiny)
    assert study_paths(2, 5, tiny) != study_paths(2, 6, tiny)


def test_a_watched_model_is_the_shipped_one_at_another_pace() -> None:
    preset = watched_preset(Setting(period_s=1800, cycles=7, decay_ppb=980_000_000))
    assert preset.dynamic is not None
    assert preset.predictive is not None
    assert preset.dynamic.period_s == 1800
    assert preset.predictive.cycles == 7
    assert preset.dynamic.long_run_decay_ppb == RATE_SCALE - 30 * 16_000
    garch = watched_preset(Setting(garch=(80_000_000, 910_000_000, 600_000_000)))
    assert garch.dynamic is not None
    assert garch.dynamic.ewma is None
    assert garch.dynamic.garch is not None


def series(prices: int, step_ns: int = HOUR_NS) -> PriceSeries:
    level = 10**10 + np.arange(prices, dtype=np.int64) % 7 * 10**7
    return PriceSeries(np.arange(prices, dtype=np.int64) * step_ns, level, None, step_ns, 0, "c")


def test_a_history_too_short_or_too_slow_is_refused() -> None:
    with pytest.raises(PriceFileError, match="more than 245 are needed"):
        study_prices("x.csv", series(245))
    with pytest.raises(PriceFileError, match="a day at most"):
        study_prices("x.csv", series(500, 48 * HOUR_NS))


def test_a_file_s_name_says_which_coin_s_ranges_it_has() -> None:
    assert coin_named("ethusdt_1h.csv") == "ETH"
    assert coin_named("BTC_USD.csv") == "BTC"
    assert coin_named("SOLUSDT.parquet") == "default"


def test_reliability_of_a_few_forecasts() -> None:
    """0.1, 0.1, 0.6, 1 against 0, 1, 1, 1: Brier (0.01 + 0.81 + 0.16 + 0) / 4, base 3/4 x 1/4."""
    found = reliability(np.array([0.1, 0.1, 0.6, 1.0]), np.array([0, 1, 1, 1]), (0, 0.5, 1))
    assert found.brier == pytest.approx(0.245)
    assert found.base_brier == pytest.approx(0.1875)
    assert found.skill == pytest.approx(1 - 0.245 / 0.1875)
    low, high = found.bins
    assert (low.count, low.mean_forecast, low.observed) == (2, pytest.approx(0.1), 0.5)
    assert (high.count, high.mean_forecast, high.observed) == (2, pytest.approx(0.8), 1.0)


def test_a_perfect_forecast_has_all_the_skill_and_none_is_refused() -> None:
    happened = np.array([0, 1, 1, 0])
    assert reliability(happened.astype(float), happened).skill == 1
    with pytest.raises(InvariantBroken, match="no forecasts"):
        reliability(np.zeros(0), np.zeros(0, np.int64))
