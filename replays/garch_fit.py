"""GARCH(1,1) fitted to a price history by the package `arch`, as a margin preset takes it.

The fit is outside the core and in floats; what comes out are numbers of 9 places, which the core's
integer recursion (`margin.forecasts.forecast.Garch`) uses. How far that recursion is from the
package's own conditional volatility on the same history is measured, not assumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from margin.fixed_point import RATE_SCALE
from margin.forecasts.forecast import MOST_RETURN_E9, run, start
from margin.forecasts.ranges import forecaster_of
from margin.invariant import Float64Array, Int64Array
from margin.presets.dynamic_sections import Dynamic, GarchRule
from margin.presets.preset import NamedRate
from replays.price_file import PriceSeries

ARCH_HINT = "fitting GARCH needs arch: install the extra `arch` (pip install 'uncross[arch]')"
LEAST_RETURNS = 250
YEAR_S = 365 * 86_400
_PERCENT = 100.0  # arch's optimiser wants variances near 1
_MOST_PERSISTENCE = 0.9999


class FitError(ValueError):
    """A fit that cannot be made, or that no preset can take; says why."""


@dataclass(frozen=True)
class GarchFit:
    """alpha, beta and annual long-run volatility, x 10^9.

    `worst_difference`: largest |integer recursion / arch - 1| of the volatilities on the history,
    `mean_difference` the mean of it.
    """

    period_s: int
    returns: int
    alpha_ppb: int
    beta_ppb: int
    long_run_e9: int
    log_likelihood: float
    worst_difference: float
    mean_difference: float

    def toml(self) -> str:
        """The lines of the section `[dynamic]` of a preset, in place of its forecaster."""
        rule = (
            f"garch = {{ long_run = {{ default = {_decimal(self.long_run_e9)} }}, "
            f"alpha = {_decimal(self.alpha_ppb)}, beta = {_decimal(self.beta_ppb)} }}"
        )
        return f"period_s = {self.period_s}\n{rule}\n"


def _decimal(value_e9: int) -> str:
    whole, part = divmod(value_e9, RATE_SCALE)
    return f"{whole}.{part:09d}"


def moves_of(series: PriceSeries) -> Int64Array:
    """Relative moves [T-1], x 10^9, rounded down, as the engine measures them (at most 1)."""
    prices = series.price_e8.tolist()
    moves = [(b - a) * RATE_SCALE // a for a, b in pairwise(prices)]
    return np.clip(np.array(moves, np.int64), -MOST_RETURN_E9, MOST_RETURN_E9)


def fit_garch(series: PriceSeries) -> GarchFit:
    """A GARCH(1,1) without a mean, by the likelihood of normal residuals.

    That likelihood finds alpha and beta whatever the residuals are (T. Bollerslev and J.
    Wooldridge, Quasi-maximum likelihood estimation, 1992); that of Student's t would not return
    from many an hourly history at all, as its variance hardly exists.

    `FitError` if arch is not installed, the history is shorter than `LEAST_RETURNS`, its period is
    longer than a day, or its variance does not return to anything (alpha + beta of 1 or more).
    """
    try:
        from arch import arch_model
    except ImportError:
        raise FitError(ARCH_HINT) from None
    moves = moves_of(series)
    period_s = series.step_ns // RATE_SCALE
    if len(moves) < LEAST_RETURNS:
        raise FitError(f"{len(moves)} returns; at least {LEAST_RETURNS} are needed")
    if not 0 < period_s <= 86_400:
        raise FitError(f"periods of {period_s} s; they may last a day at most")
    if not moves.any():
        raise FitError("the price never moves: there is no variance to fit")
    percent = moves / (RATE_SCALE / _PERCENT)
    model = arch_model(percent, mean="Zero", vol="GARCH", p=1, q=1, dist="normal", rescale=False)
    result = model.fit(disp="off", show_warning=False)
    if result.convergence_flag != 0:
        raise FitError("the likelihood did not converge")
    omega, alpha, beta = (float(x) for x in result.params.to_numpy())
    if alpha + beta > _MOST_PERSISTENCE:
        raise FitError(
            f"alpha {alpha:.4f} + beta {beta:.4f}: the variance returns to nothing; "
            "an EWMA is what this history asks for"
        )
    variance = omega / (1.0 - alpha - beta) / _PERCENT**2
    annual = math.sqrt(variance * YEAR_S / period_s)
    terms = (round(alpha * RATE_SCALE), round(beta * RATE_SCALE), round(annual * RATE_SCALE))
    conditional = np.asarray(result.conditional_volatility, np.float64) / _PERCENT
    apart = np.abs(integer_volatility(terms, period_s, moves, conditional[0]) / conditional - 1)
    return GarchFit(
        period_s, len(moves), *terms, float(result.loglikelihood), float(apart.max()),
        float(apart.mean()),
    )  # fmt: skip


def integer_volatility(
    terms: tuple[int, int, int], period_s: int, moves_e9: Int64Array, first: float
) -> Float64Array:
    """Volatility of each period [T] by the core's recursion, begun at `first`, as fractions.

    `terms`: alpha, beta, annual long-run volatility, through the section that a preset has.
    """
    alpha, beta, annual_e9 = terms
    rule = GarchRule(
        long_run=(NamedRate(name="default", rate_e9=annual_e9),), alpha_ppb=alpha, beta_ppb=beta
    )
    section = Dynamic(
        period_s=period_s, horizon_s=86_400, multiple_e9=3 * RATE_SCALE, least_e9=RATE_SCALE,
        most_e9=RATE_SCALE, long_run_decay_ppb=RATE_SCALE - 1, garch=rule,
    )  # fmt: skip
    forecaster = forecaster_of(section, "default")
    opening = np.array([round(first * first * RATE_SCALE * RATE_SCALE)], np.int64)
    variance = run(forecaster, start(forecaster, opening), moves_e9[:, None])[:-1, 0]
    found: Float64Array = np.sqrt(variance / (RATE_SCALE * RATE_SCALE))
    return found
