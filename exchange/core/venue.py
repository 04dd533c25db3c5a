"""The venue as data: what is listed, how it trades, what it costs, how risk is measured.

A `Venue` is fully resolved: integers only, no file behind it. It is the payload of the first
journal record, so that a replay reads the journal and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from exchange.core import limits
from exchange.core.outside_venue import OutsideVenue, outside_problem
from exchange.core.venue_ranges import INTERVAL_NS_MAX, range_problem, section_problem
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
)
from margin.presets.preset import Preset

USDC = 0
FUTURE_KINDS = (LINEAR, INVERSE)
INVERSE_OPTION_KINDS = (INVERSE_CALL, INVERSE_PUT)
OPTION_KINDS = (LINEAR_CALL, LINEAR_PUT, *INVERSE_OPTION_KINDS)
CALL_KINDS = (LINEAR_CALL, INVERSE_CALL)
# What these gain and lose, premium and payoff included, is the coin of their underlying.
COIN_KINDS = (INVERSE, *INVERSE_OPTION_KINDS)
# tick x lot, and price x lot, are 10^-16 USDC: this many of them make 10^-6 USDC.
E16_PER_MINOR = 10**10
# A lot of an inverse future is 10^-8 USD: this many of them make 10^-6.
E8_PER_MINOR = 10**2
# Tick x lot of an inverse option is 10^-16 coin: this many of them make 10^-8.
E16_PER_COIN_MINOR = 10**8


class VenueError(ValueError):
    """The venue contradicts itself or a bound of the engine."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a venue: immutable, and strict about its fields."""


class UnderlyingSpec(Part, frozen=True):
    """One underlying: a risk unit, and a collateral currency of its own if `is_collateral`.

    `daily_volume_minor`: an average day's volume in minor USDC, against which the size of a
    position is judged; 0 where it is not known, and then no size is too large.
    """

    name: str
    risk_class: str
    is_collateral: bool
    price_e8_max: int
    opening_index_e8: int
    opening_volatility_e9: int
    daily_volume_minor: int = 0


class InstrumentSpec(Part, frozen=True):
    """One contract. `lot_e8` is coin per lot (linear, option) or USD per lot (inverse future).

    Prices are USD or USDC per coin; those of an inverse option are its premium in coin per coin.
    """

    name: str
    kind: int
    underlying: int
    tick_e8: int
    lot_e8: int
    expiry_ns: int = NEVER_NS
    strike_e8: int = 0


class ExpiryRule(Part, frozen=True):
    """Which expiries of a kind are listed: the next `count` on a grid of `every_days` days."""

    kind: str  # "future" or "option"
    every_days: int
    count: int


class ListingSpec(Part, frozen=True, omit_defaults=True):
    """How contracts of one underlying are listed as time and price move."""

    underlying: int
    tick_e8: int
    lot_e8: int
    inverse_tick_e8: int
    inverse_lot_e8: int
    option_tick_e8: int
    option_lot_e8: int
    strike_step_e8: int
    strikes_each_side: int
    expiries: tuple[ExpiryRule, ...]
    inverse_option_tick_e8: int = 0
    inverse_option_lot_e8: int = 0


class CollarSpec(Part, frozen=True):
    """Band around the reference; `band_ppb` 0 means no collar."""

    band_ppb: int
    floor_ticks: int
    widen_ppb: int
    extensions: int


class FeeSpec(Part, frozen=True):
    """Fees on the traded value; an option pays at most `option_cap_ppb` of its premium."""

    future_ppb: int
    option_ppb: int
    option_cap_ppb: int
    liquidation_ppb: int


class FundingSpec(Part, frozen=True):
    """The perpetual's funding rate: dead band and cap on the premium, for one period."""

    dead_band_ppb: int
    cap_ppb: int
    period_ns: int


class IndexSpec(Part, frozen=True):
    """When an index counts as stale, and when as dead; what staleness adds to initial margin."""

    stale_after_ns: int
    dead_after_ns: int
    stale_initial_extra_ppb: int
    settlement_window_ns: int


class CallSpec(Part, frozen=True):
    """Margin calls: cycles until a call expires."""

    deadline_cycles: int


class DefaultSpec(Part, frozen=True):
    """Liquidation and waterfall parameters; sources in margin/README.md."""

    private_cycles: int
    public_cycles: int
    buffer_ppb: int
    large_notional_minor: int
    large_first_fraction_ppb: int
    spread_factor_ppb: int
    takeover_fee_ppb: int
    unwind_fraction_ppb: int
    unwind_spread_ppb: int
    fund_minor: int
    venue_capital_minor: int
    coverage_min_ppb: int
    allow_uncovered: bool


class LimitSpec(Part, frozen=True):
    """Bounds of the venue's own, inside those of `limits`."""

    position_notional_minor: int = limits.POSITION_NOTIONAL_MINOR_MAX


class AccountClass(Part, frozen=True):
    """A kind of account, charged by a margin model of its own."""

    name: str
    preset: Preset


class Venue(Part, frozen=True):
    """Everything that defines a market before its first order.

    `preset` is the margin model of accounts without a class and of the house.
    """

    name: str
    interval_ns: int
    opening_time_ns: int
    disclosure: str
    risk_gate: bool
    underlyings: tuple[UnderlyingSpec, ...]
    instruments: tuple[InstrumentSpec, ...]
    listings: tuple[ListingSpec, ...]
    collar: CollarSpec
    fees: FeeSpec
    funding: FundingSpec
    index: IndexSpec
    calls: CallSpec
    default: DefaultSpec
    preset: Preset
    client_order_id_cycles: int
    limits: LimitSpec = LimitSpec()
    account_classes: tuple[AccountClass, ...] = ()
    outside_venues: tuple[OutsideVenue, ...] = ()

    def horizon_ns(self) -> int:
        """Margin period of risk: call deadline, private and public cycles, times interval."""
        rules = self.default
        cycles = self.calls.deadline_cycles + rules.private_cycles + rules.public_cycles
        return cycles * self.interval_ns

    def outside_number(self, name: str) -> int:
        """Number of an outside venue by name, or -1."""
        names = [outside.name for outside in self.outside_venues]
        return names.index(name) if name in names else -1

    def presets(self) -> tuple[Preset, ...]:
        """The margin models in use: the venue's own, then each account class's."""
        return (self.preset, *(kind.preset for kind in self.account_classes))

    def model_of(self, account_class: str) -> int:
        """Number in `presets` of an account class's model ("": the venue's); -1 if unknown."""
        names = ["", *(kind.name for kind in self.account_classes)]
        return names.index(account_class) if account_class in names else -1

    def currencies(self) -> tuple[str, ...]:
        """Names of the currencies, USDC first, then each collateral coin in listing order."""
        return ("USDC", *(u.name for u in self.underlyings if u.is_collateral))

    def coin_of(self, underlying: int) -> int:
        """Currency number of an underlying's coin, or -1 where it is no collateral."""
        if not self.underlyings[underlying].is_collateral:
            return -1
        return self.currencies().index(self.underlyings[underlying].name)

    def settlement_currency(self, spec: InstrumentSpec) -> int:
        """Currency number in which a contract pays variation margin and premium."""
        return self.coin_of(spec.underlying) if spec.kind in COIN_KINDS else USDC


def tick_value_minor(spec: InstrumentSpec) -> int:
    """Value of one tick of one lot of a linear contract or linear option, in minor USDC."""
    return spec.tick_e8 * spec.lot_e8 // E16_PER_MINOR


def lot_notional_minor(spec: InstrumentSpec, price_e8: int) -> int:
    """Notional of one lot in minor USDC at `price_e8` (of the underlying), rounded up."""
    if spec.kind == INVERSE:
        return -(-spec.lot_e8 // E8_PER_MINOR)
    return -(-spec.lot_e8 * price_e8 // E16_PER_MINOR)


def price_ticks_max(venue: Venue, spec: InstrumentSpec) -> int:
    """Highest price an order may have, in ticks.

    The premium of an inverse option is bounded by what it can pay, a number of coins.
    """
    if spec.kind in INVERSE_OPTION_KINDS:
        return min(limits.PRICE_TICKS_MAX, limits.PREMIUM_E8_MAX // spec.tick_e8)
    return min(
        limits.PRICE_TICKS_MAX, venue.underlyings[spec.underlying].price_e8_max // spec.tick_e8
    )


def position_lots_max(venue: Venue, spec: InstrumentSpec) -> int:
    """Largest position one pool may hold, valued at the underlying's highest price.

    The bound keeps scenario sums exact; a venue may set it lower. What inverse options can pay is
    bounded in coin, too.
    """
    top = lot_notional_minor(spec, venue.underlyings[spec.underlying].price_e8_max)
    most = min(limits.QUANTITY_LOTS_MAX, venue.limits.position_notional_minor // top)
    if spec.kind in INVERSE_OPTION_KINDS:
        most = min(most, limits.POSITION_COIN_MINOR_MAX // highest_payoff_minor(spec))
    return most


def highest_payoff_minor(spec: InstrumentSpec) -> int:
    """The most that one lot of an inverse option can pay, in minor units of its coin."""
    return spec.lot_e8 * (limits.PREMIUM_E8_MAX // 10**8)


def require(condition: bool, message: str) -> None:
    """Raise `VenueError(message)` unless `condition` holds."""
    if not condition:
        raise VenueError(message)


def validate_instrument(venue: Venue, spec: InstrumentSpec) -> None:
    """Raise `VenueError` where a contract breaks a bound or cannot be exact in integers."""
    at = f"instrument {spec.name}"
    require(0 <= spec.underlying < len(venue.underlyings), f"{at}: unknown underlying")
    require(spec.kind in FUTURE_KINDS + OPTION_KINDS, f"{at}: unknown kind {spec.kind}")
    require(spec.tick_e8 > 0 and spec.lot_e8 > 0, f"{at}: tick and lot must be positive")
    price_max = venue.underlyings[spec.underlying].price_e8_max
    top = limits.PREMIUM_E8_MAX if spec.kind in INVERSE_OPTION_KINDS else price_max
    require(spec.tick_e8 <= top, f"{at}: its tick is above the highest price")
    if spec.kind in COIN_KINDS:
        require(venue.coin_of(spec.underlying) > 0, f"{at}: inverse, but its coin is no collateral")
    exact, unit = spec.tick_e8 * spec.lot_e8 % E16_PER_MINOR == 0, "10^-6 USDC"
    if spec.kind == INVERSE:
        exact = spec.lot_e8 % E8_PER_MINOR == 0
    elif spec.kind in INVERSE_OPTION_KINDS:
        exact = spec.tick_e8 * spec.lot_e8 % E16_PER_COIN_MINOR == 0
        unit = f"10^-8 {venue.underlyings[spec.underlying].name}"
        largest = limits.PAYOFF_MINOR_MAX
        require(highest_payoff_minor(spec) <= largest, f"{at}: one lot can pay too many coins")
    require(exact, f"{at}: one tick of one lot must be a whole number of minor units ({unit})")
    require(position_lots_max(venue, spec) > 0, f"{at}: one lot exceeds the largest position")
    if any(preset.standard is not None for preset in venue.presets()):
        small = lot_notional_minor(spec, price_max) < limits.RULED_LOT_MINOR_MAX
        require(small, f"{at}: one lot is too large for standard margin")
    if spec.kind in OPTION_KINDS:
        require(0 < spec.strike_e8 <= price_max, f"{at}: its strike is out of bounds")
        require(spec.expiry_ns < NEVER_NS, f"{at}: an option needs an expiry")
    else:
        require(spec.strike_e8 == 0, f"{at}: only an option has a strike")


def validate_together(venue: Venue, specs: Sequence[InstrumentSpec]) -> None:
    """Raise `VenueError` where contracts that trade together break a bound or do not fit.

    Options of one strike must share a lot, since their naked shorts are counted in lots.
    """
    lot_of: dict[tuple[int, int, int], int] = {}
    for spec in specs:
        if spec.kind in OPTION_KINDS:
            strike = (spec.underlying, spec.expiry_ns, spec.strike_e8)
            same = lot_of.setdefault(strike, spec.lot_e8) == spec.lot_e8
            require(same, f"instrument {spec.name}: options of one strike must share a lot")
    for number, underlying in enumerate(venue.underlyings):
        count = sum(spec.underlying == number for spec in specs)
        most = limits.INSTRUMENTS_PER_UNIT_MAX
        require(count <= most, f"underlying {underlying.name}: more than {most} contracts")


def validate(venue: Venue) -> None:
    """Raise `VenueError` naming the first thing that contradicts itself or a bound."""
    validate_times(venue)
    require(len(venue.underlyings) > 0, "at least one underlying is needed")
    _require_section("limits", venue.limits)
    _validate_underlyings(venue)
    _validate_accounts(venue)
    _validate_contracts(venue)
    _validate_rules(venue)


def validate_times(venue: Venue) -> None:
    """Raise `VenueError` where interval or opening leave no room for a calendar of expiries."""
    _require_range("venue", "interval_ns", venue.interval_ns, 1, INTERVAL_NS_MAX)
    require(
        0 <= venue.opening_time_ns < limits.SAFE,
        "venue.opening must be between the years 1970 and 2116",
    )


def _require_range(where: str, field: str, value: int, least: int, most: int) -> None:
    problem = range_problem(where, field, value, least, most)
    require(not problem, problem)


def _require_section(where: str, section: Part) -> None:
    problem = section_problem(where, section)
    require(not problem, problem)


def _validate_underlyings(venue: Venue) -> None:
    names = [u.name for u in venue.underlyings]
    require(len(set(names)) == len(names), "underlyings must have different names")
    for u in venue.underlyings:
        for field, least, most in (
            ("price_e8_max", 1, limits.INDEX_E8_MAX),
            ("daily_volume_minor", 0, limits.DAILY_VOLUME_MINOR_MAX),
            ("opening_index_e8", 1, u.price_e8_max),
            ("opening_volatility_e9", 1, limits.VOLATILITY_E9_MAX),
        ):
            _require_range(f"underlying {u.name}", field, getattr(u, field), least, most)


def _validate_accounts(venue: Venue) -> None:
    classes = [kind.name for kind in venue.account_classes]
    require(all(classes), "an account class needs a name")
    require(len(set(classes)) == len(classes), "account classes must have different names")
    problem = outside_problem(venue.outside_venues)
    require(not problem, problem)


def _validate_contracts(venue: Venue) -> None:
    listed = [i.name for i in venue.instruments]
    require(len(set(listed)) == len(listed), "instruments must have different names")
    for spec in venue.instruments:
        validate_instrument(venue, spec)
    validate_together(venue, venue.instruments)


def _validate_rules(venue: Venue) -> None:
    require(venue.disclosure in ("opaque", "outstanding"), "disclosure is opaque or outstanding")
    _require_section("collar", venue.collar)
    _require_section("calls", venue.calls)
    _require_section("funding", venue.funding)
    _require_section("index", venue.index)
    require(
        venue.index.dead_after_ns >= venue.index.stale_after_ns,
        "index.dead_after_s must be at least stale_after_s: an index is stale before it is dead",
    )
    _require_range(
        "venue", "client_order_id_cycles", venue.client_order_id_cycles, 1, limits.BATCHES_MAX
    )
    _require_section("fees", venue.fees)
    _require_section("default", venue.default)
