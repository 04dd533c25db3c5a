"""A market in this process on simulated time, with two funded accounts, for tests."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from exchange.clock import RealClock, SimulatedClock
from exchange.core.commands import (
    Deposit,
    ExpiryMark,
    Genesis,
    OpenAccount,
    Revalue,
    UnderlyingMark,
)
from exchange.core.engine import VERSION, Engine
from exchange.core.events import Event
from exchange.core.outside_venue import OutsideVenue
from exchange.core.venue import Venue
from exchange.gateway.authentication import Authenticator
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.keys import Key, KeyRing
from exchange.gateway.memory import MemoryConnection, MemoryHub
from exchange.sequencer import Sequencer
from exchange.venues import load_venue

E8 = 10**8
PERPETUAL = "BTC_USDC-PERPETUAL"


class SmallMarket:
    """The `tiny` venue (or another), open, at given index prices; accounts `ann` and `bob`."""

    def __init__(self, venue: str | Venue = "tiny", index: tuple[int, ...] = (100_000,),
                 deposit: int = 1_000_000, outside_venues: tuple[OutsideVenue, ...] = (),
                 **changes: int | str) -> None:  # fmt: skip
        self.venue = load_venue(venue, **changes) if isinstance(venue, str) else venue
        if outside_venues:
            self.venue = msgspec.structs.replace(self.venue, outside_venues=outside_venues)
        self.index = list(index)
        self.clock = SimulatedClock(self.venue.opening_time_ns)
        self.engine = Engine()
        self.sequencer = Sequencer(self.engine, None, self.clock)
        self.keys = KeyRing()
        for name in ("ann", "bob"):
            self.keys.add(Key(f"{name}-key", f"{name}-secret", name))
        self.dispatcher = Dispatcher(
            self.sequencer, authenticator=Authenticator(self.keys, RealClock())
        )
        self.hub = MemoryHub(self.dispatcher)
        self.sequencer.commit([Genesis(self.clock.now_ns(), self.venue, 7, VERSION)])
        self.close_batch()
        for number, name in enumerate(("ann", "bob")):
            now = self.sequencer.now_ns()
            self.sequencer.commit(
                [OpenAccount(now, name), Deposit(now, number, 0, deposit * 10**6)]
            )
        self.ann, self.bob = self.hub.connect("ann"), self.hub.connect("bob")

    @property
    def state(self) -> Any:
        return self.engine.state

    def marks(self) -> Revalue:
        """Every future at its index, every volatility as it is."""
        state, now = self.state, self.sequencer.now_ns()
        contracts = state.contracts
        futures, expiries = [], {}
        for slot in contracts.listed():
            spec = contracts.specs[slot]
            if contracts.is_option_slot(slot):
                expiries.setdefault((spec.underlying, spec.expiry_ns), {})[spec.strike_e8] = int(
                    state.marks.volatility_e9[slot]
                )
            else:
                futures.append((slot, self.index[spec.underlying] * E8))
        return Revalue(
            now, state.batch,
            tuple(UnderlyingMark(p * E8, 0, 10**9, ((now, p * E8),)) for p in self.index),
            tuple(futures),
            tuple(
                ExpiryMark(u, expiry, self.index[u] * E8, 0, tuple(rows), tuple(rows.values()))
                for (u, expiry), rows in expiries.items()
            ),
            b"",
        )  # fmt: skip

    def close_batch(self, *index: int) -> list[Event]:
        """Wait an interval, clear the batch, revalue (at new index prices if given)."""
        if index:
            self.index = list(index)
        now = self.clock.now_ns() + self.venue.interval_ns
        self.clock._now_ns = now
        self.sequencer.flush()
        events = self.sequencer.seal_and_uncross()
        return events + self.sequencer.revalue(self.marks())

    async def ask(self, who: MemoryConnection, method: str, **params: object) -> Any:
        """The result of a request; fails the test where it is refused."""
        answer = await self.answer(who, method, **params)
        assert "error" not in answer, answer["error"]
        return answer["result"]

    async def refusal(self, who: MemoryConnection, method: str, **params: object) -> Any:
        """The error of a request that must be refused, and must change nothing."""
        before = self.engine.state_hash()
        answer = await self.answer(who, method, **params)
        assert "error" in answer, answer
        assert self.engine.state_hash() == before, "a refused request changes nothing"
        return answer["error"]

    async def answer(self, who: MemoryConnection, method: str, **params: object) -> Any:
        """The whole answer, committing whatever the request queued."""
        task = asyncio.ensure_future(who.request(method, params))
        await asyncio.sleep(0)
        self.sequencer.flush()
        return await task

    async def buy(self, who: MemoryConnection, amount: object, price: object = None,
                  **more: object) -> Any:  # fmt: skip
        """A buy order of the first contract: limit with a price, else market."""
        return await self.order("buy", who, amount, price, **more)

    async def sell(self, who: MemoryConnection, amount: object, price: object = None,
                   **more: object) -> Any:  # fmt: skip
        """The same to sell."""
        return await self.order("sell", who, amount, price, **more)

    async def order(self, side: str, who: MemoryConnection, amount: object, price: object = None,
                    **more: object) -> Any:  # fmt: skip
        """An order; the order object of its answer."""
        terms = {"type": "market"} if price is None else {"price": price}
        result = await self.ask(
            who,
            f"private/{side}",
            **{"instrument_name": PERPETUAL, "amount": amount, **terms, **more},
        )
        assert result["trades"] == []
        return result["order"]

    async def listen(self, who: MemoryConnection, *channels: str) -> None:
        """Subscribe, and throw away what is told at once."""
        accepted = await self.ask(who, "private/subscribe", channels=list(channels))
        assert accepted == list(channels)
        who.take_notifications()


def heard(who: MemoryConnection) -> list[tuple[str, Any]]:
    """What arrived since the last time, as (channel, data)."""
    found = []
    for message in who.take_notifications():
        assert message["jsonrpc"] == "2.0"
        assert message["method"] == "subscription"
        assert "id" not in message
        params: Any = message["params"]
        found.append((params["channel"], params["data"]))
    return found


def only(who: MemoryConnection, channel: str) -> list[Any]:
    """The data that arrived on one channel; everything else is thrown away."""
    return [data for name, data in heard(who) if name == channel]
