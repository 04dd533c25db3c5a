"""One WebSocket: a reader, a writer task with a bounded outbox, and the signs of life.

The engine's loop only ever appends to the outbox. A client that does not read lets it fill up and
is then cut off, without a word: there is no room to say it in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import ClientError, WSMsgType, web

from exchange.gateway.session import Ending, Session
from exchange.gateway.wire import serve

if TYPE_CHECKING:
    from exchange.gateway.dispatch import Dispatcher
    from exchange.gateway.server import Settings

UNSUPPORTED_DATA, POLICY_VIOLATION, INTERNAL_ERROR = 1003, 1008, 1011
HEARTBEAT = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}'
TEST_REQUEST = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
ENDED = (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR)


class WebSocketConnection:
    """A client's socket from the handshake to the end. `run` is the whole of it."""

    def __init__(self, dispatcher: Dispatcher, settings: Settings,
                 failed: Callable[[BaseException], None]) -> None:  # fmt: skip
        """`failed` is told of what is no client's fault."""
        self.dispatcher, self.settings, self.failed = dispatcher, settings, failed
        self.socket = web.WebSocketResponse(
            compress=False,
            heartbeat=settings.ping_s,
            max_msg_size=settings.message_bytes_max + 1,  # aiohttp's bound is the first too long
            timeout=settings.close_s,
            writer_limit=settings.writer_bytes,
        )
        self.session = Session(None, self._notify)
        self.closed_because = ""
        self._transport: asyncio.Transport | None = None
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._ready = asyncio.Event()
        self._room = asyncio.Event()
        self._ending: Ending | None = None
        self._serving: dict[asyncio.Task[None], None] = {}
        self._beating: asyncio.Task[None] | None = None
        self._heard = False

    async def run(self, request: web.Request) -> web.WebSocketResponse:
        """Shake hands, serve until either side ends it, then forget the session."""
        self.session.address = request.remote or ""
        await self.socket.prepare(request)
        self._transport = request.transport  # type: ignore[assignment]
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            self.closed_because = self.closed_because or "closed by the client"
            try:
                # What was queued will be done, and only then is it known what there is to cancel.
                while self._serving:
                    await asyncio.wait(list(self._serving))
            finally:
                self.dispatcher.disconnect(self.session)
                tasks = [writer] if self._beating is None else [writer, self._beating]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return self.socket

    # In

    async def _read(self) -> None:
        while True:
            message = await self.socket.receive()
            if message.type is WSMsgType.TEXT:
                self._heard = True
                if self._ending is None:
                    self._serve(message.data)
                while len(self._serving) >= self.settings.requests_max:
                    self._room.clear()
                    await self._room.wait()
            elif message.type is WSMsgType.BINARY:
                await self.finish(Ending(UNSUPPORTED_DATA, "frames are text"))
            elif message.type in ENDED:
                return

    def _serve(self, frame: str) -> None:
        """Requests of one client begin in their order; those that wait do so side by side."""
        task = asyncio.create_task(serve(self.dispatcher, self.session, frame, self._put))
        self._serving[task] = None
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.pop(task, None)
        self._room.set()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._end(Ending(INTERNAL_ERROR, "the venue failed"))
            self.failed(error)
        elif self.session.ending is not None:
            self._end(self.session.ending)
        elif self.session.heartbeat_s and self._beating is None:
            self._beating = asyncio.create_task(self._beat())

    # Out

    def _notify(self, channel: str, frame: bytes) -> None:
        self._put(frame)

    def _put(self, frame: bytes) -> None:
        """Queue a frame, or cut the client off where there is no room."""
        if self.closed_because or self._ending is not None:
            return
        self._outbox_bytes += len(frame)
        if (
            len(self._outbox) >= self.settings.outbox_frames
            or self._outbox_bytes > self.settings.outbox_bytes
        ):
            self.cut("the outbox overflowed: the client reads too slowly")
            return
        self._outbox.append(frame)
        self._ready.set()

    async def _write(self) -> None:
        """Send what is queued; after the last frame of a session that ends, say why."""
        outbox, send = self._outbox, self.socket.send_frame
        try:
            while True:
                while outbox:
                    frame = outbox.popleft()
                    self._outbox_bytes -= len(frame)
                    await send(frame, WSMsgType.TEXT)
                if self._ending is not None:
                    code, reason, _ = self._ending
                    await self.socket.close(code=code, message=reason.encode())
                    return
                self._ready.clear()
                await self._ready.wait()
        except (ClientError, ConnectionError):
            self.cut("the connection broke")

    # The end

    def _end(self, ending: Ending) -> None:
        """Close after what is queued; nothing more is taken."""
        if self._ending is None and not self.closed_because:
            self._ending = ending
            self._ready.set()

    async def finish(self, ending: Ending) -> None:
        """End the session from our side once what is in hand has been answered."""
        while self._serving and not self.closed_because:
            await asyncio.wait(list(self._serving))
        self._end(ending)

    def cut(self, because: str) -> None:
        """Drop the connection with whatever waits to be sent."""
        if not self.closed_because:
            self.closed_because = because
        self._outbox.clear()
        self._outbox_bytes = 0
        if self._transport is not None:
            self._transport.abort()

    async def _beat(self) -> None:
        """Heartbeats as the client asked; who answers no test request is gone."""
        while seconds := self.session.heartbeat_s:
            self._heard = False
            await asyncio.sleep(seconds * self.settings.second_s)
            if not self.session.heartbeat_s:
                break
            if self._heard:
                self._put(HEARTBEAT)
                continue
            self._put(TEST_REQUEST)
            await asyncio.sleep(seconds * self.settings.second_s)
            if not self._heard:
                self._end(Ending(POLICY_VIOLATION, "no answer to a test request"))
                return
        self._beating = None
