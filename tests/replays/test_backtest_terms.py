"""Backtests with a horizon, a volatility floor and a stressed period: by definition, and causal."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from replays.backtest import DEFAULT_MODELS, Run, run_backtest
from replays.forecast import SEED_COUNT, STRESSED_COUNT, FilteredHistorical, ModelError, Terms
from tests.reference.reference_simulation import forecasts, tail
from tests.replays.test_backtest import normal_returns, series_of, storm_and_calm

WINDOW = 100
RETURNS = storm_and_calm(3, 400)


def runs(terms: Terms, models: tuple[str, ...] = ("fhs",)) -> dict[tuple[str, str], Run]:
    found = run_backtest(series_of(RETURNS), models, 0.99, WINDOW, terms=terms)
    return {(run.model, run.portfolio): run for run in found}


@pytest.mark.parametrize("terms", [
    Terms(horizon=3), Terms(floor_share=1.0), Terms(stress_weight=0.25),
    Terms(2, 0.5, 0.25), Terms(stress_weight=0.25, stressed=(200, 230)),
])  # fmt: skip
def test_no_margin_knows_what_comes_after_it(terms: Terms) -> None:
    changed = RETURNS.copy()
    changed[300:] *= 5
    before = run_backtest(series_of(RETURNS), DEFAULT_MODELS, 0.99, WINDOW, terms=terms)
    after = run_backtest(series_of(changed), DEFAULT_MODELS, 0.99, WINDOW, terms=terms)
    known = (300 - SEED_COUNT - WINDOW) // terms.horizon
    for one, other in zip(before, after, strict=True):
        assert one.margin[:known].tolist() == other.margin[:known].tolist()
        if one.model != "flat":
            assert one.margin[known + 2 :].tolist() != other.margin[known + 2 :].tolist()


def test_a_horizon_tests_every_return_once_over_so_many_periods() -> None:
    found = runs(Terms(horizon=3))["fhs", "long"]
    first = SEED_COUNT + WINDOW + 2
    assert len(found.loss) == (len(RETURNS) - first) // 3
    for n in (0, 5, 40):
        exact = 1 - math.exp(RETURNS[first + 3 * n : first + 3 * n + 3].sum())
        assert found.loss[n] == pytest.approx(exact, abs=1e-6)
    one = runs(Terms())
    for portfolio in ("long", "short", "straddle"):
        wider = runs(Terms(horizon=4))["fhs", portfolio].margin.mean()
        assert 1.1 < wider / one["fhs", portfolio].margin.mean() < 4


@pytest.mark.parametrize("model", ["ewma-0.97", "flat"])
def test_every_model_covers_the_horizon(model: str) -> None:
    one, four = (runs(Terms(horizon=h), (model,))[model, "long"].margin.mean() for h in (1, 4))
    assert 1.2 < four / one < 2.8


def test_a_floor_is_a_share_of_the_volatility_so_far_and_only_raises() -> None:
    plain, floored = runs(Terms()), runs(Terms(floor_share=1.0))
    for key, run in plain.items():
        assert (floored[key].margin >= run.margin - 1e-9).all()
    ratios = [found["fhs", "long"].figures()["peak_to_trough"] for found in (floored, plain)]
    assert ratios[0] < ratios[1]
    model = FilteredHistorical(RETURNS, None, WINDOW, 0.01, terms=Terms(floor_share=1.0))
    t = int(np.argmin(model.forecasts[160:-1, 0])) + 160
    long_run = math.sqrt(sum(x * x for x in RETURNS[:t]) / t)
    assert long_run > model.volatility(t)
    ratio = long_run / model.forecasts[t - 1, 0]
    last = math.exp(RETURNS[t - 1] * min(10.0, ratio)) - 1
    assert model.scenarios(t).spot_move_e9[-1] / 1e9 == pytest.approx(last, abs=2e-9)


def test_a_stressed_period_counts_as_it_happened_once_it_is_over() -> None:
    terms = Terms(stress_weight=0.25, stressed=(200, 230))
    model = FilteredHistorical(RETURNS, None, WINDOW, 0.01, terms=terms)
    assert len(model.scenarios(229).weight) == WINDOW
    found = model.scenarios(230)
    assert len(found.weight) == WINDOW + 30
    assert found.weight[WINDOW:].sum() * 4 == found.weight.sum()
    happened = np.exp(RETURNS[200:230]) - 1
    assert found.spot_move_e9[WINDOW:] / 1e9 == pytest.approx(happened, abs=2e-9)


def test_the_worst_window_is_the_one_that_moved_most_so_far() -> None:
    model = FilteredHistorical(RETURNS, None, WINDOW, 0.01, terms=Terms(stress_weight=0.25))
    for t in (160, 250, 399):
        starts = range(t - STRESSED_COUNT + 1)
        worst = max(starts, key=lambda a: float((RETURNS[a : a + STRESSED_COUNT] ** 2).sum()))
        happened = np.exp(RETURNS[worst : worst + STRESSED_COUNT]) - 1
        assert model.scenarios(t).spot_move_e9[WINDOW:] / 1e9 == pytest.approx(happened, abs=2e-9)


def test_the_margin_is_the_tail_of_both_parts_by_weight() -> None:
    terms = Terms(floor_share=0.9, stress_weight=0.25, stressed=(100, 130))
    margin = runs(terms)["fhs", "long"].margin[0]
    t = SEED_COUNT + WINDOW
    volatility = forecasts(RETURNS.tolist(), 0.97, SEED_COUNT)
    floor = 0.9 * math.sqrt(sum(x * x for x in RETURNS[:t]) / t)
    target = max(volatility[t], floor)
    rescaled = [RETURNS[k] * min(10.0, target / volatility[k]) for k in range(t - WINDOW, t)]
    moves = [*rescaled, *RETURNS[100:130]]
    losses = [-round((math.exp(x) - 1) * 1e9) for x in moves]
    value, _ = tail(losses, [9] * WINDOW + [10] * 30, Fraction(99, 100))
    assert margin == pytest.approx(value / 1e9, abs=2e-9)


def test_a_history_too_short_for_a_horizon_is_refused_with_what_it_needs() -> None:
    with pytest.raises(ModelError, match="184 prices: 187 are needed"):
        run_backtest(series_of(normal_returns(1, 183)), ["fhs"], 0.99, 100, terms=Terms(horizon=9))


def test_weights_that_cannot_be_kept_exact_are_refused() -> None:
    terms = Terms(stress_weight=0.3333, stressed=(10, 10_007))
    series = series_of(normal_returns(1, 10_500) / 10)
    with pytest.raises(ModelError, match="cannot be kept exact"):
        run_backtest(series, ["fhs"], 0.9751, 10_007, terms=terms)
