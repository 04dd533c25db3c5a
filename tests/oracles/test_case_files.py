"""The reader of published cases, the precision rule, and what an unsupported case does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.oracles.case_files import MARGIN, Case, Kind, Outcome, misses, read_cases, tolerance
from tests.oracles.case_inputs import finest_lot_e8

ROOT = Path(__file__).parents[2]
MARGIN_FILE = {
    "shared": {"rates": {"imf": 0.02}},
    "oracles": [
        {
            "id": "one",
            "model": "paradex_cross_margin",
            "inputs": {"size": -0.0005, "mark": 77888.84, "imf_base": 0.02, "mmf_factor": 0.5},
            "expected": {"imr": 0.7789, "mmr": 0.3894},
        },
        {"id": "two", "model": "tea_leaves", "inputs": {"cup_ref": "rates"}, "expected": {"x": 1}},
        {"id": "three", "model": "black76", "inputs": {"F_ref": "lost"}, "expected": {}},
    ],
}
AUCTION_FILE = {"about": "", "price_examples": [{"id": "four", "profile": "xetra", "bids": []}]}


def _engine(notional: str = "0") -> Outcome:
    return Outcome({}, Kind.ENGINE, gross_notional=Decimal(notional))


@pytest.mark.parametrize(
    ("figure", "outcome", "allowed"),
    [
        (Decimal("1.00000000"), _engine(), "0.000002"),  # two minor units
        (Decimal("-1000000.00000"), _engine(), "0.01"),  # 10^-8 of the figure
        (Decimal("1.00000000"), _engine("1e6"), "0.01"),  # 10^-8 of the gross notional
        (Decimal("0.7789"), _engine(), "0.00005"),  # half of the last digit
        (Decimal("1e-12"), _engine(), "0.000002"),
        (5565, Outcome({}, Kind.INTEGER), "0"),
        (Decimal("100.0000000000"), Outcome({}, Kind.PURE), "1e-7"),
        (Decimal("3.5569036"), Outcome({}, Kind.PURE), "0.00000005"),
        (Decimal("0.4"), Outcome({}, Kind.PARADEX_SCAN), "0.00004"),
    ],
)
def test_the_tolerance_is_the_largest_that_the_rule_allows(
    figure: Any, outcome: Outcome, allowed: str
) -> None:
    assert tolerance(figure, outcome) == Decimal(allowed)


def test_a_missed_figure_is_named_wherever_it_stands() -> None:
    case = Case("c", "f", MARGIN, "m", {}, {"a": [1, Decimal("2.000000000")], "b": 3, "d": [1, 2]})
    got = Outcome({"a": [1, Decimal("2.1")], "d": [1]}, Kind.ENGINE)
    found = misses(case, got)
    assert [line.split(":")[0] for line in found] == ["a[1]", "b", "d"]


def test_tables_are_put_in_place_and_a_lost_one_is_said_to_be_lost(tmp_path: Path) -> None:
    (tmp_path / "margin.json").write_text(json.dumps(MARGIN_FILE))
    one, two, three = read_cases(tmp_path)
    assert one.inputs["imf_base"] == Decimal("0.02")
    assert two.inputs == {"cup": {"imf": Decimal("0.02")}}
    assert (three.name, three.subject) == ("three", "there is no 'lost'")


def test_the_lot_is_the_largest_power_of_ten_that_every_size_needs() -> None:
    assert finest_lot_e8([Decimal("-25.0"), 3]) == 10**8
    assert finest_lot_e8([Decimal("0.001"), Decimal("-0.0005")]) == 10**4
    assert finest_lot_e8([Decimal("0.123456789")]) == 1


def _run(folder: Path) -> str:
    environment = {**os.environ, "UNCROSS_ORACLES": str(folder)}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-n0", "-p", "no:cacheprovider",
         "tests/oracles/test_margin_cases.py"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    return result.stdout


def test_a_foreign_folder_runs_and_what_is_not_supported_fails_saying_so(tmp_path: Path) -> None:
    (tmp_path / "margin.json").write_text(json.dumps(MARGIN_FILE))
    (tmp_path / "auction.json").write_text(json.dumps(AUCTION_FILE))
    (tmp_path / "other.json").write_text("[1]")
    said = _run(tmp_path)
    assert "4 failed, 1 passed" in said
    assert "PASSED tests/oracles/test_margin_cases.py" in said
    assert "[one]" in said
    assert "skipped" not in said
    assert "model 'tea_leaves' is not supported" in said
    assert "rule profile 'xetra' of price_examples is not supported" in said
    assert "other.json: neither margin nor auction cases" in said
    assert "there is no 'lost'" in said


def test_a_folder_without_cases_fails() -> None:
    said = _run(ROOT / "tests" / "nowhere")
    assert "holds no *.json of cases" in said
    assert "1 failed" in said
