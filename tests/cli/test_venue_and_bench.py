from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from click import ClickException

from exchange.cli import bench
from exchange.core.venue import VenueError
from exchange.coverage import coverage, horizon_ns, require_coverage
from exchange.venues import load_venue
from tests.cli.conftest import uncross

DEMO = Path(load_venue.__code__.co_filename).parent / "demo.toml"


def test_coverage_is_the_spot_range_in_deviations_over_the_horizon() -> None:
    venue = load_venue("demo", interval_s=150)
    assert horizon_ns(venue) == (3 + 0 + 3) * 150 * 10**9
    years = 900 / (365 * 86_400)
    rows = {row.underlying: row for row in coverage(venue)}
    assert list(rows) == ["BTC", "ETH", "SOL"]
    assert rows["BTC"].deviations == pytest.approx(0.16 / (0.45 * years**0.5))
    assert rows["SOL"].deviations == pytest.approx(0.27 / (0.8 * years**0.5))


def test_a_thinly_covered_venue_is_refused_unless_it_says_so(tmp_path: Path) -> None:
    require_coverage(load_venue("demo"))
    with pytest.raises(VenueError, match=r"BTC is covered for 2\.77 standard deviations"):
        load_venue("demo", interval_s=86_400)
    path = tmp_path / "bold.toml"
    text = DEMO.read_text("utf-8").replace("allow_uncovered = false", "allow_uncovered = true")
    path.write_text(text, "utf-8")
    require_coverage(load_venue(str(path), interval_s=86_400))


def test_the_demo_refuses_a_venue_without_cover(tmp_path: Path) -> None:
    path = tmp_path / "bold.toml"
    text = DEMO.read_text("utf-8").replace("coverage_min = 3", "coverage_min = 60")
    path.write_text(text, "utf-8")
    refused = uncross("demo", "--fast", "--cycles", 1, "--venue", path)
    assert refused.exit_code == 1
    assert "allow_uncovered" in refused.output
    path.write_text(text.replace("allow_uncovered = false", "allow_uncovered = true"), "utf-8")
    assert uncross("venue", path).exit_code == 0


def test_venue_prints_what_the_engine_gets_and_its_coverage() -> None:
    result = uncross("venue", "demo")
    assert result.exit_code == 0
    assert "interval_ns = 5000000000" in result.output
    assert "BTC_USDC-PERPETUAL" in result.output
    assert "standard deviations" in result.output


def test_venue_names_an_outside_venue_that_can_never_count() -> None:
    slow = uncross("venue", "venue-outage", "--interval", 20)
    assert slow.exit_code == 0
    assert (
        "# outside venue harbour: its credit is always 0, for a transfer takes 120 s and the "
        "margin period of risk is 120 s\n"
    ) in slow.output
    assert "its credit" not in uncross("venue", "venue-outage", "--interval", 21).output


def test_venue_with_another_interval_may_lose_its_cover() -> None:
    result = uncross("venue", "demo", "--interval", 86_400)
    assert result.exit_code == 1
    assert "less than coverage_min = 3" in result.output


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("interval_s = 5", "interval_s = 5\ncolour = 1", "unknown key venue.colour"),
        ("interval_s = 5", "interval_s = 0", "venue.interval_s = 0: must be from"),
        ('preset = "ps-1"', 'preset = "ps-99"', "ps-99"),
        ("[collar]", "[collar", "not TOML"),
    ],
)
def test_a_wrong_venue_file_is_one_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:  # fmt: skip
    path = tmp_path / "mine.toml"
    path.write_text(DEMO.read_text("utf-8").replace(old, new), "utf-8")
    result = uncross("venue", path)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1


def test_bench_runs_what_the_checkout_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tests" / "benchmarks"
    folder.mkdir(parents=True)
    row = {"name": "toys", "ours": 2.0, "baseline": 1.0, "unit": "toys/s", "ratio": 2.0,
           "baseline_name": "hands", "conditions": "a quiet room"}  # fmt: skip
    (folder / "bench_toys.py").write_text(f"def run(quick=False):\n    return [{row!r}]\n")
    monkeypatch.setattr(bench, "BENCHMARKS", folder)
    told = uncross("bench", "--quick")
    assert told.exit_code == 0
    assert "toys/s" in told.output
    assert "a quiet room" in told.output
    rows = json.loads(uncross("bench", "toys", "--json").stdout)
    assert rows == [{"benchmark": "toys", **row}]
    wrong = uncross("bench", "trains")
    assert wrong.exit_code == 2
    assert "known: toys" in wrong.output
    monkeypatch.setitem(bench.TOGETHER, "toys", ("games", "trains"))
    (folder / "bench_games.py").write_text(f"def run(quick=False):\n    return [{row!r}]\n")
    rows = json.loads(uncross("bench", "toys", "games", "--json").stdout)
    assert [row["benchmark"] for row in rows] == ["toys", "games"]
    shutil.rmtree(folder)
    nowhere = uncross("bench")
    assert nowhere.exit_code == 1
    assert "from a checkout" in nowhere.output


def test_a_benchmark_is_a_module_that_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its classes pickle, and one that cannot be imported leaves nothing behind."""
    folder = tmp_path / "tests" / "benchmarks"
    folder.mkdir(parents=True)
    monkeypatch.setattr(bench, "BENCHMARKS", folder)
    (folder / "bench_shelf.py").write_text(
        "import pickle\nclass Book: pass\n"
        "def run(quick=False):\n    return [{'size': len(pickle.dumps(Book()))}]\n"
    )
    assert bench.run_benchmark("shelf", quick=True)[0]["size"] > 0
    del sys.modules["tests.benchmarks.bench_shelf"]
    (folder / "bench_broken.py").write_text("import nothing_of_that_name\n")
    with pytest.raises(ClickException, match="nothing_of_that_name"):
        bench.run_benchmark("broken", quick=True)
    assert "tests.benchmarks.bench_broken" not in sys.modules
