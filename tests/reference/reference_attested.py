"""Credit of attested collateral in exact fractions: the formula of margin/README.md, read slowly.

Every rounding of the real thing is against the account, so its result is at most this one's floor,
and less by no more than two units a balance.
"""

from __future__ import annotations

from fractions import Fraction

PPB = 10**9
YEAR_NS = 365 * 86_400 * 10**9


def decay(age_ns: int, fresh_ns: int, limit_ns: int) -> Fraction:
    """1 while fresh, 0 from the limit on, a straight line between."""
    if age_ns <= fresh_ns:
        return Fraction(1)
    if age_ns >= limit_ns:
        return Fraction(0)
    return Fraction(limit_ns - age_ns, limit_ns - fresh_ns)


def delay_term_ppb(volatility_e9: int, delay_ns: int, quantile_e9: int) -> int:
    """The least whole number of 10^-9 whose square is at least (z sigma)^2 x delay in years."""
    square = (
        Fraction(quantile_e9, PPB) ** 2 * Fraction(volatility_e9, PPB) ** 2
    ) * Fraction(delay_ns, YEAR_NS)  # fmt: skip
    low, high = 0, 1
    while Fraction(high, PPB) ** 2 < square:
        high *= 2
    while low < high:
        middle = (low + high) // 2
        if Fraction(middle, PPB) ** 2 >= square:
            high = middle
        else:
            low = middle + 1
    return low


def credit(
    worth_minor: int, asset_haircut_ppb: int, venue_haircut_ppb: int, kept: Fraction, delay_ppb: int
) -> Fraction:
    """What a worth counts for; debts in full."""
    if worth_minor <= 0:
        return Fraction(worth_minor)
    counted = worth_minor * (1 - Fraction(asset_haircut_ppb, PPB))
    counted *= (1 - Fraction(venue_haircut_ppb, PPB)) * kept
    return max(Fraction(0), counted - worth_minor * Fraction(delay_ppb, PPB))
