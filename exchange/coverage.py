"""What a margin preset covers over the time that closing out a defaulter takes.

The margin period of risk runs from the call to the last public auction. The preset's spot range,
measured in standard deviations of the underlying over that time, says how bold the venue is.
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

from exchange.core.venue import Venue, VenueError
from margin.fixed_point import RATE_SCALE
from margin.presets.preset import Preset

YEAR_NS = 365 * 86_400 * 10**9


class Coverage(NamedTuple):
    """One underlying: the preset's spot range, and how many standard deviations it is."""

    underlying: str
    spot_range: float
    volatility: float
    deviations: float


def horizon_ns(venue: Venue) -> int:
    """Margin period of risk: call deadline, private and expected public cycles, times interval."""
    return venue.horizon_ns()


def coverage(venue: Venue) -> list[Coverage]:
    """Per underlying: spot range / (opening volatility x square root of the horizon in years).

    Where ranges move, the least one counts. Where dates of the past charge, so does what they ask
    of one coin long, in place of the range.
    """
    years = horizon_ns(venue) / YEAR_NS
    rows = []
    for spec in venue.underlyings:
        spot_range = _covered(venue.preset, spec.risk_class)
        volatility = spec.opening_volatility_e9 / RATE_SCALE
        rows.append(
            Coverage(spec.name, spot_range, volatility, spot_range / (volatility * sqrt(years)))
        )
    return rows


def _covered(preset: Preset, risk_class: str) -> float:
    """What one coin long is charged at the least range, as a part of its price."""
    least_e9 = RATE_SCALE if preset.dynamic is None else preset.dynamic.least_e9
    range_e9 = preset.spot_range_e9(risk_class)
    if preset.history is None:
        return range_e9 / RATE_SCALE * (least_e9 / RATE_SCALE)
    from margin.forecasts.ranges import preset_at
    from margin.simulation.dates import covered_move_e9  # compiles what other venues do not need

    quiet = preset_at(preset, [risk_class], [-(-range_e9 * least_e9 // RATE_SCALE)])
    return covered_move_e9(quiet, risk_class) / RATE_SCALE


def coverage_lines(venue: Venue) -> list[str]:
    """The coverage in words, one line for the horizon and one for each underlying."""
    rules = venue.default
    cycles = venue.calls.deadline_cycles + rules.private_cycles + rules.public_cycles
    lines = [
        f"margin period of risk: {horizon_ns(venue) / 1e9:g} s = {cycles} cycles of "
        f"{venue.interval_ns / 1e9:g} s (call {venue.calls.deadline_cycles}, private "
        f"{rules.private_cycles}, public {rules.public_cycles})"
    ]
    lines += [
        f"{row.underlying}: spot range {row.spot_range:.0%} is {row.deviations:.1f} standard "
        f"deviations at {row.volatility:.0%} volatility"
        for row in coverage(venue)
    ]
    return lines


def slow_outside_lines(venue: Venue) -> list[str]:
    """One line for each outside venue whose money can never count at this venue."""
    period_ns = horizon_ns(venue)
    return [
        f"outside venue {outside.name}: its credit is always 0, for a transfer takes "
        f"{outside.transfer_delay_ns / 1e9:g} s and the margin period of risk is "
        f"{period_ns / 1e9:g} s"
        for outside in venue.outside_venues
        if outside.is_too_slow(period_ns)
    ]


def require_coverage(venue: Venue) -> None:
    """Raise `VenueError` where an underlying is covered less than the venue's own minimum.

    `default.allow_uncovered = true` in the venue file lets it pass.
    """
    if venue.default.allow_uncovered:
        return
    least = venue.default.coverage_min_ppb / RATE_SCALE
    for row in coverage(venue):
        if row.deviations < least:
            raise VenueError(
                f"venue {venue.name}: {row.underlying} is covered for {row.deviations:.2f} "
                f"standard deviations over the margin period of risk, less than coverage_min = "
                f"{least:g}; widen the preset, shorten the horizon or set allow_uncovered = true"
            )
