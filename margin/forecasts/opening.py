"""What a model that forecasts says before it has seen a market: the state that its file describes.

A portfolio has no past. A model whose ranges move is then asked at the ranges of its file, as if
the market had always been as volatile as these ranges say, and a floor of its forecast
(`margin.forecasts.predictive`) is that of the cycles to come from there: none where the forecast is
that nothing changes, as an EWMA's is, more where volatility returns to a long run that is higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from margin.fixed_point import RATE_SCALE
from margin.forecasts.predictive import growth_ppb, range_path_e9
from margin.forecasts.ranges import (
    RangeTerms,
    opening,
    period_variance_e18,
    range_terms,
    targets_e9,
)
from margin.presets.preset import Preset

_MOST_ANNUAL_E9: Final = 20 * RATE_SCALE


def usual_volatilities_e9(terms: RangeTerms) -> list[int]:
    """The least annual volatility of each unit at which its range is that of the file, x 10^9."""
    low, high = [1] * len(terms.classes), [_MOST_ANNUAL_E9] * len(terms.classes)
    while low != high:
        middle = [(a + b) // 2 for a, b in zip(low, high, strict=True)]
        variance = [period_variance_e18(e9, terms.section.period_s) for e9 in middle]
        reached = (targets_e9(terms, variance, variance) >= terms.static_e9).tolist()
        high = [b if there else c for b, c, there in zip(middle, high, reached, strict=True)]
        low = [
            min(c, a if there else b + 1)
            for a, b, c, there in zip(low, middle, high, reached, strict=True)
        ]
    return low


def opening_growth_ppb(
    preset: Preset, classes: Sequence[str], time_ns: int, interval_ns: int
) -> int:
    """Growth of ranges that the floor of a model charges in its opening state, x 10^9.

    At least 1; 1 in a model without such a floor. Classes in any order, each as often as it likes.
    """
    predictive = preset.predictive
    if predictive is None or not predictive.floor:
        return RATE_SCALE
    terms = range_terms(preset, sorted(set(classes)))
    state = opening(terms, usual_volatilities_e9(terms))
    path = range_path_e9(terms, state, time_ns, interval_ns, predictive.cycles)
    return growth_ppb(state.range_e9.tolist(), path)
