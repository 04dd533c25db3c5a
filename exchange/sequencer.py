"""The single writer: stamps commands, journals them, applies them, releases the replies.

Whatever queued while the last commit ran is one batch: one transaction, one sync to disk. Nothing
leaves before its command is durable. Between the seal and the end of a revaluation requests wait
and join the next batch. Any error while committing stops the sequencer for good: what the disk
holds is then unknown, and only recovery can tell.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from exchange.clock import Clock
from exchange.core.commands import Command, CommandBase, Revalue, Seal, Uncross, encode_command
from exchange.core.engine import Engine
from exchange.core.events import Event
from exchange.core.stored.state import Phase
from exchange.storage.recovery import STATE_HASH_KIND, encode_state_hash

Entry = tuple[int, str, bytes]  # time_ns, kind, payload
Listener = Callable[[Command, list[Event]], None]
Request = tuple[type[CommandBase], tuple[object, ...], asyncio.Future[list[Event]]]
BATCH_COMMANDS_MAX = 4096


class DurableLog(Protocol):
    """Where entries become durable: `Journal`, or nothing at all in a throw-away market."""

    def append(self, entries: list[Entry]) -> int:
        """Make the entries durable, all or none; returns the last sequence number."""
        ...


class SequencerStopped(RuntimeError):
    """A commit failed, so nothing more is accepted; the journal decides what happened."""


class Sequencer:
    """Turns requests into journaled, applied commands, strictly one after another."""

    def __init__(self, engine: Engine, log: DurableLog | None, clock: Clock) -> None:
        self.engine, self.log, self.clock = engine, log, clock
        self.listeners: list[Listener] = []
        self.stopped: BaseException | None = None
        self._waiting: deque[Request] = deque()
        self._wake = asyncio.Event()
        self._note: Entry | None = None

    def submit(self, kind: type[CommandBase], *fields: object) -> asyncio.Future[list[Event]]:
        """Queue a command without its time; the future holds its events once it is durable."""
        if self.stopped is not None:
            raise SequencerStopped(str(self.stopped))
        future: asyncio.Future[list[Event]] = asyncio.get_running_loop().create_future()
        self._waiting.append((kind, fields, future))
        self._wake.set()
        return future

    def flush(self) -> int:
        """Commit and apply what waits, if the venue is collecting; returns how many commands."""
        if self.engine.state.phase != Phase.COLLECTING:
            return 0
        total = 0
        while self._waiting:
            taken = [
                self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH_COMMANDS_MAX))
            ]
            now = self.now_ns()
            commands = [kind(now, *fields) for kind, fields, _ in taken]  # type: ignore[arg-type]
            try:
                results = self.commit(commands)  # type: ignore[arg-type]
            except BaseException as error:
                self._fail([*taken, *self._waiting], error)
                raise
            for (_, _, future), events in zip(taken, results, strict=True):
                if not future.done():
                    future.set_result(events)
            total += len(taken)
        self._wake.clear()
        return total

    def _fail(self, requests: list[Request], error: BaseException) -> None:
        """Nobody learns whether his request was done: only recovery can tell."""
        self._waiting.clear()
        for _, _, future in requests:
            if not future.done():
                future.set_exception(SequencerStopped(str(error)))

    async def run(self) -> None:
        """Flush whenever something waits, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.flush()
            await asyncio.sleep(0)

    def now_ns(self) -> int:
        """The time to stamp: the clock's, never before the last command's."""
        return max(self.clock.now_ns(), self.engine.state.time_ns)

    def commit(self, commands: list[Command]) -> list[list[Event]]:
        """Make commands durable in one transaction, then apply them in order."""
        if self.stopped is not None:
            raise SequencerStopped(str(self.stopped))
        if self.log is not None:
            entries = [(command.time_ns, *encode_command(command)) for command in commands]
            if self._note is not None:
                entries.insert(0, self._note)
            with self._fail_stop():
                self.log.append(entries)
            self._note = None
        results = []
        with self._fail_stop():
            for command in commands:
                events = self.engine.apply(command)
                results.append(events)
                for listener in self.listeners:
                    listener(command, events)
        return results

    @contextmanager
    def _fail_stop(self) -> Iterator[None]:
        """Whatever goes wrong inside stops the sequencer for good."""
        try:
            yield
        except BaseException as error:
            self.stopped = error
            self._fail(list(self._waiting), error)
            raise

    def seal_and_uncross(self) -> list[Event]:
        """Close the running batch and clear it; requests wait from here on."""
        now, batch = self.now_ns(), self.engine.state.batch
        sealed, crossed = self.commit([Seal(now, batch), Uncross(now, batch)])
        return sealed + crossed

    def revalue(self, marks: Revalue) -> list[Event]:
        """Finish the cycle with its marks; the state hash follows as a note of the next batch."""
        events = self.commit([marks])[0]
        state = self.engine.state
        note = encode_state_hash(state.cycle, state.last_hash)
        self._note = (state.time_ns, STATE_HASH_KIND, note)
        if self._waiting:  # requests that came while the cycle was open
            self._wake.set()
        return events

    def write_note(self) -> None:
        """Journal the last cycle's hash now (before closing)."""
        if self._note is not None and self.log is not None:
            note, self._note = self._note, None
            self.log.append([note])
