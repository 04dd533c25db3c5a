"""Gamma margin: what a gap in the price costs a book that cannot re-hedge inside it.

Between two auctions nobody can trade. A book that is short gamma loses about G (h F)^2 / 2 over a
relative gap h, and must then buy or sell G h F to be hedged again. Per option lot this module
gives, in quanta: the loss over the gap, the notional to re-hedge over a mean move, the delta at the
index, and the convexity in every scenario, which says how much of the gap's loss the worst
scenario holds already.

Form of the loss: the delta-plus method of the Basel framework and of EU Regulation 575/2013,
G VU^2 / 2 per underlying with only net short gamma counted, VU 8 % of the price.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from margin.black76 import price, price_and_greeks
from margin.fixed_point import (
    NS_PER_DAY,
    NS_PER_YEAR,
    PRICE_SCALE,
    RATE_SCALE,
    USDC_SCALE,
    VOLATILITY_SCALE,
    quantise,
    root_up,
)
from margin.invariant import Float64Array, Int64Array, check
from margin.portable_math import exp
from margin.portfolio import INVERSE, INVERSE_CALL, LINEAR_CALL, NEVER_NS, Instruments, Marks

MEAN_OF_NORMAL_E9: Final = 797_884_561
"""E|x| of a standard normal x, sqrt(2 / pi), upward."""

_E8: Final = float(PRICE_SCALE)
_E9: Final = float(VOLATILITY_SCALE)
_YEAR: Final = float(NS_PER_YEAR)


def deviation_e9(volatility_e9: int, horizon_ns: int) -> int:
    """volatility x sqrt(horizon / 365 days), upward, exact in integers."""
    return root_up(-(-volatility_e9 * volatility_e9 * horizon_ns // NS_PER_YEAR))


def price_gap(
    volatility_e9: int, interval_ns: int, quantile_e9: int, least_gap_e9: int
) -> tuple[int, int]:
    """(gap, mean move) of the price over a batch interval, as fractions x 10^9.

    gap = max(least gap, quantile x volatility x sqrt(interval)), at most 1. The mean move is
    sqrt(2 / pi) x s, s the deviation that the gap is so many times of. Both rise with every
    argument but the mean, which falls where the quantile rises and the least gap binds.
    """
    check(quantile_e9 > 0 and least_gap_e9 >= 0, "gamma: constants")
    check(volatility_e9 >= 0 and interval_ns >= 0, "gamma: volatility or interval below 0")
    deviation = deviation_e9(volatility_e9, interval_ns)
    gap = max(least_gap_e9, -(-quantile_e9 * deviation // RATE_SCALE))
    deviation = max(deviation, -(-least_gap_e9 * RATE_SCALE // quantile_e9))
    mean = -(-MEAN_OF_NORMAL_E9 * deviation // RATE_SCALE)
    return min(RATE_SCALE, gap), min(RATE_SCALE, mean)


def expiry_buckets(instruments: Instruments, now_ns: int, near_days: int) -> Int64Array:
    """The bucket in which gamma nets, shape [I], numbered from 0.

    Every expiry of a risk unit less than `near_days` away is a bucket of its own; all later
    expiries are one, perpetuals with them (which have no gamma). In margin order the rows of a
    bucket follow each other. Long gamma of a later expiry does not pay for short gamma of an early
    one: at the early expiry's pin it is not there.
    """
    expiry = instruments.expiry_ns.copy()
    expiry[expiry - now_ns >= near_days * NS_PER_DAY] = NEVER_NS
    _, number = np.unique(np.stack((instruments.unit, expiry)), axis=1, return_inverse=True)
    return np.ascontiguousarray(number.reshape(-1), dtype=np.int64)


@njit(cache=True, error_model="numpy")
def _lot_kernel(
    instruments: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    now_ns: int,
    marks: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    gaps: tuple[Float64Array, Float64Array],
    moves: tuple[Float64Array, Float64Array],
    quanta: Float64Array,
    columns: Int64Array,
    convexity: Int64Array,
) -> None:
    """Rows of `columns[I,3]` (delta, gap loss, hedge) and of `convexity[I,S]`, one long lot."""
    kind, unit, expiry_ns, strike_e8, lot_e8 = instruments
    index_e8, mark_e8, forward_e8, volatility_e9, rate_e9 = marks
    for i in range(len(kind)):
        u = unit[i]
        lot, index = lot_e8[i] / _E8, index_e8[u] / _E8
        if kind[i] < LINEAR_CALL:
            coins = lot / (mark_e8[i] / _E8) if kind[i] == INVERSE else lot
            columns[i, 0] = quantise(coins * index * quanta[u])
            continue
        forward, strike = forward_e8[i] / _E8, strike_e8[i] / _E8
        in_coin = kind[i] >= INVERSE_CALL
        if in_coin:  # worth B76 / F coin, undiscounted, so S / F dollars for each of B76
            lot *= index / forward
        volatility = volatility_e9[i] / _E9
        years = max(0, expiry_ns[i] - now_ns) / _YEAR
        discount = 1.0 if in_coin else exp(-(max(0, rate_e9[i]) / _E9) * years)
        is_call = kind[i] == LINEAR_CALL or kind[i] == INVERSE_CALL
        value, delta, curvature, _, _ = price_and_greeks(
            forward, strike, volatility, years, discount, is_call
        )
        gap, mean = gaps[0][u], gaps[1][u]
        # A convex value with slopes within one coin of each other: over a move of h it cannot
        # leave its tangent by more than h F, nor its delta change by more than one.
        loss = min(0.5 * (curvature * forward) * (gap * gap), gap) * forward
        change = min((curvature * forward) * mean, 1.0)
        columns[i, 0] = quantise(lot * delta * index * quanta[u])
        columns[i, 1] = quantise(lot * loss * quanta[u])
        columns[i, 2] = quantise(lot * change * index * quanta[u])
        for s in range(convexity.shape[1]):
            move = moves[0][u, s]
            then = price(forward * (1.0 + move), strike, volatility, years, discount, is_call)
            bent = (then - value) - (delta * forward) * move
            convexity[i, s] = quantise(lot * max(0.0, bent) * moves[1][u, s] * quanta[u])


def lot_columns(
    instruments: Instruments,
    marks: Marks,
    gap_e9: Int64Array,
    mean_move_e9: Int64Array,
    spot_move_e9: Int64Array,
    weight_e9: Int64Array,
    risk_exponent: Int64Array,
) -> tuple[Int64Array, Int64Array]:
    """(columns [I,3], convexity [I,S]) of one long lot, in quanta of 2^-risk_exponent[unit].

    Columns: delta x index; gap loss = min(G F^2 h^2 / 2, h F); hedge = min(G F E|m|, 1) x index,
    each per lot. G is the Black-76 gamma in the forward F, which moves with the index; h is
    `gap_e9[U]`, E|m| is `mean_move_e9[U]`. Delta-one contracts have a delta only (inverse ones
    that of lot_usd / mark coins). Convexity in scenario s of move m and weight w, at unchanged
    volatility: (V(F (1 + m)) - V(F) - delta F m) w, never negative; `spot_move_e9[U,S]`,
    `weight_e9[U,S]`. All entries are at most one notional, convexity at most |m| w notionals.
    """
    columns = np.zeros((len(instruments), 3), np.int64)
    convexity = np.zeros((len(instruments), spot_move_e9.shape[1]), np.int64)
    quanta: Float64Array = (np.int64(1) << risk_exponent).astype(np.float64) * float(USDC_SCALE)
    _lot_kernel(
        instruments.kernel_columns(),
        marks.now_ns,
        marks.kernel_columns(),
        (gap_e9 / _E9, mean_move_e9 / _E9), (spot_move_e9 / _E9, weight_e9 / _E9), quanta,
        columns, convexity,
    )  # fmt: skip
    return columns, convexity


def warm_up() -> None:
    """Compile the kernel of this module."""
    one, grid = np.ones(1, np.int64), np.zeros((1, 1), np.int64)
    call = Instruments(one * LINEAR_CALL, one * 0, one, one, one, one * 0)
    lot_columns(call, Marks(0, one, one, one, one, one), one, one, grid, grid, one * 0)
