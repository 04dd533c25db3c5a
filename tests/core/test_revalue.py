"""Steps 4 and 5: variation margin, funding and settlement at expiry, exact to the unit."""

from __future__ import annotations

import random

import pytest

from exchange.core.events import FundingApplied, InstrumentSettled
from exchange.core.market.revalue import funding_rate_e9
from exchange.core.reject_reason import PostingCause
from exchange.core.stored.contracts import Life, value_per_lot_e6
from exchange.core.stored.ledger import House
from exchange.core.stored.positions import ENTRY_MINOR, REALISED_MINOR
from tests.core.market import (
    CALL,
    COIN_CALL,
    COIN_PUT,
    E8,
    FUTURE,
    HOUR,
    INVERSE_BTC,
    INVERSE_FUTURE,
    LINEAR_BTC,
    PUT,
    SECOND,
    Market,
    every,
    only,
    posted,
    small,
)

VM = PostingCause.VARIATION_MARGIN
NO_COLLAR = {"band_ppb": 0}


def two(market: Market) -> tuple[int, int]:
    """Two rich accounts, in dollars and in bitcoin."""
    coins = {"BTC": 10**9} if "BTC" in market.venue.currencies() else {}
    return market.account("ann", **coins), market.account("bob", **coins)


@pytest.mark.parametrize(
    ("mark", "rate"),
    [(100_040, 0), (100_050, 0), (100_200, 1_500_000), (99_800, -1_500_000),
     (100_060, 100_000), (101_000, 5_000_000), (98_000, -5_000_000), (100_000, 0)],
)  # fmt: skip
def test_the_funding_rate_is_the_premium_beyond_the_dead_band_capped(mark: int, rate: int) -> None:
    assert funding_rate_e9(mark * E8, 100_000 * E8, 500_000, 5_000_000) == rate


def test_linear_funding_over_eight_hours_is_rate_times_notional() -> None:
    """1 BTC at an index of 100,000 and 0.15 %: 150 dollars, from long to short."""
    market = Market()
    ann, bob = two(market)
    market.trade(ann, bob, 1000, 200_000)
    market.basis_e8[0] = 200 * E8
    events = market.cycle(after_ns=8 * HOUR)
    assert only(events, FundingApplied).rate_8h_e9 == 1_500_000
    assert posted(events, PostingCause.FUNDING, market.pool(ann)) == -150 * 10**6
    assert posted(events, PostingCause.FUNDING, market.pool(bob)) == 150 * 10**6


def test_funding_of_one_second_is_rounded_down_for_both_and_the_unit_is_kept() -> None:
    """150 dollars / 28,800 s = 5208.33 minor units: the long pays 5209, the short gets 5208."""
    market = Market()
    ann, bob = two(market)
    market.trade(ann, bob, 1000, 200_000)
    market.basis_e8[0] = 200 * E8
    rounding = market.state.ledger.balance(House.ROUNDING, 0)
    events = market.cycle(after_ns=SECOND)
    assert posted(events, PostingCause.FUNDING, market.pool(ann)) == -5_209
    assert posted(events, PostingCause.FUNDING, market.pool(bob)) == 5_208
    assert market.state.ledger.balance(House.ROUNDING, 0) == rounding + 1


def test_inverse_funding_is_paid_in_coin() -> None:
    """10,000 dollars at 0.15 % and 100,000: 0.00015 BTC over eight hours."""
    market = Market(small())
    ann, bob = two(market)
    market.trade(ann, bob, 1000, 200_000, INVERSE_BTC)
    market.basis_e8[INVERSE_BTC] = 200 * E8
    events = market.cycle(after_ns=8 * HOUR)
    assert posted(events, PostingCause.FUNDING, market.pool(ann)) == -15_000
    assert posted(events, PostingCause.FUNDING, market.pool(bob)) == 15_000


def test_shorts_pay_when_the_premium_is_negative() -> None:
    market = Market()
    ann, bob = two(market)
    market.trade(ann, bob, 1000, 200_000)
    market.basis_e8[0] = -200 * E8
    events = market.cycle(after_ns=8 * HOUR)
    assert posted(events, PostingCause.FUNDING, market.pool(ann)) == 150 * 10**6


def test_a_position_pays_for_the_time_it_was_held_only() -> None:
    """What is traded in a batch takes part from the Revalue that follows it."""
    market = Market()
    ann, bob = two(market)
    market.basis_e8[0] = 200 * E8
    market.cycle(after_ns=8 * HOUR)
    events = market.trade(ann, bob, 1000, 200_000)
    assert posted(events, PostingCause.FUNDING, market.pool(ann)) == 0
    assert posted(market.cycle(), PostingCause.FUNDING, market.pool(ann)) == -5_209


def test_a_closed_position_pays_for_the_time_until_it_was_closed() -> None:
    market = Market()
    ann, bob = two(market)
    market.trade(ann, bob, 1000, 200_000)
    market.basis_e8[0] = 200 * E8
    events = market.trade(bob, ann, 1000, 200_000)
    assert posted(events, PostingCause.FUNDING, market.pool(ann)) == -5_209
    assert posted(market.cycle(), PostingCause.FUNDING, market.pool(ann)) == 0


def test_one_payment_is_counted_for_each_boundary_of_eight_hours() -> None:
    """The venue opens at midnight; boundaries are at 8, 16 and 24 o'clock."""
    market = Market()
    payments = [
        only(market.cycle(after_ns=after), FundingApplied).payments
        for after in (7 * HOUR, HOUR - 1, 1, 8 * HOUR, SECOND, 16 * HOUR)
    ]
    assert payments == [0, 0, 1, 1, 0, 2]
    assert market.state.marks.funding_payments == 4


def test_funding_stops_while_the_index_is_dead() -> None:
    market = Market()
    ann, bob = two(market)
    market.trade(ann, bob, 1000, 200_000)
    market.basis_e8[0] = 200 * E8
    market.age_ns[0] = 61 * SECOND
    events = market.cycle(after_ns=HOUR)
    assert not every(events, FundingApplied)
    assert posted(events, PostingCause.FUNDING, market.pool(ann)) == 0
    market.age_ns[0] = 0
    assert posted(market.cycle(), PostingCause.FUNDING, market.pool(ann)) == -5_209


def test_a_dated_future_pays_no_funding() -> None:
    market = Market(small())
    market.basis_e8[FUTURE] = 200 * E8
    slots = {event.instrument for event in every(market.cycle(), FundingApplied)}
    assert FUTURE not in slots


@pytest.mark.parametrize("slot", [LINEAR_BTC, INVERSE_BTC], ids=["linear", "inverse"])
def test_variation_margin_telescopes_whatever_the_path(slot: int) -> None:
    """All payments together are the value at the last mark less the traded values."""
    chance = random.Random(5)
    market = Market(small())
    ann, bob = two(market)
    spec, lots, traded, paid = market.venue.instruments[slot], 0, 0, 0
    for _ in range(60):
        market.index_e8[0] = chance.randrange(99_000 * E8, 101_000 * E8)
        if chance.random() < 0.5:
            buyer, seller, sign = (ann, bob, 1) if chance.random() < 0.5 else (bob, ann, -1)
            size = chance.randrange(1, 50)
            price = market.state.marks.reference_ticks(slot)
            events = market.trade(buyer, seller, size, price, slot)
            lots += sign * size
            unit = value_per_lot_e6(spec, price * spec.tick_e8)
            traded += unit * sign * size // 10**6
        else:
            events = market.cycle()
        paid += posted(events, VM, market.pool(ann))
    value = value_per_lot_e6(spec, int(market.state.marks.mark_e8[slot])) * lots // 10**6
    assert paid == value - traded


def test_a_round_trip_ends_with_the_difference_of_the_two_prices() -> None:
    market = Market()
    ann, bob = two(market)
    start = market.cash(ann)
    market.trade(ann, bob, 100, 200_000)
    market.cycle(103_000)
    market.cycle(104_000)
    market.trade(bob, ann, 100, 208_000)
    fees = 3 * 10**6 + 3_120_000
    assert market.cash(ann) == start + 400 * 10**6 - fees
    assert market.state.positions.table.shape[1] == 0, "a flat position leaves"


def test_gains_are_held_count_as_equity_and_are_released_at_the_end() -> None:
    market = Market()
    ann, bob = two(market)
    market.trade(ann, bob, 100, 200_000)
    cash, equity = market.cash(ann), market.equity(ann)
    events = market.cycle(101_000)
    gain = 100 * 10**6
    assert posted(events, PostingCause.GAINS_HELD, market.pool(ann)) == -gain
    assert posted(events, PostingCause.GAINS_RELEASED, market.pool(ann)) == gain
    assert posted(events, PostingCause.GAINS_HELD, market.pool(bob)) == 0
    assert market.cash(ann) == cash + gain
    assert market.equity(ann) == equity + gain
    assert not market.state.ledger.cash[House.VM_PENDING].any()


def test_gains_net_per_pool_over_contracts_before_they_are_held() -> None:
    market = Market(small())
    ann, bob = two(market)
    market.trade(ann, bob, 100, 200_000, LINEAR_BTC)
    market.trade(bob, ann, 40, 200_000, FUTURE)
    events = market.cycle(101_000)
    assert posted(events, PostingCause.GAINS_HELD, market.pool(ann)) == -60 * 10**6


def test_entry_and_realised_profit_are_kept_as_memos() -> None:
    market = Market()
    ann, bob = two(market)
    market.trade(ann, bob, 100, 200_000)
    market.trade(bob, ann, 40, 204_000)
    table = market.state.positions.table
    row = market.state.positions.row_of(market.pool(ann), 0)
    assert table[ENTRY_MINOR, row] == 60 * 100 * 10**6
    assert table[REALISED_MINOR, row] == 40 * 2 * 10**6


def to_settlement(market: Market) -> list[object]:
    """Index 100,000 before the window, then 103,000 after a third and 106,000 after two."""
    opened = market.venue.opening_time_ns
    for second, index in ((600, 100_000), (2400, 103_000), (3000, 106_000)):
        market.cycle(index, after_ns=opened + second * SECOND - market.now)
    return market.cycle(after_ns=opened + 3600 * SECOND - market.now)


def test_settlement_is_the_time_weighted_mean_of_the_last_half_hour() -> None:
    """Window 1800 s to 3600 s: 600 s at each of 100,000, 103,000 and 106,000."""
    market = Market(small())
    events = to_settlement(market)
    settled = {event.instrument: event.settlement_e8 for event in every(events, InstrumentSettled)}
    dated = (FUTURE, CALL, PUT, INVERSE_FUTURE, COIN_CALL, COIN_PUT)
    assert settled == dict.fromkeys(dated, 103_000 * E8)
    assert market.state.contracts.life[FUTURE] == Life.SETTLED
    assert not every(market.cycle(), InstrumentSettled), "once"


def test_a_dated_future_pays_to_its_settlement_price() -> None:
    market = Market(small())
    ann, bob = two(market)
    start = market.cash(ann), market.cash(bob)
    market.trade(ann, bob, 100, 200_000, FUTURE)
    to_settlement(market)
    fee = 3 * 10**6
    assert market.cash(ann) == start[0] + 300 * 10**6 - fee
    assert market.cash(bob) == start[1] - 300 * 10**6 - fee
    assert market.lots(ann, FUTURE) == 0


def test_an_inverse_future_pays_coin_to_its_settlement_price() -> None:
    """10,000 dollars are 0.1 BTC at 100,000 and 0.09708737864 at 103,000; each side's value is
    rounded down: -9,708,738 for the long, 9,708,737 for the short."""
    market = Market(small())
    ann, bob = two(market)
    start, fee = market.cash(ann, 1), 3_000
    market.trade(ann, bob, 1000, 200_000, INVERSE_FUTURE)
    to_settlement(market)
    assert market.cash(ann, 1) == start + 10_000_000 - 9_708_738 - fee
    assert market.cash(bob, 1) == start - 10_000_000 + 9_708_737 - fee


@pytest.mark.parametrize(
    ("slot", "payoff"), [(CALL, 300 * 10**6), (PUT, 0)], ids=["call", "put"]
)  # fmt: skip
def test_an_option_is_exercised_for_its_intrinsic_value(slot: int, payoff: int) -> None:
    """Ten lots are 0.1 BTC, struck at 100,000: the call is worth 0.1 x 3000."""
    market = Market(small(collar=NO_COLLAR))
    ann, bob = two(market)
    start = market.cash(ann), market.cash(bob)
    market.trade(ann, bob, 10, 100, slot)
    events = to_settlement(market)
    premium, fee = 50 * 10**6, 3 * 10**6
    assert market.cash(ann) == start[0] - premium - fee + payoff
    assert market.cash(bob) == start[1] + premium - fee - payoff
    assert posted(events, PostingCause.EXERCISE, market.pool(ann)) == payoff
    assert market.lots(ann, slot) == 0


def test_a_put_pays_below_its_strike() -> None:
    market = Market(small(collar=NO_COLLAR))
    ann, bob = two(market)
    market.trade(ann, bob, 10, 100, PUT)
    market.cycle(94_000)
    events = market.cycle(after_ns=2 * HOUR)
    assert posted(events, PostingCause.EXERCISE, market.pool(ann)) == 600 * 10**6
    assert posted(events, PostingCause.EXERCISE, market.pool(bob)) == -600 * 10**6


def test_expiry_is_postponed_while_the_index_is_dead() -> None:
    market = Market(small())
    ann, bob = two(market)
    market.trade(ann, bob, 100, 200_000, FUTURE)
    market.age_ns[0] = 61 * SECOND
    assert not every(market.cycle(after_ns=2 * HOUR), InstrumentSettled)
    assert market.state.contracts.life[FUTURE] == Life.CLOSED
    market.age_ns[0] = 0
    settled = every(market.cycle(120_000), InstrumentSettled)
    assert {event.settlement_e8 for event in settled} == {100_000 * E8}, "the mean up to expiry"
    assert market.lots(ann, FUTURE) == 0


def test_an_option_counts_at_its_mark_in_equity() -> None:
    market = Market(small(collar=NO_COLLAR))
    ann, bob = two(market)
    market.trade(ann, bob, 10, 40, CALL)
    mark = int(market.state.marks.mark_e8[CALL])
    value = mark * 10 * 10**6 // 10**10
    usdc_and_coin = market.cash(ann) + 10 * 100_000 * 95 * 10**4
    assert market.equity(ann) == usdc_and_coin + value
