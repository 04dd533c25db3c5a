"""Margin calls and liquidations as the account's owner reads them."""

from __future__ import annotations

from typing import Any

from tests.gateway.small_market import PERPETUAL, SmallMarket, heard


async def leveraged() -> SmallMarket:
    """Ann is long near her limit; bob is short against her and rich."""
    market = SmallMarket(deposit=2_000)
    await market.ask(market.bob, "private/deposit", currency="USDC", amount=1_000_000)
    await market.buy(market.ann, 0.1, 100_000)
    await market.sell(market.bob, 0.1, 100_000)
    market.close_batch()
    return market


async def test_a_margin_call_is_told_and_can_be_asked_for() -> None:
    market = await leveraged()
    await market.listen(market.ann, "user.margin_calls")
    assert await market.ask(market.ann, "private/get_margin_calls") == []
    told: list[Any] = []
    price = 100_000
    while not told:
        price -= 100
        market.close_batch(price)
        told = heard(market.ann)
    ((_, call),) = told
    assert call["outcome"] == "issued"
    assert call["amount"] > 0
    assert call["currency"] == "USDC"
    assert call["deadline"] == market.state.cycle + market.venue.calls.deadline_cycles
    (standing,) = await market.ask(market.ann, "private/get_margin_calls")
    assert {**standing, "outcome": "issued"} == call
    assert await market.ask(market.bob, "private/get_margin_calls") == []
    await market.ask(market.ann, "private/deposit", currency="USDC", amount=1_000)
    market.close_batch()
    assert [data["outcome"] for _, data in heard(market.ann)] == ["cured"]


async def test_a_liquidation_shows_in_orders_trades_and_notices() -> None:
    market = await leveraged()
    await market.listen(market.ann, "user.margin_calls", "user.orders.any.any.raw",
                        "user.trades.any.any.raw", "batch.any")  # fmt: skip
    own = await market.buy(market.ann, 0.001, 80_000)
    notices: list[Any] = []
    trades: list[Any] = []
    orders: list[Any] = []
    for price in range(99_000, 88_000, -500):
        await market.buy(market.bob, 0.1, price + 1_000, time_in_force="immediate_or_cancel")
        market.close_batch(price)
        for name, data in heard(market.ann):
            if name == "user.margin_calls":
                notices.append(data)
            elif name == "user.trades.any.any.raw":
                trades += data
            elif name == "user.orders.any.any.raw":
                orders.append(data)
        if trades:
            break
    steps = [row.get("step") for row in notices if row["outcome"] == "liquidation"]
    assert "opened" in steps
    assert "offered" in steps
    assert trades[0]["order_type"] == "liquidation"
    assert trades[0]["liquidation"] in ("M", "T")
    assert trades[0]["direction"] == "sell"
    forced = [row for row in orders if row["is_liquidation"]]
    assert forced
    assert "filled" in [row["order_state"] for row in forced]
    cancelled = next(row for row in orders if row["order_id"] == own["order_id"] and row != own)
    assert cancelled["cancel_reason"] == "risk_mitigation", "the margin no longer covered it"
    assert market.state.contracts.specs[0].name == PERPETUAL


async def test_a_liquidation_order_can_be_neither_cancelled_nor_edited_nor_seen() -> None:
    market = await leveraged()
    own = await market.buy(market.ann, 0.001, 80_000)
    market.close_batch(93_000)
    gone = await market.ask(market.ann, "private/get_order_state", order_id=own["order_id"])
    assert (gone["order_state"], gone["cancel_reason"]) == ("cancelled", "autoliquidation")
    (order,) = await market.ask(market.ann, "private/get_open_orders")
    assert order["is_liquidation"] is True
    name = order["order_id"]
    assert (await market.refusal(market.ann, "private/cancel", order_id=name))["code"] == 10045
    error = await market.refusal(market.ann, "private/edit", order_id=name, price=1)
    assert error["code"] == 10046
    assert (await market.ask(market.ann, "public/get_batch"))["orders"] == 0
    book = await market.ask(market.ann, "public/get_order_book", instrument_name=PERPETUAL)
    assert book["asks"] == []
    (standing,) = await market.ask(market.ann, "private/get_margin_calls")
    assert standing["outcome"] == "liquidation"
    error = await market.refusal(
        market.ann, "private/buy", instrument_name=PERPETUAL, amount=0.001, price=50_000
    )
    assert error["code"] == 13021
