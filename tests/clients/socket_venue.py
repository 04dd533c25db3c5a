"""A venue on a real socket whose connections break where a test wants them to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from contextlib import suppress
from typing import Any

from aiohttp import WSMsgType, web

from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.session import Session
from exchange.gateway.wire import serve
from tests.gateway.small_market import SmallMarket

SECRETS = {"ann": "ann's secret", "bob": "bob's secret"}  # a key is called as its account
PATH = "/somewhere/else/ws"


class SocketVenue:
    """A small market behind a WebSocket; `requests` are (connection, method, params)."""

    def __init__(self, market: SmallMarket) -> None:
        self.market = market
        self.requests: list[tuple[int, str, dict[str, Any]]] = []
        self.lost_answers: dict[str, int] = {}
        self.lost_requests: dict[str, int] = {}
        self.connections = 0
        self.sockets: dict[web.WebSocketResponse, None] = {}
        self.refuses_without_a_word = False
        self.port = 0
        self._runner: web.AppRunner | None = None
        self._sequencing: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"ws://127.0.0.1:{self.port}{PATH}"

    @property
    def dispatcher(self) -> Dispatcher:
        """The market's."""
        return self.market.dispatcher

    async def __aenter__(self) -> SocketVenue:
        self._sequencing = asyncio.create_task(self.market.sequencer.run())
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop_listening()
        assert self._sequencing is not None
        self._sequencing.cancel()
        with suppress(asyncio.CancelledError):
            await self._sequencing

    async def listen(self) -> None:
        """Accept connections, on the same port as before."""
        app = web.Application()
        app.router.add_get(PATH, self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop_listening(self) -> None:
        """Break every connection and refuse new ones."""
        self.break_all()
        if self._runner is not None:
            await self._runner.cleanup()

    def break_all(self) -> None:
        """End every connection without a word."""
        for socket in list(self.sockets):
            self._break(socket)

    def _break(self, socket: web.WebSocketResponse) -> None:
        transport = socket._req.transport if socket._req is not None else None
        if transport is not None:
            transport.abort()

    def sent(self, method: str) -> list[dict[str, Any]]:
        """Parameters of every request of a method, over any connection."""
        return [params for _, name, params in self.requests if name == method]

    async def _serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        number = self.connections
        self.sockets[socket] = None
        outbox: asyncio.Queue[bytes] = asyncio.Queue()
        session = Session(None, lambda _, frame: outbox.put_nowait(frame))
        writer = asyncio.create_task(self._write(socket, outbox))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._answer(number, socket, session, outbox, message.data)
        finally:
            self.dispatcher.disconnect(session)
            del self.sockets[socket]
            writer.cancel()
        return socket

    async def _write(self, socket: web.WebSocketResponse, outbox: asyncio.Queue[bytes]) -> None:
        with suppress(ConnectionError):
            while True:
                await socket.send_str((await outbox.get()).decode())

    async def _answer(self, number: int, socket: web.WebSocketResponse, session: Session,
                      outbox: asyncio.Queue[bytes], text: str) -> None:  # fmt: skip
        asked = json.loads(text)
        method, params = asked["method"], asked.get("params", {})
        self.requests.append((number, method, params))
        if self._happens(self.lost_requests, method):
            return self._break(socket)
        if method == "public/auth":
            result = self._log_in(session, params)
            if result is None and self.refuses_without_a_word:
                await socket.close(code=1008)
                return None
            body = {"error": {"code": 13004, "message": "invalid_credentials"}}
            answer = {
                "jsonrpc": "2.0",
                "id": asked["id"],
                **({"result": result} if result else body),
            }
            return outbox.put_nowait(json.dumps(answer).encode())
        if method == "public/set_heartbeat":
            return outbox.put_nowait(b'{"jsonrpc":"2.0","id":%d,"result":"ok"}' % asked["id"])
        lost = self._happens(self.lost_answers, method)
        await serve(self.dispatcher, session, text, (lambda _: None) if lost else outbox.put_nowait)
        return self._break(socket) if lost else None

    @staticmethod
    def _happens(losses: dict[str, int], method: str) -> bool:
        if losses.get(method, 0) > 0:
            losses[method] -= 1
            return True
        return False

    def _log_in(self, session: Session, params: dict[str, Any]) -> dict[str, Any] | None:
        secret = SECRETS.get(params["client_id"])
        text = "{timestamp}\n{nonce}\n{data}".format(**params)
        expected = hmac.new((secret or "").encode(), text.encode(), hashlib.sha256).hexdigest()
        if secret is None or params["signature"] != expected:
            return None
        session.account = self.dispatcher.account_of(params["client_id"])
        session.scopes = frozenset({"read", "trade"})
        return {"access_token": "none", "expires_in": 1, "token_type": "bearer"}
