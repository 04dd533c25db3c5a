from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest

from exchange.cli.narration import decimal_text, usdc
from tests.cli.conftest import SHORT_CYCLES, Demo, uncross


def test_verify_says_equal_for_every_cycle(demo: Demo) -> None:
    result = uncross("verify", demo.journal)
    assert result.exit_code == 0
    assert result.output.startswith(f"equal: {SHORT_CYCLES + 1} cycles, ")


def copy_of(demo: Demo, folder: Path) -> Path:
    journal = folder / "copy.journal"
    shutil.copy(demo.journal, journal)
    shutil.copy(f"{demo.journal}.watermark", f"{journal}.watermark")
    return journal


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (
            "UPDATE records SET payload = CAST(payload || x'00' AS BLOB) WHERE sequence = 500",
            "record 500",
        ),
        ("UPDATE records SET time_ns = time_ns + 1 WHERE sequence = 77", "record 77"),
        ("DELETE FROM records WHERE sequence = 300", "record 300"),
        ("DELETE FROM records WHERE sequence > 900", "record 901"),
    ],
)
def test_verify_refuses_a_changed_journal_and_says_where(
    demo: Demo, tmp_path: Path, change: str, where: str
) -> None:
    journal = copy_of(demo, tmp_path)
    connection = sqlite3.connect(journal)
    connection.execute(change)
    connection.commit()
    connection.close()
    result = uncross("verify", journal)
    assert result.exit_code == 1
    assert "not equal" in result.output
    assert where in result.output


def test_a_journal_that_is_cut_off_is_refused_in_one_line(demo: Demo, tmp_path: Path) -> None:
    journal = copy_of(demo, tmp_path)
    journal.write_bytes(journal.read_bytes()[: journal.stat().st_size // 2])
    for command in (["verify", journal], ["show", journal], ["show", journal, "--cycle", 3]):
        result = uncross(*command)
        assert result.exit_code == 1
        assert result.output.startswith("Error: ")
        assert "Traceback" not in result.output


def test_what_is_no_journal_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a journal")
    for command in ("verify", "show"):
        assert uncross(command, text).exit_code == 1
        missing = uncross(command, tmp_path / "nothing")
        assert missing.exit_code == 2
        assert "does not exist" in missing.output


def test_show_gives_an_overview_with_the_totals_of_the_summary(demo: Demo) -> None:
    output = uncross("show", demo.journal).output
    assert f"{demo.summary['orders']:,} orders, {demo.summary['fills']:,} fills" in output
    assert f"insurance fund {usdc(demo.summary['fund_end_minor'])} USDC" in output
    assert f"state hash {demo.summary['state_hash']}" in output


def test_show_tells_the_cycle_of_the_low(demo: Demo) -> None:
    low = 33  # 19:58:00 + 33 x 150 s = 21:20:30, the knot of the low
    output = uncross("show", demo.journal, "--cycle", low).output
    assert "closed 10 Oct 2025 21:20:30 UTC" in output
    assert "102,497.5" in output
    for heading in ("auctions", "margin calls", "liquidations"):
        assert f"\n{heading}\n" in output
    assert "insurance fund takes over long" in output


def test_show_of_the_last_cycle_ends_with_the_hash_of_the_summary(demo: Demo) -> None:
    output = uncross("show", demo.journal, "--cycle", SHORT_CYCLES).output
    assert f"state hash {demo.summary['state_hash']}" in output


def test_show_tells_the_first_cycle(demo: Demo) -> None:
    output = uncross("show", demo.journal, "--cycle", 1).output
    assert "deposits" in output


def test_a_cycle_beyond_the_last_is_refused(demo: Demo) -> None:
    result = uncross("show", demo.journal, "--cycle", 999)
    assert result.exit_code == 1
    assert f"cycle 999 is not in it; the last is {SHORT_CYCLES}" in result.output


def test_decimals_are_written_without_needless_zeros() -> None:
    assert decimal_text(0) == "0"
    assert decimal_text(-150_000_000) == "-1.5"
    assert decimal_text(123_456_700_000_000) == "1,234,567"
    assert decimal_text(1) == "0.00000001"
