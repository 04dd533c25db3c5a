"""Slow twins of the models that charge a venue by rules and by dates of the past.

Rules with open orders: every subset of the orders is tried. Dates: one scenario, one lot at a time,
floats from libm, tails in exact fractions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, combinations
from typing import NamedTuple

from margin.portfolio import INVERSE, LINEAR_CALL, Instruments, Marks
from margin.presets.preset import Preset
from tests.reference.reference_margin import black_76
from tests.reference.reference_models import StandardTwin

E8, E9 = 10**8, 10**9
DAY_NS = 86_400 * E9


class TwinOrder(NamedTuple):
    """Signed lots of an instrument, and quanta that all of them lose at once."""

    instrument: int
    signed: int
    loss: Fraction


def subsets(orders: Sequence[TwinOrder]) -> Iterator[tuple[TwinOrder, ...]]:
    """Every choice of orders that may fill."""
    return chain.from_iterable(combinations(orders, n) for n in range(len(orders) + 1))


class OrdersTwin(StandardTwin):
    """Standard margin with open orders, expiry by expiry and subset by subset."""

    def _filled(self, lots: dict[int, int], fills: Sequence[TwinOrder]) -> dict[int, int]:
        after = dict(lots)
        for order in fills:
            after[order.instrument] = after.get(order.instrument, 0) + order.signed
        return after

    def _smallest(self, i: int) -> int:
        listed = self.expiries[self._expiry(i)]
        return math.gcd(*(int(self.instruments.lot_e8[k]) for k in listed))

    def _steps(self, i: int) -> tuple[Fraction, int]:
        """(strike of the expiry's smallest lot in quanta, smallest lots in a lot)."""
        unit, lot = int(self.instruments.unit[i]), self._smallest(i)
        strike = self._quanta(int(self.instruments.strike_e8[i]), lot, unit)
        return strike, int(self.instruments.lot_e8[i]) // lot

    def _option_by_option(self, lots: dict[int, int], level: int) -> Fraction:
        total = Fraction(0)
        for i, q in lots.items():
            total += q * self._lot(i)[0] if q > 0 else -q * self._alone(i)[level]
        return total

    def _at_the_end(self, lots: dict[int, int], prices: Sequence[Fraction], level: int) -> Fraction:
        value = sum((q * self._lot(i)[0] for i, q in lots.items()), Fraction(0))
        lowest, calls = Fraction(0), 0
        for price in prices:
            paid = Fraction(0)
            for i, q in lots.items():
                strike, times = self._steps(i)
                call = int(self.instruments.kind[i]) == LINEAR_CALL
                paid += q * times * max(Fraction(0), price - strike if call else strike - price)
            lowest = min(lowest, paid)
        for i, q in lots.items():
            if int(self.instruments.kind[i]) == LINEAR_CALL:
                calls += q * self._steps(i)[1]
        rates = self.standard.unpaired_call
        rate = (rates.maintenance_ppb, rates.initial_ppb)[level]
        first = next(iter(lots))
        highest = max(int(self.marks.forward_e8[k]) for k in self.expiries[self._expiry(first)])
        unit = int(self.instruments.unit[first])
        forward = self._quanta(highest, self._smallest(first), unit)
        return value - lowest + max(0, -calls) * self._charge(forward, rate)

    def _expiry_with_orders(
        self, lots: dict[int, int], orders: Sequence[TwinOrder], level: int
    ) -> Fraction:
        every = self._filled(lots, [order._replace(signed=0) for order in orders])
        prices = [Fraction(0), *{self._steps(i)[0] for i in every}]
        alone, end = [], []
        for fills in subsets(orders):
            cost = sum((order.loss for order in fills), Fraction(0))
            after = self._filled(every, fills)
            alone.append(cost + self._option_by_option(after, level))
            end.append(cost + self._at_the_end(after, prices, level))
        total = min(max(alone), max(end))
        if level == 1:
            sold = self._filled(every, [order for order in orders if order.signed < 0])
            total += sum((max(0, -q) * self._extra(i) for i, q in sold.items()), Fraction(0))
        return total

    def with_orders(self, lots: dict[int, int], orders: Sequence[TwinOrder]) -> tuple[int, int]:
        """(initial, maintenance) of a pool without coin cash if any of its orders may fill."""
        held = self._filled(lots, [order._replace(signed=0) for order in orders])
        found = []
        for level in (1, 0):
            minor = least = 0
            for unit in range(len(self.exponents)):
                quanta, cost = Fraction(0), Fraction(0)
                mine = [i for i in held if int(self.instruments.unit[i]) == unit]
                for expiry in {self._expiry(i) for i in mine if self._is_option(i)}:
                    own = {i: held[i] for i in mine
                           if self._is_option(i) and self._expiry(i) == expiry}  # fmt: skip
                    of = [order for order in orders if order.instrument in own]
                    quanta += self._expiry_with_orders(own, of, level)
                for i in mine:
                    of = [order for order in orders if order.instrument == i]
                    cost += sum(max(Fraction(0), order.loss) for order in of)
                    if not self._is_option(i):
                        quanta += self._future_with_orders(i, held[i], of, level)
                minor += math.ceil(quanta / 2 ** self.exponents[unit])
                least += math.ceil(cost / 2 ** self.exponents[unit])
            found.append(max(minor, least))
        return found[0], found[1]

    def _future_with_orders(
        self, i: int, lots: int, orders: Sequence[TwinOrder], level: int
    ) -> Fraction:
        levels = self.standard.perpetual
        rate = self._charge(self._lot(i)[0], (levels.maintenance_ppb, levels.initial_ppb)[level])
        rate += self._extra(i) if level == 1 else 0
        return max(
            rate * abs(lots + sum(order.signed for order in fills))
            + sum((order.loss for order in fills), Fraction(0))
            for fills in subsets(orders)
        )


def in_dollars(instruments: Instruments, marks: Marks, i: int) -> int:
    """Mark of an option settled in coin, in dollars x 10^8, halves up."""
    worth = Fraction(int(marks.mark_e8[i]) * int(marks.index_e8[instruments.unit[i]]), E8)
    return math.floor(worth + Fraction(1, 2))


def dated_deviations(preset: Preset, unit_class: str, date: int) -> tuple[float, float, int]:
    """Deviations of spot and of a 30-day volatility on a scenario, and the row it ends on.

    Scenarios are the rows on which the longest horizon ends, then the stressed rows once more.
    """
    history = preset.history
    assert history is not None
    begins = max(history.horizon_days) - 1
    spot, up = preset.spot_range_e9(unit_class) / E9, preset.volatility.up_e9 / E9
    long_run, stressed = history.long_run, history.stressed
    if long_run is None:
        return spot, up, begins + date
    table = {row.name: row.rate_e9 / E9 for row in long_run.spot_range}
    usual = table.get(unit_class, table["default"])
    followed = len(history.spot[0].residual_e9) - begins
    if date < followed:
        share = long_run.floor_share_ppb / E9
        return max(spot, share * usual), max(up, share * long_run.up_e9 / E9), begins + date
    assert stressed is not None
    multiple = stressed.multiple_e9 / E9
    return multiple * usual, multiple * long_run.up_e9 / E9, stressed.first + date - followed


def lot_profit(
    preset: Preset, unit_class: str, instruments: Instruments, marks: Marks, i: int, date: int,
    days: int = 1,
) -> float:  # fmt: skip
    """Dollars that one lot makes over `days` that end on one date of a preset's history."""
    history = preset.history
    assert history is not None
    spot_deviation, up, last = dated_deviations(preset, unit_class, date)
    rows = range(last - days + 1, last + 1)
    spot = sum(history.residuals_e9("spot", unit_class)[row] for row in rows) / E9
    move = math.exp(spot * spot_deviation) - 1
    unit, lot = int(instruments.unit[i]), int(instruments.lot_e8[i]) / E8
    index, mark = int(marks.index_e8[unit]) / E8, int(marks.mark_e8[i]) / E8
    kind = int(instruments.kind[i])
    if kind < LINEAR_CALL:
        return (lot / mark * index if kind == INVERSE else lot * mark) * move
    left_ns = max(0, int(instruments.expiry_ns[i]) - marks.now_ns)
    days, shares = history.tenor_days, history.tenor_share_e9
    residual = sum(history.residuals_e9("volatility", unit_class)[row] for row in rows) / E9
    moved = [math.exp(residual * up * s / E9) - 1 for s in shares]
    at = left_ns / DAY_NS
    above = next((k for k, day in enumerate(days) if day > at), len(days) - 1)
    below = max(0, above - 1) if at < days[-1] else above
    width = days[above] - days[below]
    into = min(1.0, max(0.0, (at - days[below]) / width)) if width else 0.0
    volatility_move = moved[below] + (moved[above] - moved[below]) * into
    forward, strike = int(marks.forward_e8[i]) / E8, int(instruments.strike_e8[i]) / E8
    volatility, years = int(marks.volatility_e9[i]) / E9, left_ns / (365 * DAY_NS)
    is_call = (kind - LINEAR_CALL) % 2 == 0
    scale = lot * (index / forward if kind > LINEAR_CALL + 1 else 1.0)
    rate = 0.0 if kind > LINEAR_CALL + 1 else max(0, int(marks.rate_e9[i])) / E9
    discount = math.exp(-rate * years)
    now = black_76(forward, strike, volatility, years, discount, is_call)
    then = black_76(
        forward * (1 + move), strike, volatility * (1 + volatility_move), years, discount, is_call
    )
    return (then - now) * scale
