"""The study of procyclicality: order of the models at one breach rate."""

from __future__ import annotations

import numpy as np
import pytest

from replays.procyclicality import Path, Row, simulated_returns_e9, study

SMALL = Path(paths=120, days=2500)


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


def test_a_bound_on_the_rise_holds_over_five_days(rows: dict[str, Row]) -> None:
    assert rows["EWMA .97 + rise at most 5 % a day"].rise_5 <= 1.05**5 - 1 + 1e-9


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
