"""JSON-RPC over frames: each answer finds its request, numbers keep their digits."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec
import pytest

from clients import AnswerUnexpected, ConnectionLost, VenueRefused
from clients.frames import FrameTransport, encode_request


class Pipe:
    """Frames under test control; an Exception in `inbox` is raised to the reader."""

    def __init__(self) -> None:
        self.outbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.inbox: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self.closed = 0

    async def send(self, frame: bytes) -> None:
        self.outbox.put_nowait(frame)

    async def receive(self) -> bytes:
        frame = await self.inbox.get()
        if isinstance(frame, Exception):
            raise frame
        return frame

    async def close(self) -> None:
        self.closed += 1

    def answer(self, request_id: int, body: str) -> None:
        self.inbox.put_nowait(f'{{"jsonrpc":"2.0","id":{request_id},{body}}}'.encode())

    def notify(self, channel: str, data: str) -> None:
        self.inbox.put_nowait(
            f'{{"method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}'.encode()
        )


async def started(transport: FrameTransport, pipe: Pipe, *methods: str) -> list[asyncio.Task]:
    tasks = [asyncio.create_task(transport.request(method, {})) for method in methods]
    for _ in methods:
        await pipe.outbox.get()
    return tasks


def test_decimals_are_written_as_plain_numbers() -> None:
    frame = encode_request(7, "private/buy", {"amount": Decimal("0.10"), "price": Decimal("1E-8")})
    sent = msgspec.json.Decoder(float_hook=str).decode(frame)
    assert sent == {
        "jsonrpc": "2.0", "id": 7, "method": "private/buy",
        "params": {"amount": "0.10", "price": "1E-8"},
    }  # fmt: skip


async def test_answers_in_any_order_find_their_requests() -> None:
    pipe = Pipe()
    transport = FrameTransport(pipe)
    first, second = await started(transport, pipe, "a", "b")
    pipe.answer(2, '"result":{"x":0.1}')
    pipe.answer(1, '"result":100000000.00000001')
    assert await first == Decimal("100000000.00000001")
    assert await second == {"x": Decimal("0.1")}
    await transport.close()


async def test_an_error_is_raised_at_its_request_only() -> None:
    pipe = Pipe()
    transport = FrameTransport(pipe)
    first, second = await started(transport, pipe, "a", "b")
    pipe.answer(1, '"error":{"code":10009,"message":"not_enough_funds","data":{"param":"amount"}}')
    pipe.answer(2, '"result":null')
    with pytest.raises(VenueRefused) as caught:
        await first
    assert (caught.value.code, caught.value.data) == (10009, {"param": "amount"})
    assert await second is None
    await transport.close()


async def test_notifications_keep_their_order_and_other_frames_are_passed_over() -> None:
    pipe = Pipe()
    transport = FrameTransport(pipe)
    pipe.notify("a", "1")
    pipe.inbox.put_nowait(b'{"method":"heartbeat","params":{"type":"heartbeat"}}')
    pipe.answer(99, '"result":"nobody asked"')
    pipe.notify("b", '{"y":2.50}')
    pipe.inbox.put_nowait(b"")
    assert [notice async for notice in transport.notifications()] == [
        ("a", 1), ("b", {"y": Decimal("2.50")}),
    ]  # fmt: skip
    await transport.close()


@pytest.mark.parametrize("end", [b"", EOFError(), ConnectionResetError()])
async def test_the_end_of_the_connection_fails_what_waits(end: bytes | Exception) -> None:
    pipe = Pipe()
    transport = FrameTransport(pipe)
    (waiting,) = await started(transport, pipe, "a")
    pipe.inbox.put_nowait(end)
    with pytest.raises(ConnectionLost):
        await waiting
    with pytest.raises(ConnectionLost):
        await transport.request("b", {})
    await transport.close()
    await transport.close()
    assert pipe.closed == 2


async def test_a_frame_that_is_no_json_ends_the_connection_loudly() -> None:
    pipe = Pipe()
    transport = FrameTransport(pipe)
    (waiting,) = await started(transport, pipe, "a")
    pipe.inbox.put_nowait(b"<html>")
    with pytest.raises(AnswerUnexpected, match="no JSON"):
        await waiting
    with pytest.raises(AnswerUnexpected, match="no JSON"):
        await anext(transport.notifications())
    await transport.close()
