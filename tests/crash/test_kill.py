"""A journaling process killed at any instant loses nothing that it acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.storage.journal import Journal
from exchange.storage.recovery import recover
from replays.verify import verify
from tests.storage.toy_engine import ToyEngine, decode_toy

ROOT = Path(__file__).parents[2]
KILLS = 20


def start_victim(path: Path, seed: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.crash.victim", str(path), str(seed), "0", "200"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def killed_after(victim: subprocess.Popen[str], heads: int, delay_seconds: float) -> int:
    """Kill the process some time after so many heads; the last head that it acknowledged."""
    assert victim.stdout is not None
    said = [victim.stdout.readline() for _ in range(heads)]
    time.sleep(delay_seconds)
    os.kill(victim.pid, signal.SIGKILL)
    said += victim.stdout.read().splitlines(keepends=True)
    assert victim.wait() == -signal.SIGKILL, "it was still at work"
    victim.stdout.close()
    whole = [line for line in said if line.startswith("head ") and line.endswith("\n")]
    assert len(whole) >= len(said) - 1, f"only a torn last line is no head: {said[-3:]}"
    return int(whole[-1].split()[1])


def test_kill_loses_no_acknowledged_record(tmp_path: Path) -> None:
    """One journal lives through all kills: each recovery builds on the one before."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    path = tmp_path / "journal"
    acknowledged, unacknowledged = 0, 0
    for _ in range(KILLS):
        victim = start_victim(path, chance.randrange(2**32))
        head = killed_after(victim, chance.randint(1, 40), chance.uniform(0.0, 0.005))
        assert head >= acknowledged
        with Journal.open(path, read_only=True) as journal:
            numbers = [record.sequence for record in journal.records()]
        assert numbers == list(range(1, len(numbers) + 1)), "no gap"
        assert len(numbers) >= head, "nothing acknowledged is lost"
        unacknowledged += len(numbers) > head
        acknowledged = len(numbers)
    assert acknowledged > 10 * KILLS
    outcome = verify(path, ToyEngine, decode_toy)
    assert outcome.equal, outcome.what
    assert outcome.records == acknowledged
    found = recover(path, ToyEngine, decode_toy)
    found.journal.close()
    assert found.snapshot_sequence > 0, "snapshots were taken, and one was used"
    fresh = ToyEngine()
    with Journal.open(path, read_only=True) as journal:
        for record in journal.records():
            if record.kind != "StateHash":
                fresh.apply(decode_toy(record.kind, record.payload))
    assert found.engine.state_hash() == fresh.state_hash(), "same hash as from the first record"
    print(f"{acknowledged} records, {unacknowledged} kills between commit and acknowledgement")


@pytest.mark.parametrize("delay_seconds", [0.0, 0.001, 0.003])
def test_kill_of_a_store_just_created_leaves_it_recoverable(
    tmp_path: Path, delay_seconds: float
) -> None:
    head = killed_after(start_victim(tmp_path / "journal", 1), 1, delay_seconds)
    found = recover(tmp_path / "journal", ToyEngine, decode_toy)
    assert found.journal.head.sequence >= head
    found.journal.close()
