"""A venue as data: what contradicts itself or a bound is named."""

from __future__ import annotations

from typing import Any, get_type_hints

import msgspec
import pytest

from exchange.core import limits
from exchange.core.venue import (
    Venue,
    VenueError,
    lot_notional_minor,
    position_lots_max,
    price_ticks_max,
    tick_value_minor,
    validate,
)
from exchange.core.venue_ranges import RANGES, key_of, section_problem
from margin.portfolio import INVERSE, LINEAR
from tests.core.market import E8, changed, contract, small, tiny, underlying


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"interval_ns": 0}, "interval"),
        ({"underlyings": ()}, "at least one underlying"),
        ({"underlyings": (underlying("BTC", 5), underlying("BTC", 6))}, "different names"),
        ({"underlyings": (underlying("BTC", 2_000_000),)}, "opening_index = 2000000: must be"),
        ({"underlyings": (underlying("BTC", 0),)}, "BTC.opening_index = 0: must be from"),
        ({"disclosure": "all"}, "disclosure"),
        ({"collar": {"band_ppb": -1}}, "band"),
        ({"collar": {"widen_ppb": 10**9 - 1}}, r"collar.widen = 0.999999999: must be from 1 to 10"),
        ({"collar": {"extensions": -1}}, "extensions"),
        ({"calls": {"deadline_cycles": 0}}, "calls.deadline_cycles = 0: must be from 1"),
        ({"funding": {"cap_ppb": -1}}, "funding"),
        ({"funding": {"dead_band_ppb": -1}}, "funding"),
        ({"index": {"stale_after_ns": 0}}, "index.stale_after_s = 0: must be from"),
        ({"index": {"dead_after_ns": 1}}, "stale before it is dead"),
        ({"client_order_id_cycles": 0}, "client_order_id_cycles = 0: must be from 1"),
        ({"fees": {"future_ppb": -1}}, "fees.future = -0.000000001: must be from 0 to"),
        ({"fees": {"option_ppb": 10**8}}, r"fees.option = 0.1: must be"),
        ({"fees": {"liquidation_ppb": 10**9}}, "fees.liquidation = 1: must be"),
        ({"default": {"fund_minor": -1}}, "fund"),
        ({"limits": {"position_notional_minor": 0}}, "position"),
        ({"limits": {"position_notional_minor": 2**49}}, "position_notional"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_venue_that_contradicts_itself_is_refused_by_name(
    parts: dict[str, Any], words: str
) -> None:
    with pytest.raises(VenueError, match=words):
        validate(changed(tiny(), **parts))


@pytest.mark.parametrize("section", RANGES)
def test_every_figure_of_a_section_has_a_range_that_is_named(section: str) -> None:
    """The bounds themselves are inside where nothing else forbids them."""
    fields = {
        field: kind
        for field, kind in get_type_hints(type(getattr(tiny(), section))).items()
        if kind is not bool
    }
    assert set(RANGES[section]) == set(fields)
    for field, (least, most) in RANGES[section].items():
        key, _ = key_of(field)
        for value in (least - 1, most + 1):
            with pytest.raises(VenueError, match=rf"^{section}\.{key} = -?[\d.]+: must be from"):
                validate(changed(tiny(), **{section: {field: value}}))
        venue = changed(tiny(), **{section: {field: least}})
        assert section_problem(section, getattr(venue, section)) == ""


def test_an_opening_is_within_the_calendar() -> None:
    for time_ns in (-1, 2**62):
        with pytest.raises(VenueError, match="opening must be between the years 1970 and 2116"):
            validate(changed(tiny(), opening_time_ns=time_ns))


def test_contracts_of_a_venue_are_validated_together() -> None:
    spec = tiny().instruments[0]
    with pytest.raises(VenueError, match="different names"):
        validate(changed(tiny(), instruments=(spec, spec)))


def test_a_sound_venue_passes() -> None:
    validate(tiny())
    validate(small())


def test_parts_are_strict_about_their_fields() -> None:
    data = msgspec.to_builtins(tiny())
    data["colour"] = "red"
    with pytest.raises(msgspec.ValidationError, match="colour"):
        msgspec.convert(data, Venue)


def test_dollars_come_first_then_collateral_coins_in_listing_order() -> None:
    venue = small()
    assert venue.currencies() == ("USDC", "BTC", "ETH")
    assert [venue.coin_of(unit) for unit in range(2)] == [1, 2]
    assert tiny().currencies() == ("USDC",)
    assert tiny().coin_of(0) == -1


def test_a_tick_of_a_lot_is_a_whole_number_of_minor_units() -> None:
    """Half a dollar of 0.001 BTC."""
    assert tick_value_minor(tiny().instruments[0]) == 500


def test_notional_is_rounded_up() -> None:
    linear, inverse = contract("X", LINEAR, E8, E8 // 1000), contract("Y", INVERSE, E8, 10 * E8)
    assert lot_notional_minor(linear, 100_000 * E8) == 100 * 10**6
    assert lot_notional_minor(linear, 100_000 * E8 + 1) == 100 * 10**6 + 1
    assert lot_notional_minor(inverse, 1) == 10 * 10**6, "whatever the price"


def test_prices_end_at_the_underlying_s_highest() -> None:
    assert price_ticks_max(tiny(), tiny().instruments[0]) == 2_000_000
    fine = contract("X", LINEAR, 1, E8 * 100)
    assert price_ticks_max(tiny(), fine) == limits.PRICE_TICKS_MAX


def test_a_venue_may_bound_positions_below_what_is_exact() -> None:
    """50,000,000 dollars at 1,000,000 a bitcoin are 50 BTC, 50,000 lots."""
    venue = changed(tiny(), limits={"position_notional_minor": 50_000_000 * 10**6})
    assert position_lots_max(venue, venue.instruments[0]) == 50_000
