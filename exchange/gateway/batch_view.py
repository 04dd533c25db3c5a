"""The running batch on the wire, and the barrier at which a market may wait for its clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np

from exchange.core.auction.clearing import CLAMPED, INTERRUPTED, PRINTED
from exchange.core.stored.orders import FLAGS, INSTRUMENT_SHIFT, LIQUIDATION, OPEN_LOTS, ORDER_ID
from exchange.core.stored.state import Phase, State
from exchange.gateway.market_data import MarketData, Print
from exchange.gateway.session import Session
from exchange.gateway.units import NS_PER_MS, amount_number, milliseconds, price_number

ALL = -1
"""In place of a slot: every instrument."""

PHASES = {Phase.COLLECTING: "collecting", Phase.SEALED: "sealed", Phase.UNCROSSED: "printed"}
PRINT_STATES = {PRINTED: "printed", CLAMPED: "clamped", INTERRUPTED: "interrupted"}


def print_row(state: State, slot: int, outcome: Print) -> dict[str, object]:
    """How an instrument's auction ended; surplus is demand minus supply at the price.

    Price and surplus are null unless it printed: an interrupted auction discloses nothing.
    """
    spec = state.contracts.specs[slot]
    printed = outcome.state in (PRINTED, CLAMPED)
    return {
        "instrument_name": spec.name,
        "batch": outcome.batch,
        "state": PRINT_STATES.get(outcome.state, "no_cross"),
        "price": price_number(spec, outcome.price_ticks) if printed else None,
        "volume": amount_number(spec, outcome.volume_lots),
        "surplus": amount_number(spec, outcome.surplus_lots) if printed else None,
    }


class BatchView:
    """Number, phase, time to the print and orders of the running batch."""

    def __init__(self, market: MarketData, now_ns: Callable[[], int]) -> None:
        self.market, self.now_ns = market, now_ns
        self.orders: dict[int, int] = {}
        self.next_seal_ns: Callable[[State], int] = self.next_on_grid

    def next_on_grid(self, state: State) -> int:
        """The next seal, if batches end at whole intervals after the venue's opening."""
        interval, opening = state.venue.interval_ns, state.venue.opening_time_ns
        return opening + ((self.now_ns() - opening) // interval + 1) * interval

    def recount(self, state: State) -> None:
        """Count the open orders of every instrument, liquidation orders left out."""
        resting, incoming = state.orders.resting, state.orders.incoming_rows().T
        self.orders = {}
        for rows in (resting, incoming):
            shown = (rows[OPEN_LOTS] > 0) & ((rows[FLAGS] & LIQUIDATION) == 0)
            slots, counts = np.unique(rows[ORDER_ID, shown] >> INSTRUMENT_SHIFT, return_counts=True)
            for slot, count in zip(slots.tolist(), counts.tolist(), strict=True):
                self.count(slot, count)

    def count(self, slot: int, change: int) -> None:
        """So many orders came or left."""
        self.orders[slot] = self.orders.get(slot, 0) + change

    def describe(self, state: State, slot: int = ALL) -> dict[str, object]:
        """The running batch, of one instrument or (`ALL`) of the market.

        While orders are collected their number is all that is told of them.
        """
        collecting = state.phase == Phase.COLLECTING
        left_ns = self.next_seal_ns(state) - self.now_ns() if collecting else 0
        row: dict[str, object] = {
            "batch": state.batch,
            "phase": PHASES[state.phase],
            "timestamp": milliseconds(state.marks.time_ns),
            "time_to_print": max(0, left_ns) // NS_PER_MS,
            "interval": state.venue.interval_ns // NS_PER_MS,
        }
        if slot == ALL:
            row["orders"] = sum(self.orders.values())
            row["prints"] = [
                print_row(state, traded, outcome)
                for traded, outcome in self.market.new_prints.items()
            ]
            return row
        spec, last = state.contracts.specs[slot], self.market.prints.get(slot)
        row["instrument_name"] = spec.name
        row["orders"] = self.orders.get(slot, 0)
        row["last_print"] = print_row(state, slot, last) if last else None
        row["volume"] = amount_number(spec, last.volume_lots) if last else 0.0
        shown = last is not None and last.state in (PRINTED, CLAMPED)
        row["surplus"] = amount_number(spec, last.surplus_lots) if last and shown else None
        return row


class Readiness:
    """Which registered sessions have spoken for the running batch, in order of registration.

    `changed` is set whenever somebody came, spoke or left: whoever waits clears it and looks.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.registered: dict[Session, None] = {}
        self.missing: dict[Session, None] = {}

    @property
    def complete(self) -> bool:
        """Whether every registered session has spoken."""
        return not self.missing

    def register(self, session: Session) -> None:
        """Let the market wait for this session, from the running batch on."""
        if session not in self.registered:
            self.registered[session] = self.missing[session] = None
            self.changed.set()

    def ready(self, session: Session) -> None:
        """This session has said all it wants to say in the running batch."""
        self.missing.pop(session, None)
        self.changed.set()

    def leave(self, session: Session) -> None:
        """Wait for this session no more."""
        self.registered.pop(session, None)
        self.missing.pop(session, None)
        self.changed.set()

    def next_batch(self) -> None:
        """Everybody is waited for again."""
        self.missing = dict(self.registered)
