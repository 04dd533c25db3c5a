"""Serving processes to be killed, one after another: the tiny venue on one journal and port.

Arguments: journal path, port, accounts (each with a key of its own name). For every line that it
reads, this process forks one that has everything loaded already; that one resumes what the journal
holds and closes a batch every 30 ms until it dies. It prints `recovered <hash> <records>` (unless
it began the journal) and `listening <port> <process>`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from exchange.clock import RealClock
from exchange.core.commands import Deposit, OpenAccount, PlaceOrder
from exchange.core.engine import Engine
from exchange.cycle_driver import CycleDriver
from exchange.feed import (
    Reading,
)
from exchange.gateway.authentication import Authenticator
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.keys import Key, KeyRing
from exchange.gateway.server import GatewayServer
from exchange.marker import Marker
from exchange.sequencer import Sequencer
from exchange.storage.recovery import create_store, recover
from exchange.storage.snapshot import Snapshot, snapshots_path, write_snapshot
from exchange.venues import load_venue
from margin.fixed_point import RATE_SCALE

BATCH_S = 0.03
SNAPSHOT_CYCLES = 40
PRICE_E8 = 100_000 * 10**8
MONEY_MINOR = 10**12
SEED = 5


def names(accounts: int) -> list[str]:
    """The accounts, which are also the identifiers of their keys."""
    return [f"account-{number}" for number in range(accounts)]


def secret_of(name: str) -> str:
    """No secret at all: this venue holds play money for a second."""
    return f"the secret of {name}"


class SteadyFeed:
    """An index that is always fresh and never moves."""

    def read(self, after_ns: int, until_ns: int) -> list[Reading]:
        """The same price, seen now."""
        return [Reading(PRICE_E8, 0, RATE_SCALE, ((until_ns, PRICE_E8),))]


async def main(path: Path, port: int, accounts: int) -> None:
    """Recover or begin, then serve."""
    resumed = path.exists()  # noqa: ASYNC240 - nothing else runs yet
    if resumed:
        found = recover(path, Engine)
        engine, journal, watermark = found.engine, found.journal, found.watermark
        print("recovered", engine.state_hash().hex(), journal.head.sequence, flush=True)
    else:
        (journal, watermark), engine = create_store(path), Engine()
    sequencer = Sequencer(engine, journal, RealClock())
    keys = KeyRing()
    dispatcher = Dispatcher(sequencer, authenticator=Authenticator(keys, RealClock()))
    driver = CycleDriver(sequencer, Marker(SteadyFeed()))  # type: ignore[arg-type]
    if resumed:
        dispatcher.rebuild()
        driver.resume()
    else:
        driver.open(load_venue("tiny"), SEED)
        for number, name in enumerate(names(accounts)):
            now = sequencer.now_ns()
            sequencer.commit([OpenAccount(now, name), Deposit(now, number, 0, MONEY_MINOR)])
    for name in names(accounts):
        keys.add(Key(name, secret_of(name), name))
    server = GatewayServer(dispatcher)
    sequencing = asyncio.create_task(sequencer.run())
    await server.start(port=port)
    print("listening", server.port, os.getpid(), flush=True)
    while not sequencing.done():
        await asyncio.sleep(BATCH_S)
        driver.close_batch()
        watermark.write(*journal.head)
        journal.checkpoint()
        if engine.cycle % SNAPSHOT_CYCLES == 0:
            head = journal.head
            write_snapshot(
                snapshots_path(path),
                Snapshot(head.sequence, head.chain, engine.state_hash(), engine.snapshot()),
            )
    await sequencing


def load() -> None:
    """Compile or load every kernel, by running a market of its own for a cycle."""
    sequencer = Sequencer(Engine(), None, RealClock())
    driver = CycleDriver(sequencer, Marker(SteadyFeed()))  # type: ignore[arg-type]
    driver.open(load_venue("tiny"), SEED)
    now = sequencer.now_ns()
    sequencer.commit([OpenAccount(now, "a"), Deposit(now, 0, 0, MONEY_MINOR)])
    sequencer.commit([PlaceOrder(now, 0, 0, 1, 200_000, 1)])
    driver.close_batch()


if __name__ == "__main__":
    load()
    for _ in sys.stdin:
        victim = os.fork()
        if victim == 0:
            asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
            os._exit(1)
        os.waitpid(victim, 0)
        print("dead", flush=True)
