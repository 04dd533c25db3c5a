"""Slow twin of the historical simulation (`margin.simulation`): one number at a time.

Floats come from libm, so scenarios agree to float precision; tails are exact fractions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from tests.reference.reference_margin import black_76


def forecasts(returns: Sequence[float], decay: float, seed_count: int) -> list[float]:
    """Volatility forecast for every return, and one more for the next."""
    variance = sum(r * r for r in returns[:seed_count]) / seed_count
    volatility = [math.sqrt(variance)]
    for r in returns:
        variance = decay * variance + (1 - decay) * r * r
        volatility.append(math.sqrt(variance))
    return volatility


def filtered_returns(
    levels: Sequence[float], decay: float, seed_count: int, floor: float, ratio_most: float
) -> list[float]:
    """r / sigma_t x max(sigma_now, floor) of every return after the seed."""
    returns = [math.log(b / a) for a, b in pairwise(levels)]
    volatility = forecasts(returns, decay, seed_count)
    target = max(volatility[-1], floor)
    return [
        r * min(target / sigma, ratio_most) if sigma > 0 else r
        for r, sigma in zip(returns[seed_count:], volatility[seed_count:-1], strict=True)
    ]


def sums_ending_last(returns: Sequence[float], steps: int, count: int) -> list[float]:
    """The last `count` sums of `steps` successive returns."""
    ends = range(len(returns) - count + 1, len(returns) + 1)
    return [sum(returns[end - steps : end]) for end in ends]


def tail(losses: Sequence[int], weights: Sequence[int], level: Fraction) -> tuple[int, Fraction]:
    """(value at risk, expected shortfall) of weighted losses, exact."""
    mass = (1 - level) * sum(weights)
    left, shortfall, value = mass, Fraction(0), 0
    for loss, weight in sorted(zip(losses, weights, strict=True), reverse=True):
        if left <= 0:
            break
        part = min(Fraction(weight), left)
        shortfall += loss * part
        left -= part
        value = loss
    return value, shortfall / mass


def option_profit(
    forward: float, strike: float, volatility: float, years: float, is_call: bool,
    move: float, volatility_move: float, aged_years: float,
) -> float:  # fmt: skip
    """Profit of one long option on one coin, undiscounted."""
    before = black_76(forward, strike, volatility, years, 1.0, is_call)
    moved = volatility * (1 + volatility_move)
    left = max(0.0, years - aged_years)
    return black_76(forward * (1 + move), strike, moved, left, 1.0, is_call) - before
