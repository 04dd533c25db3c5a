"""Haircuts that grow with size: tiers and a limit per coin, over all pools of an owner together.

    V    = sum over the owner's pools of max(0, value of the coin at the index)
    f(V) = sum over slices of V of slice x (1 - haircut of its tier), rounded down
    share of a pool = f(V) x its own value / V

A slice beyond the limit has a haircut of 1. f rises, bends down only, and never by more than its
argument, so that dividing a balance among pools, or owing in one what another has, never adds
credit. Where V does not reach the first tier every pool counts as without sizes, to the minor unit.
Sources of the form: slices of USD value with rates of their own and a last one of 0, Binance's
collateral ratios of cross margin; falling rates by slice, OKX's tiered discount rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import numpy as np
from numba import njit

from margin.add_ons.concentration import floor_share
from margin.fixed_point import PRICE_SCALE, RATE_SCALE, USDC_SCALE, inlined, mul_div_floor
from margin.invariant import Int64Array, check
from margin.pools.equity import coin_value_minor, equity
from margin.presets.collateral_sections import size_of
from margin.presets.preset import Preset

MOST_POOL_MINOR: Final = 2**52
"""What one pool has of a coin with sizes beyond this value counts for nothing (4.5e9 USDC)."""

_ALONE: Final[Int64Array] = np.zeros(0, np.int64)
_MOST_OWNER_MINOR: Final = 2**61 - 1  # what `floor_share` takes


class Haircuts(NamedTuple):
    """The haircuts of C currencies: `base_ppb[C]`, and the tiers of currency c in the rows
    `first[c]` to `first[c + 1]` of `above_minor[R]` and `tier_ppb[R]`, rising."""

    base_ppb: Int64Array
    first: Int64Array
    above_minor: Int64Array
    tier_ppb: Int64Array

    @property
    def grow(self) -> bool:
        """Whether any currency has tiers or a limit."""
        return len(self.above_minor) > 0


AnyHaircuts: TypeAlias = Int64Array | Haircuts
"""Haircuts with sizes, or one rate a currency, [C]."""


def haircuts_of(preset: Preset, currencies: Sequence[str]) -> Haircuts:
    """A preset's haircuts of some currencies, the first of which is USDC."""
    above: list[int] = []
    rates: list[int] = []
    first = [0]
    for currency in currencies:
        size = size_of(preset.collateral_size, currency)
        if size is not None:
            above += [tier.above_usdc * USDC_SCALE for tier in size.tiers]
            rates += [tier.haircut_ppb for tier in size.tiers]
            if size.limit_usdc is not None:
                above.append(size.limit_usdc * USDC_SCALE)
                rates.append(RATE_SCALE)
        first.append(len(above))
    base = [preset.haircut_ppb(currency) for currency in currencies]
    columns = (np.array(column, np.int64) for column in (base, first, above, rates))
    return Haircuts(*columns)


def base_of(haircuts: AnyHaircuts) -> Int64Array:
    """The haircut of each currency in ordinary sizes, [C]."""
    return haircuts.base_ppb if isinstance(haircuts, Haircuts) else haircuts


@inlined
def _credit(
    value_minor: int, base_ppb: int, above_minor: Int64Array, tier_ppb: Int64Array, row: int,
    end: int,
) -> int:  # fmt: skip
    """f(V) of the rows `row` to `end`: slices times what is left of them, rounded down once."""
    whole, rest = 0, 0
    lower, left_ppb = 0, RATE_SCALE - base_ppb
    while True:
        upper = value_minor if row == end else min(value_minor, above_minor[row])
        part = upper - lower
        whole += part // RATE_SCALE * left_ppb
        rest += part % RATE_SCALE * left_ppb
        whole += rest // RATE_SCALE
        rest %= RATE_SCALE
        if upper == value_minor:
            return whole
        lower, left_ppb = upper, RATE_SCALE - tier_ppb[row]
        row += 1


@njit(cache=True)
def _grown(
    cash_minor: Int64Array,
    option_value_minor: Int64Array,
    index_e8: Int64Array,
    base_ppb: Int64Array,
    first: Int64Array,
    above_minor: Int64Array,
    tier_ppb: Int64Array,
    owner_of: Int64Array,
    equity_minor: Int64Array,
) -> None:
    """Replace what base haircuts left of large owners' coins by their shares, in `equity_minor`.

    An empty `owner_of`: every pool is its owner's only one.
    """
    pools, currencies = cash_minor.shape
    last = pools - 1
    for p in range(len(owner_of)):
        if owner_of[p] < 0:
            raise ValueError("an owner below 0")
        last = max(last, owner_of[p])
    owned = np.zeros((last + 1, currencies), np.int64)
    alone, large = len(owner_of) == 0, False
    for p in range(pools):
        for c in range(1, currencies):
            if first[c] < first[c + 1]:
                amount = cash_minor[p, c] + option_value_minor[p, c]
                if amount > 0:
                    o = p if alone else owner_of[p]
                    owned[o, c] += min(MOST_POOL_MINOR, coin_value_minor(amount, index_e8[c]))
                    if owned[o, c] > _MOST_OWNER_MINOR:
                        raise OverflowError("an owner's coins exceed 2^61 minor units")
                    large = large or owned[o, c] > above_minor[first[c]]
    if not large:
        return
    before = np.zeros_like(owned)
    for p in range(pools):
        o = p if alone else owner_of[p]
        for c in range(1, currencies):
            amount = cash_minor[p, c] + option_value_minor[p, c]
            row, end, total = first[c], first[c + 1], owned[o, c]
            if amount <= 0 or row == end or total <= above_minor[row]:
                continue
            value = coin_value_minor(amount, index_e8[c])
            plain = mul_div_floor(value, RATE_SCALE - base_ppb[c], RATE_SCALE)
            value = min(MOST_POOL_MINOR, value)
            credit = _credit(total, base_ppb[c], above_minor, tier_ppb, row, end)
            share = credit
            if value < total:
                # cumulative parts in order of pool: the shares add up to the credit
                start = before[o, c]
                before[o, c] = start + value
                share = floor_share(credit, start + value, total)[0]
                share -= floor_share(credit, start, total)[0]
            equity_minor[p] += share - plain


def pool_equity(
    cash_minor: Int64Array,
    option_value_minor: Int64Array,
    index_e8: Int64Array,
    haircuts: AnyHaircuts,
    owner_of: Int64Array | None = None,
) -> Int64Array:
    """`margin.pools.equity.equity` of every pool with haircuts that may grow with size, shape [P].

    `owner_of[P]`: the owner of each pool, 0 .. O - 1; without it every pool is its own. A share is
    the part of an owner's credit up to the pool, rounded down, less the part before it, in order
    of pool: less than a minor unit from exact, in sum the credit. `InvariantBroken` as `equity`,
    `ValueError` for an owner below 0, `OverflowError` if an owner has 2^61 minor units of a coin
    or more, which takes 512 pools.
    """
    rates = base_of(haircuts)
    result = equity(cash_minor, option_value_minor, index_e8, rates)
    if not isinstance(haircuts, Haircuts) or not haircuts.grow or not len(result):
        return result
    owner = _ALONE if owner_of is None else owner_of
    check(owner is _ALONE or len(owner) == len(result), "collateral: one owner per pool")
    _grown(cash_minor, option_value_minor, index_e8, *haircuts, owner, result)
    return result


def warm_up() -> None:
    """Compile the kernel of this module."""
    one = np.zeros((1, 2), np.int64)
    index = np.full(2, PRICE_SCALE, np.int64)
    tier = np.ones(1, np.int64)
    sizes = Haircuts(np.zeros(2, np.int64), np.array([0, 0, 1], np.int64), tier, tier)
    pool_equity(one, one, index, sizes)
