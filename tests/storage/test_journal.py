"""The journal keeps every record in order, names the place of damage, and never half-fails."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exchange.storage.faults import JournalCorrupt, JournalRefused
from exchange.storage.journal import GENESIS_CHAIN, Journal, link
from exchange.storage.journal_file import opened

ROWS = [(1000 + number, "Add", bytes([number]) * (number * 7)) for number in range(10)]


@pytest.fixture
def journal(tmp_path: Path) -> Any:
    with Journal.create(tmp_path / "journal") as opened:
        yield opened


def closed_journal(path: Path, rows: list[tuple[int, str, bytes]] = ROWS) -> Path:
    with Journal.create(path) as journal:
        journal.append(rows)
    return path


def edit(path: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for sql, values in statements:
            connection.execute(sql, values)


def read_all(path: Path) -> list[tuple[int, str, bytes]]:
    with Journal.open(path, read_only=True) as journal:
        return [(record.time_ns, record.kind, record.payload) for record in journal.records()]


def test_new_journal_is_empty_and_its_chain_is_the_genesis_chain(journal: Journal) -> None:
    assert journal.head == (0, GENESIS_CHAIN)
    assert list(journal.records()) == []


def test_records_come_back_in_order_with_gapless_numbers(journal: Journal) -> None:
    assert journal.append(ROWS[:4]) == 4
    assert journal.append(ROWS[4:]) == 10
    records = list(journal.records())
    assert [record.sequence for record in records] == list(range(1, 11))
    assert [(record.time_ns, record.kind, record.payload) for record in records] == ROWS
    assert [record.sequence for record in journal.records(after=7)] == [8, 9, 10]


def test_reading_goes_past_one_fetch_and_stops_at_the_head_of_the_call(journal: Journal) -> None:
    journal.append([(number, "Add", b"") for number in range(3000)])
    reading = journal.records(after=5)
    first = next(reading)
    journal.append(ROWS)
    assert [first.sequence, *(record.sequence for record in reading)] == list(range(6, 3001))


def test_chain_covers_previous_chain_sequence_time_kind_and_payload() -> None:
    original = link(GENESIS_CHAIN, 1, 2, b"kind", b"payload")
    assert original != link(bytes(32), 1, 2, b"kind", b"payload")
    assert original != link(GENESIS_CHAIN, 2, 2, b"kind", b"payload")
    assert original != link(GENESIS_CHAIN, 1, 3, b"kind", b"payload")
    assert original != link(GENESIS_CHAIN, 1, 2, b"Kind", b"payload")
    assert original != link(GENESIS_CHAIN, 1, 2, b"kind", b"payloae")
    assert original != link(GENESIS_CHAIN, 1, 2, b"kindp", b"ayload"), "lengths are part of it"


def test_appended_rows_carry_the_chain_that_the_rule_gives(journal: Journal) -> None:
    journal.append(ROWS)
    chain = GENESIS_CHAIN
    for sequence, (time_ns, kind, payload) in enumerate(ROWS, start=1):
        chain = link(chain, sequence, time_ns, kind.encode(), payload)
        assert journal.chain_at(sequence) == chain


def test_head_survives_closing_and_the_chain_continues(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    with Journal.open(path) as journal:
        head = journal.head
        journal.append(ROWS)
        assert journal.chain_at(10) == head.chain
        assert len(list(journal.records())) == 20


def test_commits_are_synced_in_full_and_checkpoints_only_on_request(journal: Journal) -> None:
    pragmas = ("synchronous", "journal_mode", "wal_autocheckpoint")
    values = [journal._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    assert values == [2, "wal", 0]


def test_one_append_is_one_transaction(journal: Journal) -> None:
    statements: list[str] = []
    journal._connection.set_trace_callback(statements.append)
    journal.append(ROWS)
    control = [text for text in statements if not text.startswith("INSERT")]
    assert control == ["BEGIN IMMEDIATE", "COMMIT"]
    assert len(statements) == 2 + len(ROWS)


def test_closed_journal_is_one_self_contained_file(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    assert os.listdir(tmp_path) == ["journal"]
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    assert read_all(tmp_path / "elsewhere") == ROWS


def test_checkpoint_folds_the_log_unless_a_reader_holds_it(journal: Journal) -> None:
    journal.append(ROWS[:5])
    with contextlib.closing(sqlite3.connect(journal.path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        journal.append(ROWS[5:])
        assert journal.checkpoint() is False
    assert journal.checkpoint() is True


def test_log_is_folded_unasked_only_when_it_grows_too_long(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[str] = []
    monkeypatch.setattr("exchange.storage.journal._LOG_LIMIT_ROWS", 5)
    monkeypatch.setattr(journal, "checkpoint", lambda: folded.append("yes"))
    journal.append(ROWS[:5])
    assert not folded
    journal.append(ROWS[:1])
    assert folded


@pytest.mark.parametrize(
    "row",
    [
        (1.0, "Add", b""),
        (True, "Add", b""),
        (1, b"Add", b""),
        (1, "Add", "text"),
        (1, "Add", bytearray(1)),
        (2**63, "Add", b""),
        (-(2**63) - 1, "Add", b""),
        (1, "", b""),
        (1, "A\0", b""),
        (1, "\ud800", b""),
    ],
)
def test_row_of_wrong_type_or_range_writes_nothing_and_the_journal_goes_on(
    journal: Journal, row: Any
) -> None:
    with pytest.raises((TypeError, ValueError)):
        journal.append([ROWS[0], row])
    assert journal.head.sequence == 0
    assert journal.append([ROWS[0]]) == 1


def test_empty_append_returns_the_head(journal: Journal) -> None:
    journal.append(ROWS)
    assert journal.append([]) == 10


# --- what may be opened -------------------------------------------------------------------------


def test_new_journal_never_replaces_a_file(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    (tmp_path / "letter").write_text("dear sir")
    (tmp_path / "folder").mkdir()
    for name, why in (("journal", "already"), ("letter", "not a SQLite"), ("folder", "directory")):
        with pytest.raises(JournalRefused, match=why):
            Journal.create(tmp_path / name)
    assert read_all(path) == ROWS
    assert (tmp_path / "letter").read_text() == "dear sir"


def test_half_built_journal_of_a_crash_is_built_again(tmp_path: Path) -> None:
    (tmp_path / "journal.new").write_bytes(b"half")
    (tmp_path / "journal.new-wal").write_bytes(b"half")
    assert read_all(closed_journal(tmp_path / "journal")) == ROWS
    assert os.listdir(tmp_path) == ["journal"]


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"not a database" * 500), "not a SQLite file"),
        (lambda path: path.write_bytes(b""), "not an Uncross journal"),
        (lambda path: path.write_bytes(path.read_bytes()[:-4096]), "truncated or damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:50]), "not an Uncross journal"),
        (lambda path: edit(path, ("PRAGMA application_id = 1", ())), "not an Uncross journal"),
        (lambda path: edit(path, ("PRAGMA user_version = 2", ())), "format 2; .* reads format 1"),
        (lambda path: edit(path, ("CREATE TABLE more (a)", ())), "schema"),
        (lambda path: edit(path, ("ALTER TABLE records RENAME kind TO k", ())), "schema"),
    ],
)
def test_file_that_is_no_journal_of_this_version_is_refused_with_the_reason(
    tmp_path: Path, damage: Callable[[Path], object], why: str, read_only: bool
) -> None:
    path = closed_journal(tmp_path / "journal")
    damage(path)
    with pytest.raises(JournalRefused, match=why):
        Journal.open(path, read_only=read_only)
    assert not (tmp_path / "journal.lock").exists(), "the lock is released"


def test_second_writer_is_refused_and_told_who_holds_the_journal(journal: Journal) -> None:
    with pytest.raises(JournalRefused, match=f"in use .* process {os.getpid()}"):
        Journal.open(journal.path)
    with pytest.raises(JournalRefused, match="in use"):
        Journal.create(journal.path)


def hold_and_die(path: Path, held: Any) -> None:
    Journal.open(path)
    held.set()
    os.kill(os.getpid(), 9)


def test_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold_and_die, args=(path, held))
    process.start()
    process.join(timeout=10)
    assert held.is_set()
    assert (tmp_path / "journal.lock").exists()
    with Journal.open(path) as journal:
        assert journal.head.sequence == 10


def test_reading_changes_no_byte_and_takes_no_lock(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    assert read_all(path) == ROWS
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert os.listdir(tmp_path) == ["journal"], "no side files either"


def test_reader_sees_a_live_journal_and_its_unfolded_log(journal: Journal) -> None:
    journal.append(ROWS)
    log = journal.path.with_name("journal-wal")
    before = (journal.path.read_bytes(), log.read_bytes())
    assert read_all(journal.path) == ROWS
    assert (journal.path.read_bytes(), log.read_bytes()) == before
    assert journal.append(ROWS) == 20


def test_reader_cannot_append(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    with (
        Journal.open(path, read_only=True) as journal,
        pytest.raises(JournalRefused, match="reading only"),
    ):
        journal.append(ROWS)


# --- damage is named with its place -------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "values", "sequence", "what"),
    [
        ("UPDATE records SET payload = ? WHERE sequence = 5", (b"\x05" * 28,), 5, "chain"),
        ("UPDATE records SET payload = x'' WHERE sequence = 5", (), 5, "chain"),
        ("UPDATE records SET kind = 'Sub' WHERE sequence = 5", (), 5, "chain"),
        ("UPDATE records SET time_ns = time_ns + 1 WHERE sequence = 5", (), 5, "chain"),
        ("UPDATE records SET chain = zeroblob(32) WHERE sequence = 5", (), 5, "chain"),
        ("UPDATE records SET chain = x'00' WHERE sequence = 5", (), 5, "32 bytes"),
        ("UPDATE records SET sequence = 50 WHERE sequence = 5", (), 5, "missing; record 6"),
        ("UPDATE records SET sequence = -1 WHERE sequence = 1", (), 1, "missing; record 2"),
        ("UPDATE records SET sequence = 12 WHERE sequence = 10", (), 10, "missing; record 12"),
        ("DELETE FROM records WHERE sequence = 1", (), 1, "missing; record 2"),
        ("DELETE FROM records WHERE sequence IN (5, 6)", (), 5, "missing; record 7"),
    ],
)
def test_altered_or_removed_record_is_refused_at_its_number(
    tmp_path: Path, sql: str, values: tuple[Any, ...], sequence: int, what: str
) -> None:
    path = closed_journal(tmp_path / "journal")
    edit(path, (sql, values))
    with pytest.raises(JournalCorrupt, match=what) as refusal:
        read_all(path)
    assert refusal.value.sequence == sequence


def test_every_bit_of_a_payload_counts(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal", [(1, "Add", b"\0\0"), (2, "Add", b"\0\0")])
    for bit in range(16):
        edit(path, ("UPDATE records SET payload = ?", ((1 << bit).to_bytes(2, "big"),)))
        with pytest.raises(JournalCorrupt):
            read_all(path)
    edit(path, ("UPDATE records SET payload = x'0000'", ()))
    assert len(read_all(path)) == 2


def test_two_exchanged_records_are_refused_at_the_first(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    swap = "UPDATE records SET sequence = ? WHERE sequence = ?"
    edit(path, (swap, (99, 4)), (swap, (4, 8)), (swap, (8, 99)))
    with pytest.raises(JournalCorrupt) as refusal:
        read_all(path)
    assert refusal.value.sequence == 4


def test_value_of_another_type_is_refused(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        strict = connection.execute("SELECT sql FROM sqlite_master").fetchone()[0]
        connection.execute("PRAGMA writable_schema = ON")
        set_schema = "UPDATE sqlite_master SET sql = ?"
        connection.execute(set_schema, (strict.replace("STRICT", ""),))
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute("UPDATE records SET payload = 'text' WHERE sequence = 3")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute(set_schema, (strict,))
    with pytest.raises(JournalCorrupt, match="wrong type") as refusal:
        read_all(path)
    assert refusal.value.sequence == 3


def test_good_records_before_the_damage_are_still_given(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    edit(path, ("UPDATE records SET kind = 'Sub' WHERE sequence = 7", ()))
    seen: list[int] = []
    with Journal.open(path, read_only=True) as journal, pytest.raises(JournalCorrupt):
        seen.extend(record.sequence for record in journal.records())
    assert seen == [1, 2, 3, 4, 5, 6]


def test_history_rewritten_after_opening_is_refused_though_its_chain_is_right(
    tmp_path: Path,
) -> None:
    path = closed_journal(tmp_path / "journal")
    with Journal.open(path, read_only=True) as journal:
        before = journal.chain_at(9)
    with Journal.open_locked(path) as checking:
        chain = link(before, 10, 5, b"Forged", b"")
        rewrite = "UPDATE records SET time_ns=5, kind='Forged', payload=x'', chain=?"
        edit(path, (rewrite + " WHERE sequence = 10", (chain,)))
        checking._connection.close()
        checking._connection, checking._database = opened(path, "mode=ro")
        with pytest.raises(JournalCorrupt, match="head's"):
            list(checking.records())
        with pytest.raises(JournalCorrupt, match="head changed"):
            checking.start_writing()
    assert len(read_all(path)) == 10, "taken by itself it is a consistent journal"


def test_journal_opened_for_checking_writes_nothing_until_told(tmp_path: Path) -> None:
    path = closed_journal(tmp_path / "journal")
    with Journal.open_locked(path) as checking:
        for write in (lambda: checking.append(ROWS), checking.checkpoint):
            with pytest.raises(JournalRefused, match="reading only"):
                write()
        with pytest.raises(JournalRefused, match="in use"):
            Journal.open(path)
        checking.start_writing()
        assert checking.append(ROWS) == 20
