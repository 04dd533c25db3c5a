"""An index that never ends: given points first (a story, an opening price), then a random walk."""

from __future__ import annotations

from bisect import bisect_right
from math import isqrt
from random import Random

from exchange.feed import PathFeed, Reading
from margin.fixed_point import RATE_SCALE

NS = 10**9
YEAR_S = 365 * 86_400
DRAWS = 12
DRAW_MAX = 1_000_000  # the sum of 12 draws from -max..max has a standard deviation of 2 x max
STEPS_MAX = 4_096  # after a long silence the steps are longer, not more
FLOOR_PARTS = 20  # the walk stays above a twentieth of where it begins
HISTORY_NS = 60 * NS

Points = list[tuple[int, int]]


class WalkFeed(PathFeed):
    """Follows its points; past the last one each price walks on from there.

    A step's deviation is the price times the annual volatility times the square root of its time
    (Brownian motion in price, integers only). The same points, volatilities and seed give the same
    walk to whoever reads at the same times.
    """

    def __init__(self, paths: list[Points], volatilities_e9: list[int], seed: str,
                 step_ns: int = NS) -> None:  # fmt: skip
        """`paths`: per underlying, points (time_ns, price_e8) with rising times, not empty.

        Raises `FeedError`.
        """
        super().__init__([list(path) for path in paths])
        self.step_ns, self._volatilities_e9 = step_ns, volatilities_e9
        self._floors_e8 = [max(1, path[-1][1] // FLOOR_PARTS) for path in paths]
        self._randoms = [Random(f"{seed}/{number}") for number in range(len(paths))]  # noqa: S311

    def read(self, after_ns: int, until_ns: int) -> list[Reading]:
        """As `PathFeed.read`; the index is always fresh."""
        for number, (path, times) in enumerate(zip(self.paths, self._times, strict=True)):
            self._walk(number, path, until_ns)
            gone = max(0, bisect_right(times, after_ns - HISTORY_NS) - 1)
            del path[:gone]
            times[:] = [time_ns for time_ns, _ in path]
        return [
            Reading(price_e8, 0, RATE_SCALE, observations)
            for price_e8, _, _, observations in super().read(after_ns, until_ns)
        ]

    def _walk(self, number: int, path: Points, until_ns: int) -> None:
        time_ns, price_e8 = path[-1]
        step_ns = max(self.step_ns, (until_ns - time_ns) // STEPS_MAX)
        random, volatility_e9 = self._randoms[number], self._volatilities_e9[number]
        while time_ns + step_ns <= until_ns:
            variance = (price_e8 * volatility_e9 // 10**9) ** 2 * step_ns // (YEAR_S * NS)
            draw = sum(random.randint(-DRAW_MAX, DRAW_MAX) for _ in range(DRAWS))
            price_e8 += isqrt(variance) * draw // (2 * DRAW_MAX)
            price_e8 = max(price_e8, self._floors_e8[number])
            time_ns += step_ns
            path.append((time_ns, price_e8))
