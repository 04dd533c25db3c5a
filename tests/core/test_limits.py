"""Every bound in one place, and the proof that 64-bit integers stay exact at all of them."""

from __future__ import annotations

import pytest

from exchange.core import limits
from exchange.core.venue import lot_notional_minor, position_lots_max, price_ticks_max
from exchange.venues import load_venue, venue_names
from margin.add_ons.concentration import MOST_SIZE_MINOR
from margin.scenarios.grid import loss_multiple, scenarios_of


def test_products_and_sums_at_the_bounds_stay_below_2_to_62() -> None:
    assert limits.SAFE == 2**62
    assert limits.PRICE_TICKS_MAX * limits.QUANTITY_LOTS_MAX < limits.SAFE
    assert (
        limits.POSITION_NOTIONAL_MINOR_MAX
        * limits.INSTRUMENTS_PER_UNIT_MAX
        * limits.SHOCK_MULTIPLE_MAX
        < limits.SAFE
    )
    assert limits.TRANSFER_MINOR_MAX * 2 <= limits.BALANCE_MINOR_MAX


def test_an_owner_s_pools_together_fit_what_a_concentration_measures() -> None:
    assert limits.OWNER_SIZE_MINOR_MAX == MOST_SIZE_MINOR
    rows = limits.WIDE_POOLS_PER_OWNER_MAX * limits.INSTRUMENTS_PER_UNIT_MAX
    rows += limits.ISOLATED_POOLS_PER_OWNER_MAX
    assert rows * limits.POSITION_NOTIONAL_MINOR_MAX <= MOST_SIZE_MINOR


def test_an_order_identifier_gives_back_its_contract() -> None:
    top = limits.INSTRUMENTS_MAX - 1
    for sequence in (1, limits.ORDER_SEQUENCE_MAX):
        assert limits.instrument_of(limits.order_id_of(top, sequence)) == top
    assert limits.order_id_of(top, limits.ORDER_SEQUENCE_MAX) < limits.SAFE


@pytest.mark.parametrize("name", venue_names())
def test_the_largest_position_of_every_contract_is_within_the_notional_bound(name: str) -> None:
    venue = load_venue(name)
    for spec in venue.instruments:
        top_e8 = venue.underlyings[spec.underlying].price_e8_max
        lots = position_lots_max(venue, spec)
        assert 0 < lots <= limits.QUANTITY_LOTS_MAX
        notional = lots * lot_notional_minor(spec, top_e8)
        assert notional <= venue.limits.position_notional_minor
        assert price_ticks_max(venue, spec) * spec.tick_e8 <= top_e8


@pytest.mark.parametrize("name", venue_names())
def test_no_scenario_multiplies_a_position_by_more_than_the_bound(name: str) -> None:
    venue = load_venue(name)
    for underlying in venue.underlyings:
        multiple = loss_multiple(scenarios_of(venue.preset, underlying.risk_class))
        assert 0 < multiple <= limits.SHOCK_MULTIPLE_MAX
