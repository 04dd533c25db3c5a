"""From the files back to the engine: newest good snapshot, then the tail of the journal."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar

from exchange.storage.faults import (
    JournalCorrupt,
    JournalRefused,
    ReplayDiverged,
    SnapshotRefused,
    WatermarkMissing,
)
from exchange.storage.journal import Journal, Record
from exchange.storage.snapshot import (
    Snapshot,
    good_snapshots,
    snapshot_files,
    snapshots_path,
)
from exchange.storage.watermark import Mark, Watermark, read_mark, watermark_path

STATE_HASH_KIND = "StateHash"
_NOTE = struct.Struct(">q32s")  # cycle, state hash

Decode: TypeAlias = Callable[[str, bytes], Any]


class ReplayableEngine(Protocol):
    """What storage needs of an engine: a fold over commands that can be saved and compared.

    `EngineType()` without arguments is the engine before the first record.
    """

    cycle: int  # the last finished one
    last_state_hash: bytes  # 32 bytes, the hash at the end of that cycle

    def __init__(self) -> None: ...

    def apply(self, command: Any) -> list[Any]:
        """Apply one command."""
        ...

    def snapshot(self) -> bytes:
        """Bytes from which `restore` makes an equal engine."""
        ...

    @classmethod
    def restore(cls, data: bytes) -> Self:
        """The engine whose snapshot this is."""
        ...

    def state_hash(self) -> bytes:
        """Digest of the state as it is now, 32 bytes."""
        ...


Engine = TypeVar("Engine", bound=ReplayableEngine)


@dataclass
class Recovered(Generic[Engine]):
    """A recovered engine with its files open for writing.

    `replayed` counts the commands applied on top of the snapshot at `snapshot_sequence` (0: none).
    `refused_snapshots` says which snapshots were passed over, and why.
    """

    engine: Engine
    journal: Journal
    watermark: Watermark
    replayed: int
    snapshot_sequence: int
    refused_snapshots: list[str]


def create_store(path: str | Path) -> tuple[Journal, Watermark]:
    """A new journal and its watermark, both empty and open for writing.

    Raises JournalRefused if the journal exists, or if files of another journal lie at this path.
    """
    path = Path(path)
    leftovers = snapshot_files(snapshots_path(path))
    if leftovers and not path.exists():
        raise JournalRefused(f"{leftovers[0]}: a snapshot of a journal that is not there")
    mark_path = watermark_path(path)
    if mark_path.exists() and not path.exists() and read_mark(mark_path).sequence > 0:
        raise JournalRefused(f"{mark_path}: the watermark of a journal that is not there")
    journal = Journal.create(path)
    try:
        mark_path.unlink(missing_ok=True)
        return journal, Watermark.create(mark_path, journal.head)
    except BaseException:
        journal.close_or_remove()
        raise


def close_new_store(journal: Journal, watermark: Watermark) -> None:
    """Close files that `create_store` made; they are removed if nothing was ever journaled.

    A journal is never overwritten: one that came to nothing would only be in the way.
    """
    watermark.close()
    if journal.close_or_remove():
        watermark.path.unlink(missing_ok=True)


def recover(
    path: str | Path,
    engine_type: type[Engine],
    decode: Decode | None = None,
    *,
    allow_missing_watermark: bool = False,
    whole_chain: bool = True,
) -> Recovered[Engine]:
    """Rebuild the engine from its journal, and open the journal for writing.

    `decode` turns kind and payload into a command (`exchange.core.commands.decode_command` if not
    given). `whole_chain` reads and checks every record from the first, also those the snapshot
    covers; without it only the tail after the snapshot is read. At the end everything replayed is
    durable and the watermark stands at the head. If anything is wrong, raises a StorageRefused that
    says where, and no file has changed.
    """
    path, decode = Path(path), decode or _core_decoder()
    journal = Journal.open_locked(path)
    try:
        mark = held_mark(journal, allow_missing_watermark)
        refused: list[str] = []
        engine, start = _restored(journal, engine_type, refused)
        for record in journal.records(after=0 if whole_chain else start):
            if record.sequence > start:
                replay_record(engine, record, decode)
        journal.start_writing()
        journal.checkpoint()
        watermark = _watermark_at_head(journal, mark)
    except BaseException:
        journal.abandon()
        raise
    return Recovered(engine, journal, watermark, journal.head.sequence - start, start, refused)


def held_mark(journal: Journal, allow_missing: bool) -> Mark | None:
    """The watermark, after checking that the journal reaches it with the same chain.

    None if there is none and `allow_missing`. Raises WatermarkMissing, WatermarkRefused, or
    JournalCorrupt that names the first record missing.
    """
    try:
        mark = read_mark(watermark_path(journal.path))
    except WatermarkMissing:
        if allow_missing:
            return None
        raise
    head = journal.head
    if head.sequence < mark.sequence:
        raise JournalCorrupt(
            head.sequence + 1,
            f"missing; the watermark shows that records {head.sequence + 1} to {mark.sequence} "
            "were durable",
        )
    if journal.chain_at(mark.sequence) != mark.chain:
        raise JournalCorrupt(mark.sequence, "its chain is not the one that the watermark holds")
    return mark


def replay_record(engine: ReplayableEngine, record: Record, decode: Decode) -> bool:
    """Apply a record, or compare the state hash that it notes; True for a note.

    Raises JournalCorrupt if it cannot be decoded, ReplayDiverged if the hash differs. An exception
    of the engine passes through with a note of the record.
    """
    if record.kind == STATE_HASH_KIND:
        _compare_note(engine, record)
        return True
    try:
        command = decode(record.kind, record.payload)
    except Exception as error:
        raise JournalCorrupt(
            record.sequence, f"{record.kind} cannot be decoded: {error!r}"
        ) from error
    try:
        engine.apply(command)
    except Exception as error:
        error.add_note(f"while replaying journal record {record.sequence} ({record.kind})")
        raise
    return False


def encode_state_hash(cycle: int, state_hash: bytes) -> bytes:
    """Payload of a StateHash note: cycle as 8 bytes big-endian, then the hash of 32 bytes."""
    if len(state_hash) != 32:
        raise ValueError(f"a state hash has 32 bytes, not {len(state_hash)}")
    return _NOTE.pack(cycle, state_hash)


def _compare_note(engine: ReplayableEngine, record: Record) -> None:
    if len(record.payload) != _NOTE.size:
        raise JournalCorrupt(record.sequence, "a StateHash note has 40 bytes")
    cycle, expected = _NOTE.unpack(record.payload)
    got = engine.last_state_hash
    if engine.cycle != cycle:
        what = f"noted here, but the last cycle that the replay finished is {engine.cycle}"
        raise ReplayDiverged(cycle, expected, got, record.sequence, what)
    if got != expected:
        what = f"state hash {got.hex()} replayed, {expected.hex()} in the journal"
        raise ReplayDiverged(cycle, expected, got, record.sequence, what)


def _restored(
    journal: Journal, engine_type: type[Engine], refused: list[str]
) -> tuple[Engine, int]:
    """The engine of the newest good snapshot and its sequence, or a new engine and 0."""
    head = journal.head
    for snapshot in good_snapshots(snapshots_path(journal.path), refused):
        if snapshot.sequence > head.sequence:
            raise JournalCorrupt(
                head.sequence + 1,
                f"missing; a snapshot was taken after record {snapshot.sequence}",
            )
        try:
            return _engine_of(snapshot, journal, engine_type), snapshot.sequence
        except SnapshotRefused as refusal:
            refused.append(str(refusal))
    return engine_type(), 0


def _engine_of(snapshot: Snapshot, journal: Journal, engine_type: type[Engine]) -> Engine:
    where = f"snapshot after record {snapshot.sequence}"
    if journal.chain_at(snapshot.sequence) != snapshot.chain:
        raise SnapshotRefused(f"{where}: its chain is not the journal's")
    try:
        engine = engine_type.restore(snapshot.engine)
        state_hash = engine.state_hash()
    except Exception as error:  # another version's snapshot may fail in any way
        raise SnapshotRefused(f"{where}: cannot be restored ({error!r})") from error
    if state_hash != snapshot.state_hash:
        raise SnapshotRefused(f"{where}: the restored engine's state hash differs")
    return engine


def _watermark_at_head(journal: Journal, mark: Mark | None) -> Watermark:
    path, head = watermark_path(journal.path), journal.head
    if mark is None:
        return Watermark.create(path, head)
    watermark = Watermark.open(path)
    watermark.write(*head)
    return watermark


def _core_decoder() -> Decode:
    from exchange.core.commands import decode_command

    return decode_command
