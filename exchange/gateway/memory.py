"""A transport without sockets: clients in the same process, on real or simulated time.

Frames are the same bytes that a socket would carry. A connection is used in one of two ways: as a
pipe of frames (`send`, `receive`), or by `request` and `notifications`. The outbox is bounded; a
client that lets it overflow is disconnected, so nobody slows the market down.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

import msgspec

from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.session import ALL_SCOPES, Session
from exchange.gateway.wire import encode, serve

OUTBOX_FRAMES = 10_000
ROUNDS = 10_000

Message = dict[str, object]
_decode = msgspec.json.Decoder(dict[str, object]).decode


class ConnectionClosed(EOFError):
    """The connection is over; its text says why."""


class MemoryConnection:
    """One client's end. Made by `MemoryHub.connect`."""

    def __init__(self, hub: MemoryHub, account: int | None, scopes: frozenset[str],
                 outbox_frames: int) -> None:  # fmt: skip
        self._hub = hub
        self.session = Session(account, self._notify, scopes)
        self.outbox_frames = outbox_frames
        self.closed_because = ""
        self._outbox: deque[bytes] = deque()
        self._ready = asyncio.Event()
        self._next_id = 0
        self._serving: dict[asyncio.Task[None], None] = {}

    @property
    def closed(self) -> bool:
        """Whether the connection is over."""
        return bool(self.closed_because)

    def _notify(self, channel: str, frame: bytes) -> None:
        self._put(frame)

    def _put(self, frame: bytes) -> None:
        if self.closed:
            return
        if len(self._outbox) >= self.outbox_frames:
            self._close("the outbox overflowed: the client reads too slowly")
            return
        self._outbox.append(frame)
        self._ready.set()

    async def send(self, frame: bytes) -> None:
        """Hand in one request; its answer comes by `receive`. Requests keep their order."""
        if self.closed:
            raise ConnectionClosed(self.closed_because)
        task = asyncio.create_task(serve(self._hub.dispatcher, self.session, frame, self._put))
        self._serving[task] = None
        task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            task.get_loop().call_exception_handler(
                {"message": "a request failed inside the venue", "exception": error, "task": task}
            )
            self._close(f"the venue failed: {error!r}")

    async def receive(self) -> bytes:
        """The next frame, answer or notification; `ConnectionClosed` when there are no more.

        A connection closed by its own side gives nothing more; one that the venue closed for
        being slow still gives what its outbox held.
        """
        while not self._outbox:
            if self.closed:
                raise ConnectionClosed(self.closed_because)
            self._ready.clear()
            await self._ready.wait()
        return self._outbox.popleft()

    async def request(self, method: str, params: Message | None = None) -> Message:
        """Send a request and return its answer: a JSON-RPC object with `result` or `error`."""
        if self.closed:
            raise ConnectionClosed(self.closed_because)
        self._next_id += 1
        frame = encode({"jsonrpc": "2.0", "id": self._next_id, "method": method,
                        "params": params or {}})  # fmt: skip
        return await self.request_frame(frame)

    async def request_frame(self, frame: bytes) -> Message:
        """The answer to a frame as it is, past the outbox."""
        answers: list[bytes] = []
        await serve(self._hub.dispatcher, self.session, frame, answers.append)
        if not answers:
            self._close("the venue ended the session")
            raise ConnectionClosed(self.closed_because)
        return _decode(answers[0])

    async def notifications(self) -> AsyncIterator[Message]:
        """Notifications in order of arrival, each a whole JSON-RPC object, until the end."""
        while True:
            try:
                frame = await self.receive()
            except ConnectionClosed:
                return
            yield _decode(frame)

    def take_notifications(self) -> list[Message]:
        """What has arrived and was not read yet, without waiting."""
        taken = [_decode(frame) for frame in self._outbox]
        self._outbox.clear()
        return taken

    def _close(self, because: str) -> None:
        if not self.closed:
            self.closed_because = because
            self._hub.forget(self)
            self._ready.set()

    def close(self) -> None:
        """End the connection. Orders stay. May be called twice."""
        self._close("closed by the client")
        self._outbox.clear()


class MemoryHub:
    """Accepts connections, and lets a driver on simulated time wait for its clients."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.dispatcher = dispatcher
        self.connections: dict[MemoryConnection, None] = {}

    def connect(
        self, account: str | None = None, *, scopes: frozenset[str] = ALL_SCOPES,
        outbox_frames: int = OUTBOX_FRAMES,
    ) -> MemoryConnection:  # fmt: skip
        """A connection in an account's name (None: public methods only).

        Raises `LookupError` where there is no account of that name.
        """
        number = None
        if account is not None:
            number = self.dispatcher.account_of(account)
            if number is None:
                raise LookupError(f"no account {account!r}")
        connection = MemoryConnection(self, number, scopes, outbox_frames)
        self.connections[connection] = None
        return connection

    def forget(self, connection: MemoryConnection) -> None:
        """A connection ended."""
        self.connections.pop(connection, None)
        self.dispatcher.disconnect(connection.session)

    async def all_ready(self, cap: int = ROUNDS, sessions: int = 0) -> bool:
        """Run the clients until all of them are ready, at most `cap` rounds of the event loop.

        Each round commits what waits and lets every task that can run do so once, first come
        first served; no clock is read, so the same clients always get the same rounds. Ready means:
        at least `sessions` sessions are registered and each has said so for the running batch.
        Returns whether that came true.
        """
        readiness, sequencer = self.dispatcher.readiness, self.dispatcher.sequencer
        for _ in range(cap):
            sequencer.flush()
            await asyncio.sleep(0)
            if len(readiness.registered) >= sessions and readiness.complete:
                sequencer.flush()
                return True
        return False
