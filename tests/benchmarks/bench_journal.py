"""Durable rows per second: the journal against a plain file and sqlite-utils' insert_all."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from exchange.storage.journal import Journal

PAYLOAD_BYTES = 200
Rows = list[tuple[int, str, bytes]]
Write = Callable[[Rows], object]


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows per second at 100 and 1,000 rows per commit; every commit is synced by all three.

    The three take turns, round by round, on the same file system; medians of the rounds are given.
    """
    results: list[dict[str, Any]] = []
    rounds, commits = (3, 20) if quick else (7, 100)
    for rows_per_commit in (100, 1000):
        payloads = [os.urandom(PAYLOAD_BYTES) for _ in range(rows_per_commit)]
        rows = [(1_700_000_000_000_000_000 + n, "PlaceOrder", p) for n, p in enumerate(payloads)]
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            rates = _rates(Path(folder), rows, rounds, commits)
        for name in ("append + fdatasync", "sqlite-utils insert_all"):
            results.append(
                {
                    "name": f"durable journal rows, {rows_per_commit} per commit",
                    "ours": rates["journal"],
                    "baseline": rates[name],
                    "unit": "rows/s",
                    "ratio": rates["journal"] / rates[name],
                    "baseline_name": name,
                    "conditions": (
                        f"{PAYLOAD_BYTES}-byte payloads, synchronous=FULL in WAL mode, SHA-256 "
                        f"chain included (the baselines have none); {commits} commits a round, "
                        f"median of {rounds} rounds taken in turns"
                    ),
                }
            )
    return results


def _rates(folder: Path, rows: Rows, rounds: int, commits: int) -> dict[str, float]:
    journal = Journal.create(folder / "journal")
    database = _plain_database(folder / "database")
    with (folder / "file").open("ab") as file:
        number = 0

        def append_file(batch: Rows) -> None:
            file.write(b"".join(payload for _, _, payload in batch))
            file.flush()
            os.fdatasync(file.fileno())

        def insert_all(batch: Rows) -> None:
            nonlocal number
            first, number = number, number + len(batch)
            database.table("records").insert_all(
                {"sequence": first + n, "time_ns": at, "kind": kind, "payload": payload}
                for n, (at, kind, payload) in enumerate(batch, start=1)
            )

        writers: dict[str, Write] = {
            "journal": journal.append,
            "append + fdatasync": append_file,
            "sqlite-utils insert_all": insert_all,
        }
        timed: dict[str, list[float]] = {name: [] for name in writers}
        for _ in range(rounds):
            for name, write in writers.items():
                timed[name].append(_seconds(write, rows, commits))
            journal.checkpoint()
            database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    journal.close()
    database.close()
    return {
        name: commits * len(rows) / statistics.median(seconds) for name, seconds in timed.items()
    }


def _plain_database(path: Path) -> Database:
    database = Database(path)
    database.enable_wal()
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA wal_autocheckpoint = 0")
    columns = {"sequence": int, "time_ns": int, "kind": str, "payload": bytes}
    database.create_table("records", columns, pk="sequence", strict=True)
    return database


def _seconds(write: Write, rows: Rows, commits: int) -> float:
    write(rows)
    start = time.perf_counter()
    for _ in range(commits):
        write(rows)
    return time.perf_counter() - start


if __name__ == "__main__":
    for row in run():
        print(f"{row['name']}: {row['ours']:,.0f} against {row['baseline']:,.0f} rows/s")
        print(f"  {row['ratio']:.2f}x {row['baseline_name']}")
