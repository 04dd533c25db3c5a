"""The file of a journal: how it is made, recognised, opened and left alone."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from sqlite_utils import Database

from exchange.storage.disk import sync_directory
from exchange.storage.faults import JournalRefused

APPLICATION_ID = 0x554E4358  # "UNCX"
FORMAT_VERSION = 1
TABLE = "records"

_COLUMNS = {"sequence": int, "time_ns": int, "kind": str, "payload": bytes, "chain": bytes}
_DECLARED = ["INTEGER", "INTEGER", "TEXT", "BLOB", "BLOB"]
_READER_WAIT_SECONDS = 1.0  # how long the last fold at closing waits for a reader


def opened(path: Path, mode: str) -> tuple[sqlite3.Connection, Database]:
    """A connection and its wrapper; `mode` is the query part of SQLite's file address.

    Raises JournalRefused if SQLite cannot open the file.
    """
    try:
        connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?{mode}",
            uri=True,
            isolation_level=None,  # transactions are begun and ended here, by name
            check_same_thread=False,  # appends may run in a worker thread, one at a time
            timeout=_READER_WAIT_SECONDS,
        )
    except sqlite3.Error as error:
        raise translated(path, error) from error
    return connection, Database(connection, recursive_triggers=False, execute_plugins=False)


def reading_mode(path: Path) -> str:
    """Without a log beside it the file is whole, and is read without locks or side files."""
    log = path.with_name(path.name + "-wal")
    return "mode=ro" if log.exists() else "mode=ro&immutable=1"


def close_untouched(connection: sqlite3.Connection) -> None:
    """Close without the checkpoint that closing implies.

    After a failed sync the operating system may call lost pages clean, so that a second try
    succeeds falsely and SQLite then deletes the log that still has the data. An interrupted
    connection gives up its checkpoint at the first page and keeps the log.
    """
    with contextlib.suppress(sqlite3.Error):
        connection.interrupt()
        connection.close()


def create_file(path: Path) -> None:
    """Build the empty journal under another name, then rename it; the lock is held.

    Raises OSError or sqlite3.Error; there is then no file of the final name.
    """
    building = path.with_name(path.name + ".new")
    for suffix in ("", "-wal", "-shm", "-journal"):
        building.with_name(building.name + suffix).unlink(missing_ok=True)
    connection, database = opened(building, "mode=rwc")
    try:
        with database.atomic():
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            not_null = [name for name in _COLUMNS if name != "sequence"]
            database.create_table(TABLE, _COLUMNS, pk="sequence", not_null=not_null, strict=True)
        database.enable_wal()
        make_durable(building, connection)
    finally:
        connection.close()
    os.rename(building, path)
    sync_directory(path.parent)


def check_format(path: Path, database: Database) -> None:
    """Refuse what is not a journal of this version; raises sqlite3.Error on damaged files."""
    application_id = database.execute("PRAGMA application_id").fetchone()[0]
    version = database.execute("PRAGMA user_version").fetchone()[0]
    if application_id != APPLICATION_ID:
        raise JournalRefused(f"{path}: empty, or a SQLite file that is not an Uncross journal")
    if version != FORMAT_VERSION:
        raise JournalRefused(
            f"{path}: a journal of format {version}; this program reads format {FORMAT_VERSION}"
        )
    objects = [row[0] for row in database.execute("SELECT name FROM sqlite_master")]
    table = database.table(TABLE)
    declared = list(zip(_COLUMNS, _DECLARED, strict=True))
    if (
        objects != [TABLE]
        or [(column.name, column.type) for column in table.columns] != declared
        or table.pks != ["sequence"]
        or not table.strict
    ):
        raise JournalRefused(f"{path}: its schema is not that of a journal")


def make_durable(path: Path, connection: sqlite3.Connection) -> None:
    """Every commit is synced before it returns, and nothing is checkpointed unasked.

    Asked-for checkpoints report their errors, the automatic ones hide them.
    """
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
    if (synchronous, mode) != (2, "wal"):
        raise JournalRefused(
            f"{path}: SQLite would not sync each commit (synchronous {synchronous}, mode {mode})"
        )


def translated(path: Path, error: sqlite3.Error) -> JournalRefused:
    """What an error of SQLite at opening means to the reader of the message."""
    name = getattr(error, "sqlite_errorname", "")
    if name == "SQLITE_NOTADB":
        return JournalRefused(f"{path}: not a SQLite file")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH")):
        return JournalRefused(
            f"{path}: cannot be opened ({error}); reading a journal whose log is not folded needs "
            "the -wal and -shm files beside it, or the right to create them"
        )
    if name.startswith(("SQLITE_IOERR", "SQLITE_FULL")):
        return JournalRefused(f"{path}: the disk fails ({error})")
    return JournalRefused(f"{path}: truncated or damaged ({error})")
