"""Delta-gamma value at risk: a quick look that says when the full reprice is needed, nothing more.

An explanation under dates of the past shows it beside what the dates say, so that a reader sees
where it may be trusted; nothing is ever charged or refused by it.

For one risk unit with dV = D dS + G dS^2 / 2 and dS = S sigma z, z normal: with a = D S sigma and
b = G S^2 sigma^2 / 2 the profit is a z + b z^2, whose cumulants are known. Cornish-Fisher turns
them into a quantile. Both steps are wrong where it matters most (far from the money, near expiry,
in the tail), so the result never is a margin: it is compared with itself.

Sources: J. Zangari, A VaR methodology for portfolios that include options (RiskMetrics, 1996);
E. Cornish and R. Fisher (1938); domain of validity: D. Maillard, A user's guide to the Cornish
Fisher expansion (2012).
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from margin.black76 import price_and_greeks
from margin.book import Book
from margin.fixed_point import (
    COIN_SCALE,
    NS_PER_YEAR,
    PRICE_SCALE,
    RATE_SCALE,
    VOLATILITY_SCALE,
)
from margin.portable_math import exp, normal_lower_quantile
from margin.portfolio import INVERSE, INVERSE_CALL, LINEAR_CALL

_RANGE: Final = 4.0  # standard deviations between which the expansion must be monotone


class Exposure(NamedTuple):
    """Profit for a relative move m of a unit: `slope_usdc` m + `bend_usdc` m^2 / 2."""

    slope_usdc: float
    bend_usdc: float


class Screen(NamedTuple):
    """Approximate value at risk, in the unit of delta x spot; whether its expansion is valid."""

    value_at_risk: float
    is_valid: bool


def delta_gamma_screen(
    delta: float, gamma: float, spot: float, volatility: float, quantile: float
) -> Screen:
    """Value at risk of a x z + b x z^2 by Cornish-Fisher.

    `delta` and `gamma` in coins and coins per unit of price, `spot` the price, `volatility` the
    standard deviation of the return over the horizon, `quantile` N^-1(confidence) (2.326 for
    99 %). With skewness s and excess kurtosis k of the loss,
    z' = z + (z^2-1) s/6 + (z^3-3z) k/24 - (2z^3-5z) s^2/36, value at risk = sd x z' - b, at least
    0. Valid if z' rises with z from -4 to 4: elsewhere larger z would mean smaller losses.
    """
    slope = delta * spot * volatility
    bend = 0.5 * gamma * (spot * volatility) * (spot * volatility)
    variance = slope * slope + 2.0 * bend * bend
    if not variance > 0.0:
        return Screen(0.0, variance == 0.0)
    deviation = math.sqrt(variance)
    # third and fourth cumulant of a z + b z^2: 6 a^2 b + 8 b^3 and 48 a^2 b^2 + 48 b^4
    skew = -(6.0 * slope * slope * bend + 8.0 * bend * bend * bend) / (variance * deviation)
    excess = 48.0 * bend * bend * (slope * slope + bend * bend) / (variance * variance)
    z, square = quantile, quantile * quantile
    adjusted = (
        z
        + (square - 1.0) * skew / 6.0
        + z * (square - 3.0) * excess / 24.0
        - z * (2.0 * square - 5.0) * skew * skew / 36.0
    )
    # dz'/dz is a quadratic in z: its lowest value between the bounds must be positive.
    leading = excess / 8.0 - skew * skew / 6.0
    middle = skew / 3.0
    constant = 1.0 - excess / 8.0 + 5.0 * skew * skew / 36.0
    ends = leading * _RANGE * _RANGE + constant - abs(middle) * _RANGE
    rises = ends > 0.0 and constant > 0.0
    if leading > 0.0 and abs(middle) < 2.0 * leading * _RANGE:
        rises = rises and middle * middle < 4.0 * leading * constant
    return Screen(max(0.0, deviation * adjusted - bend), rises)


def exposures_of(book: Book) -> list[Exposure]:
    """Delta and gamma of a book in dollars, coin cash included, by risk unit.

    Delta-one contracts have no gamma (inverse ones lot_usd x index / mark of delta), options those
    of Black-76 in the forward, which moves with the index, at unchanged volatility.
    """
    slope, bend = [0.0] * len(book.unit_names), [0.0] * len(book.unit_names)
    columns, marks = book.instruments, book.marks
    for unit, coin in enumerate(book.coin_of_unit):
        if coin > 0:
            cash = int(book.cash_minor[coin]) / COIN_SCALE
            slope[unit] += cash * int(marks.index_e8[unit]) / PRICE_SCALE
    for row in book.quantity_lots.nonzero()[0].tolist():
        unit, kind = int(columns.unit[row]), int(columns.kind[row])
        index = int(marks.index_e8[unit]) / PRICE_SCALE
        held = int(book.quantity_lots[row]) * int(columns.lot_e8[row]) / PRICE_SCALE
        if kind < LINEAR_CALL:
            mark = int(marks.mark_e8[row]) / PRICE_SCALE
            slope[unit] += held * (index / mark if kind == INVERSE else mark)
            continue
        forward, strike = (
            int(price_e8) / PRICE_SCALE
            for price_e8 in (marks.forward_e8[row], columns.strike_e8[row])
        )
        years = max(0, int(columns.expiry_ns[row]) - marks.now_ns) / NS_PER_YEAR
        is_call, rate = kind in (LINEAR_CALL, INVERSE_CALL), max(0, int(marks.rate_e9[row]))
        if kind >= INVERSE_CALL:  # worth B76 / F coin, so S / F dollars for each of B76
            held, rate = held * index / forward, 0
        discount = exp(-rate / VOLATILITY_SCALE * years)
        volatility = int(marks.volatility_e9[row]) / VOLATILITY_SCALE
        _, delta, gamma, _, _ = price_and_greeks(
            forward, strike, volatility, years, discount, is_call
        )
        slope[unit] += held * delta * forward
        bend[unit] += held * gamma * forward * forward
    return [Exposure(*pair) for pair in zip(slope, bend, strict=True)]


def unit_screen(exposure: Exposure, deviation_e9: int, periods: int, level_ppb: int) -> Screen:
    """`delta_gamma_screen` of a unit in USDC, at `periods` times a variance of one period.

    `deviation_e9` of one period's return, a fraction x 10^9; `level_ppb` at least one half.
    """
    quantile = -float(normal_lower_quantile((RATE_SCALE - level_ppb) / RATE_SCALE))
    deviation = deviation_e9 / VOLATILITY_SCALE * math.sqrt(periods)
    return delta_gamma_screen(*exposure, 1.0, deviation, quantile)


def full_reprice_is_needed(
    now: Screen, at_reprice: Screen, requirement: float, equity: float, tolerance_ppb: int
) -> bool:
    """Whether the last full result may not stand any longer; True decides nothing else.

    `now` and `at_reprice`: the screen today and when `requirement` was computed in full, all in one
    unit. Needed if either screen is not valid, if they differ by more than `tolerance_ppb` of the
    requirement, or if the requirement plus what the screen grew, plus that tolerance, is above
    `equity`: near the line only the full figure counts.
    """
    if not (now.is_valid and at_reprice.is_valid):
        return True
    band = requirement * tolerance_ppb / RATE_SCALE
    grown = now.value_at_risk - at_reprice.value_at_risk
    return abs(grown) > band or requirement + max(0.0, grown) + band > equity
