"""JSON-RPC 2.0 over anything that carries frames: requests, their answers, notifications."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Protocol

import msgspec

from clients.errors import AnswerUnexpected, ConnectionLost, VenueRefused

_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode

_END = ("", None)
Decode = Callable[[bytes], dict[str, object]]


class Frames(Protocol):
    """A two-way pipe of whole JSON texts."""

    async def send(self, frame: bytes) -> None:
        """Pass one frame to the other side."""
        ...

    async def receive(self) -> bytes:
        """The next frame; `EOFError` or `ConnectionError` when there will be no more."""
        ...


def encode_request(request_id: int, method: str, params: dict[str, object]) -> bytes:
    """One request as a frame; decimals are written as plain JSON numbers."""
    return _encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def decode_frame(frame: bytes | str) -> dict[str, object]:
    """One frame as a JSON object, fractions as `Decimal`. `AnswerUnexpected` if it is none."""
    try:
        message = _decode(frame)
    except msgspec.DecodeError as error:
        raise AnswerUnexpected(f"the venue sent a frame that is no JSON: {error}") from error
    if not isinstance(message, dict):
        raise AnswerUnexpected("the venue sent a frame that is no JSON object")
    return message


def refusal(error: object) -> VenueRefused:
    """The error object of an answer as an exception."""
    if not isinstance(error, dict) or not isinstance(error.get("code"), int):
        raise AnswerUnexpected(f"an error without a code: {error!r}")
    return VenueRefused(error["code"], str(error.get("message", "")), error.get("data"))


class FrameTransport:
    """A `Transport` over `Frames`. Answers may come in any order; each finds its request."""

    def __init__(self, frames: Frames, decode: Decode | None = None) -> None:
        """`decode`: what reads a frame, `decode_frame` if not given; may give one object twice."""
        self._frames = frames
        self._decode = decode or decode_frame
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[object]] = {}
        self._notices: asyncio.Queue[tuple[str, object]] = asyncio.Queue()
        self._closed = False
        self._failure: Exception | None = None
        self._reader: asyncio.Task[None] | None = None

    def _start_reading(self) -> None:
        if self._reader is None and not self._closed:
            self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            while frame := await self._frames.receive():
                self._take(self._decode(frame))
        except (EOFError, ConnectionError):
            pass
        except AnswerUnexpected as error:
            self._failure = error
        finally:
            self._end()

    def _take(self, message: dict[str, object]) -> None:
        if "id" in message and ("result" in message or "error" in message):
            request_id = message["id"]
            future = self._waiting.pop(request_id, None) if isinstance(request_id, int) else None
            if future is None or future.done():
                return  # its caller gave up waiting
            if "error" in message:
                future.set_exception(refusal(message["error"]))
            else:
                future.set_result(message["result"])
            return
        params = message.get("params")
        if message.get("method") == "subscription" and isinstance(params, dict):
            self._notices.put_nowait((str(params.get("channel")), params.get("data")))

    def _end(self) -> None:
        if self._closed:
            return
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(self._failure or ConnectionLost("the connection ended"))
        self._notices.put_nowait(_END)

    async def request(self, method: str, params: dict[str, object]) -> object:
        """The venue's `result`; raises `VenueRefused`, or `ConnectionLost` if none will come."""
        self._start_reading()
        if self._closed:
            raise self._failure or ConnectionLost("the connection ended")
        request_id = self._next_id
        self._next_id += 1
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        try:
            await self._frames.send(encode_request(request_id, method, params))
        except (EOFError, ConnectionError) as error:
            self._waiting.pop(request_id, None)
            raise ConnectionLost(f"{method} was not sent: {error}") from error
        return await future

    async def notifications(self) -> AsyncIterator[tuple[str, object]]:
        """(channel, data) as they arrive; for one reader. Raises what broke the connection."""
        self._start_reading()
        while (notice := await self._notices.get()) is not _END:
            yield notice
        self._notices.put_nowait(_END)  # a second reader ends as well
        if self._failure is not None:
            raise self._failure

    async def close(self) -> None:
        """Stop reading, close the frames, fail what still waits with `ConnectionLost`."""
        self._end()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        close = getattr(self._frames, "close", None)
        if close is not None:
            closing = close()
            if closing is not None:
                await closing
