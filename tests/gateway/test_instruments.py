"""Contracts of every kind on the demo venue, as clients load and trade them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.small_market import SmallMarket, heard

INDEX = (117_000, 4_100, 205)
INVERSE = "BTC-PERPETUAL"


@pytest.fixture
def market() -> SmallMarket:
    return SmallMarket("demo", INDEX)


async def listed(market: SmallMarket, **params: object) -> list[dict[str, Any]]:
    return await market.ask(market.ann, "public/get_instruments", **params)


async def test_instruments_hold_what_clients_require(market: SmallMarket) -> None:
    rows = await listed(market)
    assert len(rows) == len(market.venue.instruments)
    for row in rows:
        assert row.keys() >= {
            "instrument_name", "instrument_id", "kind", "base_currency", "quote_currency",
            "counter_currency", "settlement_currency", "settlement_period", "contract_size",
            "min_trade_amount", "tick_size", "is_active", "creation_timestamp",
            "expiration_timestamp", "maker_commission", "taker_commission", "price_index",
        }  # fmt: skip
        assert row["kind"] in ("future", "option")
        assert row["is_active"] is True
        if row["kind"] == "option":
            assert row["option_type"] in ("call", "put")
            assert row["strike"] > 0
    by_name = {row["instrument_name"]: row for row in rows}
    linear, inverse = by_name["BTC_USDC-PERPETUAL"], by_name[INVERSE]
    assert (linear["settlement_currency"], linear["counter_currency"]) == ("USDC", "USDC")
    assert (inverse["settlement_currency"], inverse["counter_currency"]) == ("BTC", "USD")
    assert (linear["min_trade_amount"], inverse["min_trade_amount"]) == (0.001, 10.0)
    assert (linear["price_index"], inverse["price_index"]) == ("btc_usdc", "btc_usd")
    assert linear["settlement_period"] == "perpetual"
    assert linear["tick_size"] == 0.5


async def test_instruments_are_filed_by_currency_and_kind(market: SmallMarket) -> None:
    usdc, btc = await listed(market, currency="USDC"), await listed(market, currency="btc")
    assert {row["settlement_currency"] for row in usdc} == {"USDC"}
    assert {row["settlement_currency"] for row in btc} == {"BTC"}
    options = await listed(market, currency="USDC", kind="option")
    assert {row["kind"] for row in options} == {"option"}
    assert await listed(market, currency="SOL", kind="option") == []
    assert await listed(market, kind="spot") == []
    assert await listed(market, expired=True) == []
    one = await market.ask(market.ann, "public/get_instrument", instrument_name=INVERSE)
    assert one in btc


async def test_currencies_are_those_that_accounts_hold(market: SmallMarket) -> None:
    rows = await market.ask(market.ann, "public/get_currencies")
    assert [row["currency"] for row in rows] == ["USDC", "BTC", "ETH", "SOL"]


async def test_an_inverse_contract_is_traded_in_dollars_and_settles_in_coin(
    market: SmallMarket,
) -> None:
    for who in (market.ann, market.bob):
        await market.ask(who, "private/deposit", currency="BTC", amount=2)
    order = await market.buy(market.ann, 1170, 117_000, instrument_name=INVERSE)
    assert (order["amount"], order["contracts"]) == (1170.0, 117.0)
    await market.sell(market.bob, 1170, 117_000, instrument_name=INVERSE)
    market.close_batch()
    found = await market.ask(
        market.ann, "private/get_user_trades_by_instrument", instrument_name=INVERSE
    )
    (trade,) = found["trades"]
    assert trade["fee_currency"] == "BTC"
    assert trade["fee"] == pytest.approx(0.000003, abs=1e-8)  # 3 basis points of 0.01 BTC
    market.close_batch(130_000, *INDEX[1:])
    position = await market.ask(market.ann, "private/get_position", instrument_name=INVERSE)
    assert position["size"] == 1170.0
    assert position["average_price"] == pytest.approx(117_000, rel=2e-6)  # to the satoshi
    assert position["size_currency"] == pytest.approx(1170 / 130_000)
    assert position["floating_profit_loss"] == pytest.approx(0.01 - 0.009, abs=2e-8)
    summary = await market.ask(market.ann, "private/get_account_summary", currency="BTC")
    assert summary["balance"] == pytest.approx(2.001 - trade["fee"], abs=2e-8)
    assert summary["equity"] == summary["balance"]
    in_usdc = await market.ask(market.ann, "private/get_account_summary", currency="USDC")
    assert in_usdc["initial_margin"] == pytest.approx(summary["initial_margin"] * 130_000)
    assert in_usdc["total_initial_margin_usd"] == in_usdc["initial_margin"] > 0
    for row in (summary, in_usdc):
        assert row["total_equity_usd"] == pytest.approx(
            in_usdc["balance"] + summary["balance"] * 130_000
        )


async def test_an_option_has_greeks_and_volatilities(market: SmallMarket) -> None:
    options = await listed(market, currency="USDC", kind="option")
    near = min(
        (row for row in options if row["base_currency"] == "BTC" and row["option_type"] == "call"),
        key=lambda row: abs(row["strike"] - INDEX[0]),
    )
    name = near["instrument_name"]
    ticker = await market.ask(market.ann, "public/ticker", instrument_name=name)
    assert ticker["greeks"].keys() == {"delta", "gamma", "vega", "theta", "rho"}
    assert 0 < ticker["greeks"]["delta"] < 1
    assert ticker["greeks"]["theta"] < 0 < ticker["greeks"]["vega"]
    assert ticker["mark_iv"] == 45.0
    assert ticker["underlying_price"] == INDEX[0]
    price = round(ticker["mark_price"] / 5) * 5
    await market.listen(market.bob, f"trades.{name}.raw")
    await market.buy(market.ann, 0.05, price, instrument_name=name)
    await market.sell(market.bob, 0.03, price, instrument_name=name)
    market.close_batch()
    trade = dict(heard(market.bob))[f"trades.{name}.raw"][0]
    assert trade["iv"] == pytest.approx(45, abs=2)
    ticker = await market.ask(market.ann, "public/ticker", instrument_name=name)
    assert ticker["bid_iv"] == pytest.approx(45, abs=2)
    assert ticker["ask_iv"] == 0.0
    (position,) = await market.ask(market.ann, "private/get_positions", kind="option")
    assert position["average_price"] == float(price)
    assert position["size"] == 0.03
    assert position["delta"] == pytest.approx(0.03 * ticker["greeks"]["delta"], abs=1e-6)
    summary = await market.ask(market.ann, "private/get_account_summary", currency="USDC")
    assert summary["options_value"] == pytest.approx(0.03 * ticker["mark_price"], abs=1e-5)
    assert summary["equity"] == pytest.approx(summary["balance"] + summary["options_value"])
    assert summary["options_delta"] == position["delta"]


async def test_an_expired_contract_is_over(market: SmallMarket) -> None:
    daily = min(await listed(market, kind="option"), key=lambda row: row["expiration_timestamp"])
    name = daily["instrument_name"]
    order = await market.buy(market.ann, daily["min_trade_amount"], daily["tick_size"],
                             instrument_name=name)  # fmt: skip
    market.clock._now_ns = daily["expiration_timestamp"] * 10**6
    market.close_batch()
    left = await market.ask(market.ann, "private/get_order_state", order_id=order["order_id"])
    assert (left["order_state"], left["cancel_reason"]) == ("cancelled", "settlement")
    assert name not in [row["instrument_name"] for row in await listed(market)]
    over = [row for row in await listed(market, expired=True) if row["instrument_name"] == name]
    assert over[0]["is_active"] is False
    error = await market.refusal(
        market.ann, "private/buy", instrument_name=name,
        amount=daily["min_trade_amount"], price=daily["tick_size"],
    )  # fmt: skip
    assert error["code"] == 11046


async def test_extended_summaries_say_who_and_what_it_costs(market: SmallMarket) -> None:
    found = await market.ask(market.ann, "private/get_account_summaries", extended=True)
    assert found["username"] == "ann"
    assert [row["currency"] for row in found["summaries"]] == ["USDC", "BTC", "ETH", "SOL"]
    fees = found["summaries"][0]["fees"]
    assert {fee["instrument_type"]: fee["taker_fee"] for fee in fees} == {
        "future": 0.0003, "option": 0.0003,
    }  # fmt: skip
