"""Noise traders stay small; arbitrageurs sell the rich, buy the cheap and flatten."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from clients.arbitrageur import Arbitrageur
from clients.noise_trader import NoiseTrader
from tests.clients.fake_venue import FakeVenue
from tests.clients.playing import fill_all, orders_of, play

PERPETUAL, INVERSE = "BTC_USDC-PERPETUAL", "BTC-PERPETUAL"


async def test_noise_is_of_every_side_and_style_and_kind_of_contract() -> None:
    fake = FakeVenue()
    await play(NoiseTrader("noise", 3, activity=100, contracts=9), fake, 80)
    orders = orders_of(fake)
    assert {row["direction"] for row in orders} == {"buy", "sell"}
    styles = {(row["type"], row["time_in_force"]) for row in orders}
    assert styles == {
        ("market", "immediate_or_cancel"), ("limit", "immediate_or_cancel"),
        ("limit", "good_til_cancelled"),
    }  # fmt: skip
    kinds = {fake.contracts[row["instrument_name"]]["kind"] for row in orders}
    assert kinds == {"future", "option"}


async def test_noise_orders_are_small_and_as_frequent_as_its_activity() -> None:
    fake = FakeVenue()
    await play(NoiseTrader("noise", 3, activity=25), fake, 120)
    orders = orders_of(fake)
    assert 15 <= len(orders) <= 45
    for row in orders:
        contract = fake.contracts[row["instrument_name"]]
        inverse = contract["settlement_currency"] == contract["base_currency"]
        index = fake.index[contract["base_currency"]]
        worth = row["amount"] if inverse else row["amount"] * index
        assert worth <= max(3_000, contract["min_trade_amount"] * index)


async def test_noise_clears_its_resting_orders_after_a_while() -> None:
    fake = FakeVenue()
    await play(NoiseTrader("noise", 3, activity=100, patience=5), fake, 21)
    assert len(fake.sent("private/cancel_all")) == 4
    assert len(fake.open_orders()) < 15


async def test_a_noise_trader_with_too_much_only_reduces() -> None:
    fake = FakeVenue()
    fake.positions[PERPETUAL] = Decimal(-1)
    await play(NoiseTrader("noise", 3, activity=100, contracts=9), fake, 60)
    mine = [row for row in orders_of(fake) if row["instrument_name"] == PERPETUAL]
    assert mine
    assert all(row["direction"] == "buy" and row["reduce_only"] for row in mine)


async def test_a_noise_trader_in_a_call_halves_its_greatest_holding() -> None:
    fake = FakeVenue()
    fake.positions = {PERPETUAL: Decimal("0.1"), INVERSE: Decimal(-200)}
    fake.margin_call("issued", "10")
    await play(NoiseTrader("noise", 3, activity=100), fake, 1)
    (order,) = orders_of(fake)
    assert (order["instrument_name"], order["direction"]) == (PERPETUAL, "sell")
    assert (order["amount"], order["type"]) == (Decimal("0.05"), "market")
    assert order["reduce_only"] is True


def arbitrageur(style: str = "index", **terms: Any) -> Arbitrageur:
    return Arbitrageur("arb", 1, **{"style": style, "currency": "BTC", **terms})


@pytest.mark.parametrize(
    ("mark", "direction", "limit"), [(100_100, "sell", 100_020), (99_900, "buy", 99_980)]
)
async def test_it_sells_a_rich_perpetual_and_buys_a_cheap_one_with_an_edge_left(
    mark: int, direction: str, limit: int
) -> None:
    fake = FakeVenue()
    fake.mark_of[PERPETUAL] = Decimal(mark)
    await play(arbitrageur(), fake, 1)
    (order,) = orders_of(fake)
    assert (order["direction"], order["amount"]) == (direction, 1)
    assert order["price"] == limit
    assert order["time_in_force"] == "immediate_or_cancel"


async def test_it_leaves_a_small_basis_alone() -> None:
    fake = FakeVenue()
    fake.mark_of[PERPETUAL] = Decimal(100_050)
    await play(arbitrageur(), fake, 3)
    assert orders_of(fake) == []


async def test_it_stops_at_its_limit() -> None:
    fake = FakeVenue()
    fake.mark_of[PERPETUAL] = Decimal(100_200)
    await play(arbitrageur(limit=Decimal(250_000)), fake, 6, fill_all)
    assert fake.positions[PERPETUAL] == Decimal("-2.5")


async def test_it_flattens_reduce_only_when_the_basis_closes() -> None:
    fake = FakeVenue()
    fake.mark_of[PERPETUAL] = Decimal(100_200)

    def story(fake: FakeVenue) -> None:
        fill_all(fake)
        if fake.batch == 3:
            fake.mark_of[PERPETUAL] = Decimal(100_010)

    await play(arbitrageur(), fake, 8, story)
    assert fake.positions[PERPETUAL] == 0
    orders = orders_of(fake)
    assert [row["direction"] for row in orders] == ["sell"] * 3 + ["buy"] * 3
    assert [row.get("reduce_only", False) for row in orders] == [False] * 3 + [True] * 3


async def test_a_pair_sells_the_rich_inverse_and_covers_in_the_linear() -> None:
    fake = FakeVenue()
    fake.mark_of[INVERSE] = Decimal(100_200)

    def story(fake: FakeVenue) -> None:
        fill_all(fake)
        if fake.batch == 4:
            fake.mark_of[INVERSE] = Decimal(100_000)

    bot = arbitrageur("pair", limit=Decimal(200_000))
    await play(bot, fake, 4, story)
    assert fake.positions == {INVERSE: Decimal(-200_000), PERPETUAL: Decimal(2)}


async def test_a_pair_goes_home_on_both_legs() -> None:
    fake = FakeVenue()
    fake.positions = {INVERSE: Decimal(-200_000), PERPETUAL: Decimal(2)}
    await play(arbitrageur("pair"), fake, 5, fill_all)
    assert fake.positions == {INVERSE: 0, PERPETUAL: 0}


async def test_an_arbitrageur_in_a_call_halves_its_legs() -> None:
    fake = FakeVenue()
    fake.positions = {PERPETUAL: Decimal(-2)}
    fake.margin_call("issued", "10")
    fake.mark_of[PERPETUAL] = Decimal(100_200)
    await play(arbitrageur(), fake, 1)
    (order,) = orders_of(fake)
    assert (order["direction"], order["amount"], order["reduce_only"]) == ("buy", 1, True)
