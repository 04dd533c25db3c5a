"""Random option tables, for Black-76 and its peers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from margin import black76

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Options:
    """Columns of a random option table."""

    forward: Floats
    strike: Floats
    volatility: Floats
    years: Floats
    discount: Floats
    is_call: npt.NDArray[np.bool_]

    def prices(self) -> Floats:
        out = np.empty(len(self.forward))
        black76.price_into(*self.columns(), out)
        return out

    def greeks(self) -> Floats:
        out = np.empty((black76.GREEK_ROWS, len(self.forward)))
        black76.price_and_greeks_into(*self.columns(), out)
        return out

    def columns(self) -> tuple[npt.NDArray, ...]:
        return (
            self.forward,
            self.strike,
            self.volatility,
            self.years,
            self.discount,
            self.is_call,
        )


def random_options(seed: int, count: int) -> Options:
    """Half an hour to two years, 5 % to 250 % volatility, strikes over four deviations."""
    draw = np.random.default_rng(seed)
    forward = np.exp(draw.uniform(np.log(0.01), np.log(2e5), count))
    volatility = draw.uniform(0.05, 2.5, count)
    years = np.exp(draw.uniform(np.log(0.5 / 8760.0), np.log(2.0), count))
    strike = forward * np.exp(draw.uniform(-4.0, 4.0, count) * volatility * np.sqrt(years))
    discount = np.exp(-draw.uniform(-0.02, 0.15, count) * years)
    return Options(forward, strike, volatility, years, discount, draw.random(count) < 0.5)
