"""A market killed at any instant, twenty times over, loses no order that it acknowledged."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from exchange.core.commands import Seal, Uncross, decode_command
from exchange.core.engine import Engine
from exchange.core.stored.state import Phase
from exchange.storage.journal import Journal
from exchange.storage.recovery import Recovered, create_store, recover
from replays.verify import verify
from tests.crash.market_victim import opened

ROOT = Path(__file__).parents[2]
KILLS = 20
PATIENCE_SECONDS = 60


class Launcher:
    """Starts markets quickly, one at a time, each to be killed."""

    def __init__(self, folder: Path) -> None:
        self.path, self.said = folder / "journal", folder / "acknowledged"
        command = [sys.executable, "-m", "tests.crash.market_victim", self.path, self.said]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._answer() == "ready"

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def acknowledged(self) -> list[int]:
        """Heads that were acknowledged; a torn last line is none."""
        if not self.said.exists():
            return []
        lines = self.said.read_text().split("\n")[:-1]
        return [int(line.removeprefix("head ")) for line in lines]

    def killed_after(self, seed: int, heads: int, delay_seconds: float) -> None:
        """Start a market and kill it some time after so many acknowledgements."""
        before = len(self.acknowledged())
        assert self.process.stdin is not None
        print(seed, file=self.process.stdin, flush=True)
        child = int(self._answer())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.acknowledged()) < before + heads:
            assert time.monotonic() < deadline, "the market runs"
            time.sleep(0.001)
        time.sleep(delay_seconds)
        os.kill(child, signal.SIGKILL)
        assert self._answer() == "gone -9", "it was still at work"

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_SECONDS) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def launcher(tmp_path: Path) -> Iterator[Launcher]:
    started = Launcher(tmp_path)
    yield started
    started.close()


def numbers_in(path: Path) -> list[int]:
    with Journal.open(path, read_only=True) as journal:
        return [record.sequence for record in journal.records()]


def straight_replay(path: Path) -> Engine:
    """A new engine fed every command of the journal from the first."""
    engine = Engine()
    with Journal.open(path, read_only=True) as journal:
        for record in journal.records():
            if record.kind != "StateHash":
                engine.apply(decode_command(record.kind, record.payload))
    return engine


def closed(found: Recovered[Engine]) -> None:
    found.journal.close()
    found.watermark.close()


def test_twenty_kills_lose_nothing_that_was_acknowledged(launcher: Launcher) -> None:
    """One journal lives through all kills; each recovery builds on the one before."""
    seed = random.SystemRandom().randrange(2**32)
    print("seed", seed)
    chance = random.Random(seed)
    durable = 0
    for _ in range(KILLS):
        launcher.killed_after(
            chance.randrange(2**32), chance.randint(1, 60), chance.uniform(0, 0.08)
        )
        numbers = numbers_in(launcher.path)
        assert numbers == list(range(1, len(numbers) + 1)), "no gap"
        head = launcher.acknowledged()[-1]
        assert durable <= head <= len(numbers), "nothing acknowledged is lost"
        durable = len(numbers)
    assert durable > 20 * KILLS
    outcome = verify(launcher.path, Engine)
    assert outcome.equal, outcome.what
    assert outcome.records == durable
    found = recover(launcher.path, Engine)
    assert found.snapshot_sequence > 0, "snapshots were taken, and one was used"
    straight = straight_replay(launcher.path)
    assert found.engine.state_hash() == straight.state_hash()
    stopped = found.engine.state.phase.name
    market = opened(launcher.path, found.engine, found.journal)
    market.driver.close_batch()
    market.sequencer.write_note()
    closed(found)
    assert found.engine.state.phase == Phase.COLLECTING
    assert straight_replay(launcher.path).state_hash() == found.engine.state_hash()
    outcome = verify(launcher.path, Engine)
    assert outcome.equal, outcome.what
    print(f"{durable} records, {outcome.cycles} cycles, at the end {stopped}")


@pytest.mark.parametrize("kept", ["Seal", "Uncross"])
def test_a_cycle_cut_open_is_completed_and_verifies(tmp_path: Path, kept: str) -> None:
    """Seal and Uncross are one commit, so a cut between them is made by hand."""
    path = tmp_path / "journal"
    journal, watermark = create_store(path)
    engine = Engine()
    market = opened(path, engine, journal)
    market.driver.close_batch()
    now, batch = market.now, market.state.batch
    market.sequencer.commit([Seal(now, batch)])
    if kept == "Uncross":
        market.sequencer.commit([Uncross(now, batch)])
    stopped = engine.state_hash()
    journal.close()
    watermark.close()
    found = recover(path, Engine)
    assert found.engine.state_hash() == stopped
    assert found.engine.state.phase != Phase.COLLECTING
    again = opened(path, found.engine, found.journal)
    again.sequencer.write_note()
    closed(found)
    assert found.engine.state.cycle == batch
    assert straight_replay(path).state_hash() == found.engine.state_hash()
    outcome = verify(path, Engine)
    assert outcome.equal, outcome.what


def test_a_kill_in_the_first_moments_leaves_a_market_that_opens(launcher: Launcher) -> None:
    launcher.killed_after(1, 1, 0.0)
    found = recover(launcher.path, Engine)
    assert found.journal.head.sequence >= launcher.acknowledged()[-1]
    market = opened(launcher.path, found.engine, found.journal)
    market.driver.close_batch()
    closed(found)
