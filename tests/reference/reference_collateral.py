"""Haircuts that grow with size, in plain integers and fractions."""

from __future__ import annotations

from fractions import Fraction

from tests.reference import reference_margin

Tier = tuple[int, int]  # above (USDC minor units), haircut x 10^9
E9 = 10**9
MOST_POOL = 2**52


def credit(value: int, base_ppb: int, tiers: list[Tier]) -> int:
    """What an owner's `value` of a coin counts for: every slice at its own haircut."""
    edges = [0, *(above for above, _ in tiers), None]
    rates = [base_ppb, *(rate for _, rate in tiers)]
    counted = Fraction(0)
    for low, high, rate in zip(edges, edges[1:], rates, strict=False):
        top = value if high is None else min(value, high)
        counted += Fraction(max(0, top - low) * (E9 - rate), E9)
    return counted.numerator // counted.denominator


def equities(
    amounts: list[list[int]], index_e8: list[int], base_ppb: list[int],
    tiers: list[list[Tier]], owner: list[int],
) -> list[int]:  # fmt: skip
    """Equity of every pool: `amounts[p][c]` in minor units, `tiers[c]` rising."""
    found = []
    for p, row in enumerate(amounts):
        total = 0
        for c, amount in enumerate(row):
            values = [a[c] * index_e8[c] // (10**8 if c == 0 else 10**10) for a in amounts]
            mine = [min(MOST_POOL, max(0, v)) if o == owner[p] else 0
                    for v, o in zip(values, owner, strict=True)]  # fmt: skip
            whole = sum(mine)
            if amount <= 0 or not tiers[c] or whole <= tiers[c][0][0]:
                alone = [amount if at == c else 0 for at in range(len(row))]
                total += reference_margin.equity(alone, index_e8, base_ppb)
                continue
            counts = credit(whole, base_ppb[c], tiers[c])
            total += counts * sum(mine[: p + 1]) // whole - counts * sum(mine[:p]) // whole
        found.append(total)
    return found
