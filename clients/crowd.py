"""A crowd of sample bots: built from a seed, run as tasks on one event loop."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal

from clients.arbitrageur import Arbitrageur
from clients.bot import Bot
from clients.market_maker import BOOKS, MarketMaker
from clients.noise_trader import NoiseTrader
from clients.option_seller import OptionSeller
from clients.outside_holder import OutsideHolder
from clients.transport import Transport
from clients.trend_follower import TrendFollower

KINDS = ("market_makers", "noise_traders", "trend_followers", "arbitrageurs", "option_sellers",
         "outside_holders")  # fmt: skip
"""The counts of a mix; the money of each has the singular's name."""

Connect = Callable[[str], Awaitable[Transport]]


@dataclass(frozen=True)
class Mix:
    """How many bots of each kind, and the USDC each of them starts with."""

    market_makers: int = 10
    noise_traders: int = 50
    trend_followers: int = 44
    arbitrageurs: int = 6
    option_sellers: int = 4
    market_maker_money: Decimal = Decimal(2_000_000)
    noise_trader_money: Decimal = Decimal(20_000)
    trend_follower_money: Decimal = Decimal(25_000)
    arbitrageur_money: Decimal = Decimal(500_000)
    option_seller_money: Decimal = Decimal(100_000)
    outside_holders: int = 0
    outside_holder_money: Decimal = Decimal(10_000)

    @property
    def bots(self) -> int:
        """How many there are."""
        return sum(getattr(self, kind) for kind in KINDS)


@dataclass(frozen=True)
class Crowd:
    """Bots in the order in which they connect."""

    bots: list[Bot]

    @property
    def names(self) -> list[str]:
        """The accounts that they trade in."""
        return [bot.name for bot in self.bots]


@dataclass
class CrowdReport:
    """What a crowd did, by bot name; `interrupted` lost the connection within a turn."""

    turns: dict[str, int] = field(default_factory=dict)
    trades: dict[str, int] = field(default_factory=dict)
    deposited: dict[str, Decimal] = field(default_factory=dict)
    refusals: Counter[int] = field(default_factory=Counter)
    unanswered: int = 0
    interrupted: list[str] = field(default_factory=list)


def build_crowd(
    mix: Mix, seed: int, currencies: tuple[str, ...] = ("BTC", "ETH", "SOL"), session: str = ""
) -> Crowd:
    """The bots of a mix. The same mix, seed and currencies give the same crowd.

    Market makers take the currencies in turn, first all futures books and then all options books,
    so that 2 x currencies of them cover everything. Trend followers, arbitrageurs and option
    sellers take them in turn too; noise traders go anywhere. Names are `mm-01`, `arb-01`,
    `trend-001`, `noise-001`, `option-01`, `outside-01`.
    """
    count = len(currencies)
    bots: list[Bot] = [
        MarketMaker(
            f"mm-{k + 1:02d}", seed, mix.market_maker_money, session=session,
            book=BOOKS[k // count % len(BOOKS)], currency=currencies[k % count],
        )
        for k in range(mix.market_makers)
    ]  # fmt: skip
    bots += [
        Arbitrageur(
            f"arb-{k + 1:02d}", seed, mix.arbitrageur_money, session=session,
            currency=currencies[k % count],
        )
        for k in range(mix.arbitrageurs)
    ]  # fmt: skip
    bots += [
        TrendFollower(
            f"trend-{k + 1:03d}", seed, mix.trend_follower_money, session=session,
            currency=currencies[k % count],
        )
        for k in range(mix.trend_followers)
    ]  # fmt: skip
    bots += [
        NoiseTrader(f"noise-{k + 1:03d}", seed, mix.noise_trader_money, session=session)
        for k in range(mix.noise_traders)
    ]
    bots += [
        OptionSeller(
            f"option-{k + 1:02d}", seed, mix.option_seller_money, session=session,
            currency=currencies[k % count],
        )
        for k in range(mix.option_sellers)
    ]  # fmt: skip
    bots += [
        OutsideHolder(
            f"outside-{k + 1:02d}", seed, mix.outside_holder_money, session=session,
            currency=currencies[k % count],
        )
        for k in range(mix.outside_holders)
    ]  # fmt: skip
    return Crowd(bots)


async def run(crowd: Crowd, connect: Connect, last_batch: int | None = None) -> CrowdReport:
    """Connect every bot, then let all trade until their connections end (or `last_batch` passed).

    `connect` gives an authenticated connection in the name of an account, which it opens if need
    be. The bots connect one after another, so account numbers follow the crowd's order. The first
    error of a bot that is not a refused order stops all and is raised in an `ExceptionGroup`.
    """
    for bot in crowd.bots:
        await bot.start(await connect(bot.name))
    async with asyncio.TaskGroup() as tasks:
        for bot in crowd.bots:
            tasks.create_task(bot.trade(last_batch), name=bot.name)
    report = CrowdReport()
    for bot in crowd.bots:
        report.turns[bot.name] = bot.turns
        report.trades[bot.name] = bot.venue.state.trades
        report.deposited[bot.name] = bot.deposited
        report.refusals.update(bot.refusals)
        report.unanswered += bot.unanswered
        if bot.interrupted:
            report.interrupted.append(bot.name)
    return report
