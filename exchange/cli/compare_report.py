"""Many runs as one report: means and ranges over seeds, by model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exchange.cli.compare_run import RISE_CYCLES, RunRecord
from margin.fixed_point import USDC_SCALE

HASH = "state_hash"


def summary_of(records: Sequence[RunRecord]) -> dict[str, dict[str, float | None]]:
    """Mean, least and most of every figure over the seeds of one model; None of one that no run
    has, as of a book that the venue lists nothing for."""
    found: dict[str, dict[str, float | None]] = {}
    for key in records[0].figures:
        if key == HASH:
            continue
        told = [record.figures[key] for record in records]
        values = [float(value) for value in told if value is not None]
        found[key] = {
            "mean": _mean(values), "least": min(values, default=None),
            "most": max(values, default=None),
        }  # fmt: skip
    return found


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def mean_course(records: Sequence[RunRecord]) -> dict[str, list[float | None]]:
    """The courses of one model's runs, averaged cycle by cycle over those that have a value."""
    found: dict[str, list[float | None]] = {}
    for key in records[0].course:
        rows = zip(*(record.course[key] for record in records), strict=False)
        means = [_mean([value for value in row if value is not None]) for row in rows]
        found[key] = [None if mean is None else round(mean, 9) for mean in means]
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
    ("liquidations", "liquid-\nations", "count"),
    ("fund_used_minor", "fund\nused k", "money"),
    ("adl_events", "ADL", "count"),
    ("interest_over_margin", "OI /\nmargin", "ratio"),
    ("long_rate", "long %", "percent"),
    ("long_peak_to_trough", "peak/\ntrough", "ratio"),
    (f"long_rise_{RISE_CYCLES[0]}", f"rise\n{RISE_CYCLES[0]} %", "percent"),
    ("straddle_rate", "straddle\n%", "percent"),
    ("straddle_peak_to_trough", "peak/\ntrough", "ratio"),
    (f"straddle_rise_{RISE_CYCLES[0]}", f"rise\n{RISE_CYCLES[0]} %", "percent"),
    ("loss_over_margin", "loss /\nmargin", "ratio"),
)
"""Columns of the table: figure, heading, how it is written."""

BLOCKS = (range(1, 8), range(8, 12), range(12, 16))
"""Columns of `headings` that stay together: events, the long book, the straddle."""

EXPLAINED = (
    "Means over seeds. breaches: below maintenance margin, with or without a call. fund used: the "
    "most that the insurance fund was below its start, thousand USDC. OI / margin: open interest "
    "over the initial margin of all accounts. long and straddle: fixed books of one coin each, "
    "initial margin over value, - where the venue lists no such contract; peak/trough and the "
    "largest rise over 10 cycles say how procyclical. loss / margin: the most that the long book "
    "lost over the margin period of risk, as a part of its margin before."
)


def cell(value: float | None, kind: str) -> str:
    """A figure as the table writes it; what there is none of is a dash."""
    if value is None:
        return "-"
    if kind == "money":
        return f"{value / USDC_SCALE / 1000:,.1f}"
    if kind == "percent":
        return f"{100 * value:.1f}"
    if kind == "ratio":
        return f"{value:.2f}"
    return f"{value:.1f}"


def counted(number: int, one: str, more: str = "") -> str:
    """So many of something in words."""
    return f"{number} {one if number == 1 else more or one + 's'}"


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
