"""Slow twin of `margin.stresses.stress`: textbook profits, exact sums of big integers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from margin.invariant import Int64Array
from margin.portfolio import INVERSE, LINEAR_CALL, NEVER_NS, Instruments, Marks, Positions
from margin.stresses.stress import Stress
from tests.reference.reference_add_ons import DAY_NS, textbook_option

YEAR_NS = 365 * DAY_NS


def volatility_move(stress: Stress, days: float) -> float:
    """The move of volatility at a tenor, interpolated between the rows, flat outside."""
    rows = [(node.days, node.move_e9 / 1e9) for node in stress.volatility]
    if days <= rows[0][0]:
        return rows[0][1]
    for (near, low), (far, high) in pairwise(rows):
        if days <= far:
            return low + (high - low) * (days - near) / (far - near)
    return rows[-1][1]


def lot_profit_usdc(
    instruments: Instruments, marks: Marks, stress: Stress, coin: str, i: int
) -> float:
    """Profit of one long lot in a stress, in USDC."""
    lot = int(instruments.lot_e8[i]) / 1e8
    moved = 1 + stress.spot_move_e9(coin) / 1e9
    perpetual = int(instruments.expiry_ns[i]) == NEVER_NS
    basis = stress.basis.perpetual_e9 if perpetual else stress.basis.dated_e9
    factor = moved * (1 + basis / 1e9)
    mark = int(marks.mark_e8[i]) / 1e8
    if int(instruments.kind[i]) == INVERSE:
        index = int(marks.index_e8[instruments.unit[i]]) / 1e8
        return lot * (1 / mark - 1 / (mark * factor)) * index * moved
    if int(instruments.kind[i]) < LINEAR_CALL:
        return lot * mark * (factor - 1)
    tau = max(0, int(instruments.expiry_ns[i]) - marks.now_ns) / YEAR_NS
    discount = math.exp(-max(0, int(marks.rate_e9[i])) / 1e9 * tau)
    forward, strike = int(marks.forward_e8[i]) / 1e8, int(instruments.strike_e8[i]) / 1e8
    iv, call = int(marks.volatility_e9[i]) / 1e9, int(instruments.kind[i]) == LINEAR_CALL
    then_iv = iv * (1 + volatility_move(stress, tau * 365))
    then = textbook_option(forward * factor, strike, then_iv, tau, discount, call)[0]
    return lot * (then - textbook_option(forward, strike, iv, tau, discount, call)[0])


def losses(
    marks: Marks,
    positions: Positions,
    stresses: Sequence[Stress],
    coins: Sequence[str],
    profit: Int64Array,
) -> list[list[int]]:
    """Loss of every pool in every stress, from profits per lot in 2^-10 minor units."""
    result = []
    for p in range(positions.pool_count):
        first, last = int(positions.pool_start[p]), int(positions.pool_start[p + 1])
        row = []
        for k, stress in enumerate(stresses):
            total = Fraction(0)
            for r in range(first, last):
                size = int(positions.quantity_lots[r])
                total += size * Fraction(int(profit[int(positions.instrument[r]), k]), 2**10)
            gain = math.floor(total)
            for u, coin in enumerate(coins):
                index = int(marks.index_e8[u])
                then = max(1, index * (10**9 + stress.spot_move_e9(coin)) // 10**9)
                gain += int(positions.coin_minor[p, u]) * (then - index) // 10**10
            row.append(-gain)
        result.append(row)
    return result
