"""An order's life as its owner reads it: answers, history, trades, idempotency."""

from __future__ import annotations

import asyncio

import pytest

from exchange.core.engine import Engine
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.order_history import OrderHistory
from exchange.sequencer import Sequencer
from tests.gateway.small_market import PERPETUAL, SmallMarket

ORDER_FIELDS = {
    "order_id", "order_state", "order_type", "instrument_name", "direction", "price", "amount",
    "filled_amount", "average_price", "commission", "label", "time_in_force", "post_only",
    "reduce_only", "creation_timestamp", "last_update_timestamp", "client_order_id",
}  # fmt: skip
TRADE_FIELDS = {
    "trade_id", "order_id", "instrument_name", "direction", "price", "amount", "fee",
    "fee_currency", "timestamp", "trade_seq", "liquidity", "order_type", "index_price",
    "mark_price", "tick_direction", "state", "label",
}  # fmt: skip


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket()


async def state_of(market: SmallMarket, order_id: str) -> dict[str, object]:
    return await market.ask(market.ann, "private/get_order_state", order_id=order_id)


async def test_an_order_is_answered_open_with_all_its_fields(market: SmallMarket) -> None:
    order = await market.buy(market.ann, 0.01, 99_000.5, label="first", client_order_id="mine-1")
    assert order.keys() >= ORDER_FIELDS
    assert order["order_state"] == "open"
    assert (order["price"], order["amount"], order["filled_amount"]) == (99_000.5, 0.01, 0.0)
    assert (order["label"], order["client_order_id"]) == ("first", "mine-1")
    assert order["post_only"] is False
    assert order["creation_timestamp"] == market.clock.now_ns() // 10**6
    assert "cancel_reason" not in order
    assert await state_of(market, order["order_id"]) == order
    assert await market.ask(market.ann, "private/get_open_orders") == [order]
    assert await market.ask(market.bob, "private/get_open_orders") == []


async def test_a_market_order_says_so_in_its_price(market: SmallMarket) -> None:
    order = await market.buy(market.ann, 0.01)
    assert (order["order_type"], order["price"]) == ("market", "market_price")
    market.close_batch()
    gone = await state_of(market, order["order_id"])
    assert (gone["order_state"], gone["cancel_reason"]) == ("cancelled", "remainder_cancelled")


async def test_even_an_order_that_trades_in_the_same_step_is_answered_open(
    market: SmallMarket,
) -> None:
    await market.sell(market.bob, 0.01, 100_000)
    params = {"instrument_name": PERPETUAL, "amount": 0.01, "price": 100_000, "label": "fast"}
    task = asyncio.ensure_future(market.ann.request("private/buy", params))
    await asyncio.sleep(0)
    market.close_batch()  # the answer had no chance to leave before the auction
    order = (await task)["result"]["order"]  # type: ignore[index, call-overload]
    assert (order["order_state"], order["filled_amount"], order["label"]) == ("open", 0.0, "fast")
    assert (await state_of(market, order["order_id"]))["order_state"] == "filled"


async def test_fills_show_in_order_trades_and_position(market: SmallMarket) -> None:
    order = await market.buy(market.ann, 0.01, 100_010.5, label="L")
    await market.sell(market.bob, 0.004, 100_000)
    market.close_batch()
    left = await state_of(market, order["order_id"])
    assert (left["order_state"], left["filled_amount"]) == ("open", 0.004)
    assert left["average_price"] == 100_010.5
    fee = 0.120013  # 3 basis points of 400.042 USDC, rounded up to its millionth
    assert left["commission"] == fee
    found = await market.ask(
        market.ann, "private/get_user_trades_by_instrument", instrument_name=PERPETUAL
    )
    (trade,) = found["trades"]
    assert found["has_more"] is False
    assert trade.keys() >= TRADE_FIELDS
    assert (trade["fee"], trade["fee_currency"]) == (fee, "USDC")
    assert (trade["liquidity"], trade["state"], trade["label"]) == ("T", "open", "L")
    assert (trade["mark_price"], trade["index_price"]) == (100_000.0, 100_000.0)
    position = await market.ask(market.ann, "private/get_position", instrument_name=PERPETUAL)
    assert (position["direction"], position["size"]) == ("buy", 0.004)
    assert position["average_price"] == 100_010.5
    assert position["floating_profit_loss"] == -0.042
    short = await market.ask(market.bob, "private/get_positions", currency="USDC", kind="future")
    assert (short[0]["direction"], short[0]["size"]) == ("sell", -0.004)
    assert await market.ask(market.bob, "private/get_positions", currency="BTC") == []
    assert await market.ask(market.bob, "private/get_positions", kind="option") == []


async def test_open_orders_count_in_the_initial_margin_at_once(market: SmallMarket) -> None:
    async def funds() -> tuple[float, float]:
        row = await market.ask(market.ann, "private/get_account_summary", currency="USDC")
        return row["initial_margin"], row["available_funds"]

    assert await funds() == (0.0, 1_000_000.0)
    order = await market.buy(market.ann, 0.1, 100_000)
    initial, available = await funds()
    assert initial > 0
    assert available == pytest.approx(1_000_000 - initial)
    await market.ask(market.ann, "private/cancel", order_id=order["order_id"])
    assert await funds() == (0.0, 1_000_000.0)
    await market.ask(market.ann, "private/deposit", currency="USDC", amount=5)
    assert await funds() == (0.0, 1_000_005.0)


async def test_an_order_older_than_the_batch_makes_a_younger_one_takes(market: SmallMarket) -> None:
    await market.buy(market.ann, 0.01, 100_000)
    market.close_batch()
    await market.sell(market.bob, 0.01, 100_000)
    market.close_batch()
    for who, side in ((market.ann, "M"), (market.bob, "T")):
        found = await market.ask(
            who, "private/get_user_trades_by_instrument", instrument_name=PERPETUAL
        )
        assert [trade["liquidity"] for trade in found["trades"]] == [side]


async def test_each_order_has_its_own_trade_at_one_print(market: SmallMarket) -> None:
    await market.buy(market.ann, 0.003, 100_000)
    await market.buy(market.ann, 0.004, 100_000)
    await market.sell(market.bob, 0.007, 100_000)
    market.close_batch()
    found = await market.ask(
        market.ann, "private/get_user_trades_by_instrument", instrument_name=PERPETUAL
    )
    assert sorted(trade["amount"] for trade in found["trades"]) == [0.003, 0.004]
    assert len({trade["trade_id"] for trade in found["trades"]}) == 2
    public = await market.ask(
        market.ann, "public/get_last_trades_by_instrument", instrument_name=PERPETUAL
    )
    assert [trade["amount"] for trade in public["trades"]] == [0.007]


async def test_a_client_order_id_makes_sending_again_safe(market: SmallMarket) -> None:
    first = await market.buy(market.ann, 0.01, 100_000, client_order_id="k", label="one")
    again = await market.buy(market.ann, 0.01, 100_000, client_order_id="k", label="two")
    assert again == first
    assert len(await market.ask(market.ann, "private/get_open_orders")) == 1
    other = await market.buy(market.bob, 0.01, 99_000, client_order_id="k")
    assert other["order_id"] != first["order_id"]
    await market.sell(market.bob, 0.01, 100_000)
    market.close_batch()
    late = await market.buy(market.ann, 0.01, 100_000, client_order_id="k")
    assert (late["order_id"], late["order_state"]) == (first["order_id"], "filled")
    assert late["label"] == "one"
    assert await market.ask(market.ann, "private/get_open_orders") == []
    named = await market.ask(
        market.ann, "private/get_order_state_by_client_order_id", client_order_id="k"
    )
    assert named == late


async def test_the_same_label_may_be_used_twice(market: SmallMarket) -> None:
    first = await market.buy(market.ann, 0.01, 99_000, label="same")
    second = await market.buy(market.ann, 0.01, 99_000, label="same")
    assert first["order_id"] != second["order_id"]
    assert not market.dispatcher.history.labels, "labels wait for their order and no longer"


async def test_an_edit_counts_what_is_filled(market: SmallMarket) -> None:
    order = (await market.buy(market.ann, 0.01, 100_000))["order_id"]
    await market.sell(market.bob, 0.004, 100_000)
    market.close_batch()
    answer = await market.ask(market.ann, "private/edit", order_id=order, amount=0.008)
    assert answer["trades"] == []
    edited = answer["order"]
    assert (edited["amount"], edited["filled_amount"], edited["price"]) == (0.008, 0.004, 100_000)
    assert edited["replaced"] is True
    assert edited["order_state"] == "open"
    row = market.state.orders.find(int(order))
    assert row[4] == 4, "what is open is the new amount less what is filled"
    answer = await market.ask(market.ann, "private/edit", order_id=order, price=99_000)
    assert (answer["order"]["amount"], answer["order"]["price"]) == (0.008, 99_000)


async def test_an_edit_that_waits_for_the_auction_counts_its_fills(market: SmallMarket) -> None:
    order = (await market.buy(market.ann, 0.01, 100_000))["order_id"]
    await market.sell(market.bob, 0.004, 100_000)
    params = {"order_id": order, "amount": 0.008}
    market.sequencer.seal_and_uncross()
    task = asyncio.ensure_future(market.ann.request("private/edit", params))
    await asyncio.sleep(0)
    assert market.sequencer.flush() == 0, "requests wait while the batch is cleared"
    market.sequencer.revalue(market.marks())
    market.sequencer.flush()
    edited = (await task)["result"]["order"]  # type: ignore[index, call-overload]
    assert (edited["amount"], edited["filled_amount"]) == (0.008, 0.004)
    assert market.state.orders.find(int(order))[4] == 4


async def test_cancels_say_who_cancelled(market: SmallMarket) -> None:
    order = await market.buy(market.ann, 0.01, 99_000)
    gone = await market.ask(market.ann, "private/cancel", order_id=order["order_id"])
    assert (gone["order_state"], gone["cancel_reason"]) == ("cancelled", "user_request")
    for price in (98_000, 97_000):
        await market.buy(market.ann, 0.01, price)
    await market.buy(market.bob, 0.01, 96_000)
    assert await market.ask(market.ann, "private/cancel_all") == 2
    await market.buy(market.ann, 0.01, 95_000)
    detailed = await market.ask(
        market.ann, "private/cancel_all_by_instrument", instrument_name=PERPETUAL, detailed=True
    )
    assert [row["price"] for row in detailed] == [95_000]
    assert await market.ask(market.ann, "private/cancel_all") == 0
    assert len(await market.ask(market.bob, "private/get_open_orders")) == 1


async def test_immediate_or_cancel_leaves_after_its_auction(market: SmallMarket) -> None:
    order = await market.buy(market.ann, 0.01, 100_000, time_in_force="immediate_or_cancel")
    assert order["time_in_force"] == "immediate_or_cancel"
    await market.sell(market.bob, 0.004, 100_000)
    market.close_batch()
    gone = await state_of(market, order["order_id"])
    assert (gone["order_state"], gone["filled_amount"]) == ("cancelled", 0.004)
    assert gone["cancel_reason"] == "remainder_cancelled"


async def test_reduce_only_is_trimmed_to_the_position(market: SmallMarket) -> None:
    await market.buy(market.ann, 0.01, 100_000)
    await market.sell(market.bob, 0.01, 100_000)
    market.close_batch()
    order = await market.sell(market.ann, 0.03, 101_000, reduce_only=True)
    useless = await market.sell(market.ann, 0.02, 101_000, reduce_only=True)
    market.close_batch()
    left = await state_of(market, order["order_id"])
    assert (left["order_state"], left["amount"], left["reduce_only"]) == ("open", 0.01, True)
    gone = await state_of(market, useless["order_id"])
    assert (gone["order_state"], gone["cancel_reason"]) == ("cancelled", "reduce_only_trimmed")


async def test_history_runs_from_new_to_old_and_is_cut_as_asked(market: SmallMarket) -> None:
    names = []
    for price in (90_000, 91_000, 92_000, 93_000):
        names.append((await market.buy(market.ann, 0.01, price))["order_id"])
        await market.ask(market.ann, "private/cancel", order_id=names[-1])
    await market.buy(market.ann, 0.01, 100_000)
    await market.sell(market.bob, 0.01, 100_000)
    market.close_batch()

    async def history(**more: object) -> list[float]:
        rows = await market.ask(
            market.ann, "private/get_order_history_by_instrument",
            instrument_name=PERPETUAL, **more,
        )  # fmt: skip
        return [row["price"] for row in rows]

    assert await history() == [100_000, 93_000, 92_000, 91_000, 90_000]
    assert await history(count=2, offset=1) == [93_000, 92_000]
    assert await history(include_unfilled=False) == [100_000]


async def test_trades_are_selected_by_sequence_time_and_count(market: SmallMarket) -> None:
    for _ in range(4):
        await market.buy(market.ann, 0.001, 100_000)
        await market.sell(market.bob, 0.001, 100_000)
        market.close_batch()

    async def sequences(method: str, **more: object) -> tuple[list[int], bool]:
        found = await market.ask(market.ann, method, instrument_name=PERPETUAL, **more)
        return [trade["trade_seq"] for trade in found["trades"]], found["has_more"]

    for method in ("public/get_last_trades_by_instrument", "private/get_user_trades_by_instrument"):
        assert await sequences(method) == ([4, 3, 2, 1], False)
        assert await sequences(method, sorting="asc") == ([1, 2, 3, 4], False)
        assert await sequences(method, count=2) == ([4, 3], True)
        assert await sequences(method, start_seq=2, end_seq=3) == ([3, 2], False)
        third = (market.venue.opening_time_ns + 4 * market.venue.interval_ns) // 10**6
        assert await sequences(method, start_timestamp=third, end_timestamp=third) == ([3], False)


async def test_memory_of_done_orders_is_bounded() -> None:
    market = SmallMarket()
    market.dispatcher.history.done_kept = 3
    names = []
    for number in range(5):
        order = await market.buy(market.ann, 0.01, 90_000, client_order_id=f"c{number}")
        names.append(order["order_id"])
        await market.ask(market.ann, "private/cancel", order_id=order["order_id"])
    history = market.dispatcher.history
    assert len(history.orders) == len(history.of(0).done) == 3
    error = await market.refusal(market.ann, "private/get_order_state", order_id=names[0])
    assert error["code"] == 10004
    again = await market.buy(market.ann, 0.01, 90_000, client_order_id="c0")
    assert (again["order_id"], again["order_state"]) == (names[0], "archive")
    assert OrderHistory(trades_kept=2).of(0).trades.maxlen == 2


async def test_open_orders_come_back_after_a_restart(market: SmallMarket) -> None:
    resting = await market.buy(market.ann, 0.01, 99_000, client_order_id="kept", label="lost")
    market.close_batch()
    fresh = await market.sell(market.ann, 0.02, 101_000, reduce_only=True)
    engine = Engine.restore(market.engine.snapshot())
    sequencer = Sequencer(engine, None, market.clock)
    market.engine, market.sequencer = engine, sequencer
    market.dispatcher = Dispatcher(sequencer)
    market.dispatcher.rebuild()
    market.hub.dispatcher = market.dispatcher
    found = await market.ask(market.ann, "private/get_open_orders")
    assert [row["order_id"] for row in found] == [resting["order_id"], fresh["order_id"]]
    assert [row["amount"] for row in found] == [0.01, 0.02]
    assert [row["client_order_id"] for row in found] == ["kept", None]
    assert [row["reduce_only"] for row in found] == [False, True]
    again = await market.buy(market.ann, 0.01, 99_000, client_order_id="kept")
    assert again["order_id"] == resting["order_id"]
    gone = await market.ask(market.ann, "private/cancel", order_id=resting["order_id"])
    assert gone["order_state"] == "cancelled"
