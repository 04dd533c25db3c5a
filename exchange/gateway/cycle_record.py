"""Read model of what revaluations bring: funding of perpetuals, deliveries, takeovers in default.

Memory is bounded: per perpetual thirty days of funding in pieces of ten minutes, and the newest
`SETTLEMENTS_KEPT` settlements of all instruments. After a restart both begin empty.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from exchange.core.events import Event, FundingApplied, InstrumentSettled, LiquidationStep
from exchange.core.stored.state import State
from exchange.gateway.units import E8, NS_PER_MS, amount_number, milliseconds
from margin.fixed_point import RATE_SCALE

PIECE_MS = 600_000
PIECES_KEPT = 6 * 24 * 30
SETTLEMENTS_KEPT = 1000
HOUR_MS = 3_600_000
HOURS_OF_INTEREST = 8


class FundingPiece(msgspec.Struct, gc=False):
    """Funding of ten minutes: what one unit of notional paid, and the index at both ends."""

    start_ms: int
    time_ms: int
    interest: float
    index_e8: int
    index_before_e8: int


class Settlement(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A delivery or a takeover in default; Deribit's misspelt word stands beside the right one."""

    type: str
    timestamp: int
    instrument_name: str
    mark_price: float
    index_price: float
    position: float | msgspec.UnsetType = msgspec.UNSET
    funded: float = 0.0
    session_bankruptcy: float = 0.0
    session_bankrupcy: float = 0.0
    session_tax: float = 0.0
    session_tax_rate: float = 0.0
    session_profit_loss: float = 0.0
    socialized: float = 0.0


class CycleRecord:
    """Funding and settlements of all instruments."""

    def __init__(self) -> None:
        self.time_ns = 0
        self.funding: dict[int, deque[FundingPiece]] = {}
        self.settlements: deque[Settlement] = deque(maxlen=SETTLEMENTS_KEPT)

    def take(self, state: State, events: Iterable[Event], time_ns: int) -> None:
        """Take a revaluation; the time since the one before is what its rates hold for."""
        elapsed_ns = time_ns - self.time_ns if self.time_ns else 0
        self.time_ns = time_ns
        for event in events:
            if isinstance(event, FundingApplied):
                self._fund(state, event, elapsed_ns)
            elif isinstance(event, InstrumentSettled):
                self.settlements.append(_delivery(state, event, time_ns))
            elif isinstance(event, LiquidationStep) and event.step == "taken over":
                self.settlements.append(_takeover(state, event, time_ns))

    def _fund(self, state: State, event: FundingApplied, elapsed_ns: int) -> None:
        pieces = self.funding.get(event.instrument)
        if pieces is None:
            pieces = self.funding[event.instrument] = deque(maxlen=PIECES_KEPT)
        time_ms = milliseconds(self.time_ns)
        start = time_ms // PIECE_MS * PIECE_MS
        index = int(state.marks.index_e8[state.contracts.specs[event.instrument].underlying])
        if not pieces or pieces[-1].start_ms != start:
            before = pieces[-1].index_e8 if pieces else index
            pieces.append(FundingPiece(start, time_ms, 0.0, index, before))
        piece = pieces[-1]
        piece.interest += (
            event.rate_8h_e9 * elapsed_ns / (RATE_SCALE * state.venue.funding.period_ns)
        )
        piece.time_ms, piece.index_e8 = time_ms, index

    def funding_value(self, slot: int, start_ms: int, end_ms: int) -> float:
        """What one unit of notional of a long position paid in the pieces that began in between."""
        pieces = self.funding.get(slot, ())
        first = start_ms // PIECE_MS * PIECE_MS
        return sum(p.interest for p in pieces if first <= p.start_ms <= end_ms)

    def funding_rows(self, slot: int, start_ms: int, end_ms: int) -> list[dict[str, object]]:
        """A row an hour, oldest first, at the last revaluation in it.

        `interest_1h` was paid in the hour, `interest_8h` in the eight hours that it ends.
        """
        hours: dict[int, list[FundingPiece]] = {}
        for piece in self.funding.get(slot, ()):
            hours.setdefault(piece.start_ms // HOUR_MS, []).append(piece)
        paid = {hour: sum(p.interest for p in pieces) for hour, pieces in hours.items()}
        return [
            {
                "timestamp": pieces[-1].time_ms,
                "index_price": pieces[-1].index_e8 / E8,
                "prev_index_price": pieces[0].index_before_e8 / E8,
                "interest_1h": paid[hour],
                "interest_8h": sum(
                    paid.get(back, 0.0) for back in range(hour - HOURS_OF_INTEREST + 1, hour + 1)
                ),
            }
            for hour, pieces in hours.items()
            if start_ms <= pieces[-1].time_ms <= end_ms
        ]


def _delivery(state: State, event: InstrumentSettled, time_ns: int) -> Settlement:
    spec = state.contracts.specs[event.instrument]
    return Settlement(
        type="delivery",
        timestamp=time_ns // NS_PER_MS,
        instrument_name=spec.name,
        mark_price=int(state.marks.mark_e8[event.instrument]) / E8,
        index_price=event.settlement_e8 / E8,
    )


def _takeover(state: State, event: LiquidationStep, time_ns: int) -> Settlement:
    """The insurance fund took a position; what it paid, if it paid, counts in coin."""
    spec = state.contracts.specs[event.instrument]
    index = int(state.marks.index_e8[spec.underlying]) / E8
    paid = max(0, event.amount_minor) / 10**6 / index
    return Settlement(
        type="bankruptcy",
        timestamp=time_ns // NS_PER_MS,
        instrument_name=spec.name,
        position=amount_number(spec, event.quantity_lots),
        mark_price=int(state.marks.mark_e8[event.instrument]) / E8,
        index_price=index,
        funded=paid,
        session_bankruptcy=paid,
        session_bankrupcy=paid,
    )
