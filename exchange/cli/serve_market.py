"""A served market: files, engine, gateway and cycles on the machine's clock, and its end."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import click

from exchange.cli.live_venue import live_feed, live_venue, story_of
from exchange.cli.market_store import MarketStore
from exchange.cli.outside_feeds import AttestationRefused, OutsideFeeds
from exchange.cli.serve_request import ServeRequest
from exchange.clock import Clock, RealClock
from exchange.core.commands import Deposit, OpenAccount
from exchange.core.events import Rejected
from exchange.core.venue import USDC
from exchange.cycle_driver import CycleDriver
from exchange.gateway.authentication import Authenticator
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.keys import Key, KeyRing, KeysRefused, checked_key
from exchange.gateway.rate_limit import RateLimit
from exchange.gateway.server import GatewayServer, Settings
from exchange.marker import Marker
from exchange.sequencer import Sequencer

STOP_GRACE_S = 2.0


class ServedMarket:
    """One market behind its doors. `open`, then `run` until `stop` is called, then `close`."""

    def __init__(self, request: ServeRequest, journal: Path, clock: Clock | None = None) -> None:
        """Open the files and the market (cycle 0), or take the market on where it stood.

        Raises what the venue, the story, the feed, the keys and the storage refuse.
        """
        self.request, self.clock = request, clock or RealClock()
        self.keys = KeyRing(request.keys or journal.with_name(journal.name + ".keys"))
        for account in request.accounts:
            checked_key(Key(account.key, account.secret, account.key))
        story = story_of(request)
        fresh = None if journal.exists() else live_venue(request, story, self.clock.now_ns())
        self.store = MarketStore(journal)
        try:
            self.engine = self.store.engine
            self.sequencer = Sequencer(self.engine, self.store.journal, self.clock)
            limits = RateLimit(RealClock()) if request.rate_limit else None
            self.dispatcher = Dispatcher(
                self.sequencer, authenticator=Authenticator(self.keys, RealClock()), limits=limits
            )
            if self.store.resumed:
                venue, state = self.engine.state.venue, self.engine.state
                feed, self.index = live_feed(request, story, venue, state)
                self.driver = CycleDriver(self.sequencer, Marker(feed))
                self.dispatcher.rebuild()
                self.driver.resume()
            else:
                venue = fresh or live_venue(request, story, self.clock.now_ns())
                feed, self.index = live_feed(request, story, venue, None)
                self.driver = CycleDriver(self.sequencer, Marker(feed))
                self.driver.open(venue, request.seed)
            self.venue = venue
            self.feeds = OutsideFeeds(story, self.dispatcher) if story is not None else None
            self._open_local_accounts()
            self.open_accounts(self.keys.accounts())
            self.store.secure()
        except BaseException:
            self.store.close()
            raise
        self.server = GatewayServer(self.dispatcher, Settings(origins=request.origins))
        self._stop = asyncio.Event()

    def _open_local_accounts(self) -> None:
        """The accounts of the command line, with their money where they are new."""
        for local in self.request.accounts:
            if self.keys.find(local.key) is not None:
                raise KeysRefused(f"the key {local.key!r} is in the key file already")
            self.keys.add(Key(local.key, local.secret, local.key))
            number = self.dispatcher.account_of(local.key)
            if number is None and self._open(local.key, local.account_class) and local.usdc_minor:
                number = self.dispatcher.account_of(local.key)
                assert number is not None
                deposit = Deposit(self.sequencer.now_ns(), number, USDC, local.usdc_minor)
                events = self.sequencer.commit([deposit])[0]
                if isinstance(events[0], Rejected):
                    raise KeysRefused(f"account {local.key}: usdc: {events[0].text}")

    def open_accounts(self, names: list[str]) -> int:
        """Open the accounts among these that are not open yet; returns how many those were."""
        known = self.engine.state.accounts.number_of
        new = [name for name in names if name not in known]
        for name in new:
            self._open(name)
        return len(new)

    def _open(self, name: str, account_class: str = "") -> bool:
        command = OpenAccount(self.sequencer.now_ns(), name, account_class)
        event = self.sequencer.commit([command])[0][0]
        if isinstance(event, Rejected):
            raise KeysRefused(f"account {name}: class {account_class!r} is none of the venue's")
        return True

    async def run(self) -> None:
        """Take requests and close batches until `stop`; then end in order.

        Raises what stopped the sequencer, if something did: then nothing was answered that is not
        in the journal.
        """
        writing = asyncio.create_task(self.sequencer.run())
        cycling = asyncio.create_task(self._cycles())
        stopping = asyncio.create_task(self._stop.wait())
        tasks = {writing, cycling, stopping}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done() and self.sequencer.stopped is None:
                await self.server.refuse_orders()
                cycling.cancel()
                with suppress(asyncio.CancelledError):
                    await cycling
                self.close_batch()
            await self.server.stop(STOP_GRACE_S)
            self.sequencer.flush()  # what connections left to be cancelled when they ended
        finally:
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _cycles(self) -> None:
        """Close each batch at the end of its interval."""
        next_seal_ns = self.dispatcher.batches.next_seal_ns
        while True:
            await self.clock.sleep_until(next_seal_ns(self.engine.state))
            await asyncio.sleep(0)  # whatever waits goes into this batch, on a simulated clock too
            self.close_batch()
            await self._hear_outside_venues()

    async def _hear_outside_venues(self) -> None:
        """Take what a story's outside venues attest; what is refused is told, and trade goes on."""
        if self.feeds is not None:
            try:
                await self.feeds.speak()
            except AttestationRefused as refused:
                click.echo(str(refused), err=True)

    def close_batch(self) -> None:
        """One cycle, made safe; then the accounts of keys that are new."""
        self.driver.close_batch()
        self.store.secure()
        self.open_accounts(self.keys.accounts())

    def stop(self) -> None:
        """End `run` in order: no new orders, the batch cleared, all replies sent."""
        self._stop.set()

    def close(self) -> None:
        """Journal the last cycle's hash, write a snapshot, close the files."""
        try:
            if self.sequencer.stopped is None:
                self.sequencer.write_note()
                self.store.watermark.write(*self.store.journal.head)
                self.store.write_snapshot()
        finally:
            self.store.close()
