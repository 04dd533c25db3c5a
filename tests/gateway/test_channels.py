"""What each channel tells, when, and to whom."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from exchange.core.stored.orders import IMMEDIATE, LIQUIDATION, MARKET
from exchange.gateway import publisher
from exchange.gateway.market_data import disclosed_levels
from exchange.gateway.methods import CHANNELS
from tests.gateway.small_market import PERPETUAL, SmallMarket, heard, only


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket()


async def trade(market: SmallMarket, amount: float = 0.01, price: float = 100_000) -> None:
    await market.buy(market.ann, amount, price)
    await market.sell(market.bob, amount, price)
    market.close_batch()


async def test_the_book_is_told_whole_and_then_by_changes(market: SmallMarket) -> None:
    channel = f"book.{PERPETUAL}.raw"
    await market.buy(market.ann, 0.02, 99_000)
    await market.sell(market.bob, 0.03, 101_000)
    market.close_batch()
    await market.ask(market.ann, "public/subscribe", channels=[channel])
    ((_, snapshot),) = heard(market.ann)
    assert snapshot["type"] == "snapshot"
    assert snapshot["bids"] == [["new", 99_000.0, 0.02]]
    assert snapshot["asks"] == [["new", 101_000.0, 0.03]]
    assert "prev_change_id" not in snapshot
    await market.buy(market.ann, 0.01, 99_000)
    await market.buy(market.ann, 0.01, 98_000)
    await market.buy(market.ann, 0.03, 101_000)
    assert heard(market.ann) == [], "while a batch collects its book is sealed"
    market.close_batch()
    (change,) = only(market.ann, channel)
    assert change["type"] == "change"
    assert change["prev_change_id"] == snapshot["change_id"] < change["change_id"]
    assert change["bids"] == [["change", 99_000.0, 0.03], ["new", 98_000.0, 0.01]]
    assert change["asks"] == [["delete", 101_000.0, 0.0]]
    assert change["timestamp"] == market.clock.now_ns() // 10**6
    market.close_batch()
    assert only(market.ann, channel) == [], "no news is not told"


async def test_an_opaque_venue_discloses_no_orders() -> None:
    market = SmallMarket(disclosure="opaque")
    await market.listen(market.ann, f"book.{PERPETUAL}.raw", f"trades.{PERPETUAL}.raw")
    await market.buy(market.ann, 0.02, 100_000)
    await market.sell(market.bob, 0.01, 100_000)
    market.close_batch()
    assert [name for name, _ in heard(market.ann)] == [f"trades.{PERPETUAL}.raw"]
    book = await market.ask(market.ann, "public/get_order_book", instrument_name=PERPETUAL)
    assert (book["bids"], book["asks"], book["best_bid_price"]) == ([], [], None)
    assert book["last_price"] == 100_000.0


async def test_an_interrupted_auction_keeps_its_orders_sealed(market: SmallMarket) -> None:
    await market.listen(market.ann, f"book.{PERPETUAL}.raw", f"batch.{PERPETUAL}")
    await market.buy(market.ann, 0.01, 110_000)
    await market.sell(market.bob, 0.01, 108_000)
    market.close_batch()
    told = heard(market.ann)
    assert not [data for name, data in told if name.startswith("book")]
    printed = next(data for _, data in told if data["phase"] == "printed")
    assert printed["last_print"]["state"] == "interrupted"
    assert (printed["last_print"]["price"], printed["surplus"]) == (None, None)


async def test_ticker_and_order_book_hold_what_clients_require(market: SmallMarket) -> None:
    await market.buy(market.ann, 0.02, 100_000)
    await market.sell(market.bob, 0.01, 100_000)
    market.close_batch(100_500)
    ticker = await market.ask(market.ann, "public/ticker", instrument_name=PERPETUAL)
    assert ticker.keys() >= {
        "instrument_name", "timestamp", "state", "last_price", "best_bid_price", "best_bid_amount",
        "best_ask_price", "best_ask_amount", "mark_price", "index_price", "min_price",
        "max_price", "open_interest", "current_funding", "funding_8h", "stats",
    }  # fmt: skip
    assert (ticker["best_bid_price"], ticker["best_bid_amount"]) == (100_000.0, 0.01)
    assert (ticker["best_ask_price"], ticker["best_ask_amount"]) == (None, 0.0)
    assert (ticker["mark_price"], ticker["last_price"]) == (100_500.0, 100_000.0)
    assert ticker["open_interest"] == 0.01
    assert ticker["stats"]["volume"] == 0.01
    assert ticker["stats"]["volume_notional"] == 1000.0
    book = await market.ask(
        market.ann, "public/get_order_book", instrument_name=PERPETUAL, depth=1
    )  # fmt: skip
    assert book["bids"] == [[100_000.0, 0.01]]
    assert book.items() >= ticker.items()


def test_the_disclosed_curve_sums_by_price_and_leaves_out_what_is_not_shown() -> None:
    rows = [  # order_id, pool, side, price_ticks, open_lots, flags, age_batch, own_sequence
        (1, 10, 1, 99, 5, 0, 1, 1), (2, 11, 1, 99, 2, IMMEDIATE, 1, 1), (3, 10, 1, 98, 1, 0, 1, 2),
        (4, 10, -1, 101, 4, 0, 1, 3), (5, 10, -1, 100, 7, LIQUIDATION, 1, 4),
        (6, 10, 1, 0, 7, MARKET, 1, 5), (7, 10, 1, 97, 0, 0, 1, 6),
        ((2 << 40) | 8, 10, -1, 50, 3, 0, 1, 7), ((2 << 40) | 9, 11, -1, 49, 1, 0, 1, 8),
    ]  # fmt: skip
    levels = disclosed_levels(np.array(rows, np.int64).T)
    assert levels == {
        0: (((99, 7), (98, 1)), ((101, 4),)),
        2: ((), ((49, 1), (50, 3))),
    }
    assert disclosed_levels(np.empty((8, 0), np.int64)) == {}


async def test_depth_cuts_the_book(market: SmallMarket) -> None:
    for price in (99_000, 98_000, 97_000):
        await market.buy(market.ann, 0.01, price)
    market.close_batch()
    book = await market.ask(
        market.ann, "public/get_order_book", instrument_name=PERPETUAL, depth=2
    )  # fmt: skip
    assert [price for price, _ in book["bids"]] == [99_000.0, 98_000.0]


async def test_quotes_come_when_the_best_prices_change(market: SmallMarket) -> None:
    channel = f"quote.{PERPETUAL}"
    await market.listen(market.ann, channel)
    await market.buy(market.ann, 0.01, 99_000)
    market.close_batch()
    (quote,) = only(market.ann, channel)
    assert quote["best_bid_price"] == 99_000.0
    assert (quote["best_ask_price"], quote["best_ask_amount"]) == (0.0, 0.0)
    await market.buy(market.ann, 0.01, 98_000)
    market.close_batch()
    assert only(market.ann, channel) == []


async def test_there_is_one_public_trade_a_print_with_the_heavy_sides_direction(
    market: SmallMarket,
) -> None:
    channel = f"trades.{PERPETUAL}.raw"
    await market.listen(market.ann, channel)
    told: list[Any] = []
    for buys, sells, price in ((0.03, 0.01, 100_000), (0.01, 0.05, 100_000), (0.01, 0.01, 99_900),
                               (0.01, 0.01, 99_900), (0.01, 0.01, 99_950)):  # fmt: skip
        await market.buy(market.ann, buys, price, time_in_force="immediate_or_cancel")
        await market.sell(market.bob, sells, price, time_in_force="immediate_or_cancel")
        market.close_batch()
        told += only(market.ann, channel)
    assert [len(message) for message in told] == [1] * 5
    rows = [message[0] for message in told]
    assert [row["amount"] for row in rows] == [0.01] * 5
    assert [row["direction"] for row in rows] == ["buy", "sell", "sell", "sell", "buy"]
    assert [row["tick_direction"] for row in rows] == [0, 1, 2, 3, 0]
    assert rows[0].keys() >= {
        "trade_id", "trade_seq", "instrument_name", "price", "amount", "direction", "timestamp",
        "tick_direction", "index_price", "mark_price",
    }  # fmt: skip
    assert len({row["trade_id"] for row in rows}) == 5


async def test_statistics_forget_what_is_older_than_a_day(market: SmallMarket) -> None:
    await trade(market, price=100_400)
    market.clock._now_ns += 86_400 * 10**9
    await trade(market, price=100_000)
    ticker = await market.ask(market.ann, "public/ticker", instrument_name=PERPETUAL)
    assert (ticker["stats"]["high"], ticker["stats"]["low"]) == (100_000.0, 100_000.0)
    assert ticker["stats"]["volume"] == 0.01


async def test_the_batch_tells_its_phases_and_only_the_number_of_its_orders(
    market: SmallMarket,
) -> None:
    await market.ask(market.ann, "public/subscribe", channels=["batch.any", f"batch.{PERPETUAL}"])
    first = dict(heard(market.ann))
    running = first["batch.any"]
    assert (running["batch"], running["phase"], running["orders"]) == (1, "collecting", 0)
    assert (running["time_to_print"], running["interval"]) == (1000, 1000)
    await market.buy(market.ann, 0.02, 100_000)
    gone = await market.sell(market.bob, 0.01, 101_000)
    await market.sell(market.bob, 0.01, 100_000)
    await market.ask(market.bob, "private/cancel", order_id=gone["order_id"])
    now = await market.ask(market.ann, "public/get_batch", instrument_name=PERPETUAL)
    assert now["orders"] == 2
    market.close_batch()
    told = [data for name, data in heard(market.ann) if name == "batch.any"]
    assert [(row["batch"], row["phase"]) for row in told] == [
        (1, "sealed"), (1, "printed"), (2, "collecting"),
    ]  # fmt: skip
    (outcome,) = told[1]["prints"]
    assert (outcome["price"], outcome["volume"], outcome["surplus"]) == (100_000.0, 0.01, 0.01)
    assert told[2]["orders"] == 1
    now = await market.ask(market.ann, "public/get_batch", instrument_name=PERPETUAL)
    assert (now["last_print"]["batch"], now["volume"], now["surplus"]) == (1, 0.01, 0.01)
    market.close_batch()
    assert (await market.ask(market.ann, "public/get_batch"))["prints"] == [
        {"instrument_name": PERPETUAL, "batch": 2, "state": "no_cross", "price": None,
         "volume": 0.0, "surplus": None}
    ]  # fmt: skip


async def test_own_orders_and_trades_go_to_their_owner_alone(market: SmallMarket) -> None:
    channels = ("user.orders.any.any.raw", "user.trades.any.any.raw",
                f"user.changes.{PERPETUAL}.raw")  # fmt: skip
    await market.listen(market.ann, *channels)
    await market.listen(market.bob, channels[0])
    order = await market.buy(market.ann, 0.02, 100_000, label="mine")
    told = dict(heard(market.ann))
    assert told[channels[0]] == order, "raw is one order, with its label from the first message"
    assert told[channels[2]]["orders"] == [order]
    assert heard(market.bob) == []
    await market.sell(market.bob, 0.01, 100_000)
    heard(market.bob)
    market.close_batch()
    told = dict(heard(market.ann))
    assert told[channels[0]]["filled_amount"] == 0.01
    (trade_row,) = told[channels[1]]
    assert trade_row["order_id"] == order["order_id"]
    changes = told[channels[2]]
    assert changes["instrument_name"] == PERPETUAL
    assert changes["trades"] == [trade_row]
    assert changes["positions"][0]["size"] == 0.01
    (bobs,) = only(market.bob, channels[0])
    assert bobs["order_state"] == "filled"


async def test_user_channels_narrow_down_by_instrument_kind_and_currency(
    market: SmallMarket,
) -> None:
    right = (f"user.orders.{PERPETUAL}.raw", "user.orders.future.USDC.raw",
             "user.orders.future.usdc.raw", "user.orders.any.USDC.raw")  # fmt: skip
    wrong = ("user.orders.option.USDC.raw", "user.orders.future.BTC.raw")
    await market.listen(market.ann, *right, *wrong, "user.orders.any.any.100ms")
    await market.buy(market.ann, 0.01, 99_000)
    told = dict(heard(market.ann))
    assert set(told) == {*right, "user.orders.any.any.100ms"}
    assert told["user.orders.any.any.100ms"] == [told[right[0]]], "other intervals send a list"


async def test_the_portfolio_comes_at_once_after_cycles_and_after_transfers(
    market: SmallMarket,
) -> None:
    channel = "user.portfolio.USDC"
    await market.ask(market.ann, "private/subscribe", channels=[channel, "user.portfolio.any"])
    first = heard(market.ann)
    assert [name for name, _ in first] == [channel, "user.portfolio.any"]
    for _, data in first:
        assert data["currency"] == "USDC"
        for field in ("equity", "balance", "available_funds", "margin_balance", "initial_margin",
                      "maintenance_margin"):  # fmt: skip
            assert isinstance(data[field], float)
    answer = await market.ask(market.ann, "private/deposit", currency="usdc", amount=1.000001)
    assert answer == {
        "pool_id": 10, "currency": "USDC", "amount": 1.000001, "balance": 1_000_001.000001,
    }  # fmt: skip
    assert only(market.ann, channel)[0]["balance"] == 1_000_001.000001
    market.close_batch()
    assert len(only(market.ann, channel)) == 1
    answer = await market.ask(market.ann, "private/withdraw", currency="USDC", amount=1.000001)
    assert answer["balance"] == 1_000_000.0


async def test_indices_are_told_under_either_name(market: SmallMarket) -> None:
    names = ["deribit_price_index.btc_usdc", "deribit_price_index.btc_usd"]
    await market.ask(market.ann, "public/subscribe", channels=names)
    assert [data["price"] for _, data in heard(market.ann)] == [100_000.0] * 2
    market.close_batch(101_000)
    told = dict(heard(market.ann))
    assert {name: row["index_name"] for name, row in told.items()} == {
        name: name.partition(".")[2] for name in names
    }
    assert {row["price"] for row in told.values()} == {101_000.0}
    index = await market.ask(market.ann, "public/get_index_price", index_name="btc_usdc")
    assert index["index_price"] == 101_000.0


@pytest.mark.parametrize(
    "channel",
    ["", "book", "book.NO.raw", f"book.{PERPETUAL}", f"book.{PERPETUAL}.1s",
     f"quote.{PERPETUAL}.raw", "batch.NO", "deribit_price_index.xyz_usdc", "user.orders",
     "user.orders.any.raw", "user.orders.any.XYZ.raw", "user.orders.spot.any.raw",
     "user.portfolio.XYZ", "user.nothing", "user.margin_warnings.raw",
     f"trades.{PERPETUAL}.raw.raw", "x" * 128],
)  # fmt: skip
async def test_a_channel_that_is_not_there_is_left_out(market: SmallMarket, channel: str) -> None:
    accepted = await market.ask(
        market.ann, "private/subscribe", channels=[channel, "batch.any"]
    )  # fmt: skip
    assert accepted == ["batch.any"]


async def test_user_channels_need_an_account_and_the_private_method(market: SmallMarket) -> None:
    wanted = ["user.margin_calls", "user.margin_warnings", "batch.any"]
    assert await market.ask(market.ann, "public/subscribe", channels=wanted) == ["batch.any"]
    visitor = market.hub.connect()
    assert await market.ask(visitor, "public/subscribe", channels=wanted) == ["batch.any"]
    error = await market.refusal(visitor, "private/subscribe", channels=wanted)
    assert error["code"] == 13009


async def test_unsubscribing_ends_it_and_leaves_nothing_behind(market: SmallMarket) -> None:
    channels = [channel.example for channel in CHANNELS]
    for _ in range(2):
        assert await market.ask(market.ann, "private/subscribe", channels=channels) == channels
    heard(market.ann)
    gone = await market.ask(market.ann, "private/unsubscribe", channels=[*channels, "nothing"])
    assert gone == channels
    await trade(market)
    assert heard(market.ann) == []
    assert not market.dispatcher.publisher.users
    assert not any(market.dispatcher.publisher.public.values())


async def test_a_notification_is_encoded_once_for_all(market: SmallMarket) -> None:
    listeners = [market.hub.connect() for _ in range(5)]
    for who in listeners:
        await market.ask(who, "public/subscribe", channels=[f"ticker.{PERPETUAL}.raw"])
        who.take_notifications()
    calls = []
    original = publisher.encode

    def counted(data: object) -> bytes:
        calls.append(data)
        return original(data)

    publisher.encode = counted
    try:
        market.close_batch()
    finally:
        publisher.encode = original
    assert len(calls) == 1
    frames = [who._outbox[0] for who in listeners]
    assert all(frame is frames[0] for frame in frames)
