from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.cli.conftest import uncross

KEYS = {
    "messages", "used", "hidden", "orders", "fills", "batches", "auction_volume", "visible_volume",
    "auction_over_visible_volume", "late_cancels", "unknown_ids", "unknown_executions",
    "messages_per_second", "state_hash",
}  # fmt: skip
# An offer of 40 and one of 60; a buyer of 50 takes the better one and a part of the other; the rest
# is deleted. One hidden execution; one deletion and one execution of orders from before the file.
FLOW = b"""34200.000000001,1,101,40,1000100,-1
34200.1,1,102,60,1000200,-1
34200.2,5,0,7,1000150,1
34200.3,4,101,40,1000100,-1
34200.3,4,102,10,1000200,-1
34200.4,3,900,5,999900,1
34201.5,4,901,20,999800,1
34202.25,3,102,50,1000200,-1
"""


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    path = tmp_path / "TOY_2012-06-21_message.csv.gz"
    path.write_bytes(gzip.compress(FLOW, mtime=0))
    return path


def test_a_small_file_is_replayed_and_summed_up(flow: Path, tmp_path: Path) -> None:
    out = tmp_path / "summary.json"
    result = uncross("replay", "lobster", flow, "--interval", "1", "--summary", out)
    assert result.exit_code == 0, result.output
    assert "mechanical counterfactual" in result.output
    summary = json.loads(out.read_text("utf-8"))
    assert set(summary) >= KEYS
    expected = {
        "messages": 8, "used": 6, "hidden": 1, "orders": 4, "takers": 2, "batches": 3,
        "auction_volume": 50, "visible_volume": 70, "fills": 3, "late_cancels": 0,
        "unknown_ids": 1, "unknown_executions": 1,
    }  # fmt: skip
    assert {key: summary[key] for key in expected} == expected
    assert summary["auction_over_visible_volume"] == pytest.approx(50 / 70, abs=1e-6)


def test_the_same_file_gives_the_same_hash_and_another_seed_another(
    flow: Path, tmp_path: Path
) -> None:
    hashes = []
    for number, seed in enumerate((7, 7, 8)):
        out = tmp_path / f"{number}.json"
        uncross("replay", "lobster", flow, "--seed", seed, "--summary", out)
        hashes.append(json.loads(out.read_text("utf-8"))["state_hash"])
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize("interval", ["0", "-1", "soon", "nan", "1e-12", "1e9"])
def test_an_interval_is_a_positive_time(flow: Path, interval: str) -> None:
    result = uncross("replay", "lobster", flow, "--interval", interval)
    assert result.exit_code == 2
    assert "Invalid value for '--interval'" in result.output


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.csv", FLOW[:-9], "line 8"),
        ("text.csv", b"time,type\n", "line 1"),
        ("cut.csv.gz", gzip.compress(FLOW, mtime=0)[:-20], "gzip archive is cut off"),
        ("flow.txt", FLOW, "a name ending in .csv or .csv.gz"),
        ("over.csv", FLOW.replace(b"4,101,40", b"4,101,41"), "which has fewer left"),
    ],
)
def test_a_defect_of_the_file_is_one_line_that_says_where(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    result = uncross("replay", "lobster", path)
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.csv"
    path.write_bytes(b"")
    assert uncross("replay", "lobster", path).exit_code == 1
