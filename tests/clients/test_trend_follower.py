"""The trend follower: builds to its leverage, holds when wrong, answers a call by temperament."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from clients.trend_follower import TEMPERAMENTS, TrendFollower
from tests.clients.fake_venue import FakeVenue
from tests.clients.playing import fill_all, orders_of, play

PERPETUAL = "BTC_USDC-PERPETUAL"


def follower(**terms: Any) -> TrendFollower:
    return TrendFollower(
        "trend", 1, **{"currency": "BTC", "bias": "long", "leverage": Decimal(4), **terms}
    )


async def test_it_builds_up_to_its_leverage_in_steps_and_stops_there() -> None:
    fake = FakeVenue()
    await play(follower(), fake, 15, fill_all)
    sizes = [row["amount"] for row in orders_of(fake)]
    assert len(sizes) >= 6
    assert max(sizes) <= Decimal("0.167")  # a sixth of 4 x 25,000 USD
    assert fake.positions[PERPETUAL] == Decimal(1)


async def test_a_short_bias_sells() -> None:
    fake = FakeVenue()
    await play(follower(bias="short"), fake, 10, fill_all)
    assert fake.positions[PERPETUAL] == Decimal(-1)


@pytest.mark.parametrize(("drift", "sign"), [("1.002", 1), ("0.998", -1), ("1", 0)])
async def test_momentum_follows_the_move_of_the_index(drift: str, sign: int) -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        fill_all(fake)
        fake.index["BTC"] *= Decimal(drift)

    await play(follower(bias="momentum", window=4), fake, 8, story)
    held = fake.positions.get(PERPETUAL, Decimal(0))
    assert (held > 0) - (held < 0) == sign


async def test_it_does_not_add_when_margin_uses_up_its_equity() -> None:
    fake = FakeVenue()
    fake.initial_margin = Decimal(20_001)
    await play(follower(), fake, 5, fill_all)
    assert orders_of(fake) == []


async def test_it_holds_through_a_fall_and_adds_nothing() -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        fill_all(fake)
        if fake.batch >= 4:
            fake.index["BTC"] *= Decimal("0.95")
            fake.cash *= Decimal("0.9")

    await play(follower(), fake, 10, story)
    bought = sum(row["amount"] for row in orders_of(fake))
    assert {row["direction"] for row in orders_of(fake)} == {"buy"}
    assert fake.positions[PERPETUAL] == bought
    assert len(orders_of(fake)) == 4


async def test_it_takes_part_of_a_large_profit_reduce_only() -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        fill_all(fake)
        if fake.batch == 6:
            fake.index["BTC"] *= Decimal("1.2")

    await play(follower(), fake, 7, story)
    sold = [row for row in orders_of(fake) if row["direction"] == "sell"]
    assert [row["reduce_only"] for row in sold] == [True]
    assert sold[0]["amount"] == Decimal("0.498")  # half of 6 x 0.166, to the lot


async def called(temperament: str, amount: str = "500", **terms: Any) -> FakeVenue:
    """A long position; a call in batches 4 to 9, refreshed each batch."""
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        if fake.batch < 4:
            fill_all(fake)
        elif fake.batch < 9:
            fake.margin_call("issued" if fake.batch == 4 else "standing", amount)
        elif fake.batch == 9:
            fake.margin_call("cured")
        fake.end_immediate_orders()

    await play(follower(temperament=temperament, **terms), fake, 10, story)
    return fake


async def test_a_depositor_pays_more_than_is_asked_a_limited_number_of_times() -> None:
    fake = await called("deposits", deposits_max=2, amount="5000")
    paid = [row["amount"] for row in fake.sent("private/deposit")]
    assert paid == [25_000, 7_500, 7_500]


async def test_a_depositor_pays_no_trifle() -> None:
    fake = await called("deposits", deposits_max=1, amount="3.33")
    assert [row["amount"] for row in fake.sent("private/deposit")] == [25_000, 2_500]


async def test_a_depositor_asks_what_is_missing_before_it_pays() -> None:
    fake = FakeVenue()

    def story(fake: FakeVenue) -> None:
        if fake.batch == 2:
            fake.margin_call("issued", "4000")
            fake.call = {**fake.call, "outcome": "standing", "amount": Decimal("6000.01")}
        if fake.batch == 3:
            fake.call = None  # cured, though nobody said so

    await play(follower(temperament="deposits", deposits_max=3), fake, 8, story)
    assert [row["amount"] for row in fake.sent("private/deposit")] == [
        25_000, Decimal("9000.02"),
    ]  # fmt: skip


async def test_a_cutter_sends_reduce_only_market_orders_for_a_part() -> None:
    fake = await called("cuts")
    cuts = [row for row in orders_of(fake) if row["direction"] == "sell"]
    assert len(cuts) == 5
    assert all(row["reduce_only"] and row["type"] == "market" for row in cuts)
    held = fake.positions[PERPETUAL]
    assert 0 < cuts[0]["amount"] <= held * Decimal("0.36")


async def test_who_freezes_does_nothing_until_the_call_is_over() -> None:
    fake = await called("freezes")
    assert len(fake.sent("private/deposit")) == 1
    assert {row["direction"] for row in orders_of(fake)} == {"buy"}
    turns = [row for row in orders_of(fake) if "reduce_only" in row]
    assert turns == []
    assert len(orders_of(fake)) == 5  # batches 1 to 4 and 10: nothing while the call stood


def test_the_seed_deals_out_all_temperaments_and_biases() -> None:
    bots = [TrendFollower(f"trend-{k}", 7) for k in range(60)]
    assert {bot.temperament for bot in bots} == set(TEMPERAMENTS)
    assert {bot.bias for bot in bots} == {"long", "short", "momentum"}
    assert all(Decimal("1.5") <= bot.leverage <= 5 for bot in bots)
    again = [TrendFollower(f"trend-{k}", 7) for k in range(60)]
    assert [bot.leverage for bot in bots] == [bot.leverage for bot in again]
