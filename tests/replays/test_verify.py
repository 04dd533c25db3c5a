"""Verification never raises for a bad journal: it says equal, or where and what is wrong."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
from pathlib import Path

import pytest

from exchange.storage.journal import Journal
from exchange.storage.snapshot import snapshots_path
from exchange.storage.watermark import read_mark, watermark_path
from replays.verify import Verification, verify
from tests.storage.toy_engine import ToyEngine, decode_toy, filled_store, finished_store


def verified(path: Path) -> Verification:
    return verify(path, ToyEngine, decode_toy)


def edit(path: Path, sql: str, *values: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, values)


def test_good_journal_is_equal_and_counted(tmp_path: Path) -> None:
    story = finished_store(tmp_path / "journal", batches=14)
    outcome = verified(tmp_path / "journal")
    assert outcome.equal
    assert (outcome.cycles, outcome.cycle) == (4, 4)
    assert outcome.records == story.engine.applied + 4
    assert outcome.what == ""


def test_verification_uses_no_snapshot_and_changes_no_file(tmp_path: Path) -> None:
    story = filled_store(tmp_path / "journal", at_batch=lambda story, number: story.snapshot())
    story.mark()
    story.journal.close()
    for snapshot in snapshots_path(story.journal.path).iterdir():
        snapshot.write_bytes(b"rot")
    before = (story.journal.path.read_bytes(), sorted(os.listdir(tmp_path)))
    assert verified(tmp_path / "journal").equal
    assert (story.journal.path.read_bytes(), sorted(os.listdir(tmp_path))) == before


def test_journal_in_use_can_be_verified(tmp_path: Path) -> None:
    story = filled_store(tmp_path / "journal")
    assert verified(tmp_path / "journal").equal
    story.batch(closes=True)
    assert verified(tmp_path / "journal").equal
    story.journal.close()


@pytest.mark.parametrize(
    ("sql", "sequence"),
    [
        ("UPDATE records SET payload = x'00' WHERE sequence = 9", 9),
        ("UPDATE records SET time_ns = 77 WHERE sequence = 9", 9),
        ("DELETE FROM records WHERE sequence = 9", 9),
        ("UPDATE records SET sequence = 1000 WHERE sequence = 9", 9),
    ],
)
def test_damaged_record_is_refused_with_its_number(tmp_path: Path, sql: str, sequence: int) -> None:
    finished_store(tmp_path / "journal")
    edit(tmp_path / "journal", sql)
    outcome = verified(tmp_path / "journal")
    assert not outcome.equal
    assert outcome.sequence == sequence
    assert outcome.records == sequence - 1
    assert f"record {sequence}" in outcome.what


class DriftingEngine(ToyEngine):
    def apply(self, command: tuple[str, int]) -> list[str]:
        kind, amount = command
        return super().apply((kind, amount + (self.cycle >= 2)))


def test_other_state_hash_is_refused_with_its_cycle(tmp_path: Path) -> None:
    finished_store(tmp_path / "journal", batches=14)
    outcome = verify(tmp_path / "journal", DriftingEngine, decode_toy)
    assert not outcome.equal
    assert (outcome.cycle, outcome.cycles) == (3, 2)
    assert "state hash" in outcome.what


class FaultyEngine(ToyEngine):
    def apply(self, command: tuple[str, int]) -> list[str]:
        if self.applied == 11:
            raise ArithmeticError("trial balance is 3")
        return super().apply(command)


def test_history_that_the_engine_refuses_is_reported_at_its_record(tmp_path: Path) -> None:
    finished_store(tmp_path / "journal")
    outcome = verify(tmp_path / "journal", FaultyEngine, decode_toy)
    assert not outcome.equal
    assert outcome.sequence == outcome.records + 1
    assert "trial balance is 3" in outcome.what


def test_files_that_are_no_journal_are_refused_not_raised(tmp_path: Path) -> None:
    (tmp_path / "letter").write_text("dear sir" * 100)
    (tmp_path / "empty").write_bytes(b"")
    for name, why in (("letter", "SQLite"), ("empty", "not an Uncross"), ("none", "no such file")):
        outcome = verified(tmp_path / name)
        assert not outcome.equal
        assert why in outcome.what


def test_lost_end_is_noticed_by_the_watermark(tmp_path: Path) -> None:
    story = finished_store(tmp_path / "journal")
    head = read_mark(watermark_path(story.journal.path)).sequence
    edit(tmp_path / "journal", "DELETE FROM records WHERE sequence = ?", head)
    outcome = verified(tmp_path / "journal")
    assert not outcome.equal
    assert outcome.sequence == head


def test_missing_watermark_is_refused_unless_allowed(tmp_path: Path) -> None:
    finished_store(tmp_path / "journal")
    watermark_path(tmp_path / "journal").unlink()
    assert "watermark is missing" in verified(tmp_path / "journal").what
    allowed = verify(tmp_path / "journal", ToyEngine, decode_toy, allow_missing_watermark=True)
    assert allowed.equal


def test_progress_is_told_and_ends_at_the_total(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replays.verify._PROGRESS_RECORDS", 10)
    finished_store(tmp_path / "journal")
    told: list[tuple[int, int]] = []
    outcome = verify(
        tmp_path / "journal", ToyEngine, decode_toy, lambda done, total: told.append((done, total))
    )
    assert [done for done, _ in told[:-1]] == list(range(10, outcome.records + 1, 10))
    assert told[-1] == (outcome.records, outcome.records)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_bits_of_the_file_are_never_taken_for_equal(tmp_path: Path, seed: int) -> None:
    """A flip is either refused, or hit bytes that hold no part of any record."""
    path = finished_store(tmp_path / "journal", batches=30, seed=seed).journal.path
    good, original = path.read_bytes(), records_of(path)
    chance = random.Random(seed)
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        outcome = verified(path)
        if outcome.equal:
            assert records_of(path) == original
        else:
            refused += 1
            assert outcome.what
    assert refused > 30


def records_of(path: Path) -> list[object]:
    with Journal.open(path, read_only=True) as journal:
        return list(journal.records())
