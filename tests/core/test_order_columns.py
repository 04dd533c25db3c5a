"""Many orders at once: the same judgement as one by one, compiled where no gate asks."""

from __future__ import annotations

import random

import numpy as np
import pytest

from exchange.core.commands import OrderColumns
from exchange.core.events import ColumnsApplied
from exchange.core.limits import ORDER_SEQUENCE_BITS
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.orders import AGE_BATCH, FLAGS, IMMEDIATE, OPEN_LOTS, OWN_SEQUENCE
from margin.invariant import InvariantBroken
from tests.core.market import BUY, SELL, Market, fills, only, small, tiny

R = RejectReason
Row = tuple[int, ...]  # account, instrument, side, price, lots, immediate or cancel, target


def enter(market: Market, *rows: Row) -> ColumnsApplied:
    columns = np.array(rows, np.int64).reshape(-1, 7).T.copy()
    return only(market.do(OrderColumns, len(rows), columns.tobytes()), ColumnsApplied)


@pytest.fixture(params=[False, True], ids=["gate off", "gate on"])
def either(request: pytest.FixtureRequest) -> Market:
    return Market(small(risk_gate=request.param))


def test_rows_become_orders_in_their_order(either: Market) -> None:
    ann, bob = either.account("ann"), either.account("bob")
    applied = enter(either, (ann, 0, BUY, 200_000, 5, 0, 0), (bob, 2, SELL, 80_000, 6, 1, 0))
    assert applied.reasons.tolist() == [0, 0]
    assert [order >> ORDER_SEQUENCE_BITS for order in applied.order_ids.tolist()] == [0, 2]
    rows = [either.state.orders.find(order) for order in applied.order_ids.tolist()]
    assert [(row[OPEN_LOTS], row[AGE_BATCH], row[FLAGS] & IMMEDIATE) for row in rows if row] == [
        (5, either.state.batch, 0), (6, either.state.batch, IMMEDIATE),
    ]  # fmt: skip


def test_a_row_may_reduce_an_order_of_the_same_columns_or_of_before(either: Market) -> None:
    ann = either.account("ann")
    resting = either.place(ann, BUY, 9, 190_000)
    either.cycle()
    fresh = either.place(ann, BUY, 9, 190_000)
    applied = enter(
        either,
        (ann, 0, BUY, 190_000, 5, 0, 0),
        (ann, 0, BUY, 0, 2, 0, -1),
        (ann, 0, BUY, 0, 4, 0, resting),
        (ann, 0, BUY, 0, 20, 0, fresh),
    )
    assert applied.reasons.tolist() == [0, 0, 0, 0]
    own = int(applied.order_ids[0])
    assert [either.open_lots(order) for order in (own, resting, fresh)] == [3, 5, 0]


def test_bad_rows_get_their_reason_and_the_others_enter(either: Market) -> None:
    ann, bob = either.account("ann"), either.account("bob")
    foreign = either.place(bob, BUY, 3, 190_000)
    gone = either.place(ann, BUY, 3, 190_000)
    either.cancel(ann, gone)
    applied = enter(
        either,
        (9, 0, BUY, 190_000, 5, 0, 0),
        (ann, 99, BUY, 190_000, 5, 0, 0),
        (ann, -1, BUY, 190_000, 5, 0, 0),
        (ann, 0, 0, 190_000, 5, 0, 0),
        (ann, 0, BUY, -1, 5, 0, 0),
        (ann, 0, BUY, 2_000_001, 5, 0, 0),
        (ann, 0, BUY, 190_000, 0, 0, 0),
        (ann, 0, BUY, 190_000, 2**40, 0, 0),
        (ann, 0, BUY, 0, 1, 0, foreign),
        (ann, 0, BUY, 0, 1, 0, gone),
        (ann, 0, BUY, 0, 1, 0, 77),
        (ann, 0, BUY, 190_000, 5, 0, 0),
    )
    assert [R(reason) for reason in applied.reasons.tolist()] == [
        R.ACCOUNT_UNKNOWN, R.INSTRUMENT_UNKNOWN, R.INSTRUMENT_UNKNOWN, R.SIDE_UNKNOWN,
        R.PRICE_NOT_POSITIVE, R.PRICE_TOO_HIGH, R.QUANTITY_NOT_POSITIVE, R.QUANTITY_TOO_LARGE,
        R.ORDER_NOT_OWNED, R.ORDER_NOT_OPEN, R.ORDER_UNKNOWN, R.NONE,
    ]  # fmt: skip


@pytest.mark.parametrize("lots", [0, -7])
def test_a_reduction_is_by_a_positive_quantity(either: Market, lots: int) -> None:
    ann = either.account("ann")
    order = either.place(ann, BUY, 5, 190_000)
    applied = enter(either, (ann, 0, BUY, 0, lots, 0, order))
    assert applied.reasons.tolist() == [R.QUANTITY_NOT_POSITIVE]
    assert either.open_lots(order) == 5


def test_no_more_than_the_largest_position_may_enter() -> None:
    market = Market(tiny(risk_gate=False))
    ann = market.account("ann")
    most = market.state.contracts.lots_max[0]
    applied = enter(market, *[(ann, 0, BUY, 190_000, most, 0, 0)] * 2)
    assert applied.reasons.tolist() == [0, R.POSITION_LIMIT]


def test_with_the_gate_on_every_row_is_margined() -> None:
    market = Market()
    ann = market.account("ann", 2_000)
    applied = enter(market, *[(ann, 0, BUY, 200_000, 100, 0, 0)] * 2)
    assert applied.reasons.tolist() == [0, R.MARGIN_INSUFFICIENT]


def test_columns_that_are_no_whole_rows_stop_the_engine(market: Market) -> None:
    with pytest.raises(InvariantBroken, match="columns hold"):
        market.do(OrderColumns, 2, bytes(8 * 7))


def random_rows(seed: int) -> list[Row]:
    chance = random.Random(seed)
    rows: list[Row] = []
    for at in range(60):
        target = -chance.randrange(1, at + 1) if at and chance.random() < 0.3 else 0
        account = chance.randrange(3) if target == 0 else rows[-target - 1][0]
        price = 0 if chance.random() < 0.05 else 200_000 + chance.randrange(-300, 300)
        rows.append((account, chance.choice([0, 0, 2]), chance.choice([1, -1]),
                     price if target == 0 else 0, chance.randrange(0, 9),
                     int(chance.random() < 0.2), target))  # fmt: skip
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_compiled_and_one_by_one_fill_the_same_lots(seed: int) -> None:
    outcomes = []
    for gate in (False, True):
        market = Market(small(risk_gate=gate, collar={"band_ppb": 0}))
        for name in ("ann", "bob", "eve"):
            market.account(name, 10**8)
        rows = [row if row[1] == 0 else (*row[:3], row[3] * 2 // 5, *row[4:])
                for row in random_rows(seed) if not (row[6] and row[4] == 0)]  # fmt: skip
        targets = [row for row in rows if row[6] == 0]
        applied = enter(market, *targets)
        events = market.cycle()
        outcomes.append((applied.order_ids.tolist(), applied.reasons.tolist(), fills(events)))
    assert outcomes[0] == outcomes[1]


def test_the_account_s_own_sequence_counts_rows(either: Market) -> None:
    ann = either.account("ann")
    applied = enter(either, *[(ann, 0, BUY, 190_000, 1, 0, 0)] * 3)
    rows = [either.state.orders.find(order) for order in applied.order_ids.tolist()]
    assert [row[OWN_SEQUENCE] for row in rows if row] == [1, 2, 3]
