"""Many runs as one report: means and ranges over seeds, by model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exchange.cli.compare_run import RISE_CYCLES, RunRecord
from margin.fixed_point import USDC_SCALE

HASH = "state_hash"


def summary_of(records: Sequence[RunRecord]) -> dict[str, dict[str, float]]:
    """Mean, least and most of every figure over the seeds of one model."""
    found = {}
    for key in records[0].figures:
        if key == HASH:
            continue
        values = [float(record.figures[key]) for record in records]
        found[key] = {
            "mean": sum(values) / len(values), "least": min(values), "most": max(values),
        }  # fmt: skip
    return found


def mean_course(records: Sequence[RunRecord]) -> dict[str, list[float]]:
    """The courses of one model's runs, averaged cycle by cycle."""
    found = {}
    for key in records[0].course:
        rows = zip(*(record.course[key] for record in records), strict=False)
        found[key] = [round(sum(row) / len(row), 9) for row in rows]
    return found


def report_of(
    conditions: dict[str, Any], models: Sequence[str], records: Sequence[RunRecord],
    failures: Sequence[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """The report as `--json` prints it.

    `models`: per model `summary`, its `runs` by seed, and `course`, the mean over seeds. A model of
    which every run failed has no entry; `failures` says why.
    """
    by_model: dict[str, Any] = {}
    for name in models:
        own = sorted((r for r in records if r.request.model == name), key=lambda r: r.request.seed)
        if own:
            by_model[name] = {
                "summary": summary_of(own),
                "runs": [{"seed": r.request.seed, **r.figures} for r in own],
                "course": mean_course(own),
            }
    return {"conditions": conditions, "models": by_model, "failures": list(failures)}


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("margin_calls", "calls", "count"),
    ("margin_calls_cured", "cured", "count"),
    ("breaches", "breaches", "count"),
    ("liquidations", "liquid- ations", "count"),
    ("fund_used_minor", "fund used k", "money"),
    ("adl_events", "ADL", "count"),
    ("interest_over_margin", "OI / margin", "ratio"),
    ("long_rate", "long %", "percent"),
    ("long_peak_to_trough", "peak/ trough", "ratio"),
    (f"long_rise_{RISE_CYCLES[0]}", f"rise {RISE_CYCLES[0]} %", "percent"),
    ("straddle_rate", "straddle %", "percent"),
    ("straddle_peak_to_trough", "peak/ trough", "ratio"),
    (f"straddle_rise_{RISE_CYCLES[0]}", f"rise {RISE_CYCLES[0]} %", "percent"),
    ("loss_over_margin", "loss / margin", "ratio"),
)
"""Columns of the table: figure, heading, how it is written."""

EXPLAINED = (
    "Means over seeds. breaches: below maintenance margin, with or without a call. fund used: the "
    "most that the insurance fund was below its start, thousand USDC. OI / margin: open interest "
    "over the initial margin of all accounts. long and straddle: fixed books of one coin each, "
    "initial margin over value; peak/trough and the largest rise over 10 cycles say how "
    "procyclical. loss / margin: the most that the long book lost over the margin period of risk, "
    "as a part of its margin before."
)


def cell(value: float, kind: str) -> str:
    """A figure as the table writes it."""
    if kind == "money":
        return f"{value / USDC_SCALE / 1000:,.1f}"
    if kind == "percent":
        return f"{100 * value:.1f}"
    if kind == "ratio":
        return f"{value:.2f}"
    return f"{value:.1f}"


def rows_of(report: dict[str, Any]) -> list[list[str]]:
    """Rows of the table: the model, then the means."""
    return [
        [name, str(len(entry["runs"])),
         *(cell(entry["summary"][key]["mean"], kind) for key, _, kind in COLUMNS)]
        for name, entry in report["models"].items()
    ]  # fmt: skip


def headings() -> list[str]:
    """Headings of `rows_of`."""
    return ["model", "seeds", *(heading for _, heading, _ in COLUMNS)]
