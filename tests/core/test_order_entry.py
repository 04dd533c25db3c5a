"""Orders come, change and go while a batch collects."""

from __future__ import annotations

from exchange.core.commands import CancelAll, EditOrder, PlaceOrder
from exchange.core.events import OrderAccepted, OrderDone, OrdersDone
from exchange.core.reject_reason import DoneReason, RejectReason
from exchange.core.stored.orders import AGE_BATCH, OWN_SEQUENCE, PRICE_TICKS
from tests.core.market import BUY, LINEAR_ETH, SELL, Market, every, fills, only, print_of, small


def age_of(market: Market, order_id: int) -> int:
    row = market.state.orders.find(order_id)
    assert row is not None
    return row[AGE_BATCH]


def test_a_good_til_cancelled_order_rests_with_the_age_of_its_batch(market: Market) -> None:
    ann = market.account("ann")
    order = market.place(ann, BUY, 5, 190_000)
    batch = market.state.batch
    for _ in range(3):
        market.cycle()
    assert age_of(market, order) == batch
    assert market.open_lots(order) == 5


def test_immediate_and_market_remainders_are_cancelled_at_the_print(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    market.place(ann, SELL, 4, 200_000)
    limit = market.place(bob, BUY, 3, 200_000, immediate_or_cancel=True)
    at_market = market.place(bob, BUY, 3)
    events = market.cycle()
    assert fills(events)[at_market] == 3, "market orders come first"
    assert fills(events)[limit] == 1
    done = {order: (lots, reason) for event in every(events, OrdersDone) for order, lots, reason in
            zip(event.order_id.tolist(), event.open_lots.tolist(), event.reason.tolist(),
                strict=True)}  # fmt: skip
    assert done[limit] == (2, DoneReason.REMAINDER_CANCELLED)
    assert done[at_market] == (0, DoneReason.FILLED)


def test_raising_the_size_takes_the_new_batch_s_age(market: Market) -> None:
    ann = market.account("ann")
    order = market.place(ann, BUY, 5, 190_000)
    market.cycle()
    market.edit(ann, order, 190_000, 6)
    assert age_of(market, order) == market.state.batch
    assert market.open_lots(order) == 6


def test_changing_the_price_takes_the_new_batch_s_age(market: Market) -> None:
    ann = market.account("ann")
    order = market.place(ann, BUY, 5, 190_000)
    market.cycle()
    market.edit(ann, order, 189_999, 5)
    row = market.state.orders.find(order)
    assert row is not None
    assert (row[AGE_BATCH], row[PRICE_TICKS]) == (market.state.batch, 189_999)


def test_a_better_claim_takes_a_new_place_in_the_account_s_own_sequence(market: Market) -> None:
    ann = market.account("ann")
    order = market.place(ann, BUY, 5, 190_000)
    other = market.place(ann, BUY, 5, 190_000)
    market.edit(ann, order, 190_001, 5)
    rows = [market.state.orders.find(o) for o in (order, other)]
    assert [row[OWN_SEQUENCE] for row in rows if row] == [3, 2]


def test_lowering_the_size_keeps_the_age(market: Market) -> None:
    ann = market.account("ann")
    order = market.place(ann, BUY, 5, 190_000)
    age = age_of(market, order)
    market.cycle()
    market.edit(ann, order, 190_000, 4)
    assert age_of(market, order) == age
    assert market.open_lots(order) == 4


def test_the_older_batch_is_filled_first_and_an_edited_order_is_not_older(market: Market) -> None:
    ann, bob, eve = (market.account(name) for name in ("ann", "bob", "eve"))
    edited = market.place(ann, BUY, 5, 200_000)
    kept = market.place(bob, BUY, 5, 200_000)
    market.cycle()
    market.edit(ann, edited, 200_000, 6)
    market.place(eve, SELL, 5, 200_000)
    assert set(fills(market.cycle())) >= {kept}
    assert market.open_lots(edited) == 6


def test_a_refused_edit_leaves_the_order_as_it_was(market: Market) -> None:
    ann = market.account("ann", 2_000)
    order = market.place(ann, BUY, 100, 200_000)
    for price, lots, reason in (
        (200_000, 1_000, RejectReason.MARGIN_INSUFFICIENT),
        (0, 100, RejectReason.PRICE_NOT_POSITIVE),
        (-1, 100, RejectReason.PRICE_NOT_POSITIVE),
        (2_000_001, 100, RejectReason.PRICE_TOO_HIGH),
        (200_000, 0, RejectReason.QUANTITY_NOT_POSITIVE),
    ):
        assert market.refused(EditOrder, ann, order, price, lots) == reason


def test_an_edit_frees_the_order_s_own_reservation_first(market: Market) -> None:
    ann = market.account("ann", 1_900)
    order = market.place(ann, BUY, 100, 200_000)
    market.edit(ann, order, 199_000, 100)
    assert market.open_lots(order) == 100


def test_a_repeated_client_order_id_returns_the_first_order(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    first = market.place(ann, BUY, 5, 190_000, client_order_id="mine")
    before = market.engine.state_hash()
    again = only(
        market.do(PlaceOrder, ann, 0, SELL, 210_000, 9, client_order_id="mine"), OrderAccepted
    )
    assert (again.order_id, again.repeated) == (first, True)
    assert market.engine.state_hash() == before, "nothing else happens"
    assert market.place(bob, BUY, 5, 190_000, client_order_id="mine") != first, "own name space"


def test_a_client_order_id_is_remembered_after_its_order_is_gone(market: Market) -> None:
    ann = market.account("ann")
    first = market.place(ann, BUY, 5, 190_000, client_order_id="mine")
    market.cancel(ann, first)
    market.cycle()
    again = only(market.do(PlaceOrder, ann, 0, BUY, 190_000, 5, client_order_id="mine"),
                 OrderAccepted)  # fmt: skip
    assert again == OrderAccepted(first, ann, repeated=True)


def test_cancel_takes_one_order_out_and_cancel_all_the_rest() -> None:
    market = Market(small())
    ann, bob = market.account("ann"), market.account("bob")
    one = market.place(ann, BUY, 5, 190_000)
    two = market.place(ann, BUY, 5, 190_000)
    eth = market.place(ann, BUY, 5, 79_000, LINEAR_ETH)
    other = market.place(bob, BUY, 5, 190_000)
    done = only(market.cancel(ann, one), OrderDone)
    assert done == OrderDone(one, ann, 5, DoneReason.CANCELLED_BY_OWNER)
    market.do(CancelAll, ann, LINEAR_ETH)
    assert [market.open_lots(order) for order in (one, two, eth, other)] == [0, 5, 0, 5]
    market.do(CancelAll, ann)
    assert [market.open_lots(order) for order in (two, other)] == [0, 5]


def test_cancel_all_of_no_contract_is_refused(market: Market) -> None:
    ann = market.account("ann")
    market.place(ann, BUY, 5, 190_000)
    for slot in (1, -2):
        assert market.refused(CancelAll, ann, slot) == RejectReason.INSTRUMENT_UNKNOWN


def test_two_sides_that_meet_print_at_one_price(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    market.place(ann, BUY, 5, 201_000)
    market.place(bob, SELL, 5, 199_000)
    assert print_of(market.cycle())[1:] == (200_000, 5), "the reference, inside both limits"
    assert (market.lots(ann), market.lots(bob)) == (5, -5)
