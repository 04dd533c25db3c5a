"""Step 1 of the cycle: what is in the batch, and what its publication says."""

from __future__ import annotations

import hashlib

from exchange.core.commands import Halt
from exchange.core.events import BatchSealed, OrdersDone
from exchange.core.reject_reason import DoneReason, RejectReason
from tests.core.market import BUY, FUTURE, SECOND, SELL, Market, every, only, print_of, small


def done_for(events: list[object], reason: DoneReason) -> dict[int, int]:
    """Order -> open lots of the orders that left for this reason."""
    return {
        order: lots
        for event in events
        if isinstance(event, OrdersDone)
        for order, lots, why in zip(
            event.order_id.tolist(), event.open_lots.tolist(), event.reason.tolist(), strict=True
        )
        if why == reason
    }


def test_reduce_only_is_trimmed_to_the_position_oldest_first(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 10, 200_000)
    orders = [market.place(ann, SELL, lots, 210_000, reduce_only=True) for lots in (4, 4, 4, 4)]
    events = market.seal()
    assert [market.open_lots(order) for order in orders] == [4, 4, 2, 0]
    trimmed = done_for(events, DoneReason.REDUCE_ONLY_TRIMMED)
    assert trimmed == {orders[2]: 2, orders[3]: 4}


def test_reduce_only_on_the_wrong_side_or_without_a_position_leaves(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 10, 200_000)
    wrong = market.place(ann, BUY, 3, 190_000, reduce_only=True)
    flat = market.place(market.account("eve"), SELL, 3, 210_000, reduce_only=True)
    short = market.place(bob, BUY, 3, 190_000, reduce_only=True)
    market.seal()
    assert [market.open_lots(order) for order in (wrong, flat, short)] == [0, 0, 3]


def test_older_means_accepted_earlier_in_any_batch_and_age_is_kept(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 10, 200_000)
    first = market.place(ann, SELL, 8, 210_000, reduce_only=True)
    market.cycle()
    second = market.place(ann, SELL, 8, 210_000, reduce_only=True)
    market.cycle()
    assert (market.open_lots(first), market.open_lots(second)) == (8, 2)


def test_orders_leave_at_the_first_seal_at_or_after_expiry() -> None:
    market = Market(small(expiry_after_s=10))
    ann, bob = market.account("ann"), market.account("bob")
    order = market.place(ann, BUY, 5, 190_000, FUTURE)
    expiry = market.venue.instruments[FUTURE].expiry_ns
    market.cycle(after_ns=expiry - market.now - 1)
    assert market.open_lots(order) == 5, "the last auction is strictly before"
    market.place(bob, SELL, 1, 190_000, FUTURE)
    market.now = expiry
    market.account("eve")  # the venue learns that it is this late
    assert market.refused_order(bob, SELL, 1, 190_000, FUTURE) == RejectReason.INSTRUMENT_EXPIRED
    events = market.seal(0)
    assert set(done_for(events, DoneReason.INSTRUMENT_EXPIRED)) >= {order}


def test_orders_in_a_halted_contract_carry_over(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    orders = [
        market.place(ann, BUY, 5, 200_000, immediate_or_cancel=True),
        market.place(ann, BUY, 5),
        market.place(bob, SELL, 10, 200_000),
    ]
    market.do(Halt, 0, True)
    assert market.refused_order(bob, SELL, 1, 200_000) == RejectReason.INSTRUMENT_HALTED
    market.cycle()
    market.cycle()
    assert [market.open_lots(order) for order in orders] == [5, 5, 10]
    market.do(Halt, 0, False)
    assert print_of(market.cycle())[1:] == (200_000, 10)


def test_the_count_and_a_digest_of_the_sealed_set_are_published(market: Market) -> None:
    ann = market.account("ann")
    for price in (190_000, 191_000, 192_000):
        market.place(ann, BUY, 5, price)
    sealed = only(market.seal(), BatchSealed)
    assert (sealed.batch, sealed.time_ns) == (market.state.batch, market.now)
    assert (sealed.instruments.tolist(), sealed.orders.tolist()) == ([0], [3])
    table = market.state.orders.resting
    assert sealed.root == hashlib.sha256(table.tobytes()).digest()


def test_liquidation_orders_are_not_counted(market: Market) -> None:
    ann, bob = market.account("ann", 1_900), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    market.cycle(94_000)
    market.place(bob, SELL, 5, 250_000)
    events = market.seal()
    assert only(events, BatchSealed).orders.tolist() == [1]
    assert len(market.state.orders.resting.T) == 2


def test_an_empty_batch_is_sealed_too(market: Market) -> None:
    sealed = only(market.seal(SECOND), BatchSealed)
    assert (sealed.instruments.tolist(), sealed.orders.tolist()) == ([], [])
    assert not every(market.uncross(), OrdersDone)
