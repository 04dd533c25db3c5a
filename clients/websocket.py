"""The venue behind a URL: an authenticated WebSocket that outlives its connections.

A `WebSocketTransport` opens a socket when it is first used. If the socket breaks it opens another,
logs in, subscribes to the same channels, takes part in the batches again, and sends once more
what was not answered; orders keep their `client_order_id`, so none of them is executed twice.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from types import TracebackType

import aiohttp

from clients.errors import ConnectionLost, OutcomeUnknown, VenueRefused
from clients.frames import FrameTransport
from clients.signing import login
from clients.transport import RECONNECTED

LOCAL = "ws://127.0.0.1:8080/ws/api/v2"
KEY, SECRET = "UNCROSS_KEY", "UNCROSS_SECRET"

FRAME_BYTES_MAX = 1 << 24
HEARTBEAT_S = 30
PATIENCE_S = 60.0
BACKOFF_S = (0.05, 5.0)  # the first wait after a failure, and the longest
RESENDS_MAX = 10
CLOSE_S = 5.0
POLICY_VIOLATION = 1008
NOT_OPEN_ORDER = 11044

NEVER_REPEATED = frozenset({"private/deposit", "private/withdraw"})
ORDERS = frozenset({"private/buy", "private/sell"})
STANDING = ("batch/register", "batch/ready")  # what a session says of itself, in this order


def credentials(key: str | None = None, secret: str | None = None) -> tuple[str, str] | None:
    """Key and secret as given, else from the environment (`UNCROSS_KEY`, `UNCROSS_SECRET`).

    None where there are neither, or both are empty: public methods only. Raises `ValueError` for
    one without the other.
    """
    if key is None and secret is None:
        key, secret = os.environ.get(KEY), os.environ.get(SECRET)
    if not key and not secret:
        return None
    if not key or not secret:
        raise ValueError(f"a key needs its secret: give both, or set {KEY} and {SECRET}")
    return key, secret


class WebSocketFrames:
    """One socket as `Frames`. `close_code` is the venue's once it has closed it."""

    def __init__(self, session: aiohttp.ClientSession,
                 socket: aiohttp.ClientWebSocketResponse) -> None:  # fmt: skip
        self._session, self._socket = session, socket

    @classmethod
    async def open(cls, url: str, heartbeat_s: float = HEARTBEAT_S) -> WebSocketFrames:
        """Connect to exactly this URL. Raises `ConnectionError` where nobody answers there."""
        session = aiohttp.ClientSession()
        try:
            socket = await session.ws_connect(
                url, heartbeat=heartbeat_s, max_msg_size=FRAME_BYTES_MAX, decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
            )  # fmt: skip
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            await session.close()
            raise ConnectionError(f"{url}: {error}") from error
        except BaseException:
            await session.close()
            raise
        return cls(session, socket)

    @property
    def close_code(self) -> int | None:
        """Why the other side closed the socket, or None."""
        return self._socket.close_code

    async def send(self, frame: bytes) -> None:
        """Send one text frame; `ConnectionError` if the socket is closed."""
        try:
            await self._socket.send_frame(frame, aiohttp.WSMsgType.TEXT)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise ConnectionError(str(error)) from error

    async def receive(self) -> bytes:
        """The next frame; `ConnectionError` when there will be no more."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT or message.type is aiohttp.WSMsgType.BINARY:
            data: bytes = message.data
            return data
        reason = message.data if message.type is aiohttp.WSMsgType.ERROR else self.close_code
        raise ConnectionError(f"the venue closed the socket ({reason})")

    async def close(self) -> None:
        """Close the socket; may be called twice."""
        await self._socket.close()
        await self._session.close()


class WebSocketTransport:
    """A `Transport` to a URL, in the name of the account that the key belongs to.

    `url` is obeyed on every socket. `key` and `secret`: see `credentials`. `heartbeat_s`: after so
    long without a sign of life each side asks the other for one (at least 10). `patience_s`: for
    so long it tries to connect before it gives up with `ConnectionLost`.
    """

    def __init__(
        self, url: str = LOCAL, key: str | None = None, secret: str | None = None, *,
        heartbeat_s: int = HEARTBEAT_S, patience_s: float = PATIENCE_S,
    ) -> None:  # fmt: skip
        self.url, self.heartbeat_s, self.patience_s = url, heartbeat_s, patience_s
        self.connections = 0
        self._credentials = credentials(key, secret)
        self._channels: dict[str, str] = {}  # channel -> the method that subscribed to it
        self._standing: dict[str, dict[str, object]] = {}
        self._opening = asyncio.Lock()
        self._transport: FrameTransport | None = None
        self._closed = False

    async def __aenter__(self) -> WebSocketTransport:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.close()

    # The connection

    async def _current(self) -> FrameTransport:
        """The connection, a new one if the last has ended. Who waits is served in order."""
        async with self._opening:
            if self._closed:
                raise ConnectionLost("the transport is closed", sent=False)
            if self._transport is None or self._transport.over:
                if self._transport is not None:
                    await self._transport.close()
                self._transport = await self._connect()
                self.connections += 1
                if self._closed:  # by somebody else, meanwhile
                    await self._transport.close()
                    raise ConnectionLost("the transport is closed", sent=False)
            return self._transport

    async def _connect(self) -> FrameTransport:
        """Try until it works or patience ends, each time waiting longer."""
        deadline, delay = time.monotonic() + self.patience_s, BACKOFF_S[0]
        while True:
            try:
                return await self._connect_once()
            except (ConnectionError, ConnectionLost) as error:
                # Clients that lost the same venue do not all come back in the same moment.
                wait = delay * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                if self._closed or time.monotonic() + wait > deadline:
                    raise ConnectionLost(f"no connection to {self.url}: {error}") from error
            await asyncio.sleep(wait)
            delay = min(2 * delay, BACKOFF_S[1])

    async def _connect_once(self) -> FrameTransport:
        frames = await WebSocketFrames.open(self.url, self.heartbeat_s)
        transport = FrameTransport(frames)
        try:
            await self._log_in(transport, frames)
            await transport.request("public/set_heartbeat", {"interval": self.heartbeat_s})
            for method in dict.fromkeys(self._channels.values()):
                names = [name for name, by in self._channels.items() if by == method]
                await transport.request(method, {"channels": names})
            for method in STANDING:
                if method in self._standing:
                    await transport.request(method, self._standing[method])
        except BaseException:
            await transport.close()
            raise
        return transport

    async def _log_in(self, transport: FrameTransport, frames: WebSocketFrames) -> None:
        """Raises `VenueRefused` if the key is not accepted: trying again would not help."""
        if self._credentials is None:
            return
        timestamp_ms = time.time_ns() // 1_000_000
        try:
            await transport.request("public/auth", login(*self._credentials, timestamp_ms))
        except ConnectionLost:
            if frames.close_code == POLICY_VIOLATION:
                raise VenueRefused(13004, "invalid_credentials") from None
            raise

    # The transport

    async def request(self, method: str, params: dict[str, object]) -> object:
        """The venue's `result`, asked for again over a new connection if the old one broke.

        Raises `VenueRefused`; `ConnectionLost` when no connection can be had; `OutcomeUnknown` for
        a transfer, or an order without `client_order_id`, whose answer was lost.
        """
        for resent in range(RESENDS_MAX + 1):
            transport = await self._current()
            try:
                answer = await transport.request(method, params)
            except ConnectionLost as lost:
                if self._closed:
                    raise
                if lost.sent and not _repeatable(method, params):
                    raise OutcomeUnknown(f"{method}: the answer was lost") from lost
                continue
            except VenueRefused as refused:
                if resent and method == "private/cancel" and refused.code == NOT_OPEN_ORDER:
                    # The first attempt may have done it; how the order ended is the answer.
                    return await self.request("private/get_order_state", params)
                raise
            self._remember(method, params, answer)
            return answer
        raise ConnectionLost(f"{method}: {RESENDS_MAX} connections broke before an answer came")

    def _remember(self, method: str, params: dict[str, object], answer: object) -> None:
        """What the session would have to be told again on a new connection."""
        if method in STANDING:
            self._standing[method] = params
        elif method.endswith("/subscribe") and isinstance(answer, list):
            self._channels.update(dict.fromkeys(map(str, answer), method))
        elif method.endswith("/unsubscribe") and isinstance(answer, list):
            for name in answer:
                self._channels.pop(str(name), None)

    async def notifications(self) -> AsyncIterator[tuple[str, object]]:
        """(channel, data) as they arrive; `RECONNECTED` before those of a new connection.

        Ends with `close`. Raises what `request` would where no connection can be had.
        """
        heard: FrameTransport | None = None
        while not self._closed:
            try:
                transport = await self._current()
            except ConnectionLost:
                if self._closed:
                    return
                raise
            if heard is not None:
                yield RECONNECTED, None
            heard = transport
            async for notice in transport.notifications():
                yield notice

    async def close(self) -> None:
        """Close the socket for good. May be called twice."""
        self._closed = True
        if self._transport is not None:
            await self._transport.close()


def _repeatable(method: str, params: dict[str, object]) -> bool:
    """Whether doing it twice is doing it once."""
    if method in ORDERS:
        return bool(params.get("client_order_id"))
    return method not in NEVER_REPEATED
