"""The `demo` venue behind real sockets, and unmodified ccxt clients pointed at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import ccxt
import ccxt.async_support
import ccxt.pro

from exchange.gateway.keys import Key
from exchange.gateway.server import GatewayServer, Settings
from tests.gateway.served_market import ServedMarket
from tests.gateway.small_market import SmallMarket

LINEAR, INVERSE = "BTC/USDC:USDC", "BTC/USD:BTC"
CALL = "BTC/USDC:USDC-251017-120000-C"
PRICE = 117_000
INDEX = (PRICE, 4_100, 205)


class Client:
    """A ccxt client whose calls may be awaited, those of the blocking one in a thread."""

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange
        self.blocks = not isinstance(exchange, ccxt.async_support.Exchange)

    async def __call__(self, name: str, *args: Any, **named: Any) -> Any:
        method = getattr(self.exchange, name)
        if self.blocks:
            return await asyncio.to_thread(method, *args, **named)
        return await method(*args, **named)

    async def close(self) -> None:
        if self.blocks:
            self.exchange.session.close()
        else:
            await self.exchange.close()


class CcxtMarket(ServedMarket):
    """Three coins with perpetuals, futures and options; batches close when a test says so."""

    def __init__(self) -> None:
        SmallMarket.__init__(self, "demo", INDEX)
        self.keys.add(Key("reader-key", "reader-secret", "ann", ("read",)))
        self.server = GatewayServer(self.dispatcher, Settings())
        self.clients = []
        self.exchanges: list[Client] = []

    def client(self, kind: str = "async", name: str = "ann", **config: Any) -> Client:
        """A client configured as a user would: the addresses, a key, no throttle."""
        addresses = {"rest": self.server.url, "ws": self.server.websocket_url}
        module = {"sync": ccxt, "async": ccxt.async_support, "pro": ccxt.pro}[kind]
        client = Client(module.deribit({
            "urls": {"api": addresses}, "enableRateLimit": False,
            "apiKey": f"{name}-key", "secret": f"{name}-secret", **config,
        }))  # fmt: skip
        self.exchanges.append(client)
        return client

    async def stop(self) -> None:
        for client in self.exchanges:
            await client.close()
        await super().stop()

    async def offer(self, price: float = PRICE, amount: float = 0.05,
                    instrument_name: str = "BTC_USDC-PERPETUAL") -> None:  # fmt: skip
        """An order of bob's to sell, for somebody else to trade with."""
        await self.ask(self.bob, "private/sell", instrument_name=instrument_name, amount=amount,
                       price=price)  # fmt: skip


@asynccontextmanager
async def ccxt_market() -> AsyncIterator[CcxtMarket]:
    """The served market within the block."""
    market = CcxtMarket()
    await market.start()
    try:
        yield market
    finally:
        await market.stop()
