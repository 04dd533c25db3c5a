"""Which venues a model can charge: refused when the venue is read, in words."""

from __future__ import annotations

import msgspec
import pytest

from exchange.core.commands import decode_command, encode_command
from exchange.core.risk.models import require_models
from exchange.core.venue import Venue, VenueError, validate
from exchange.coverage import coverage
from exchange.venues import load_venue, resolved
from margin.models.venue_models import venue_model, venue_model_names, with_floor
from margin.presets import PresetError, load_preset
from tests.core.market import Market, changed, contract, small, underlying


def test_a_venue_file_names_its_model() -> None:
    for name in ("standard", "fhs-es", "ps-1-dynamic+floor"):
        assert load_venue("demo", preset=name).preset == venue_model(name)
    with pytest.raises(VenueError, match=r"no preset 'ps-2'; there are .*fhs-es.*standard"):
        load_venue("demo", preset="ps-2")


def test_the_floor_of_a_forecast_is_a_setting() -> None:
    plain, floor = venue_model("ps-1-dynamic"), venue_model("ps-1-dynamic+floor")
    assert plain == load_preset("ps-1-dynamic")
    assert floor.predictive is not None
    assert floor.predictive.floor
    assert with_floor(floor, False) == plain
    assert "ps-1+floor" not in venue_model_names()
    with pytest.raises(PresetError, match="ps-1: forecasts nothing"):
        venue_model("ps-1+floor")


@pytest.mark.parametrize("name", ["standard", "fhs-es"])
def test_the_model_is_in_the_first_record_of_the_journal(name: str) -> None:
    """A replay needs no file: constants and dates travel with Genesis."""
    genesis = Market(small(preset=venue_model(name)), opened=False).log[0]
    kind, data = encode_command(genesis)
    again = decode_command(kind, data)
    assert again == genesis
    venue: Venue = again.venue
    assert venue.preset == venue_model(name)


def test_lots_too_large_for_charges_by_the_lot_are_refused() -> None:
    venue = small(preset=venue_model("standard"))
    large = contract("BTC_USDC-PERPETUAL", venue.instruments[0].kind, 5 * 10**7, 10**8)
    wide = msgspec.structs.replace(venue, instruments=(large, *venue.instruments[1:]))
    with pytest.raises(VenueError, match="BTC_USDC-PERPETUAL: one lot is too large for standard"):
        validate(wide)
    validate(msgspec.structs.replace(wide, preset=load_preset("ps-1")))


def test_dates_are_summed_over_all_underlyings_whose_number_is_bounded() -> None:
    many = tuple(underlying(f"C{n}", 100) for n in range(6))
    venue = changed(small(preset=venue_model("fhs-es")), underlyings=many, instruments=())
    with pytest.raises(VenueError, match=r"preset fhs-es: .*6 underlyings"):
        require_models(venue)
    require_models(msgspec.structs.replace(venue, preset=load_preset("ps-1")))


def test_coverage_is_judged_by_what_the_model_asks_of_one_coin() -> None:
    """By rules 10 %; by dates the mean of the worst 2.5 % of them at the least range.

    There the stressed dates are the worst, of 4.71 % a deviation.
    """
    assert coverage(load_venue("demo", preset="standard"))[0].spot_range == pytest.approx(0.10)
    covered = coverage(load_venue("demo", preset="fhs-es"))[0].spot_range
    assert 2 * 0.0471 < covered < 4 * 0.0471
    venue = load_venue("demo", preset="fhs-es")
    thin = msgspec.structs.replace(
        venue, default=msgspec.structs.replace(venue.default, coverage_min_ppb=500 * 10**9)
    )
    with pytest.raises(VenueError, match="is covered for"):
        resolved(thin)
