"""Slow obvious twins of what a margin model remembers: HAR, at-the-money volatility, correlation.

Plain Python integers, one period at a time, everything that was seen kept in lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

from tests.reference.reference_dynamic import E9, root_up, up

MOST_VARIANCE = E9 * E9


class HarTwin:
    """Corsi 2009: constant + day x RV of 1 + week x mean RV of 5 + month x mean RV of 22."""

    def __init__(
        self, constant_e18: int, day_ppb: int, week_ppb: int, month_ppb: int, variance_e18: int
    ) -> None:
        self.constant, self.weights = constant_e18, (day_ppb, week_ppb, month_ppb)
        self.seen = [variance_e18] * 22  # the latest last
        self.variance = variance_e18

    def move(self, move_e9: int) -> int:
        """The forecast after a move, rounded down wherever something is divided."""
        self.seen.append(max(-E9, min(E9, move_e9)) ** 2)
        total = self.constant
        for weight, days in zip(self.weights, (1, 5, 22), strict=True):
            mean = sum(square // days for square in self.seen[-days:])
            total += mean * weight // E9
        self.variance = min(MOST_VARIANCE, total)
        return self.variance


class ImpliedTwin:
    """Scale of volatility shocks from an EWMA of relative moves of at-the-money volatility."""

    def __init__(
        self, *, decay_ppb: int, multiple_e9: int, least_e9: int, most_e9: int, shock_up_e9: int,
        horizon_periods: int,
    ) -> None:  # fmt: skip
        self.decay, self.multiple = decay_ppb, multiple_e9
        self.least, self.most, self.shock = least_e9, most_e9, shock_up_e9
        self.horizon = horizon_periods
        share = shock_up_e9 * E9 // multiple_e9  # a deviation over the horizon of scale 1
        self.variance = share * share // horizon_periods

    def move(self, before_e9: int, now_e9: int) -> int:
        """The scale that is aimed at after volatility went from one level to another."""
        move = max(-E9, min(E9, (now_e9 - before_e9) * E9 // before_e9))
        kept, added = self.variance * self.decay // E9, move * move * (E9 - self.decay) // E9
        self.variance = kept + added
        deviation = root_up(self.variance * self.horizon)
        return max(self.least, min(self.most, up(self.multiple * deviation, self.shock)))


class CorrelationTwin:
    """EWMA of products of moves, then correlations drawn toward a constant."""

    def __init__(
        self, variance_e18: Sequence[int], *, decay_ppb: int, shrinkage_ppb: int, toward_ppb: int
    ) -> None:
        self.decay, self.shrinkage, self.toward = decay_ppb, shrinkage_ppb, toward_ppb
        self.moment = [
            [a if i == j else isqrt(a * b) * toward_ppb // E9 for j, b in enumerate(variance_e18)]
            for i, a in enumerate(variance_e18)
        ]

    def move(self, moves_e9: Sequence[int]) -> list[list[int]]:
        """Correlations x 10^9 after one period's moves, to the nearest."""
        units = range(len(moves_e9))
        self.moment = [
            [
                (self.moment[i][j] * self.decay + moves_e9[i] * moves_e9[j] * (E9 - self.decay))
                // E9
                for j in units
            ]
            for i in units
        ]
        return [[self._drawn(i, j) for j in units] for i in units]

    def _drawn(self, i: int, j: int) -> int:
        if i == j:
            return E9
        scale = root_up(self.moment[i][i] * self.moment[j][j])
        own = self.toward
        if scale > 0:
            own = max(-E9, min(E9, _nearest(self.moment[i][j] * E9, scale)))
        return _nearest(own * (E9 - self.shrinkage) + self.toward * self.shrinkage, E9)


def _nearest(a: int, b: int) -> int:
    """a / b to the nearest integer, halves up."""
    return (2 * a + b) // (2 * b)
