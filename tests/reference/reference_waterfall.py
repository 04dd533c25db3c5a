"""Slow, obvious twins of `margin.default.liquidation` and `margin.default.waterfall`.

They share no code with them: exact fractions instead of cross-multiplied integers, a walk over
every unit and every tick instead of closed forms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """Round every exact share down, then hand out units by largest fraction, earlier first."""
    total = sum(weights)
    if total == 0:
        return [0 for _ in weights]
    exact = [Fraction(amount * weight, total) for weight in weights]
    shares = [share.numerator // share.denominator for share in exact]
    while sum(shares) < amount:
        # Who has had its unit is above its exact share, so its fraction left is below 0.
        left = [one - given for one, given in zip(exact, shares, strict=True)]
        shares[left.index(max(left))] += 1
    return shares


def score(unrealised: int, equity: int, maintenance: int) -> Fraction:
    if equity <= 0:
        return Fraction(0)
    return Fraction(max(0, unrealised), equity) * Fraction(maintenance, equity)


def deleverage(
    position_lots: int, candidates: Sequence[tuple[int, int, int, int, int]]
) -> dict[int, int]:
    """Change of position by pool; a candidate is (pool, lots, unrealised, equity, maintenance)."""
    sign = 1 if position_lots > 0 else -1
    needed = abs(position_lots)
    opposing = sorted(one for one in candidates if one[1] * sign < 0)
    changes: dict[int, int] = {}
    for value in sorted({score(*one[2:]) for one in opposing}, reverse=True):
        bucket = [one for one in opposing if score(*one[2:]) == value]
        held = [abs(one[1]) for one in bucket]
        taken = min(needed, sum(held))
        for one, lots in zip(bucket, split(taken, held), strict=True):
            if lots:
                changes[one[0]] = sign * lots
        needed -= taken
    return changes


def net_opposing(cases: Sequence[tuple[int, int, int]]) -> dict[tuple[int, int], int]:
    """Change of position by (instrument, pool); a case is (pool, instrument, lots)."""
    changes: dict[tuple[int, int], int] = {}
    for instrument in {case[1] for case in cases}:
        longs = sorted(case for case in cases if case[1] == instrument and case[2] > 0)
        shorts = sorted(case for case in cases if case[1] == instrument and case[2] < 0)
        netted = min(sum(case[2] for case in longs), -sum(case[2] for case in shorts))
        for side, sign in ((longs, -1), (shorts, 1)):
            for case, lots in zip(side, split(netted, [abs(c[2]) for c in side]), strict=True):
                if lots:
                    changes[(instrument, case[0])] = sign * lots
    return changes


def pay_layers(deficit: int, available: Sequence[int]) -> list[int]:
    """Pay unit by unit, each out of the first layer that still has something."""
    paid = [0 for _ in available]
    for _ in range(deficit):
        for index, amount in enumerate(available):
            if paid[index] < amount:
                paid[index] += 1
                break
    return paid


def released_in_sequence(
    order: Sequence[int], lots: Sequence[int], maintenance_of: Callable[[Sequence[int]], int]
) -> list[int]:
    """Each slice releases what the pool's lowest requirement falls by when it goes."""
    requirements = []
    for closed in range(len(order) + 1):
        gone = set(order[:closed])
        kept = [0 if i in gone else quantity for i, quantity in enumerate(lots)]
        requirements.append(maintenance_of(tuple(kept)))
    lowest = [min(requirements[: n + 1]) for n in range(len(requirements))]
    released = [lowest[n] - lowest[n + 1] for n in range(len(order))]
    released[-1] += lowest[-1]
    return released


def loss_at(
    quantity_lots: int, mark_e8: int, slope: Fraction, price_e8: int, *, inverse: bool
) -> Fraction:
    """Loss in minor USDC of closing a whole position at a price, from the contract's value."""
    if inverse:
        # Worth (1/mark - 1/price) coins a unit; slope x mark^2 turns it into USDC at the mark.
        change = slope * mark_e8 * mark_e8 * (Fraction(1, mark_e8) - Fraction(1, price_e8))
    else:
        change = slope * (price_e8 - mark_e8)
    return -quantity_lots * change


def worst_price(
    quantity_lots: int,
    mark_e8: int,
    tick_e8: int,
    slope: Fraction,
    loss: int,
    *,
    inverse: bool,
    lowest_ticks: int,
    highest_ticks: int,
) -> int:
    """Walk every tick and keep the worst one whose loss is within the bound."""
    prices = range(lowest_ticks, highest_ticks + 1)
    if quantity_lots < 0:
        prices = range(highest_ticks, lowest_ticks - 1, -1)
    for ticks in prices:
        if loss_at(quantity_lots, mark_e8, slope, ticks * tick_e8, inverse=inverse) <= loss:
            return ticks
    return prices[-1]
