"""`uncross study` as a user runs it."""

from __future__ import annotations

import datetime
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exchange.cli.study_plot import text_positions
from exchange.portfolios.file import example_text
from replays import procyclicality
from replays.procyclicality import PLAIN, Row
from tests.cli.conftest import uncross

ROWS = [
    Row(f"EWMA .97 + tool {n} of a long name", 3.3, 0.01, 0.98, 6.04 - n // 2, (0.5, 1, 1.3, 1.6),
        0.084, 0.02, (1.0, 1.1, 1.5, 1.8))
    for n in range(4)
]  # fmt: skip


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """What `study procyclicality` finds, without the simulation."""
    found = [replace(ROWS[0], name=PLAIN), *ROWS]
    monkeypatch.setattr(procyclicality, "study", lambda seed, breach_share: found)
    return found


@pytest.mark.parametrize("columns", [80, 160])
def test_procyclicality_has_every_figure_on_pages_of_any_width(
    rows: list[Row], columns: int
) -> None:
    output = uncross("study", "procyclicality", columns=columns).output
    assert max(map(len, output.splitlines())) <= columns
    assert sum(line.split()[:1] == ["model"] for line in output.splitlines()) == (
        3 if columns == 80 else 1
    )
    assert output.count("margin models at one breach rate") == 1
    for words in ("Kupiec", "50 100 130 160", "1.00 1.10 1.50 1.80", "shortfall %", "effect %"):
        assert words in output, words


def test_points_of_procyclicality_are_numbered_apart(rows: list[Row], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    uncross("study", "procyclicality", "--plot", page)
    html = page.read_text("utf-8")
    assert all(f"{number}  {row.name}" in html for number, row in enumerate(rows, 1))
    places = text_positions([(100 * row.mean_margin, row.peak_to_trough) for row in rows])
    at = [(row.peak_to_trough, place) for row, place in zip(rows, places, strict=True)]
    assert len(set(at)) == len(at)
    assert text_positions([(0, 0), (0.5, 9), (9, 9)]) == ["top center"] * 3


def test_the_lines_of_help_are_whole() -> None:
    listed = uncross("study", "--help", columns=80).output
    assert "..." not in listed.partition("Commands:")[2]


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two weeks and a half of hours."""
    chance, price = random.Random(5), 100.0
    rows = ["unix,close"]
    for hour in range(420):
        price *= 1 + chance.gauss(0, 0.006)
        rows.append(f"{1_700_000_000 + 3600 * hour},{price:.4f}")
    path = tmp_path_factory.mktemp("prices") / "eth.csv"
    path.write_text("\n".join(rows) + "\n", "utf-8")
    return path


def test_calibration_prints_a_table_scores_json_and_a_page(prices: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    shown = uncross("study", "calibration", prices, "--cycles", 12, "--plot", page)
    assert shown.exit_code == 0, shown.output
    for words in ("eth.csv: called within 12 cycles of 3600 s", "mean forecast", "observed",
                  "16 horizons, 224 forecasts", "base rate", "skill", "short:"):  # fmt: skip
        assert words in " ".join(shown.output.split()), words
    assert "eth.csv" in page.read_text("utf-8")
    told = uncross("study", "calibration", prices, "--cycles", 12, "--json")
    (study,) = json.loads(told.stdout)
    assert study["horizons"] == 16
    assert sum(row["count"] for row in study["whole"]["bins"]) == study["whole"]["count"] == 224
    assert set(study["by_position"]) == {"long", "short"}


def test_calibration_on_simulated_paths_and_a_garch_forecast() -> None:
    arguments = ("--paths", 1, "--cycles", 2, "--seed", 3, "--json")
    told = uncross("study", "calibration", *arguments, "--garch", "0.08,0.91,0.57")
    (study,) = json.loads(told.stdout)
    assert study["source"] == "1 GARCH paths, seed 3"
    assert set(study["by_position"]) == {"long", "short", "short straddle"}
    (other,) = json.loads(uncross("study", "calibration", *arguments).stdout)
    assert other["whole"]["mean_forecast"] != study["whole"]["mean_forecast"]
    assert other["whole"]["observed"] > 0


@pytest.mark.parametrize(
    ("value", "words"),
    [("0.5,0.5,1", "alpha + beta below 1"), ("a,b,c", "three numbers"), ("0.1,0.8", "three")],
)
def test_a_wrong_garch_is_named(value: str, words: str) -> None:
    refused = uncross("study", "calibration", "--paths", 1, "--garch", value)
    assert refused.exit_code == 2
    assert words in " ".join(refused.output.split())


def test_too_short_a_history_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text("unix,close\n0,1\n3600,2\n7200,3\n", "utf-8")
    refused = uncross("study", "calibration", path)
    assert refused.exit_code == 1
    assert "short.csv: 3 prices; more than 245 are needed" in refused.output


def test_garch_prints_the_lines_of_a_preset(prices: Path) -> None:
    pytest.importorskip("arch", reason="the extra `arch` is not installed")
    shown = uncross("study", "garch", prices)
    if shown.exit_code == 0:
        comments, lines = shown.output.splitlines()[:3], shown.output.splitlines()[3:]
        assert all(line.startswith("# ") for line in comments)
        assert lines[0] == "period_s = 3600"
        assert lines[1].startswith("garch = { long_run = { default = ")
        told = json.loads(uncross("study", "garch", prices, "--json").stdout)
        assert told["toml"].splitlines() == lines
    else:  # 419 hours of independent moves may have no GARCH in them
        assert "returns to nothing" in shown.output or "converge" in shown.output


def daily(path: Path, seed: int) -> Path:
    """A CSV of 200 days of a random walk."""
    moves = np.random.default_rng(seed).normal(0, 0.03, 200)
    first = datetime.date(2025, 1, 1)
    days = [(first + datetime.timedelta(n)).isoformat() for n in range(200)]
    lines = [
        f"{day},{price:.2f}" for day, price in zip(days, 1e5 * np.exp(moves.cumsum()), strict=True)
    ]
    path.write_text("\n".join(["date,close", *lines]))
    return path


def test_a_window_of_real_days_is_a_preset_that_charges(tmp_path: Path) -> None:
    btc, iv = daily(tmp_path / "btc.csv", 1), daily(tmp_path / "iv.csv", 2)
    arguments = ("study", "window", f"BTC={btc}", "--dates", 100, "--stressed", 10)
    shown = uncross(*arguments, "--volatility", f"BTC={iv}", "--name", "mine")
    assert shown.exit_code == 0, shown.output
    assert "100 days from 2025-04-11 to 2025-07-19, 0 residuals cut at 6" in shown.stderr
    mine = tmp_path / "mine.toml"
    mine.write_text(shown.stdout)
    portfolio = tmp_path / "portfolio.json"
    portfolio.write_text(example_text())
    explained = uncross("margin", portfolio, "--model", mine)
    assert "of 98 dates and 10 stressed ones" in explained.output
    assert "volatilities stand still" in uncross(*arguments).stderr
    assert uncross(*arguments).stdout.startswith("# 100 days from 2025-04-11")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["btc.csv"], "'btc.csv' is no COIN=FILE of a file"),
        (["BTC=gone.csv"], "'BTC=gone.csv' is no COIN=FILE of a file"),
        (["BTC={btc}", "BTC={btc}"], "BTC is named twice"),
        (["BTC={btc}", "--volatility", "x"], "--volatility"),
        (["BTC={btc}"], "200 dates are common to all files; 500 residuals need 561"),
        (["BTC={btc}", "--name", "ps-1", "--dates", "100"], "ps-1"),
    ],
)
def test_a_wrong_window_is_told(tmp_path: Path, words: list[str], told: str) -> None:
    btc = daily(tmp_path / "btc.csv", 1)
    refused = uncross("study", "window", *(word.format(btc=btc) for word in words))
    assert refused.exit_code != 0
    assert told in refused.output
    assert "Traceback" not in refused.output
