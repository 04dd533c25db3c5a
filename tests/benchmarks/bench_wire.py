"""Durable orders over real sockets, their latency, idle sessions, and what slow readers do.

Server and load are processes of their own. The load writes WebSocket frames itself, because a full
client costs more than what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from tests.benchmarks.wire_server import key_of

ROOT = Path(__file__).parents[2]
IN_FLIGHT = 4
SLOW_PART = 10  # one reader in so many is slow
NOTICE = b'{"jsonrpc":"2.0","method"'
ORDER = (
    '{"jsonrpc":"2.0","id":%d,"method":"private/%s","params":{"instrument_name":'
    '"%s_USDC-PERPETUAL","amount":%s,"type":"limit","price":%s,"client_order_id":"%d-%d"}}'
)
RUNS = count(1)
BOOKS = (("BTC", "0.01", 117_000), ("ETH", "0.1", 4_100), ("SOL", "1", 205))


class Server:
    """A running `wire_server`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.port = int(process.stdout.readline())

    def ask(self, question: str) -> list[float]:
        """The numbers that it answers."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return [float(word) for word in self.process.stdout.readline().split()]


@contextmanager
def served(kind: str, accounts: int = 0, cycle_s: float = 0.0) -> Iterator[Server]:
    """Start a server, on a journal in the working directory's file system; kill it after."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        command = [sys.executable, "-m", "tests.benchmarks.wire_server", kind,
                   str(Path(folder) / "journal"), str(accounts), str(cycle_s)]  # fmt: skip
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield Server(process)
        finally:
            process.kill()
            process.communicate()


def frame_of(text: str) -> bytes:
    """A masked text frame; a mask of zeros leaves the text as it is."""
    data = text.encode()
    if len(data) < 126:
        return bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data
    return b"\x81\xfe" + len(data).to_bytes(2, "big") + bytes(4) + data


class Client(asyncio.Protocol):
    """One WebSocket; `replies` are the times at which answers came, notices are only counted."""

    def __init__(self) -> None:
        self.replies: deque[float] = deque()
        self.latencies: list[float] = []
        self.sent: deque[float] = deque()
        self.refused: list[bytes] = []
        self.notices = 0
        self.on_reply: Any = None
        self.opened = asyncio.get_running_loop().create_future()
        self._buffer = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for a WebSocket."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        key = base64.b64encode(bytes(16)).decode()
        transport.write(
            f"GET /ws/api/v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def connection_lost(self, error: Exception | None) -> None:
        """Nobody closes these sockets but us, or a venue that finds us slow."""
        self.on_reply = None

    def data_received(self, data: bytes) -> None:
        """Split into frames."""
        buffer = self._buffer
        buffer += data
        if not self.opened.done():
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            assert buffer.startswith(b"HTTP/1.1 101"), bytes(buffer[:200])
            del buffer[: end + 4]
            self.opened.set_result(None)
        at = 0
        while len(buffer) - at >= 2:
            length, start = buffer[at + 1], at + 2
            if length == 126:
                length, start = int.from_bytes(buffer[at + 2 : at + 4], "big"), at + 4
            elif length == 127:
                length, start = int.from_bytes(buffer[at + 2 : at + 10], "big"), at + 10
            if len(buffer) < start + length:
                break
            if buffer[at] == 0x81:
                self._frame(bytes(buffer[start : start + 60]))
            at = start + length
        del buffer[:at]

    def _frame(self, begin: bytes) -> None:
        if begin.startswith(NOTICE):
            self.notices += 1
            return
        if b'"error"' in begin:
            self.refused.append(begin)
        if self.sent:
            self.latencies.append(time.perf_counter() - self.sent.popleft())
        if self.on_reply is not None:
            self.on_reply(self)

    def send(self, frame: bytes) -> None:
        """Send one request, noting when."""
        self.sent.append(time.perf_counter())
        self.transport.write(frame)

    async def ask(self, method: str, **params: object) -> None:
        """A request whose answer only has to come."""
        answered = asyncio.get_running_loop().create_future()
        self.on_reply = lambda _: answered.done() or answered.set_result(None)
        body = {"jsonrpc": "2.0", "id": 0, "method": method, "params": params}
        self.send(frame_of(json.dumps(body)))
        await answered
        self.on_reply = None
        self.latencies.clear()
        assert not self.refused, self.refused


@asynccontextmanager
async def sockets(server: Server, number: int) -> AsyncIterator[list[Client]]:
    """So many open sockets, not logged in."""
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    try:
        for _ in range(number):
            _, client = await loop.create_connection(Client, "127.0.0.1", server.port)
            clients.append(client)
            await client.opened
        yield clients
    finally:
        for client in clients:
            client.transport.abort()
        await asyncio.sleep(0.01)


@asynccontextmanager
async def sessions(server: Server, number: int, first: int = 0) -> AsyncIterator[list[Client]]:
    """So many sessions, each of its own account."""
    async with sockets(server, number) as clients:
        for account, client in enumerate(clients, first):
            _, key, secret = key_of(account)
            await client.ask(
                "public/auth", grant_type="client_credentials", client_id=key, client_secret=secret
            )
            await client.ask("private/cancel_all")
        yield clients


def orders_of(number: int, orders: int) -> list[bytes]:
    """Frames of limit orders around the index: both sides, three perpetuals, new ids each time."""
    frames, run = [], next(RUNS)
    for order in range(orders):
        base, amount, index = BOOKS[(number + order) % 3]
        side = "buy" if (number + order // 3) % 2 else "sell"
        price = index * (1 + (order % 7 - 3) * 0.002)
        price = round(price) if base != "SOL" else round(price, 1)
        frames.append(frame_of(ORDER % (order, side, base, amount, price, run, order)))
    return frames


class Figures(NamedTuple):
    """Answers a second, and latencies in ms."""

    rate: float
    p50_ms: float
    p99_ms: float


def figures(clients: list[Client], answers: int, seconds: float) -> Figures:
    """Of all clients; every answer must have come, and none a refusal."""
    latencies = [1000 * s for client in clients for s in client.latencies]
    assert len(latencies) == answers, f"{len(latencies)} answers of {answers}"
    assert not any(client.refused for client in clients), clients[0].refused[:1]
    return Figures(answers / seconds, median(latencies), quantiles(latencies, n=100)[98])


async def saturate(clients: list[Client], each: int) -> Figures:
    """Every client keeps `IN_FLIGHT` orders on the way until it has sent `each`."""
    left = len(clients) * each
    done = asyncio.Event()
    frames = {client: iter(orders_of(n, each)) for n, client in enumerate(clients)}

    def on_reply(client: Client) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()
        frame = next(frames[client], None)
        if frame is not None:
            client.send(frame)

    began = time.perf_counter()
    for client in clients:
        client.on_reply = on_reply
        for _ in range(min(IN_FLIGHT, each)):
            client.send(next(frames[client]))
    await done.wait()
    return figures(clients, len(clients) * each, time.perf_counter() - began)


async def paced(clients: list[Client], each: int, rate: float) -> Figures:
    """All clients in turn, so many orders a second in all, whether answered or not."""
    frames = [orders_of(n, each) for n in range(len(clients))]
    began = time.perf_counter()
    for number in range(each * len(clients)):
        turn, who = divmod(number, len(clients))
        while (ahead := began + number / rate - time.perf_counter()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(ahead)
        clients[who].send(frames[who][turn])
        if number % 16 == 0:
            await asyncio.sleep(0)
    while any(client.sent for client in clients):  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    return figures(clients, each * len(clients), time.perf_counter() - began)


async def echoed(server: Server, connections: int, each: int) -> Figures:
    """Saturated figures without a venue."""
    async with sockets(server, connections) as clients:
        return await saturate(clients, each)


async def saturated(server: Server, connections: int, each: int) -> Figures:
    """Saturated figures of fresh sessions."""
    async with sessions(server, connections) as clients:
        return await saturate(clients, each)


async def at_pace(server: Server, connections: int, each: int, rate: float) -> Figures:
    """Figures of fresh sessions at a given rate."""
    async with sessions(server, connections) as clients:
        return await paced(clients, each, rate)


async def beside_slow_readers(
    server: Server, connections: int, each: int, *, slow: bool
) -> Figures:
    """Orders of nine in ten sessions, while the tenth listens to everything and does not read."""
    idle = connections // SLOW_PART
    channels = [f"{kind}.{base}_USDC-PERPETUAL.raw" for kind in ("book", "ticker", "trades")
                for base, _, _ in BOOKS]  # fmt: skip
    async with (
        sessions(server, idle, connections - idle) as listeners,
        sessions(server, connections - idle) as traders,
    ):
        for client in listeners:
            await client.ask("public/subscribe", channels=channels)
            if slow:
                client.transport.pause_reading()
        return await saturate(traders, each)


async def memory_of_idle(server: Server, number: int, *, log_in: bool) -> float:
    """KiB of the server for each session that is open and says nothing."""
    async with sockets(server, 10):
        before = server.ask("memory")[0]
        async with (sessions if log_in else sockets)(server, number):
            await asyncio.sleep(0.5)
            return max(0.1, (server.ask("memory")[0] - before) / number / 1024)


def row(name: str, ours: float, baseline: float, unit: str, against: str, said: str) -> dict:
    """One row of `uncross bench`."""
    return {"name": name, "ours": ours, "baseline": baseline, "unit": unit,
            "ratio": ours / baseline, "baseline_name": against, "conditions": said}  # fmt: skip


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Orders a second and latencies over 200 sockets, memory of idle sessions, slow readers."""
    sockets_open, each, idle, cycle_s = (40, 10, 100, 0.25) if quick else (200, 150, 1_000, 0.5)
    load = sockets_open, each
    orders = f"{sockets_open} connections, {each} orders each"
    with served("echo") as server:
        plain = asyncio.run(echoed(server, *load))
        plain_kib = asyncio.run(memory_of_idle(server, idle, log_in=False))
    with served("venue", idle) as server:
        kib = asyncio.run(memory_of_idle(server, idle, log_in=True))
        alone = asyncio.run(saturated(server, *load))
        rate = min(10_000.0, alone.rate / 2)
        calm = asyncio.run(at_pace(server, *load, rate))
    with served("venue", sockets_open, cycle_s) as server:
        beside = asyncio.run(saturated(server, *load))
        busy = asyncio.run(at_pace(server, *load, rate))
        reading = asyncio.run(beside_slow_readers(server, *load, slow=False))
        slow = asyncio.run(beside_slow_readers(server, *load, slow=True))
        cycles, longest_s = server.ask("cycles")
    told = (
        f"journaled and synced before the reply, full order object; {orders}, {IN_FLIGHT} under way"
    )
    cycle = f"the demo venue runs a cycle every {cycle_s} s on the same loop"
    pace = f"{rate:,.0f} orders/s whether answered or not, {orders}"
    return [
        row("durable orders over sockets", alone.rate, plain.rate, "orders/s",
            "echo of as many bytes by aiohttp, no venue",
            f"{told}; p50 {alone.p50_ms:.1f} ms, p99 {alone.p99_ms:.1f} ms at saturation"),
        row("durable orders over sockets, with cycles", beside.rate, alone.rate, "orders/s",
            "without cycles",
            f"{told}; {cycle}; p50 {beside.p50_ms:.1f} ms, p99 {beside.p99_ms:.1f} ms"),
        row("p99 of an order", calm.p99_ms, calm.p50_ms, "ms", "p50 of the same orders", pace),
        row("p99 of an order, with cycles", busy.p99_ms, calm.p99_ms, "ms", "without cycles",
            f"{pace}; {cycle}: {cycles:.0f} of them, the longest {1000 * longest_s:.0f} ms; "
            f"p50 {busy.p50_ms:.1f} ms"),
        row("memory of an idle session", kib, plain_kib, "KiB",
            "an idle WebSocket of aiohttp", f"{idle} sessions, each logged in; resident memory"),
        row("orders beside slow readers", slow.rate, reading.rate, "orders/s",
            "the same listeners, reading",
            f"one session in {SLOW_PART} listens to nine channels and does not read; {cycle}; "
            f"p99 {slow.p99_ms:.1f} against {reading.p99_ms:.1f} ms"),
    ]  # fmt: skip


if __name__ == "__main__":
    for result in run("--quick" in sys.argv):
        print(f"{result['name']}: {result['ours']:,.1f} {result['unit']}, {result['ratio']:.2f}x")
        print(f"  {result['baseline_name']} ({result['baseline']:,.1f}); {result['conditions']}")
