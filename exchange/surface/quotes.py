"""What a fit is made of: volatilities that auctions printed and that resting interest implies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from exchange.core.limits import VOLATILITY_E9_MAX
from exchange.surface.ssvi import Floats
from margin.fixed_point import NS_PER_YEAR, RATE_SCALE
from margin.invariant import BoolArray, Int64Array

# Rows of a table of quotes.
EXPIRY, LOG_MONEYNESS_E9, BID_E9, ASK_E9, SIZE_E6, AGE_MS = range(6)
ROWS = 6

HALF_LIFE_MS = 300_000
LIVE_AGE_MS = 4 * HALF_LIFE_MS
SPREAD_LEAST = 0.005  # what a print counts as, and a quote at least
WEIGHT_HIGHEST = 10.0  # times the median: one great order does not make the surface alone
NO_BID_E9, NO_ASK_E9 = 0, VOLATILITY_E9_MAX


class Quotes(NamedTuple):
    """Quotes of one underlying's options, in integers so that a fit can be made again from them.

    `expiries_ns`: the listed expiries, rising. `table`: int64 of shape (6, quotes): number of the
    expiry, ln(strike / forward), bid and ask volatility, size in coins, age. A print has equal bid
    and ask. A side that is not there is `NO_BID_E9` or `NO_ASK_E9`.
    """

    time_ns: int
    expiries_ns: tuple[int, ...]
    table: Int64Array

    def years(self) -> Floats:
        """Time to each expiry in years of 365 days."""
        return (np.array(self.expiries_ns, np.int64) - self.time_ns) / NS_PER_YEAR

    def live(self) -> BoolArray:
        """Which quotes count as live: both sides, and not too old."""
        table = self.table
        both = (table[BID_E9] > NO_BID_E9) & (table[ASK_E9] < NO_ASK_E9)
        return both & (table[AGE_MS] <= LIVE_AGE_MS)


def quotes_of(
    time_ns: int, expiries_ns: Sequence[int], rows: Sequence[tuple[int, ...]] | Int64Array
) -> Quotes:
    """Quotes from rows in the order of the table's; what is no quote at all is left out.

    Left out are crossed quotes, quotes without either side, sizes of 0 and expiries that are over.
    """
    table = np.array(rows, np.int64).reshape(-1, ROWS).T
    alive = np.array(expiries_ns, np.int64)[table[EXPIRY]] > time_ns
    bid, ask = table[BID_E9], table[ASK_E9]
    sided = (bid > NO_BID_E9) | (ask < NO_ASK_E9)
    keep = alive & sided & (bid <= ask) & (table[SIZE_E6] > 0)
    return Quotes(time_ns, tuple(expiries_ns), np.ascontiguousarray(table[:, keep]))


def weights(table: Int64Array) -> Floats:
    """Weight of each quote, 1 on average: size x 2^(-age / half-life) / spread^2, bounded above."""
    spread = np.maximum((table[ASK_E9] - table[BID_E9]) / RATE_SCALE, SPREAD_LEAST)
    raw = table[SIZE_E6] * np.exp2(-table[AGE_MS] / HALF_LIFE_MS) / (spread * spread)
    bounded = np.minimum(raw, WEIGHT_HIGHEST * np.sort(raw)[raw.size // 2])
    return bounded / bounded.mean()
