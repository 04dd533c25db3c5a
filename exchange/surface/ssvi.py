"""SSVI slices in arrays: total variance, its derivatives, the density, and the parameters' slopes.

Source: J. Gatheral and A. Jacquier, "Arbitrage-free SVI volatility surfaces" (2014). With k the
logarithm of strike over forward and theta the total variance at the money of an expiry,
w(k) = theta/2 [1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2)],
phi = eta / (theta^gamma (1 + theta)^(1 - gamma)).
Here rho may differ from expiry to expiry (as in the eSSVI of S. Hendriks and C. Martini, 2019), so
freedom from arbitrage is not given by construction: `exchange.surface.arbitrage` checks it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def curvature(theta: Floats, eta: float, gamma: float) -> Floats:
    """phi of each total variance at the money, in 1 / log-moneyness."""
    return eta * np.exp(-gamma * np.log(theta) - (1.0 - gamma) * np.log1p(theta))


def total_variance(k: Floats, theta: Floats, rho: Floats, phi: Floats) -> Floats:
    """w at log-moneyness k; all arguments broadcast against each other."""
    u = phi * k
    return 0.5 * theta * (1.0 + rho * u + np.sqrt((u + rho) ** 2 + 1.0 - rho * rho))


class Slopes(NamedTuple):
    """w and its derivatives by log theta (phi following theta), rho, log eta and gamma."""

    variance: Floats
    by_log_theta: Floats
    by_rho: Floats
    by_log_eta: Floats
    by_gamma: Floats


def slopes(k: Floats, theta: Floats, rho: Floats, eta: float, gamma: float) -> Slopes:
    """Total variance at k and its derivatives by the parameters; k, theta and rho broadcast."""
    log_theta, log_rest = np.log(theta), np.log1p(theta)
    phi = eta * np.exp(-gamma * log_theta - (1.0 - gamma) * log_rest)
    u = phi * k
    root = np.sqrt((u + rho) ** 2 + 1.0 - rho * rho)
    half = 0.5 * theta
    variance = half * (1.0 + rho * u + root)
    by_log_phi = half * u * (rho + (u + rho) / root)
    return Slopes(
        variance,
        variance - by_log_phi * (gamma + (1.0 - gamma) * theta / (1.0 + theta)),
        half * u * (1.0 + 1.0 / root),
        by_log_phi,
        by_log_phi * (log_rest - log_theta),
    )


def variance_and_density(
    k: Floats, theta: Floats, rho: Floats, phi: Floats
) -> tuple[Floats, Floats]:
    """w(k) and Durrleman's g(k), which is below 0 where the risk-neutral density is.

    g = (1 - k w'/(2w))^2 - w'^2/4 (1/w + 1/4) + w''/2.
    """
    u = phi * k
    root = np.sqrt((u + rho) ** 2 + 1.0 - rho * rho)
    half = 0.5 * theta
    w = half * (1.0 + rho * u + root)
    first = half * phi * (rho + (u + rho) / root)
    second = half * phi * phi * (1.0 - rho * rho) / (root * root * root)
    g = (1.0 - 0.5 * k * first / w) ** 2 - 0.25 * first * first * (1.0 / w + 0.25) + 0.5 * second
    return w, g
