"""What every bot keeps to: its seed decides all, the grid, the silence without marks."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise

import pytest

from clients import VenueRefused
from clients.arbitrageur import Arbitrageur
from clients.bot import Bot
from clients.market_maker import MarketMaker
from clients.noise_trader import NoiseTrader
from clients.trend_follower import TrendFollower
from tests.clients.fake_venue import CONTRACTS, FakeVenue
from tests.clients.playing import ORDER_METHODS, fill_immediate, orders_of, play, traffic

MAKERS: dict[str, Callable[[int], Bot]] = {
    "futures maker": lambda seed: MarketMaker("mm", seed),
    "options maker": lambda seed: MarketMaker("mm", seed, book="options", contracts=6),
    "noise": lambda seed: NoiseTrader("noise", seed, activity=100),
    "trend": lambda seed: TrendFollower("trend", seed),
    "arbitrage": lambda seed: Arbitrageur("arb", seed),
}
BOTS = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
STEPS = {row["instrument_name"]: row for row in CONTRACTS}


def wander(fake: FakeVenue) -> None:
    """Index and marks move, the perpetuals trade rich and cheap, immediate orders fill."""
    fill_immediate(fake)
    move = (fake.batch * 7919 % 21 - 10) * Decimal("0.0007")
    for name in fake.index:
        fake.index[name] *= 1 + move
    for name, row in fake.contracts.items():
        if row["kind"] == "future":
            fake.mark_of[name] = fake.index[row["base_currency"]] * (1 + move)
    if fake.batch in (12, 13):
        fake.margin_call("issued" if fake.batch == 12 else "cured", "100")


@BOTS
async def test_the_same_seed_and_notifications_give_the_same_requests(
    make: Callable[[int], Bot],
) -> None:
    first, second = FakeVenue(), FakeVenue()
    await play(make(5), first, 25, wander)
    await play(make(5), second, 25, wander)
    assert first.requests == second.requests
    assert len(traffic(first)) > 5


@pytest.mark.parametrize("name", ["futures maker", "noise"])
async def test_another_seed_gives_other_requests(name: str) -> None:
    first, second = FakeVenue(), FakeVenue()
    await play(MAKERS[name](5), first, 10, wander)
    await play(MAKERS[name](6), second, 10, wander)
    assert first.requests != second.requests


@BOTS
async def test_prices_and_amounts_are_on_the_grid_and_positive(make: Callable[[int], Bot]) -> None:
    fake = FakeVenue()
    await play(make(3), fake, 25, wander)
    checked = 0
    for params in fake.sent(*ORDER_METHODS):
        name = params.get("instrument_name") or fake.orders[params["order_id"]]["instrument_name"]
        row = STEPS[name]
        assert params["amount"] > 0
        assert params["amount"] % row["min_trade_amount"] == 0
        if "price" in params:
            assert params["price"] > 0
            assert params["price"] % row["tick_size"] == 0
            checked += 1
    assert checked > 3


@BOTS
async def test_without_marks_it_only_says_that_it_is_ready(make: Callable[[int], Bot]) -> None:
    fake = FakeVenue(marks=False)
    await play(make(1), fake, 5)
    assert orders_of(fake) == []
    assert fake.readied == [1, 2, 3, 4, 5]


@BOTS
async def test_it_sends_only_a_handful_of_requests_a_batch(make: Callable[[int], Bot]) -> None:
    fake = FakeVenue()
    turns: list[int] = []

    def story(fake: FakeVenue) -> None:
        turns.append(len(traffic(fake)))
        wander(fake)

    await play(make(2), fake, 20, story)
    assert max(b - a for a, b in pairwise(turns)) <= 18


@BOTS
async def test_it_pays_in_once_and_says_ready_in_every_batch(make: Callable[[int], Bot]) -> None:
    fake = FakeVenue()
    bot = make(1)
    await play(bot, fake, 4)
    assert fake.sent("private/deposit")[0] == {"currency": "USDC", "amount": bot.money}
    assert fake.cash == bot.money
    assert fake.readied == [1, 2, 3, 4]


@BOTS
async def test_refused_orders_are_counted_and_life_goes_on(make: Callable[[int], Bot]) -> None:
    fake = FakeVenue()
    fake.mark_of["BTC_USDC-PERPETUAL"] = Decimal(101_000)
    fake.mark_of["BTC-PERPETUAL"] = Decimal(102_000)
    fake.mark_of["ETH_USDC-PERPETUAL"] = Decimal(4_040)
    for method in ("private/buy", "private/sell"):
        fake.refusals[method] = (10009, "not_enough_funds")
    bot = make(4)

    def rise(fake: FakeVenue) -> None:
        for name in fake.index:
            fake.index[name] *= Decimal("1.001")

    await play(bot, fake, 12, rise)
    assert bot.refusals[10009] >= 1
    assert set(bot.refusals) == {10009}
    assert fake.readied == list(range(1, 13))


@BOTS
@pytest.mark.parametrize("code", [-32602, 13009])
async def test_a_refusal_that_is_the_bots_own_fault_stops_it(
    make: Callable[[int], Bot], code: int
) -> None:
    fake = FakeVenue()
    fake.mark_of["BTC_USDC-PERPETUAL"] = Decimal(101_000)
    fake.mark_of["BTC-PERPETUAL"] = Decimal(102_000)
    fake.mark_of["ETH_USDC-PERPETUAL"] = Decimal(4_040)
    for method in ("private/buy", "private/sell"):
        fake.refusals[method] = (code, "no")

    def rise(fake: FakeVenue) -> None:
        for name in fake.index:
            fake.index[name] *= Decimal("1.001")

    with pytest.raises(VenueRefused, match=str(code)):
        await play(make(4), fake, 12, rise)
    assert fake.closed


async def test_positions_are_read_again_when_the_venue_speaks_of_a_margin_call() -> None:
    fake = FakeVenue()
    bot = TrendFollower("trend", 1, temperament="freezes", currency="BTC")

    def story(fake: FakeVenue) -> None:
        if fake.batch == 3:
            fake.positions = {"BTC_USDC-PERPETUAL": Decimal("0.02")}  # taken over in part, untold
            fake.margin_call("breached")

    await play(bot, fake, 6, story)
    assert bot.held("BTC_USDC-PERPETUAL") == Decimal("0.02")


async def test_a_warning_makes_a_bot_read_its_positions_again_and_is_no_call() -> None:
    fake = FakeVenue()
    bot = TrendFollower("trend", 1, temperament="cuts", currency="BTC")

    def story(fake: FakeVenue) -> None:
        if fake.batch == 3:
            fake.margin_warning("0.2")

    await play(bot, fake, 6, story)
    assert bot.venue.state.margin_warnings == 1
    assert bot.venue.state.margin_call is None
    assert len(fake.sent("private/get_positions")) == 2, "at the start, and after the warning"
    assert not [order for order in fake.orders.values() if order["reduce_only"]]


async def test_a_market_that_closes_within_a_turn_ends_the_bot_quietly() -> None:
    class Closing(FakeVenue):
        async def request(self, method: str, params: dict[str, object]) -> object:
            if method == "private/buy":
                await self.close()
            return await super().request(method, params)

    bot, fake = MarketMaker("mm", 1), Closing()
    await play(bot, fake, 3)
    assert bot.interrupted
    assert fake.readied == []


async def test_a_bot_that_lost_everything_stays_quiet() -> None:
    fake = FakeVenue()
    bot = NoiseTrader("noise", 1, activity=100)

    def story(fake: FakeVenue) -> None:
        if fake.batch == 3:
            fake.cash = Decimal("0.5")

    await play(bot, fake, 10, story)
    assert {params["client_order_id"] for params in orders_of(fake)} == {
        "noise-1", "noise-2", "noise-3",
    }  # fmt: skip


async def test_expired_contracts_are_replaced() -> None:
    fake = FakeVenue()
    bot = NoiseTrader("noise", 1, contracts=10)
    names = set(fake.contracts)

    def story(fake: FakeVenue) -> None:
        if fake.batch == 2:
            fake.timestamp += 8 * 86_400_000
            fake.contracts = {
                name: row for name, row in fake.contracts.items()
                if row["expiration_timestamp"] > fake.timestamp + 5000
            }  # fmt: skip
            fake.channels = [name for name in fake.channels if "17OCT25" not in name]

    await play(bot, fake, 5, story)
    assert set(bot.universe) == {name for name in names if "17OCT25" not in name}


async def test_orders_of_an_earlier_session_are_withdrawn_and_money_is_not_paid_in_twice() -> None:
    fake = FakeVenue()
    fake.cash = Decimal(5_000)
    fake.private_buy(
        client_order_id="mm-1", instrument_name="BTC_USDC-PERPETUAL", amount=Decimal(1),
        type="limit", price=Decimal(50_000), time_in_force="good_til_cancelled",
    )  # fmt: skip
    await play(MarketMaker("mm", 1, session="2"), fake, 1)
    assert fake.orders["1"]["order_state"] == "cancelled"
    assert fake.sent("private/deposit") == []


async def test_a_restarted_bot_uses_ids_of_a_new_session() -> None:
    fake = FakeVenue()
    bot = NoiseTrader("noise", 1, activity=100, session="2")
    await play(bot, fake, 2)
    assert orders_of(fake)[0]["client_order_id"] == "noise.2-1"
