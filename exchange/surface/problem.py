"""The least-squares problem of a surface: residuals and their derivatives, in array expressions.

All parameters in one vector p: the logarithm of each expiry's volatility at the money, artanh of
each rho, log eta, and the logit of gamma within its bounds, so that nothing needs a bound. The
free vector x is smaller where an expiry has too few quotes: p = matrix @ x + offset.
"""

from __future__ import annotations

import numpy as np

from exchange.surface.arbitrage import grid_width
from exchange.surface.quotes import ASK_E9, BID_E9, EXPIRY, LOG_MONEYNESS_E9, Quotes
from exchange.surface.ssvi import Floats, slopes
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array

SCALE = 0.005  # residuals beyond half a volatility point count by their size, not its square
GAMMA_HIGHEST = 0.5
RHO_SMOOTHNESS = 0.3  # per difference of artanh rho of neighbours
# Pulls for what no quote decides. Levels stay where they were: one quote alone moves an expiry by
# a factor of e at most, five at the money overrule the pull to the last digit. Shapes (rho, eta,
# gamma) too, but for a twentieth of the way to a plain smile: so noise does not pile up where
# quotes are few.
PULL_OF_LEVEL, PULL_OF_SHAPE = 10.0, 3.0
PLAINER = 0.05
PLAIN_ETA, PLAIN_GAMMA = 1.0, 0.4
CROSSING_WEIGHTS = (3.0, 30.0)  # against a quote's; the second where the first does not do
CROSSING_MARGIN = 1e-3  # of the total variance
CROSSING_DEVIATIONS = np.array([-4.0, -2.0, 0.0, 2.0, 4.0])  # and both ends of the grid


def logit_of_gamma(gamma: float) -> float:
    """The parameter that stands for gamma, which is held within its bounds."""
    part = min(max(gamma / GAMMA_HIGHEST, 0.01), 0.99)
    return float(np.log(part / (1.0 - part)))


PLAIN_SHAPE = np.array([np.log(PLAIN_ETA), logit_of_gamma(PLAIN_GAMMA)])


class Problem:
    """Residuals of p = matrix @ x + offset around a start, for `scipy.optimize.least_squares`."""

    def __init__(
        self, quotes: Quotes, weight: Floats, start: Floats, levels: int,
        matrix: Floats | None, offset: Floats,
    ) -> None:  # fmt: skip
        """`weight`: of each quote. The first `levels` elements of the free `start` are levels."""
        table, self.years = quotes.table, quotes.years()
        self.matrix, self.offset = matrix, offset
        self.count = len(self.years)
        self.expiry: Int64Array = table[EXPIRY]
        self.bid, self.ask = table[BID_E9] / RATE_SCALE, table[ASK_E9] / RATE_SCALE
        self.root_weight = np.sqrt(weight)
        self.pull = np.full(len(start), PULL_OF_SHAPE)
        self.pull[:levels] = PULL_OF_LEVEL
        self.pulled_to = start.copy()
        if len(start) > levels:
            self.pulled_to[levels:] *= 1.0 - PLAINER
            self.pulled_to[-2:] += PLAINER * PLAIN_SHAPE
        self._points(table[LOG_MONEYNESS_E9] / RATE_SCALE, start)
        self.press(CROSSING_WEIGHTS[0])

    def _points(self, k: Floats, start: Floats) -> None:
        """Quotes, then the points where an expiry is compared with the next one."""
        count = self.count
        theta = np.exp(2.0 * self.all_of(start)[:count]) * self.years
        crossing = np.empty((count - 1, CROSSING_DEVIATIONS.size + 2))
        crossing[:, :-2] = np.sqrt(theta[1:])[:, None] * CROSSING_DEVIATIONS
        crossing[:, -2], crossing[:, -1] = -grid_width(theta), grid_width(theta)
        near = np.repeat(np.arange(count - 1), crossing.shape[1])
        self.crossings = near.size
        self.k = np.concatenate((k, crossing.ravel(), crossing.ravel()))
        self.slice = np.concatenate((self.expiry, near, near + 1))
        self.point_years = self.years[self.slice]
        # Variance to volatility, at the money where the fit began.
        self.crossing_scale = 0.5 / (np.sqrt(theta * self.years)[near + 1] * SCALE)
        self.row = np.arange(self.k.size)
        ties = np.zeros((count - 1, 2 * count + 2))
        at = np.arange(count - 1)
        ties[at, count + at], ties[at, count + at + 1] = -RHO_SMOOTHNESS, RHO_SMOOTHNESS
        self.ties = ties
        self.rows_of_quotes = k.size

    def all_of(self, x: Floats) -> Floats:
        """All parameters at a free vector."""
        return x if self.matrix is None else self.matrix @ x + self.offset

    def _evaluate(self, x: Floats) -> None:
        if self._at == x.tobytes():
            return
        self._at = x.tobytes()
        p, count, quotes = self.all_of(x), self.count, self.rows_of_quotes
        theta = np.exp(2.0 * p[:count]) * self.years
        rho = np.tanh(p[count : 2 * count])
        part = 1.0 / (1.0 + np.exp(-p[-1]))
        at = slopes(
            self.k, theta[self.slice], rho[self.slice], float(np.exp(p[-2])), GAMMA_HIGHEST * part
        )
        volatility = np.sqrt(at.variance / self.point_years)
        by_variance = 0.5 / (volatility * self.point_years)  # of the volatility
        jacobian = np.zeros((self.k.size, 2 * count + 2))
        jacobian[self.row, self.slice] = 2.0 * at.by_log_theta
        jacobian[self.row, count + self.slice] = at.by_rho * (1.0 - rho * rho)[self.slice]
        jacobian[:, -2] = at.by_log_eta
        jacobian[:, -1] = at.by_gamma * (GAMMA_HIGHEST * part * (1.0 - part))
        model = volatility[:quotes]
        self.miss = np.maximum(model - self.ask, 0.0) - np.maximum(self.bid - model, 0.0)
        robust, by_miss = self._robust(self.miss / SCALE)
        first = jacobian[:quotes] * (by_miss * by_variance[:quotes] / SCALE)[:, None]
        self._finish(x, p, at.variance[quotes:], jacobian[quotes:], first, robust)

    def _robust(self, miss: Floats) -> tuple[Floats, Floats]:
        """Residuals whose squares are the weighted soft-L1 loss, and their derivatives.

        The loss of a miss z is 2 (sqrt(1 + z^2) - 1), so its root goes like z near 0 and like
        sqrt(2 z) far out. Misses of 0, inside the span, have no derivative.
        """
        root = np.sqrt(1.0 + miss * miss)
        # sqrt(2 (root - 1)) = miss sqrt(2 / (root + 1)), which loses no digits near 0.
        factor = self.root_weight * np.sqrt(2.0 / (root + 1.0))
        slope = self.root_weight**2 / (factor * root)
        return factor * miss, np.where(miss != 0.0, slope, 0.0)

    def _finish(
        self, x: Floats, p: Floats, variance: Floats, jacobian: Floats, first: Floats,
        robust: Floats,
    ) -> None:  # fmt: skip
        """Rows of crossings, of rho's smoothness and of the pulls, below those of the quotes."""
        pairs = self.crossings
        near, far = variance[:pairs], variance[pairs:]
        excess = near * (1.0 + CROSSING_MARGIN) - far
        factor = self.crossing_weight * self.crossing_scale * (excess > 0.0)
        by_p = (jacobian[:pairs] * (1.0 + CROSSING_MARGIN) - jacobian[pairs:]) * factor[:, None]
        rows = np.concatenate((first, by_p, self.ties))
        if self.matrix is not None:
            rows = rows @ self.matrix
        self.rows = np.concatenate((rows, np.diag(self.pull)))
        self.values = np.concatenate(
            (robust, excess * factor, self.ties @ p, self.pull * (x - self.pulled_to))
        )

    def press(self, crossing_weight: float) -> None:
        """Weigh crossings of expiries by this from now on."""
        self.crossing_weight, self._at = crossing_weight, b""

    def residuals(self, x: Floats) -> Floats:
        """Residual of every row, in units of `SCALE`."""
        self._evaluate(x)
        return self.values

    def jacobian(self, x: Floats) -> Floats:
        """Derivatives of the rows by the free vector, shape (rows, free)."""
        self._evaluate(x)
        return self.rows
