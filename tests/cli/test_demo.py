from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.cli.summary import print_table
from exchange.core.engine import Engine
from exchange.core.venue import VenueError
from exchange.storage.recovery import recover
from tests.cli.conftest import SHORT_CYCLES, Demo, run_demo, uncross, write_short_story

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "cycles", "accounts", "orders", "fills", "volume", "margin_calls", "margin_calls_cured",
    "liquidations", "fund_start_minor", "fund_end_minor", "fund_takeovers", "adl_events",
    "vm_haircuts", "funding_paid", "expiries_settled", "trial_balance", "positions_sum",
    "state_hash", "journal", "seconds",
}  # fmt: skip


def test_the_crash_calls_cures_liquidates_and_is_taken_over(demo: Demo) -> None:
    summary = demo.summary
    assert set(summary) >= KEYS
    assert summary["cycles"] == SHORT_CYCLES
    assert summary["accounts"] == 46
    assert summary["trial_balance"] == 0
    assert summary["positions_sum"] == 0
    assert summary["shortfalls"] == 0
    for key in ("orders", "fills", "volume", "margin_calls", "margin_calls_cured",
                "liquidations", "fund_takeovers"):  # fmt: skip
        assert summary[key] > 0, key
    assert summary["fund_start_minor"] == 60_000 * 10**6


def test_the_summary_names_the_journal_and_what_to_try_next(demo: Demo) -> None:
    assert f"uncross verify {demo.journal}" in demo.output
    assert f"uncross show {demo.journal} --cycle " in demo.output
    assert "margin period of risk: 900 s = 6 cycles of 150 s" in demo.output


def test_a_summary_fits_a_page_of_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = {name: 10**12 for name in ("insurance_fund", "venue_capital", "gains_haircut")}
    figures = {"cycles": 8, "layers_minor": layers, "state_hash": "a1" * 32, "caveat": "none"}
    monkeypatch.setenv("COLUMNS", "80")
    print_table("A story", figures)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[2] == f"  {'cycles':<30} 8"
    assert lines[3].startswith(f"  {'layers':<30} insurance_fund 1,000,000.00 USDC,")
    assert lines[4].startswith(" " * 33)
    assert lines[-2:] == ["  state hash", f"    {'a1' * 32}"]
    monkeypatch.setenv("COLUMNS", "100")
    print_table("A story", figures)
    assert capsys.readouterr().out.endswith(f"  {'state hash':<30} {'a1' * 32}\n")


def test_the_same_seed_gives_the_same_market_and_another_another(demo: Demo) -> None:
    again = run_demo(demo.folder, demo.story, "again", 7)
    other = run_demo(demo.folder, demo.story, "other", 8)
    assert again.summary["state_hash"] == demo.summary["state_hash"]
    assert other.summary["state_hash"] != demo.summary["state_hash"]
    left_out = {"seconds", "journal"}
    assert {k: v for k, v in again.summary.items() if k not in left_out} == {
        k: v for k, v in demo.summary.items() if k not in left_out
    }


def test_the_journal_recovers_to_the_state_of_the_summary(demo: Demo) -> None:
    from exchange.core.engine import Engine

    recovered = recover(demo.journal, Engine)
    try:
        assert recovered.engine.last_state_hash.hex() == demo.summary["state_hash"]
    finally:
        recovered.journal.close()


def test_a_story_is_told_no_further_than_its_knots(demo: Demo) -> None:
    result = uncross("demo", "--fast", "--cycles", 5000, "--journal", demo.folder / "far")
    assert result.exit_code == 2
    assert "reaches 312 cycles, not 5000" in result.output
    assert not (demo.folder / "far").exists()


def test_an_existing_file_is_never_overwritten(demo: Demo) -> None:
    before = demo.journal.read_bytes()
    result = uncross("demo", "--fast", "--cycles", 1, "--journal", demo.journal)
    assert result.exit_code == 1
    assert "a journal is never overwritten" in result.output
    assert demo.journal.read_bytes() == before


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--story", "nope", "no story 'nope': neither a file nor one of 2020-03-12, 2025-10-10"),
        ("--venue", "nope", "no venue 'nope': neither a file nor one of demo, march-2020, tiny"),
        ("--venue", "tiny", "needs the indices BTC in this order"),
        ("--journal", "/nowhere/at/all", "there is no directory"),
    ],
)
def test_what_the_user_got_wrong_is_one_line(option: str, value: str, message: str) -> None:
    result = uncross("demo", "--fast", "--cycles", 1, option, value)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_a_market_that_never_opened_leaves_no_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise VenueError("no")

    monkeypatch.setattr("exchange.cli.demo_market.CycleDriver.open", refuse)
    story, folder = write_short_story(tmp_path), tmp_path / "journals"
    folder.mkdir()
    options = ("--story", story, "--fast", "--in-process", "--journal", folder / "new.journal")
    for _ in range(2):
        result = uncross("demo", *options)
        assert result.exit_code == 1
        assert result.output.endswith("Error: no\n")
        assert list(folder.iterdir()) == []


def test_over_sockets_the_bots_are_another_process_and_the_journal_verifies(demo: Demo) -> None:
    journal, figures = demo.folder / "sockets.journal", demo.folder / "sockets.json"
    result = uncross(
        "demo", "--story", demo.story, "--fast", "--cycles", 12, "--journal", journal,
        "--summary", figures,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    summary = json.loads(figures.read_text("utf-8"))
    assert summary["cycles"] == 12
    assert summary["accounts"] == 46
    assert summary["fills"] > 50
    assert (summary["trial_balance"], summary["positions_sum"]) == (0, 0)
    assert uncross("verify", journal).output.startswith("equal: 13 cycles")


@pytest.mark.long
def test_a_hundred_accounts_over_sockets_play_the_night_in_two_minutes(tmp_path: Path) -> None:
    shipped = write_short_story(tmp_path).read_text("utf-8")
    story, figures = tmp_path / "hundred.toml", tmp_path / "figures.json"
    story.write_text(
        shipped.replace("trend_followers = 30", "trend_followers = 70")
        .replace("noise_traders = 6", "noise_traders = 20"), "utf-8"
    )  # fmt: skip
    journal = tmp_path / "journal"
    command = [sys.executable, "-m", "exchange", "demo", "--story", str(story), "--fast",
               "--cycles", "300", "--journal", str(journal), "--summary", str(figures)]  # fmt: skip
    began = time.monotonic()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=300)
    assert time.monotonic() - began < 120
    summary = json.loads(figures.read_text("utf-8"))
    assert (summary["cycles"], summary["accounts"]) == (300, 100)
    assert summary["trial_balance"] == 0
    assert uncross("verify", journal).output.startswith("equal")


def test_bots_that_die_end_the_demo_with_what_they_said(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    from exchange.cli import demo_crowd

    monkeypatch.setattr(demo_crowd, "write_mix", lambda path, mix: path.write_text("mm = 1\n"))
    journal = demo.folder / "orphaned.journal"
    result = uncross("demo", "--story", demo.story, "--fast", "--journal", journal)
    assert result.exit_code == 1
    assert "the bots ended early" in result.output
    assert "unknown key mm" in result.output
    assert uncross("verify", journal).output.startswith("equal")


def test_ctrl_c_closes_the_journal(demo: Demo) -> None:
    journal = demo.folder / "stopped.journal"
    command = [sys.executable, "-m", "exchange", "demo", "--story", str(demo.story), "--fast",
               "--journal", str(journal)]  # fmt: skip
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert running.stdout is not None
    for line in running.stdout:
        if line.startswith(b"cycle 25 of"):
            break
    os.kill(running.pid, signal.SIGINT)
    output, _ = running.communicate(timeout=30)
    assert running.returncode == 130, output.decode()
    assert b"stopped after cycle " in output
    assert b"Traceback" not in output
    assert not Path(f"{journal}-wal").exists(), "the log is folded into the journal"
    assert uncross("verify", journal).output.startswith("equal")


@pytest.mark.long
@pytest.mark.parametrize(
    "machine",
    [
        {"NUMBA_NUM_THREADS": "1"},
        {"PYTHONHASHSEED": "0"},
        {"PYTHONHASHSEED": "1"},
        {"NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": "generic"},
        {"NUMBA_DISABLE_JIT": "1"},
    ],
    ids=["one thread", "hash seed 0", "hash seed 1", "generic processor", "interpreted"],
)
def test_the_hash_does_not_depend_on_the_machine(
    demo: Demo, tmp_path: Path, machine: dict[str, str]
) -> None:
    """A cache of its own for another processor: what numba stored for this one must not serve."""
    machine = {
        key: str(tmp_path / value) if key == "NUMBA_CACHE_DIR" else value
        for key, value in machine.items()
    }
    summary = tmp_path / "summary.json"
    command = [
        sys.executable, "-m", "exchange", "demo", "--story", str(demo.story), "--fast",
        "--in-process", "--cycles", str(SHORT_CYCLES), "--summary", str(summary),
        "--journal", str(tmp_path / "elsewhere.journal"),
    ]  # fmt: skip
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, **machine}, capture_output=True)
    assert run.returncode == 0, run.stderr.decode()
    assert json.loads(summary.read_text("utf-8"))["state_hash"] == demo.summary["state_hash"]


def test_an_index_file_stands_for_the_story_s_path(demo: Demo, tmp_path: Path) -> None:
    index, summary = tmp_path / "index.csv", tmp_path / "summary.json"
    minutes = [f"2025-10-10T{19 + m // 60}:{m % 60:02d}:00Z" for m in range(50, 90)]
    index.write_text("\n".join(["time,BTC,ETH,SOL", *(f"{m},100000,4000,200" for m in minutes)]))
    options = ("--story", demo.story, "--fast", "--cycles", 2, "--index", index)
    run = uncross("demo", *options, "--summary", summary)
    assert run.exit_code == 0, run.output
    journal = json.loads(summary.read_text("utf-8"))["journal"]
    engine = recover(Path(journal), Engine).engine
    assert engine.state.marks.index_e8.tolist() == [100_000 * 10**8, 4_000 * 10**8, 200 * 10**8]


def test_an_index_file_without_an_underlying_is_refused(demo: Demo, tmp_path: Path) -> None:
    index = tmp_path / "index.csv"
    index.write_text("time,BTC\n2025-10-10T20:00:00Z,100000\n")
    refused = uncross("demo", "--story", demo.story, "--fast", "--index", index)
    assert refused.exit_code == 1
    assert "header lacks ETH, SOL" in refused.output
