"""Tables that fit the page."""

from __future__ import annotations

import pytest

from exchange.cli.tables import column_sets, fitted_lines, folded_lines

ROWS = [["name", "first", "second", "third"], ["a" * 10, "1" * 12, "2" * 12, "3" * 12]]


@pytest.mark.parametrize(
    ("room", "sets"),
    [
        (5, [[0, 1, 2, 3, 4]]),
        (4, [[0, 1, 2], [0, 3, 4]]),
        (3, [[0, 1, 2], [0, 3, 4]]),
        (2, [[0, 1], [0, 2], [0, 3], [0, 4]]),
        (1, [[0, 1], [0, 2], [0, 3], [0, 4]]),
    ],
)
def test_columns_of_a_block_stay_together_where_they_can(room: int, sets: list[list[int]]) -> None:
    assert column_sets([(1, 2), (3, 4)], lambda columns: len(columns) <= room) == sets


def test_a_wide_table_goes_on_below(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "52")
    assert len(fitted_lines(ROWS, [(1, 2, 3)], "")) == 2
    monkeypatch.setenv("COLUMNS", "51")
    lines = fitted_lines(ROWS, [(1, 2), (3,)], "")
    assert [line.split() for line in lines] == [
        ["name", "first", "second"], ["a" * 10, "1" * 12, "2" * 12], [],
        ["name", "third"], ["a" * 10, "3" * 12],
    ]  # fmt: skip


def test_a_long_name_is_folded_above_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "BTC_USDC-27MAR26-90000-P and 3 more of its expiry, BTC"
    lines = folded_lines([["requirement", "sum"], [name, "1,000.00"]], "")
    assert max(map(len, lines)) <= 40
    assert " ".join(" ".join(lines[1:]).split()) == f"{name} 1,000.00"
    assert lines[-1].endswith("1,000.00")
