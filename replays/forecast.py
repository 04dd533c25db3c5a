"""Margin models of a backtest: from what is known at a time, the distribution of the next period.

A model is fitted to a history once, causally: what it says at period t uses returns before t only.
It gives the volatility with which options are marked where nothing else does, and scenarios of the
next move, weighted, in whole 10^-9. Requirements come from `margin.simulation.historical`,
`margin.simulation.tail_measures` and, for one price and a normal quantile,
`margin.models.lognormal`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from margin.fixed_point import RATE_SCALE
from margin.invariant import Float64Array, Int64Array
from margin.models.lognormal import risk_factors, tail_risk
from margin.simulation.historical import stress_weights
from margin.simulation.returns import ewma_volatility, moves_e9, overlapping_sums, rescale

SEED_COUNT = 60  # returns that start the volatility recursion and are nothing else
STRESSED_COUNT = 60  # returns of the worst window
FHS_DECAY = 0.97
RATIO_MOST = 10.0

# The normal distribution as weighted points: this many in a tail of the width of the confidence's
# own, tails as wide as that many of it, and this many between them.
TAIL_POINTS, TAIL_WIDTH, BODY_POINTS = 50, 4, 100
# Gauss and Hermite's three points of a standard normal: exact up to the fifth moment.
RESIDUAL_NODES = np.array([-math.sqrt(3.0), 0.0, math.sqrt(3.0)])
RESIDUAL_WEIGHTS = np.array([1, 4, 1], np.int64)


class ModelError(ValueError):
    """A model that does not exist, or cannot be used on this history."""


class Tail(NamedTuple):
    """Value at risk and expected shortfall, fractions of the price."""

    value_at_risk: float
    expected_shortfall: float


class Terms(NamedTuple):
    """What a backtest asks of its models beside their names.

    `horizon` periods that a margin covers. Of `fhs` alone: `floor_share` of the volatility of all
    returns so far is the least that returns are brought to; `stress_weight` of the total is that
    of the returns of a stressed period, as they happened: those of rows `stressed` (first, past the
    last) once they are over, else the `STRESSED_COUNT` successive ones so far whose mean square is
    the largest.
    """

    horizon: int = 1
    floor_share: float = 0.0
    stress_weight: float = 0.0
    stressed: tuple[int, int] | None = None


ONE_PERIOD = Terms()


class Scenarios(NamedTuple):
    """Moves of price and of the volatility that marks options, shape [S] in 10^-9, and weights."""

    spot_move_e9: Int64Array
    volatility_move_e9: Int64Array
    weight: Int64Array


class Forecast(ABC):
    """One model on one history; t runs over returns, `len(returns)` is the one still to come."""

    name: str

    def __init__(
        self, returns: Float64Array, implied: Float64Array | None, window: int, tail: float,
        terms: Terms = ONE_PERIOD,
    ) -> None:  # fmt: skip
        """`returns[T]` of the price, `implied[T]` of the implied volatility if there is one.

        `window` returns are scenarios, after `SEED_COUNT`; `tail` is 1 - confidence.
        """
        self.window, self.tail, self.terms, self.horizon = window, tail, terms, terms.horizon
        self.has_implied = implied is not None
        columns = [returns] if implied is None else [returns, implied]
        self.returns: Float64Array = np.stack(columns, axis=1)

    @abstractmethod
    def volatility(self, t: int) -> float:
        """Standard deviation of return t as seen before it."""

    @abstractmethod
    def scenarios(self, t: int) -> Scenarios:
        """What return t may be."""

    def closed_tails(self, t: int) -> tuple[Tail, Tail] | None:
        """Tails of one coin (long, short) where they have a formula."""
        return None


class FilteredHistorical(Forecast):
    """Returns of a window, brought to today's EWMA volatility, price and iv of the same dates."""

    def __init__(
        self, returns: Float64Array, implied: Float64Array | None, window: int, tail: float,
        decay: float = FHS_DECAY, terms: Terms = ONE_PERIOD,
    ) -> None:  # fmt: skip
        """`decay` of the volatility recursion."""
        super().__init__(returns, implied, window, tail, terms)
        self.name = "fhs" if decay == FHS_DECAY else f"fhs-{decay:g}"
        self.decay = decay
        self.forecasts = ewma_volatility(self.returns, decay, SEED_COUNT)
        squares = np.cumsum(self.returns**2, axis=0)
        self._long_run = np.sqrt(squares / np.arange(1, len(squares) + 1)[:, None])
        self._worst = _worst_ends(self.returns[:, 0], STRESSED_COUNT, self.horizon - 1)

    def volatility(self, t: int) -> float:
        """The EWMA forecast."""
        return float(self.forecasts[t, 0])

    def scenarios(self, t: int) -> Scenarios:
        """The last `window` returns, rescaled, and those of the stressed period as they were."""
        h = self.horizon
        past = slice(t - self.window - h + 1, t)
        floor = self._long_run[t - 1] * self.terms.floor_share
        scaled = rescale(
            self.returns[past], self.forecasts[past], self.forecasts[t], floor, RATIO_MOST
        )
        sums, weight = overlapping_sums(scaled, h, self.window), np.ones(self.window, np.int64)
        first, last = self._stressed(t)
        if last > first:
            seen = overlapping_sums(self.returns[:last], h, last - first)
            sums = np.vstack((sums, seen))
            weight = stress_weights(
                self.window, last - first, round(self.terms.stress_weight * RATE_SCALE)
            )
        spot = np.ascontiguousarray(sums[:, 0])
        if self.has_implied:
            marked = moves_e9(np.ascontiguousarray(sums[:, 1]))
        else:
            marked = updated_volatility_e9(spot, self.volatility(t), self.decay, h)
        return Scenarios(moves_e9(spot), marked, weight)

    def _stressed(self, t: int) -> tuple[int, int]:
        """The stressed returns known before return t; none without a weight, or not yet over."""
        if not self.terms.stress_weight:
            return 0, 0
        if self.terms.stressed is None:
            last = int(self._worst[t])
            return last - STRESSED_COUNT, last
        first, last = self.terms.stressed
        return (first, last) if last <= t else (0, 0)


class EwmaNormal(Forecast):
    """A normal return with the EWMA volatility; iv jointly normal, with the EWMA correlation."""

    def __init__(
        self, returns: Float64Array, implied: Float64Array | None, window: int, tail: float,
        decay: float, terms: Terms = ONE_PERIOD,
    ) -> None:  # fmt: skip
        """`decay` of the recursions of variances and of the covariance."""
        super().__init__(returns, implied, window, tail, terms)
        self.name = f"ewma-{decay:g}"
        self.decay = decay
        self.forecasts = ewma_volatility(self.returns, decay, SEED_COUNT)
        self.points, self._weight = normal_points(tail)
        self.correlation = np.zeros(len(returns) + 1)
        if self.has_implied:
            # cov = (var of the sum - var of the difference) / 4, each by the same recursion
            a, b = self.returns.T
            sums = ewma_volatility(np.stack((a + b, a - b), axis=1), decay, SEED_COUNT)
            covariance = (sums[:, 0] ** 2 - sums[:, 1] ** 2) / 4
            scale = np.maximum(self.forecasts[:, 0] * self.forecasts[:, 1], 1e-300)
            self.correlation = np.clip(covariance / scale, -1.0, 1.0)

    def volatility(self, t: int) -> float:
        """The EWMA forecast."""
        return float(self.forecasts[t, 0])

    def scenarios(self, t: int) -> Scenarios:
        """Weighted points of the normal, times three of the residual if there is an iv."""
        root = math.sqrt(self.horizon)
        spot = self.points * (self.volatility(t) * root)
        if not self.has_implied:
            marked = updated_volatility_e9(spot, self.volatility(t), self.decay, self.horizon)
            return Scenarios(moves_e9(spot), marked, self._weight)
        rho = float(self.correlation[t])
        residual = math.sqrt(1.0 - rho * rho) * RESIDUAL_NODES
        implied = (rho * self.points[:, None] + residual) * (self.forecasts[t, 1] * root)
        return Scenarios(
            moves_e9(np.repeat(spot, len(residual))),
            moves_e9(np.ascontiguousarray(implied.reshape(-1))),
            (self._weight[:, None] * RESIDUAL_WEIGHTS).reshape(-1),
        )

    def closed_tails(self, t: int) -> tuple[Tail, Tail]:
        """Lognormal closed forms with median 1: exp(sigma z)."""
        sigma = self.volatility(t) * math.sqrt(self.horizon)
        quantile = -tail_risk(0.0, sigma, self.tail).value_at_risk
        long, short = risk_factors(sigma, 1.0, 0.5 * sigma * sigma, self.tail)
        return Tail(1.0 - quantile, long), Tail(1.0 / quantile - 1.0, short)


class Flat(Forecast):
    """The first `window` returns as they were, never changed: what reacting to nothing costs."""

    def __init__(
        self, returns: Float64Array, implied: Float64Array | None, window: int, tail: float,
        terms: Terms = ONE_PERIOD,
    ) -> None:  # fmt: skip
        """See `Forecast`."""
        super().__init__(returns, implied, window, tail, terms)
        self.name = "flat"
        first = self.returns[SEED_COUNT : SEED_COUNT + window]
        self._volatility = math.sqrt(float((first[:, 0] ** 2).mean()))
        known = self.returns[: SEED_COUNT + window]
        first = overlapping_sums(known, terms.horizon, window)
        marked = moves_e9(np.ascontiguousarray(first[:, -1])) if self.has_implied else None
        self._scenarios = Scenarios(
            moves_e9(np.ascontiguousarray(first[:, 0])),
            np.zeros(window, np.int64) if marked is None else marked,
            np.ones(window, np.int64),
        )

    def volatility(self, t: int) -> float:
        """That of the first window."""
        return self._volatility

    def scenarios(self, t: int) -> Scenarios:
        """Those of the first window."""
        return self._scenarios


def updated_volatility_e9(
    spot: Float64Array, volatility: float, decay: float, horizon: int = 1
) -> Int64Array:
    """Move of the EWMA forecast itself after each return: sqrt(decay + (1 - decay) z^2) - 1.

    Over a horizon as after so many returns of equal size: z and the decay are those of all of them.
    """
    over = volatility * math.sqrt(horizon)
    kept = decay**horizon
    z = spot / over if over > 0.0 else spot
    updated = np.sqrt(kept + (1.0 - kept) * z * z) - 1.0
    return np.rint(updated * RATE_SCALE).astype(np.int64)


def _worst_ends(returns: Float64Array, count: int, begins: int) -> Int64Array:
    """For each t up to the number of returns: past the worst `count` successive ones before t.

    The worst have the largest sum of squares, of equals the first. `begins` returns come before
    any of them, which a horizon needs.
    """
    total = np.concatenate(([0.0], np.cumsum(returns * returns)))
    ends = np.full(len(total), count + begins, np.int64)
    best = -1.0
    for t in range(count + begins, len(total)):
        square = float(total[t] - total[t - count])
        ends[t] = t if square > best else ends[t - 1]
        best = max(best, square)
    return ends


def normal_points(tail: float) -> tuple[Float64Array, Int64Array]:
    """Standard normal values and whole weights, fine in both tails: midpoints of equal parts."""
    part = round(tail * RATE_SCALE) // TAIL_POINTS
    count = min(TAIL_POINTS * TAIL_WIDTH, RATE_SCALE // 4 // part)
    body = (RATE_SCALE - 2 * count * part) // BODY_POINTS
    weight = np.array([part] * count + [body] * BODY_POINTS + [part] * count, np.int64)
    middle = np.cumsum(weight) - weight / 2
    return np.asarray(ndtri(middle / weight.sum()), dtype=np.float64), weight


def model_of(name: str) -> tuple[str, float]:
    """Kind and decay of a model's name: `fhs`, `fhs-DECAY`, `ewma-DECAY` or `flat` (decay 0).

    `ModelError` for any other.
    """
    kind, _, number = name.strip().partition("-")
    if not number and kind in ("fhs", "flat"):
        return kind, FHS_DECAY if kind == "fhs" else 0.0
    try:
        decay = float(number)
    except ValueError:
        decay = math.nan
    if kind not in ("fhs", "ewma") or not 0.0 < decay < 1.0:
        raise ModelError(
            f"no model {name!r}; there are fhs, fhs-DECAY, ewma-DECAY (0 < DECAY < 1) and flat"
        )
    return kind, decay


def make_forecast(
    name: str, returns: Float64Array, implied: Float64Array | None, window: int, tail: float,
    terms: Terms = ONE_PERIOD,
) -> Forecast:  # fmt: skip
    """The model of a name (`model_of`) on a history, see `Forecast`."""
    kind, decay = model_of(name)
    if kind == "flat":
        return Flat(returns, implied, window, tail, terms)
    model = FilteredHistorical if kind == "fhs" else EwmaNormal
    return model(returns, implied, window, tail, decay, terms)
