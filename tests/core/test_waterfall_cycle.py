"""Step 9: who takes what a pool can no longer carry, and who pays, to the unit."""

from __future__ import annotations

from typing import Any

import pytest

from exchange.core.commands import Deposit, Withdraw
from exchange.core.events import Deleveraged, Event, LayerPaid, LiquidationStep, ShortfallOpen
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.stored.ledger import House
from exchange.core.venue import Venue
from tests.core.market import (
    CALL,
    E8,
    FUTURE,
    LINEAR_ETH,
    SECOND,
    USDC,
    Market,
    every,
    only,
    posted,
    small,
    tiny,
)

MILLION = 10**6  # minor units of a dollar
FUND, CAPITAL = int(House.INSURANCE), int(House.VENUE_CAPITAL)


def poor(make: Any = tiny, fund: int = 0, capital: int = 0, **parts: Any) -> Venue:
    """A venue whose house has so many dollars."""
    default = {"fund_minor": fund * MILLION, "venue_capital_minor": capital * MILLION}
    return make(default=default, collar={"band_ppb": 0}, **parts)


def crash(market: Market, index: int, usdc: int = 1_900) -> tuple[int, int, list[Event]]:
    """`ann` long 0.1 BTC from 100,000 with so many dollars, `bob` short, then a new index."""
    ann, bob = market.account("ann", usdc), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    return ann, bob, market.cycle(index)


def paid(events: list[Event]) -> dict[str, int]:
    """What each layer paid."""
    total: dict[str, int] = {}
    for event in every(events, LayerPaid):
        total[event.layer] = total.get(event.layer, 0) + event.amount_minor
    return total


def house(market: Market, pool: int) -> int:
    return market.state.ledger.balance(pool, USDC)


def test_a_pool_with_equity_is_taken_over_at_mark_less_a_fee_and_keeps_the_rest(
    market: Market,
) -> None:
    """At 89,000: 797 left, below two thirds of 1272.7; the fee is 1 % of 8900."""
    fund = house(market, FUND)
    ann, _, events = crash(market, 89_000)
    assert (market.lots(ann), market.cash(ann)) == (0, (797 - 89) * MILLION)
    assert house(market, FUND) == fund + 89 * MILLION
    assert market.state.positions.lots_of(FUND, 0) == 100
    assert paid(events) == {}


def test_the_takeover_fee_is_never_more_than_the_equity(market: Market) -> None:
    """At 81,500: 47 left, 1 % of 8150 is 81.5."""
    fund = house(market, FUND)
    ann, _, _ = crash(market, 81_500)
    assert market.cash(ann) == 0
    assert house(market, FUND) == fund + 47 * MILLION


def test_the_fund_pays_a_deficit_and_books_the_position_at_mark(market: Market) -> None:
    """At 80,000: 1897 less 2000."""
    fund = house(market, FUND)
    ann, bob, events = crash(market, 80_000)
    assert paid(events) == {"insurance": 103 * MILLION}
    assert market.cash(ann) == 0
    assert house(market, FUND) == fund - 103 * MILLION
    assert market.state.positions.lots_of(FUND, 0) == 100
    assert market.lots(bob) == -100, "the other side is untouched"


def test_the_fund_unwinds_its_inventory_through_public_batches() -> None:
    market = Market(tiny(collar={"band_ppb": 0}))
    _, bob, _ = crash(market, 80_000)
    market.place(bob, 1, 100, 160_000)
    market.cycle()
    assert market.state.positions.lots_of(FUND, 0) == 80, "a fifth a cycle"
    market.cycle()
    assert market.state.positions.lots_of(FUND, 0) == 64


def test_the_fund_unwinds_its_last_lot_too() -> None:
    market = Market(poor(fund=1_000))
    ann, bob = market.account("ann", 19), market.account("bob")
    market.trade(ann, bob, 1, 200_000)
    events = market.cycle(80_000)
    assert market.state.positions.lots_of(FUND, 0) == 1
    offered = [e for e in every(events, LiquidationStep) if e.step == "unwinding"]
    assert [(e.pool, e.quantity_lots) for e in offered] == [(FUND, -1)]


def test_the_fund_takes_no_more_than_its_spendable_margins() -> None:
    """1000 dollars less 103 x n / 100, and 11.44 of maintenance for each lot."""
    market = Market(poor(fund=1_000))
    ann, bob, events = crash(market, 80_000)
    taken = market.state.positions.lots_of(FUND, 0)
    equity, maintenance = (int(x[FUND]) for x in (market.engine.risk.equity,
                                                  market.engine.risk.maintenance))  # fmt: skip
    assert equity >= maintenance
    assert taken == int(1_000 / (11.44 + 1.03))
    assert sum(e.quantity_lots for e in every(events, Deleveraged)) == 100 - taken
    assert (market.lots(ann), market.cash(ann)) == (0, 0)
    assert market.lots(bob) == -taken


def test_without_a_fund_the_other_side_is_deleveraged_at_the_bankruptcy_price() -> None:
    """`bob` won 2000; closing at the price that uses up ann's equity costs him her deficit."""
    market = Market(poor())
    ann, bob, events = crash(market, 80_000)
    adl = only(events, Deleveraged)
    assert (adl.pool, adl.defaulter, adl.quantity_lots) == (market.pool(bob), market.pool(ann), 100)
    assert (market.lots(ann), market.lots(bob)) == (0, 0)
    assert market.cash(ann) == 0
    assert market.cash(bob) == (1_000_000 - 3 + 2_000 - 103) * MILLION
    assert paid(events) == {}


def test_venue_capital_pays_before_anybody_is_charged() -> None:
    market = Market(poor(capital=50))
    ann, bob, events = crash(market, 80_000)
    assert paid(events) == {"venue_capital": 50 * MILLION}
    assert house(market, CAPITAL) == 0
    assert market.cash(ann) == 0
    assert market.cash(bob) == (1_000_000 - 3 + 2_000 - 53) * MILLION


def test_deleveraging_calls_the_best_score_first_and_shares_exactly() -> None:
    """Same profit on less equity is the higher score; what it cannot take goes to the next."""
    market = Market(poor())
    ann = market.account("ann", 1_900)
    rich, leveraged = market.account("rich", 100_000), market.account("leveraged", 5_000)
    market.place(ann, 1, 100, 200_000)
    market.place(rich, -1, 60, 200_000)
    market.place(leveraged, -1, 40, 200_000)
    market.cycle()
    events = market.cycle(80_000)
    adl = [(e.pool, e.quantity_lots) for e in every(events, Deleveraged)]
    assert adl == [(market.pool(leveraged), 40), (market.pool(rich), 60)]
    charged = [5_000 - 1.2 + 800, 100_000 - 1.8 + 1_200]
    taken = [
        round(before * MILLION) - market.cash(account)
        for before, account in zip(charged, (leveraged, rich), strict=True)
    ]
    assert sum(taken) == 103 * MILLION, "the sum paid is the deficit"
    assert taken == [41_200_000, 61_800_000], "by lots"


def test_opposing_defaulters_are_netted_at_mark_first() -> None:
    market = Market(poor(small))
    ann, bob = market.account("ann", 20_000), market.account("bob", 20_000)
    max_ = market.account("max", 10**7)
    market.trade(ann, bob, 100, 200_000)
    for buyer in (ann, bob):
        market.trade(buyer, max_, 1_000, 80_000, LINEAR_ETH)
        market.trade(buyer, max_, 100, 200_000, FUTURE)
    market.index_e8[:] = [93_123_45678901, 1_900_12345679]
    events = market.cycle()
    netted = [(e.pool, e.instrument, e.quantity_lots) for e in every(events, LiquidationStep)
              if e.step == "netted"]  # fmt: skip
    assert netted == [(market.pool(ann), 0, -100), (market.pool(bob), 0, 100)]
    for account in (ann, bob):
        assert market.equity(account) == 0
        assert [market.lots(account, slot) for slot in (0, FUTURE, LINEAR_ETH)] == [0, 0, 0]
    market.cycle()
    market.state.validate()


def test_coins_of_a_defaulter_are_exchanged_at_the_index_first() -> None:
    """0.02 BTC at 80,000 are 1600 dollars, without haircut: 103 of deficit become 1497 left."""
    market = Market(small())
    ann, bob = market.account("ann", 1_000, BTC=2 * 10**6), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    events = market.cycle(80_000)
    assert market.cash(ann, 1) == 0
    assert posted(events, PostingCause.CONVERSION, market.pool(ann)) == (
        -2 * 10**6 + 1_600 * MILLION
    )
    assert market.equity(ann) == max(0, 997 - 2_000 + 1_600 - 80) * MILLION


def test_a_loss_at_expiry_cuts_this_cycle_s_gains_when_nobody_else_pays() -> None:
    """The mean of the last half hour is 60,000, 40,000 below the mark: ann owes 4000 on 4497."""
    market = Market(poor(small))
    ann, bob = market.account("ann", 2_500), market.account("bob")
    market.trade(ann, bob, 100, 200_000, FUTURE)
    opened = market.venue.opening_time_ns
    market.now = opened + 3600 * SECOND
    market.seal(0)
    market.uncross()
    market.index_e8[0] = 60_000 * E8
    seen = ((opened + 1700 * SECOND, 60_000 * E8),)
    events = market.apply(market.marks([seen, ()]))
    assert paid(events) == {"gains_haircut": 1_503 * MILLION}
    assert market.cash(ann) == 0
    assert market.cash(bob) == (1_000_000 - 3 + 4_000 - 1_503) * MILLION
    assert not every(events, ShortfallOpen)


def shortfall() -> tuple[Market, int, int]:
    """A short call settles far beyond its seller's money and nobody has gains to cut."""
    market = Market(poor(small))
    ann, bob = market.account("ann", 3_000), market.account("bob")
    market.trade(bob, ann, 10, 100, CALL)
    opened = market.venue.opening_time_ns
    market.now = opened + 3600 * SECOND
    market.seal(0)
    market.uncross()
    market.index_e8[0] = 150_000 * E8
    market.apply(market.marks([((opened + 1700 * SECOND, 150_000 * E8),), ()]))
    return market, ann, bob


def test_a_defaulter_s_own_gains_of_the_cycle_pay_nothing_twice() -> None:
    """Ten short calls settle at 150,000 and cost 5000; two hundredths of a future gain 1000."""
    market = Market(poor(small))
    ann, bob = market.account("ann", 3_000), market.account("bob")
    market.trade(ann, bob, 20, 200_000, FUTURE)
    market.trade(bob, ann, 10, 100, CALL)
    opened = market.venue.opening_time_ns
    market.now = opened + 3600 * SECOND
    market.seal(0)
    market.uncross()
    market.index_e8[0] = 150_000 * E8
    events = market.apply(market.marks([((opened + 1700 * SECOND, 150_000 * E8),), ()]))
    assert -1_000 * MILLION < market.equity(ann) < 0
    assert only(events, ShortfallOpen).amount_minor == -market.equity(ann)
    assert not paid(events)


def test_what_nobody_can_pay_is_an_open_shortfall() -> None:
    """Ten lots are 0.1 BTC: 5000 dollars at 150,000; ann has 3000 + 50 - 3."""
    market, ann, _ = shortfall()
    assert market.equity(ann) == -(5_000 - 3_047) * MILLION
    assert market.state.accounts.withdrawals_frozen


def test_withdrawals_freeze_while_a_shortfall_is_open() -> None:
    market, ann, bob = shortfall()
    assert market.refused(Withdraw, bob, 0, 1) == RejectReason.WITHDRAWALS_FROZEN
    market.cycle()
    assert market.refused(Withdraw, bob, 0, 1) == RejectReason.WITHDRAWALS_FROZEN
    market.do(Deposit, ann, 0, 1_953 * MILLION)
    market.cycle()
    market.withdraw(bob, 1)


def below_zero(capital: int) -> tuple[Market, int, int, list[Event]]:
    """The fund took 80 lots at 80,000 and then the index falls until it owes."""
    market = Market(poor(fund=1_000, capital=capital))
    ann, bob, _ = crash(market, 80_000)
    return market, ann, bob, market.cycle(50_000)


def test_a_fund_below_zero_hands_inventory_and_deficit_on_in_the_same_cycle() -> None:
    market, _, bob, events = below_zero(capital=100_000)
    assert market.state.positions.lots_of(FUND, 0) == 0
    assert int(market.engine.risk.equity[FUND]) == 0
    assert paid(events)["venue_capital"] > 0
    assert market.lots(bob) == 0


def test_without_venue_capital_the_fund_s_deficit_is_deleveraged() -> None:
    market, ann, bob, events = below_zero(capital=0)
    assert market.state.positions.lots_of(FUND, 0) == 0
    assert house(market, FUND) == 0
    assert market.cash(ann) == 0
    fees = house(market, int(House.FEES))
    assert market.cash(bob) == (1_001_900 + 1_000) * MILLION - fees, "all that came in"
    assert every(events, Deleveraged)


@pytest.mark.parametrize("index", [94_000, 89_000, 81_500, 80_000, 60_000, 20_000])
def test_whatever_happens_no_pool_ends_below_zero_and_money_is_kept(index: int) -> None:
    market = Market(poor(fund=500, capital=100))
    ann, bob, _ = crash(market, index)
    for _ in range(8):
        market.cycle()
        assert min(market.equity(ann), market.equity(bob)) >= 0
        assert int(market.engine.risk.equity[FUND]) >= 0
        assert not any(market.state.ledger.trial_balance())


def test_healthy_pools_are_untouched_while_the_fund_can_pay(market: Market) -> None:
    eve, max_ = market.account("eve"), market.account("max")
    market.trade(eve, max_, 50, 200_000)
    crash(market, 80_000)
    assert market.cash(eve) == (1_000_000 - 1.5 - 1_000) * MILLION
    assert market.cash(max_) == (1_000_000 - 1.5 + 1_000) * MILLION
    assert (market.lots(eve), market.lots(max_)) == (50, -50)
