"""Which contracts ought to be listed at a time and an index: the venue's listing rules, applied.

Expiries fall at 08:00 UTC on a grid of days anchored at a Friday; strikes are multiples of a step
around the index. Names follow Deribit's: `BTC-PERPETUAL` is inverse, `BTC_USDC-PERPETUAL` linear,
`BTC_USDC-17OCT25-110000-C` a linear call, `BTC-17OCT25-110000-C` an inverse one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from exchange.core.commands import ListInstruments
from exchange.core.stored.state import State
from exchange.core.venue import InstrumentSpec, ListingSpec, Venue
from margin.fixed_point import NS_PER_DAY
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
)

EXPIRY_OF_DAY_NS = 8 * 3600 * 10**9
FRIDAY_NS = NS_PER_DAY  # 2 January 1970, the first Friday of the epoch
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def expiry_name(expiry_ns: int) -> str:
    """An expiry as it stands in contract names, such as 3OCT25."""
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=expiry_ns // 10**9)
    return f"{day.day}{MONTHS[day.month - 1]}{day.year % 100:02d}"


def expiries_after(time_ns: int, every_days: int, count: int) -> list[int]:
    """The next `count` expiries strictly after `time_ns` on a grid of `every_days` days."""
    step = every_days * NS_PER_DAY
    anchor = FRIDAY_NS + EXPIRY_OF_DAY_NS
    first = anchor + ((time_ns - anchor) // step + 1) * step
    return [first + k * step for k in range(count)]


def decimal_name(price_e8: int) -> str:
    """A strike in contract names: whole numbers bare, fractions with d for the point."""
    whole, part = divmod(price_e8, 10**8)
    return str(whole) if part == 0 else f"{whole}d{f'{part:08d}'.rstrip('0')}"


def _futures(venue: Venue, rule: ListingSpec, time_ns: int) -> list[InstrumentSpec]:
    name = venue.underlyings[rule.underlying].name
    forms = [
        (f"{name}_USDC", LINEAR, rule.tick_e8, rule.lot_e8),
        (name, INVERSE, rule.inverse_tick_e8, rule.inverse_lot_e8),
    ]
    dated = sorted(
        {
            expiry
            for expiries in rule.expiries
            if expiries.kind == "future"
            for expiry in expiries_after(time_ns, expiries.every_days, expiries.count)
        }
    )
    specs = []
    for base, kind, tick_e8, lot_e8 in forms:
        if lot_e8 == 0:
            continue
        specs.append(
            InstrumentSpec(
                name=f"{base}-PERPETUAL",
                kind=kind,
                underlying=rule.underlying,
                tick_e8=tick_e8,
                lot_e8=lot_e8,
            )
        )
        specs += [
            InstrumentSpec(
                name=f"{base}-{expiry_name(expiry)}",
                kind=kind,
                underlying=rule.underlying,
                tick_e8=tick_e8,
                lot_e8=lot_e8,
                expiry_ns=expiry,
            )
            for expiry in dated
        ]
    return specs


def _options(venue: Venue, rule: ListingSpec, index_e8: int, time_ns: int) -> list[InstrumentSpec]:
    name = venue.underlyings[rule.underlying].name
    centre = (2 * index_e8 + rule.strike_step_e8) // (2 * rule.strike_step_e8)
    strikes = [
        k * rule.strike_step_e8
        for k in range(centre - rule.strikes_each_side, centre + rule.strikes_each_side + 1)
        if k > 0
    ]
    expiries = sorted(
        {
            expiry
            for wanted in rule.expiries
            if wanted.kind == "option"
            for expiry in expiries_after(time_ns, wanted.every_days, wanted.count)
        }
    )
    linear = (("C", LINEAR_CALL), ("P", LINEAR_PUT))
    inverse = (("C", INVERSE_CALL), ("P", INVERSE_PUT))
    forms = [
        (f"{name}_USDC", linear, rule.option_tick_e8, rule.option_lot_e8),
        (name, inverse, rule.inverse_option_tick_e8, rule.inverse_option_lot_e8),
    ]
    return [
        InstrumentSpec(
            name=f"{base}-{expiry_name(expiry)}-{decimal_name(strike)}-{letter}",
            kind=kind,
            underlying=rule.underlying,
            tick_e8=tick_e8,
            lot_e8=lot_e8,
            expiry_ns=expiry,
            strike_e8=strike,
        )
        for base, kinds, tick_e8, lot_e8 in forms
        if lot_e8 > 0
        for expiry in expiries
        for strike in strikes
        for letter, kind in kinds
    ]


def contracts_due(venue: Venue, index_e8: list[int], time_ns: int) -> list[InstrumentSpec]:
    """Every contract that the venue's rules list at these indices (one a underlying) and time."""
    specs = []
    for rule in venue.listings:
        specs += _futures(venue, rule, time_ns)
        specs += _options(venue, rule, index_e8[rule.underlying], time_ns)
    return specs


def due_listing(state: State, time_ns: int) -> ListInstruments | None:
    """The command that lists what is due and not there yet, or None.

    A contract of an expiry that is listed already is added only for a new strike range; nothing
    is listed for an expiry less than one interval away.
    """
    due = contracts_due(state.venue, state.marks.index_e8.tolist(), time_ns)
    soonest = time_ns + state.venue.interval_ns
    fresh = tuple(
        spec
        for spec in due
        if spec.name not in state.contracts.slot_of and spec.expiry_ns > soonest
    )
    return ListInstruments(time_ns, fresh) if fresh else None
