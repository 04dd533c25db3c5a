"""Marks of an option chain: from prints and resting interest to a surface, step by step."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest

from exchange.core.auction.clearing import PRINTED
from exchange.core.commands import Revalue
from exchange.core.events import Printed
from exchange.core.stored.orders import FLAGS, LIQUIDATION
from exchange.core.venue import Venue
from exchange.feed import PathFeed
from exchange.marker import BASIS_BOUND_PPB, Marker, MarkerState, decode_state, encode_state
from exchange.surface import marking
from exchange.surface.interest import Interest, resting_interest
from exchange.surface.marking import SHARE, STEP_E9, OptionMemory
from exchange.surface.quotes import LIVE_AGE_MS
from exchange.surface.surface import Origin
from margin.black76 import price
from margin.portfolio import LINEAR_CALL, LINEAR_PUT
from tests.core.market import BUY, E8, HOUR, SELL, Market, changed, contract, small

INDEX = (100_000 * E8, 4_000 * E8)
DAY = 24 * HOUR

# A chain: calls and puts of nine strikes on three expiries, a tick of 5 dollars, lots of 0.01 BTC.
STRIKES = tuple(range(80_000, 121_000, 5_000))
DAYS = (2, 9, 30)


def marker() -> Marker:
    """One whose feed never ages: before its first point the first price holds."""
    return Marker(PathFeed([[(2**62, price)] for price in INDEX]))


def printed(slot: int, ticks: int) -> Printed:
    column = np.array([slot], np.int64)
    return Printed(
        1, column, np.array([PRINTED]), np.array([ticks]), *(np.array([1]) for _ in range(3))
    )


def revalued(market: Market, *prints: Printed) -> Revalue:
    return marker().revalue(market.state, list(prints), market.now)


def chain(units: int = 1) -> Venue:
    base = small(collar={"band_ppb": 0})
    opened = base.opening_time_ns
    found = [base.instruments[0], base.instruments[2]]
    for unit, name, scale in ((0, "BTC", 1), (1, "ETH", 25))[:units]:
        for days in DAYS:
            for strike in STRIKES:
                for letter, kind in (("C", LINEAR_CALL), ("P", LINEAR_PUT)):
                    found.append(contract(
                        f"{name}_USDC-{days}D-{strike // scale}-{letter}", kind, 5 * E8, E8 // 100,
                        unit, opened + days * DAY, strike // scale,
                    ))  # fmt: skip
    return changed(base, instruments=tuple(found))


def slot_of(market: Market, days: int, strike: int, letter: str, name: str = "BTC") -> int:
    return market.state.contracts.slot_of[f"{name}_USDC-{days}D-{strike}-{letter}"]


def ticks_at(market: Market, slot: int, volatility: float) -> int:
    """The price in ticks of an option at a volatility."""
    spec = market.state.contracts.specs[slot]
    years = (spec.expiry_ns - market.now) / (365 * DAY)
    is_call = spec.kind == LINEAR_CALL
    value = price(100_000.0, spec.strike_e8 / E8, volatility, years, 1.0, is_call)
    return max(1, round(value / 5))


def smile(days: int, strike: int) -> float:
    """60 % at the money, higher for low strikes and for both wings."""
    k = float(np.log(strike / 100_000))
    return 0.6 - 0.4 * k + 1.2 * k * k + 0.1 / days


def chain_prints(market: Market, days: Iterable[int] = DAYS) -> list[Printed]:
    """A print of each option out of the money at `smile`."""
    found = []
    for day in days:
        for strike in STRIKES:
            slot = slot_of(market, day, strike, "C" if strike >= 100_000 else "P")
            found.append(printed(slot, ticks_at(market, slot, smile(day, strike))))
    return found


def step(market: Market, *prints: Printed, after_ns: int | None = None) -> Revalue:
    """One cycle with these prints; its marks."""
    market.seal(after_ns)
    market.uncross()
    marks = revalued(market, *prints)
    assert market.state.marks.validate_command(marks) == ""
    market.apply(marks)
    return marks


def memory_of(market: Market, unit: int = 0) -> OptionMemory:
    return decode_state(market.state.marks.marker_state).options[unit]


def test_a_chain_of_prints_becomes_the_surface_of_the_marks() -> None:
    market = Market(chain())
    for _ in range(30):
        marks = step(market, *chain_prints(market))
    assert memory_of(market).target.origin == Origin.FITTED
    for expiry, days in zip(marks.expiries, DAYS, strict=True):
        wanted = [smile(days, strike // E8) for strike in expiry.strikes_e8]
        miss = np.abs(np.array(expiry.volatilities_e9) / 1e9 - wanted)
        assert np.median(miss) < 0.01
        assert miss.max() < 0.05


def test_marks_of_a_chain_fall_and_bend_upward_in_the_strike() -> None:
    """To the minor unit of a price, while the surface is on its way and when it has arrived."""
    market = Market(chain())
    for _ in range(12):
        step(market, *chain_prints(market))
        for days in DAYS:
            slots = [slot_of(market, days, strike, "C") for strike in STRIKES]
            calls = market.state.marks.mark_e8[slots]
            assert (np.diff(calls) <= 0).all()
            assert (np.diff(calls, 2) >= -2).all()
        for near, far in pairwise(DAYS):
            for strike in STRIKES:
                marks = market.state.marks.mark_e8
                before, after = (slot_of(market, d, strike, "C") for d in (near, far))
                assert marks[before] <= marks[after] + 1


def test_no_cycle_moves_a_strike_by_more_than_the_step() -> None:
    market = Market(chain())
    last: dict[tuple[int, int], int] = {}
    for cycle in range(10):
        marks = step(market, *chain_prints(market, DAYS if cycle % 3 else ()))
        now = {
            (expiry.expiry_ns, strike): volatility
            for expiry in marks.expiries
            for strike, volatility in zip(expiry.strikes_e8, expiry.volatilities_e9, strict=True)
        }
        assert all(abs(now[key] - last[key]) < 1.1 * STEP_E9 for key in last)
        last = now


def test_a_fit_is_journaled_so_that_it_can_be_made_again() -> None:
    market = Market(chain())
    for _ in range(3):
        step(market, *chain_prints(market))
        memory = memory_of(market)
        assert memory.record is not None
        assert memory.record.refitted() == memory.target
        assert len(memory.record.residuals_e9) == len(DAYS) * len(STRIKES)
        assert memory.record.quotes().table.shape == (6, len(DAYS) * len(STRIKES))
    for _ in range(8):
        step(market)
    assert memory_of(market).record is None, "nothing new, no fit"


def test_marks_go_a_quarter_of_the_way_and_arrive_without_new_prints() -> None:
    market = Market(chain())
    slot = slot_of(market, 9, 100_000, "C")
    marks = step(market, printed(slot, ticks_at(market, slot, 0.53)))
    memory = memory_of(market)
    at = [part.expiry_ns for part in memory.target.slices].index(marks.expiries[1].expiry_ns)
    target = memory.target.slices[at].volatility_e9
    assert target == pytest.approx(530_000_000, abs=3_000_000)
    moved = memory.shown.slices[at].volatility_e9 - 500_000_000
    assert moved == pytest.approx(SHARE * (target - 500_000_000), rel=1e-3)
    for _ in range(40):
        step(market)
    memory = memory_of(market)
    assert memory.shown == memory.target
    assert memory.record is None


def test_marks_stay_where_a_step_toward_the_fit_would_leave_an_arbitrage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    market = Market(chain())
    slot = slot_of(market, 9, 100_000, "C")
    monkeypatch.setattr(marking, "is_free_of_arbitrage", lambda surface, time_ns: False)
    marks = step(market, printed(slot, ticks_at(market, slot, 0.53)))
    memory = memory_of(market)
    assert memory.target.origin == Origin.FITTED
    assert memory.shown.origin == Origin.HELD
    assert {v for expiry in marks.expiries for v in expiry.volatilities_e9} == {500_000_000}


def test_prints_are_forgotten_when_they_are_old() -> None:
    market = Market(chain())
    step(market, *chain_prints(market, (9,)))
    assert len(memory_of(market).traded) == len(STRIKES)
    step(market, after_ns=LIVE_AGE_MS * 10**6 - 1)
    assert len(memory_of(market).traded) == len(STRIKES)
    step(market, after_ns=2)
    assert memory_of(market).traded == ()


def quoted(market: Market, account: int, slot: int, low: float, high: float) -> None:
    """A bid and an ask of ten lots at volatilities."""
    market.place(account, BUY, 10, ticks_at(market, slot, low), slot)
    market.place(account, SELL, 10, ticks_at(market, slot, high), slot)


def test_resting_interest_bounds_the_mark() -> None:
    """Quoted 56 at 60 %, the marks move from 50 up to the bid; quoted around, they stay."""
    market = Market(chain())
    account = market.account("maker", 10_000_000)
    slot = slot_of(market, 30, 100_000, "C")
    quoted(market, account, slot, 0.56, 0.60)
    for _ in range(30):
        marks = step(market)
    assert marks.expiries[2].volatilities_e9[4] == pytest.approx(560_000_000, abs=6_000_000)
    before = memory_of(market).target
    quoted(market, account, slot_of(market, 30, 100_000, "P"), 0.50, 0.70)
    step(market)
    assert memory_of(market).target == before


def test_interest_is_what_the_venue_discloses() -> None:
    market = Market(chain())
    account = market.account("maker", 10_000_000)
    call, put = (slot_of(market, 30, 100_000, letter) for letter in "CP")
    quoted(market, account, call, 0.45, 0.55)
    market.place(account, BUY, 3, ticks_at(market, call, 0.45), call)
    market.place(account, SELL, 7, ticks_at(market, put, 0.7), put)
    market.cycle()
    bid, ask = ticks_at(market, call, 0.45), ticks_at(market, call, 0.55)
    only_ask = Interest(put, 0, ticks_at(market, put, 0.7), 7, market.state.batch - 1)
    assert resting_interest(market.state) == [
        Interest(call, bid, ask, 10, market.state.batch - 1), only_ask,
    ]  # fmt: skip
    market.state.collars.extension[call] = 1
    assert resting_interest(market.state) == [only_ask], "interrupted: still sealed"
    market.state.orders.resting[FLAGS] |= LIQUIDATION
    assert resting_interest(market.state) == []


def test_an_opaque_venue_s_orders_leave_no_trace_in_its_marks() -> None:
    market = Market(changed(chain(), disclosure="opaque"))
    account = market.account("maker", 10_000_000)
    slot = slot_of(market, 30, 100_000, "C")
    quoted(market, account, slot, 0.56, 0.60)
    step(market)
    marks = step(market)
    assert set(marks.expiries[2].volatilities_e9) == {500_000_000}


def test_one_underlying_a_cycle_is_fitted_the_longest_waiting_first() -> None:
    market = Market(chain(units=2))
    eth = slot_of(market, 9, 4_000, "C", "ETH")
    btc = slot_of(market, 9, 100_000, "C")
    years = 9 / 365
    at_money = round(4_000 * 0.4 * 0.6 * years**0.5 / 5)
    both = printed(btc, ticks_at(market, btc, 0.6)), printed(eth, at_money)
    fitted = []
    for prints in (both, both, ()):
        step(market, *prints)
        fitted.append([unit for unit in (0, 1) if memory_of(market, unit).record is not None])
    assert fitted[:2] == [[0], [1]]
    assert memory_of(market, 1).target.slices[1].volatility_e9 > 550_000_000


def test_an_underlying_with_news_in_every_cycle_keeps_no_other_waiting() -> None:
    market = Market(chain(units=2))
    btc = slot_of(market, 9, 100_000, "C")
    eth = slot_of(market, 9, 4_000, "C", "ETH")
    at_money = round(4_000 * 0.4 * 0.6 * (9 / 365) ** 0.5 / 5)
    fitted = []
    for volatility in (0.6, 0.8):
        step(market, printed(btc, ticks_at(market, btc, volatility)), printed(eth, at_money))
        fitted.append([unit for unit in (0, 1) if memory_of(market, unit).record is not None])
    assert fitted == [[0], [1]]
    assert memory_of(market, 0).is_due


def test_a_print_weighs_as_many_coins_as_it_trades() -> None:
    """One lot of a hundredth of a coin, in millionths."""
    market = Market(chain())
    slot = slot_of(market, 9, 100_000, "C")
    step(market, printed(slot, ticks_at(market, slot, 0.53)))
    (traded,) = memory_of(market).traded
    assert traded.size_e6 == 10_000


def test_a_marker_that_was_restarted_goes_on_as_if_nothing_had_happened() -> None:
    market = Market(chain())
    kept = marker()
    for _ in range(4):
        market.seal()
        market.uncross()
        prints = chain_prints(market)
        marks = kept.revalue(market.state, list(prints), market.now)
        assert marks == marker().revalue(market.state, list(prints), market.now)
        market.apply(marks)


def test_the_mark_is_within_the_collar_of_the_auction_price() -> None:
    """A print at 52.4 %, of which the surface takes a quarter: the strike's mark goes further."""
    wide, narrow = chain(), changed(chain(), collar={"band_ppb": 1_000_000, "floor_ticks": 1})
    marks = []
    for venue in (wide, narrow):
        market = Market(venue)
        slot = slot_of(market, 30, 100_000, "C")
        marks.append(step(market, printed(slot, ticks_at(market, slot, 0.515))).expiries[2])
    free, held = (expiry.volatilities_e9 for expiry in marks)
    assert 503_000_000 < free[4] < 505_000_000
    assert 513_000_000 < held[4] < 516_000_000
    assert free[:4] == held[:4], "only the strike that printed"


def test_parity_moves_the_forward_by_an_eighth_within_the_bound() -> None:
    """Call 20 dollars over the put at the money, quoted to 5 dollars: 15 above the forward."""
    market = Market(chain())
    account = market.account("maker", 10_000_000)
    call, put = (slot_of(market, 30, 100_000, letter) for letter in "CP")
    base = ticks_at(market, put, 0.5)
    for slot, low in ((call, base + 40), (put, base)):
        market.place(account, BUY, 10, low, slot)
        market.place(account, SELL, 10, low + 1, slot)
    forward = step(market).expiries[2].forward_e8
    assert forward == INDEX[0] + (40 - 1) * 5 * E8 // 8
    later = step(market).expiries[2].forward_e8
    assert INDEX[0] < later < forward, "quotes of an earlier batch say nothing of the forward"
    for _ in range(3):
        assert abs(step(market).expiries[2].forward_e8 - INDEX[0]) <= INDEX[0] // 100


def with_excess(market: Market, days: int, excess_ppb: int) -> tuple[int, int]:
    """Let the last marks have had a forward so far above its future; the expiry's key."""
    slot = slot_of(market, days, 100_000, "C")
    key = (0, market.state.contracts.specs[slot].expiry_ns)
    state = MarkerState(excess_ppb={key: excess_ppb})
    market.state.marks.marker_state = encode_state(state)
    return key


@pytest.mark.parametrize(("before", "after"), [(6_430, 6_330), (-6_430, -6_330), (64, None)])
def test_without_quotes_a_forward_comes_back_to_its_future_from_either_side(
    before: int, after: int | None
) -> None:
    """By a 64th a cycle, rounded toward what it was; what is too small to fade is dropped."""
    market = Market(chain())
    key = with_excess(market, 30, before)
    assert decode_state(revalued(market).marker_state).excess_ppb.get(key) == after


@pytest.mark.parametrize("sign", [1, -1])
def test_quotes_move_a_forward_no_farther_than_its_bound(sign: int) -> None:
    """Call and put 4,000 dollars apart, where the forward is almost at the bound already."""
    market = Market(chain())
    account = market.account("maker", 10_000_000)
    call, put = (slot_of(market, 30, 100_000, letter) for letter in "CP")
    dear, cheap = (call, put) if sign > 0 else (put, call)
    for slot, low in ((dear, 1_900), (cheap, 1_100)):
        market.place(account, BUY, 10, low, slot)
        market.place(account, SELL, 10, low + 1, slot)
    market.seal()
    market.uncross()
    key = with_excess(market, 30, sign * (BASIS_BOUND_PPB - 1_000))
    marks = revalued(market)
    assert decode_state(marks.marker_state).excess_ppb[key] == sign * BASIS_BOUND_PPB
    assert marks.expiries[2].forward_e8 == INDEX[0] + sign * INDEX[0] // 100
