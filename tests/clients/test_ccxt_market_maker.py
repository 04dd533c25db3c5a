"""A ccxt bot makes a market against a crowd; its own account is the venue's to the minor unit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from importlib import resources
from pathlib import Path
from random import Random

import ccxt
import pytest

import clients.ccxt_market_maker
from clients.ccxt_market_maker import CcxtMarketMaker
from clients.crowd import Mix, build_crowd, run
from clients.websocket import WebSocketTransport
from exchange.clock import RealClock, SimulatedClock
from exchange.core.commands import Deposit, OpenAccount
from exchange.core.engine import Engine
from exchange.core.reject_reason import PostingCause
from exchange.cycle_driver import CycleDriver
from exchange.feed import PathFeed
from exchange.gateway.authentication import Authenticator
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.keys import Key, KeyRing
from exchange.gateway.server import GatewayServer
from exchange.marker import Marker
from exchange.sequencer import Sequencer
from exchange.venues import load_venue

MIX = Mix(market_makers=0, noise_traders=10, trend_followers=4, arbitrageurs=1, option_sellers=0)
MONEY_MINOR = 500_000 * 10**6
BATCHES = 40
E8 = 10**8


class ServedMarket:
    """The tiny venue on a wandering index, without funding: the payment that no trade tells of."""

    def __init__(self, folder: Path, batches: int) -> None:
        text = (resources.files("exchange.venues") / "tiny.toml").read_text("utf-8")
        assert "cap = 0.005" in text
        file = folder / "venue.toml"
        file.write_text(text.replace("cap = 0.005", "cap = 0"), "utf-8")
        self.venue = load_venue(str(file))
        self.clock = SimulatedClock(self.venue.opening_time_ns)
        self.engine = Engine()
        self.sequencer = Sequencer(self.engine, None, self.clock)
        self.keys = KeyRing()
        self.server = GatewayServer(
            Dispatcher(self.sequencer, authenticator=Authenticator(self.keys, RealClock()))
        )
        self.driver = CycleDriver(self.sequencer, Marker(PathFeed([self._path(batches)])))
        self.driver.open(self.venue, 3)

    def _path(self, batches: int) -> list[tuple[int, int]]:
        chance, price, points = Random(11), 100_000 * E8, []
        for number in range(batches + 2):
            points.append((self.venue.opening_time_ns + number * self.venue.interval_ns, price))
            price += price * chance.randint(-4, 4) // 10_000
        return points

    def open_account(self, name: str, money_minor: int = 0) -> int:
        """An account with a key of its name; returns its pool."""
        self.keys.add(Key(name, f"secret of {name}", name))
        now = self.sequencer.now_ns()
        self.sequencer.commit([OpenAccount(now, name)])
        number = self.engine.state.accounts.number_of[name]
        if money_minor:
            self.sequencer.commit([Deposit(now, number, 0, money_minor)])
        return self.engine.state.accounts.pool_of[number]

    async def close_batch(self) -> None:
        await self.clock.sleep_until(self.clock.now_ns() + self.venue.interval_ns)
        self.driver.close_batch()


@pytest.fixture
async def market(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ServedMarket]:
    served = ServedMarket(tmp_path, request.param)
    sequencing = asyncio.create_task(served.sequencer.run())
    await served.server.start()
    yield served
    await served.server.stop()
    sequencing.cancel()
    with suppress(asyncio.CancelledError):
        await sequencing


class Paid:
    """Fees that the ledger took from one pool, from the postings of every command."""

    def __init__(self, market: ServedMarket, pool: int) -> None:
        self.pool, self.minor = pool, 0
        market.sequencer.listeners.append(self.take)

    def take(self, command: object, events: list) -> None:
        for event in events:
            if getattr(event, "cause", None) == PostingCause.FEE:
                mine = event.pool == self.pool
                self.minor -= int(event.amount_minor[mine].sum())


@pytest.mark.parametrize(
    ("market", "batches"),
    [(BATCHES, BATCHES), pytest.param(300, 300, marks=pytest.mark.long)],
    indirect=["market"],
)
async def test_its_own_account_is_the_venues_to_the_minor_unit(
    market: ServedMarket, batches: int
) -> None:
    pool = market.open_account("maker", MONEY_MINOR)
    fees = Paid(market, pool)
    crowd = build_crowd(MIX, 5, ("BTC",))
    for name in crowd.names:
        market.open_account(name)

    async def connect(name: str) -> WebSocketTransport:
        return WebSocketTransport(market.server.websocket_url, name, f"secret of {name}")

    running = asyncio.create_task(run(crowd, connect, last_batch=batches))
    maker = await asyncio.to_thread(CcxtMarketMaker, market.server.url, "maker", "secret of maker")
    readiness = market.server.dispatcher.readiness
    state, traded = market.engine.state, 0
    for _ in range(batches):
        assert await asyncio.to_thread(maker.turn)
        assert not await asyncio.to_thread(maker.turn), "once a batch"
        async with asyncio.timeout(20):
            bots = len(crowd.bots)
            while len(readiness.registered) < bots or not readiness.complete:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        account = maker.account
        assert account.cash * 10**6 == state.ledger.balance(pool, 0)
        assert account.position == Decimal(int(state.positions.lots_of(pool, 0))) / 1000
        assert account.fees * 10**6 == fees.minor
        assert account.profit * 10**6 == state.ledger.balance(pool, 0) - MONEY_MINOR
        traded += account.position != 0
        await market.close_batch()
    await asyncio.wait_for(running, 20)
    assert len(maker.seen) > batches // 4
    assert traded > batches // 4
    assert fees.minor > 0
    assert state.ledger.trial_balance() == [0] * state.ledger.currencies
    summary = await asyncio.to_thread(maker.exchange.fetch_balance)
    assert Decimal(str(summary["USDC"]["total"])) * 10**6 == state.ledger.balance(pool, 0)


@pytest.mark.parametrize("market", [1], indirect=True)
async def test_a_wrong_secret_is_what_ccxt_calls_it(market: ServedMarket) -> None:
    market.open_account("maker", MONEY_MINOR)
    with pytest.raises(ccxt.AuthenticationError):
        await asyncio.to_thread(CcxtMarketMaker, market.server.url, "maker", "wrong")


def test_it_is_short_enough_to_copy() -> None:
    lines = Path(clients.ccxt_market_maker.__file__).read_text("utf-8").splitlines()
    assert len(lines) < 100
    imported = [line for line in lines if line.startswith(("import ", "from "))]
    assert not [line for line in imported if "clients" in line or "exchange" in line]
