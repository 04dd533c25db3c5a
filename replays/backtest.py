"""Margins of the past against what happened next: out of sample, one period at a time.

At every period the margin is the value at risk of the next one, from prices up to now. Three
portfolios: one coin long, one short, and one short straddle at the money that is rolled every
period into a new one of 30 days. All figures are fractions of the price at the period's start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from margin.black76 import price_into
from margin.fixed_point import NS_PER_DAY, NS_PER_YEAR, PRICE_SCALE, RATE_SCALE
from margin.invariant import Float64Array, Int64Array, InvariantBroken
from margin.portfolio import LINEAR_CALL, LINEAR_PUT, Instruments, Marks
from margin.simulation.coverage import acerbi_szekely, christoffersen, kupiec, peak_to_trough
from margin.simulation.historical import (
    SimulatedMoves,
    SimulationTerms,
    lot_profits,
    stress_weights,
)
from margin.simulation.returns import log_returns
from margin.simulation.tail_measures import tail_measures, tail_weights
from replays.forecast import (
    ONE_PERIOD,
    SEED_COUNT,
    STRESSED_COUNT,
    Forecast,
    ModelError,
    Scenarios,
    Tail,
    Terms,
    make_forecast,
    model_of,
)
from replays.price_file import PriceSeries

PORTFOLIOS = ("long", "short", "straddle")
LONG, SHORT, STRADDLE = range(3)
DEFAULT_MODELS = ("fhs", "ewma-0.94", "ewma-0.97", "ewma-0.99", "flat")
STRADDLE_NS = 30 * NS_PER_DAY
# An index of 1000 USDC is 10^9 minor units: a profit of one coin in them is a fraction in 10^-9.
_INDEX_E8 = 1000 * PRICE_SCALE
_FRACTION = 1e9

Progress = Callable[[int, int], None]  # models done, of how many


class Run(NamedTuple):
    """One model on one portfolio, shape [N] each, fractions of the price; `time_ns` of the loss."""

    model: str
    portfolio: str
    probability: float
    time_ns: Int64Array
    margin: Float64Array
    shortfall: Float64Array
    loss: Float64Array

    def figures(self) -> dict[str, Any]:
        """Counts, tests and costs, by name."""
        breached = self.loss > self.margin
        breaches, count = int(breached.sum()), len(self.loss)
        number = kupiec(breaches, count, self.probability)
        clusters = christoffersen(breached, self.probability)
        depth = acerbi_szekely(self.loss, self.margin, self.shortfall, self.probability)
        return {
            "portfolio": self.portfolio,
            "model": self.model,
            "observations": count,
            "breaches": breaches,
            "breach_rate": breaches / count,
            "kupiec_lr": number.statistic,
            "kupiec_p": number.p_value,
            "independence_lr": clusters.independence.statistic,
            "independence_p": clusters.independence.p_value,
            "conditional_coverage_lr": clusters.conditional_coverage.statistic,
            "conditional_coverage_p": clusters.conditional_coverage.p_value,
            "shortfall_z2": depth.statistic,
            "shortfall_critical_95": depth.critical_95,
            "average_margin": float(self.margin.mean()),
            "peak_to_trough": peak_to_trough(self.margin),
        }


class _Straddle:
    """One call and one put at the money, on a price that is always 1000."""

    def __init__(self, step_ns: int) -> None:
        """`step_ns`: how long it is held."""
        self.terms = SimulationTerms(horizons=(1,), step_ns=step_ns, ages_options=True)
        two = np.zeros(2, np.int64)
        self.instruments = Instruments(
            np.array([LINEAR_CALL, LINEAR_PUT], np.int64), two, two + STRADDLE_NS,
            two + _INDEX_E8, two + PRICE_SCALE, two,
        )  # fmt: skip
        self._index = np.array([_INDEX_E8], np.int64)
        self._tenor = np.array([STRADDLE_NS], np.int64)

    def short_profit_e9(self, scenarios: Scenarios, volatility: float) -> Int64Array:
        """Profit of the short straddle in each scenario, one period older."""
        two = np.zeros(2, np.int64)
        volatility_e9 = two + max(1, round(volatility * _FRACTION))
        marks = Marks(0, self._index, two, two + _INDEX_E8, volatility_e9, two)
        moves = SimulatedMoves(
            scenarios.spot_move_e9.reshape(1, -1, 1),
            scenarios.volatility_move_e9.reshape(1, -1, 1, 1),
            self._tenor,
            scenarios.weight,
        )
        lot = lot_profits(moves, self.instruments, marks, 0, self.terms).lot[0]
        loss: Int64Array = -(lot[0] + lot[1])
        return loss

    def value(self, ratio: Float64Array, volatility: Float64Array, left_ns: int) -> Float64Array:
        """Call and put at strike 1 with the price at `ratio`, one a row."""
        one = np.ones(len(ratio))
        years = one * (max(0, left_ns) / NS_PER_YEAR)
        total = np.zeros(len(ratio))
        for is_call in (True, False):
            side = np.empty(len(ratio))
            price_into(ratio, one, volatility, years, one, np.full(len(ratio), is_call), side)
            total += side
        return total


def run_backtest(
    series: PriceSeries,
    models: Sequence[str],
    confidence: float,
    window: int,
    progress: Progress | None = None,
    terms: Terms = ONE_PERIOD,
) -> list[Run]:
    """Every model on every portfolio, portfolio by portfolio, over the same periods.

    The first `SEED_COUNT` + `window` returns are history only, with a horizon of h periods h - 1
    more. Then every h periods are a margin and what came in them, so that no return is tested
    twice. `confidence` to four places. `ModelError` for an unknown model, too short a history, or
    weights that are too fine to be added exactly.
    """
    for name in models:
        model_of(name)
    level_ppb = round(confidence * 10_000) * (RATE_SCALE // 10_000)
    tail = (RATE_SCALE - level_ppb) / RATE_SCALE
    returns = log_returns(series.price_e8.reshape(-1, 1))[:, 0]
    implied = None
    if series.volatility_e9 is not None:
        implied = log_returns(series.volatility_e9.reshape(-1, 1))[:, 0]
    first = SEED_COUNT + window + terms.horizon - 1
    least = first + 2 * terms.horizon
    if len(returns) < least:
        raise ModelError(
            f"{len(series.price_e8)} prices: {least + 1} are needed, {SEED_COUNT} to start the "
            f"volatility, {window} for the window (--window) and two margins with what came next"
        )
    _check_weights(window, terms, level_ppb)
    forecasts = [make_forecast(name, returns, implied, window, tail, terms) for name in models]
    starts = np.arange(first, len(returns) - terms.horizon + 1, terms.horizon)
    runs = []
    for number, forecast in enumerate(forecasts):
        if progress is not None:
            progress(number, len(forecasts))
        margin, shortfall = _margins(forecast, series, level_ppb, starts)
        loss = _losses(forecast, series, starts)
        runs += [
            Run(forecast.name, portfolio, tail, series.time_ns[starts + terms.horizon],
                margin[:, row], shortfall[:, row], loss[:, row])
            for row, portfolio in enumerate(PORTFOLIOS)
        ]  # fmt: skip
    return sorted(runs, key=lambda run: PORTFOLIOS.index(run.portfolio))


def _annual(forecast: Forecast, series: PriceSeries, t: int) -> float:
    """The volatility a straddle is marked at before return t."""
    if series.volatility_e9 is not None:
        return float(series.volatility_e9[t]) / _FRACTION
    return forecast.volatility(t) * math.sqrt(NS_PER_YEAR / series.step_ns)


def _margins(
    forecast: Forecast, series: PriceSeries, level_ppb: int, starts: Int64Array
) -> tuple[Float64Array, Float64Array]:
    """Margins and shortfalls [N,3] at the prices `starts`, each from what came before."""
    straddle = _Straddle(series.step_ns * forecast.horizon)
    margin, shortfall = np.empty((len(starts), 3)), np.empty((len(starts), 3))
    for number, t in enumerate(starts.tolist()):
        scenarios = forecast.scenarios(t)
        short = straddle.short_profit_e9(scenarios, _annual(forecast, series, t))
        profit = np.stack((scenarios.spot_move_e9, -scenarios.spot_move_e9, short))
        closed = forecast.closed_tails(t)
        rows = profit if closed is None else profit[STRADDLE:]
        value, mean = tail_measures(rows, scenarios.weight, level_ppb)
        tails = [Tail(v / _FRACTION, m / _FRACTION) for v, m in zip(value, mean, strict=True)]
        for row, found in enumerate([*(closed or ()), *tails]):
            margin[number, row] = max(0.0, found.value_at_risk)
            shortfall[number, row] = max(0.0, found.expected_shortfall)
    return margin, shortfall


def _losses(forecast: Forecast, series: PriceSeries, starts: Int64Array) -> Float64Array:
    """What each portfolio lost over the horizon from each of the prices `starts`, shape [N,3]."""
    price, ends = series.price_e8.astype(np.float64), starts + forecast.horizon
    ratio = price[ends] / price[starts]
    held_ns = series.step_ns * forecast.horizon
    sold_at, bought_at = (
        np.array([_annual(forecast, series, t) for t in at.tolist()]) for at in (starts, ends)
    )
    straddle = _Straddle(held_ns)
    sold = straddle.value(np.ones(len(ratio)), sold_at, STRADDLE_NS)
    bought = straddle.value(ratio, bought_at, STRADDLE_NS - held_ns)
    return np.stack((1.0 - ratio, ratio - 1.0, bought - sold), axis=1)


def _check_weights(window: int, terms: Terms, level_ppb: int) -> None:
    if not terms.stress_weight:
        return
    first, last = terms.stressed or (0, STRESSED_COUNT)
    weight = stress_weights(window, last - first, round(terms.stress_weight * RATE_SCALE))
    try:
        tail_weights(weight, level_ppb)
    except InvariantBroken:
        raise ModelError(
            "the stressed period's weight cannot be kept exact: round --stress-weight or --window"
        ) from None
