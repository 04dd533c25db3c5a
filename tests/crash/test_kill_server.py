"""The serving process killed twenty times while clients trade: what it acknowledged happened, once.

One journal and one port; the clients reconnect by themselves and send again what went unanswered.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path

from clients import Order, Venue, VenueRefused
from clients.websocket import WebSocketTransport
from exchange.core.commands import PlaceOrder, decode_command
from exchange.core.engine import Engine
from exchange.core.events import OrderAccepted, OrderDone, OrdersDone
from exchange.storage.journal import Journal
from exchange.storage.recovery import recover
from replays.verify import verify
from tests.crash.serving_victim import names, secret_of

ROOT = Path(__file__).parents[2]
PERPETUAL = "BTC_USDC-PERPETUAL"
KILLS = 20
ACCOUNTS = 6
WORKERS = 3  # requests in flight, of each account
LOT = Decimal("0.001")
NOT_OPEN = (10004, 11044)  # done before the cancel came


class Server:
    """The process that forks the victims."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.recovered: list[tuple[str, int]] = []
        self.port = self.victim = 0

    def _line(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def begin(self) -> None:
        """Let a process serve; returns when it listens."""
        assert self.process.stdin is not None
        self.process.stdin.write("serve\n")
        self.process.stdin.flush()
        while (words := self._line()) and words[0] != "listening":
            self.recovered.append((words[1], int(words[2])))
        assert words, "the process ended"
        self.port, self.victim = int(words[1]), int(words[2])

    def kill(self) -> None:
        """Kill the serving process, which must have been at work."""
        os.kill(self.victim, signal.SIGKILL)
        assert self._line() == ["dead"], "it was still at work"


@contextmanager
def serving(journal: Path, port: int) -> Iterator[Server]:
    command = [sys.executable, "-W", "error", "-m", "tests.crash.serving_victim", str(journal),
               str(port), str(ACCOUNTS)]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    server = Server(process)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            if server.victim:
                os.kill(server.victim, signal.SIGKILL)
        process.kill()
        process.communicate()


class Trader:
    """One account that buys, sells and cancels as fast as it is answered, and takes notes."""

    def __init__(self, name: str, port: int, seed: int) -> None:
        url = f"ws://127.0.0.1:{port}/ws/api/v2"
        self.transport = WebSocketTransport(url, name, secret_of(name), patience_s=30.0)
        self.venue = Venue(self.transport, name)
        self.name, self.chance = name, random.Random(f"{seed}/{name}")
        self.acknowledged: dict[str, str] = {}  # client order id -> order id
        self.cancelled: set[str] = set()
        self.asked: set[str] = set()
        self.stopping = False

    async def work(self) -> None:
        """Until told to stop: an order, and perhaps its cancel."""
        while not self.stopping:
            side = self.chance.choice(("buy", "sell"))
            away = self.chance.randint(-400, 600) * (-1 if side == "buy" else 1)
            name = self.venue.next_client_order_id()
            self.asked.add(name)
            order: Order = await self.venue.order(
                side, PERPETUAL, LOT * self.chance.randint(1, 5),
                price=Decimal(100_000) + away * Decimal("0.5"), client_order_id=name,
            )  # fmt: skip
            self.acknowledged[name] = order.order_id
            if self.chance.random() < 0.5:
                await self.cancel(order.order_id)

    async def cancel(self, order_id: str) -> None:
        try:
            done = await self.venue.cancel(order_id)
        except VenueRefused as refused:
            if refused.code not in NOT_OPEN:
                raise
            return
        if done.order_state == "cancelled":
            self.cancelled.add(order_id)


async def trade_through_kills(server: Server, kills: int, chance: random.Random) -> list[Trader]:
    """Let all accounts trade while the server dies and comes back; their notes at the end."""
    traders = [Trader(name, server.port, chance.randrange(2**32)) for name in names(ACCOUNTS)]
    for trader in traders:
        await trader.venue.open()
    async with asyncio.TaskGroup() as tasks:
        for trader in traders:
            for _ in range(WORKERS):
                tasks.create_task(trader.work())
        for _ in range(kills):
            before = {trader: len(trader.acknowledged) for trader in traders}
            while any(len(t.acknowledged) == before[t] for t in traders):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.sleep(chance.uniform(0.0, 0.1))
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(server.begin)
        await asyncio.sleep(0.3)
        for trader in traders:
            trader.stopping = True
    for trader in traders:
        await trader.venue.cancel_all()
    await asyncio.sleep(0.2)  # the last batches print, and their news arrives
    for trader in traders:
        await trader.venue.close()
    return traders


class Told:
    """What the journal says, replayed from its first record by an engine of its own."""

    def __init__(self, journal: Path, recovered: list[tuple[str, int]]) -> None:
        """`recovered`: the state hash and number of records of every recovery, to be compared."""
        self.engine = Engine()
        self.orders: Counter[tuple[int, str]] = Counter()
        self.order_of: dict[tuple[int, str], str] = {}
        self.done: Counter[int] = Counter()
        expected = {records: state_hash for state_hash, records in recovered}
        with Journal.open(journal, read_only=True) as opened:
            for record in opened.records():
                if record.kind != "StateHash":
                    self._take(record.kind, record.payload)
                self.records = record.sequence
                if record.sequence in expected:
                    found = self.engine.state_hash().hex()
                    assert found == expected[record.sequence], "recovered to another state"

    def _take(self, kind: str, payload: bytes) -> None:
        command = decode_command(kind, payload)
        for event in self.engine.apply(command):
            if isinstance(event, OrderAccepted) and not event.repeated:
                assert isinstance(command, PlaceOrder)
                key = (command.account, command.client_order_id)
                self.orders[key] += 1
                self.order_of[key] = str(event.order_id)
            elif isinstance(event, OrderDone):
                self.done[event.order_id] += 1
            elif isinstance(event, OrdersDone):
                self.done.update(event.order_id.tolist())


def check_nothing_lost(told: Told, traders: list[Trader]) -> None:
    for number, trader in enumerate(traders):
        for name, order_id in trader.acknowledged.items():
            assert told.order_of[number, name] == order_id, "an acknowledged order is lost"
        for order_id in trader.cancelled:
            assert told.done[int(order_id)] == 1, "an acknowledged cancel is lost"
        mine = {name for account, name in told.orders if account == number}
        assert mine <= trader.asked
    assert set(told.orders.values()) == {1}, "an order was executed twice"
    assert max(told.done.values()) == 1


def check_in_step(engine: Engine, traders: list[Trader]) -> None:
    """What the clients gathered from their channels is what the engine holds."""
    state = engine.state
    for number, trader in enumerate(traders):
        known, pool = trader.venue.state, state.accounts.pool_of[number]
        held = LOT * int(state.positions.lots_of(pool, 0))
        assert known.positions.get(PERPETUAL, Decimal(0)) == held
        assert known.open_orders == {}
        cash_minor = state.ledger.balance(pool, 0)
        assert known.summaries["USDC"].balance * 10**6 == cash_minor


async def test_kills_lose_no_acknowledged_order_and_execute_none_twice(
    tmp_path: Path, unused_tcp_port: int
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    journal = tmp_path / "journal"
    with serving(journal, unused_tcp_port) as server:
        await asyncio.to_thread(server.begin)
        traders = await trade_through_kills(server, KILLS, chance)
        server.kill()
    assert len(server.recovered) == KILLS
    told = Told(journal, server.recovered)
    check_nothing_lost(told, traders)
    check_in_step(told.engine, traders)
    outcome = verify(journal, Engine)
    assert outcome.equal, outcome.what
    found = recover(journal, Engine)
    found.journal.close()
    assert found.snapshot_sequence > 0, "snapshots were taken, and one was used"
    assert found.engine.state_hash() == told.engine.state_hash()
    acknowledged = sum(len(trader.acknowledged) for trader in traders)
    assert acknowledged > 20 * KILLS
    assert sum(trader.transport.connections for trader in traders) == (KILLS + 1) * ACCOUNTS
    print(
        f"{acknowledged} orders, {sum(len(t.cancelled) for t in traders)} cancels, "
        f"{told.records} records"
    )
