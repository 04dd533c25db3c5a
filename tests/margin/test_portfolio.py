from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from margin.invariant import InvariantBroken
from margin.portfolio import (
    INVERSE_PUT,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from tests.reference.random_portfolios import column

# slot: 0 call 90, 1 perpetual, 2 put 90, 3 call 100, 4 perpetual of another unit, 5 future
INSTRUMENTS = Instruments(
    kind=column([LINEAR_CALL, LINEAR, LINEAR_PUT, LINEAR_CALL, LINEAR, LINEAR]),
    unit=column([0, 0, 0, 0, 1, 0]),
    expiry_ns=column([50, NEVER_NS, 50, 50, NEVER_NS, 50]),
    strike_e8=column([90, 0, 90, 100, 0, 0]),
    lot_e8=column([1, 1, 1, 1, 1, 1]),
    strike_group=column([7, -1, 7, 9, -1, -1]),
)
MARKS = Marks(
    now_ns=0,
    index_e8=column([100, 5]),
    mark_e8=column([12, 100, 2, 5, 5, 101]),
    forward_e8=column([101, 0, 101, 101, 0, 0]),
    volatility_e9=column([1, 0, 1, 1, 0, 0]),
    rate_e9=column([0, 0, 0, 0, 0, 0]),
)
POSITIONS = Positions(
    pool_start=column([0, 3, 3, 5]),
    instrument=column([5, 0, 2, 0, 4]),
    quantity_lots=column([1, -1, 2, 3, 4]),
    coin_minor=np.zeros((3, 2), dtype=np.int64),
)


def test_margin_order_is_unit_then_expiry_then_strike_then_slot() -> None:
    assert margin_order(INSTRUMENTS).tolist() == [5, 0, 2, 3, 1, 4]


def test_well_formed_columns_pass() -> None:
    INSTRUMENTS.validate(2)
    MARKS.validate(INSTRUMENTS)
    POSITIONS.validate(INSTRUMENTS)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kind", [INVERSE_PUT + 1, 0, 3, 2, 0, 0], "kind: unknown"),
        ("unit", [0, 0, 0, 0, 2, 0], "unit: out of range"),
        ("lot_e8", [1, 0, 1, 1, 1, 1], "lot_e8: not positive"),
        ("lot_e8", [1, 1, 2, 1, 1, 1], "one strike, two lots"),
        ("strike_e8", [0, 0, 90, 100, 0, 0], "option without a strike"),
        ("strike_e8", [90, 5, 90, 100, 0, 0], "strike without option"),
        ("strike_group", [7, -1, 8, 9, -1, -1], "one strike, two groups"),
        ("strike_group", [7, -1, 7, 7, -1, -1], "one group, two strikes"),
        ("strike_group", [7, 3, 7, 9, -1, -1], "delta-one instrument in a group"),
        ("expiry_ns", [50, NEVER_NS + 1, 50, 50, 50, 50], "expiry_ns: out of range"),
    ],
)
def test_instruments_that_cannot_be_listed_break(
    name: str, values: list[int], message: str
) -> None:
    with pytest.raises(InvariantBroken, match=message):
        replace(INSTRUMENTS, **{name: column(values)}).validate(2)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("index_e8", [100, 0], "index_e8: not positive"),
        ("index_e8", [100], "a unit has no index"),
        ("mark_e8", [12, 0, 2, 5, 5, 101], "future without a mark"),
        ("forward_e8", [0, 0, 101, 101, 0, 0], "option without a forward"),
        ("rate_e9", [0, 0], "rate_e9: shape"),
    ],
)
def test_marks_that_cannot_be_used_break(name: str, values: list[int], message: str) -> None:
    with pytest.raises(InvariantBroken, match=message):
        replace(MARKS, **{name: column(values)}).validate(INSTRUMENTS)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("instrument", [0, 5, 2, 0, 4], "out of margin order"),
        ("instrument", [5, 0, 0, 0, 4], "out of margin order"),
        ("instrument", [5, 0, 2, 0, 6], "no such slot"),
        ("pool_start", [0, 3, 2, 5], "decreases"),
        ("pool_start", [0, 3, 3, 4], "end at the last row"),
        ("quantity_lots", [1, 2], "quantity_lots: shape"),
    ],
)
def test_malformed_positions_break(name: str, values: list[int], message: str) -> None:
    with pytest.raises(InvariantBroken, match=message):
        replace(POSITIONS, **{name: column(values)}).validate(INSTRUMENTS)


def test_a_float_column_breaks() -> None:
    prices = MARKS.mark_e8.astype(np.float64)
    with pytest.raises(InvariantBroken, match="dtype float64"):
        replace(MARKS, mark_e8=prices).validate(INSTRUMENTS)  # type: ignore[arg-type]
