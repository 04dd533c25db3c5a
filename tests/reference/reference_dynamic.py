"""Slow obvious twins of moving ranges and of offsets between coins: plain Python integers."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt

E9 = 10**9


def root_up(x: int) -> int:
    root = isqrt(x)
    return root if root * root == x else root + 1


def up(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


def offset_minor(
    losses: Sequence[int], directions: Sequence[int], rho_ppb: Sequence[Sequence[int]],
    share_ppb: int, most_minor: int,
) -> int:  # fmt: skip
    """min(cap, sum L - sqrt(sum_ij rho_ij d_i d_j L_i L_j)) over the losses with a direction.

    The losses are cut by as many bits as bring their sum below 2^30; what is cut off counts whole.
    """
    moving = [unit for unit in range(len(losses)) if directions[unit] != 0]
    total = sum(losses[unit] for unit in moving)
    shift = max(0, total.bit_length() - 30)
    cut = {unit: losses[unit] // 2**shift for unit in moving}
    rest = sum(losses[unit] - cut[unit] * 2**shift for unit in moving)
    form = 0
    for i in moving:
        for j in moving:
            if i == j:
                form += cut[i] ** 2
            elif i > j:
                product = directions[i] * directions[j] * rho_ppb[i][j] * cut[i] * cut[j]
                form += 2 * up(product, E9)
    together = root_up(max(0, form)) * 2**shift + rest
    cap = min(most_minor, sum(losses) * share_ppb // E9)
    return min(cap, max(0, total - together))


class Range:
    """One unit's range under an EWMA forecast and every tool, step by step."""

    def __init__(
        self, *, decay_ppb: int, long_run_decay_ppb: int, multiple_e9: int, horizon_periods: int,
        stress_weight_ppb: int, stressed_e9: int, buffer_ppb: int, floor_share_ppb: int,
        least_e9: int, most_e9: int, cycle_rise_ppb: int, day_rise_ppb: int, variance_e18: int,
    ) -> None:  # fmt: skip
        self.decay, self.slow = decay_ppb, long_run_decay_ppb
        self.multiple, self.horizon = multiple_e9, horizon_periods
        self.weight, self.stressed = stress_weight_ppb, stressed_e9
        self.buffer, self.share = buffer_ppb, floor_share_ppb
        self.least, self.most = least_e9, most_e9
        self.cycle_rise, self.day_rise = cycle_rise_ppb, day_rise_ppb
        self.variance = self.long_run = variance_e18
        self.range = self.day_range = self.target = self._target()

    def _model(self, variance: int) -> int:
        return up(self.multiple * root_up(variance * self.horizon), E9)

    def _weighted(self, margin: int) -> int:
        if self.weight == 0:
            return margin
        return up(margin * (E9 - self.weight), E9) + up(self.stressed * self.weight, E9)

    def _target(self) -> int:
        margin, calm = self._weighted(self._model(self.variance)), self._model(self.long_run)
        calm = self._weighted(calm)
        margin = max(margin, up(min(margin, calm) * (E9 + self.buffer), E9))
        margin = max(margin, up(calm * self.share, E9))
        return min(self.most, max(self.least, margin))

    def new_day(self) -> None:
        self.day_range = self.range

    def move(self, move_e9: int) -> None:
        """One period's move of the index."""
        square = move_e9 * move_e9

        def decayed(variance: int, decay: int) -> int:
            return variance * decay // E9 + square * (E9 - decay) // E9

        self.variance = decayed(self.variance, self.decay)
        self.long_run = decayed(self.long_run, self.slow)
        self.target = self._target()

    def cycle(self) -> int:
        """One cycle: the range moves to its target as far as it may."""
        wanted = min(self.target, self.range + self.range * self.cycle_rise // E9)
        self.range = min(wanted, self.day_range + self.day_range * self.day_rise // E9)
        return self.range
