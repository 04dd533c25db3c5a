"""The journal: every command in the order it was applied, durable and hash-chained, in SQLite.

One table, one transaction per batch, never an update. The rules of the file, and what is promised
about it, are in the README of this folder.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Self, TypeAlias

import msgspec

from exchange.storage.disk import WriterLock
from exchange.storage.faults import JournalCorrupt, JournalFailed, JournalRefused, StorageRefused
from exchange.storage.journal_file import (
    TABLE,
    check_format,
    close_untouched,
    create_file,
    make_durable,
    opened,
    reading_mode,
    translated,
)
from exchange.storage.watermark import Mark

GENESIS_CHAIN = sha256(b"uncross journal 1").digest()

_INSERT = f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)"  # noqa: S608 (a constant)
_SELECT = f"SELECT sequence, time_ns, kind, payload, chain FROM {TABLE}"  # noqa: S608
_LINK = struct.Struct(">32sqqIQ")  # previous chain, sequence, time, lengths of kind and payload
Row: TypeAlias = tuple[int, int, str, bytes, bytes]  # as stored: sequence to chain
_READ_ROWS = 1024  # rows fetched at a time, so that a reader never holds the log open for long
_LOG_LIMIT_ROWS = 200_000  # rows since the last checkpoint before one is forced


class Record(msgspec.Struct, frozen=True):
    """One command: its number from 1 without gaps, its time, the kind and the bytes of it."""

    sequence: int
    time_ns: int
    kind: str
    payload: bytes


def link(previous: bytes, sequence: int, time_ns: int, kind: bytes, payload: bytes) -> bytes:
    """The chain of a record: SHA-256 over the chain before it and every field, with lengths."""
    header = _LINK.pack(previous, sequence, time_ns, len(kind), len(payload))
    return sha256(header + kind + payload).digest()


class Journal:
    """An open journal. Exactly one process writes it; calls come from one thread at a time."""

    def __init__(self, path: Path, lock: WriterLock | None) -> None:
        """Open for reading; `open`, `open_locked` and `create` are the ways in."""
        self.path = path
        self._lock = lock
        self._writable = False
        self._stopped: str | None = None
        self._log_rows = 0
        self._connection, self._database = opened(path, reading_mode(path))
        try:
            check_format(path, self._database)
            self._head = self._read_head()
        except sqlite3.Error as error:
            close_untouched(self._connection)
            raise translated(path, error) from error
        except BaseException:
            close_untouched(self._connection)
            raise

    @classmethod
    def create(cls, path: str | Path) -> Self:
        """A new, empty journal, open for writing.

        The file appears under its name only when it is whole. Raises JournalRefused if the path
        exists, whatever it is, or if another process is at it; JournalFailed on a disk error.
        """
        path = Path(path)
        if not path.parent.is_dir():
            raise JournalRefused(f"{path}: there is no directory {path.parent}")
        lock = WriterLock(path)
        try:
            if path.exists():
                raise JournalRefused(f"{path}: {_describe(path)}; a journal is never overwritten")
            create_file(path)
            journal = cls(path, lock)
            journal.start_writing()
        except (OSError, sqlite3.Error) as error:
            lock.release()
            raise JournalFailed(f"{path}: the journal could not be created: {error}") from error
        except BaseException:
            lock.release()
            raise
        return journal

    @classmethod
    def open(cls, path: str | Path, read_only: bool = False) -> Self:
        """Open an existing journal; `read_only` changes no byte of it and takes no lock.

        The header, schema and last record are checked here; the chain is checked by `records`.
        Raises JournalRefused or JournalCorrupt.
        """
        path = _existing(path)
        if read_only:
            return cls(path, None)
        journal = cls.open_locked(path)
        try:
            journal.start_writing()
        except BaseException:
            journal.abandon()
            raise
        return journal

    @classmethod
    def open_locked(cls, path: str | Path) -> Self:
        """Keep other writers out, but read only until `start_writing`.

        For whoever checks before writing: a connection that may write deletes, when it closes, a
        log in which it found nothing valid, and with it what could have been rescued.
        """
        path = _existing(path)
        lock = WriterLock(path)
        try:
            return cls(path, lock)
        except BaseException:
            lock.release()
            raise

    def start_writing(self) -> None:
        """Let `append` and `checkpoint` work from here on.

        Raises JournalRefused, or JournalCorrupt if the head is not the one that was read before.
        """
        self._require_running()
        if self._lock is None:
            raise JournalRefused(f"{self.path}: opened for reading only")
        close_untouched(self._connection)
        self._connection, self._database = opened(self.path, "mode=rw")
        try:
            make_durable(self.path, self._connection)
            if self._read_head() != self._head:
                raise JournalCorrupt(self._head.sequence, "the head changed since it was read")
        except sqlite3.Error as error:
            raise translated(self.path, error) from error
        self._writable = True

    @property
    def head(self) -> Mark:
        """Sequence and chain of the last record; (0, GENESIS_CHAIN) when there is none."""
        self._require_running()
        return self._head

    def append(self, rows: Sequence[tuple[int, str, bytes]]) -> int:
        """Make rows of (time_ns, kind, payload) durable in one transaction; return the last number.

        On return they are on the disk. A row of wrong type or range raises TypeError or ValueError
        and nothing is written. Any other error raises JournalFailed and stops the journal for good.
        """
        self._require_writable()
        if not rows:
            return self._head.sequence
        linked, head = _linked(self._head, rows)
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(_INSERT, linked)
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._stop(f"committing records {linked[0][0]} to {head.sequence}", error)
            raise
        self._head = head
        self._log_rows += len(linked)
        if self._log_rows > _LOG_LIMIT_ROWS:
            self.checkpoint()
        return head.sequence

    def checkpoint(self) -> bool:
        """Fold the write-ahead log into the main file; call it between cycles.

        Everything readable before it is on the disk after it. True if all was folded, False if
        a reader still holds part of the log. Raises JournalFailed, and stops the journal.
        """
        return self._checkpoint("PASSIVE")

    def _checkpoint(self, mode: str) -> bool:
        self._require_writable()
        try:
            busy, pages, folded = self._connection.execute(
                f"PRAGMA wal_checkpoint({mode})"
            ).fetchone()
        except BaseException as error:
            self._stop("the checkpoint", error)
            raise
        self._log_rows = 0
        return bool(busy == 0 and pages == folded)

    def records(self, after: int = 0) -> Iterator[Record]:
        """The records with a number above `after` up to the head at the time of the call.

        Each is checked as it is read: number, types, chain. Raises JournalCorrupt at the first
        that is wrong, after the good ones before it. With `after` the chain stored there is
        trusted.
        """
        self._require_running()
        head, sequence = self._head, after
        if not 0 <= after <= head.sequence:
            raise ValueError(f"the journal has records 1 to {head.sequence}, nothing after {after}")
        chain = self.chain_at(after)
        while sequence < head.sequence:
            self._require_running()
            rows, error = self._fetch(sequence)
            for row in rows[: head.sequence - sequence]:
                sequence += 1
                record, chain = _verified(row, sequence, chain)
                yield record
            if error is not None and sequence < head.sequence:
                raise JournalCorrupt(sequence + 1, f"cannot be read: {error}") from error
            if not rows:
                raise JournalCorrupt(
                    sequence + 1, f"missing; the records end here and the head is {head.sequence}"
                )
        if chain != head.chain:
            raise JournalCorrupt(sequence, "the chain does not end at the head's")

    def chain_at(self, sequence: int) -> bytes:
        """The chain stored with a record, not verified; GENESIS_CHAIN at 0.

        Raises JournalCorrupt if the record is missing or its chain is not 32 bytes.
        """
        self._require_running()
        if sequence == 0:
            return GENESIS_CHAIN
        try:
            rows = list(
                self._database[TABLE].rows_where("sequence = ?", [sequence], select="chain")
            )
        except sqlite3.Error as error:
            raise JournalCorrupt(sequence, f"cannot be read: {error}") from error
        if not rows:
            raise JournalCorrupt(sequence, "missing")
        return _chain_of(rows[0]["chain"], sequence)

    def room_bytes(self) -> int:
        """Free space of the journal's file system."""
        return shutil.disk_usage(self.path.parent).free

    def close(self) -> None:
        """Fold the log so that one self-contained file remains, and let other writers in.

        Of a journal that failed only the lock is released: its files stay as they are for the
        recovery. Closing twice is allowed.
        """
        try:
            if self._stopped is None:
                if self._writable:
                    self._checkpoint("TRUNCATE")
                self._connection.close()
                self._stopped = "the journal is closed"
        finally:
            self.abandon()

    def close_or_remove(self) -> bool:
        """Close, and remove the file if it has no record; True if it was removed.

        Only for whoever created it. A journal that failed stays as it is.
        """
        is_empty = self._stopped is None and self._writable and self._head.sequence == 0
        if is_empty:
            self._connection.close()
            self._stopped = "the journal is closed"
            for suffix in ("-wal", "-shm", ""):  # under the lock: nobody can have begun to write
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        self.close()
        return is_empty

    def abandon(self) -> None:
        """Close without touching the files: a log that is refused stays evidence."""
        if self._stopped is None:
            self._stopped = "the journal is closed"
            close_untouched(self._connection)
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _require_running(self) -> None:
        if self._stopped is not None:
            raise JournalFailed(f"{self.path}: refused, because {self._stopped}")

    def _require_writable(self) -> None:
        self._require_running()
        if not self._writable:
            raise JournalRefused(f"{self.path}: opened for reading only")

    def _stop(self, doing: str, error: BaseException) -> None:
        """Refuse everything from now on. The lock stays, so that nobody writes behind us."""
        self._stopped = f"{doing} failed: {error!r}"
        close_untouched(self._connection)
        if isinstance(error, Exception):
            raise JournalFailed(f"{self.path}: {self._stopped}") from error

    def _read_head(self) -> Mark:
        row = self._connection.execute(f"{_SELECT} ORDER BY sequence DESC LIMIT 1").fetchone()
        if row is None:
            return Mark(0, GENESIS_CHAIN)
        if type(row[0]) is not int or row[0] < 1:
            raise JournalCorrupt(0, f"the last record has the number {row[0]!r}")
        return Mark(row[0], _chain_of(row[4], row[0]))

    def _fetch(self, after: int) -> tuple[list[Row], sqlite3.Error | None]:
        """Up to _READ_ROWS rows, and the error that ended the reading early, if one did."""
        rows: list[Row] = []
        try:
            rows.extend(
                self._database.execute(
                    f"{_SELECT} WHERE sequence > ? ORDER BY sequence LIMIT ?", [after, _READ_ROWS]
                )
            )
        except sqlite3.Error as error:
            return rows, error
        return rows, None


def _linked(head: Mark, rows: Sequence[tuple[int, str, bytes]]) -> tuple[list[Row], Mark]:
    """Rows ready to insert, each with its number and chain, and the head after them.

    The same link as `link`, written out: a call and an encoding saved for every row.
    """
    sequence, chain = head
    pack, linked = _LINK.pack, []
    for time_ns, kind, payload in rows:
        if type(time_ns) is not int or type(payload) is not bytes or type(kind) is not str:
            raise TypeError("a row is (time_ns: int, kind: str, payload: bytes)")
        sequence += 1
        name = _kind_bytes(kind)
        try:
            header = pack(chain, sequence, time_ns, len(name), len(payload))
        except struct.error:
            raise ValueError(f"time_ns outside int64: {time_ns}") from None
        chain = sha256(header + name + payload).digest()
        linked.append((sequence, time_ns, kind, payload, chain))
    return linked, Mark(sequence, chain)


@lru_cache(maxsize=256)
def _kind_bytes(kind: str) -> bytes:
    if not kind or "\0" in kind:
        raise ValueError("a kind is at least one character, none of them NUL")
    return kind.encode()


def _verified(row: Row, sequence: int, chain: bytes) -> tuple[Record, bytes]:
    """The record of a row that must be number `sequence` and follow `chain`; and its chain."""
    found, time_ns, kind, payload, stored = row
    if type(found) is not int:
        raise JournalCorrupt(sequence, f"its number is not an integer: {found!r}")
    if found != sequence:
        raise JournalCorrupt(sequence, f"missing; record {found} comes next")
    if type(time_ns) is not int or type(kind) is not str or type(payload) is not bytes:
        raise JournalCorrupt(sequence, "a field is of the wrong type")
    expected = link(chain, sequence, time_ns, kind.encode(), payload)
    if _chain_of(stored, sequence) != expected:
        raise JournalCorrupt(
            sequence, "its chain does not follow from its fields and the one before"
        )
    return Record(sequence, time_ns, kind, payload), expected


def _chain_of(stored: object, sequence: int) -> bytes:
    if type(stored) is not bytes or len(stored) != 32:
        raise JournalCorrupt(sequence, "its chain is not 32 bytes")
    return stored


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        what = "a directory or device" if path.exists() else "there is no such file"
        raise JournalRefused(f"{path}: {what}")
    return path


def _describe(path: Path) -> str:
    """What an existing path is, for the refusal to create a journal there."""
    try:
        Journal.open(path, read_only=True).close()
    except StorageRefused as refusal:
        return f"the path exists ({refusal})"
    return "there is a journal already"
