"""Equity of every pool: cash and option value of each currency at the index, less haircuts."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit, prange

from margin.fixed_point import (
    PRICE_SCALE,
    RATE_SCALE,
    inlined,
    mul_div_floor,
)
from margin.invariant import Int64Array, check

# Below this many pools one thread is done before a second has woken.
PARALLEL_POOLS: Final = 8192
_USDC: Final = 0
_USDC_INDEX_E8: Final = PRICE_SCALE
_SPLIT: Final = 100_000  # its square is price scale x coin scale / USDC scale


@inlined
def coin_value_minor(amount_minor: int, index_e8: int) -> int:
    """Value of an amount of a coin at its index in USDC minor units, rounded down.

    floor(amount x index / 10^10) from halves of five digits: no product overflows where |amount|
    and |amount x index| are below 2^62 of their minor units.
    """
    price_high = index_e8 // _SPLIT
    price_low = index_e8 - price_high * _SPLIT
    high = amount_minor // _SPLIT
    low = amount_minor - high * _SPLIT
    middle = high * price_low + low * price_high + low * price_low // _SPLIT
    return high * price_high + middle // _SPLIT


@inlined
def _equity_of(
    p: int,
    cash_minor: Int64Array,
    option_value_minor: Int64Array,
    index_e8: Int64Array,
    haircut_ppb: Int64Array,
    equity_minor: Int64Array,
) -> None:
    total = 0
    for c in range(cash_minor.shape[1]):
        amount = cash_minor[p, c] + option_value_minor[p, c]
        value = amount  # currency 0 is worth one USDC, which `equity` checks
        if c != _USDC:
            value = coin_value_minor(amount, index_e8[c])
        if value > 0 and haircut_ppb[c] > 0:
            value = mul_div_floor(value, RATE_SCALE - haircut_ppb[c], RATE_SCALE)
        total += value
    equity_minor[p] = total


@njit(cache=True)
def _equity_serial(pools, *columns):  # type: ignore[no-untyped-def]
    for p in range(pools):
        _equity_of(p, *columns)


@njit(cache=True, parallel=True)
def _equity_parallel(pools, *columns):  # type: ignore[no-untyped-def]
    for p in prange(pools):
        _equity_of(np.int64(p), *columns)  # type: ignore[arg-type]  # as for chunks


def equity(
    cash_minor: Int64Array,
    option_value_minor: Int64Array,
    index_e8: Int64Array,
    haircut_ppb: Int64Array,
) -> Int64Array:
    """Equity of every pool in USDC minor units, shape [P].

    `cash_minor[P,C]` after variation margin and `option_value_minor[P,C]` at the mark, in minor
    units of each currency; currency 0 is USDC (10^-6, `index_e8[0]` = 10^8), all others coins
    (10^-8). The two are added per currency; the sum converts at the index, floored, and if it is
    positive loses the haircut, floored again: twice against the pool. Needs |amount| and
    |amount x index| below 2^62 of their minor units.
    """
    check(cash_minor.shape == option_value_minor.shape, "equity: shapes differ")
    currencies = cash_minor.shape[1:]
    check(index_e8.shape == haircut_ppb.shape == currencies, "equity: one index per currency")
    check(index_e8[_USDC] == _USDC_INDEX_E8, "equity: currency 0 is not worth one USDC")
    pools = cash_minor.shape[0]
    result = np.zeros(pools, dtype=np.int64)
    kernel = _equity_serial if pools < PARALLEL_POOLS else _equity_parallel
    kernel(pools, cash_minor, option_value_minor, index_e8, haircut_ppb, result)
    return result


def warm_up() -> None:
    """Compile the kernels of this module."""
    index = np.array([_USDC_INDEX_E8], dtype=np.int64)
    one = np.zeros(1, dtype=np.int64)
    for pools in (1, PARALLEL_POOLS):
        cash = np.zeros((pools, 1), dtype=np.int64)
        equity(cash, cash, index, one)
