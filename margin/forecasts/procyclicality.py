"""Tools against margin that rises when it hurts, and the figures that say what they cost.

A margin model that follows volatility asks for most when money is scarcest. EU regulation 153/2013
(article 28) has a clearing house choose at least one of three tools: a 25 % buffer that may be
used up in stress, at least 25 % weight on stressed observations, or a floor at long-run volatility.
A fourth bounds how fast margin may rise. All take and give margins as integers of any one scale.

Figures on a path of margins of a *fixed* position: peak to trough, and the largest rise over n
periods (D. Murphy, M. Vasios, N. Vause: FS paper 29, Bank of England, 2014).
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numba import njit

from margin.fixed_point import RATE_SCALE, mul_div_ceil, mul_div_floor
from margin.invariant import Float64Array, Int64Array, check

NO_CAP_PPB: Final = 2**40


class Tools(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which tools a model uses; the values left out switch a tool off.

    `buffer_ppb`: part added in calm and used up in stress. `stress_weight_ppb`: weight of the
    stressed margin. `floor_share_ppb`: the least margin as a part of the long-run one.
    `period_rise_ppb`: the most by which margin may rise in one period.
    """

    buffer_ppb: int = 0
    stress_weight_ppb: int = 0
    floor_share_ppb: int = 0
    period_rise_ppb: int = NO_CAP_PPB

    def __post_init__(self) -> None:
        for key in ("buffer_ppb", "stress_weight_ppb", "floor_share_ppb"):
            inside = 0 <= getattr(self, key) <= RATE_SCALE
            check(inside, f"procyclicality: {key} must lie in 0 .. 1")
        check(0 < self.period_rise_ppb <= NO_CAP_PPB, "procyclicality: a rise must be positive")


@njit(cache=True)
def _moderated(
    model: Int64Array,
    long_run: Int64Array,
    stressed: Int64Array,
    before: Int64Array,
    tools: tuple[int, int, int, int],
    out: Int64Array,
) -> None:
    buffer, weight, share, rise = tools
    for k in range(len(model)):
        margin = model[k]
        if weight > 0:
            margin = mul_div_ceil(margin, RATE_SCALE - weight, RATE_SCALE) + mul_div_ceil(
                stressed[k], weight, RATE_SCALE
            )
        if buffer > 0:
            # Up to the long-run margin the buffer is whole; above, it is used up first.
            held = mul_div_ceil(min(margin, long_run[k]), RATE_SCALE + buffer, RATE_SCALE)
            margin = max(margin, held)
        margin = max(margin, mul_div_ceil(long_run[k], share, RATE_SCALE))
        if before[k] > 0 and rise < NO_CAP_PPB:
            margin = min(margin, before[k] + mul_div_floor(before[k], rise, RATE_SCALE))
        out[k] = margin


def moderated(
    tools: Tools, model: Int64Array, long_run: Int64Array, stressed: Int64Array, before: Int64Array
) -> Int64Array:
    """Margins after the tools, shape [F] like all arguments, each 0 to 2^61 and of one scale.

    `model`: what the model asks now; `long_run`: what it asks on average over a long time;
    `stressed`: what it asks on stressed observations; `before`: what was charged in the period
    before (0: nothing, so no bound on the rise). Rounded up, the bound down.
    """
    out = np.empty(len(model), np.int64)
    columns = (tools.buffer_ppb, tools.stress_weight_ppb, tools.floor_share_ppb,
               tools.period_rise_ppb)  # fmt: skip
    _moderated(model, long_run, stressed, before, columns, out)
    return out


def peak_to_trough(margin: Int64Array) -> Float64Array:
    """Largest over smallest margin of each path, shape [F] from `margin[T, F]`, all positive."""
    ratio: Float64Array = margin.max(axis=0) / margin.min(axis=0)
    return ratio


def largest_rise(margin: Int64Array, periods: int) -> Float64Array:
    """max over t of margin[t + periods] / margin[t] - 1 of each path, shape [F]."""
    check(0 < periods < len(margin), "procyclicality: the path is too short")
    rise: Float64Array = (margin[periods:] / margin[:-periods]).max(axis=0) - 1.0
    return rise


def warm_up() -> None:
    """Compile the kernel of this module."""
    one = np.zeros(1, np.int64)
    moderated(Tools(), one, one, one, one)
