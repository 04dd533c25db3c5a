"""The last `Revalue` in columns: indices, marks, volatilities, observations, funding.

The gate, the collar and the re-check at the seal all use these until the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import msgspec
import numpy as np

from exchange.core import limits
from exchange.core.commands import ExpiryMark, Revalue, UnderlyingMark
from exchange.core.stored.contracts import Contracts, Life
from exchange.core.venue import Venue
from margin.forecasts.ranges import AtTheMoney
from margin.invariant import Int64Array, check
from margin.portfolio import INVERSE, NEVER_NS, Marks
from margin.valuation import option_marks

_encode = msgspec.msgpack.Encoder().encode


class IndexState(IntEnum):
    """What may happen on an underlying, by the age of its index."""

    FRESH = 0
    STALE = 1  # risk-reducing orders only, no new calls, no liquidations, wider initial margin
    DEAD = 2  # books halted, funding stops, expiry postponed


class MarkBoard:
    """Marks of everything listed, as of the last revaluation."""

    def __init__(self, venue: Venue, contracts: Contracts) -> None:
        self.venue, self.contracts = venue, contracts
        units = len(venue.underlyings)
        self.time_ns = 0
        self.cycle = -1
        self.index_e8: Int64Array = np.zeros(units, np.int64)
        self.index_state: list[IndexState] = [IndexState.FRESH] * units
        self.observations: list[list[tuple[int, int]]] = [[] for _ in range(units)]
        self.mark_e8: Int64Array = np.zeros(0, np.int64)
        self.forward_e8: Int64Array = np.zeros(0, np.int64)
        self.volatility_e9: Int64Array = np.zeros(0, np.int64)
        self.rate_e9: Int64Array = np.zeros(0, np.int64)
        self.marker_state = b""
        self.confidence_ppb: Int64Array = np.full(units, 10**9, np.int64)
        self.funding_e12: dict[int, int] = {}
        self.funding_rate_e9: dict[int, int] = {}
        self.funding_payments = 0

    @property
    def is_open(self) -> bool:
        """Whether there has been a first revaluation, without which nothing can be margined."""
        return self.cycle >= 0

    def resize(self) -> None:
        """Make room for newly listed contracts; futures start at their underlying's index."""
        known, wanted = len(self.mark_e8), len(self.contracts)
        for name in ("mark_e8", "forward_e8", "volatility_e9", "rate_e9"):
            grown = np.zeros(wanted, np.int64)
            grown[:known] = getattr(self, name)
            setattr(self, name, grown)
        for slot in range(known, wanted):
            spec = self.contracts.specs[slot]
            opening = self.venue.underlyings[spec.underlying]
            index = int(self.index_e8[spec.underlying]) or opening.opening_index_e8
            self.forward_e8[slot] = index
            self.volatility_e9[slot] = opening.opening_volatility_e9
            self.mark_e8[slot] = 0 if self.contracts.is_option_slot(slot) else index
        if self.is_open:
            self._value_options()

    def take(self, marks: Revalue) -> None:
        """Replace the marks by those of a `Revalue` command (already validated)."""
        self.time_ns, self.cycle = marks.time_ns, marks.cycle
        self.marker_state = marks.marker_state
        for unit, mark in enumerate(marks.underlyings):
            self._take_underlying(unit, mark)
        for slot, mark_e8 in marks.futures:
            self.mark_e8[slot] = self.forward_e8[slot] = mark_e8
        for expiry in marks.expiries:
            self._take_expiry(expiry)
        self._value_options()

    def _take_underlying(self, unit: int, mark: UnderlyingMark) -> None:
        rules = self.venue.index
        self.index_e8[unit] = mark.index_e8
        self.confidence_ppb[unit] = mark.confidence_ppb
        if mark.age_ns > rules.dead_after_ns:
            self.index_state[unit] = IndexState.DEAD
        elif mark.age_ns > rules.stale_after_ns:
            self.index_state[unit] = IndexState.STALE
        else:
            self.index_state[unit] = IndexState.FRESH
        self.observations[unit].extend(mark.observations)

    def forget_observations(self) -> None:
        """Keep only the observations that the next settlement window of an underlying needs."""
        window = self.venue.index.settlement_window_ns
        for unit, seen in enumerate(self.observations):
            if len(seen) < 2:
                continue
            start = self.contracts.next_expiry_ns(unit) - window
            first = 0
            while first + 1 < len(seen) and seen[first + 1][0] <= start:
                first += 1
            if first:
                self.observations[unit] = seen[first:]

    def _take_expiry(self, expiry: ExpiryMark) -> None:
        columns = self.contracts.columns
        volatility_of = dict(zip(expiry.strikes_e8, expiry.volatilities_e9, strict=True))
        same = (columns.unit == expiry.underlying) & (columns.expiry_ns == expiry.expiry_ns)
        for slot in np.nonzero(same & (self.contracts.is_option == 1))[0].tolist():
            self.forward_e8[slot] = expiry.forward_e8
            self.rate_e9[slot] = expiry.rate_e9
            strike = int(columns.strike_e8[slot])
            if strike in volatility_of:
                self.volatility_e9[slot] = volatility_of[strike]

    def _value_options(self) -> None:
        if self.contracts.has_options:
            options = self.contracts.is_option == 1
            marks = option_marks(self.contracts.columns, self.columns())
            in_coin = self.contracts.is_coin_settled
            marks[in_coin] = np.minimum(marks[in_coin], limits.PREMIUM_E8_MAX)
            self.mark_e8[options] = marks[options]

    def columns(self) -> Marks:
        """The marks as margin reads them."""
        return Marks(
            now_ns=self.time_ns,
            index_e8=self.index_e8,
            mark_e8=self.mark_e8,
            forward_e8=self.forward_e8,
            volatility_e9=self.volatility_e9,
            rate_e9=self.rate_e9,
            index_confidence_ppb=self.confidence_ppb,
        )

    def unit_volatility_e9(self) -> Int64Array:
        """The volatility of each underlying at the money."""
        return np.array(self.at_the_money().volatility_e9, np.int64)

    def at_the_money(self) -> AtTheMoney:
        """Of each underlying the volatility of the option nearest to the money in its nearest
        expiry, else the one it opened with (its expiry is 0)."""
        found = [unit.opening_volatility_e9 for unit in self.venue.underlyings]
        expiries_ns = [0] * len(found)
        if self.contracts.has_options:
            best: dict[int, tuple[int, int]] = {}
            for slot in self.contracts.listed():
                spec = self.contracts.specs[slot]
                if not self.contracts.is_option_slot(slot) or self.volatility_e9[slot] <= 0:
                    continue
                away = abs(spec.strike_e8 - int(self.index_e8[spec.underlying]))
                rank = (spec.expiry_ns, away)
                if spec.underlying not in best or rank < best[spec.underlying]:
                    best[spec.underlying] = rank
                    found[spec.underlying] = int(self.volatility_e9[slot])
                    expiries_ns[spec.underlying] = spec.expiry_ns
        return AtTheMoney(found, expiries_ns)

    def reference_ticks(self, slot: int) -> int:
        """The mark in ticks, halves rounded down, at least one tick."""
        tick = self.contracts.specs[slot].tick_e8
        return max(1, (2 * int(self.mark_e8[slot]) + tick - 1) // (2 * tick))

    def settlement_e8(self, unit: int, expiry_ns: int) -> int:
        """Time-weighted mean of the index over the window that ends at expiry, rounded down.

        An observation holds until the next; the one before the window holds from its start. With
        no observation at all the current index stands.
        """
        start = expiry_ns - self.venue.index.settlement_window_ns
        seen = [point for point in self.observations[unit] if point[0] < expiry_ns]
        if not seen:
            return int(self.index_e8[unit])
        weighted = 0
        first = max(start, seen[0][0])
        for index, (time_ns, price_e8) in enumerate(seen):
            until = seen[index + 1][0] if index + 1 < len(seen) else expiry_ns
            weighted += price_e8 * max(0, until - max(time_ns, first))
        return weighted // (expiry_ns - first)

    def perpetuals(self) -> list[int]:
        """Slots of the listed perpetual contracts."""
        specs = self.contracts.specs
        return [slot for slot in self.contracts.listed() if specs[slot].expiry_ns == NEVER_NS]

    def validate_command(self, marks: Revalue) -> str:
        """What is wrong with a `Revalue`, or an empty string."""
        if len(marks.underlyings) != len(self.venue.underlyings):
            return "one mark per underlying is needed"
        for unit, mark in zip(self.venue.underlyings, marks.underlyings, strict=True):
            if not 0 < mark.index_e8 <= unit.price_e8_max:
                return f"index of {unit.name} is out of bounds"
            if any(not 0 < price <= unit.price_e8_max for _, price in mark.observations):
                return f"an observation of {unit.name} is out of bounds"
        for slot, mark_e8 in marks.futures:
            if not 0 <= slot < len(self.contracts):
                return f"mark for unknown instrument {slot}"
            spec = self.contracts.specs[slot]
            bound = self.venue.underlyings[spec.underlying].price_e8_max
            if self.contracts.is_option_slot(slot) or not 0 < mark_e8 <= bound:
                return f"mark of {spec.name} is out of bounds"
        for expiry in marks.expiries:
            if len(expiry.strikes_e8) != len(expiry.volatilities_e9):
                return "one volatility per strike is needed"
            if any(not 0 < v <= limits.VOLATILITY_E9_MAX for v in expiry.volatilities_e9):
                return "a volatility is out of bounds"
            if not 0 < expiry.forward_e8 <= limits.INDEX_E8_MAX:
                return "a forward is out of bounds"
        return ""

    def missing_marks(self, marks: Revalue) -> list[str]:
        """Listed futures that a `Revalue` leaves without a mark (they keep their last one)."""
        given = {slot for slot, _ in marks.futures}
        return [
            self.contracts.specs[slot].name
            for slot in self.contracts.listed()
            if not self.contracts.is_option_slot(slot)
            and self.contracts.life[slot] == Life.LISTED
            and slot not in given
        ]

    def is_inverse(self, slot: int) -> bool:
        """Whether the contract settles in its coin."""
        return self.contracts.specs[slot].kind == INVERSE

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes of the marks."""
        columns = (self.index_e8, self.mark_e8, self.forward_e8, self.volatility_e9, self.rate_e9)
        yield (
            "marks",
            _encode(
                (
                    self.time_ns,
                    self.cycle,
                    [column.tobytes() for column in columns],
                    [int(state) for state in self.index_state],
                    self.confidence_ppb.tolist(),
                    self.observations,
                    self.marker_state,
                    sorted(self.funding_e12.items()),
                    sorted(self.funding_rate_e9.items()),
                    self.funding_payments,
                )
            ),
        )

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        pairs = list[tuple[int, int]]
        layout = tuple[
            int, int, list[bytes], list[int], list[int], list[pairs], bytes, pairs, pairs, int
        ]
        data = msgspec.msgpack.decode(parts["marks"], type=layout)
        self.time_ns, self.cycle = data[0], data[1]
        columns = [np.frombuffer(column, np.int64).copy() for column in data[2]]
        self.index_e8, self.mark_e8, self.forward_e8, self.volatility_e9, self.rate_e9 = columns
        self.index_state = [IndexState(state) for state in data[3]]
        self.confidence_ppb = np.array(data[4], np.int64)
        self.observations, self.marker_state = data[5], data[6]
        self.funding_e12, self.funding_rate_e9 = dict(data[7]), dict(data[8])
        self.funding_payments = data[9]
        check(len(self.mark_e8) == len(self.contracts), "a mark per contract")
