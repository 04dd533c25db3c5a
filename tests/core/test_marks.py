"""The last marks: index states by age, references in ticks, the mean over the settlement window."""

from __future__ import annotations

import msgspec
import pytest

from exchange.core.commands import ListInstruments, Revalue, UnderlyingMark
from exchange.core.stored.marks import IndexState, MarkBoard
from margin.portfolio import LINEAR
from tests.core.market import (
    CALL,
    COIN_CALL,
    COIN_PUT,
    E8,
    E9,
    FUTURE,
    HOUR,
    LINEAR_BTC,
    PUT,
    SECOND,
    Market,
    contract,
    small,
)


def board(points: list[tuple[int, int]]) -> tuple[MarkBoard, int]:
    """A board that has seen the index at (seconds, dollars), and the expiry of its contracts."""
    market = Market(small(), opened=False)
    opened = market.venue.opening_time_ns
    marks = market.state.marks
    marks.observations[0] = [(opened + second * SECOND, price * E8) for second, price in points]
    return marks, opened + HOUR


@pytest.mark.parametrize(
    ("age_s", "state"),
    [(0, IndexState.FRESH), (10, IndexState.FRESH), (11, IndexState.STALE),
     (60, IndexState.STALE), (61, IndexState.DEAD)],
)  # fmt: skip
def test_an_index_is_stale_and_dead_by_its_age(
    market: Market, age_s: int, state: IndexState
) -> None:
    market.age_ns[0] = age_s * SECOND
    market.cycle()
    assert market.state.marks.index_state == [state]


def test_an_observation_holds_until_the_next_and_the_one_before_from_the_start() -> None:
    marks, expiry = board([(0, 90_000), (1000, 100_000), (2400, 103_000), (3000, 106_000)])
    assert marks.settlement_e8(0, expiry) == 103_000 * E8


def test_an_observation_at_expiry_or_later_does_not_count() -> None:
    marks, expiry = board([(1000, 100_000), (3600, 500_000), (3700, 900_000)])
    assert marks.settlement_e8(0, expiry) == 100_000 * E8


def test_an_observation_at_the_window_s_start_holds_from_there() -> None:
    marks, expiry = board([(0, 10), (1800, 100), (2700, 200)])
    assert marks.settlement_e8(0, expiry) == 150 * E8


def test_the_mean_is_rounded_down() -> None:
    marks, expiry = board([(1800, 0), (3599, 1)])
    marks.observations[0] = [(t, p // E8) for t, p in marks.observations[0]]
    assert marks.settlement_e8(0, expiry) == 0


def test_without_an_observation_before_expiry_the_last_index_stands(market: Market) -> None:
    marks = market.state.marks
    for seen in ([], [(market.now + HOUR, 5 * E8)]):
        marks.observations[0] = seen
        assert marks.settlement_e8(0, market.now + HOUR) == 100_000 * E8


def test_observations_are_kept_as_long_as_a_settlement_needs_them() -> None:
    market = Market(small())
    for minutes in (10, 25, 40, 50):
        opened = market.venue.opening_time_ns
        market.cycle(100_000 + minutes, after_ns=opened + minutes * 60 * SECOND - market.now)
    kept = [price // E8 for _, price in market.state.marks.observations[0]]
    assert kept == [100_025, 100_040, 100_050], "the one before the window holds from its start"
    assert len(market.state.marks.observations[1]) == 1, "no expiry: the last alone"


@pytest.mark.parametrize(
    ("mark", "ticks"),
    [(100_000_00000000, 200_000), (100_000_25000000, 200_000), (100_000_25000001, 200_001),
     (1, 1)],
)  # fmt: skip
def test_the_reference_is_the_mark_in_ticks_halves_down_at_least_one(
    market: Market, mark: int, ticks: int
) -> None:
    market.state.marks.mark_e8[0] = mark
    assert market.state.marks.reference_ticks(0) == ticks


def test_an_option_is_marked_by_its_volatility_and_forward() -> None:
    market = Market(small())
    before = int(market.state.marks.mark_e8[CALL])
    assert 200 * E8 < before < 230 * E8, "0.4 x 0.5 x root of an hour x 100,000"
    market.state.marks.volatility_e9[[CALL, PUT, COIN_CALL, COIN_PUT]] = E9
    market.cycle()
    assert 1.9 * before < int(market.state.marks.mark_e8[CALL]) < 2.1 * before
    market.cycle(120_000)
    assert int(market.state.marks.mark_e8[CALL]) >= 20_000 * E8


def test_futures_without_a_mark_keep_their_last(market: Market) -> None:
    market.seal()
    market.uncross()
    given = msgspec.structs.replace(market.marks(), futures=())
    assert market.state.marks.missing_marks(given) == ["BTC_USDC-PERPETUAL"]
    market.apply(given)
    assert int(market.state.marks.mark_e8[0]) == 100_000 * E8


def test_a_new_contract_starts_at_the_index_of_now() -> None:
    market = Market(small())
    market.cycle(90_000)
    later = market.now + 2 * HOUR
    market.do(ListInstruments, (contract("NEW", LINEAR, E8 // 2, E8 // 1000, 0, later),))
    assert int(market.state.marks.mark_e8[-1]) == 90_000 * E8


def wrong() -> list[tuple[str, Revalue]]:
    """Marks that cannot be, each with what is wrong."""
    market = Market(small())
    good = market.marks()
    replace = msgspec.structs.replace
    index = UnderlyingMark(0, 0, E9, ())
    seen = UnderlyingMark(E8, 0, E9, ((1, -5),))
    expiry = good.expiries[0]
    return [
        ("one mark per underlying", replace(good, underlyings=good.underlyings[:1])),
        ("index of BTC", replace(good, underlyings=(index, good.underlyings[1]))),
        ("observation of BTC", replace(good, underlyings=(seen, good.underlyings[1]))),
        ("unknown instrument", replace(good, futures=((99, E8),))),
        ("unknown instrument", replace(good, futures=((-1, E8),))),
        ("mark of", replace(good, futures=((LINEAR_BTC, 0),))),
        ("mark of", replace(good, futures=((CALL, E8),))),
        ("one volatility per strike",
         replace(good, expiries=(replace(expiry, volatilities_e9=()),))),
        ("volatility", replace(good, expiries=(replace(expiry, volatilities_e9=(0,)),))),
        ("forward", replace(good, expiries=(replace(expiry, forward_e8=0),))),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(10))
def test_marks_that_cannot_be_are_named(number: int) -> None:
    words, marks = wrong()[number]
    board = Market(small()).state.marks
    assert words in board.validate_command(marks)
    assert board.validate_command(Market(small()).marks()) == ""


def test_marks_survive_their_canonical_bytes() -> None:
    market = Market(small())
    market.cycle(101_000, after_ns=HOUR // 2)
    copy = MarkBoard(market.venue, market.state.contracts)
    copy.load(dict(market.state.marks.parts()))
    assert dict(copy.parts()) == dict(market.state.marks.parts())
    assert copy.settlement_e8(0, market.venue.instruments[FUTURE].expiry_ns) == (
        market.state.marks.settlement_e8(0, market.venue.instruments[FUTURE].expiry_ns)
    )
