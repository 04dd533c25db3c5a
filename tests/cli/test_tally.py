"""What a tally counts of a market: totals, the cycle that runs, the fund's lowest point."""

from __future__ import annotations

from typing import Any

from exchange.cli.tally import Tally
from exchange.core.commands import Command
from exchange.core.events import Event
from tests.core.market import BUY, CALL, E8, FUTURE, LINEAR_BTC, SECOND, Market, small, tiny

MILLION = 10**6  # minor units of a dollar


class Tallied(Market):
    """A market with a tally that hears of everything."""

    tally: Tally | None = None

    def apply(self, command: Command) -> list[Event]:
        events = super().apply(command)
        if self.tally is None:
            self.tally = Tally(self.engine)
        self.tally.take(command, events)
        return events

    def summary(self) -> dict[str, Any]:
        assert self.tally is not None
        return self.tally.summary()


def poor(fund: int = 0, **parts: Any) -> dict[str, Any]:
    """Parts of a venue whose house has so many dollars."""
    default = {"fund_minor": fund * MILLION, "venue_capital_minor": 0}
    return {"default": default, "collar": {"band_ppb": 0}, **parts}


def test_an_order_that_is_sent_again_is_one_order() -> None:
    market = Tallied()
    ann = market.account("ann")
    first, again = (
        market.place(ann, BUY, 1, 190_000, client_order_id="one") for _ in range(2)
    )  # fmt: skip
    market.refused_order(ann, BUY, 0, 190_000)
    assert first == again
    found = market.summary()
    assert (found["accounts"], found["orders"], found["refused"]) == (1, 1, 1)


def test_futures_are_counted_at_their_price_and_options_at_the_index() -> None:
    market = Tallied(small())
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 100, 199_000, LINEAR_BTC)
    assert market.summary()["volume"] == 9_950, "a tenth of a coin at 99,500"
    market.trade(ann, bob, 10, 43, CALL)
    found = market.summary()
    assert found["volume"] == 9_950 + 10_000, "a tenth of a coin, not its premium of 21.50"
    assert (found["prints"], found["fills"]) == (2, 4)


def test_a_cycle_is_counted_on_its_own_too() -> None:
    market = Tallied()
    ann, bob = market.account("ann"), market.account("bob")
    for lots in (5, 7):
        market.trade(ann, bob, lots, 200_000)
    assert market.tally is not None
    assert (market.tally.last_cycle.volume_minor, market.tally.cycle.volume_minor) == (
        700 * MILLION, 0,
    )  # fmt: skip
    assert market.tally.total.volume_minor == 1_200 * MILLION


def test_the_fund_is_remembered_at_its_lowest() -> None:
    """It pays 103 for what it takes over at 80,000, and gains when the index comes back."""
    market = Tallied(tiny(**poor(fund=10_000)))
    ann, bob = market.account("ann", 1_900), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    market.cycle(80_000)
    market.cycle(90_000)
    found = market.summary()
    assert found["fund_start_minor"] == 10_000 * MILLION
    assert found["fund_low_minor"] == (10_000 - 103) * MILLION
    assert found["fund_end_minor"] > 10_000 * MILLION
    assert (found["breaches"], found["liquidations"], found["fund_takeovers"]) == (1, 1, 1)
    assert found["layers_minor"] == {"insurance": 103 * MILLION}


def test_gains_that_are_cut_are_counted_and_add_up() -> None:
    """The settlement price is 60,000 where the mark was 100,000: 1503 that nobody else pays."""
    market = Tallied(small(**poor()))
    ann, bob = market.account("ann", 2_500), market.account("bob")
    market.trade(ann, bob, 100, 200_000, FUTURE)
    opened = market.venue.opening_time_ns
    market.now = opened + 3600 * SECOND
    market.seal(0)
    market.uncross()
    market.index_e8[0] = 60_000 * E8
    market.apply(market.marks([((opened + 1700 * SECOND, 60_000 * E8),), ()]))
    found = market.summary()
    assert found["layers_minor"] == {"gains_haircut": 1_503 * MILLION}
    assert (found["vm_haircuts"], found["shortfalls"], found["expiries_settled"]) == (1, 0, 1)
    assert found["trial_balance"] == found["positions_sum"] == 0
