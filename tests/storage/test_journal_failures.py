"""A journal whose disk fails stops for good, and shows whole batches afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from exchange.storage.faults import JournalFailed, JournalRefused
from exchange.storage.journal import Journal

ROWS = [(1000 + number, "Add", bytes([number]) * (number * 7)) for number in range(10)]
DISK_ERROR = sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal.create(tmp_path / "journal") as opened:
        yield opened


def read_all(path: Path) -> list[tuple[int, str, bytes]]:
    with Journal.open(path, read_only=True) as journal:
        return [(record.time_ns, record.kind, record.payload) for record in journal.records()]


class FailingConnection:
    """Passes everything to a connection, but fails at statements that start with `word`."""

    def __init__(self, connection: sqlite3.Connection, word: str, error: BaseException) -> None:
        self.connection, self.word, self.error = connection, word, error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql.startswith(self.word):
            raise self.error
        return self.connection.execute(sql, *values)

    def executemany(self, sql: str, rows: Any) -> Any:
        if sql.startswith(self.word):
            self.connection.executemany(sql, rows[: len(rows) // 2])
            raise self.error
        return self.connection.executemany(sql, rows)


@pytest.mark.parametrize("word", ["BEGIN", "INSERT", "COMMIT"])
def test_failed_commit_stops_the_journal_and_leaves_whole_batches(
    journal: Journal, word: str
) -> None:
    journal.append(ROWS)
    good = journal._connection
    journal._connection = FailingConnection(good, word, DISK_ERROR)  # type: ignore[assignment]
    with pytest.raises(JournalFailed, match="records 11 to 20"):
        journal.append(ROWS)
    for call in (
        lambda: journal.append(ROWS),
        lambda: journal.head,
        lambda: journal.checkpoint(),
        lambda: journal.chain_at(1),
        lambda: next(journal.records()),
    ):
        with pytest.raises(JournalFailed, match="refused, because"):
            call()
    with pytest.raises(JournalRefused, match="in use"):
        Journal.open(journal.path)
    journal.close()
    assert read_all(journal.path) == ROWS


def test_failed_checkpoint_stops_the_journal_and_keeps_the_log(journal: Journal) -> None:
    journal.append(ROWS)
    log = journal.path.with_name("journal-wal")
    files = (journal.path.read_bytes(), log.read_bytes())
    good = journal._connection
    journal._connection = FailingConnection(good, "PRAGMA wal", DISK_ERROR)  # type: ignore[assignment]
    with pytest.raises(JournalFailed, match="checkpoint"):
        journal.checkpoint()
    with pytest.raises(JournalFailed, match="refused"):
        journal.append(ROWS)
    journal.close()
    assert (journal.path.read_bytes(), log.read_bytes()) == files, "closing folded it after all"
    assert read_all(journal.path) == ROWS


def test_interrupt_during_a_commit_stops_the_journal_too(journal: Journal) -> None:
    good = journal._connection
    journal._connection = FailingConnection(good, "COMMIT", KeyboardInterrupt())  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        journal.append(ROWS)
    with pytest.raises(JournalFailed):
        journal.append(ROWS)


def test_full_database_stops_the_journal_without_half_a_batch(journal: Journal) -> None:
    journal._connection.execute("PRAGMA max_page_count = 40")
    acknowledged = 0

    def fill() -> None:
        nonlocal acknowledged
        while True:
            acknowledged = journal.append([(1, "Add", bytes(1000))] * 7)

    with pytest.raises(JournalFailed, match="full"):
        fill()
    journal.close()
    assert acknowledged > 0
    assert len(read_all(journal.path)) == acknowledged


def test_closed_journal_refuses_calls_and_closing_twice_is_allowed(journal: Journal) -> None:
    journal.close()
    journal.close()
    with pytest.raises(JournalFailed, match="closed"):
        journal.append(ROWS)


def test_abandoned_journal_keeps_its_log_unfolded(journal: Journal) -> None:
    journal.append(ROWS)
    log = journal.path.with_name("journal-wal")
    before = (journal.path.read_bytes(), log.read_bytes())
    journal.abandon()
    assert (journal.path.read_bytes(), log.read_bytes()) == before
    assert read_all(journal.path) == ROWS


def test_room_is_the_free_space_of_the_file_system(journal: Journal) -> None:
    assert 0 < journal.room_bytes() < 2**60


def test_failed_last_fold_is_reported_and_lets_others_in(journal: Journal) -> None:
    journal.append(ROWS)
    good = journal._connection
    journal._connection = FailingConnection(good, "PRAGMA wal", DISK_ERROR)  # type: ignore[assignment]
    with pytest.raises(JournalFailed, match="checkpoint"):
        journal.close()
    assert journal.path.with_name("journal-wal").stat().st_size > 0
    with Journal.open(journal.path) as reopened:
        assert reopened.head.sequence == 10
