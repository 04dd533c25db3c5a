"""From opening to closing: batches are closed, due contracts listed, an open cycle is completed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from exchange.clock import SimulatedClock
from exchange.core.commands import Command, OpenAccount, decode_command
from exchange.core.engine import Engine
from exchange.core.events import (
    AccountOpened,
    BatchSealed,
    CycleClosed,
    Event,
    InstrumentsListed,
    VenueOpened,
)
from exchange.core.stored.state import Phase
from exchange.core.venue import Venue
from exchange.cycle_driver import CycleDriver
from exchange.feed import PathFeed
from exchange.marker import Marker
from exchange.sequencer import Entry, Sequencer
from exchange.storage.recovery import STATE_HASH_KIND
from exchange.venues import load_venue
from tests.core.market import E8, HOUR, SECOND, every, only, tiny


class MemoryLog:
    """What would be on disk."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def append(self, entries: list[Entry]) -> int:
        self.entries += entries
        return len(self.entries)


def driver(venue: Venue, engine: Engine | None = None) -> CycleDriver:
    """A driver at the opening, whose index moves every second."""
    opened = venue.opening_time_ns
    paths = [
        [(opened + k * SECOND, u.opening_index_e8 + (k % 7) * E8) for k in range(-1, 100)]
        for u in venue.underlyings
    ]
    sequencer = Sequencer(engine or Engine(), MemoryLog(), SimulatedClock(opened))
    return CycleDriver(sequencer, Marker(PathFeed(paths)))


def advance(run: CycleDriver, time_ns: int) -> list[Event]:
    run.sequencer.clock = SimulatedClock(run.sequencer.now_ns() + time_ns)
    return run.close_batch()


def test_opening_writes_genesis_and_runs_cycle_zero() -> None:
    run = driver(tiny())
    events = run.open(tiny(), 7)
    assert only(events, VenueOpened).instruments == 1
    assert only(events, CycleClosed).cycle == 0
    assert run.engine.state.marks.is_open
    assert run.engine.state.batch == 1


def test_closing_a_batch_seals_what_waited() -> None:
    async def story() -> None:
        run = driver(tiny())
        run.open(tiny(), 7)
        future = run.sequencer.submit(OpenAccount, "ann")
        events = advance(run, SECOND)
        assert isinstance((await future)[0], AccountOpened)
        assert only(events, BatchSealed).batch == 1
        assert only(events, CycleClosed).cycle == 1

    asyncio.run(story())


def test_contracts_that_are_due_are_listed_after_the_cycle() -> None:
    venue = load_venue("demo")
    run = driver(venue)
    run.open(venue, 7)
    before = len(run.engine.state.contracts)
    listed = every(advance(run, 13 * HOUR), InstrumentsListed)
    names = [run.engine.state.contracts.specs[s].name for e in listed for s in e.slots]
    assert len(run.engine.state.contracts) == before + len(names)
    assert "BTC_USDC-12OCT25-116000-C" in names
    assert not every(advance(run, SECOND), InstrumentsListed)


def stopped_in(phase: Phase) -> tuple[CycleDriver, list[Entry]]:
    """A driver that was stopped in a phase of cycle 3, and what it had made durable."""
    run = driver(tiny())
    run.open(tiny(), 7)
    for _ in range(2):
        advance(run, SECOND)
    log = run.sequencer.log
    assert isinstance(log, MemoryLog)
    if phase != Phase.COLLECTING:
        run.sequencer.clock = SimulatedClock(run.sequencer.now_ns() + SECOND)
        run.sequencer.seal_and_uncross()
        if phase == Phase.SEALED:
            log.entries.pop()
    return run, log.entries


def replayed(entries: list[Entry], seen: Callable[[Command], None] = lambda c: None) -> Engine:
    engine = Engine()
    for _, kind, payload in entries:
        if kind != STATE_HASH_KIND:
            command = decode_command(kind, payload)
            seen(command)
            engine.apply(command)
    return engine


@pytest.mark.parametrize("phase", list(Phase), ids=lambda phase: phase.name)
def test_a_stop_in_any_phase_is_completed_and_goes_on(phase: Phase) -> None:
    _, entries = stopped_in(phase)
    engine = replayed(entries)
    assert engine.state.phase == phase
    before = engine.state.cycle
    run = driver(tiny(), engine)
    events = run.resume()
    assert engine.state.phase == Phase.COLLECTING
    if phase == Phase.COLLECTING:
        assert events == []
        assert engine.state.cycle == before
    else:
        assert only(events, CycleClosed).cycle == before + 1
    log = run.sequencer.log
    assert isinstance(log, MemoryLog)
    advance(run, SECOND)
    twin = replayed(entries + log.entries)
    assert twin.state_hash() == engine.state_hash()


def test_a_completed_cycle_is_the_one_that_would_have_been() -> None:
    """Time stands still here, so the marks are those of the stopped venue."""
    run, entries = stopped_in(Phase.UNCROSSED)
    engine = replayed(entries)
    other = driver(tiny(), engine)
    other.resume()
    run.resume()
    assert engine.state_hash() == run.engine.state_hash()


def test_the_hash_of_every_cycle_is_noted_once() -> None:
    run = driver(tiny())
    run.open(tiny(), 7)
    for _ in range(3):
        advance(run, SECOND)
    run.sequencer.write_note()
    log = run.sequencer.log
    assert isinstance(log, MemoryLog)
    notes = [payload for _, kind, payload in log.entries if kind == STATE_HASH_KIND]
    assert [int.from_bytes(note[:8], "big") for note in notes] == [0, 1, 2, 3]
    assert notes[-1][8:] == run.engine.state.last_hash
