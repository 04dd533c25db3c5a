"""What a course samples: the two fixed books, and the accounts beside the house."""

from __future__ import annotations

import msgspec

from exchange.cli.margin_course import Course, MarginCourse, uncovered
from exchange.core.stored.ledger import House
from exchange.core.venue import InstrumentSpec, Venue
from margin.portfolio import LINEAR_CALL, LINEAR_PUT
from tests.core.market import E8, HOUR, Market, changed, contract, small, tiny

MILLION = 10**6


def with_options(*options: tuple[int, int]) -> Venue:
    """The small venue with calls and puts of BTC: (hours to expiry, strike)."""
    base = small()
    found: list[InstrumentSpec] = [base.instruments[0]]
    for hours, strike in options:
        expiry = base.opening_time_ns + hours * HOUR
        for letter, kind in (("C", LINEAR_CALL), ("P", LINEAR_PUT)):
            name = f"BTC_USDC-{hours}H-{strike}-{letter}"
            found.append(contract(name, kind, 5 * E8, E8 // 100, 0, expiry, strike))
    return changed(base, instruments=tuple(found))


def sampled(market: Market) -> Course:
    """The course of a market after a sample now."""
    course = MarginCourse(market.engine)
    course.take(market.log[-1], [])
    return course.course


def test_the_straddle_is_that_of_the_nearest_strike() -> None:
    alone, among = (
        sampled(Market(with_options(*((48, strike) for strike in strikes)))).rate_ppb["straddle"]
        for strikes in ((100_000,), (60_000, 100_000, 150_000))
    )
    far = sampled(Market(with_options((48, 150_000)))).rate_ppb["straddle"]
    assert alone == among != far


def test_the_straddle_is_that_of_the_last_expiry() -> None:
    market = Market(with_options((1, 100_000), (48, 100_000)))
    course = MarginCourse(market.engine)
    course.take(market.log[-1], [])
    market.cycle(after_ns=2 * HOUR)
    course.take(market.log[-1], [])
    first, later = course.course.rate_ppb["straddle"]
    assert 0 < later < 2 * first


def test_fixed_books_are_of_one_coin_so_that_size_counts_as_it_does() -> None:
    """A tenth of a day's volume costs something to close; a lot of it does not."""
    deep = small()
    btc, eth = deep.underlyings
    btc = msgspec.structs.replace(btc, daily_volume_minor=1_000_000 * MILLION)
    thin = changed(deep, underlyings=(btc, eth))
    (deep_rate,), (thin_rate,) = (sampled(Market(v)).rate_ppb["long"] for v in (deep, thin))
    assert thin_rate > deep_rate


def test_interest_counts_every_contract_once() -> None:
    market = Market(small())
    ann, bob, cat = (market.account(name) for name in ("ann", "bob", "cat"))
    market.trade(ann, bob, 100, 200_000)
    market.trade(cat, ann, 40, 200_000)
    assert sampled(market).interest_minor == [10_000 * MILLION]


def test_margin_is_that_of_accounts_and_the_fund_s_is_left_out() -> None:
    market = Market(tiny(collar={"band_ppb": 0}))
    ann, bob = market.account("ann", 1_900), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    market.cycle(80_000)
    risk, course = market.engine.risk, sampled(market)
    assert risk.initial[House.INSURANCE] > 0
    assert course.initial_minor == [market.initial(ann) + market.initial(bob)]
    assert course.fund_minor == [int(risk.equity[House.INSURANCE])]


def test_a_loss_of_the_whole_margin_is_covered() -> None:
    course = Course(index_e8=[[100], [90]])
    course.rate_ppb["long"] = [10**8] * 2
    assert uncovered(course, 1) == (0, 1.0)
