"""The engine as a journal left it after a cycle, every state hash on the way compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from exchange.core.commands import decode_command
from exchange.core.engine import Engine
from exchange.storage.faults import StorageRefused
from exchange.storage.journal import Journal
from exchange.storage.recovery import held_mark, replay_record

_PROGRESS_RECORDS = 1000

Progress = Callable[[int, int], None]  # records done, records in all


class JournalDiffers(ValueError):
    """A journal that does not verify, or in which a cycle is not to be found: says where."""


def engine_after(
    path: str | Path, cycle: int | None = None, progress: Progress | None = None
) -> Engine:
    """Replay a journal from its first record to the end of `cycle`, or to its own end.

    Compares what `replays.verify` compares, up to there; the files are opened for reading only.
    Raises `JournalDiffers` where the journal does not verify, holds no such cycle, or ends before
    the first.
    """
    engine = Engine()
    try:
        with Journal.open(path, read_only=True) as journal:
            held_mark(journal, allow_missing=False)
            total, reached = journal.head.sequence, False
            for record in journal.records():
                noted = replay_record(engine, record, decode_command)
                reached = noted and engine.cycle == cycle
                if progress is not None and record.sequence % _PROGRESS_RECORDS == 0:
                    progress(record.sequence, total)
                if reached:
                    break
    except StorageRefused as refusal:
        raise JournalDiffers(f"{path}: does not verify: {refusal}") from refusal
    except Exception as error:  # the engine's own checks refuse a history that cannot be
        where = "; ".join(getattr(error, "__notes__", ()))
        raise JournalDiffers(f"{path}: does not verify: {error!r} {where}".rstrip()) from error
    if engine.cycle < 0:
        raise JournalDiffers(f"{path}: no cycle is finished in it")
    if cycle is not None and not reached:
        raise JournalDiffers(f"{path}: cycle {cycle} is not in it; the last is {engine.cycle}")
    return engine
