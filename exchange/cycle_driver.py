"""Runs the venue's cycles: when to seal, what marks to propose, what to list."""

from __future__ import annotations

from exchange.core.commands import Genesis, Uncross
from exchange.core.engine import VERSION, Engine
from exchange.core.events import Event, Printed
from exchange.core.stored.state import Phase
from exchange.core.venue import Venue
from exchange.listing import due_listing
from exchange.marker import Marker
from exchange.sequencer import Sequencer


class CycleDriver:
    """Opens the venue and takes it from batch to batch."""

    def __init__(self, sequencer: Sequencer, marker: Marker) -> None:
        self.sequencer, self.marker = sequencer, marker
        self._prints: list[Event] = []

    @property
    def engine(self) -> Engine:
        """The engine that the sequencer feeds."""
        return self.sequencer.engine

    def open(self, venue: Venue, seed: int) -> list[Event]:
        """Write the first record and run cycle 0, whose marks open the market."""
        now = self.sequencer.clock.now_ns()
        events = self.sequencer.commit([Genesis(now, venue, seed, VERSION)])[0]
        return events + self.close_batch()

    def resume(self) -> list[Event]:
        """Complete the cycle that a stop left open, if any."""
        state = self.engine.state
        if state.phase == Phase.COLLECTING:
            return []
        if state.phase == Phase.SEALED:
            now = self.sequencer.now_ns()
            self._prints = self.sequencer.commit([Uncross(now, state.batch)])[0]
        return self._revalue()

    def close_batch(self) -> list[Event]:
        """Seal, uncross, revalue; then list what is due. Returns everything that happened."""
        self.sequencer.flush()
        events = self.sequencer.seal_and_uncross()
        self._prints = [event for event in events if isinstance(event, Printed)]
        events += self._revalue()
        listing = due_listing(self.engine.state, self.sequencer.now_ns())
        if listing is not None:
            events += self.sequencer.commit([listing])[0]
        return events

    def _revalue(self) -> list[Event]:
        now = self.sequencer.now_ns()
        marks = self.marker.revalue(self.engine.state, self._prints, now)
        self._prints = []
        return self.sequencer.revalue(marks)
