"""A print of an option that settles in coin teaches the marker what a linear one would."""

from __future__ import annotations

import numpy as np

from exchange.core.auction.clearing import PRINTED
from exchange.core.commands import Revalue
from exchange.core.events import Printed
from exchange.feed import PathFeed
from exchange.marker import Marker
from exchange.surface.marking import volatility_at
from tests.core.market import CALL, COIN_CALL, COIN_PUT, E8, PUT, Market, small

FLAT = 500_000_000


def after_print(slot: int, ticks: int) -> Revalue:
    """The marks of a cycle in which one option printed."""
    market = Market(small())
    one = np.array([1])
    printed = Printed(1, np.array([slot]), np.array([PRINTED]), np.array([ticks]), one, one, one)
    feed = PathFeed([[(1, price)] for price in (100_000 * E8, 4_000 * E8)])
    return Marker(feed).revalue(market.state, [printed], market.now)


def volatility_after(slot: int, ticks: int) -> int:
    return after_print(slot, ticks).expiries[0].volatilities_e9[0]


def test_premiums_in_coin_and_in_dollars_imply_the_same_volatility() -> None:
    """22 ticks of 0.0001 BTC at 100,000 are 220 dollars, 44 ticks of 5; the mark is 213."""
    state = Market(small()).state
    for coin, dollars in ((COIN_CALL, CALL), (COIN_PUT, PUT)):
        in_coin = volatility_at(state, coin, 22 * 10_000, 100_000 * E8, 0.01)
        assert in_coin == volatility_at(state, dollars, 220 * E8, 100_000 * E8, 0.01) > 0


def test_a_print_in_coin_moves_the_mark_as_one_in_dollars_does() -> None:
    assert volatility_after(COIN_CALL, 26) > FLAT
    assert volatility_after(CALL, 52) > FLAT
    assert volatility_after(COIN_PUT, 17) < FLAT
    assert volatility_after(PUT, 34) < FLAT


def test_inverse_options_share_forward_and_strikes_with_the_linear_ones() -> None:
    (expiry,) = after_print(COIN_CALL, 22).expiries
    assert expiry.strikes_e8 == (100_000 * E8,)
