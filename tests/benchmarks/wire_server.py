"""The served side of the wire benchmark, in a process of its own.

Arguments: `venue` or `echo`, journal path, accounts, seconds between cycles (0: never). Prints its
port; then answers each line that it reads: `memory` with its resident bytes, `cycles` with how many
cycles it has run and the longest of them in seconds.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import psutil
from aiohttp import WSMsgType, web

from exchange.clock import RealClock, SimulatedClock
from exchange.core.commands import Deposit, OpenAccount
from exchange.core.engine import Engine
from exchange.cycle_driver import CycleDriver
from exchange.feed import (
    Reading,
)
from exchange.gateway.authentication import Authenticator
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.keys import Key, KeyRing
from exchange.gateway.server import WEBSOCKET_PATH, GatewayServer
from exchange.marker import Marker
from exchange.sequencer import Sequencer
from exchange.storage.recovery import create_store
from exchange.venues import load_venue
from margin.fixed_point import RATE_SCALE

MONEY_MINOR = 10**13
REPLY = b'{"jsonrpc":"2.0","id":1,"result":{"order":{%b},"trades":[]}}' % (b"x" * 620)


def key_of(number: int) -> tuple[str, str, str]:
    """Name, key and secret of an account."""
    return f"account-{number}", f"key-{number}", f"secret {number}"


class SteadyFeed:
    """Indices that are always fresh and never move."""

    def __init__(self, prices_e8: list[int]) -> None:
        self.prices_e8 = prices_e8

    def read(self, after_ns: int, until_ns: int) -> list[Reading]:
        """The same prices, seen now."""
        return [Reading(price, 0, RATE_SCALE, ((until_ns, price),)) for price in self.prices_e8]


class ServedVenue:
    """The demo venue, journaled to disk, with funded accounts."""

    def __init__(self, path: Path, accounts: int) -> None:
        venue = load_venue("demo")
        self.interval_ns = venue.interval_ns
        self.clock = SimulatedClock(venue.opening_time_ns)
        self.journal, self.watermark = create_store(path)
        self.sequencer = Sequencer(Engine(), self.journal, self.clock)
        feed = SteadyFeed([row.opening_index_e8 for row in venue.underlyings])
        self.driver = CycleDriver(self.sequencer, Marker(feed))  # type: ignore[arg-type]
        keys = KeyRing()
        self.server = GatewayServer(
            Dispatcher(self.sequencer, authenticator=Authenticator(keys, RealClock()))
        )
        self.driver.open(venue, 1)
        now = self.sequencer.now_ns()
        for number in range(accounts):
            name, key, secret = key_of(number)
            keys.add(Key(key, secret, name))
            self.sequencer.commit([OpenAccount(now, name), Deposit(now, number, 0, MONEY_MINOR)])
        self.cycles, self.longest_s = 0, 0.0

    async def run(self, cycle_s: float) -> None:
        """Commit what comes in; close a batch every so often."""
        self.cycle()  # loads the kernels
        self.cycles, self.longest_s = 0, 0.0
        sequencing = asyncio.create_task(self.sequencer.run())
        await self.server.start()
        print(self.server.port, flush=True)
        while not sequencing.done():
            await asyncio.sleep(cycle_s or 3600)
            self.cycle()

    def cycle(self) -> None:
        """One batch of five simulated seconds."""
        began = time.perf_counter()
        self.clock._now_ns += self.interval_ns
        self.driver.close_batch()
        self.watermark.write(*self.journal.head)
        self.journal.checkpoint()
        self.cycles, self.longest_s = (
            self.cycles + 1, max(self.longest_s, time.perf_counter() - began),
        )  # fmt: skip


async def echo(request: web.Request) -> web.WebSocketResponse:
    """A plain WebSocket that answers every frame with a reply as long as an order's."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_frame(REPLY, WSMsgType.TEXT)
    return socket


async def run_echo() -> None:
    """Serve `echo` where the venue would have its WebSocket."""
    application = web.Application()
    application.router.add_get(WEBSOCKET_PATH, echo)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=512).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


async def answer_questions(venue: ServedVenue | None) -> None:
    """Answer lines until there are no more."""
    while line := (await asyncio.to_thread(sys.stdin.readline)).strip():
        if line == "memory":
            print(psutil.Process().memory_info().rss, flush=True)
        elif line == "cycles" and venue is not None:
            print(venue.cycles, venue.longest_s, flush=True)


async def main(kind: str, path: Path, accounts: int, cycle_s: float) -> None:
    """Serve until nobody asks any more."""
    venue = ServedVenue(path, accounts) if kind == "venue" else None
    serving = asyncio.create_task(run_echo() if venue is None else venue.run(cycle_s))
    questions = asyncio.create_task(answer_questions(venue))
    await asyncio.wait({serving, questions}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        serving.result()


if __name__ == "__main__":
    from exchange.cli.event_loop import run

    run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
