"""The doors: one aiohttp server for WebSockets and HTTP, and its orderly end.

/ws/api/v2                      JSON-RPC over a WebSocket
GET  /api/v2/{scope}/{method}   parameters as text
POST /api/v2                    JSON-RPC
POST /api/v2/{scope}/{method}   JSON-RPC, or the parameters alone
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from aiohttp import web

from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.errors import WireError
from exchange.gateway.http import HttpRequests, respond
from exchange.gateway.session import Ending
from exchange.gateway.websocket import WebSocketConnection
from exchange.gateway.wire import FRAME_BYTES_MAX, refusal

PATH, WEBSOCKET_PATH = "/api/v2", "/ws/api/v2"
GOING_AWAY = 1001
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Settings:
    """Bounds of the server; those who change them are tests and benchmarks.

    `origins`: pages of which sites may call (programs send no Origin). `second_s`: how long a
    second of a client's heartbeat lasts.
    """

    origins: frozenset[str] = frozenset()
    connections_max: int = 4_000
    requests_max: int = 256  # in hand at once, of one connection
    message_bytes_max: int = FRAME_BYTES_MAX
    outbox_frames: int = 10_000
    outbox_bytes: int = 4 << 20
    writer_bytes: int = 64 << 10
    ping_s: float = 30.0
    close_s: float = 2.0
    keepalive_s: float = 75.0
    second_s: float = 1.0


class GatewayServer:
    """Serves a dispatcher to the outside. Its sequencer's `run` must be running, too."""

    def __init__(self, dispatcher: Dispatcher, settings: Settings | None = None) -> None:
        self.dispatcher, self.settings = dispatcher, settings or Settings()
        self.connections: dict[WebSocketConnection, None] = {}
        self.host, self.port = "", 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None
        self._margins: ThreadPoolExecutor | None = None

    @property
    def url(self) -> str:
        """Where HTTP requests go; the path of the API follows."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    @property
    def websocket_url(self) -> str:
        """Where WebSockets connect."""
        return self.url.replace("http", "ws", 1) + WEBSOCKET_PATH

    def application(self) -> web.Application:
        """The routes, behind the check of origins."""
        requests = HttpRequests(self.dispatcher)
        application = web.Application(
            middlewares=[self._guarded], client_max_size=self.settings.message_bytes_max
        )
        application.router.add_get(WEBSOCKET_PATH, self._websocket)
        application.router.add_get(PATH + "/{scope}/{method}", requests.get, allow_head=False)
        application.router.add_post(PATH, requests.post)
        application.router.add_post(PATH + "/{scope}/{method}", requests.post_method)
        return application

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0 takes any that is free. Raises OSError where it cannot."""
        self._runner = web.AppRunner(
            self.application(), access_log=None, keepalive_timeout=self.settings.keepalive_s,
            lingering_time=self.settings.close_s, shutdown_timeout=self.settings.close_s,
        )  # fmt: skip
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, host, port, backlog=512)
        try:
            await self._site.start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.host, self.port = self._runner.addresses[0][:2]
        # one thread: explanations wait for each other, never the engine for them
        self._margins = ThreadPoolExecutor(1, "margins")
        self.dispatcher.margins.executor = self._margins

    async def refuse_orders(self) -> None:
        """Take no new connections, and of the old ones nothing but reads and cancels."""
        self.dispatcher.stopping = True
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def stop(self, grace_s: float = 2.0) -> None:
        """Answer what is in hand, send what is queued, close every socket, and end.

        Whoever has not taken his frames after `grace_s` is cut off.
        """
        await self.refuse_orders()
        going = Ending(GOING_AWAY, "the venue is being stopped")
        closing = [asyncio.create_task(c.finish(going)) for c in list(self.connections)]
        try:
            async with asyncio.timeout(grace_s):
                await asyncio.gather(*closing)
                await self._empty.wait()
        except TimeoutError:
            for connection in list(self.connections):
                connection.cut("the venue stopped before the client had read")
        finally:
            for task in closing:
                task.cancel()
            await asyncio.gather(*closing, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._margins is not None:
            self.dispatcher.margins.executor = None
            self._margins.shutdown(wait=False, cancel_futures=True)
            self._margins = None

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Refuse pages of other sites; answer what goes wrong inside as an error."""
        for origin in request.headers.getall("Origin", ()):
            if origin not in self.settings.origins:
                error = WireError(13021, "forbidden", {"reason": "the origin is not allowed"})
                return respond(refusal(self.dispatcher, error), error.code, 403)
        try:
            return await handler(request)
        except web.HTTPNotFound:
            reason = f"there is nothing at this address; see {PATH} and {WEBSOCKET_PATH}"
            error = WireError(13020, "not_found", {"reason": reason})
            return respond(refusal(self.dispatcher, error), error.code, 404)
        except (web.HTTPException, ConnectionError, asyncio.CancelledError):
            raise
        except Exception as failure:
            self._failed(failure)
            error = WireError(11094, "internal_server_error")
            return respond(refusal(self.dispatcher, error), error.code)

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        if len(self.connections) >= self.settings.connections_max:
            error = WireError(10047, "matching_engine_queue_full", {"reason": "too many sessions"})
            return respond(refusal(self.dispatcher, error), error.code, 503)
        connection = WebSocketConnection(self.dispatcher, self.settings, self._failed)
        self.connections[connection] = None
        self._empty.clear()
        try:
            return await connection.run(request)
        finally:
            del self.connections[connection]
            if not self.connections:
                self._empty.set()

    def _failed(self, error: BaseException) -> None:
        """Something that is no client's fault went wrong: tell whoever runs the loop."""
        asyncio.get_running_loop().call_exception_handler(
            {"message": "a request failed inside the venue", "exception": error}
        )
