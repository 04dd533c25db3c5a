"""Are probabilities what they say? Reliability by bins, and the Brier score against a base rate.

Sources: G. Brier, Verification of forecasts expressed in terms of probability (1950); A. Murphy, A
new vector partition of the probability score (1973).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from margin.invariant import Float64Array, Int64Array, check

EDGES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Between them the bins; the last holds both its ends."""


@dataclass(frozen=True)
class Bin:
    """Forecasts from `low` to `high`: how many, their mean, and how often it happened."""

    low: float
    high: float
    count: int
    mean_forecast: float
    observed: float


@dataclass(frozen=True)
class Reliability:
    """The score of some forecasts.

    `brier`: mean of (forecast - happened)^2. `base_brier`: of the share that happened, said every
    time. `skill`: 1 - brier / base_brier, above 0 where forecasts know more than that share.
    """

    count: int
    mean_forecast: float
    observed: float
    brier: float
    base_brier: float
    skill: float
    bins: tuple[Bin, ...]


def reliability(
    forecast: Float64Array, happened: Int64Array, edges: Sequence[float] = EDGES
) -> Reliability:
    """The score of `forecast[N]`, probabilities, against `happened[N]`, 0 or 1; no empty bins.

    `skill` is 0 where everything happened or nothing did. `InvariantBroken` without forecasts.
    """
    check(len(forecast) > 0, "reliability: no forecasts")
    check(forecast.shape == happened.shape, "reliability: an outcome for each forecast")
    share = float(happened.mean())
    brier, base = float(((forecast - happened) ** 2).mean()), share * (1 - share)
    at = np.minimum(np.searchsorted(edges, forecast, side="right") - 1, len(edges) - 2)
    bins = [
        Bin(edges[k], edges[k + 1], int(inside.sum()), float(forecast[inside].mean()),
            float(happened[inside].mean()))
        for k in range(len(edges) - 1)
        if (inside := at == k).any()
    ]  # fmt: skip
    skill = 1 - brier / base if base > 0 else 0.0
    return Reliability(
        len(forecast), float(forecast.mean()), share, brier, base, skill, tuple(bins)
    )
