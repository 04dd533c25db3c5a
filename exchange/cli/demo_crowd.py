"""The demo's crowd, in this process or as WebSocket clients in a second one.

Both bring the bots to the market, say when all have spoken for the running batch, and end.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import exchange
from clients.crowd import Crowd, Mix, run
from clients.memory import connector
from exchange.clock import RealClock
from exchange.gateway.authentication import Authenticator
from exchange.gateway.keys import Key, KeyRing, new_key, write_keys
from exchange.gateway.memory import MemoryConnection, MemoryHub
from exchange.gateway.server import GatewayServer

if TYPE_CHECKING:
    from exchange.gateway.batch_view import Readiness
    from exchange.gateway.dispatch import Dispatcher
    from exchange.sequencer import Sequencer

VENUE_FAILED = "the venue failed"  # how the hub begins when a request of a client broke it
ROUNDS_MAX = 20_000  # turns of the event loop that a batch waits for its bots
ARRIVAL_S = 60.0  # until the second process has started and every bot is connected
SPEAK_S = 10.0  # after that a batch waits so long for bots that say nothing
LEAVE_S = 10.0
PATIENCE_S = 5  # of the bots, for a market that does not answer


class CrowdFailed(RuntimeError):
    """The process of the bots ended before the market; says what it said last."""


class Attendance(Protocol):
    """How a crowd takes part in a market."""

    async def arrive(self) -> None:
        """Bring the bots to the market."""
        ...

    async def all_spoken(self) -> bool:
        """Wait until every bot has spoken for the running batch, or for as long as is allowed.

        False where the crowd is gone; `leave` then says why.
        """
        ...

    async def leave(self) -> None:
        """End the crowd's part; raises what broke it. May be called twice."""
        ...


class InProcess:
    """Bots as tasks of this loop. No clock is read, so the same seed gives the same market."""

    def __init__(self, crowd: Crowd, dispatcher: Dispatcher) -> None:
        self.crowd, self.hub = crowd, MemoryHub(dispatcher)
        self._connections: list[MemoryConnection] = []
        self._running: asyncio.Task[object] | None = None

    def join(self, name: str) -> MemoryConnection:
        """Open an account of this name, and connect to it."""
        open_account(self.hub.dispatcher.sequencer, name)
        connection = self.hub.connect(name)
        self._connections.append(connection)
        return connection

    async def arrive(self) -> None:
        """Start the bots; they connect as the batch runs."""
        self._running = asyncio.create_task(run(self.crowd, connector(self.join)))

    async def all_spoken(self) -> bool:
        """Let the loop turn until all are ready."""
        assert self._running is not None
        await self.hub.all_ready(ROUNDS_MAX, sessions=len(self.crowd.bots))
        return not self._running.done()

    async def leave(self) -> None:
        """Disconnect everybody; a bot's error is raised with what the venue said of it."""
        for connection in list(self.hub.connections):
            connection.close()
        running, self._running = self._running, None
        if running is None:
            return
        try:
            await running
        except Exception as error:
            for connection in self._connections:
                if connection.closed_because.startswith(VENUE_FAILED):
                    error.add_note(connection.closed_because)
            raise
        finally:
            running.cancel()


class OverSockets:
    """Bots as WebSocket clients in a process of their own, each with its key.

    The order in which their requests arrive is chance, so two runs differ; each journal verifies.
    """

    def __init__(self, crowd: Crowd, mix: Mix, seed: int, dispatcher: Dispatcher,
                 keys: KeyRing) -> None:  # fmt: skip
        self.crowd, self.mix, self.seed = crowd, mix, seed
        self.dispatcher, self.keys = dispatcher, keys
        self.server = GatewayServer(dispatcher)
        self._files = tempfile.TemporaryDirectory(prefix="uncross-crowd-")
        self._process: subprocess.Popen[str] | None = None
        self._watching: asyncio.Task[str] | None = None
        self._sequencing: asyncio.Task[None] | None = None
        self._cap_s = ARRIVAL_S

    async def arrive(self) -> None:
        """Open accounts with keys, open the doors, and start the second process."""
        folder, keys = Path(self._files.name), dict[str, Key]()
        for name in self.crowd.names:
            open_account(self.dispatcher.sequencer, name)
            key = new_key(name)
            self.keys.add(key)
            keys[key.id] = key
        write_keys(folder / "keys.json", keys)
        write_mix(folder / "crowd.toml", self.mix)
        self._sequencing = asyncio.create_task(self.dispatcher.sequencer.run())
        await self.server.start()
        self._process = start_bots(self.server.websocket_url, folder, self.seed)
        self._watching = asyncio.create_task(asyncio.to_thread(_last_words, self._process))

    async def all_spoken(self) -> bool:
        """Wait for the crowd, but no longer than the cap; the first batch waits for arrivals."""
        assert self._watching is not None
        assert self._sequencing is not None
        spoken = asyncio.create_task(
            every_session_spoke(self.dispatcher.readiness, len(self.crowd.bots), self._cap_s)
        )
        self._cap_s = SPEAK_S
        await asyncio.wait(
            {spoken, self._watching, self._sequencing}, return_when=asyncio.FIRST_COMPLETED
        )
        if not spoken.done():
            spoken.cancel()
        return not (self._watching.done() or self._sequencing.done())

    async def leave(self) -> None:
        """End the second process, close the doors; raises `CrowdFailed` if it had ended before."""
        process, self._process = self._process, None
        if process is None:
            return
        assert self._watching is not None
        failed = self._watching.done()
        if not failed:
            process.terminate()
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._watching), LEAVE_S)
        process.kill()
        words = await self._watching
        await self.server.stop()
        self._files.cleanup()
        await self._stop_sequencing()
        if failed:
            raise CrowdFailed(f"the bots ended early, with {process.returncode}: {words}")

    async def _stop_sequencing(self) -> None:
        """Raises what stopped the sequencer, if something did."""
        assert self._sequencing is not None
        self._sequencing.cancel()
        with suppress(asyncio.CancelledError):
            await self._sequencing


def over_sockets_keys() -> tuple[KeyRing, Authenticator]:
    """An empty ring, and what recognises its keys by the wall clock."""
    keys = KeyRing()
    return keys, Authenticator(keys, RealClock())


def open_account(sequencer: Sequencer, name: str) -> None:
    """Open an account, at once."""
    from exchange.core.commands import OpenAccount

    sequencer.submit(OpenAccount, name)
    sequencer.flush()


async def every_session_spoke(readiness: Readiness, sessions: int, cap_s: float) -> bool:
    """Wait until so many sessions are registered and all have spoken for the running batch.

    Returns whether that came true before `cap_s` of wall time had passed.
    """
    try:
        async with asyncio.timeout(cap_s):
            while len(readiness.registered) < sessions or not readiness.complete:
                readiness.changed.clear()
                await readiness.changed.wait()
    except TimeoutError:
        return False
    return True


def write_mix(path: Path, mix: Mix) -> None:
    """A crowd file."""
    lines = [f"{field.name} = {getattr(mix, field.name)}" for field in fields(mix)]
    path.write_text("\n".join(lines) + "\n", "utf-8")


def start_bots(url: str, folder: Path, seed: int) -> subprocess.Popen[str]:
    """`uncross bots` in a process of its own, with the crowd and keys in `folder`."""
    root = str(Path(exchange.__path__[0]).parent)
    paths = [root, os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(  # noqa: S603 - ourselves
        [
            sys.executable, "-m", "exchange", "bots", "--url", url, "--seed", str(seed),
            "--crowd", str(folder / "crowd.toml"), "--keys", str(folder / "keys.json"),
            "--patience", str(PATIENCE_S),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,  # an interrupt from the terminal is the market's to handle
    )  # fmt: skip


def _last_words(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a process; the last lines that it wrote to its error stream."""
    _, errors = process.communicate()
    return "\n".join(errors.splitlines()[-20:])
