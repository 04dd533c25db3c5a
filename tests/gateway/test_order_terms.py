"""Post-only, sizes in contracts, closing a position, cancelling by label."""

from __future__ import annotations

import pytest

from exchange.gateway.dispatch import Dispatcher
from tests.gateway.small_market import PERPETUAL, SmallMarket

INDEX = (117_000, 4_100, 205)


@pytest.fixture
async def market() -> SmallMarket:
    """After a trade of 0.02 at 100,000: ann is long, bob short."""
    market = SmallMarket()
    await market.buy(market.ann, 0.02, 100_000)
    await market.sell(market.bob, 0.02, 100_000)
    market.close_batch()
    return market


async def test_a_post_only_order_that_would_have_traded_is_refused(market: SmallMarket) -> None:
    asked = {"instrument_name": PERPETUAL, "amount": 0.01, "post_only": True}
    for side, price in (("buy", 100_000), ("buy", 100_000.5), ("sell", 100_000), ("sell", 99_000)):
        error = await market.refusal(market.ann, f"private/{side}", **asked, price=price)
        assert (error["code"], error["message"]) == (11054, "post_only_reject")
        assert error["data"]["reject_reason"] == 309
    error = await market.refusal(market.ann, "private/buy", **asked, type="market")
    assert error["code"] == 11054
    for side, price in (("buy", 99_999.5), ("sell", 100_000.5)):
        result = await market.ask(market.ann, f"private/{side}", **asked, price=price,
                                  reject_post_only=True)  # fmt: skip
        order = result["order"]
        assert (order["post_only"], order["reject_post_only"]) == (True, True)
        assert order["price"] == price, "its price is never changed"


async def test_its_trades_say_so_and_so_does_the_order_after_a_restart(market: SmallMarket) -> None:
    order = await market.buy(market.ann, 0.02, 99_000, post_only=True)
    await market.sell(market.bob, 0.01, 99_000)
    market.close_batch()
    trades = await market.ask(
        market.ann, "private/get_user_trades_by_instrument", instrument_name=PERPETUAL, count=1
    )
    assert trades["trades"][0]["post_only"] is True
    again = Dispatcher(market.sequencer)
    again.rebuild()
    assert again.history.orders[int(order["order_id"])].post_only


async def test_an_edit_keeps_an_order_post_only(market: SmallMarket) -> None:
    number = (await market.buy(market.ann, 0.01, 99_000, post_only=True))["order_id"]
    error = await market.refusal(market.ann, "private/edit", order_id=number, price=100_000)
    assert error["code"] == 11054
    edited = await market.ask(market.ann, "private/edit", order_id=number, price=99_500,
                              post_only=True, reduce_only=False)  # fmt: skip
    assert (edited["order"]["price"], edited["order"]["post_only"]) == (99_500.0, True)
    for change in ({"post_only": False}, {"reject_post_only": False}, {"reduce_only": True}):
        error = await market.refusal(
            market.ann, "private/edit", order_id=number, price=99_600, **change
        )
        assert (error["code"], error["data"]["param"]) == (-32602, next(iter(change)))


async def test_sizes_in_contracts() -> None:
    market = SmallMarket("demo", INDEX)
    for name, contracts, amount in ((PERPETUAL, 20, 0.02), ("BTC-PERPETUAL", 3, 30),
                                    ("BTC_USDC-17OCT25-120000-C", "0.05", 0.05)):  # fmt: skip
        for more in ({}, {"amount": amount}, {"amount": amount, "max_show": amount}):
            result = await market.ask(market.ann, "private/buy", instrument_name=name, price=5,
                                      contracts=contracts, **more)  # fmt: skip
            order = result["order"]
            assert (order["amount"], order["contracts"]) == (amount, float(contracts))
    edited = await market.ask(market.ann, "private/edit", order_id=order["order_id"],
                              contracts=0.07)  # fmt: skip
    assert edited["order"]["amount"] == 0.07
    for contracts, code in ((1.5, 10021), (0, 10002), (-1, 10002), ("NaN", -32602),
                            (1e300, 10021)):  # fmt: skip
        error = await market.refusal(market.ann, "private/buy", instrument_name=PERPETUAL, price=5,
                                     contracts=contracts)  # fmt: skip
        assert error["code"] == code, contracts


async def test_closing_a_position(market: SmallMarket) -> None:
    asked = {"instrument_name": PERPETUAL, "type": "market"}
    result = await market.ask(market.ann, "private/close_position", **asked)
    order = result["order"]
    assert (order["direction"], order["amount"], order["reduce_only"]) == ("sell", 0.02, True)
    assert order["order_type"] == "market"
    result = await market.ask(market.bob, "private/close_position", instrument_name=PERPETUAL,
                              type="limit", price=100_000)  # fmt: skip
    assert (result["order"]["direction"], result["order"]["price"]) == ("buy", 100_000.0)
    market.close_batch()
    for who in (market.ann, market.bob):
        assert await market.ask(who, "private/get_positions") == []
        error = await market.refusal(who, "private/close_position", **asked)
        assert (error["code"], error["data"]["reason"]) == (10002, "there is no position to close")
    error = await market.refusal(market.ann, "private/close_position",
                                 instrument_name=PERPETUAL, type="limit")  # fmt: skip
    assert error["data"]["param"] == "price"


async def test_cancelling_by_label(market: SmallMarket) -> None:
    kept = [await market.buy(market.ann, 0.01, 99_000, label=label) for label in ("", "other")]
    for price in (98_000, 98_500):
        await market.buy(market.ann, 0.01, price, label="mine")
    await market.buy(market.bob, 0.01, 98_000, label="mine")
    for params, count in (({"label": "mine", "currency": "BTC"}, 0), ({"label": "none"}, 0),
                          ({"label": "mine", "currency": "USDC"}, 2),
                          ({"label": "mine"}, 0)):  # fmt: skip
        assert await market.ask(market.ann, "private/cancel_by_label", **params) == count
    left = await market.ask(market.ann, "private/get_open_orders")
    assert [row["order_id"] for row in left] == [row["order_id"] for row in kept]
    assert len(await market.ask(market.bob, "private/get_open_orders")) == 1
