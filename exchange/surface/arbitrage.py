"""What a surface must not allow: calendar spreads and butterflies at a price below zero."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from exchange.surface.ssvi import Floats, variance_and_density

GRID_POINTS = 121
UNIT_GRID = np.linspace(-1.0, 1.0, GRID_POINTS)
WIDTH_DEVIATIONS = 6.0  # of the longest expiry, to either side
WIDTH_LEAST = 1.0
CALENDAR_ROUNDING = 1e-12  # of total variance
DENSITY_ROUNDING = 1e-9


class Violations(NamedTuple):
    """Points of the grid where total variance falls with time, and where the density is below 0."""

    calendar: int
    butterfly: int

    @property
    def none(self) -> bool:
        """Whether there are none."""
        return not self.calendar and not self.butterfly


def grid_width(theta: Floats) -> float:
    """Log-moneyness where the grid ends on which all expiries are compared."""
    return max(WIDTH_LEAST, WIDTH_DEVIATIONS * float(np.sqrt(theta.max())))


def violations(theta: Floats, rho: Floats, phi: Floats) -> Violations:
    """Violations on the grid of slices in order of expiry, each argument of shape (expiries,).

    Calendar: w of an expiry below w of the one before. Butterfly: g(k) < 0, on the common grid and
    on one as wide as each expiry's own deviations.
    """
    k = np.empty((len(theta), 2 * GRID_POINTS))
    k[:, :GRID_POINTS] = UNIT_GRID * grid_width(theta)
    k[:, GRID_POINTS:] = UNIT_GRID * (WIDTH_DEVIATIONS * np.sqrt(theta))[:, None]
    variance, density = variance_and_density(k, theta[:, None], rho[:, None], phi[:, None])
    shared = variance[:, :GRID_POINTS]
    falls = np.count_nonzero(shared[1:] < shared[:-1] - CALENDAR_ROUNDING)
    return Violations(int(falls), int(np.count_nonzero(density < -DENSITY_ROUNDING)))
