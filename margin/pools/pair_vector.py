"""A risk matrix after the scenarios: offsets between pairs, and the shock on a large net delta.

Both follow Deribit's description of X:PM; the offset is verified by an answer of its simulator, the
form of the delta shock is second-hand. Integers in, integers out, rounded against the account.
"""

from __future__ import annotations

from collections.abc import Sequence

from margin.fixed_point import PRICE_SCALE, RATE_SCALE
from margin.invariant import check


def offset_gains(profits: Sequence[int], offset_ppb: int) -> list[int]:
    """A pair's profits by cell as they count towards others: gains x offset, losses whole.

    Any unit of money; gains are floored.
    """
    check(0 <= offset_ppb <= RATE_SCALE, "pair: offset out of range")
    return [p * offset_ppb // RATE_SCALE if p > 0 else p for p in profits]


def delta_shock_coin(
    delta_e8: int, index_e8: int, threshold_usd: int, slope_ppb: int, most_ppb: int
) -> int:
    """Charge on a net delta above a threshold, 10^-8 coin, rounded up.

    |delta| x min(most, slope x coins above threshold_usd / index): nothing up to the threshold,
    then a rate that grows by `slope_ppb` a coin.
    """
    check(index_e8 > 0, "delta shock: index not positive")
    size = abs(delta_e8)
    over_e8 = max(0, size - threshold_usd * PRICE_SCALE * PRICE_SCALE // index_e8)
    rate_ppb = min(most_ppb, -(-over_e8 * slope_ppb // PRICE_SCALE))
    return -(-size * rate_ppb // RATE_SCALE)
