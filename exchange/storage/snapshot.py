"""Snapshots: the engine's state at some record, so that recovery replays only the tail.

A snapshot is never the truth: the journal is. One that is damaged, or does not fit the journal,
is passed over for an older one, and in the end for a replay from the first record.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import msgspec

from exchange.storage.disk import sync_directory, write_whole
from exchange.storage.faults import SnapshotRefused

KEPT_SNAPSHOTS = 2
_MAGIC = b"UNCXSN01"
_HEADER = struct.Struct(">8sq32s32sQ")  # magic, sequence, chain, state hash, engine bytes' length
_CHECKSUM_BYTES = 32
_PREFIX, _SUFFIX = "after-", ".snapshot"


class Snapshot(msgspec.Struct, frozen=True):
    """The engine after record `sequence`, whose chain is `chain` (32 bytes).

    `state_hash` (32 bytes) is what the engine reports itself, again after it is restored.
    """

    sequence: int
    chain: bytes
    state_hash: bytes
    engine: bytes


def snapshots_path(journal_path: Path) -> Path:
    """The directory where the snapshots of a journal lie."""
    return journal_path.with_name(journal_path.name + ".snapshots")


def write_snapshot(directory: Path, snapshot: Snapshot, keep: int = KEPT_SNAPSHOTS) -> Path:
    """Write a snapshot durably, then remove all but the newest `keep`; return its path.

    Its record must be durable already. Raises ValueError for hashes that are not 32 bytes or
    `keep` below 1, OSError if the disk refuses; the older snapshots are then still there.
    """
    if len(snapshot.chain) != 32 or len(snapshot.state_hash) != 32:
        raise ValueError("chain and state hash have 32 bytes each")
    if keep < 1:
        raise ValueError(f"at least one snapshot is kept, not {keep}")
    if not directory.is_dir():
        directory.mkdir()
        sync_directory(directory.parent)
    header = _HEADER.pack(
        _MAGIC,
        snapshot.sequence,
        snapshot.chain,
        snapshot.state_hash,
        len(snapshot.engine),
    )
    body = header + snapshot.engine
    path = directory / f"{_PREFIX}{snapshot.sequence:020}{_SUFFIX}"
    write_whole(path, body + sha256(body).digest())
    for old in snapshot_files(directory)[keep:]:
        old.unlink(missing_ok=True)
    return path


def snapshot_files(directory: Path) -> list[Path]:
    """The snapshot files, newest first; empty if there is no directory."""
    return sorted(directory.glob(f"{_PREFIX}*{_SUFFIX}"), reverse=True)


def load_snapshot(path: Path) -> Snapshot:
    """Read a snapshot and check its checksum and lengths. Raises SnapshotRefused."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SnapshotRefused(f"{path}: cannot be read ({error})") from error
    if len(data) < _HEADER.size + _CHECKSUM_BYTES:
        raise SnapshotRefused(f"{path}: truncated to {len(data)} bytes")
    if sha256(data[:-_CHECKSUM_BYTES]).digest() != data[-_CHECKSUM_BYTES:]:
        raise SnapshotRefused(f"{path}: the checksum does not match")
    magic, sequence, chain, state_hash, length = _HEADER.unpack_from(data)
    engine = data[_HEADER.size : -_CHECKSUM_BYTES]
    if magic != _MAGIC or length != len(engine) or sequence < 1:
        raise SnapshotRefused(f"{path}: not a snapshot of this format")
    return Snapshot(sequence, chain, state_hash, engine)


def good_snapshots(directory: Path, refused: list[str]) -> Iterator[Snapshot]:
    """The readable snapshots, newest first; what is wrong with others is added to `refused`."""
    for path in snapshot_files(directory):
        try:
            yield load_snapshot(path)
        except SnapshotRefused as refusal:
            refused.append(str(refusal))
