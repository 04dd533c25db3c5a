"""A market behind real sockets of 127.0.0.1, for tests: the `tiny` venue, accounts ann and bob."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import sha256
from typing import Any

import aiohttp

from exchange.gateway.keys import Key
from exchange.gateway.server import GatewayServer, Settings
from tests.gateway.small_market import PERPETUAL, SmallMarket

PATIENCE_S = 10.0


class Client:
    """A program at the other end of a WebSocket: answers by id, notifications in their order."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.told: list[Any] = []
        self._ids = itertools.count(1)

    async def receive(self) -> Any:
        """The next frame as JSON; EOFError with the close code when there is none."""
        message = await self.socket.receive(timeout=PATIENCE_S)
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise EOFError(self.socket.close_code)
        return json.loads(message.data)

    async def answer(self, method: str, **params: object) -> Any:
        """The whole answer to a request."""
        number = next(self._ids)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        return await self.answer_text(json.dumps(request), number)

    async def answer_text(self, text: str, number: object = None) -> Any:
        """The answer to a frame as it is."""
        await self.socket.send_str(text)
        while True:
            frame = await self.receive()
            if "id" in frame:
                assert frame["id"] == number, frame
                return frame
            self.told.append(frame)

    async def ask(self, method: str, **params: object) -> Any:
        """The result of a request."""
        answer = await self.answer(method, **params)
        assert "error" not in answer, answer
        return answer["result"]

    async def refusal(self, method: str, **params: object) -> Any:
        """The error of a request."""
        answer = await self.answer(method, **params)
        assert "error" in answer, answer
        return answer["error"]

    async def log_in(self, name: str = "ann") -> Any:
        return await self.ask(
            "public/auth", grant_type="client_credentials", client_id=f"{name}-key",
            client_secret=f"{name}-secret",
        )  # fmt: skip

    async def buy(self, price: object = 99_000, amount: object = 0.01, **more: object) -> Any:
        terms = {"instrument_name": PERPETUAL, "amount": amount, "price": price, **more}
        return (await self.ask("private/buy", **terms))["order"]

    async def ended(self) -> int | None:
        """The close code, once everything before it has been read."""
        with suppress(EOFError):
            while True:
                self.told.append(await self.receive())
        return self.socket.close_code


class ServedMarket(SmallMarket):
    """`SmallMarket` served; batches close when a test says so."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.keys.add(Key("reader-key", "reader-secret", "ann", ("read",)))
        self.server = GatewayServer(self.dispatcher, Settings(**settings))
        self.clients: list[Client] = []
        self.http: aiohttp.ClientSession
        self._running: asyncio.Task[None]

    async def start(self) -> None:
        self._running = asyncio.create_task(self.sequencer.run())
        await self.server.start()
        connector = aiohttp.TCPConnector(limit=0)
        self.http = aiohttp.ClientSession(self.server.url, connector=connector)

    async def stop(self) -> None:
        await self.server.stop()
        for client in self.clients:
            await client.socket.close()
        await self.http.close()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self.hub.forget(self.ann)
        self.hub.forget(self.bob)

    async def connect(self, name: str = "", **options: Any) -> Client:
        """A WebSocket, logged in if a name is given."""
        client = Client(await self.http.ws_connect("/ws/api/v2", **options))
        self.clients.append(client)
        if name:
            await client.log_in(name)
        return client

    async def get(self, method: str, headers: dict[str, str] | None = None,
                  **params: str) -> tuple[int, Any]:  # fmt: skip
        """Status and answer of a GET."""
        address = f"/api/v2/{method}"
        async with self.http.get(address, params=params, headers=headers) as response:
            return response.status, await response.json()

    async def post(self, body: bytes | str, address: str = "/api/v2",
                   headers: dict[str, str] | None = None) -> tuple[int, Any]:  # fmt: skip
        """Status and answer of a POST."""
        async with self.http.post(address, data=body, headers=headers) as response:
            return response.status, await response.json()

    def open_orders(self, name: str = "ann") -> list[int]:
        account = self.dispatcher.account_of(name)
        assert account is not None
        return list(self.dispatcher.history.of(account).open)


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[ServedMarket]:
    """A market that is served within the block; its orderly stop follows."""
    market = ServedMarket(**settings)
    await market.start()
    try:
        yield market
    finally:
        await market.stop()


def now_ms() -> int:
    return time.time_ns() // 10**6


def hmac_hex(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), sha256).hexdigest()


def header(method: str, uri: str, body: str = "", *, key: str = "ann-key",
           secret: str = "ann-secret", ts: int | None = None, nonce: str = "n1",
           order: str = "id,ts,sig,nonce", separator: str = ",") -> dict[str, str]:  # fmt: skip
    """The `Authorization` header that signs a request, its fields in the order asked for."""
    stamp = now_ms() if ts is None else ts
    text = f"{stamp}\n{nonce}\n{method}\n{uri}\n{body}\n"
    fields = {"id": key, "ts": stamp, "sig": hmac_hex(secret, text), "nonce": nonce}
    pairs = separator.join(f"{name}={fields[name]}" for name in order.split(","))
    return {"Authorization": f"deri-hmac-sha256 {pairs}"}
