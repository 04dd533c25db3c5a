"""The demo's composition: a story's venue, journal, engine, gateway and crowd on simulated time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from clients.crowd import Mix, build_crowd
from exchange.cli.demo_crowd import Attendance, InProcess, OverSockets, over_sockets_keys
from exchange.cli.outside_feeds import OutsideFeeds, require_outside_venues
from exchange.cli.tally import Tally
from exchange.clock import SimulatedClock
from exchange.core.engine import Engine
from exchange.core.venue import Venue, VenueError
from exchange.coverage import require_coverage
from exchange.cycle_driver import CycleDriver
from exchange.feed import PathFeed
from exchange.gateway.dispatch import Dispatcher
from exchange.marker import Marker
from exchange.sequencer import Sequencer
from exchange.storage.recovery import close_new_store, create_store
from exchange.storage.snapshot import Snapshot, snapshots_path, write_snapshot
from exchange.venues import load_venue, resolved
from margin.fixed_point import USDC_SCALE
from replays.story import Story, index_paths

SNAPSHOT_CYCLES = 100

AfterCycle = Callable[[], Awaitable[None]]


def story_venue(
    story: Story, name_or_path: str | None = None, preset: str | None = None
) -> Venue:  # fmt: skip
    """The venue of a story: its opening, interval, opening prices and the house's money.

    `preset` names a margin model in place of the venue's own.
    Raises `VenueError` where the story has no path for one of the venue's underlyings, or the
    coverage over the horizon is too thin.
    """
    changes: dict[str, int | str] = {"interval_s": story.interval_s}
    if preset is not None:
        changes["preset"] = preset
    base = load_venue(name_or_path or story.venue, **changes)
    prices = {path.name: path.knots[0][1] for path in story.paths}
    names = [spec.name for spec in base.underlyings]
    if names != list(prices):
        raise VenueError(
            f"venue {base.name} needs the indices {', '.join(names)} in this order; "
            f"story {story.name} has {', '.join(prices)}"
        )
    venue = msgspec.structs.replace(
        base,
        opening_time_ns=story.opening_ns,
        underlyings=tuple(
            msgspec.structs.replace(spec, opening_index_e8=prices[spec.name])
            for spec in base.underlyings
        ),
        default=msgspec.structs.replace(
            base.default,
            fund_minor=story.insurance_minor,
            venue_capital_minor=story.venue_capital_minor,
        ),
    )
    venue = resolved(venue)
    require_coverage(venue)
    return venue


def story_mix(story: Story) -> Mix:
    """How many bots of each kind a story has, and what they bring."""
    mix: dict[str, Any] = dict(story.crowd)
    for key, minor in story.money_minor.items():
        mix[key] = Decimal(minor) / USDC_SCALE
    return Mix(**mix)


class DemoMarket:
    """One run of a story, journaled; `play` drives it, `close` must follow."""

    def __init__(
        self, story: Story, venue: Venue, seed: int, journal: Path, feed: PathFeed | None = None,
        *, in_process: bool = True,
    ) -> None:  # fmt: skip
        """Create the journal and open the market (cycle 0).

        `feed` stands for the story's path. `in_process`: the bots run on this loop, and the seed
        decides everything; else they are WebSocket clients in a second process.
        """
        require_outside_venues(story, venue)
        self.story, self.venue = story, venue
        mix = story_mix(story)
        self.crowd = build_crowd(mix, seed, tuple(path.name for path in story.paths))
        self.worst_cycle, self._worst = 1, 0
        self.journal, self.watermark = create_store(journal)
        try:
            self.engine = Engine()
            self.clock = SimulatedClock(venue.opening_time_ns)
            self.sequencer = Sequencer(self.engine, self.journal, self.clock)
            self.tally = Tally(self.engine)
            keys, authenticator = over_sockets_keys()
            dispatcher = Dispatcher(self.sequencer, authenticator=authenticator)
            self.attendance: Attendance = (
                InProcess(self.crowd, dispatcher)
                if in_process
                else OverSockets(self.crowd, mix, seed, dispatcher, keys)
            )
            self.sequencer.listeners.append(self.tally.take)
            marker = Marker(feed or PathFeed(index_paths(story, seed)))
            self.driver = CycleDriver(self.sequencer, marker)
            self.driver.open(venue, seed)
            self.feeds = OutsideFeeds(story, dispatcher)
        except BaseException:
            self.close()
            raise

    async def play(self, cycles: int, after_cycle: AfterCycle | None = None) -> None:
        """Let the crowd trade for `cycles` batches; `after_cycle` runs after each.

        A batch closes when every bot has spoken, or when that takes too long. Raises what stops a
        bot or the venue; the journal then still holds all that was acknowledged.
        """
        try:
            await self.attendance.arrive()
            for _ in range(cycles):
                if not await self.attendance.all_spoken():
                    break  # a bot failed; `leave` says how
                await self.clock.sleep_until(self.clock.now_ns() + self.venue.interval_ns)
                self.driver.close_batch()
                await self.feeds.speak()
                self._note_worst()
                self._secure()
                if after_cycle is not None:
                    await after_cycle()
        finally:
            await self.attendance.leave()

    def _note_worst(self) -> None:
        """Remember the cycle in which most went wrong."""
        counts = self.tally.last_cycle
        trouble = counts.margin_calls + counts.liquidations + counts.fund_takeovers
        trouble += counts.adl_events
        if trouble > self._worst:
            self.worst_cycle, self._worst = self.engine.cycle, trouble

    def _secure(self) -> None:
        """Per cycle the watermark and the log's folding, now and then a snapshot."""
        self.watermark.write(*self.journal.head)
        self.journal.checkpoint()
        if self.engine.cycle % SNAPSHOT_CYCLES == 0:
            head, engine = self.journal.head, self.engine
            snapshot = Snapshot(
                head.sequence, head.chain, engine.state_hash(), engine.snapshot()
            )  # fmt: skip
            write_snapshot(snapshots_path(self.journal.path), snapshot)

    def close(self) -> None:
        """Journal the last cycle's hash and close the files; none stay if no market opened."""
        sequencer: Sequencer | None = getattr(self, "sequencer", None)
        try:
            if sequencer is not None and sequencer.stopped is None:
                sequencer.write_note()
                self.watermark.write(*self.journal.head)
        finally:
            close_new_store(self.journal, self.watermark)
