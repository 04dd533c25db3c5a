"""The study of procyclicality: order of the models at one breach rate."""

from __future__ import annotations

from pathlib import Path as File

import numpy as np
import pytest

from replays.procyclicality import (
    PLAIN,
    RISES,
    Path,
    Row,
    _ewma,
    _shipped,
    simulated_returns_e9,
    study,
)

SMALL = Path(paths=40, days=2500)
MARGIN_PAGE = (File(__file__).parents[2] / "margin" / "README.md").read_text("utf-8")


def page_rows(rows: list[Row]) -> list[str]:
    """The rows of the table in margin/README.md."""
    plain = next(row for row in rows if row.name == PLAIN)
    return [
        f"| {row.name} | {row.peak_to_trough:.2f} | "
        f"{' / '.join(f'{100 * x:.0f}' for x in row.rises)} | "
        f"{' / '.join(f'{x:.2f}' for x in row.response)} | {100 * row.mean_margin:.2f} | "
        f"{100 * (row.mean_margin / plain.mean_margin - 1):+.1f} | "
        f"{100 * (row.peak_to_trough / plain.peak_to_trough - 1):+.0f} | "
        f"{100 * row.breach_share:.2f} | {row.kupiec_pass_share:.2f} |"
        for row in rows
    ]


@pytest.fixture(scope="module")
def rows() -> dict[str, Row]:
    return {row.name: row for row in study(7, SMALL)}


def test_every_model_is_breached_equally_often(rows: dict[str, Row]) -> None:
    assert all(abs(row.breach_share - 0.01) < 1e-3 for row in rows.values())


def test_longer_memory_is_less_procyclical(rows: dict[str, Row]) -> None:
    names = ("EWMA .94", "EWMA .97", "EWMA .99", "flat (whole path)")
    ratios = [rows[name].peak_to_trough for name in names]
    assert ratios == sorted(ratios, reverse=True)
    assert len(set(ratios)) == len(ratios)
    assert ratios[-1] == 1.0


@pytest.mark.parametrize(
    "tool", ["25 % buffer", "25 % stress weight", "long-run floor", "rise at most 5 % a day"]
)
def test_every_tool_lowers_peak_to_trough(rows: dict[str, Row], tool: str) -> None:
    assert rows[f"EWMA .97 + {tool}"].peak_to_trough < rows["EWMA .97"].peak_to_trough


@pytest.mark.parametrize(
    "tool", ["buffer", "stressed weight", "long-run floor", "cap a cycle", "all tools",
             "tools and bounds"]
)  # fmt: skip
def test_every_tool_of_the_shipped_rule_lowers_peak_to_trough(
    rows: dict[str, Row], tool: str
) -> None:
    assert rows[f"shipped rule, {tool}"].peak_to_trough < rows[PLAIN].peak_to_trough


def test_all_tools_of_the_shipped_rule_do_more_than_any_and_cost_little(
    rows: dict[str, Row],
) -> None:
    whole = rows["shipped rule, all tools"]
    alone = [row for name, row in rows.items() if name.startswith("shipped rule, ")]
    assert whole.peak_to_trough <= min(row.peak_to_trough for row in alone) * 1.01
    assert whole.mean_margin < 1.1 * rows[PLAIN].mean_margin


def test_a_range_doubles_in_a_day_at_most(rows: dict[str, Row]) -> None:
    """The shipped cap of a day: with one cycle a day it hardly ever binds, and never loosens."""
    capped = rows["shipped rule, cap a day"]
    assert capped.rises[0] <= 1 + 1e-9
    assert capped.peak_to_trough <= rows[PLAIN].peak_to_trough * 1.001


def test_the_shipped_rule_without_tools_is_a_multiple_of_its_filter() -> None:
    """Range = 3 x deviation of a day, rounded up: the study's margins are those of the rule."""
    tiny = Path(paths=3, days=60, warm_up=300)
    moves = simulated_returns_e9(tiny, 3)
    rule, plain = (model(moves, tiny.warm_up) for model in (_shipped(), _ewma(970_000_000)))
    assert np.abs(rule - 3 * plain).max() <= 4 * 1000  # four of 10^-9


def test_a_bound_on_the_rise_holds_over_any_days(rows: dict[str, Row]) -> None:
    for rise, days in zip(rows["EWMA .97 + rise at most 5 % a day"].rises, RISES, strict=True):
        assert rise <= 1.05**days - 1 + 1e-9
    for rise, days in zip(rows["shipped rule, cap a cycle"].rises, RISES, strict=True):
        assert rise <= 1.02**days - 1 + 1e-6


@pytest.mark.long
def test_the_table_of_the_page_is_the_study_s() -> None:
    for line in page_rows(study(7)):
        assert line in MARGIN_PAGE


def test_a_step_of_volatility_reaches_a_filter_by_its_memory(rows: dict[str, Row]) -> None:
    fast, slow = rows["EWMA .94"].response, rows["EWMA .99"].response
    assert fast[0] == slow[0] == 1.0  # a margin knows the returns before its day, not its day's
    assert all(quick > late for quick, late in zip(fast[1:], slow[1:], strict=True))
    assert list(fast) == sorted(fast)


def test_a_seed_names_its_paths() -> None:
    tiny = Path(paths=3, days=50, warm_up=10)
    again = [simulated_returns_e9(tiny, seed) for seed in (7, 7, 8)]
    assert np.array_equal(again[0], again[1])
    assert not np.array_equal(again[0], again[2])
