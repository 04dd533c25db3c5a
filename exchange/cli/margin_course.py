"""The course of margin through a market, sampled after every revaluation.

Two fixed books are margined beside the accounts, since what accounts hold changes with what they
can afford: one coin of every underlying long, and one at-the-money straddle of every underlying
short, on the last expiry that the venue opened with.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exchange.core.commands import Command, Revalue
from exchange.core.engine import Engine
from exchange.core.events import Event
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.stored.state import State
from exchange.core.venue import lot_notional_minor
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array
from margin.portfolio import LINEAR, LINEAR_CALL, LINEAR_PUT, NEVER_NS, Positions

E8 = 10**8
LONG, STRADDLE = "long", "straddle"
_ALONE: Int64Array = np.zeros(1, np.int64)


@dataclass
class Course:
    """One entry a revaluation. Money in minor USDC; rates are margin over value, x 10^9."""

    index_e8: list[list[int]] = field(default_factory=list)
    initial_minor: list[int] = field(default_factory=list)
    interest_minor: list[int] = field(default_factory=list)
    fund_minor: list[int] = field(default_factory=list)
    called: list[int] = field(default_factory=list)
    rate_ppb: dict[str, list[int]] = field(default_factory=lambda: {LONG: [], STRADDLE: []})


class MarginCourse:
    """A listener of the sequencer that samples `Course` from the engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.course = Course()
        self._books: dict[str, dict[int, int]] | None = None

    def take(self, command: Command, events: list[Event]) -> None:
        """Sample after a revaluation."""
        if isinstance(command, Revalue) and self.engine.state.marks.is_open:
            self._sample()

    def _sample(self) -> None:
        state, risk, course = self.engine.state, self.engine.risk, self.course
        if self._books is None:
            self._books = {LONG: _long(state), STRADDLE: _straddle(state)}
        course.index_e8.append(state.marks.index_e8.tolist())
        course.initial_minor.append(int(risk.initial[HOUSE_POOLS:].sum()))
        course.interest_minor.append(open_interest_minor(state))
        course.fund_minor.append(risk.equity_of(int(House.INSURANCE), haircut=False))
        course.called.append(len(state.accounts.calls))
        for name, book in self._books.items():
            course.rate_ppb[name].append(self._rate_ppb(book))

    def _rate_ppb(self, book: dict[int, int]) -> int:
        """Initial margin of a fixed book over the value of its coins at the index; 0 where it
        holds nothing.

        A contract in its settlement window does not count: its margin ends with its price's.
        """
        state = self.engine.state
        slots = sorted((slot for slot in book if _moves(state, slot)),
                       key=lambda slot: int(state.contracts.rank[slot]))  # fmt: skip
        if not slots:
            return 0
        held = Positions(
            np.array([0, len(slots)], np.int64), np.array(slots, np.int64),
            np.array([book[slot] for slot in slots], np.int64),
            np.zeros((1, len(state.venue.underlyings)), np.int64),
        )  # fmt: skip
        needed = self.engine.risk.models[0].charged(held, _ALONE).requirements
        coins = {}
        for slot in slots:
            spec = state.contracts.specs[slot]
            coins[spec.underlying] = abs(book[slot]) * _notional(state, slot)
        return int(needed.initial_minor[0]) * RATE_SCALE // max(1, sum(coins.values()))


def _moves(state: State, slot: int) -> bool:
    """Whether a contract is listed, and no observation has fixed a part of its settlement price."""
    if slot not in state.contracts.listed():
        return False
    expiry_ns = state.contracts.specs[slot].expiry_ns
    return (
        expiry_ns == NEVER_NS
        or state.marks.time_ns < expiry_ns - state.venue.index.settlement_window_ns
    )


def _notional(state: State, slot: int) -> int:
    spec = state.contracts.specs[slot]
    return lot_notional_minor(spec, int(state.marks.index_e8[spec.underlying]))


def open_interest_minor(state: State) -> int:
    """Value at the index of all long positions of all contracts; options count their coins."""
    lots = np.zeros(len(state.contracts), np.int64)
    np.add.at(lots, state.positions.instrument, np.maximum(0, state.positions.lots))
    return sum(int(lots[slot]) * _notional(state, slot) for slot in np.flatnonzero(lots).tolist())


def _lots_of_coin(state: State, slot: int) -> int:
    return max(1, E8 // state.contracts.specs[slot].lot_e8)


def _long(state: State) -> dict[int, int]:
    """One coin of every underlying, in its linear perpetual."""
    return {
        slot: _lots_of_coin(state, slot)
        for slot in state.contracts.listed()
        if state.contracts.specs[slot].kind == LINEAR
        and state.contracts.specs[slot].expiry_ns == NEVER_NS
    }


def _straddle(state: State) -> dict[int, int]:
    """One coin of every underlying with linear options, call and put short at the money."""
    book: dict[int, int] = {}
    specs = [(slot, state.contracts.specs[slot]) for slot in state.contracts.listed()]
    options = [(slot, spec) for slot, spec in specs if spec.kind in (LINEAR_CALL, LINEAR_PUT)]
    for unit, index_e8 in enumerate(state.marks.index_e8.tolist()):
        mine = [(slot, spec) for slot, spec in options if spec.underlying == unit]
        if not mine:
            continue
        last = max(spec.expiry_ns for _, spec in mine)
        strikes = {spec.strike_e8 for _, spec in mine if spec.expiry_ns == last}
        nearest = min(strikes, key=lambda strike: (abs(strike - index_e8), strike))
        book.update(
            {slot: -_lots_of_coin(state, slot) for slot, spec in mine
             if (spec.expiry_ns, spec.strike_e8) == (last, nearest)}
        )  # fmt: skip
    return book


def peak_to_trough(rates: list[int]) -> float | None:
    """Largest over smallest rate; None where there is none (Murphy, Vasios and Vause, 2014)."""
    known = [rate for rate in rates if rate > 0]
    return max(known) / min(known) if known else None


def largest_rise(rates: list[int], cycles: int) -> float | None:
    """The largest relative rise of a rate over so many cycles: max of M(t + n) / M(t) - 1.

    None where there is no rate at all.
    """
    if not any(rate > 0 for rate in rates):
        return None
    pairs = zip(rates, rates[cycles:], strict=False)
    return max((then / now - 1 for now, then in pairs if now > 0 and then > 0), default=0.0)


def uncovered(course: Course, cycles: int) -> tuple[int, float]:
    """Of the long book: in how many cycles it lost more than its margin over the `cycles` that
    follow, and the most that it lost of its margin.

    It is worth the sum of the indices, since it holds one coin of each.
    """
    worth = [sum(row) for row in course.index_e8]
    breaches, most = 0, 0.0
    for now, then, rate in zip(worth, worth[cycles:], course.rate_ppb[LONG], strict=False):
        margin = now * rate / RATE_SCALE
        share = (now - then) / margin if margin > 0 else 0.0
        breaches, most = breaches + (share > 1), max(most, share)
    return breaches, most


def figures(course: Course, horizon_cycles: int, rise_cycles: tuple[int, int]) -> dict[str, Any]:
    """What a course comes to: efficiency, procyclicality and coverage.

    The rates of a book that never held anything are None: the venue lists no such contract.
    """
    efficiency = [
        interest / initial
        for interest, initial in zip(course.interest_minor, course.initial_minor, strict=True)
        if initial > 0
    ]
    breaches, most = uncovered(course, horizon_cycles)
    found: dict[str, Any] = {
        "interest_over_margin": sum(efficiency) / max(1, len(efficiency)),
        "interest_minor": sum(course.interest_minor) // max(1, len(course.interest_minor)),
        "initial_peak_minor": max(course.initial_minor, default=0),
        "called_most": max(course.called, default=0),
        "uncovered_cycles": breaches,
        "loss_over_margin": most,
    }
    for book, rates in course.rate_ppb.items():
        known = [rate for rate in rates if rate > 0]
        found[f"{book}_rate"] = sum(known) / RATE_SCALE / len(known) if known else None
        found[f"{book}_peak_to_trough"] = peak_to_trough(rates)
        for cycles in rise_cycles:
            found[f"{book}_rise_{cycles}"] = largest_rise(rates, cycles)
    return found
