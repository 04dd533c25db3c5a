"""A volatility surface in integers: what the marker journals, and marks are made from."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import msgspec
import numpy as np

from exchange.surface.ssvi import Floats, curvature, total_variance
from margin.fixed_point import NS_PER_YEAR, RATE_SCALE

ROUNDED_E9 = 1_000  # parameters are multiples of a millionth


class Origin(IntEnum):
    """How a surface came about."""

    FLAT = 0  # the venue's opening volatility; nothing was ever fitted
    FITTED = 1
    SHIFTED = 2  # the fit was refused: the last surface, moved with the money
    HELD = 3  # that was refused as well: the last surface


class Slice(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One expiry: volatility at the money and correlation."""

    expiry_ns: int
    volatility_e9: int
    rho_e9: int


class Surface(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """SSVI with a correlation per expiry; slices in order of expiry.

    The volatility at the money is kept, not the total variance, so that a surface stays what it is
    as time passes. `error_e9`: the median residual of the fit, the worst of those that are judged.
    """

    slices: tuple[Slice, ...]
    eta_e9: int = 0
    gamma_e9: int = 0
    origin: Origin = Origin.FLAT
    error_e9: int = 0

    @property
    def expiries_ns(self) -> tuple[int, ...]:
        """The expiries, rising."""
        return tuple(part.expiry_ns for part in self.slices)


class Parameters(msgspec.Struct, frozen=True):
    """A surface at a time as arrays, one element an expiry that is not over."""

    years: Floats
    theta: Floats
    rho: Floats
    phi: Floats


def flat_surface(expiries_ns: Sequence[int], volatility_e9: int) -> Surface:
    """The same volatility everywhere."""
    return Surface(tuple(Slice(expiry, volatility_e9, 0) for expiry in expiries_ns))


def parameters(surface: Surface, time_ns: int) -> Parameters:
    """theta, rho and phi of the slices that expire after `time_ns`."""
    alive = [part for part in surface.slices if part.expiry_ns > time_ns]
    columns = np.array(
        [(p.expiry_ns - time_ns, p.volatility_e9, p.rho_e9) for p in alive], np.int64
    ).reshape(-1, 3)
    years = columns[:, 0] / NS_PER_YEAR
    theta = (columns[:, 1] / RATE_SCALE) ** 2 * years
    phi = curvature(theta, surface.eta_e9 / RATE_SCALE, surface.gamma_e9 / RATE_SCALE)
    return Parameters(years, theta, columns[:, 2] / RATE_SCALE, phi)


def carried(previous: Surface, expiries_ns: Sequence[int], time_ns: int) -> Surface:
    """The surface for the expiries that are listed now; `previous` has at least one slice.

    An expiry that it lacks gets total variance, and rho, from its neighbours in a straight line,
    beyond the first and the last their volatility.
    """
    if previous.expiries_ns == tuple(expiries_ns):
        return previous
    alive = [part for part in previous.slices if part.expiry_ns > time_ns] or previous.slices[-1:]
    known = {part.expiry_ns: part for part in alive}
    at = np.array([max(1, part.expiry_ns - time_ns) for part in alive], float)
    variance = np.array([part.volatility_e9 for part in alive], float) ** 2 * at
    rho = np.array([part.rho_e9 for part in alive], float)
    slices = []
    for expiry_ns in expiries_ns:
        inner = min(max(expiry_ns - time_ns, at[0]), at[-1])
        volatility = round(float(np.sqrt(np.interp(inner, at, variance) / inner)))
        between = Slice(expiry_ns, volatility, round(float(np.interp(inner, at, rho))))
        slices.append(known.get(expiry_ns, between))
    return msgspec.structs.replace(previous, slices=tuple(slices))


def volatilities(surface: Surface, time_ns: int, expiry_ns: int, log_moneyness: Floats) -> Floats:
    """Volatilities of one expiry at ln(strike / forward); KeyError for an expiry it has not."""
    alive = [part.expiry_ns for part in surface.slices if part.expiry_ns > time_ns]
    if expiry_ns not in alive:
        raise KeyError(expiry_ns)
    at, all_of = alive.index(expiry_ns), parameters(surface, time_ns)
    variance = total_variance(log_moneyness, all_of.theta[at], all_of.rho[at], all_of.phi[at])
    return np.sqrt(variance / all_of.years[at])
