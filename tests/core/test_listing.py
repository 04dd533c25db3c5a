"""Contracts come while the venue runs, and single contracts are halted."""

from __future__ import annotations

import pytest

from exchange.core.commands import Halt, ListInstruments
from exchange.core.engine import Engine
from exchange.core.events import InstrumentHalted, InstrumentsListed
from exchange.core.limits import INSTRUMENTS_PER_UNIT_MAX
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.contracts import Life
from exchange.core.venue import InstrumentSpec
from exchange.listing import (
    contracts_due,
    decimal_name,
    due_listing,
    expiries_after,
    expiry_name,
)
from exchange.venues import load_venue
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, LINEAR_PUT, NEVER_NS
from tests.core.market import (
    BUY,
    CALL,
    E8,
    FUTURE,
    HOUR,
    SECOND,
    SELL,
    Market,
    contract,
    only,
    small,
)

R = RejectReason
DAY = 24 * HOUR
FRIDAY_2026_01_02 = 1_767_312_000 * SECOND  # midnight, UTC


def good(market: Market, name: str = "NEW", **changes: int) -> InstrumentSpec:
    terms = {"kind": LINEAR, "tick_e8": E8, "lot_e8": E8 // 1000,
             "expiry_ns": market.now + 2 * HOUR, **changes}  # fmt: skip
    return contract(name, **terms)


def test_a_listed_contract_trades_at_once() -> None:
    market = Market(small())
    events = market.do(ListInstruments, (good(market),))
    assert only(events, InstrumentsListed).slots == (9,)
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 5, 100_000, 9)
    assert market.lots(ann, 9) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kind": 9}, "unknown kind"),
        ({"unit": 5}, "unknown underlying"),
        ({"unit": -1}, "unknown underlying"),
        ({"tick_e8": 0}, "positive"),
        ({"lot_e8": -1}, "positive"),
        ({"tick_e8": 3, "lot_e8": 1}, "whole number of minor units"),
        ({"kind": LINEAR_CALL}, "strike"),
        ({"kind": LINEAR_CALL, "strike": 100_000, "expiry_ns": NEVER_NS}, "expiry"),
        ({"strike": 100_000}, "strike"),
        ({"tick_e8": 2_000_000 * E8}, "tick"),
        ({"kind": LINEAR_CALL, "strike": 10**9}, "strike"),
        ({"expiry_ns": 5}, "expired"),
        ({"expiry_ns": -5}, "expired"),
    ],
)
def test_a_contract_that_cannot_be_is_refused(changes: dict[str, int], words: str) -> None:
    market = Market(small())
    before = market.engine.state_hash()
    (event,) = market.apply(ListInstruments(market.now, (good(market, **changes),)))
    assert event.reason == R.INSTRUMENT_INVALID
    assert words in event.text
    assert market.engine.state_hash() == before


def test_options_of_one_strike_share_a_lot() -> None:
    market = Market(small())
    spec = market.venue.instruments[CALL]
    other = contract("X", LINEAR_PUT, 5 * E8, E8 // 10, 0, spec.expiry_ns, 100_000)
    assert market.refused(ListInstruments, (other,)) == R.INSTRUMENT_INVALID


def test_an_inverse_contract_needs_a_coin_that_is_collateral(market: Market) -> None:
    spec = good(market, kind=INVERSE, lot_e8=10 * E8)
    assert market.refused(ListInstruments, (spec,)) == R.INSTRUMENT_INVALID


def test_a_listing_is_all_or_nothing() -> None:
    market = Market(small())
    bad = good(market, "BAD", kind=9)
    assert market.refused(ListInstruments, (good(market), bad)) == R.INSTRUMENT_INVALID
    twice = (good(market), good(market))
    assert market.refused(ListInstruments, twice) == R.INSTRUMENT_EXISTS
    taken = good(market, "BTC-PERPETUAL")
    assert market.refused(ListInstruments, (good(market), taken)) == R.INSTRUMENT_EXISTS
    assert len(market.state.contracts) == 9


def test_no_underlying_has_more_contracts_than_the_bound_of_the_proofs() -> None:
    market = Market(small())
    room = INSTRUMENTS_PER_UNIT_MAX - 8
    specs = tuple(good(market, f"N{number}") for number in range(room + 1))
    assert market.refused(ListInstruments, specs) == R.INSTRUMENT_INVALID
    market.do(ListInstruments, specs[:room])


def test_a_halted_contract_takes_no_orders_but_gives_them_back() -> None:
    market = Market(small())
    ann = market.account("ann")
    order = market.place(ann, BUY, 5, 190_000)
    assert only(market.do(Halt, 0, True), InstrumentHalted) == InstrumentHalted(0, True)
    assert market.refused_order(ann, SELL, 1, 210_000) == R.INSTRUMENT_HALTED
    market.place(ann, BUY, 1, 79_000, 2)
    market.cancel(ann, order)
    market.do(Halt, 0, False)
    market.place(ann, BUY, 5, 190_000)


def test_halts_survive_a_snapshot() -> None:
    market = Market(small())
    market.do(Halt, FUTURE, True)
    assert Engine.restore(market.engine.snapshot()).state.contracts.halted[FUTURE]


def test_an_expired_contract_is_not_halted() -> None:
    market = Market(small())
    market.cycle(after_ns=2 * HOUR)
    assert market.state.contracts.life[FUTURE] == Life.SETTLED
    assert market.refused(Halt, FUTURE, True) == R.INSTRUMENT_EXPIRED


def test_expiries_fall_at_eight_on_a_grid_through_a_friday() -> None:
    eight = FRIDAY_2026_01_02 + 8 * HOUR
    assert expiries_after(eight - 1, 7, 2) == [eight, eight + 7 * DAY]
    assert expiries_after(eight, 7, 1) == [eight + 7 * DAY], "strictly after"
    assert expiries_after(eight, 1, 2) == [eight + DAY, eight + 2 * DAY]


def test_names_follow_deribit() -> None:
    assert expiry_name(FRIDAY_2026_01_02 + 8 * HOUR) == "2JAN26"
    assert decimal_name(110_000 * E8) == "110000"
    assert decimal_name(E8 * 5 // 4) == "1d25"


def test_the_demo_lists_perpetuals_dated_futures_and_options_on_two_expiries() -> None:
    venue = load_venue("demo")
    for unit, name in enumerate(("BTC", "ETH", "SOL")):
        own = [spec for spec in venue.instruments if spec.underlying == unit]
        kinds = [sum(spec.kind == kind for spec in own) for kind in range(6)]
        assert kinds[:2] == [3, 3], "a perpetual and two dated futures of each form"
        assert kinds[2] == kinds[3] == 14, "seven strikes on two expiries"
        assert kinds[4] == kinds[5] == (0 if name == "SOL" else 14), "in coin for BTC and ETH"
        names = {spec.name for spec in own}
        assert {f"{name}-PERPETUAL", f"{name}_USDC-PERPETUAL", f"{name}-17OCT25",
                f"{name}_USDC-17OCT25"} <= names  # fmt: skip
    listed = {spec.name for spec in venue.instruments}
    assert {"BTC_USDC-11OCT25-116000-C", "BTC-11OCT25-116000-C"} <= listed


def test_strikes_stand_around_the_index_on_multiples_of_the_step() -> None:
    venue = load_venue("demo")
    index = [125_900 * E8, 4_100 * E8, 205 * E8]
    due = contracts_due(venue, index, venue.opening_time_ns)
    strikes = sorted({s.strike_e8 // E8 for s in due if s.underlying == 0 and s.strike_e8})
    assert strikes == [112_000 + 4_000 * k for k in range(7)]


def test_what_is_due_is_listed_once_and_not_just_before_its_expiry() -> None:
    market = Market(load_venue("demo"))
    assert due_listing(market.state, market.now) is None
    market.index_e8[0] = 125_900 * E8
    market.cycle()
    listing = due_listing(market.state, market.now)
    assert listing is not None
    names = [spec.name for spec in listing.specs]
    assert all(name.startswith(("BTC_USDC-", "BTC-")) for name in names)
    market.apply(listing)
    assert due_listing(market.state, market.now) is None
    expiry = expiries_after(market.now, 1, 1)[0]
    late = due_listing(market.state, expiry - market.venue.interval_ns)
    assert late is None or all(spec.expiry_ns > expiry for spec in late.specs)
