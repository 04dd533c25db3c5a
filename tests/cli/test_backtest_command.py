"""`uncross backtest` as a user runs it: tables, JSON, a page, and errors in one line."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import uncross

DAYS = 280


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A year of daily prices, newest first, with a blank first line."""
    chance = random.Random(5)
    price, rows = 1000.0, []
    for day in range(DAYS):
        price *= 1 + chance.gauss(0, 0.03)
        rows.append(f"{date(2024, 1, 1) + timedelta(day)},{price:.4f}\n")
    path = tmp_path_factory.mktemp("prices") / "coin.csv"
    path.write_text("\nDate,Adj_Close\n" + "".join(reversed(rows)), "utf-8")
    return path


def with_iv(prices: Path, folder: Path) -> Path:
    header, *rows = prices.read_text("utf-8").strip().splitlines()
    lines = [f"{header},iv", *(f"{row},{0.5 + n % 7 / 100}" for n, row in enumerate(rows))]
    path = folder / "iv.csv"
    path.write_text("\n".join(lines), "utf-8")
    return path


def figures(*arguments: object) -> dict[str, Any]:
    result = uncross("backtest", *arguments, "--window", 100, "--json")
    assert result.exit_code == 0, result.output
    told: dict[str, Any] = json.loads(result.stdout)
    return told


def test_the_tables_show_the_figures_of_every_model_and_portfolio(prices: Path) -> None:
    result = uncross("backtest", prices, "--window", 100)
    assert result.exit_code == 0, result.output
    assert "…" not in result.output, "nothing is cut off"
    for title in ("one coin long", "one coin short", "30-day at-the-money straddle short"):
        assert title in result.output
    lines = [line.split() for line in result.output.splitlines()]
    told = figures(prices)
    assert len(told["runs"]) == 15
    for run in told["runs"]:
        expected = [
            run["model"], str(run["observations"]), str(run["breaches"]),
            f"{run['breach_rate']:.2%}", f"{run['kupiec_lr']:.2f}", f"{run['kupiec_p']:.3f}",
            f"{run['independence_p']:.3f}", f"{run['conditional_coverage_p']:.3f}",
            f"{run['shortfall_z2']:+.2f}", f"{run['average_margin']:.2%}",
            f"{run['peak_to_trough']:.1f}",
        ]  # fmt: skip
        assert expected in lines


def test_the_report_says_what_was_tested(prices: Path) -> None:
    told = figures(prices, "--confidence", "0.975")
    conditions = {key: value for key, value in told.items() if key != "runs"}
    assert conditions == {
        "file": "coin.csv",
        "column": "Adj_Close",
        "prices": DAYS,
        "period_hours": 24.0,
        "gaps": 0,
        "first_tested": "2024-06-10T00:00:00",
        "last_tested": "2024-10-06T00:00:00",
        "confidence": 0.975,
        "window": 100,
        "straddle_marks": "model",
        "horizon_hours": 24.0,
        "floor_share": 0.0,
        "stress_weight": 0.0,
        "stressed": None,
    }
    run = told["runs"][0]
    assert run["observations"] == DAYS - 1 - 160
    assert run["breach_rate"] == run["breaches"] / run["observations"]


def test_models_are_those_asked_for_in_their_order(prices: Path) -> None:
    told = figures(prices, "--models", "flat, ewma-0.9,fhs-0.99,flat")
    assert [run["model"] for run in told["runs"][:3]] == ["flat", "ewma-0.9", "fhs-0.99"]
    assert len(told["runs"]) == 9


def test_what_straddles_are_marked_at_is_said(prices: Path, tmp_path: Path) -> None:
    arguments = ("--window", 100, "--models", "ewma-0.97")
    own = uncross("backtest", prices, *arguments)
    assert "marked at each model's own forecast volatility" in own.output
    marked = uncross("backtest", with_iv(prices, tmp_path), *arguments)
    assert "marked at the column iv" in marked.output
    assert figures(with_iv(prices, tmp_path), "--models", "flat")["straddle_marks"] == "iv"


def test_horizon_floor_and_stressed_period_are_used_and_said(prices: Path) -> None:
    plain = figures(prices, "--models", "fhs")
    options = ("--models", "fhs", "--floor", 1.5, "--horizon", 2, "--stress-weight", 0.25)
    told = figures(prices, *options)
    expected = {
        "horizon_hours": 48.0,
        "floor_share": 1.5,
        "stress_weight": 0.25,
        "stressed": "worst",
    }
    assert {key: told[key] for key in expected} == expected
    assert told["runs"][0]["average_margin"] > plain["runs"][0]["average_margin"]
    named = ("--stressed", "2024-02-01..2024-03-31")
    assert figures(prices, *options, *named)["stressed"] == named[1]
    output = uncross("backtest", prices, "--window", 100, *options).output
    assert (
        "margins cover 2 days and are tested as often; fhs: volatility at least 150% of that so "
        "far; fhs: 25% of the weight on the 60 worst returns so far"
    ) in " ".join(output.split())
    assert "margins cover" not in uncross("backtest", prices, "--window", 100).output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--horizon", "0.7"), "0.7 days are no whole number of the file's periods of 24 h"),
        (("--horizon", "0"), "--horizon"),
        (("--floor", "3"), "--floor"),
        (("--stress-weight", "1"), "--stress-weight"),
        (("--stress-weight", "0.255"), "0.255 has more than two places"),
        (("--stressed", "worst"), "needs --stress-weight above 0"),
        (("--stress-weight", "0.2", "--stressed", "spring"), "is neither worst nor two dates"),
        (("--stress-weight", "0.2", "--stressed", "2024-03-01..2024-02-01"), "is neither worst"),
        (("--stress-weight", "0.2", "--stressed", "2019-01-01..2019-02-01"), "no such returns"),
    ],
)
def test_terms_that_cannot_be_are_refused_with_the_option_s_name(
    prices: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = uncross("backtest", prices, "--window", 100, *arguments)
    assert result.exit_code == 2
    assert said in result.output
    assert "Traceback" not in result.output


def test_a_higher_confidence_costs_more_and_is_breached_less(prices: Path) -> None:
    low, high = (figures(prices, "--models", "ewma-0.97", "--confidence", c) for c in (0.9, 0.99))
    for before, after in zip(low["runs"], high["runs"], strict=True):
        assert before["average_margin"] < after["average_margin"]
        assert before["breaches"] > after["breaches"]


def test_the_page_holds_margins_losses_and_breaches_and_needs_no_other_file(
    prices: Path, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    result = uncross(
        "backtest", prices, "--window", 100, "--models", "fhs,flat", "--confidence", 0.9,
        "--plot", page,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    text = page.read_text("utf-8")
    assert "<script src=" not in text
    assert len(text) > 3_000_000, "plotly itself is inside"
    for name in ("loss", "fhs", "flat", "breach of fhs", "breach of flat"):
        assert f'"name":"{name}"' in text.replace('": "', '":"')
    assert "coin.csv, 90.00%" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--column", "open"), "no column 'open'; there are Date, Adj_Close"),
        (("--models", "garch"), "no model 'garch'; there are fhs"),
        ((), "563 are needed"),
    ],
)
def test_what_cannot_be_tested_ends_in_one_line(
    prices: Path, arguments: tuple[str, ...], said: str
) -> None:
    result = uncross("backtest", prices, *arguments)
    assert result.exit_code == 1
    assert said in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()) == 1


def test_a_missing_day_ends_in_one_line_unless_it_is_allowed(prices: Path, tmp_path: Path) -> None:
    lines = prices.read_text("utf-8").splitlines()
    del lines[100]
    path = tmp_path / "gap.csv"
    path.write_text("\n".join(lines), "utf-8")
    result = uncross("backtest", path, "--window", 100)
    assert result.exit_code == 1
    assert (
        "gap.csv, line 100: 2024-07-01 follows 2024-06-29 at line 101, but the period is 24 h"
        in result.output
    )
    told = figures(path, "--allow-gaps", "--models", "flat")
    assert told["gaps"] == 1


@pytest.mark.parametrize("wrong", [("--confidence", "1"), ("--models", " , ")])
def test_wrong_usage_has_its_own_code(prices: Path, wrong: tuple[str, str]) -> None:
    assert uncross("backtest", prices, *wrong).exit_code == 2
