"""A disk that is full or fails stops the journal; what it acknowledged is there afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exchange.storage.faults import StorageRefused
from exchange.storage.recovery import recover
from replays.verify import verify
from tests.storage.toy_engine import ToyEngine, decode_toy, finished_store

ROOT = Path(__file__).parents[2]
BATCHES = 24


def run_victim(path: Path, payload_bytes: int, **options: object) -> list[str]:
    """Let the process journal until it is done or storage stops it; the lines it said."""
    command = [sys.executable, "-m", "tests.crash.victim", str(path), "3", str(BATCHES)]
    finished = subprocess.run(  # type: ignore[call-overload]
        [*command, str(payload_bytes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )
    assert finished.returncode in (0, 1, 3), finished.stderr
    return str(finished.stdout).splitlines()


def acknowledged_by(said: list[str]) -> int:
    return max((int(line.split()[1]) for line in said if line.startswith("head ")), default=0)


def check_left_behind(path: Path, acknowledged: int) -> None:
    """Every acknowledged record is found again, in an unbroken chain, and the engine replays."""
    if not path.exists():
        assert acknowledged == 0
        return
    try:
        found = recover(path, ToyEngine, decode_toy)
    except StorageRefused:
        assert acknowledged == 0, "only a store whose creation failed may be refused"
        return
    assert found.journal.head.sequence >= acknowledged
    found.journal.close()
    found.watermark.close()
    assert verify(path, ToyEngine, decode_toy).equal


@pytest.mark.parametrize("limit_bytes", [60_000, 150_000])
def test_file_that_may_not_grow_stops_the_journal_without_losing_records(
    tmp_path: Path, limit_bytes: int
) -> None:
    def forbid_growth() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    said = run_victim(tmp_path / "journal", 10_000, preexec_fn=forbid_growth)
    assert said[-2].startswith("refused JournalFailed")
    assert said[-1] == "still refused"
    check_left_behind(tmp_path / "journal", acknowledged_by(said))


@pytest.fixture(scope="module")
def interposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler on Linux")
    library = tmp_path_factory.mktemp("interposer") / "fail_nth.so"
    source = Path(__file__).with_name("fail_nth.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True
    )
    return library


def run_failing(interposer: Path, folder: Path, nth: int, stays: bool) -> list[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": str(interposer),
        "FAIL_AT": str(nth),
        "FAIL_PATH": str(folder / "journal"),
    }
    if stays:
        environment["FAIL_STAYS"] = "1"
    return run_victim(folder / "journal", 200, env=environment)


@pytest.mark.parametrize("nth", [1, 3, 12, 18])
def test_disk_call_that_fails_during_creation_leaves_no_journal_or_a_good_one(
    interposer: Path, tmp_path: Path, nth: int
) -> None:
    said = run_failing(interposer, tmp_path, nth, stays=True)
    assert acknowledged_by(said) == 0
    check_left_behind(tmp_path / "journal", 0)


@pytest.mark.parametrize("first", range(1, 45, 11))  # the first eleven belong to opening
def test_nth_disk_call_that_fails_stops_the_journal_or_costs_nothing(
    interposer: Path, tmp_path: Path, first: int
) -> None:
    """The failing calls walk through recovery, commits, checkpoints, watermarks, snapshots."""
    stopped = 0
    for nth in range(first, first + 11, 3):
        folder = tmp_path / str(nth)
        folder.mkdir()
        finished_store(folder / "journal", batches=3)  # whole before the faults begin
        said = run_failing(interposer, folder, nth, stays=nth % 2 == 1)
        failures = [line for line in said if line.startswith("refused JournalFailed")]
        if failures:
            stopped += 1
            assert said[-1] == "still refused"
        if any("the checkpoint failed" in line for line in failures):
            assert (folder / "journal-wal").stat().st_size > 0, "folded when it was closed"
        check_left_behind(folder / "journal", acknowledged_by(said))
    assert stopped > 0 or first == 1
