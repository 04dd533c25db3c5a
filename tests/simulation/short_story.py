"""A market driven without a wire: sequencer, cycle driver, marker and seeded orders.

As a program it prints the number of cycles, of commands and the final state hash of a story:
arguments are seed and cycles.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

from exchange.clock import SimulatedClock
from exchange.core.engine import Engine
from exchange.core.stored.state import State
from exchange.cycle_driver import CycleDriver
from exchange.feed import PathFeed
from exchange.marker import Marker
from exchange.sequencer import DurableLog, Sequencer
from tests.core.market import SECOND
from tests.core.random_story import Story, story_venue

POINTS = 20_000
STEPS = (1, 1, 1, 1, 5, 60, 600)


def index_path(opening_e8: int, start_ns: int, seed: int) -> list[tuple[int, int]]:
    """A seeded walk in integers with a jump now and then; a point about every second."""
    chance = random.Random(seed)
    path, price_e8, time_ns = [], opening_e8, start_ns - SECOND
    for _ in range(POINTS):
        path.append((time_ns, price_e8))
        step = chance.randrange(-400, 401)
        if chance.random() < 0.01:
            step += chance.choice([-1, 1]) * chance.randrange(5_000, 20_000)
        pull = (opening_e8 - price_e8) // 50
        price_e8 = max(opening_e8 // 4, price_e8 + price_e8 * step // 100_000 + pull)
        time_ns += SECOND * chance.choice([1, 1, 1, 2, 12])
    return path


class DrivenMarket:
    """What a `Story` looks at, with orders through the sequencer and marks from the marker."""

    def __init__(self, log: DurableLog | None, engine: Engine, seed: int) -> None:
        self.venue = story_venue()
        opened = self.venue.opening_time_ns
        self.clock = SimulatedClock(opened)
        feed = PathFeed([
            index_path(u.opening_index_e8, opened, seed + number)
            for number, u in enumerate(self.venue.underlyings)
        ])  # fmt: skip
        self.sequencer = Sequencer(engine, log, self.clock)
        self.driver = CycleDriver(self.sequencer, Marker(feed))
        self.index_e8 = [u.opening_index_e8 for u in self.venue.underlyings]
        self.commands = 0

    @property
    def state(self) -> State:
        return self.sequencer.engine.state

    @property
    def now(self) -> int:
        return self.sequencer.now_ns()

    def wait(self, time_ns: int) -> None:
        self.clock = SimulatedClock(self.now + time_ns)
        self.sequencer.clock = self.clock

    def play(self, story: Story, cycles: int, acknowledge: Callable[[], None]) -> None:
        """So many batches of random commands, a few a commit, each acknowledged."""
        for _ in range(cycles):
            self.index_e8 = self.state.marks.index_e8.tolist()
            if story.needs_listing():
                self.sequencer.commit([story.listing()])
            for _ in range(story.chance.randrange(5, 15)):
                batch = [story.pick() for _ in range(story.chance.randrange(1, 8))]
                self.sequencer.commit(batch)
                self.commands += len(batch)
                acknowledge()
            self.wait(story.chance.choice(STEPS) * SECOND)
            self.driver.close_batch()
            acknowledge()
            story.remember()


def play_short_story(seed: int, cycles: int) -> tuple[Engine, int]:
    """A whole story in memory; the engine at its end and how many commands it took."""
    engine = Engine()
    market = DrivenMarket(None, engine, seed)
    market.driver.open(market.venue, seed)
    story = Story(market, seed)  # type: ignore[arg-type]
    market.play(story, cycles, lambda: None)
    return engine, market.commands


if __name__ == "__main__":
    played, count = play_short_story(int(sys.argv[1]), int(sys.argv[2]))
    print(played.state.cycle, count, played.state_hash().hex())
