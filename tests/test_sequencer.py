"""The single writer: durable first, applied second, answered third; an error stops it for good."""

from __future__ import annotations

import asyncio

import pytest

from exchange.clock import SimulatedClock
from exchange.core.commands import (
    Command,
    Genesis,
    OpenAccount,
    PlaceOrder,
    Revalue,
    Seal,
    Uncross,
    decode_command,
)
from exchange.core.engine import VERSION, Engine
from exchange.core.events import AccountOpened, Event, OrderAccepted, Rejected
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.state import Phase
from exchange.feed import PathFeed
from exchange.marker import Marker
from exchange.sequencer import (
    BATCH_COMMANDS_MAX,
    Entry,
    Sequencer,
    SequencerStopped,
)
from exchange.storage.recovery import STATE_HASH_KIND
from margin.invariant import InvariantBroken
from tests.core.market import E8, SECOND, tiny


class RecordingLog:
    """Keeps entries in memory, says when, and fails when told to."""

    def __init__(self, diary: list[str] | None = None) -> None:
        self.batches: list[list[Entry]] = []
        self.diary = [] if diary is None else diary
        self.error: Exception | None = None

    def append(self, entries: list[Entry]) -> int:
        if self.error is not None:
            raise self.error
        self.batches.append(list(entries))
        self.diary.append("durable")
        return sum(map(len, self.batches))

    @property
    def entries(self) -> list[Entry]:
        return [entry for batch in self.batches for entry in batch]


class OpenVenue:
    """The `tiny` venue behind a sequencer, open; `finish` completes a cycle."""

    def __init__(self) -> None:
        venue = tiny()
        self.log, self.clock = RecordingLog(), SimulatedClock(venue.opening_time_ns)
        self.engine = Engine()
        self.sequencer = Sequencer(self.engine, self.log, self.clock)
        feed = PathFeed([[(venue.opening_time_ns - 1, 100_000 * E8)]])
        self.marker = Marker(feed)
        self.sequencer.commit([Genesis(self.clock.now_ns(), venue, 7, VERSION)])
        self.finish()

    def marks(self) -> Revalue:
        return self.marker.revalue(self.engine.state, [], self.sequencer.now_ns())

    def finish(self) -> list[Event]:
        return self.sequencer.seal_and_uncross() + self.sequencer.revalue(self.marks())


@pytest.fixture
def venue() -> OpenVenue:
    return OpenVenue()


async def test_a_request_is_answered_with_its_events_after_the_flush(venue: OpenVenue) -> None:
    future = venue.sequencer.submit(OpenAccount, "ann")
    assert not future.done()
    assert venue.sequencer.flush() == 1
    assert isinstance((await future)[0], AccountOpened)


async def test_nothing_is_applied_or_answered_before_it_is_durable(venue: OpenVenue) -> None:
    diary = venue.log.diary = []

    def applied(command: Command, events: list[Event]) -> None:
        diary.append("applied")

    venue.sequencer.listeners.append(applied)
    future = venue.sequencer.submit(OpenAccount, "ann")
    future.add_done_callback(lambda _: diary.append("answered"))
    venue.sequencer.flush()
    await asyncio.sleep(0)
    assert diary == ["durable", "applied", "answered"]


async def test_what_waits_together_is_one_batch_in_its_order(venue: OpenVenue) -> None:
    batches = len(venue.log.batches)
    futures = [venue.sequencer.submit(OpenAccount, name) for name in ("ann", "bob", "ann")]
    assert venue.sequencer.flush() == 3
    assert len(venue.log.batches) == batches + 1
    events = [(await future)[0] for future in futures]
    assert [type(event) for event in events] == [AccountOpened, AccountOpened, Rejected]


async def test_a_batch_has_a_largest_size(venue: OpenVenue) -> None:
    batches = len(venue.log.batches)
    futures = [venue.sequencer.submit(OpenAccount, f"n{k}") for k in range(BATCH_COMMANDS_MAX + 1)]
    assert venue.sequencer.flush() == BATCH_COMMANDS_MAX + 1
    sizes = [sum(kind != STATE_HASH_KIND for _, kind, _ in b) for b in venue.log.batches[batches:]]
    assert sizes == [BATCH_COMMANDS_MAX, 1]
    assert all(future.done() for future in futures)


async def test_requests_during_an_open_cycle_wait_and_join_the_next_batch(
    venue: OpenVenue,
) -> None:
    venue.sequencer.submit(OpenAccount, "ann")
    venue.sequencer.flush()
    venue.sequencer.seal_and_uncross()
    assert venue.engine.state.phase == Phase.UNCROSSED
    batch = venue.engine.state.batch
    future = venue.sequencer.submit(PlaceOrder, 0, 0, 1, 190_000, 1, False, True)
    assert venue.sequencer.flush() == 0
    assert not future.done()
    venue.sequencer.revalue(venue.marks())
    assert venue.sequencer.flush() == 1
    assert isinstance((await future)[0], OrderAccepted), "not refused for the open cycle"
    assert venue.engine.state.batch == batch + 1


async def test_the_running_sequencer_wakes_for_requests_that_came_in_an_open_cycle(
    venue: OpenVenue,
) -> None:
    task = asyncio.create_task(venue.sequencer.run())
    venue.sequencer.seal_and_uncross()
    future = venue.sequencer.submit(OpenAccount, "ann")
    await asyncio.sleep(0.01)
    assert not future.done()
    venue.sequencer.revalue(venue.marks())
    assert isinstance((await asyncio.wait_for(future, 5))[0], AccountOpened)
    task.cancel()


async def test_a_refusal_is_an_answer_not_an_error(venue: OpenVenue) -> None:
    future = venue.sequencer.submit(PlaceOrder, 5, 0, 1, 190_000, 1)
    venue.sequencer.flush()
    assert (await future)[0] == Rejected(RejectReason.ACCOUNT_UNKNOWN)


async def test_a_request_that_nobody_waits_for_any_more_is_done_all_the_same(
    venue: OpenVenue,
) -> None:
    venue.sequencer.submit(OpenAccount, "ann").cancel()
    venue.sequencer.flush()
    assert venue.engine.state.accounts.names == ["ann"]


async def test_a_failed_commit_stops_the_sequencer_and_changes_nothing(venue: OpenVenue) -> None:
    before = venue.engine.state_hash()
    venue.log.error = OSError("disk full")
    futures = [venue.sequencer.submit(OpenAccount, f"n{k}") for k in range(BATCH_COMMANDS_MAX + 5)]
    with pytest.raises(OSError, match="disk full"):
        venue.sequencer.flush()
    for future in futures:
        with pytest.raises(SequencerStopped, match="disk full"):
            await asyncio.wait_for(future, 1)
    assert venue.engine.state_hash() == before
    venue.log.error = None
    with pytest.raises(SequencerStopped):
        venue.sequencer.submit(OpenAccount, "bob")
    with pytest.raises(SequencerStopped):
        venue.finish()
    assert venue.engine.state_hash() == before


async def test_a_broken_invariant_stops_the_sequencer(venue: OpenVenue) -> None:
    future = venue.sequencer.submit(Genesis, tiny(), 7, VERSION)
    with pytest.raises(InvariantBroken, match="once"):
        venue.sequencer.flush()
    with pytest.raises(SequencerStopped):
        await asyncio.wait_for(future, 1)
    with pytest.raises(SequencerStopped):
        venue.sequencer.submit(OpenAccount, "ann")
    with pytest.raises(SequencerStopped):
        venue.sequencer.commit([OpenAccount(venue.sequencer.now_ns(), "ann")])


async def test_commands_are_stamped_by_the_clock_but_never_before_the_last(
    venue: OpenVenue,
) -> None:
    await venue.clock.sleep_until(venue.clock.now_ns() + 5 * SECOND)
    late = venue.sequencer.now_ns()
    venue.sequencer.submit(OpenAccount, "ann")
    venue.sequencer.flush()
    assert venue.log.entries[-1][0] == late
    venue.sequencer.clock = SimulatedClock(late - SECOND)
    venue.sequencer.submit(OpenAccount, "bob")
    venue.sequencer.flush()
    assert venue.log.entries[-1][0] == late


async def test_each_cycle_s_hash_is_noted_before_the_next_command(venue: OpenVenue) -> None:
    closed = venue.engine.state.last_hash
    venue.sequencer.submit(OpenAccount, "ann")
    venue.sequencer.flush()
    note, command = venue.log.entries[-2:]
    assert note[1:] == (STATE_HASH_KIND, (0).to_bytes(8, "big") + closed)
    assert command[1] == "OpenAccount"
    venue.sequencer.submit(OpenAccount, "bob")
    venue.sequencer.flush()
    assert venue.log.entries[-2][1] == "OpenAccount", "once"


def test_the_last_hash_can_be_noted_before_closing(venue: OpenVenue) -> None:
    venue.sequencer.write_note()
    venue.sequencer.write_note()
    assert [kind for _, kind, _ in venue.log.entries].count(STATE_HASH_KIND) == 1


def test_what_was_logged_replays_to_the_same_state(venue: OpenVenue) -> None:
    venue.sequencer.commit([OpenAccount(venue.sequencer.now_ns(), "ann")])
    venue.finish()
    twin = Engine()
    for _, kind, payload in venue.log.entries:
        if kind != STATE_HASH_KIND:
            twin.apply(decode_command(kind, payload))
    assert twin.state_hash() == venue.engine.state_hash()


def test_seal_and_uncross_are_one_durable_batch(venue: OpenVenue) -> None:
    venue.sequencer.seal_and_uncross()
    kinds = [kind for _, kind, _ in venue.log.batches[-1] if kind != STATE_HASH_KIND]
    assert kinds == [Seal.__name__, Uncross.__name__]


def test_a_throw_away_market_needs_no_log() -> None:
    sequencer = Sequencer(Engine(), None, SimulatedClock(5))
    sequencer.commit([Genesis(5, tiny(), 7, VERSION)])
    assert sequencer.engine.state.time_ns == 5
