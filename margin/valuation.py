"""Option premiums at the marks, quantised once to integers."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import numpy as np
from numba import njit

from margin.black76 import price
from margin.fixed_point import (
    COIN_SCALE,
    NS_PER_YEAR,
    PRICE_SCALE,
    USDC_SCALE,
    VOLATILITY_SCALE,
    quantise,
)
from margin.invariant import Int64Array
from margin.portable_math import exp
from margin.portfolio import INVERSE_CALL, LINEAR_CALL, Instruments, Marks, Positions

_USDC_VALUE_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // USDC_SCALE
_COIN_VALUE_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // COIN_SCALE


@njit(cache=True, error_model="numpy")
def _option_marks(
    kind: Int64Array,
    expiry_ns: Int64Array,
    strike_e8: Int64Array,
    now_ns: int,
    forward_e8: Int64Array,
    volatility_e9: Int64Array,
    rate_e9: Int64Array,
    discounted: bool,
    mark_e8: Int64Array,
) -> None:
    for row in range(len(kind)):
        if kind[row] < LINEAR_CALL:
            continue
        years = max(0, expiry_ns[row] - now_ns) / NS_PER_YEAR
        rate = max(0, rate_e9[row]) / VOLATILITY_SCALE if discounted else 0.0
        forward = forward_e8[row] / PRICE_SCALE
        inverse = kind[row] >= INVERSE_CALL
        premium = price(
            forward,
            strike_e8[row] / PRICE_SCALE,
            volatility_e9[row] / VOLATILITY_SCALE,
            years,
            1.0 if inverse else exp(-rate * years),
            kind[row] == LINEAR_CALL or kind[row] == INVERSE_CALL,
        )
        if inverse:
            premium = premium / forward
        mark_e8[row] = max(0, quantise(premium * PRICE_SCALE))


def option_marks(instruments: Instruments, marks: Marks, discounted: bool = True) -> Int64Array:
    """Black-76 premium of every option, USDC per coin x 10^8; zero for other contracts.

    An inverse option's is coin per coin x 10^8: the undiscounted value divided by the forward (as
    Deribit quotes it; paid in coin, it needs no rate of the dollar).

    Forward, volatility and rate per row come from `marks`; time runs in years of 365 days, the
    discount factor is exp(-max(rate, 0) x years), or 1 without `discounted`. Source: Black (1976).
    """
    premiums = np.zeros(len(instruments.kind), np.int64)
    _option_marks(
        instruments.kind,
        instruments.expiry_ns,
        instruments.strike_e8,
        marks.now_ns,
        marks.forward_e8,
        marks.volatility_e9,
        marks.rate_e9,
        discounted,
        premiums,
    )
    return premiums


def option_values(instruments: Instruments, marks: Marks, positions: Positions) -> Int64Array:
    """Value at the mark of every pool's options, shape [P, 1 + U], minor units of each currency.

    Currency 0 is USDC, 1 + u the coin of unit u, in which inverse options are worth their premium.
    Every position is floored, exactly: lots x lot x premium, in Python integers.
    """
    units = int(marks.index_e8.shape[0])
    values = np.zeros((positions.pool_count, 1 + units), np.int64)
    starts = positions.pool_start.tolist()
    for pool, (begin, end) in enumerate(pairwise(starts)):
        for row in range(begin, end):
            slot = int(positions.instrument[row])
            kind = int(instruments.kind[slot])
            if kind < LINEAR_CALL:
                continue
            coins_e8 = int(positions.quantity_lots[row]) * int(instruments.lot_e8[slot])
            in_coin = kind >= INVERSE_CALL
            currency = 1 + int(instruments.unit[slot]) if in_coin else 0
            scale = _COIN_VALUE_DIVISOR if in_coin else _USDC_VALUE_DIVISOR
            values[pool, currency] += coins_e8 * int(marks.mark_e8[slot]) // scale
    return values


def warm_up() -> None:
    """Compile the kernels of this module."""
    one = np.ones(1, np.int64)
    _option_marks(one * LINEAR_CALL, one, one, 0, one, one, one, True, one.copy())
