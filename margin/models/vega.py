"""Margin levels of Vega's markets: risk factors, slippage, orders and funding.

Formula: vegaprotocol/vega, specification 0019-MCAL. With mark m, position q and open orders,

    long  = max(q, 0) x m x (linear + quadratic x max(q, 0) + rf_long) + buys x m x rf_long
    short = the mirror image
    maintenance = ceil(max(long, short) + max(0, funding x q))

and the levels above it are fixed multiples of maintenance, rounded down. All arithmetic is exact:
Python integers and fractions here, `margin.models.linear` for all pools at once.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import msgspec

from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, check
from margin.models.linear import LinearCharges, charge_of, linear_charges
from margin.portfolio import Instruments, Marks

_VALUE_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // USDC_SCALE


class RiskFactors(msgspec.Struct, frozen=True, kw_only=True):
    """Fractions of the value at the mark; quadratic slippage is per coin of position."""

    long_ppb: int
    short_ppb: int
    linear_slippage_ppb: int = 0
    quadratic_slippage_ppb: int = 0


class LevelScaling(msgspec.Struct, frozen=True, kw_only=True):
    """Multiples of maintenance margin (`LevelScaling()` has those of Vega's tests)."""

    search_ppb: int = 1_100_000_000
    initial_ppb: int = 1_200_000_000
    release_ppb: int = 1_400_000_000


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """What a party has in one market, in lots; orders are totals per side.

    `buy_limit_minor`, `sell_limit_minor`: sum of size x limit of the orders, for auctions.
    `funding_minor_per_lot`: what one long lot owes so far (a short lot is owed it).
    """

    position_lots: int
    buy_lots: int = 0
    sell_lots: int = 0
    buy_limit_minor: int = 0
    sell_limit_minor: int = 0
    funding_minor_per_lot: int = 0


class Levels(msgspec.Struct, frozen=True, kw_only=True):
    """Minor units of USDC: below maintenance a party is closed out, below search topped up."""

    maintenance_minor: int
    search_minor: int
    initial_minor: int
    release_minor: int


def _value_minor(lots: int, price_e8: int, lot_e8: int) -> Fraction:
    return Fraction(lots * lot_e8 * price_e8, _VALUE_DIVISOR)


def _side(lots: int, orders_minor: Fraction, rate_ppb: int, price_e8: int, lot_e8: int,
          factors: RiskFactors) -> Fraction:  # fmt: skip
    """What one direction needs: `lots` held in it and orders worth `orders_minor`."""
    held = max(lots, 0)
    slippage = Fraction(factors.linear_slippage_ppb, RATE_SCALE)
    coins = Fraction(held * lot_e8, COIN_SCALE)
    slippage += Fraction(factors.quadratic_slippage_ppb, RATE_SCALE) * coins
    rate = Fraction(rate_ppb, RATE_SCALE)
    return _value_minor(held, price_e8, lot_e8) * (slippage + rate) + orders_minor * rate


def margin_levels(
    exposure: Exposure,
    mark_e8: int,
    lot_e8: int,
    factors: RiskFactors,
    scaling: LevelScaling,
    auction_price_e8: int | None = None,
) -> Levels:
    """Levels of one party in one market: position and orders at the mark.

    In an auction (`auction_price_e8` is the indicative price) orders count at their own limits or
    at that price, whichever is more. `InvariantBroken` for negative sizes, prices or factors.
    """
    check(min(exposure.buy_lots, exposure.sell_lots) >= 0, "vega: negative orders")
    check(mark_e8 > 0 and lot_e8 > 0, "vega: mark and lot must be positive")
    check(all(getattr(factors, key) >= 0 for key in factors.__struct_fields__), "vega: factors")
    buys = _orders_minor(exposure.buy_lots, exposure.buy_limit_minor, mark_e8, lot_e8,
                         auction_price_e8)  # fmt: skip
    sells = _orders_minor(exposure.sell_lots, exposure.sell_limit_minor, mark_e8, lot_e8,
                          auction_price_e8)  # fmt: skip
    position = exposure.position_lots
    long = _side(position, buys, factors.long_ppb, mark_e8, lot_e8, factors)
    short = _side(-position, sells, factors.short_ppb, mark_e8, lot_e8, factors)
    exact = max(long, short) + max(0, exposure.funding_minor_per_lot * position)
    maintenance = -(-exact.numerator // exact.denominator)
    return Levels(
        maintenance_minor=maintenance,
        search_minor=maintenance * scaling.search_ppb // RATE_SCALE,
        initial_minor=maintenance * scaling.initial_ppb // RATE_SCALE,
        release_minor=maintenance * scaling.release_ppb // RATE_SCALE,
    )


def _orders_minor(
    lots: int, limit_minor: int, mark_e8: int, lot_e8: int, auction_price_e8: int | None
) -> Fraction:
    if auction_price_e8 is None:
        return _value_minor(lots, mark_e8, lot_e8)
    return max(Fraction(limit_minor), _value_minor(lots, auction_price_e8, lot_e8))


def least_isolated_factor_ppb(factors: RiskFactors) -> int:
    """The margin factor of isolated mode must be above this: max(rf) + linear slippage."""
    return max(factors.long_ppb, factors.short_ppb) + factors.linear_slippage_ppb


def isolated_margin_minor(
    position_lots: int, entry_e8: int, lot_e8: int, factor_ppb: int, factors: RiskFactors
) -> int:
    """Margin set aside for a position in isolated mode: factor x value at entry, rounded up.

    `InvariantBroken` unless the factor is above `least_isolated_factor_ppb` and at most 1.
    """
    least = least_isolated_factor_ppb(factors)
    check(least < factor_ppb <= RATE_SCALE, "vega: isolated factor must be above risk, at most 1")
    needed = _value_minor(abs(position_lots), entry_e8, lot_e8) * Fraction(factor_ppb, RATE_SCALE)
    return -(-needed.numerator // needed.denominator)


def capped_future_margin_minor(position_lots: int, mark_e8: int, cap_e8: int, lot_e8: int) -> int:
    """Full collateral of a future that settles in 0 .. cap: the largest loss from the mark.

    A long position can lose the mark, a short one cap - mark. `InvariantBroken` unless
    0 <= mark <= cap.
    """
    check(0 <= mark_e8 <= cap_e8, "vega: the mark of a capped future lies in 0 .. cap")
    distance_e8 = mark_e8 if position_lots > 0 else cap_e8 - mark_e8
    needed = _value_minor(abs(position_lots), distance_e8, lot_e8)
    return -(-needed.numerator // needed.denominator)


def lot_charges(
    instruments: Instruments,
    marks: Marks,
    risk_exponent: Int64Array,
    long_ppb: Int64Array,
    short_ppb: Int64Array,
    linear_slippage_ppb: Int64Array,
    scaling: LevelScaling,
) -> LinearCharges:
    """Charges per lot of delta-one instruments: rates are columns [I]; initial is the level's.

    Quadratic slippage, orders and funding are not proportional to lots: `margin_levels` has them.
    """
    rates = long_ppb + linear_slippage_ppb, short_ppb + linear_slippage_ppb
    return linear_charges(
        instruments, marks, risk_exponent,
        maintenance_ppb=rates,
        initial_ppb=(charge_of(rates[0], scaling.initial_ppb),
                     charge_of(rates[1], scaling.initial_ppb)),
    )  # fmt: skip
