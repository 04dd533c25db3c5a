"""Check a journal by replaying it from the first record, trusting nothing but its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exchange.storage.faults import JournalCorrupt, ReplayDiverged, StorageRefused
from exchange.storage.journal import Journal
from exchange.storage.recovery import Decode, ReplayableEngine, held_mark, replay_record

_PROGRESS_RECORDS = 10_000

Progress = Callable[[int, int], None]  # records done, records in all


@dataclass
class Verification:
    """The outcome: `equal` if every record is in place and every noted hash was reached again.

    `records` were replayed, `cycles` hashes compared. On refusal `sequence` is the record where
    the fault shows (0 if it is not in a record), `cycle` the one whose hash differs or else the
    last finished, and `what` says what is wrong.
    """

    records: int = 0
    cycles: int = 0
    equal: bool = False
    sequence: int = 0
    cycle: int = 0
    what: str = ""


def verify(
    path: str | Path,
    engine_type: type[ReplayableEngine],
    decode: Decode | None = None,
    progress: Progress | None = None,
    *,
    allow_missing_watermark: bool = False,
) -> Verification:
    """Replay a journal without any snapshot and compare every state hash noted in it.

    Checks numbers, types, chain and watermark. The files are opened for reading only. A bad
    journal never raises: the result says where and what.
    """
    if decode is None:
        from exchange.core.commands import decode_command

        decode = decode_command
    outcome = Verification()
    engine = engine_type()
    try:
        with Journal.open(path, read_only=True) as journal:
            held_mark(journal, allow_missing_watermark)
            _replay(journal, engine, decode, progress, outcome)
        outcome.equal = True
    except ReplayDiverged as refusal:
        outcome.sequence, outcome.cycle = refusal.sequence, refusal.cycle
        outcome.what = str(refusal)
    except JournalCorrupt as refusal:
        outcome.sequence, outcome.cycle = refusal.sequence, engine.cycle
        outcome.what = str(refusal)
    except StorageRefused as refusal:
        outcome.what = str(refusal)
    except Exception as error:  # the engine's own checks refuse a history that cannot be
        outcome.sequence, outcome.cycle = outcome.records + 1, engine.cycle
        outcome.what = f"journal record {outcome.sequence}: the engine refused it: {error!r}"
    else:
        outcome.cycle = engine.cycle
    return outcome


def _replay(
    journal: Journal,
    engine: ReplayableEngine,
    decode: Decode,
    progress: Progress | None,
    outcome: Verification,
) -> None:
    total = journal.head.sequence
    for record in journal.records():
        outcome.cycles += replay_record(engine, record, decode)
        outcome.records = record.sequence
        if progress is not None and record.sequence % _PROGRESS_RECORDS == 0:
            progress(record.sequence, total)
    if progress is not None:
        progress(total, total)
