"""Slow obvious twins of the margin of the cycles to come: fractions, bisection, quadrature."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, erfc, gamma, pi, sqrt

E9 = 10**9
BROADIE_GLASSERMAN_KOU = 0.5825971579390107


def forecast_initial(
    initial: int, worst: int, factor_ppb: int, growth: int, after: int, funding: int
) -> int:
    """The most of what a pool is forecast to need, each product rounded up."""
    charged = ceil(Fraction(worst * factor_ppb, E9))
    grown = initial + ceil(Fraction(charged * (growth - E9), E9))
    return max(initial, grown, ceil(Fraction(after * growth, E9))) + max(0, funding)


def beyond(distance: float, freedom: int) -> float:
    """Chance of a move of deviation 1 beyond a distance, on one side; Student's t by Simpson."""
    if freedom == 0:
        return 0.5 * erfc(distance / sqrt(2))
    t = distance * sqrt(freedom / (freedom - 2))
    scale = gamma((freedom + 1) / 2) / sqrt(freedom * pi) / gamma(freedom / 2)
    steps = 2000
    width = t / steps
    inside = 0.0
    for k in range(steps + 1):
        weight = 1 if k in (0, steps) else 4 if k % 2 else 2
        inside += weight * scale * (1 + (k * width) ** 2 / freedom) ** (-(freedom + 1) / 2)
    return 0.5 - inside * width / 3


def first_below(gain: Callable[[float], float], level: float, way: int) -> float | None:
    """How far the move must go in one direction until the gain falls to a level; None: never."""
    far = 0.0
    while gain(way * far) > level:
        far += 0.01
        if far > 60:
            return None
    low, high = far - 0.01, far
    for _ in range(60):
        middle = (low + high) / 2
        if gain(way * middle) > level:
            low = middle
        else:
            high = middle
    return high


def call_probability(
    slopes: Sequence[int], bends: Sequence[int], rho_ppb: Sequence[Sequence[int]], cushion: float,
    fat_tail_e9: int, freedom: int, cycles: int,
) -> float:  # fmt: skip
    """Twice the chance to end beyond each root of a z + b z^2 = -room, moved by the correction."""
    if cushion <= 0:
        return 1.0
    pairs = [(i, j, rho_ppb[i][j] / E9) for i in range(len(slopes)) for j in range(len(slopes))]
    a = sqrt(max(0.0, sum(rho * slopes[i] * slopes[j] for i, j, rho in pairs)))
    b = sqrt(max(0.0, sum(rho * rho * bends[i] * bends[j] for i, j, rho in pairs)))
    mean = sum(bends)
    b = -b if mean < 0 else b
    room = cushion + min(0.0, mean - b)
    if room <= 0:
        return 1.0
    likely = 0.0
    for way in (1, -1):
        barrier = first_below(lambda z: a * z + b * z * z, -room, way)
        if barrier is not None:
            distance = barrier / (fat_tail_e9 / E9) + BROADIE_GLASSERMAN_KOU / sqrt(cycles)
            likely += 2 * beyond(distance, freedom)
    return min(1.0, likely)
