"""A small crowd on the real market, over its in-memory transport, on simulated time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from clients.crowd import Crowd, CrowdReport, Mix, build_crowd, run
from clients.memory import connector
from exchange.clock import SimulatedClock
from exchange.core.commands import OpenAccount
from exchange.core.engine import Engine
from exchange.core.stored.positions import LOTS
from exchange.core.venue import Venue
from exchange.cycle_driver import CycleDriver
from exchange.feed import PathFeed
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.memory import MemoryConnection, MemoryHub
from exchange.marker import Marker
from exchange.sequencer import Sequencer
from exchange.venues import load_venue

SMALL = Mix(market_makers=4, noise_traders=3, trend_followers=2, arbitrageurs=1)
E8 = 10**8


class Market:
    """The demo venue without a journal, on a path of its indices."""

    def __init__(self, move: Callable[[int], float], batches: int) -> None:
        self.venue: Venue = load_venue("demo")
        self.clock = SimulatedClock(self.venue.opening_time_ns)
        self.sequencer = Sequencer(Engine(), None, self.clock)
        self.driver = CycleDriver(self.sequencer, Marker(PathFeed(self._paths(move, batches))))
        dispatcher = Dispatcher(self.sequencer)
        self.driver.open(self.venue, 1)
        self.hub = MemoryHub(dispatcher)

    def _paths(self, move: Callable[[int], float], batches: int) -> list[list[tuple[int, int]]]:
        opening, interval = self.venue.opening_time_ns, self.venue.interval_ns
        return [
            [
                (opening + k * interval, int(row.opening_index_e8 * move(k)))
                for k in range(batches + 2)
            ]
            for row in self.venue.underlyings
        ]

    def join(self, name: str) -> MemoryConnection:
        """Open an account of this name and connect to it."""
        self.sequencer.submit(OpenAccount, name)
        self.sequencer.flush()
        return self.hub.connect(name)

    async def play(self, crowd: Crowd, batches: int) -> CrowdReport:
        """Let the crowd trade for some batches, then close the market once all saw the last."""
        running = asyncio.create_task(run(crowd, connector(self.join)))
        for batch in range(batches):
            ready = await self.hub.all_ready(100_000, sessions=len(crowd.bots))
            if running.done():
                break
            assert ready, "the crowd says that it is ready"
            if batch == batches - 1:
                break
            await self.clock.sleep_until(self.clock.now_ns() + self.venue.interval_ns)
            self.driver.close_batch()
        for connection in list(self.hub.connections):
            connection.close()
        return await running

    @property
    def last_hash(self) -> bytes:
        """Proof of the whole state."""
        return self.sequencer.engine.state.last_hash


def calm(batch: int) -> float:
    return 1 + batch % 3 / 2000


async def test_a_small_crowd_trades_on_the_real_market() -> None:
    market, crowd = Market(calm, 6), build_crowd(SMALL, 4)
    report = await market.play(crowd, 6)
    assert set(report.turns.values()) == {6}
    assert report.interrupted == []
    assert sum(report.trades.values()) > 5
    traded = {bot.kind for bot in crowd.bots if report.trades[bot.name]}
    assert traded >= {"market_maker", "trend_follower"}
    engine = market.sequencer.engine
    for bot in crowd.bots:
        account = engine.state.accounts.number_of[bot.name]
        rows = engine.state.positions.rows_of(engine.state.accounts.pool_of[account])
        slots = engine.state.positions.instrument[rows].tolist()
        lots = engine.state.positions.table[LOTS, rows].tolist()
        held = {
            engine.state.contracts.specs[slot].name: count
            for slot, count in zip(slots, lots, strict=True)
            if count
        }
        assert set(held) == set(bot.venue.state.positions)
        for name, count in held.items():
            lot = bot.venue.instruments[name].min_trade_amount
            assert bot.venue.state.positions[name] == count * lot


async def test_the_same_crowd_makes_the_same_market() -> None:
    first, second, other = (Market(calm, 4) for _ in range(3))
    await first.play(build_crowd(SMALL, 4), 4)
    await second.play(build_crowd(SMALL, 4), 4)
    await other.play(build_crowd(SMALL, 5), 4)
    assert first.last_hash == second.last_hash
    assert first.last_hash != other.last_hash
