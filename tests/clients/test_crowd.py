"""A crowd: built from a seed, connected in order, stopped by the first real error."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from clients import VenueRefused
from clients.crowd import Crowd, Mix, build_crowd, run
from clients.market_maker import MarketMaker
from clients.trend_follower import TrendFollower
from tests.clients.fake_venue import FakeVenue

SMALL = Mix(market_makers=2, noise_traders=4, trend_followers=3, arbitrageurs=1)


def character(crowd: Crowd) -> list[tuple]:
    return [
        (bot.name, bot.kind, bot.money, getattr(bot, "leverage", None), bot.random.random())
        for bot in crowd.bots
    ]


def test_the_default_crowd_has_at_least_a_hundred_accounts_with_distinct_names() -> None:
    crowd = build_crowd(Mix(), 1)
    assert len(crowd.bots) == Mix().bots >= 100
    assert len(set(crowd.names)) == len(crowd.names)


def test_the_seed_decides_every_character() -> None:
    assert character(build_crowd(Mix(), 1)) == character(build_crowd(Mix(), 1))
    assert character(build_crowd(Mix(), 1)) != character(build_crowd(Mix(), 2))


def test_another_mix_leaves_the_characters_of_those_who_stay() -> None:
    fewer = character(build_crowd(Mix(noise_traders=3), 1))
    assert set(fewer) < set(character(build_crowd(Mix(), 1)))


@pytest.mark.parametrize("currencies", [("BTC",), ("BTC", "ETH"), ("BTC", "ETH", "SOL")])
def test_market_makers_cover_every_currency_in_futures_and_options(
    currencies: tuple[str, ...],
) -> None:
    crowd = build_crowd(Mix(market_makers=2 * len(currencies)), 1, currencies)
    books = [(bot.book, bot.currency) for bot in crowd.bots if isinstance(bot, MarketMaker)]
    assert sorted(books) == sorted(
        (book, currency) for book in ("futures", "options") for currency in currencies
    )


def test_each_kind_starts_with_its_money() -> None:
    crowd = build_crowd(Mix(trend_follower_money=Decimal(777)), 1)
    money = {bot.money for bot in crowd.bots if isinstance(bot, TrendFollower)}
    assert money == {Decimal(777)}


class Market:
    """One fake venue an account; a batch passes when all of them said that they are ready."""

    def __init__(self, accounts: int) -> None:
        self.venues: dict[str, FakeVenue] = {}
        self.accounts = accounts
        self.complete = asyncio.Event()

    async def connect(self, name: str) -> FakeVenue:
        self.venues[name] = FakeVenue()
        if len(self.venues) == self.accounts:
            self.complete.set()
        return self.venues[name]

    async def pass_batches(self, batches: int) -> None:
        await self.complete.wait()
        for _ in range(batches):
            for venue in self.venues.values():
                await venue.ready.wait()
            for venue in self.venues.values():
                venue.next_batch()
        for venue in self.venues.values():
            await venue.close()


async def test_every_bot_plays_every_batch_until_the_connections_end() -> None:
    market = Market(SMALL.bots)
    crowd = build_crowd(SMALL, 1, ("BTC", "ETH"))
    passing = asyncio.create_task(market.pass_batches(5))
    report = await asyncio.wait_for(run(crowd, market.connect), 10)
    await passing
    assert list(market.venues) == crowd.names
    assert set(report.turns.values()) <= {5, 6}  # the last may have begun when the market closed
    assert report.deposited["noise-001"] == SMALL.noise_trader_money


async def test_it_can_stop_after_a_given_batch() -> None:
    market = Market(SMALL.bots)
    crowd = build_crowd(SMALL, 1, ("BTC", "ETH"))
    passing = asyncio.create_task(market.pass_batches(4))
    report = await asyncio.wait_for(run(crowd, market.connect, last_batch=3), 10)
    passing.cancel()
    assert set(report.turns.values()) == {3}
    assert all(venue.closed for venue in market.venues.values())


async def test_one_bots_real_error_stops_all_and_is_raised() -> None:
    market = Market(SMALL.bots)
    crowd = build_crowd(SMALL, 1, ("BTC", "ETH"))

    async def connect(name: str) -> FakeVenue:
        venue = await market.connect(name)
        if name == "noise-003":
            venue.refusals["batch/ready"] = (13009, "unauthorized")
        return venue

    passing = asyncio.create_task(market.pass_batches(5))
    with pytest.raises(ExceptionGroup) as caught:
        await asyncio.wait_for(run(crowd, connect), 10)
    passing.cancel()
    (error,) = caught.value.exceptions
    assert isinstance(error, VenueRefused)
    assert all(venue.closed for venue in market.venues.values())
