"""`uncross compare-margin`: one story under several models, in other processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exchange.cli import compare_run, run_pool, warm_up
from exchange.cli.compare_plot import plot_html
from exchange.cli.compare_report import headings, report_of, rows_of
from exchange.cli.compare_run import RunRecord, RunRequest, run_story
from exchange.cli.margin_course import (
    Course,
    MarginCourse,
    figures,
    largest_rise,
    peak_to_trough,
    uncovered,
)
from tests.cli.conftest import uncross, write_short_story
from tests.core.market import SECOND, Market, small

MODELS = ["ps-1", "fhs-es"]
SEEDS, CYCLES = 2, 36  # past the low of the crash


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """The story, the page and the report of one comparison."""
    folder = tmp_path_factory.mktemp("compare")
    story, page = write_short_story(folder), folder / "page.html"
    result = uncross(
        "compare-margin", story, "--models", "ps-1,fhs", "--seeds", SEEDS,
        "--cycles", CYCLES, "--json", "--plot", page,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return story, page, json.loads(result.stdout)


def test_every_model_runs_with_every_seed(
    compared: tuple[Path, Path, dict[str, Any]],
) -> None:
    _, _, report = compared
    assert list(report["models"]) == MODELS
    assert report["failures"] == []
    said = report["conditions"]
    assert (said["seeds"], said["cycles"], said["first_seed"]) == (SEEDS, CYCLES, 7)
    for entry in report["models"].values():
        assert [run["seed"] for run in entry["runs"]] == [7, 8]
        assert all(run["trial_balance"] == run["positions_sum"] == 0 for run in entry["runs"])
        assert {len(values) for values in entry["course"].values()} == {CYCLES}
        calls = [run["margin_calls"] for run in entry["runs"]]
        assert entry["summary"]["margin_calls"]["mean"] == sum(calls) / SEEDS


def test_a_run_is_the_same_bit_for_bit_wherever_it_runs(
    compared: tuple[Path, Path, dict[str, Any]],
) -> None:
    story, _, report = compared
    here = run_story(RunRequest(str(story), "fhs-es", 8, CYCLES))
    there = report["models"]["fhs-es"]["runs"][1]
    assert there["state_hash"] == here.figures["state_hash"]
    same = {k: v for k, v in here.figures.items() if k != "seconds"}
    assert {k: v for k, v in there.items() if k not in ("seed", "seconds")} == same


def test_the_index_is_the_same_under_every_model_and_margin_is_not(
    compared: tuple[Path, Path, dict[str, Any]],
) -> None:
    models = compared[2]["models"]
    paths = [entry["course"]["index"] for entry in models.values()]
    assert paths[0] == paths[1]
    rates = {name: entry["summary"]["long_peak_to_trough"] for name, entry in models.items()}
    assert rates["ps-1"]["most"] < 1.1, "a fixed range, and add-ons"
    assert rates["fhs-es"]["least"] > 1.5 * rates["ps-1"]["most"], "follows the forecast"
    assert models["fhs-es"]["summary"]["straddle_rise_10"]["least"] > 0.2


def test_the_page_needs_no_other_file(compared: tuple[Path, Path, dict[str, Any]]) -> None:
    text = compared[1].read_text("utf-8")
    assert all(name in text for name in MODELS)
    assert "insurance fund" in text
    assert 'src="http' not in text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["2025-10-11"], "no story '2025-10-11': neither a file nor one of 2020-03-12, 2025-10-10"),
        (["2025-10-10", "--models", "ps-2"], "no model 'ps-2'; there are deribit,"),
        (["2025-10-10", "--models", " , "], "name at least one model"),
        (["2025-10-10", "--seeds", "0"], "0 is not in the range 1<=x<=1000"),
        (["2025-10-10", "--seeds", "many"], "'many' is not a valid integer range"),
        (["2025-10-10", "--cycles", "10000"], "reaches 312 cycles, not 10000"),
        (["2025-10-10", "--plot", "/nowhere/at/all.html"], "no folder /nowhere/at"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    arguments: list[str], told: str
) -> None:
    result = uncross("compare-margin", *arguments)
    assert result.exit_code != 0
    assert told in " ".join(result.output.split())


def test_a_failed_run_is_told_and_the_others_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course = {key: [1.0, 2.0] for key in ("index", "long", "straddle", "initial", "fund", "called")}
    totals = {"margin_calls": 3, "state_hash": "ab", **figures(Course(), 6, (10, 60))}
    shown = {key: 0 for key in ("margin_calls_cured", "breaches", "liquidations", "fund_used_minor",
                                "adl_events")}  # fmt: skip

    def outcomes(run: object, requests: list[RunRequest], workers: int) -> Any:
        for request in requests:
            if request.model == "standard":
                yield run_pool.Outcome(request, None, "its process died")
            else:
                yield run_pool.Outcome(request, RunRecord(request, {**totals, **shown}, course))

    monkeypatch.setattr(run_pool, "run_all", outcomes)
    monkeypatch.setattr(warm_up, "warm_up_with_line", lambda: None)
    result = uncross(
        "compare-margin", write_short_story(tmp_path), "--models", "ps-1,standard", "--seeds", 1,
    )  # fmt: skip
    assert result.exit_code == 1
    assert "failed: standard, seed 7: its process died" in result.output
    assert "ps-1" in result.output
    assert "seed 7, " in result.output


def test_what_a_venue_does_not_list_is_a_dash_and_has_no_panel() -> None:
    course: dict[str, list[float | None]] = {
        key: [1.0, 2.0] for key in ("index", "long", "initial", "fund", "called")
    }
    course["straddle"] = [None, None]
    shown = {key: 0 for key in ("margin_calls", "margin_calls_cured", "breaches", "liquidations",
                                "fund_used_minor", "adl_events")}  # fmt: skip
    long = Course(index_e8=[[1], [1]])
    long.rate_ppb = {"long": [10**8, 2 * 10**8], "straddle": [0, 0]}
    record = RunRecord(
        RunRequest("story", "ps-1", 7, 2), {**shown, **figures(long, 6, (10, 60))}, course
    )
    said = {"title": "A story", "seeds": 1, "cycles": 2}
    report = report_of(said, ["ps-1"], [record], [])
    summary = report["models"]["ps-1"]["summary"]
    assert summary["straddle_rate"] == {"mean": None, "least": None, "most": None}
    assert report["models"]["ps-1"]["course"]["straddle"] == [None, None]
    cells = dict(zip(headings(), rows_of(report)[0], strict=True))
    assert (cells["long %"], cells["straddle\n%"]) == ("15.0", "-")
    page = plot_html(report)
    assert "short straddle" not in page
    assert "insurance fund" in page
    assert "A story: 1 seed, 2 cycles" in page


def test_a_report_of_no_runs_has_no_rows() -> None:
    report = report_of({}, ["ps-1"], [], [{"model": "ps-1", "seed": 1, "failure": "x"}])
    assert rows_of(report) == []
    assert headings()[0] == "model"


def test_procyclicality_of_a_rate() -> None:
    """0.10 to 0.18 within three cycles; then back."""
    rates = [100, 120, 150, 180, 90]
    assert peak_to_trough(rates) == 2.0
    assert largest_rise(rates, 1) == 150 / 120 - 1
    assert largest_rise(rates, 3) == pytest.approx(0.8)
    assert largest_rise(rates, 5) == 0
    assert peak_to_trough([0, 0]) is None
    assert largest_rise([0, 0], 1) is None
    assert largest_rise([100], 1) == 0


def test_a_loss_beyond_the_margin_is_an_uncovered_cycle() -> None:
    """Margin 10 % of 100: the fall to 85 over two cycles is one and a half times that."""
    course = Course(index_e8=[[100], [100], [85], [85]])
    course.rate_ppb["long"] = [10**8] * 4
    assert uncovered(course, 2) == (2, 1.5)
    assert uncovered(course, 3) == (1, 1.5)


def test_a_straddle_counts_until_its_price_is_fixed_in_part() -> None:
    """Expiry after an hour; the last half hour of it is the settlement window."""
    market = Market(small(expiry_after_s=3600))
    course = MarginCourse(market.engine)
    for _ in range(8):  # to 48 minutes
        course.take(market.log[-1], [])
        market.cycle(after_ns=6 * 60 * SECOND)
    rates = course.course.rate_ppb
    assert all(rate > 0 for rate in rates["long"])
    assert [rate > 0 for rate in rates["straddle"]] == [True] * 5 + [False] * 3
    assert peak_to_trough(rates["straddle"]) < 1.2


@pytest.mark.long
@pytest.mark.parametrize("story", ["2025-10-10", "2020-03-12"])
def test_twenty_crashes_under_every_model(story: str, tmp_path: Path) -> None:
    """What margin/README.md says: see "What the models do in a crash"."""
    result = uncross("compare-margin", story, "--seeds", 20, "--json")
    assert result.exit_code == 0, result.output
    models = json.loads(result.stdout)["models"]

    def mean(model: str, figure: str) -> float:
        value: float = models[model]["summary"][figure]["mean"]
        return value

    for entry in models.values():
        assert all(run["trial_balance"] == run["positions_sum"] == 0 for run in entry["runs"])
    swing = {name: mean(name, "long_peak_to_trough") for name in models}
    assert swing["standard"] < swing["ps-1"] < swing["ps-1-dynamic"] < swing["fhs-es"]
    assert mean("ps-1-dynamic+floor", "interest_over_margin") < mean("ps-1", "interest_over_margin")
    assert mean("standard", "long_rate") < mean("ps-1", "long_rate")
    assert compare_run.RISE_CYCLES == (10, 60)
