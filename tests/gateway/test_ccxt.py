"""ccxt as it is, blocking and asynchronous, against a served venue: every call of the unified API
that the venue promises, and the exception that each refusal becomes."""

from __future__ import annotations

from typing import Any

import ccxt
import pytest

from tests.gateway.ccxt_market import CALL, INVERSE, LINEAR, PRICE, CcxtMarket, Client, ccxt_market

KINDS = ["sync", "async"]
USDC = {"currency": "USDC"}


async def traded(market: CcxtMarket, client: Client, amount: float = 0.02) -> Any:
    """An order of ann's that the next batch fills at `PRICE`."""
    await market.offer()
    order = await client("create_order", LINEAR, "limit", "buy", amount, PRICE)
    market.close_batch()
    return order


@pytest.mark.parametrize("kind", KINDS)
async def test_markets_have_their_terms(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        markets = await client("load_markets")
        specs = market.state.contracts.specs
        assert {row["id"] for row in markets.values()} == {spec.name for spec in specs}
        linear, inverse, call = markets[LINEAR], markets[INVERSE], markets[CALL]
        assert (linear["linear"], inverse["inverse"], call["option"]) == (True, True, True)
        assert linear["precision"] == pytest.approx({"amount": 0.001, "price": 0.5}, nan_ok=True)
        assert (linear["contractSize"], inverse["contractSize"]) == (0.001, 10)
        assert (call["strike"], call["optionType"]) == (120_000, "call")
        assert set(await client("fetch_currencies")) == {"USDC", "BTC", "ETH", "SOL"}
        assert await client("fetch_time") == market.clock.now_ns() // 10**6
        assert (await client("fetch_status"))["status"] == "ok"


@pytest.mark.parametrize("kind", KINDS)
async def test_public_data_of_a_market(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        await traded(market, client)
        now = market.clock.now_ns() // 10**6
        ticker = await client("fetch_ticker", LINEAR)
        assert (ticker["last"], ticker["ask"], ticker["askVolume"]) == (PRICE, PRICE, 0.03)
        assert (ticker["bid"], ticker["baseVolume"], ticker["timestamp"]) == (None, 0.02, now)
        assert (ticker["markPrice"], ticker["indexPrice"]) == (PRICE, PRICE)
        tickers = await client("fetch_tickers", [LINEAR, INVERSE])
        assert tickers.keys() == {LINEAR, INVERSE}, "linear contracts are found by their coin, too"
        assert tickers[LINEAR]["last"] == PRICE
        of_settlement = await client("fetch_tickers", None, USDC)
        assert INVERSE not in of_settlement
        assert {LINEAR, "ETH/USDC:USDC"} <= of_settlement.keys()
        book = await client("fetch_order_book", LINEAR, 7)
        assert (book["asks"], book["bids"]) == ([[PRICE, 0.03]], [])
        (trade,) = await client("fetch_trades", LINEAR)
        assert (trade["price"], trade["amount"], trade["side"]) == (PRICE, 0.02, "sell")
        assert await client("fetch_trades", LINEAR, now) == [trade]
        assert await client("fetch_trades", LINEAR, now + 1) == []
        assert (await client("fetch_open_interest", LINEAR))["openInterestValue"] == 0.02


@pytest.mark.parametrize("kind", KINDS)
async def test_candles_are_the_prints_however_far_the_clocks_are_apart(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        for price in (PRICE, PRICE + 200, PRICE - 100):
            await market.offer(price, 0.01)
            await client("create_order", LINEAR, "limit", "buy", 0.01, price)
            market.close_batch()
        minute = market.clock.now_ns() // 10**6 // 60_000 * 60_000
        rows = await client("fetch_ohlcv", LINEAR)
        candle = [minute, PRICE, PRICE + 200, PRICE - 100, PRICE - 100, 0.03]
        assert rows == [pytest.approx(candle)], "the newest, though the window is of today"
        assert await client("fetch_ohlcv", LINEAR, "1h", minute - 3_600_000, 2) == [
            [minute // 3_600_000 * 3_600_000, *rows[0][1:]]
        ]
        market.clock._now_ns += 180 * 10**9
        filled = await client("fetch_ohlcv", LINEAR, "1m", minute, 10)
        last = PRICE - 100
        assert filled[1:] == [[minute + n * 60_000, *(last,) * 4, 0] for n in (1, 2, 3)]


@pytest.mark.parametrize("kind", KINDS)
async def test_options_have_greeks_and_volatilities(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        await client("load_markets")
        value = (await client("fetch_ticker", CALL))["markPrice"]
        ask = round(value / 5) * 5
        await market.offer(ask, 0.5, client.exchange.market(CALL)["id"])
        market.close_batch()
        greeks = await client("fetch_greeks", CALL)
        assert 0 < greeks["delta"] < 1
        assert greeks["gamma"] > 0
        assert greeks["vega"] > 0
        assert greeks["theta"] < 0
        assert greeks["rho"] > 0
        assert greeks["markImpliedVolatility"] == 45
        assert greeks["askImpliedVolatility"] == pytest.approx(45, abs=0.5)
        assert greeks["underlyingPrice"] == PRICE
        assert (await client("fetch_option", CALL))["askPrice"] == ask
        chain = await client("fetch_option_chain", "BTC")
        assert chain[CALL]["underlyingPrice"] == PRICE


@pytest.mark.parametrize("kind", KINDS)
async def test_the_life_of_an_order(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        order = await client("create_order", LINEAR, "limit", "buy", 0.02, PRICE - 1_000,
                             {"label": "mine"})  # fmt: skip
        assert (order["status"], order["filled"], order["trades"]) == ("open", 0, [])
        number = order["id"]
        edited = await client("edit_order", number, LINEAR, "limit", "buy", 0.03, PRICE - 500)
        assert (edited["amount"], edited["price"]) == (0.03, PRICE - 500)
        assert [o["id"] for o in await client("fetch_open_orders", LINEAR)] == [number]
        assert [o["id"] for o in await client("fetch_open_orders", params=USDC)] == [number]
        assert await client("fetch_open_orders") == [], "ccxt asks for BTC, whose are the inverse"
        assert (await client("fetch_order", number))["info"]["label"] == "mine"
        assert (await client("cancel_order", number))["status"] == "canceled"
        assert (await client("fetch_order", number))["status"] == "canceled"
        for price in (PRICE - 100, PRICE - 200):
            await client("create_order", LINEAR, "limit", "buy", 0.01, price)
        await client("create_order", INVERSE, "limit", "buy", 100, PRICE - 100)
        (counted,) = await client("cancel_all_orders", LINEAR)
        assert counted["info"]["result"] == 2
        assert len(await client("fetch_open_orders")) == 1
        (counted,) = await client("cancel_all_orders")
        assert counted["info"]["result"] == 1


@pytest.mark.parametrize("kind", KINDS)
async def test_fills_trades_positions_and_money(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind, options={"code": "USDC"})
        order = await traded(market, client)
        market.close_batch(PRICE + 1_000, 4_100, 205)
        (closed,) = await client("fetch_closed_orders", LINEAR)
        assert closed == (await client("fetch_closed_orders"))[0]
        assert (closed["id"], closed["status"], closed["filled"]) == (order["id"], "closed", 0.02)
        assert (closed["average"], float(closed["fee"]["cost"])) == (PRICE, 0.702)
        (trade,) = await client("fetch_my_trades", LINEAR)
        assert (trade["order"], trade["price"], trade["takerOrMaker"]) == (
            order["id"], PRICE, "taker",
        )  # fmt: skip
        assert trade["fee"] == {"cost": 0.702, "currency": "USDC"}
        since = trade["timestamp"]
        for found in (
            await client("fetch_my_trades"), await client("fetch_my_trades", LINEAR, since),
            await client("fetch_my_trades", None, since),
            await client("fetch_order_trades", order["id"]),
        ):  # fmt: skip
            assert [row["id"] for row in found] == [trade["id"]]
        assert await client("fetch_my_trades", LINEAR, since + 1) == []
        (position,) = await client("fetch_positions")
        assert (position["symbol"], position["side"]) == (LINEAR, "long")
        assert position["contracts"] * 1.0 == 0.02
        assert (position["entryPrice"], position["unrealizedPnl"]) == (PRICE, 20)
        assert position["initialMargin"] > position["maintenanceMargin"] > 0
        assert (await client("fetch_position", LINEAR)) == position
        balance = await client("fetch_balance")
        assert balance["USDC"]["total"] == pytest.approx(1_000_000 + 20 - 0.702)
        assert balance["USDC"]["free"] < balance["USDC"]["total"]
        assert (await client("fetch_balance", {"code": "BTC"}))["BTC"]["total"] == 0
        fees = await client("fetch_trading_fees")
        assert fees[LINEAR]["taker"] == fees[LINEAR]["maker"] == 0.0003


@pytest.mark.parametrize("kind", KINDS)
async def test_market_reduce_only_and_post_only_orders(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        await traded(market, client)
        await market.ask(market.bob, "private/cancel_all")
        for price in (PRICE, PRICE + 100):
            with pytest.raises(ccxt.InvalidOrder, match="11054"):
                await client("create_order", LINEAR, "limit", "buy", 0.01, price,
                             {"postOnly": True})  # fmt: skip
        posted = await client("create_order", LINEAR, "limit", "buy", 0.01, PRICE - 0.5,
                              {"postOnly": True})  # fmt: skip
        assert posted["postOnly"] is True
        with pytest.raises(ccxt.InvalidOrder, match="11054"):
            await client("edit_order", posted["id"], LINEAR, "limit", "buy", 0.01, PRICE)
        await client("cancel_order", posted["id"])
        closing = await client("create_order", LINEAR, "market", "sell", 0.05, None,
                               {"reduceOnly": True})  # fmt: skip
        assert (closing["type"], closing["price"]) == ("market", None)
        assert closing["info"]["reduce_only"] is True
        await market.ask(market.bob, "private/buy", instrument_name="BTC_USDC-PERPETUAL",
                         amount=0.05, price=PRICE)  # fmt: skip
        market.close_batch()
        assert await client("fetch_positions") == [], "no more than the position was sold"
        once = await client("create_order", LINEAR, "limit", "buy", 0.01, PRICE - 5_000,
                            {"timeInForce": "IOC"})  # fmt: skip
        market.close_batch()
        assert (await client("fetch_order", once["id"]))["status"] == "canceled"


@pytest.mark.parametrize("kind", KINDS)
async def test_funding_and_settlements(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        opening = market.clock.now_ns() // 10**6
        market.close_batch()
        assert (await client("fetch_funding_rate", LINEAR))["fundingRate"] == 0
        (row,) = await client("fetch_funding_rate_history", LINEAR, opening)
        assert (row["fundingRate"], row["indexPrice"]) == (0, PRICE)
        assert await client("fetch_liquidations", LINEAR) == []


REFUSALS: list[tuple[str, tuple[Any, ...], int, type[Exception]]] = [
    # the market's step is told to ccxt, which rounds to it; these get past its rounding
    ("create_order", (LINEAR, "limit", "buy", 0.01, None, {"price": "117000.3"}), 10043,
     ccxt.InvalidOrder),
    ("create_order", (LINEAR, "limit", "buy", 0.01, PRICE, {"amount": "0.0015"}), 10021,
     ccxt.InvalidOrder),
    ("create_order", (LINEAR, "limit", "buy", 0.01, PRICE, {"instrument_name": "BTC-NOWHERE"}),
     13020, ccxt.ExchangeError),
    ("create_order", (LINEAR, "limit", "buy", 99, PRICE), 10009, ccxt.InsufficientFunds),
    ("create_order", (LINEAR, "limit", "buy", 0.01, PRICE, {"triggerPrice": 1}), -32602,
     ccxt.BadRequest),
    ("create_order", (LINEAR, "limit", "sell", 0.01, PRICE, {"stopLossPrice": 1}), -32602,
     ccxt.BadRequest),
    ("create_order", (LINEAR, "limit", "buy", 0.01, PRICE, {"timeInForce": "FOK"}), -32602,
     ccxt.BadRequest),
    ("fetch_ticker", (LINEAR, {"instrument_name": "BTC-NOWHERE"}), 13020, ccxt.ExchangeError),
    ("fetch_positions", (None, {"surely_unknown": 1}), -32602, ccxt.BadRequest),
    ("cancel_order", ("999",), 10004, ccxt.OrderNotFound),
    ("fetch_order", ("no number",), 10004, ccxt.OrderNotFound),
    ("edit_order", ("999", LINEAR, "limit", "buy", 0.01, PRICE), 10004, ccxt.OrderNotFound),
    ("request", ("nothing_of_the_sort", "public"), -32601, ccxt.BadRequest),
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
async def test_each_refusal_becomes_its_exception(kind: str) -> None:
    async with ccxt_market() as market:
        client = market.client(kind)
        await client("load_markets")
        before = market.engine.state_hash()
        for name, args, code, exception in REFUSALS:
            with pytest.raises(exception, match=f'"code":{code},') as caught:
                await client(name, *args)
            assert caught.type is exception, name
        assert market.engine.state_hash() == before, "refused requests change nothing"


@pytest.mark.parametrize("kind", KINDS)
async def test_wrong_keys_are_authentication_errors(kind: str) -> None:
    async with ccxt_market() as market:
        for wrong in ({"secret": "guessed"}, {"apiKey": "nobody"}):
            with pytest.raises(ccxt.AuthenticationError, match='"code":13004,'):
                await market.client(kind, **wrong)("fetch_balance")
        reader = market.client(kind, name="reader")
        with pytest.raises(ccxt.PermissionDenied, match='"code":13021,'):
            await reader("create_order", LINEAR, "limit", "buy", 0.01, PRICE)
