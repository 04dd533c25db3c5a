"""The price collar: interrupts, widens twice, then clamps; everything carries meanwhile."""

from __future__ import annotations

import pytest

from exchange.core.auction.clearing import CLAMPED, INTERRUPTED, NO_CROSS, PRINTED
from exchange.core.events import OrdersDone, Printed
from exchange.core.stored.collar import Collars, half_width_ticks
from exchange.core.venue import CollarSpec
from tests.core.market import BUY, SELL, Market, every, fills, only, print_of, tiny

SPEC = CollarSpec(band_ppb=50_000_000, floor_ticks=10, widen_ppb=2 * 10**9, extensions=2)


def test_the_band_is_a_fraction_of_the_reference_but_never_below_the_floor() -> None:
    assert half_width_ticks(SPEC, 200_000, 0) == 10_000
    assert half_width_ticks(SPEC, 100, 0) == 10


def test_each_extension_widens_the_band() -> None:
    assert [half_width_ticks(SPEC, 200_000, n) for n in range(3)] == [10_000, 20_000, 40_000]


def test_the_reference_is_frozen_at_the_first_interruption() -> None:
    collars = Collars(SPEC)
    collars.interrupted(0, 1000)
    collars.interrupted(0, 2000)
    band = collars.band(0, 3000)
    assert (band.reference_ticks, band.low_ticks, band.high_ticks, band.clamp) == (
        1000, 800, 1200, True,
    )  # fmt: skip
    collars.printed(0)
    assert collars.band(0, 3000).reference_ticks == 3000
    assert not collars.band(0, 3000).clamp


def test_the_band_ends_at_one_tick_below() -> None:
    assert Collars(SPEC).band(0, 5).low_ticks == 1
    assert Collars(SPEC).widest(0, 5) == (1, 45)


def test_without_a_band_there_is_no_collar() -> None:
    collars = Collars(CollarSpec(band_ppb=0, floor_ticks=10, widen_ppb=10**9, extensions=2))
    band = collars.band(0, 1000)
    assert band.low_ticks < 1
    assert band.high_ticks > 2**60


def test_running_extensions_survive_their_canonical_bytes() -> None:
    collars, copy = Collars(SPEC), Collars(SPEC)
    collars.interrupted(3, 700)
    copy.load(dict(collars.parts()))
    assert copy.band(3, 1) == collars.band(3, 1)


def far_orders(market: Market) -> dict[str, int]:
    """Buyers of 20 lots up to 130,000 dollars against a seller of 10 at 115,000 or more."""
    ann, bob, eve = (market.account(name) for name in ("ann", "bob", "eve"))
    return {
        "limit": market.place(ann, BUY, 12, 260_000),
        "ioc": market.place(eve, BUY, 8, 260_000, immediate_or_cancel=True),
        "seller": market.place(bob, SELL, 10, 230_000),
    }


def test_a_print_outside_interrupts_twice_then_is_clamped(market: Market) -> None:
    orders = far_orders(market)
    for _ in range(2):
        events = market.cycle()
        assert print_of(events)[0] == INTERRUPTED
        assert not every(events, OrdersDone), "everything carries, immediate-or-cancel included"
        assert fills(events) == {}
    events = market.cycle()
    assert print_of(events) == (CLAMPED, 240_000, 10)
    assert sum(fills(events).values()) == 20
    assert market.open_lots(orders["ioc"]) == 0, "its remainder ends with the print"
    assert market.open_lots(orders["limit"]) == 20 - 10 - (8 - fills(events).get(orders["ioc"], 0))


def test_a_market_order_carries_through_interruptions(market: Market) -> None:
    far_orders(market)
    order = market.place(market.account("max"), BUY, 2)
    market.cycle()
    assert market.open_lots(order) == 2
    market.cycle()
    assert fills(market.cycle())[order] == 2


def test_the_reference_of_an_extension_does_not_follow_the_mark(market: Market) -> None:
    far_orders(market)
    market.cycle()
    events = market.cycle(110_000) + market.cycle(120_000)
    references = [p.reference_ticks.tolist() for p in every(events, Printed)]
    assert references == [[200_000], [200_000]]


def test_after_a_print_the_collar_starts_at_the_base_band(market: Market) -> None:
    far_orders(market)
    for _ in range(3):
        market.cycle()
    assert market.state.collars.extension == {}
    assert market.state.collars.frozen_ticks == {}


def test_an_extension_whose_band_is_wide_enough_prints_freely() -> None:
    market = Market()
    ann, bob = market.account("ann"), market.account("bob")
    market.place(ann, BUY, 5, 215_000)
    market.place(bob, SELL, 5, 215_000)
    assert print_of(market.cycle())[0] == INTERRUPTED
    assert print_of(market.cycle()) == (PRINTED, 215_000, 5)


def test_where_the_clamped_price_meets_nobody_all_but_the_short_lived_stay(market: Market) -> None:
    ann, bob = market.account("ann"), market.account("bob")
    buyer = market.place(ann, BUY, 5, 300_000)
    seller = market.place(bob, SELL, 5, 290_000)
    market.cycle()
    market.cycle()
    assert print_of(market.cycle())[0] == NO_CROSS
    assert (market.open_lots(buyer), market.open_lots(seller)) == (5, 5)
    assert market.state.collars.extension == {}, "the next attempt begins a new sequence"


@pytest.mark.parametrize("extensions", [0, 1, 3])
def test_a_venue_may_choose_how_often_it_extends(extensions: int) -> None:
    market = Market(tiny(collar={"extensions": extensions, "widen_ppb": 10**9}))
    far_orders(market)
    states = [print_of(market.cycle())[0] for _ in range(extensions)]
    assert states == [INTERRUPTED] * extensions
    last = only(market.cycle(), Printed)
    assert last.states.tolist() == [NO_CROSS], "at 105,000 nobody sells"
