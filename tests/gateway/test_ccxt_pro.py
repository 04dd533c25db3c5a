"""ccxt.pro as it is against a served venue: every stream that the venue promises."""

from __future__ import annotations

import asyncio
from typing import Any

import ccxt
import pytest

from tests.gateway.ccxt_market import INVERSE, LINEAR, PRICE, CcxtMarket, Client, ccxt_market
from tests.gateway.served_market import now_ms

PATIENCE_S = 10.0


async def heard(watching: asyncio.Task[Any]) -> Any:
    return await asyncio.wait_for(watching, PATIENCE_S)


async def watch(market: CcxtMarket, client: Client, channel: str, name: str, *args: Any,
                **params: Any) -> asyncio.Task[Any]:  # fmt: skip
    """Begin to watch; returns once the venue knows of the channel."""
    task = asyncio.create_task(client(name, *args, params=params))
    async with asyncio.timeout(PATIENCE_S):
        while not any(channel in c.session.channels for c in market.server.connections):
            assert not task.done() or task.exception() is None, task.exception()
            await asyncio.sleep(0.005)
    return task


async def trade(market: CcxtMarket, client: Client, price: float = PRICE) -> str:
    """Ann buys 0.02 of bob's 0.05 in a batch of its own; her order."""
    await market.ask(market.bob, "private/cancel_all")
    await market.offer(price)
    order = await client("create_order", LINEAR, "limit", "buy", 0.02, price)
    market.close_batch()
    number: str = order["id"]
    return number


async def test_tickers_and_quotes() -> None:
    async with ccxt_market() as market:
        client = market.client("pro")
        first = await client("watch_ticker", LINEAR)
        assert (first["last"], first["markPrice"]) == (None, PRICE), "one comes at once"
        quotes = await client("watch_bids_asks", [LINEAR])
        assert quotes[LINEAR]["ask"] is None
        ticker = asyncio.create_task(client("watch_ticker", LINEAR))
        quote = asyncio.create_task(client("watch_bids_asks", [LINEAR]))
        await trade(market, client)
        assert (await heard(quote))[LINEAR]["ask"] == PRICE
        later = await heard(ticker)
        assert (later["last"], later["ask"], later["askVolume"]) == (PRICE, PRICE, 0.03)
        both = await client("watch_tickers", [LINEAR, INVERSE])
        assert both.keys() <= {LINEAR, INVERSE}


@pytest.mark.parametrize("interval", ["100ms", "raw"])
async def test_the_book_follows_what_is_disclosed(interval: str) -> None:
    async with ccxt_market() as market:
        client, params = market.client("pro"), {"interval": interval}
        book = await client("watch_order_book", LINEAR, params=dict(params))
        assert (book["bids"], book["asks"]) == ([], [])
        for price in (PRICE, PRICE + 100):
            change = asyncio.create_task(client("watch_order_book", LINEAR, params=dict(params)))
            await trade(market, client, price)
            book = await heard(change)
            assert [row[:2] for row in book["asks"]] == [[price, 0.03]]
        assert (await client("fetch_order_book", LINEAR))["asks"] == [[PRICE + 100, 0.03]]


@pytest.mark.parametrize("interval", ["100ms", "raw"])
async def test_trades_and_candles(interval: str) -> None:
    async with ccxt_market() as market:
        client = market.client("pro")
        channel = f"trades.BTC_USDC-PERPETUAL.{interval}"
        trades = await watch(market, client, channel, "watch_trades", LINEAR, interval=interval)
        candles = await watch(market, client, "chart.trades.BTC_USDC-PERPETUAL.1", "watch_ohlcv",
                              LINEAR)  # fmt: skip
        await trade(market, client)
        (seen,) = await heard(trades)
        assert (seen["price"], seen["amount"], seen["symbol"]) == (PRICE, 0.02, LINEAR)
        (candle,) = await heard(candles)
        assert candle[1:] == [PRICE, PRICE, PRICE, PRICE, 0.02]
        more = asyncio.create_task(client("watch_ohlcv", LINEAR))
        await trade(market, client, PRICE + 50)
        assert (await heard(more))[-1][1:] == [PRICE, PRICE + 50, PRICE, PRICE + 50, 0.04]


async def test_own_orders_trades_and_money() -> None:
    async with ccxt_market() as market:
        client = market.client("pro")
        balance = await client("watch_balance")
        while "USDC" not in balance:  # one message a currency
            balance = await asyncio.wait_for(client("watch_balance"), PATIENCE_S)
        assert balance["USDC"]["total"]["USDC"] == 1_000_000, "one comes at once"
        orders = await watch(market, client, "user.orders.any.any.raw", "watch_orders")
        trades = await watch(market, client, "user.trades.any.any.raw", "watch_my_trades", LINEAR)
        await market.offer()
        number = (await client("create_order", LINEAR, "limit", "buy", 0.02, PRICE))["id"]
        (order,) = await heard(orders)
        assert (order["id"], order["status"], order["symbol"]) == (number, "open", LINEAR)
        orders = asyncio.create_task(client("watch_orders"))
        await asyncio.sleep(0)
        market.close_batch()
        (order,) = await heard(orders)
        assert (order["status"], order["filled"]) == ("closed", 0.02)
        (own,) = await heard(trades)
        assert (own["order"], own["amount"], own["fee"]["cost"]) == (number, 0.02, 0.702)
        while balance["USDC"]["total"]["USDC"] == 1_000_000:
            balance = await asyncio.wait_for(client("watch_balance"), PATIENCE_S)
        assert balance["USDC"]["total"]["USDC"] == 1_000_000 - 0.702


async def test_orders_of_one_kind() -> None:
    async with ccxt_market() as market:
        client = market.client("pro")
        watching = await watch(market, client, "user.orders.future.BTC.raw", "watch_orders",
                               kind="future", currency="BTC")  # fmt: skip
        await client("create_order", LINEAR, "limit", "buy", 0.01, PRICE - 100)
        inverse = await client("create_order", INVERSE, "limit", "buy", 10, PRICE - 100)
        assert [order["id"] for order in await heard(watching)] == [inverse["id"]]


async def test_a_wrong_key_ends_the_streams_instead_of_hanging_them() -> None:
    async with ccxt_market() as market:
        client = market.client("pro", **{"secret": "guessed"})
        await client("watch_ticker", LINEAR)
        running = asyncio.create_task(client("watch_ticker", LINEAR))
        for name in ("watch_orders", "watch_balance"):
            with pytest.raises(ccxt.NetworkError, match="1008"):
                await asyncio.wait_for(client(name), PATIENCE_S)
        with pytest.raises(ccxt.NetworkError):
            await heard(running)
        assert (await client("watch_ticker", LINEAR))["markPrice"] == PRICE, "and it may go on"


async def test_other_clients_are_told_what_is_wrong_with_their_key_before_the_end() -> None:
    async with ccxt_market() as market:
        client = await market.connect()
        error = await client.refusal(
            "public/auth", grant_type="client_signature", client_id="ann-key", nonce="n",
            timestamp=now_ms(), signature="00", data="",
        )  # fmt: skip
        assert error["code"] == 13004
        assert await client.ended() == 1008


async def test_an_unknown_channel_is_left_out_and_disturbs_nobody() -> None:
    async with ccxt_market() as market:
        client = market.client("pro")
        await client("watch_ticker", LINEAR)
        running = asyncio.create_task(client("watch_ticker", LINEAR))
        lost = asyncio.create_task(client("watch_ticker", LINEAR, params={"interval": "1s"}))
        await asyncio.sleep(0.1)
        market.close_batch()
        assert (await heard(running))["markPrice"] == PRICE
        assert not lost.done()
        lost.cancel()
