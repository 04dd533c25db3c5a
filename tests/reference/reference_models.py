"""Slow twins of `margin.models`: big integers and fractions, one pool at a time, no arrays.

Every twin rounds where the model says it does. `exact=True` leaves out the rounding of values to
quanta, so that a test can tell how little it changes.
"""

from __future__ import annotations

import math
from collections import defaultdict
from fractions import Fraction
from statistics import NormalDist

from margin.models.standard import Feeds
from margin.models.standard_constants import Standard
from margin.portfolio import INVERSE, LINEAR_CALL, Instruments, Marks

E9 = 10**9


def in_quanta(price_e8: int, lot_e8: int, exponent: int, exact: bool = False) -> Fraction:
    """Value of a lot, to the nearest quantum unless `exact`, halves up."""
    value = Fraction(price_e8 * lot_e8 * 2**exponent, 10**10)
    return value if exact else Fraction(math.floor(value + Fraction(1, 2)))


class LinearTwin:
    """Charges that are fractions of the value at the mark: (long, short) rates per instrument."""

    def __init__(
        self, instruments: Instruments, marks: Marks, exponents: list[int],
        maintenance_ppb: list[tuple[int, int]], initial_ppb: list[tuple[int, int]],
    ) -> None:  # fmt: skip
        self.unit = [int(u) for u in instruments.unit]
        self.exponents = exponents
        self.charges = []
        for i in range(len(instruments)):
            inverse = int(instruments.kind[i]) == INVERSE
            price = 10**8 if inverse else int(marks.mark_e8[i])
            value = in_quanta(price, int(instruments.lot_e8[i]), exponents[self.unit[i]])
            self.charges.append(
                [
                    [math.ceil(value * rate / E9) for rate in rates[i]]
                    for rates in (initial_ppb, maintenance_ppb)
                ]
            )

    def margins(self, lots: dict[int, int]) -> tuple[int, int]:
        """(initial, maintenance) in minor units."""
        sums: dict[int, list[int]] = defaultdict(lambda: [0, 0])
        for i, quantity in lots.items():
            for level in (0, 1):
                charge = self.charges[i][level][0 if quantity > 0 else 1]
                sums[self.unit[i]][level] += abs(quantity) * charge
        rounded = [
            [math.ceil(Fraction(total[level], 2 ** self.exponents[u])) for u, total in sums.items()]
            for level in (0, 1)
        ]
        return sum(rounded[0]), sum(rounded[1])


class StandardTwin:
    """Standard margin of one pool at a time, in the words of the formula."""

    def __init__(
        self, standard: Standard, instruments: Instruments, marks: Marks, feeds: Feeds,
        haircuts_ppb: list[int], exponents: list[int], exact: bool = False,
    ) -> None:  # fmt: skip
        self.standard, self.instruments, self.marks, self.feeds = (
            standard,
            instruments,
            marks,
            feeds,
        )
        self.haircuts_ppb, self.exponents, self.exact = haircuts_ppb, exponents, exact
        self.expiries: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i in range(len(instruments)):
            if int(instruments.kind[i]) >= LINEAR_CALL:
                self.expiries[self._expiry(i)].append(i)

    def _expiry(self, i: int) -> tuple[int, int]:
        return int(self.instruments.unit[i]), int(self.instruments.expiry_ns[i])

    def _quanta(self, price_e8: int, lot_e8: int, unit: int) -> Fraction:
        return in_quanta(price_e8, lot_e8, self.exponents[unit], self.exact)

    def _charge(self, value: Fraction, rate_ppb: int) -> Fraction:
        charge = value * rate_ppb / E9
        return charge if self.exact else Fraction(math.ceil(charge))

    def _lot(self, i: int) -> tuple[Fraction, Fraction, Fraction]:
        """(value, index, strike) of one lot in quanta."""
        unit, lot = int(self.instruments.unit[i]), int(self.instruments.lot_e8[i])
        dollars = int(self.instruments.kind[i]) == INVERSE
        mark = 10**8 if dollars else int(self.marks.mark_e8[i])
        index = 10**8 if dollars else int(self.marks.index_e8[unit])
        strike = int(self.instruments.strike_e8[i])
        return (
            self._quanta(mark, lot, unit),
            self._quanta(index, lot, unit),
            self._quanta(strike, lot, unit),
        )

    def _alone(self, i: int) -> tuple[Fraction, Fraction]:
        """(maintenance, initial) charge of a short option lot on top of its value."""
        rates = self.standard.short_option
        value, index, strike = self._lot(i)
        is_call = int(self.instruments.kind[i]) == LINEAR_CALL
        out_of_money = max(Fraction(0), strike - index if is_call else index - strike)
        initial = max(
            self._charge(index, rates.initial_least_ppb),
            self._charge(index, rates.initial_most_ppb) - out_of_money,
        )
        if is_call:
            return self._charge(index, rates.call_maintenance_ppb), initial
        maintenance = max(
            self._charge(index, rates.put_maintenance_ppb),
            self._charge(value, rates.put_maintenance_of_mark_ppb),
        )
        over = self._charge(value + maintenance, rates.put_initial_over_maintenance_ppb) - value
        return maintenance, max(initial, over)

    def _doubt_ppb(self, confidence_ppb: int) -> Fraction:
        if confidence_ppb >= self.standard.oracle.threshold_e9:
            return Fraction(0)
        doubt = Fraction((E9 - confidence_ppb) * self.standard.oracle.factor_ppb, E9)
        return doubt if self.exact else Fraction(math.ceil(doubt))

    def _extra(self, i: int) -> Fraction:
        """What initial margin charges more per short option lot or delta-one lot."""
        unit = int(self.instruments.unit[i])
        same = self.expiries.get(self._expiry(i), [i]) if self._is_option(i) else [i]
        sure = [int(self.feeds.confidence_ppb[other]) for other in same]
        rate = self._doubt_ppb(min([int(self.feeds.index_confidence_ppb[unit]), *sure]))
        gap = max(0, self.standard.depeg.threshold_e9 - self.feeds.stable_e9)
        depeg = Fraction(gap * self.standard.depeg.factor_ppb, E9)
        rate += depeg if self.exact else math.ceil(depeg)
        extra = self._lot(i)[1] * rate / E9
        return extra if self.exact else Fraction(math.ceil(extra))

    def _is_option(self, i: int) -> bool:
        return int(self.instruments.kind[i]) >= LINEAR_CALL

    def _of_expiry(self, expiry: tuple[int, int], lots: dict[int, int]) -> list[Fraction]:
        """[initial, maintenance] of one pool's options of one expiry, in quanta."""
        unit, listed = expiry[0], self.expiries[expiry]
        smallest = math.gcd(*(int(self.instruments.lot_e8[i]) for i in listed))
        highest = max(int(self.marks.forward_e8[i]) for i in listed)
        forward = self._quanta(highest, smallest, unit)
        strike = {i: self._quanta(int(self.instruments.strike_e8[i]), smallest, unit) for i in lots}
        size = {i: q * (int(self.instruments.lot_e8[i]) // smallest) for i, q in lots.items()}
        call = {i: int(self.instruments.kind[i]) == LINEAR_CALL for i in lots}

        def payoff(price: Fraction) -> Fraction:
            paid = Fraction(0)
            for i, amount in size.items():
                above = price - strike[i] if call[i] else strike[i] - price
                paid += amount * max(Fraction(0), above)
            return paid

        value = sum((q * self._lot(i)[0] for i, q in lots.items()), Fraction(0))
        lowest = min([Fraction(0), *(payoff(p) for p in [Fraction(0), *strike.values()])])
        net_calls = sum(amount for i, amount in size.items() if call[i])
        unpaired = self.standard.unpaired_call
        needs = []
        for level, rate in ((1, unpaired.initial_ppb), (0, unpaired.maintenance_ppb)):
            alone = sum(
                (q * (self._lot(i)[0] + self._alone(i)[level]) for i, q in lots.items() if q < 0),
                Fraction(0),
            )
            at_end = lowest - max(0, -net_calls) * self._charge(forward, rate)
            needs.append(value - max(alone, at_end))
        needs[0] += sum((-q * self._extra(i) for i, q in lots.items() if q < 0), Fraction(0))
        return needs

    def margins(self, lots: dict[int, int], coin_minor: list[int]) -> tuple[Fraction, Fraction]:
        """(initial, maintenance) in minor units: whole numbers unless `exact`."""
        total = [Fraction(0), Fraction(0)]
        for unit, amount in enumerate(coin_minor):
            needs = [Fraction(0), Fraction(0)]
            for expiry in self.expiries:
                held = {i: q for i, q in lots.items() if i in self.expiries[expiry]}
                if expiry[0] == unit and held:
                    needs = [
                        a + b for a, b in zip(needs, self._of_expiry(expiry, held), strict=True)
                    ]
            for i, quantity in lots.items():
                if int(self.instruments.unit[i]) == unit and not self._is_option(i):
                    value, levels = self._lot(i)[0], self.standard.perpetual
                    initial = self._charge(value, levels.initial_ppb) + self._extra(i)
                    needs[0] += abs(quantity) * initial
                    needs[1] += abs(quantity) * self._charge(value, levels.maintenance_ppb)
            for level in (0, 1):
                minor = needs[level] / 2 ** self.exponents[unit]
                total[level] += minor if self.exact else math.ceil(minor)
            total[0] += self._coin(unit, amount)
        return max(Fraction(0), total[0]), max(Fraction(0), total[1])

    def _coin(self, unit: int, amount_minor: int) -> Fraction:
        kept = Fraction(
            (E9 - self.haircuts_ppb[unit]) * (E9 - self.standard.coin.initial_scale_ppb), E9
        )
        doubt = self._doubt_ppb(int(self.feeds.index_confidence_ppb[unit]))
        value = Fraction(max(0, amount_minor) * int(self.marks.index_e8[unit]), 10**10)
        if self.exact:
            return value * (kept + doubt) / E9
        return Fraction(math.ceil(math.ceil(value) * (math.ceil(kept) + doubt) / E9))


def vega_levels(
    position: Fraction, mark: Fraction, buys: Fraction, sells: Fraction,
    rates: dict[str, Fraction], scaling: list[Fraction], funding: Fraction,
) -> list[int]:  # fmt: skip
    """Maintenance and its multiples by the formula: sizes in coins, mark in minor units a coin."""
    longs, shorts = max(position, Fraction(0)), max(-position, Fraction(0))
    long = longs * mark * (rates["linear"] + rates["quadratic"] * longs + rates["long"])
    long += buys * rates["long"] * mark
    short = shorts * mark * (rates["linear"] + rates["quadratic"] * shorts + rates["short"])
    short += sells * rates["short"] * mark
    maintenance = math.ceil(max(long, short) + max(Fraction(0), funding * position))
    return [maintenance, *(math.floor(maintenance * times) for times in scaling)]


def _cdf(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


def lognormal_factors(volatility: float, years: float, drift: float, tail: float) -> list[float]:
    """(rf_long, rf_short) with the standard library's quantile and error function."""
    z, s = NormalDist().inv_cdf(tail), volatility * math.sqrt(years)
    mean = math.exp(drift * years)
    return [1 - mean * _cdf(z - s) / tail, mean * _cdf(z + s) / tail - 1]


def lognormal_tail(mu: float, sigma: float, tail: float) -> list[float]:
    """(VaR, ES) of exp(mu + sigma Z) with the standard library's quantile and error function."""
    z = NormalDist().inv_cdf(tail)
    shortfall = math.exp(mu + sigma * sigma / 2) * _cdf(z - sigma) / tail
    return [-math.exp(mu + sigma * z), -shortfall]


def open_interest_fraction_ppm(base: Fraction, lower: int, upper: int, interest: int) -> int:
    """Initial margin fraction by the formula; an upper cap of 0 turns scaling off."""
    if upper == 0:
        return math.floor(base * 10**6)
    crowd = Fraction(interest - lower, upper - lower) if upper > lower else Fraction(0)
    if upper == lower and interest > lower:
        crowd = Fraction(1)
    fraction = min(Fraction(1), base + max(Fraction(0), crowd) * (1 - base))
    return math.floor(fraction * 10**6)
