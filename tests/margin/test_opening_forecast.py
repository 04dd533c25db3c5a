"""What a model forecasts that has seen no market: the ranges of its file, and where they go."""

from __future__ import annotations

import msgspec
import pytest

from margin.forecasts.opening import opening_growth_ppb, usual_volatilities_e9
from margin.forecasts.ranges import opening, range_terms
from margin.models.venue_models import venue_model
from margin.presets.dynamic_sections import GarchRule
from margin.presets.preset import NamedRate, Preset

PPB = 10**9
MINUTE_NS = 60 * PPB
CLASSES = ("BTC", "ETH", "SOL")


def returning(long_run: float) -> Preset:
    """ps-1-dynamic+floor with a GARCH whose variance returns to a long run within minutes."""
    preset = venue_model("ps-1-dynamic+floor")
    assert preset.dynamic is not None
    table = (NamedRate(name="default", rate_e9=round(long_run * PPB)),)
    garch = GarchRule(long_run=table, alpha_ppb=5 * 10**7, beta_ppb=85 * 10**7)
    section = msgspec.structs.replace(preset.dynamic, ewma=None, garch=garch)
    return msgspec.structs.replace(preset, dynamic=section)


def test_the_opening_state_stands_at_the_ranges_of_the_file() -> None:
    """At the volatilities that give 16 %, 18 % and more with tools; a step lower below them."""
    terms = range_terms(venue_model("ps-1-dynamic"), CLASSES)
    usual = usual_volatilities_e9(terms)
    assert [e9 / PPB for e9 in usual] == pytest.approx([0.587, 0.623, 1.001], abs=0.001)
    assert (opening(terms, usual).range_e9 >= terms.static_e9).all()
    lower = opening(terms, [e9 - 1 for e9 in usual]).range_e9
    assert (lower < terms.static_e9).all()


def test_a_forecast_that_nothing_changes_charges_nothing_and_one_of_a_rise_does() -> None:
    def growth(preset: Preset) -> int:
        return opening_growth_ppb(preset, CLASSES, 0, MINUTE_NS)

    assert growth(venue_model("ps-1-dynamic")) == PPB, "no floor"
    assert growth(venue_model("ps-1-dynamic+floor")) == PPB, "an EWMA stays"
    assert growth(returning(0.2)) == PPB, "a fall is no floor"
    assert PPB < growth(returning(2.0)) <= 2 * PPB


def test_classes_may_repeat_and_stand_in_any_order() -> None:
    preset = returning(2.0)
    found = {opening_growth_ppb(preset, classes, 0, MINUTE_NS)
             for classes in (CLASSES, CLASSES[::-1], ("SOL", *CLASSES, "SOL"))}  # fmt: skip
    assert len(found) == 1
