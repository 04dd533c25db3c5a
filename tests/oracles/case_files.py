"""Published cases: where they are, what a file of them looks like, when a figure is met.

A file of `UNCROSS_ORACLES` (or of `cases/` beside this module) has one of two shapes: margin cases
in a list `oracles`, with tables in `shared` that inputs name as `..._ref`; or auction cases in
lists that end in `_examples`. Numbers are read as decimals, so that their last digit is known.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

OUR_COPY = Path(__file__).parent / "cases"
VARIABLE = "UNCROSS_ORACLES"
MARGIN = "margin"
UNREADABLE = "unreadable"
RELATIVE = Decimal("1e-8")
RELATIVE_OF_PURE_FUNCTIONS = Decimal("1e-9")
RELATIVE_OF_PARADEX_SCAN = Decimal("1e-4")
UNITS_ALLOWED = 2


class Kind(Enum):
    """How a model computes, which decides how close it must come."""

    INTEGER = "whole numbers, met exactly"
    ENGINE = "float figures through the integer engine"
    PURE = "a float function"
    PARADEX_SCAN = "the engine, against figures of an approximate normal distribution"


@dataclass(frozen=True)
class Outcome:
    """Figures of a model under the names of `expected`.

    `minor` is the smallest unit of the engine's money in units of the figures, 10^-6 for USDC and
    10^-8 for a coin; `gross_notional` is in units of the figures too.
    """

    figures: dict[str, Any]
    kind: Kind
    gross_notional: Decimal = Decimal(0)
    minor: Decimal = Decimal("1e-6")


@dataclass(frozen=True)
class Case:
    """One published case; `inputs` has the tables that it refers to in place of `..._ref`, which
    `row`, the case as it stands in the file, and `shared`, its tables, still have apart.

    `shape` is `MARGIN`, the list of an auction file, or `UNREADABLE`; `subject` the model, the rule
    profile, or the reason.
    """

    name: str
    file: str
    shape: str
    subject: str
    inputs: dict[str, Any] = field(repr=False)
    expected: Any = field(repr=False)
    row: dict[str, Any] = field(default_factory=dict, repr=False)
    shared: dict[str, Any] = field(default_factory=dict, repr=False)


def folder_of_cases() -> Path:
    """The folder named by the environment, or our own copy."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else OUR_COPY


def read_cases(folder: Path) -> list[Case]:
    """Every case of every *.json in `folder`, in the order of file names.

    What cannot be read is a case of shape `UNREADABLE`, so that it fails by itself and says why.
    """
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    cases = [case for file in files for case in read_file(file)]
    return cases or [_unreadable("no-cases", str(folder), "holds no *.json of cases")]


def read_file(file: Path) -> list[Case]:
    """The cases of one file, of either shape."""
    try:
        table = json.loads(file.read_text("utf-8"), parse_float=Decimal)
    except ValueError as error:
        return [_unreadable(file.stem, file.name, f"not JSON: {error}")]
    if isinstance(table, dict) and isinstance(table.get("oracles"), list):
        shared = table.get("shared", {})
        return [_margin_case(file.name, shared, row) for row in table["oracles"]]
    if isinstance(table, dict) and any(key.endswith("_examples") for key in table):
        return [
            _auction_case(file.name, key, row)
            for key, rows in table.items()
            if key.endswith("_examples")
            for row in rows
        ]
    return [_unreadable(file.stem, file.name, "neither margin nor auction cases")]


def _unreadable(name: str, file: str, reason: str) -> Case:
    return Case(name, file, UNREADABLE, reason, {}, {})


def _margin_case(file: str, shared: dict[str, Any], row: dict[str, Any]) -> Case:
    try:
        inputs = {
            key.removesuffix("_ref"): shared[value] if key.endswith("_ref") else value
            for key, value in row["inputs"].items()
        }
        return Case(row["id"], file, MARGIN, row["model"], inputs, row["expected"], row, shared)
    except KeyError as error:
        return _unreadable(str(row.get("id", "unnamed")), file, f"there is no {error}")


def _auction_case(file: str, key: str, row: dict[str, Any]) -> Case:
    expected = {name: row[name] for name in row if name.startswith("expected")}
    return Case(str(row.get("id", "unnamed")), file, key, row.get("profile", ""), row, expected)


def half_of_last_digit(figure: Any) -> Decimal:
    """Half a unit of the last digit that a decimal figure is printed with; 0 for a whole one."""
    if not isinstance(figure, Decimal):
        return Decimal(0)
    exponent = figure.as_tuple().exponent
    assert isinstance(exponent, int), f"not a number: {figure}"
    return Decimal(5).scaleb(min(exponent, 0) - 1)


def tolerance(figure: Any, outcome: Outcome) -> Decimal:
    """How far from a published figure a result may be."""
    size = abs(Decimal(figure))
    printed = half_of_last_digit(figure)
    if outcome.kind is Kind.INTEGER:
        return Decimal(0)
    if outcome.kind is Kind.PURE:
        return max(RELATIVE_OF_PURE_FUNCTIONS * size, printed)
    if outcome.kind is Kind.PARADEX_SCAN:
        return RELATIVE_OF_PARADEX_SCAN * size
    units = UNITS_ALLOWED * outcome.minor
    return max(units, RELATIVE * size, RELATIVE * outcome.gross_notional, printed)


def misses(case: Case, outcome: Outcome) -> list[str]:
    """What differs: one line a figure that is not there or too far from the published one."""
    found: list[str] = []
    for name, published in case.expected.items():
        if name not in outcome.figures:
            found.append(f"{name}: not computed")
            continue
        _compare(name, published, outcome.figures[name], outcome, found)
    return found


def _compare(name: str, published: Any, got: Any, outcome: Outcome, found: list[str]) -> None:
    if isinstance(published, list):
        if not isinstance(got, (list, tuple)) or len(got) != len(published):
            found.append(f"{name}: {len(published)} figures published, computed {got}")
            return
        for place, (one, other) in enumerate(zip(published, got, strict=True)):
            _compare(f"{name}[{place}]", one, other, outcome, found)
        return
    if not isinstance(published, (int, Decimal)) or isinstance(published, bool):
        if published != got:
            found.append(f"{name}: published {published!r}, computed {got!r}")
        return
    allowed = tolerance(published, outcome)
    distance = abs(Decimal(published) - Decimal(got))
    if not distance <= allowed:
        found.append(f"{name}: published {published}, computed {got}, allowed {allowed:.3e}")
