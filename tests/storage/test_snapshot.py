"""A snapshot is whole or it is refused, and an older one is always at hand."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from exchange.storage.faults import SnapshotRefused
from exchange.storage.snapshot import (
    Snapshot,
    good_snapshots,
    load_snapshot,
    snapshot_files,
    write_snapshot,
)


def snapshot_at(sequence: int, engine: bytes = b"the engine's state") -> Snapshot:
    return Snapshot(sequence, bytes([sequence % 256]) * 32, b"h" * 32, engine)


def test_snapshot_comes_back_as_it_was(tmp_path: Path) -> None:
    for engine in (b"", b"state", os.urandom(100_000)):
        path = write_snapshot(tmp_path / "snapshots", snapshot_at(7, engine))
        assert load_snapshot(path) == snapshot_at(7, engine)


def test_newest_two_are_kept_unless_told_otherwise(tmp_path: Path) -> None:
    for sequence in (8, 9, 10, 100):
        write_snapshot(tmp_path, snapshot_at(sequence))
    assert [load_snapshot(path).sequence for path in snapshot_files(tmp_path)] == [100, 10]
    write_snapshot(tmp_path, snapshot_at(101), keep=3)
    assert [load_snapshot(path).sequence for path in snapshot_files(tmp_path)] == [101, 100, 10]
    with pytest.raises(ValueError, match="at least one"):
        write_snapshot(tmp_path, snapshot_at(102), keep=0)


def test_no_directory_means_no_snapshots(tmp_path: Path) -> None:
    assert snapshot_files(tmp_path / "none") == []


def test_every_flipped_byte_is_refused(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, snapshot_at(7))
    good = path.read_bytes()
    for offset in range(len(good)):
        data = bytearray(good)
        data[offset] ^= 1 << offset % 8
        path.write_bytes(data)
        with pytest.raises(SnapshotRefused):
            load_snapshot(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write_snapshot(tmp_path, snapshot_at(7))
    good = path.read_bytes()
    for size in range(len(good)):
        path.write_bytes(good[:size])
        with pytest.raises(SnapshotRefused):
            load_snapshot(path)


def test_bad_snapshot_is_passed_over_for_an_older_one_and_named(tmp_path: Path) -> None:
    write_snapshot(tmp_path, snapshot_at(7))
    newest = write_snapshot(tmp_path, snapshot_at(8))
    newest.write_bytes(b"rot")
    refused: list[str] = []
    assert [snapshot.sequence for snapshot in good_snapshots(tmp_path, refused)] == [7]
    assert len(refused) == 1
    assert str(newest) in refused[0]


def test_sync_of_file_comes_before_its_name_and_sync_of_directory_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    rename = Path.rename
    monkeypatch.setattr("exchange.storage.disk.sync_file", lambda fd: steps.append("file"))
    monkeypatch.setattr("exchange.storage.disk.sync_directory", lambda d: steps.append("folder"))

    def noted_rename(source: Path, target: Path) -> Path:
        steps.append("rename")
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", noted_rename)
    write_snapshot(tmp_path, snapshot_at(7))
    assert steps == ["file", "rename", "folder"]


def test_full_disk_leaves_the_older_snapshots_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    for sequence in (7, 8):
        write_snapshot(tmp_path, snapshot_at(sequence))
    monkeypatch.setattr("exchange.storage.disk.sync_file", fail)
    with pytest.raises(OSError, match="no space"):
        write_snapshot(tmp_path, snapshot_at(9))
    assert [load_snapshot(path).sequence for path in snapshot_files(tmp_path)] == [8, 7]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("field", ["chain", "state_hash"])
def test_hash_of_wrong_length_is_not_written(tmp_path: Path, field: str) -> None:
    fields = {"sequence": 1, "chain": bytes(32), "state_hash": bytes(32), "engine": b""}
    with pytest.raises(ValueError, match="32 bytes"):
        write_snapshot(tmp_path, Snapshot(**{**fields, field: b"short"}))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
