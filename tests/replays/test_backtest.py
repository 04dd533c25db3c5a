"""Backtests: margins know nothing of what comes, models say what their definition says."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm

from margin.black76 import price_into
from margin.invariant import Float64Array
from replays.backtest import DEFAULT_MODELS, PORTFOLIOS, Run, run_backtest
from replays.forecast import SEED_COUNT, ModelError, make_forecast, normal_points
from replays.price_file import PriceSeries, read_prices
from tests.reference.reference_margin import black_76
from tests.reference.reference_replay import data_file
from tests.reference.reference_simulation import filtered_returns, forecasts, tail

DAY_NS = 86_400 * 10**9
WINDOW = 100
FIRST = SEED_COUNT + WINDOW
MONTH = 30 / 365


def series_of(returns: Float64Array, implied: Float64Array | None = None) -> PriceSeries:
    """Daily prices from 1000 on with these returns, and an implied volatility if given."""
    levels = 1000.0 * np.exp(np.concatenate(([0.0], np.cumsum(returns))))
    volatility = None if implied is None else np.rint(implied * 1e9).astype(np.int64)
    price = np.rint(levels * 1e8).astype(np.int64)
    return PriceSeries(np.arange(len(price)) * DAY_NS, price, volatility, DAY_NS, 0, "close")


def normal_returns(seed: int, count: int, sigma: float = 0.03) -> Float64Array:
    return np.random.Generator(np.random.PCG64(seed)).normal(0, sigma, count)


def storm_and_calm(seed: int, count: int) -> Float64Array:
    """GARCH(1,1) with Student's t of five degrees: clusters and heavy tails."""
    generator = np.random.Generator(np.random.PCG64(seed))
    shock = generator.standard_t(5, count) / math.sqrt(5 / 3)
    variance = 0.03**2
    returns = np.empty(count)
    for t in range(count):
        returns[t] = math.sqrt(variance) * shock[t]
        variance = 0.03**2 * 0.01 + 0.08 * returns[t] ** 2 + 0.91 * variance
    return returns


def backtest(
    series: PriceSeries, models: tuple[str, ...], confidence: float = 0.99, window: int = WINDOW
) -> dict[tuple[str, str], Run]:
    runs = run_backtest(series, models, confidence, window)
    return {(run.model, run.portfolio): run for run in runs}


@pytest.mark.parametrize("with_iv", [False, True])
def test_no_margin_knows_what_comes_after_it(with_iv: bool) -> None:
    returns = normal_returns(1, 260)
    iv = np.exp(normal_returns(2, 261, 0.02).cumsum()) * 0.6 if with_iv else None
    changed, changed_iv = returns.copy(), None if iv is None else iv.copy()
    changed[220:] *= 4.0
    if changed_iv is not None:
        changed_iv[221:] *= 1.5
    before = backtest(series_of(returns, iv), DEFAULT_MODELS)
    after = backtest(series_of(changed, changed_iv), DEFAULT_MODELS)
    known = 220 - FIRST + 1  # the margin of return 220 is made before it
    for key, run in before.items():
        assert run.margin[:known].tolist() == after[key].margin[:known].tolist(), key
        assert run.shortfall[:known].tolist() == after[key].shortfall[:known].tolist(), key
        if key[0] != "flat":
            assert run.margin[known:].tolist() != after[key].margin[known:].tolist(), key


def test_every_model_and_portfolio_is_tested_on_the_same_periods() -> None:
    series = series_of(normal_returns(3, 200))
    runs = backtest(series, DEFAULT_MODELS)
    assert list(runs) == [(model, of) for of in PORTFOLIOS for model in DEFAULT_MODELS]
    for run in runs.values():
        assert run.time_ns.tolist() == series.time_ns[FIRST + 1 :].tolist()
        assert len(run.margin) == len(run.loss) == len(run.shortfall) == 200 - FIRST


def test_a_long_loses_what_the_price_loses_and_a_short_the_reverse() -> None:
    series = series_of(normal_returns(4, 200))
    runs = backtest(series, ("flat",))
    price = series.price_e8.tolist()
    expected = [1 - b / a for a, b in zip(price[FIRST:-1], price[FIRST + 1 :], strict=True)]
    assert runs["flat", "long"].loss.tolist() == pytest.approx(expected, abs=1e-15)
    assert runs["flat", "short"].loss.tolist() == pytest.approx([-x for x in expected], abs=1e-15)


def straddle(ratio: float, volatility: float, years: float) -> float:
    return sum(black_76(ratio, 1.0, volatility, years, 1.0, call) for call in (True, False))


def test_a_straddle_is_marked_at_the_iv_of_the_file_and_a_day_older_the_next_day() -> None:
    iv = 0.6 * np.exp(normal_returns(6, 201, 0.03))
    series = series_of(normal_returns(5, 200), iv)
    loss = backtest(series, ("flat",))["flat", "straddle"].loss
    price = series.price_e8
    for n, t in enumerate(range(FIRST, 200)):
        sold = straddle(1.0, float(iv[t]), MONTH)
        bought = straddle(price[t + 1] / price[t], float(iv[t + 1]), 29 / 365)
        assert loss[n] == pytest.approx(bought - sold, abs=1e-8)


def test_without_iv_a_straddle_is_marked_at_the_forecast_of_the_model() -> None:
    returns = normal_returns(7, 200)
    series = series_of(returns)
    loss = backtest(series, ("ewma-0.94",))["ewma-0.94", "straddle"].loss
    sigma = [s * math.sqrt(365) for s in forecasts(returns.tolist(), 0.94, SEED_COUNT)]
    for n, t in enumerate(range(FIRST, 200)):
        bought = straddle(math.exp(returns[t]), sigma[t + 1], 29 / 365)
        assert loss[n] == pytest.approx(bought - straddle(1.0, sigma[t], MONTH), abs=1e-6)


@pytest.mark.parametrize("decay", [0.94, 0.97])
def test_filtered_simulation_is_the_tail_of_the_rescaled_window(decay: float) -> None:
    returns = storm_and_calm(8, 180)
    series = series_of(returns)
    name = "fhs" if decay == 0.97 else "fhs-0.94"
    runs = backtest(series, (name,), 0.975)
    for n, t in enumerate(range(FIRST, 180)):
        levels = [float(p) for p in series.price_e8[: t + 1]]
        window = filtered_returns(levels, decay, SEED_COUNT, 0.0, 10.0)[-WINDOW:]
        for portfolio, side in (("long", -1), ("short", 1)):
            losses = [round(side * math.expm1(r) * 1e9) for r in window]
            value, shortfall = tail(losses, [1] * WINDOW, Fraction(975, 1000))
            run = runs[name, portfolio]
            assert run.margin[n] == pytest.approx(value / 1e9, abs=2e-9)
            assert run.shortfall[n] == pytest.approx(float(shortfall) / 1e9, abs=2e-9)


def test_the_normal_model_is_the_lognormal_quantile_and_the_mean_beyond_it() -> None:
    returns = normal_returns(9, 200)
    runs = backtest(series_of(returns), ("ewma-0.97",))
    sigma = np.array(forecasts(returns.tolist(), 0.97, SEED_COUNT)[FIRST:-1])
    z = norm.ppf(0.99)
    long, short = runs["ewma-0.97", "long"], runs["ewma-0.97", "short"]
    assert long.margin == pytest.approx(1 - np.exp(-z * sigma), abs=1e-8)
    assert short.margin == pytest.approx(np.exp(z * sigma) - 1, abs=1e-8)
    mean = np.exp(sigma**2 / 2)
    assert long.shortfall == pytest.approx(1 - mean * norm.cdf(-z - sigma) / 0.01, abs=1e-8)
    assert short.shortfall == pytest.approx(mean * norm.cdf(sigma - z) / 0.01 - 1, abs=1e-8)


def test_the_normal_straddle_is_within_one_per_cent_of_a_fine_quadrature() -> None:
    returns = normal_returns(10, 170)
    run = backtest(series_of(returns), ("ewma-0.97",))["ewma-0.97", "straddle"]
    sigma = forecasts(returns.tolist(), 0.97, SEED_COUNT)[FIRST]
    z = norm.ppf((np.arange(200_000) + 0.5) / 200_000)
    one = np.ones(len(z))
    marked = sigma * math.sqrt(365) * np.sqrt(0.97 + 0.03 * z * z)
    value = np.zeros(len(z))
    for is_call in (True, False):
        side = np.empty(len(z))
        price_into(
            np.exp(sigma * z), one, marked, one * 29 / 365, one, np.full(len(z), is_call), side
        )
        value += side
    losses = np.sort(value - straddle(1.0, sigma * math.sqrt(365), MONTH))
    assert run.margin[0] == pytest.approx(losses[198_000], rel=0.01)
    assert run.shortfall[0] == pytest.approx(losses[198_000:].mean(), rel=0.01)


def test_flat_is_the_tail_of_the_first_window_for_ever() -> None:
    returns = storm_and_calm(11, 220)
    run = backtest(series_of(returns), ("flat",))["flat", "long"]
    first = np.sort(-np.expm1(returns[SEED_COUNT:FIRST]))
    assert run.margin == pytest.approx(np.full(60, first[-1]), abs=1e-8)
    assert run.figures()["peak_to_trough"] == 1.0


def test_a_volatility_that_moves_against_the_price_costs_a_short_straddle_more() -> None:
    returns = normal_returns(12, 220)
    steady = np.full(221, 0.6)
    moving = 0.6 * np.exp(np.concatenate(([0.0], -3 * returns)))  # a fall raises it, at once
    for model in ("fhs", "ewma-0.97", "flat"):
        calm, wild = (
            backtest(series_of(returns, iv), (model,))[model, "straddle"].margin.mean()
            for iv in (steady, moving)
        )
        assert wild > 1.2 * calm


def test_a_right_model_passes_and_a_normal_quantile_under_heavy_tails_does_not() -> None:
    normal = backtest(series_of(normal_returns(13, 2500)), ("ewma-0.99",), window=500)
    for portfolio in ("long", "short"):
        figures = normal["ewma-0.99", portfolio].figures()
        assert figures["kupiec_p"] > 0.05
        assert figures["shortfall_z2"] < figures["shortfall_critical_95"]
    heavy = backtest(series_of(storm_and_calm(14, 3000)), ("fhs", "ewma-0.94"), window=500)
    for portfolio in PORTFOLIOS:
        assert heavy["fhs", portfolio].figures()["kupiec_p"] > 0.05
        rejected = heavy["ewma-0.94", portfolio].figures()
        assert rejected["kupiec_p"] < 0.01
        assert rejected["shortfall_z2"] > rejected["shortfall_critical_95"]


def test_the_figures_of_a_run_are_counts_of_losses_above_margins() -> None:
    margin = np.array([1.0, 2.0, 4.0, 1.0])
    run = Run("m", "long", 0.25, np.arange(4), margin, 2 * margin, np.array([1.0, 2.5, 0.0, -3.0]))
    figures = run.figures()
    assert (figures["observations"], figures["breaches"]) == (4, 1)
    assert figures["breach_rate"] == 0.25
    assert figures["kupiec_lr"] == pytest.approx(0, abs=1e-12)
    assert figures["shortfall_z2"] == pytest.approx(2.5 / 4 - 1)
    assert (figures["average_margin"], figures["peak_to_trough"]) == (2.0, 4.0)


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.9973, 0.9999])
def test_normal_points_have_the_weights_of_the_normal(confidence: float) -> None:
    points, weight = normal_points(1 - confidence)
    share = weight / weight.sum()
    assert (share * points).sum() == pytest.approx(0, abs=1e-9)
    assert (share * points**2).sum() == pytest.approx(1, abs=0.02)
    beyond = share[points > norm.ppf(confidence)].sum()
    assert beyond == pytest.approx(1 - confidence, rel=0.03)


@pytest.mark.parametrize("confidence", [0.9, 0.9973, 0.9999])
def test_unusual_confidences_work_for_every_model(confidence: float) -> None:
    iv = 0.6 * np.exp(normal_returns(6, 166, 0.03))
    for series in (series_of(normal_returns(15, 165)), series_of(normal_returns(15, 165), iv)):
        for run in backtest(series, DEFAULT_MODELS, confidence).values():
            assert (run.shortfall >= run.margin).all()
            assert (run.margin > 0).all()


@pytest.mark.parametrize("name", ["garch", "ewma", "ewma-1", "ewma-x", "fhs-0", "flat-2", "-0.9"])
def test_a_model_that_does_not_exist_is_refused_with_those_that_do(name: str) -> None:
    with pytest.raises(ModelError, match="there are fhs, fhs-DECAY, ewma-DECAY"):
        make_forecast(name, np.zeros(200), None, WINDOW, 0.01)


def test_a_history_that_is_too_short_says_how_long_it_must_be() -> None:
    with pytest.raises(ModelError, match="100 prices: 163 are needed"):
        backtest(series_of(normal_returns(16, 99)), ("fhs",))


@pytest.mark.parametrize(
    "name",
    [
        "Bitstamp_BTCUSD_d_2014-11_2025-02.csv",
        "ETH-USD_yahoo_adjclose_2017-11-09_2025-09-30.csv",
        "SOL-USD_yahoo_adjclose_2020-04-10_2025-09-30.csv",
    ],
)
def test_filtered_simulation_covers_recorded_prices_and_a_normal_quantile_does_not(
    name: str,
) -> None:
    path = data_file(f"prices_daily/{name}")
    if path is None:
        pytest.skip(f"real data absent: prices_daily/{name} under $UNCROSS_DATA or ../shared/data")
    runs = backtest(read_prices(path), ("fhs", "ewma-0.94"), window=500)
    for portfolio in PORTFOLIOS:
        assert runs["fhs", portfolio].figures()["kupiec_p"] > 0.05
        assert runs["ewma-0.94", portfolio].figures()["kupiec_p"] < 0.05
