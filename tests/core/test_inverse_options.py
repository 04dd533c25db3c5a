"""Options that settle in coin: premium, fee, mark, payoff, margin and default, to the unit."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import pytest

from exchange.core.commands import ListInstruments
from exchange.core.events import Event
from exchange.core.limits import PREMIUM_E8_MAX
from exchange.core.reject_reason import PostingCause
from exchange.core.stored.contracts import (
    premium_in_dollars_e8,
    settlement_value_e6,
)
from exchange.core.stored.ledger import House
from exchange.core.venue import VenueError, validate
from margin.portfolio import INVERSE_CALL, INVERSE_PUT
from tests.core.coin_options import BTC, COIN, MILLION, STRIKE, balanced, open_market, two
from tests.core.market import (
    CALL,
    COIN_CALL,
    COIN_PUT,
    E8,
    HOUR,
    PUT,
    SECOND,
    Market,
    changed,
    contract,
    posted,
    small,
)

# Marks, premium, fee


def test_a_mark_is_the_undiscounted_premium_divided_by_the_forward() -> None:
    market = open_market()
    market.cycle(105_000)
    marks = market.state.marks
    forward = int(marks.forward_e8[COIN_CALL])
    for coin, linear in ((COIN_CALL, CALL), (COIN_PUT, PUT)):
        in_dollars = int(marks.mark_e8[coin]) * forward // E8
        assert abs(in_dollars - int(marks.mark_e8[linear])) <= forward // E8
    parity = int(marks.mark_e8[COIN_CALL] - marks.mark_e8[COIN_PUT])
    assert abs(parity - (E8 - STRIKE * E8 // forward)) <= 1, "C - P = 1 - K / F"


def test_the_premium_goes_in_coin_from_buyer_to_seller_and_no_dollar_moves() -> None:
    """30 lots are 0.3 BTC, at 0.002 BTC a coin."""
    market = open_market()
    ann, bob = two(market)
    events = market.trade(ann, bob, 30, 20, COIN_CALL)
    premium, fee = 60_000, 30 * 300
    assert posted(events, PostingCause.PREMIUM, market.pool(ann)) == -premium
    assert posted(events, PostingCause.PREMIUM, market.pool(bob)) == premium
    assert (market.cash(ann), market.cash(bob)) == (0, 1_000_000 * MILLION)
    fee = 30 * min(300, 2_000 * 125 // 1000)
    assert market.cash(ann, BTC) == 10 * COIN - premium - fee
    assert market.cash(bob, BTC) == premium - fee
    assert market.state.ledger.balance(House.FEES, BTC) == 2 * fee
    balanced(market)


@pytest.mark.parametrize(
    ("ticks", "fee"), [(20, 250), (23, 288), (24, 300), (500, 300)], ids=str
)  # fmt: skip
def test_the_fee_is_a_rate_on_the_coins_but_at_most_an_eighth_of_the_premium(
    ticks: int, fee: int
) -> None:
    """0.03 % of 0.01 BTC is 300 units; an eighth of 23 x 0.000001 BTC is 287.5, rounded up."""
    market = open_market()
    ann, bob = two(market, 1, price=ticks)
    assert market.cash(bob, BTC) == 100 * ticks - fee
    assert market.cash(ann, BTC) == 10 * COIN - 100 * ticks - fee


# Equity


def test_equity_counts_coin_and_option_together_at_the_index_less_one_haircut() -> None:
    market = open_market()
    ann, bob = two(market, 500)
    market.cycle(104_000)
    index = market.index_e8[0]
    value = int(market.state.marks.mark_e8[COIN_CALL]) * 500 // 100
    for account, sign in ((ann, 1), (bob, -1)):
        coins = market.cash(account, BTC) + sign * value
        worth = coins * index // 10**10
        if coins > 0:
            worth = worth * 95 // 100
        assert abs(market.equity(account) - market.cash(account) - worth) <= 1_000, "one coin unit"
    assert market.equity(bob) < 1_000_000 * MILLION - 18_000 * MILLION, "his debt has no haircut"


def test_buying_at_the_mark_changes_equity_by_the_fee_alone() -> None:
    market = open_market()
    market.state.marks.volatility_e9[[CALL, PUT, COIN_CALL, COIN_PUT]] = 502_600_000
    market.cycle()
    ann, bob = two(market)
    before = market.equity(ann), market.equity(bob)
    mark, ticks = int(market.state.marks.mark_e8[COIN_CALL]), 21
    market.trade(ann, bob, 100, ticks, COIN_CALL)
    coin_lost = (ticks * 10_000 - mark) * 100 // 100 + 100 * 263
    lost = coin_lost * market.index_e8[0] // 10**10
    assert abs(before[0] - market.equity(ann) - lost * 95 // 100) < 10**5
    assert market.cash(ann) == 0


# Expiry


def settle(market: Market, index: int) -> list[Event]:
    """Expire at a mean of `index`, given by one observation before the window."""
    opened = market.venue.opening_time_ns
    market.now = opened + HOUR
    market.seal(0)
    market.uncross()
    market.index_e8[0] = index * E8
    return market.apply(market.marks([((opened + 1700 * SECOND, index * E8),), ()]))


@pytest.mark.parametrize(
    ("slot", "index", "payoff"),
    [(COIN_CALL, 103_000, 2_912_621), (COIN_PUT, 103_000, 0), (COIN_CALL, 97_000, 0),
     (COIN_PUT, 97_000, 3_092_783), (COIN_CALL, 100_000, 0), (COIN_CALL, 400_000, 75_000_000)],
    ids=str,
)  # fmt: skip
def test_expiry_pays_the_payoff_in_coin_at_the_settlement_index(
    slot: int, index: int, payoff: int
) -> None:
    """A coin: (103,000 - 100,000) / 103,000 = 0.0291262135..., down for the long."""
    market = open_market()
    ann, bob = two(market, 100, slot)
    before = market.cash(ann, BTC), market.cash(bob, BTC), market.cash(ann), market.cash(bob)
    events = settle(market, index)
    assert market.cash(ann, BTC) - before[0] == payoff
    assert market.cash(bob, BTC) - before[1] in (-payoff, -payoff - 1)
    assert posted(events, PostingCause.EXERCISE, market.pool(ann)) == payoff
    assert (market.cash(ann), market.cash(bob)) == before[2:]
    assert (market.lots(ann, slot), market.lots(bob, slot)) == (0, 0)
    assert 0 <= market.state.ledger.balance(House.ROUNDING, BTC) <= 1
    balanced(market)


def test_a_put_pays_at_most_a_hundred_coins_a_coin() -> None:
    market = open_market()
    ann, _ = two(market, 2, COIN_PUT)
    events = settle(market, 500)
    assert posted(events, PostingCause.EXERCISE, market.pool(ann)) == 2 * COIN
    balanced(market)


@pytest.mark.parametrize("seed", range(4))
def test_payoffs_are_rounded_down_and_never_create_coin(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(2_000):
        kind = chance.choice((INVERSE_CALL, INVERSE_PUT))
        spec = contract("X", kind, 1, chance.choice((10**6, 10**7, 333, 10**8)), 0, 1,
                        chance.randrange(1, 200_000))  # fmt: skip
        index_e8 = chance.randrange(1, 300_000 * E8)
        away = index_e8 - spec.strike_e8 if kind == INVERSE_CALL else spec.strike_e8 - index_e8
        exact = min(Fraction(max(0, away), index_e8), Fraction(PREMIUM_E8_MAX, E8)) * spec.lot_e8
        value_e6 = settlement_value_e6(spec, index_e8)
        lots = [chance.randrange(-50_000, 50_000) for _ in range(5)]
        lots.append(-sum(lots))
        paid = [value_e6 * quantity // 10**6 for quantity in lots]
        assert sum(paid) <= 0
        for quantity, amount in zip(lots, paid, strict=True):
            assert exact * quantity - 2 < amount, "a unit of rounding and 10^-6 of one a lot"
            assert quantity < 0 or amount <= exact * quantity


# Terms


def test_a_premium_in_dollars_is_coin_times_the_forward() -> None:
    venue = small()
    assert premium_in_dollars_e8(venue.instruments[COIN_CALL], 2 * 10**6, STRIKE) == 2_000 * E8
    assert premium_in_dollars_e8(venue.instruments[CALL], 2_000 * E8, STRIKE) == 2_000 * E8


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lot_e8": 333}, r"whole number of minor units \(10\^-8 BTC\)"),
        ({"lot_e8": 10**11, "strike": 90_000}, "too many coins"),
        ({"tick_e8": 101 * E8}, "tick is above the highest price"),
        ({"lot_e8": 10**7}, "options of one strike must share a lot"),
        ({"unit": 1, "strike": 4_000, "collateral": False}, "its coin is no collateral"),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_terms_that_do_not_fit_are_refused_in_words(changes: dict[str, Any], words: str) -> None:
    venue = small()
    if not changes.pop("collateral", True):
        units = (venue.underlyings[0], changed(venue.underlyings[1], is_collateral=False))
        venue = changed(venue, underlyings=units)
    terms = {"tick_e8": 10_000, "lot_e8": 10**6, "strike": 100_000, **changes}
    expiry_ns = venue.instruments[COIN_CALL].expiry_ns
    bad = contract("BAD", INVERSE_CALL, expiry_ns=expiry_ns, **terms)
    with pytest.raises(VenueError, match=words):
        validate(changed(venue, instruments=(*venue.instruments, bad)))


def test_inverse_options_are_listed_while_the_venue_runs() -> None:
    market = open_market()
    later = market.now + 2 * HOUR
    market.do(ListInstruments, (contract("NEW", INVERSE_PUT, 5_000, 10**6, 0, later, 99_000),))
    assert 0 < int(market.state.marks.mark_e8[-1]) < E8 // 100
    ann, bob = two(market)
    market.trade(ann, bob, 3, 10, len(market.state.contracts) - 1)
    balanced(market)
