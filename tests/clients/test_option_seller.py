"""The option seller: premium near the money, a hedge against it, and a way back when called."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from clients.option_seller import OptionSeller
from tests.clients.fake_venue import FakeVenue
from tests.clients.playing import fill_immediate, orders_of, play

PERPETUAL = "BTC_USDC-PERPETUAL"
PUT = "BTC_USDC-17OCT25-100000-P"


def seller(seed: int = 1, **terms: Any) -> OptionSeller:
    given = {"currency": "BTC", "style": "puts", "pause": 1, "contracts": 1, **terms}
    return OptionSeller("option", seed, Decimal(100_000), **given)


async def test_it_sells_the_strike_at_the_money_below_its_mark() -> None:
    fake = FakeVenue()
    await play(seller(discount=Decimal("0.05")), fake, 1)
    (order,) = orders_of(fake)
    assert (order["direction"], order["instrument_name"]) == ("sell", PUT)
    mark = fake.public_ticker(PUT)["mark_price"]
    assert mark * Decimal("0.94") <= order["price"] < mark
    assert order["amount"] == Decimal("0.3")  # 30,000 USD of a coin at 100,000
    assert order["time_in_force"] == "immediate_or_cancel"


async def test_it_buys_or_sells_the_perpetual_against_the_delta_of_what_it_sold() -> None:
    fake = FakeVenue()
    bot = seller(band=Decimal(1_000))
    await play(bot, fake, 2, fill_immediate)
    delta = fake.public_ticker(PUT)["greeks"]["delta"]
    hedges = [row for row in orders_of(fake) if row["instrument_name"] == PERPETUAL]
    assert hedges
    assert hedges[0]["direction"] == ("sell" if delta < 0 else "buy")
    assert hedges[0]["amount"] == abs(Decimal("-0.3") * delta).quantize(Decimal("0.001"))


async def test_a_small_delta_is_left_open() -> None:
    fake = FakeVenue()
    await play(seller(band=Decimal(1_000_000)), fake, 3, fill_immediate)
    assert {row["instrument_name"] for row in orders_of(fake)} == {PUT}


async def test_it_never_sells_beyond_its_limit() -> None:
    fake = FakeVenue()
    bot = seller(limit=Decimal(70_000), band=Decimal(10**9))
    await play(bot, fake, 8, fill_immediate)
    assert fake.positions[PUT] == Decimal("-0.7")
    assert bot.short() == 70_000


async def test_a_margin_call_makes_it_buy_back_a_third_and_sell_no_more() -> None:
    fake = FakeVenue()
    bot = seller(band=Decimal(10**9))

    def story(fake: FakeVenue) -> None:
        fill_immediate(fake)
        if fake.batch == 3:
            fake.requests.clear()
            fake.call = {"outcome": "standing", "amount": 10, "deadline": 9}
            fake.publish("user.margin_calls", fake.call)

    await play(bot, fake, 4, story)
    (order,) = orders_of(fake)
    assert (order["direction"], order["instrument_name"]) == ("buy", PUT)
    assert order["reduce_only"] is True
    assert order["amount"] == Decimal("0.3")


async def test_pause_lets_batches_pass_between_sales() -> None:
    fake = FakeVenue()
    await play(seller(pause=3, band=Decimal(10**9)), fake, 6, fill_immediate)
    assert len(orders_of(fake)) == 2


async def test_without_marks_it_is_silent() -> None:
    fake = FakeVenue(marks=False)
    await play(seller(), fake, 3)
    assert orders_of(fake) == []


@pytest.mark.parametrize("style", ["strangle", "puts", "calls"])
async def test_its_style_decides_what_it_sells(style: str) -> None:
    fake = FakeVenue()
    bot = seller(style=style, contracts=6, band=Decimal(10**9), limit=Decimal(10**9))
    await play(bot, fake, 12, fill_immediate)
    letters = {row["instrument_name"][-1] for row in orders_of(fake)}
    assert letters == {"strangle": {"C", "P"}, "puts": {"P"}, "calls": {"C"}}[style]


def test_the_seed_decides_its_character() -> None:
    def character(seed: int) -> tuple:
        bot = OptionSeller("option", seed)
        return bot.style, bot.limit, bot.discount, bot.pause

    assert character(1) == character(1)
    assert len({character(seed) for seed in range(10)}) > 5
