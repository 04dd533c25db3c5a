"""Marks from index, prints and resting interest: a basis for futures, a surface for options."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exchange.core.auction.clearing import CLAMPED, INTERRUPTED, NO_CROSS, PRINTED
from exchange.core.commands import Revalue
from exchange.core.events import Printed
from exchange.feed import PathFeed
from exchange.gateway.instrument_view import greeks_of
from exchange.marker import (
    BASIS_BOUND_PPB,
    Marker,
    MarkerState,
    decode_state,
    encode_state,
)
from exchange.surface.interest import Interest
from exchange.surface.marking import STEP_E9, OptionMemory
from exchange.surface.surface import flat_surface
from margin.black76 import price
from tests.core.market import (
    CALL,
    E8,
    FUTURE,
    HOUR,
    LINEAR_BTC,
    PUT,
    SECOND,
    Market,
    small,
)

INDEX = (100_000 * E8, 4_000 * E8)
DAY = 24 * HOUR


def marker(*index: int) -> Marker:
    """One whose feed never ages: before its first point the first price holds."""
    return Marker(PathFeed([[(2**62, price)] for price in index or INDEX]))


def printed(slot: int, ticks: int, state: int = PRINTED) -> Printed:
    column = np.array([slot], np.int64)
    return Printed(
        1, column, np.array([state]), np.array([ticks]), *(np.array([1]) for _ in range(3))
    )


def revalued(market: Market, *prints: Printed, index: tuple[int, ...] = INDEX) -> Revalue:
    return marker(*index).revalue(market.state, list(prints), market.now)


def basis_of(marks: Revalue, slot: int) -> int:
    return decode_state(marks.marker_state).basis_ppb.get(slot, 0)


def test_without_prints_futures_are_marked_at_the_index() -> None:
    marks = revalued(Market(small()))
    assert dict(marks.futures)[LINEAR_BTC] == INDEX[0]
    assert dict(marks.futures)[2] == INDEX[1]
    assert {e.forward_e8 for e in marks.expiries} == {INDEX[0]}


def test_every_listed_future_and_every_strike_gets_a_mark() -> None:
    market = Market(small())
    marks = revalued(market)
    assert market.state.marks.missing_marks(marks) == []
    assert [e.strikes_e8 for e in marks.expiries] == [(100_000 * E8,)]
    assert market.state.marks.validate_command(marks) == ""


def test_a_print_moves_the_basis_by_an_eighth_of_the_distance() -> None:
    """Printed at 100,400: 0.4 % of which an eighth is 0.05 %, so 50 dollars."""
    marks = revalued(Market(small()), printed(LINEAR_BTC, 200_800))
    assert basis_of(marks, LINEAR_BTC) == 500_000
    assert dict(marks.futures)[LINEAR_BTC] == 100_050 * E8
    assert dict(marks.futures)[FUTURE] == INDEX[0], "only the printed contract"


@pytest.mark.parametrize("ticks", [240_000, 160_000])
def test_the_basis_stays_within_its_bound(ticks: int) -> None:
    market = Market(small())
    for _ in range(60):
        market.seal()
        market.uncross()
        market.apply(revalued(market, printed(LINEAR_BTC, ticks)))
    mark = int(market.state.marks.mark_e8[LINEAR_BTC])
    bound = INDEX[0] * BASIS_BOUND_PPB // 10**9
    assert 0.99 * bound < abs(mark - INDEX[0]) <= bound


@pytest.mark.parametrize("state", [INTERRUPTED, NO_CROSS])
def test_an_auction_without_a_trade_teaches_nothing(state: int) -> None:
    assert basis_of(revalued(Market(small()), printed(LINEAR_BTC, 230_000, state)), 0) == 0


def test_a_clamped_print_counts() -> None:
    assert basis_of(revalued(Market(small()), printed(LINEAR_BTC, 200_800, CLAMPED)), 0) == 500_000


def volatility_of(marks: Revalue) -> int:
    return marks.expiries[0].volatilities_e9[0]


def test_an_option_starts_at_the_venue_s_default_volatility() -> None:
    assert volatility_of(revalued(Market(small()))) == 500_000_000


@pytest.mark.parametrize(("ticks", "sign"), [(400, 1), (5, -1)])
def test_an_option_print_moves_volatility_by_at_most_a_step(ticks: int, sign: int) -> None:
    """The mark is about 43 ticks."""
    moved = volatility_of(revalued(Market(small()), printed(CALL, ticks))) - 500_000_000
    assert 0.9 * STEP_E9 < sign * moved <= STEP_E9


def test_a_print_near_the_mark_moves_volatility_a_little() -> None:
    """Two ticks of 2.3 points each: a quarter of the way."""
    market = Market(small())
    ticks = market.state.marks.reference_ticks(CALL)
    moved = volatility_of(revalued(market, printed(CALL, ticks + 2))) - 500_000_000
    assert 5_000_000 < moved < STEP_E9


def test_a_print_at_the_mark_moves_nothing() -> None:
    market = Market(small())
    marks = revalued(market, printed(CALL, market.state.marks.reference_ticks(CALL)))
    assert volatility_of(marks) == 500_000_000
    assert decode_state(marks.marker_state).options[0].record is None


def test_a_print_that_implies_no_volatility_teaches_nothing() -> None:
    """A put worth more than its strike."""
    marks = revalued(Market(small()), printed(PUT, 40_000))
    assert volatility_of(marks) == 500_000_000


def test_the_state_travels_in_the_command_and_nowhere_else() -> None:
    market = Market(small())
    market.seal()
    market.uncross()
    market.apply(revalued(market, printed(LINEAR_BTC, 200_800)))
    market.seal()
    market.uncross()
    again = revalued(market)
    assert basis_of(again, LINEAR_BTC) == 500_000, "another marker reads it back"


def test_the_state_has_one_byte_string() -> None:
    flat = flat_surface((9,), 7)
    memory = OptionMemory(flat, flat, interest=(Interest(1, 2, 3, 4, 5),))
    one = MarkerState({2: 5, 1: 6}, {(0, 9): 7, (0, 8): 6}, {1: memory, 0: memory})
    other = MarkerState({1: 6, 2: 5}, {(0, 8): 6, (0, 9): 7}, {0: memory, 1: memory})
    assert encode_state(one) == encode_state(other)
    assert decode_state(encode_state(one)) == one
    assert decode_state(b"") == MarkerState()


def test_what_belongs_to_settled_contracts_is_forgotten() -> None:
    market = Market(small())
    market.seal()
    market.uncross()
    market.apply(revalued(market, printed(FUTURE, 200_800), printed(CALL, 400)))
    market.cycle(after_ns=2 * HOUR)
    market.state.marks.marker_state = encode_state(
        MarkerState({FUTURE: 5, LINEAR_BTC: 6}, {(0, market.venue.opening_time_ns): 7_000})
    )
    state = decode_state(revalued(market).marker_state)
    assert (state.basis_ppb, state.excess_ppb) == ({LINEAR_BTC: 6}, {})


def test_observations_since_the_last_revaluation_are_handed_on_once() -> None:
    market = Market(small())
    start = market.now
    points = [(start + k * SECOND, INDEX[0] + k) for k in (-5, 1, 2, 3)]
    feed = PathFeed([points, [(1, INDEX[1])]])
    seen = []
    for after in (2, 1):
        market.seal(after * SECOND)
        market.uncross()
        marks = Marker(feed).revalue(market.state, [], market.now)
        market.apply(marks)
        seen.append([price - INDEX[0] for _, price in marks.underlyings[0].observations])
    assert seen == [[1, 2], [3]]
    assert marks.underlyings[1].age_ns == market.now - 1


def test_an_index_above_the_venue_s_highest_price_is_held_at_it() -> None:
    market = Market(small())
    marks = revalued(market, index=(5_000_000 * E8, 20_000_000 * E8))
    assert market.state.marks.validate_command(marks) == ""
    assert marks.underlyings[0].index_e8 == 1_000_000 * E8


def test_a_tiny_index_still_gives_marks_that_can_be() -> None:
    market = Market(small())
    assert market.state.marks.validate_command(revalued(market, index=(1, 1))) == ""


def test_in_the_settlement_window_nothing_is_learned() -> None:
    market = Market(small(expiry_after_s=1_801))
    assert volatility_of(revalued(market, printed(CALL, 400))) > 500_000_000
    market = Market(small(expiry_after_s=1_800))
    assert volatility_of(revalued(market, printed(CALL, 400))) == 500_000_000


def test_an_option_s_forward_is_the_future_of_its_expiry() -> None:
    market = Market(small())
    marks = revalued(market, printed(FUTURE, 200_800))
    assert dict(marks.futures)[FUTURE] == marks.expiries[0].forward_e8 == 100_050 * E8


def test_a_forward_is_within_the_bound_whatever_its_future_and_its_quotes_say() -> None:
    market = Market(small())
    expiry = market.state.contracts.specs[CALL].expiry_ns
    for sign in (1, -1):
        learned = sign * BASIS_BOUND_PPB * 4 // 5
        market.state.marks.marker_state = encode_state(
            MarkerState({FUTURE: learned}, {(0, expiry): learned})
        )
        assert revalued(market).expiries[0].forward_e8 == INDEX[0] + sign * INDEX[0] // 100


@pytest.mark.parametrize(("hours", "slot"), [(1, CALL), (1, PUT), (240, CALL), (240, PUT)])
def test_greeks_on_the_wire_are_in_deribit_s_units(hours: int, slot: int) -> None:
    """Of bumped prices: a dollar, a point, a day or the life that is left, a point of the rate."""
    market = Market(small(expiry_after_s=hours * 3_600))
    years, spot, strike, is_call = hours / 8_760, 100_000.0, 100_000.0, slot == CALL

    def value(dollars: float = 0.0, points: float = 0.0, rate: float = 0.0) -> float:
        forward, discount = (spot + dollars) * math.exp(rate * years), math.exp(-rate * years)
        return price(forward, strike, 0.5 + points / 100, years, discount, is_call)

    greeks = greeks_of(market.state, slot)
    assert greeks.delta == pytest.approx((value(1) - value(-1)) / 2, abs=1e-5)
    assert greeks.gamma == pytest.approx(value(1) - 2 * value() + value(-1), abs=1e-7)
    assert greeks.vega == pytest.approx((value(0, 0.1) - value(0, -0.1)) / 0.2, abs=1e-3)
    rho = (value(0, 0, 1e-4) - value(0, 0, -1e-4)) / 2e-4 / 100
    assert greeks.rho == pytest.approx(rho, abs=1e-4)
    assert (greeks.rho > 0) == is_call
    # At the money the value goes with the root of the time: half of it in theta times the life.
    life_days = hours / 24
    assert greeks.theta * max(1.0, life_days) == pytest.approx(-value() / 2, rel=1e-3)
