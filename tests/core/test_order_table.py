"""The table of open orders: what was appended is found, and the seal sorts it by contract."""

from __future__ import annotations

import numpy as np
import pytest

from exchange.core.limits import instrument_of, order_id_of
from exchange.core.stored.orders import (
    AGE_BATCH,
    OPEN_LOTS,
    ORDER_ID,
    POOL,
    PRICE_TICKS,
    OrderTable,
)
from margin.invariant import InvariantBroken


def filled_table() -> tuple[OrderTable, list[int]]:
    """Two resting orders and three of the running batch, over contracts 2, 0, 1, 0, 2."""
    table, ids = OrderTable(), []
    for number, slot in enumerate((2, 0, 1, 0, 2)):
        ids.append(table.append(slot, 10 + number % 2, 1, 100 + number, 5, 0, 0, number))
        if number == 1:
            table.seal(3)
    return table, ids


def test_an_identifier_holds_the_contract_above_the_venue_s_sequence() -> None:
    _, ids = filled_table()
    assert ids == [order_id_of(slot, n) for n, slot in enumerate((2, 0, 1, 0, 2), start=1)]
    assert [instrument_of(order_id) for order_id in ids] == [2, 0, 1, 0, 2]


def test_an_order_is_found_whether_it_rests_or_just_came() -> None:
    table, ids = filled_table()
    for number, order_id in enumerate(ids):
        row = table.find(order_id)
        assert row is not None
        assert (row[ORDER_ID], row[PRICE_TICKS]) == (order_id, 100 + number)


def test_no_order_is_found_under_another_contract_or_an_unknown_sequence() -> None:
    table, ids = filled_table()
    assert table.find(order_id_of(1, 1)) is None
    assert table.find(order_id_of(0, 3)) is None
    assert table.find(ids[-1] + 1) is None


def test_a_closed_order_is_found_no_more_and_leaves_at_the_seal() -> None:
    table, ids = filled_table()
    table.close(ids[0])
    table.close(ids[3])
    assert table.find(ids[0]) is None
    assert table.find(ids[3]) is None
    assert table.seal(3)[ORDER_ID].tolist() == [ids[1], ids[2], ids[4]]


def test_the_seal_sorts_by_contract_then_by_acceptance() -> None:
    table, ids = filled_table()
    sealed = table.seal(3)
    assert sealed[ORDER_ID].tolist() == sorted(ids)
    instruments, starts = table.books()
    assert instruments.tolist() == [0, 1, 2]
    assert starts.tolist() == [0, 2, 3, 5]
    table.validate()


def test_a_pool_s_orders_come_in_order_of_acceptance_over_all_contracts() -> None:
    table, ids = filled_table()
    assert table.of_pool(10)[ORDER_ID].tolist() == [ids[0], ids[2], ids[4]]
    assert (table.of_pool(11)[POOL] == 11).all()


def test_a_column_of_an_open_order_can_be_written_before_and_after_the_seal() -> None:
    table, ids = filled_table()
    for order_id in (ids[0], ids[4]):
        table.set(order_id, AGE_BATCH, 9)
        row = table.find(order_id)
        assert row is not None
        assert row[AGE_BATCH] == 9


def test_the_table_survives_its_canonical_bytes() -> None:
    table, ids = filled_table()
    copy = OrderTable()
    copy.load(dict(table.parts()))
    assert dict(copy.parts()) == dict(table.parts())
    assert copy.append(0, 1, 1, 1, 1, 0, 0, 1) == table.append(0, 1, 1, 1, 1, 0, 0, 1)
    assert copy.find(ids[1]) == table.find(ids[1])


def test_a_table_out_of_order_or_with_negative_quantity_is_refused() -> None:
    table, _ = filled_table()
    table.seal(3)
    table.resting = np.ascontiguousarray(table.resting[:, ::-1])
    with pytest.raises(InvariantBroken, match="sorted by identifier"):
        table.validate()
    table, _ = filled_table()
    table.resting[OPEN_LOTS, 0] = -1
    with pytest.raises(InvariantBroken, match="never negative"):
        table.validate()
