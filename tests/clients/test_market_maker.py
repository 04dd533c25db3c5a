"""The market maker: both sides, leaning against inventory, nearest danger first."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from clients.market_maker import MarketMaker
from tests.clients.fake_venue import FakeVenue
from tests.clients.playing import orders_of, play, traffic

PERPETUAL = "BTC_USDC-PERPETUAL"
BASIS = Decimal("0.0005")


def maker(**terms: Any) -> MarketMaker:
    return MarketMaker("mm", 1, **{"half_spread": BASIS, "contracts": 1, **terms})


def sides(fake: FakeVenue, name: str = PERPETUAL) -> tuple[list[Decimal], list[Decimal]]:
    """Open bids, best first, and asks, best first."""
    mine = [row for row in fake.open_orders() if row["instrument_name"] == name]
    bids = sorted((row["price"] for row in mine if row["direction"] == "buy"), reverse=True)
    return bids, sorted(row["price"] for row in mine if row["direction"] == "sell")


async def test_it_quotes_several_levels_on_both_sides_of_the_mark() -> None:
    fake = FakeVenue()
    await play(maker(levels=3), fake, 1)
    bids, asks = sides(fake)
    assert bids == [99_950, 99_850, 99_750]
    assert asks == [100_050, 100_150, 100_250]
    assert all(row["time_in_force"] == "good_til_cancelled" for row in fake.open_orders())


async def test_its_prices_round_away_from_the_mark() -> None:
    fake = FakeVenue()
    fake.mark_of[PERPETUAL] = Decimal("100000.3")
    await play(maker(levels=1), fake, 1)
    bids, asks = sides(fake)
    assert (bids, asks) == ([Decimal("99950.0")], [Decimal("100050.5")])


async def test_quotes_follow_the_mark_by_edits() -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        fake.mark_of[PERPETUAL] = Decimal(100_200)

    await play(maker(levels=1), fake, 2, story)
    assert sides(fake) == ([Decimal("100149.5")], [Decimal("100250.5")])
    assert len(fake.sent("private/edit")) == 2
    assert len(fake.orders) == 2


async def test_a_quote_that_is_nearly_right_stays() -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        fake.mark_of[PERPETUAL] = Decimal(100_010)

    await play(maker(levels=1), fake, 3, story)
    assert fake.sent("private/edit", "private/cancel") == []


async def test_a_quote_that_traded_in_part_is_replaced_not_edited() -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        if fake.batch == 1:
            bid = next(row for row in fake.open_orders() if row["direction"] == "buy")
            fake.fill(bid, bid["amount"] * 2 / 3)

    await play(maker(levels=1), fake, 2, story)
    (cancelled,) = fake.sent("private/cancel")
    assert fake.orders[cancelled["order_id"]]["direction"] == "buy"
    assert cancelled["order_id"] not in [row["order_id"] for row in fake.sent("private/edit")]
    assert [len(prices) for prices in sides(fake)] == [1, 1]


@pytest.mark.parametrize(("held", "sign"), [("8", -1), ("-8", 1)])
async def test_inventory_moves_both_quotes_the_other_way(held: str, sign: int) -> None:
    flat, full = FakeVenue(), FakeVenue()
    full.positions[PERPETUAL] = Decimal(held)  # 0.8 M of 2 M
    await play(maker(levels=1), flat, 1)
    await play(maker(levels=1), full, 1)
    for before, after in zip(sides(flat), sides(full), strict=True):
        assert (after[0] - before[0]) * sign > 20


@pytest.mark.parametrize(("held", "left"), [("21", "sell"), ("-21", "buy")])
async def test_full_of_inventory_it_only_quotes_the_other_side(held: str, left: str) -> None:
    fake = FakeVenue()
    fake.positions[PERPETUAL] = Decimal(held)
    await play(maker(), fake, 1)
    assert {row["direction"] for row in fake.open_orders()} == {left}


async def test_option_spreads_widen_with_vega_and_with_the_premium() -> None:
    fake = FakeVenue()
    call, put = "BTC_USDC-17OCT25-100000-C", "BTC_USDC-17OCT25-100000-P"
    fake.mark_of[put] = Decimal(20_000)
    await play(maker(book="options", contracts=2, levels=1, volatility_points=Decimal(2)), fake, 1)
    assert sides(fake, call) == ([1890], [2110])  # vega 55 x 2 points
    assert sides(fake, put) == ([19_600], [20_400])  # a fiftieth of the premium


async def test_a_premium_in_coin_is_quoted_in_coin() -> None:
    """Vega 55 x 2 points are 110 dollars, 0.0011 BTC at 100,000."""
    fake = FakeVenue()
    call = "BTC-17OCT25-100000-C"
    fake.contracts[call] = fake.contracts["BTC_USDC-17OCT25-100000-C"] | {
        "instrument_name": call, "quote_currency": "BTC", "settlement_currency": "BTC",
        "tick_size": Decimal("0.0001"), "price_index": "btc_usd",
    }  # fmt: skip
    fake.mark_of[call] = Decimal("0.02")
    await play(maker(book="options", contracts=1, levels=1, volatility_points=Decimal(2)), fake, 1)
    assert sides(fake, call) == ([Decimal("0.0189")], [Decimal("0.0211")])


async def test_options_too_cheap_to_bid_for_are_only_offered() -> None:
    fake = FakeVenue()
    call = "BTC_USDC-17OCT25-100000-C"
    fake.mark_of[call] = Decimal(4)
    await play(maker(book="options", contracts=1, levels=1), fake, 1)
    bids, asks = sides(fake, call)
    assert bids == []
    assert len(asks) == 1


async def test_options_delta_is_hedged_in_the_perpetual() -> None:
    fake = FakeVenue()
    fake.positions["BTC_USDC-17OCT25-100000-C"] = Decimal(4)
    await play(maker(book="options", contracts=2), fake, 1)
    hedge = [row for row in orders_of(fake) if row["instrument_name"] == PERPETUAL]
    assert len(hedge) == 1
    assert (hedge[0]["direction"], hedge[0]["amount"]) == ("sell", 2)  # 4 calls of delta 0.5
    assert hedge[0]["time_in_force"] == "immediate_or_cancel"


async def test_with_few_requests_the_most_dangerous_quote_moves_first() -> None:
    fake = FakeVenue()
    bot = maker(levels=2, requests=4)

    def fall(fake: FakeVenue) -> None:
        bot.requests = 1
        fake.mark_of[PERPETUAL] = Decimal(99_000)

    await play(bot, fake, 2, fall)
    (edit,) = fake.sent("private/edit")
    best_bid = max(
        (row for row in orders_of(fake) if row["direction"] == "buy"), key=lambda row: row["price"]
    )
    edited = fake.orders[edit["order_id"]]
    assert edited["client_order_id"] == best_bid["client_order_id"]  # everybody would now hit it
    assert edited["price"] == Decimal("98950.5")


async def test_a_jump_of_the_index_pulls_everything_first() -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        fake.index["BTC"] = Decimal(80_000)

    await play(maker(levels=1), fake, 2, story)
    methods = [method for method, _ in traffic(fake)]
    assert methods[3] == "private/cancel_all"
    assert sorted(methods[4:]) == ["private/buy", "private/sell"]
    assert sides(fake) == ([79_960], [80_040])


async def test_a_margin_call_pulls_the_quotes_and_reduces() -> None:
    fake = FakeVenue()
    fake.positions[PERPETUAL] = Decimal("-8")

    def story(fake: FakeVenue) -> None:
        if fake.batch == 1:
            fake.margin_call("issued", "1000")

    await play(maker(), fake, 2, story)
    assert [row["direction"] for row in fake.open_orders()] == ["buy"]
    last = orders_of(fake)[-1]
    assert last["reduce_only"] is True
    assert (last["type"], last["direction"], last["amount"]) == ("market", "buy", 2)
