"""Fit a surface to quotes: robust, free of static arbitrage on a grid, or refused."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from exchange.core.limits import VOLATILITY_E9_MAX
from exchange.surface.arbitrage import violations
from exchange.surface.problem import (
    CROSSING_WEIGHTS,
    GAMMA_HIGHEST,
    PLAIN_SHAPE,
    Problem,
    logit_of_gamma,
)
from exchange.surface.quotes import (
    ASK_E9,
    BID_E9,
    EXPIRY,
    LOG_MONEYNESS_E9,
    NO_ASK_E9,
    NO_BID_E9,
    Quotes,
    quotes_of,
    weights,
)
from exchange.surface.ssvi import Floats, total_variance
from exchange.surface.surface import (
    ROUNDED_E9,
    Origin,
    Slice,
    Surface,
    carried,
    flat_surface,
    parameters,
)
from margin.fixed_point import RATE_SCALE
from margin.invariant import BoolArray

LIVE_LEAST = 5  # live quotes without which an expiry takes its rho from its neighbours
ERROR_HIGHEST = 0.03  # median residual beyond which a fit is refused
EVALUATIONS_MAX = 60
TOLERANCE = 1e-4
CALMING = (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)  # how far rhos go to their mean where slices cross
RISE = 3e-6  # of the deviation from one expiry to the next, above the rounding of parameters
RHO_HIGHEST_E9 = 999_000_000
VOLATILITY_E9_LEAST = 1_000_000


def fit_surface(
    quotes: Quotes, previous: Surface | None, evaluations: int = EVALUATIONS_MAX
) -> Surface:
    """The surface of `quotes.expiries_ns` after these quotes, beginning at the previous one.

    A joint fit of SSVI with a rho per expiry: soft-L1 of the distance to each [bid, ask]
    (nothing inside), weights of `weights`, a light pull of neighbouring rhos to each other.
    An expiry with fewer than five live quotes takes its rho from its neighbours, one without any
    moves as its neighbours do. The fit is accepted if it is free of arbitrage on the grid, perhaps
    with its rhos nearer to each other, and the median residual, of all quotes and of each expiry
    with five live ones, is at most 3 points; else it is tried again from the quotes alone. If that
    is refused too, the previous surface is moved by the common change at the money (`SHIFTED`), or
    stands (`HELD`). `evaluations` bounds the time that it takes; where they do not suffice, fitting
    the same quotes again from the result goes on.
    """
    empty = quotes.table.shape[1] == 0
    if previous is None or not previous.slices:
        level = 0 if empty else round(float(np.median(middle(quotes))) * RATE_SCALE)
        previous = flat_surface(quotes.expiries_ns, level)
    base = carried(previous, quotes.expiries_ns, quotes.time_ns)
    if empty:
        return base
    weight = weights(quotes.table)
    for cold in (False, True):
        if cold or previous.origin != Origin.FLAT:
            fitted = _fitted(quotes, weight, base, cold, evaluations)
            if fitted is not None:
                return fitted
    moved = shifted(base, quotes, weight)
    if is_free_of_arbitrage(moved, quotes.time_ns):
        return moved
    return msgspec.structs.replace(base, origin=Origin.HELD)


def is_free_of_arbitrage(surface: Surface, time_ns: int) -> bool:
    """Whether neither calendar nor butterfly spreads on the grid cost less than nothing."""
    at = parameters(surface, time_ns)
    return violations(at.theta, at.rho, at.phi).none


def middle(quotes: Quotes) -> Floats:
    """Middle of bid and ask volatility, or the one side that is there."""
    bid, ask = quotes.table[BID_E9], quotes.table[ASK_E9]
    one_sided = np.where(bid > NO_BID_E9, bid, ask)
    both = (bid > NO_BID_E9) & (ask < NO_ASK_E9)
    return np.where(both, (bid + ask) // 2, one_sided) / RATE_SCALE


def weighted_median(values: Floats, weight: Floats) -> float:
    """The value with half of the weight below it."""
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weight[order])
    return float(values[order[np.searchsorted(total, 0.5 * total[-1])]])


def residuals(surface: Surface, quotes: Quotes) -> Floats:
    """Distance of the surface's volatility to each quote's span: above the ask > 0, inside 0."""
    at = parameters(surface, quotes.time_ns)
    k, expiry = quotes.table[LOG_MONEYNESS_E9] / RATE_SCALE, quotes.table[EXPIRY]
    variance = total_variance(k, at.theta[expiry], at.rho[expiry], at.phi[expiry])
    model = np.sqrt(variance / at.years[expiry])
    bid, ask = quotes.table[BID_E9] / RATE_SCALE, quotes.table[ASK_E9] / RATE_SCALE
    return np.maximum(model - ask, 0.0) - np.maximum(bid - model, 0.0)


def shifted(base: Surface, quotes: Quotes, weight: Floats) -> Surface:
    """The surface with every volatility at the money moved by one factor.

    The factor is the weighted median, over live quotes (all of them if none lives), of middle
    volatility over the surface's; each quote counts less the farther it is from the money.
    """
    at = parameters(base, quotes.time_ns)
    live = quotes.live()
    chosen = live if live.any() else np.ones_like(live)
    k, expiry = quotes.table[LOG_MONEYNESS_E9] / RATE_SCALE, quotes.table[EXPIRY]
    model = np.sqrt(total_variance(k, at.theta[expiry], at.rho[expiry], at.phi[expiry])
                    / at.years[expiry])  # fmt: skip
    nearness = np.exp(-0.5 * k * k / at.theta[expiry])
    weight = weight * nearness
    factor = weighted_median((middle(quotes) / model)[chosen], weight[chosen])
    slices = tuple(
        Slice(
            p.expiry_ns,
            _rounded(p.volatility_e9 * factor / RATE_SCALE, VOLATILITY_E9_MAX),
            p.rho_e9,
        )
        for p in base.slices
    )
    return msgspec.structs.replace(base, slices=slices, origin=Origin.SHIFTED)


def _rounded(value: float, highest_e9: int, least_e9: int = VOLATILITY_E9_LEAST) -> int:
    rounded = round(value * RATE_SCALE / ROUNDED_E9) * ROUNDED_E9
    return max(least_e9, min(rounded, highest_e9))


def _start(quotes: Quotes, base: Surface, cold: bool) -> Floats:
    """Where the fit begins: the base, or from a flat one the quotes nearest to the money."""
    count = len(base.slices)
    p = np.zeros(2 * count + 2)
    for number, part in enumerate(base.slices):
        p[number] = np.log(max(part.volatility_e9, VOLATILITY_E9_LEAST) / RATE_SCALE)
        p[count + number] = 0.0 if cold else np.arctanh(part.rho_e9 / RATE_SCALE)
    p[-2:] = PLAIN_SHAPE
    if base.eta_e9 > 0 and not cold:
        p[-2:] = np.log(base.eta_e9 / RATE_SCALE), logit_of_gamma(base.gamma_e9 / RATE_SCALE)
    if cold:
        flat, distance = np.exp(p[:count]), np.abs(quotes.table[LOG_MONEYNESS_E9])
        bid, ask = quotes.table[BID_E9] / RATE_SCALE, quotes.table[ASK_E9] / RATE_SCALE
        level = np.minimum(np.maximum(flat[quotes.table[EXPIRY]], bid), ask)
        for number in range(count):
            mine = np.flatnonzero(quotes.table[EXPIRY] == number)
            nearest = mine[np.argsort(distance[mine], kind="stable")[:LIVE_LEAST]]
            if nearest.size:
                p[number] = np.log(max(np.median(level[nearest]), VOLATILITY_E9_LEAST / RATE_SCALE))
    return p


def _line(wanted: Floats, known: Floats) -> Floats:
    """Matrix (wanted, known) of straight lines between known places, flat beyond them."""
    unit = np.eye(len(known))
    return np.stack([np.interp(wanted, known, row) for row in unit], axis=1)


def _reduction(
    start: Floats, base: Floats, years: Floats, quoted: BoolArray, skewed: BoolArray
) -> tuple[Floats, Floats | None, Floats]:
    """Free vector to begin with, and the matrix and offset that make all parameters of it.

    The level of an expiry without quotes moves with its neighbours' distance from the base, less
    beyond the longest one quoted: by the root of the time, as volatilities commonly move.
    """
    count = len(years)
    if quoted.all() and skewed.all():
        return start, None, np.zeros(0)
    at = np.sqrt(years)
    shape = 2 if skewed.any() else 0
    levels, rhos = int(quoted.sum()), int(skewed.sum())
    matrix, offset = np.zeros((2 * count + 2, levels + rhos + shape)), start.copy()
    damping = np.minimum(1.0, at[quoted][-1] / at)
    line = _line(at, at[quoted]) * np.where(quoted, 1.0, damping)[:, None]
    matrix[:count, :levels] = line
    offset[:count] = base[:count] - line @ base[:count][quoted]
    free = start[:count][quoted]
    if shape:
        matrix[count : 2 * count, levels : levels + rhos] = _line(at, at[skewed])
        matrix[2 * count, -2] = matrix[2 * count + 1, -1] = 1.0
        offset[count:] = 0.0
        free = np.concatenate((free, start[count : 2 * count][skewed], start[2 * count :]))
    return free, matrix, offset


def _fitted(
    quotes: Quotes, weight: Floats, base: Surface, cold: bool, evaluations: int
) -> Surface | None:
    """The fit with its error; None if it is to be refused."""
    from scipy.optimize import least_squares

    years = quotes.years()
    count = len(years)
    expiry = quotes.table[EXPIRY]
    quoted = np.bincount(expiry, minlength=count) > 0
    skewed = np.bincount(expiry[quotes.live()], minlength=count) >= LIVE_LEAST
    known = _start(quotes, base, False)
    start = _start(quotes, base, True) if cold else known
    free, matrix, offset = _reduction(start, known, years, quoted, skewed)
    problem = Problem(quotes, weight, free, int(quoted.sum()), matrix, offset)
    flat = base.eta_e9 == 0 and not skewed.any()
    for pressure in CROSSING_WEIGHTS:
        problem.press(pressure)
        found = least_squares(
            problem.residuals, free, problem.jacobian, method="lm",
            ftol=TOLERANCE, xtol=TOLERANCE, gtol=TOLERANCE, max_nfev=evaluations,
        )  # fmt: skip
        free = found.x
        for share in CALMING:
            p = calmed(problem.all_of(free), years, share)
            fitted = surface_of(quotes.expiries_ns, p, flat)
            if is_free_of_arbitrage(fitted, quotes.time_ns):
                error = _error(fitted, quotes, weight, skewed)
                if error <= ERROR_HIGHEST:
                    return msgspec.structs.replace(fitted, error_e9=round(error * RATE_SCALE))
                break
    return None


def _error(surface: Surface, quotes: Quotes, weight: Floats, skewed: BoolArray) -> float:
    """Median residual of all quotes, or of the worst expiry with enough of them."""
    miss, expiry = np.abs(residuals(surface, quotes)), quotes.table[EXPIRY]
    judged = [np.ones_like(expiry, bool)]
    judged += [expiry == number for number in np.flatnonzero(skewed)]
    return max(weighted_median(miss[mine], weight[mine]) for mine in judged)


def calmed(p: Floats, years: Floats, share: float) -> Floats:
    """A parameter vector with every rho a share of the way to their mean, and no variance falling.

    Slices of one rho whose total variance at the money rises cannot cross (Gatheral and Jacquier
    2014, theorem 4.1, with gamma at most 1/2), so small crossings are mended on the way there.
    """
    if share == 0.0:
        return p
    count, calm = len(years), p.copy()
    deviation = np.exp(p[:count]) * np.sqrt(years)
    rising = np.maximum.accumulate(deviation) * (1.0 + RISE * np.arange(count))
    calm[:count] = np.log(rising / np.sqrt(years))
    rho = p[count : 2 * count]
    calm[count : 2 * count] = rho + share * (rho.mean() - rho)
    return calm


def surface_of(expiries_ns: Sequence[int], p: Floats, flat: bool) -> Surface:
    """The surface of a parameter vector, rounded."""
    count = len(expiries_ns)
    slices = tuple(
        Slice(
            expiry,
            _rounded(float(volatility), VOLATILITY_E9_MAX),
            _rounded(float(rho), RHO_HIGHEST_E9, -RHO_HIGHEST_E9),
        )
        for expiry, volatility, rho in zip(
            expiries_ns, np.exp(p[:count]), np.tanh(p[count : 2 * count]), strict=True
        )
    )
    eta = 0 if flat else _rounded(float(np.exp(p[-2])), 100 * RATE_SCALE, 0)
    gamma = 0 if flat else _rounded(GAMMA_HIGHEST / (1.0 + float(np.exp(-p[-1]))), RATE_SCALE, 0)
    return Surface(slices, eta, gamma, Origin.FITTED)


def warm_up() -> None:
    """Import the solver and fit once, so that a market's first fit does not wait for it."""
    rows = [(0, k * 10**8, 5 * 10**8, 5 * 10**8, 10**6, 0) for k in (-1, 0, 1)]
    fit_surface(quotes_of(0, (10**16,), rows), None)
