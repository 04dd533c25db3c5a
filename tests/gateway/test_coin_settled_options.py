"""Coin-settled options as clients load, trade and hold them, ccxt included."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.gateway import units
from exchange.gateway.errors import WireError
from tests.gateway.ccxt_market import ccxt_market
from tests.gateway.small_market import SmallMarket, heard

INDEX = (117_000, 4_100, 205)
CALL = "BTC-17OCT25-116000-C"
LINEAR_CALL = "BTC_USDC-17OCT25-116000-C"
CCXT_CALL = "BTC/USD:BTC-251017-116000-C"


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket("demo", INDEX)


async def bought(market: SmallMarket, amount: float = 0.3, ticks_away: int = 0) -> float:
    """ann, who has 2 BTC, buys the call of bob, who has none, near its mark; the price."""
    await market.ask(market.ann, "private/deposit", currency="BTC", amount=2)
    ticker = await market.ask(market.ann, "public/ticker", instrument_name=CALL)
    price = round(round(ticker["mark_price"], 4) + 0.0001 * ticks_away, 4)
    await market.buy(market.ann, amount, price, instrument_name=CALL)
    await market.sell(market.bob, amount, price, instrument_name=CALL)
    market.close_batch()
    return price


async def test_its_terms_are_deribit_s(market: SmallMarket) -> None:
    row = await market.ask(market.ann, "public/get_instrument", instrument_name=CALL)
    assert row.items() >= {
        "kind": "option", "option_type": "call", "strike": 116_000.0,
        "base_currency": "BTC", "quote_currency": "BTC", "counter_currency": "USD",
        "settlement_currency": "BTC", "instrument_type": "reversed", "price_index": "btc_usd",
        "tick_size": 0.0001, "contract_size": 1.0, "min_trade_amount": 0.01,
        "settlement_period": "week", "taker_commission": 0.0003,
    }.items()  # fmt: skip
    linear = await market.ask(market.ann, "public/get_instrument", instrument_name=LINEAR_CALL)
    assert linear.items() >= {
        "quote_currency": "USDC", "settlement_currency": "USDC", "instrument_type": "linear",
    }.items()  # fmt: skip


async def test_it_is_filed_under_its_coin(market: SmallMarket) -> None:
    btc = await market.ask(market.ann, "public/get_instruments", currency="BTC", kind="option")
    assert CALL in [row["instrument_name"] for row in btc]
    assert {row["settlement_currency"] for row in btc} == {"BTC"}
    sol = await market.ask(market.ann, "public/get_instruments", currency="SOL", kind="option")
    assert sol == []


async def test_its_ticker_is_in_coin_and_its_volatility_that_of_the_linear_one(
    market: SmallMarket,
) -> None:
    price = await bought(market, ticks_away=3)
    ticker, linear = [
        await market.ask(market.ann, "public/ticker", instrument_name=name)
        for name in (CALL, LINEAR_CALL)
    ]
    assert ticker["mark_price"] * INDEX[0] == pytest.approx(linear["mark_price"], rel=1e-5)
    assert ticker["last_price"] == price
    assert ticker["mark_iv"] == linear["mark_iv"] == 45.0
    assert ticker["underlying_index"] == "btc_usd"
    for name in ("delta", "gamma", "vega", "theta"):
        assert ticker["greeks"][name] == linear["greeks"][name]
    assert ticker["stats"]["volume"] == 0.3
    assert ticker["stats"]["volume_usd"] == pytest.approx(0.3 * price * INDEX[0], abs=0.01)
    (row,) = await market.ask(
        market.ann, "public/get_book_summary_by_instrument", instrument_name=CALL
    )
    assert (row["quote_currency"], row["base_currency"]) == ("BTC", "BTC")


async def test_a_trade_implies_the_volatility_of_its_premium_in_coin(market: SmallMarket) -> None:
    await market.listen(market.bob, f"trades.{CALL}.raw")
    price = await bought(market)
    (trade,) = dict(heard(market.bob))[f"trades.{CALL}.raw"]
    assert (trade["price"], trade["amount"], trade["contracts"]) == (price, 0.3, 0.3)
    assert trade["iv"] == pytest.approx(45, abs=0.5)
    assert trade["index_price"] == INDEX[0]
    found = await market.ask(
        market.ann, "private/get_user_trades_by_instrument", instrument_name=CALL
    )
    assert found["trades"][0]["fee_currency"] == "BTC"
    assert found["trades"][0]["fee"] == pytest.approx(0.0003 * 0.3, abs=1e-8)


async def test_candles_count_coin(market: SmallMarket) -> None:
    price = await bought(market)
    now = market.clock.now_ns() // 10**6
    chart = await market.ask(
        market.ann, "public/get_tradingview_chart_data", instrument_name=CALL,
        start_timestamp=now - 60_000, end_timestamp=now, resolution="1",
    )  # fmt: skip
    assert chart["volume"][-1] == 0.3
    assert chart["cost"][-1] == pytest.approx(0.3 * price, abs=1e-8)


async def test_positions_and_summaries_are_in_coin(market: SmallMarket) -> None:
    price = await bought(market)
    market.close_batch(125_000, *INDEX[1:])
    ticker = await market.ask(market.ann, "public/ticker", instrument_name=CALL)
    mark = ticker["mark_price"]
    for who, sign in ((market.ann, 1), (market.bob, -1)):
        (position,) = await market.ask(who, "private/get_positions", currency="BTC")
        assert position["size"] == position["size_currency"] == sign * 0.3
        assert position["average_price"] == pytest.approx(price)
        assert position["mark_price"] == mark
        profit = sign * 0.3 * (mark - price)
        assert position["floating_profit_loss"] == pytest.approx(profit, abs=2e-8)
        assert position["delta"] == pytest.approx(sign * 0.3 * ticker["greeks"]["delta"], abs=1e-6)
        assert position["initial_margin"] >= 0
        btc, usdc = [
            await market.ask(who, "private/get_account_summary", currency=currency)
            for currency in ("BTC", "USDC")
        ]
        assert btc["options_value"] == pytest.approx(sign * 0.3 * mark, abs=2e-8)
        assert btc["equity"] == pytest.approx(btc["balance"] + btc["options_value"])
        assert btc["options_pl"] == pytest.approx(profit, abs=2e-8)
        assert btc["options_delta"] == position["delta"]
        assert usdc["options_value"] == 0.0
        assert usdc["total_equity_usd"] == pytest.approx(
            usdc["balance"] + btc["equity"] * 125_000, abs=0.01
        )
    assert btc["balance"] == pytest.approx(0.3 * price - 0.0003 * 0.3), "bob got the premium"
    assert await market.ask(market.bob, "private/get_positions", currency="USDC") == []


async def test_a_price_off_the_grid_or_beyond_the_bound_is_refused(market: SmallMarket) -> None:
    spec = market.state.contracts.specs[market.state.contracts.slot_of[CALL]]
    with pytest.raises(WireError) as refused:
        units.ticks_of(spec, units.Decimal("0.00015"))
    assert refused.value.code == 10043
    error = await market.refusal(
        market.ann, "private/buy", instrument_name=CALL, amount=0.01, price=100.0001
    )
    assert error["data"]["reject_reason"] > 0


async def test_ccxt_knows_it_as_an_inverse_option() -> None:
    async with ccxt_market() as market:
        client = market.client("async")
        found: dict[str, Any] = (await client("load_markets"))[CCXT_CALL]
        assert (found["id"], found["option"], found["inverse"]) == (CALL, True, True)
        assert (found["linear"], found["settle"], found["contractSize"]) == (False, "BTC", 1.0)
        assert (found["strike"], found["optionType"]) == (116_000, "call")
        assert (found["precision"]["price"], found["precision"]["amount"]) == (0.0001, 0.01)
        await market.ask(market.ann, "private/deposit", currency="BTC", amount=2)
        ticker = await client("fetch_ticker", CCXT_CALL)
        price = round(ticker["markPrice"], 4)
        await market.offer(price, 0.05, CALL)
        order = await client("create_order", CCXT_CALL, "limit", "buy", 0.05, price)
        market.close_batch()
        order = await client("fetch_order", order["id"], CCXT_CALL)
        assert (order["status"], order["filled"], order["average"]) == ("closed", 0.05, price)
        (position,) = await client("fetch_positions", [CCXT_CALL])
        assert position["contracts"] == 0.05
        assert position["entryPrice"] == pytest.approx(price)
        balance = await client("fetch_balance")
        fee = 0.0003 * 0.05
        value = 0.05 * (ticker["markPrice"] - price)
        assert balance["BTC"]["total"] == pytest.approx(2 - fee + value, abs=1e-7)
