"""The sections of a margin model's file as structures of integers, each with its own checks.

Fractions are x 10^9 (`_e9`, `_ppb`). `margin.presets.preset.Preset` puts the sections together.
"""

from __future__ import annotations

from typing import Final

import msgspec

from margin.fixed_point import RATE_SCALE

DEFAULT_NAME: Final = "default"

DOWN: Final = "down"
UNCHANGED: Final = "unchanged"
UP: Final = "up"
LINEAR_SKEW: Final = "linear"
ABSOLUTE_SKEW: Final = "absolute"
MOVES_OF_VOLATILITY: Final = (DOWN, UNCHANGED, UP)
SKEWS: Final = (LINEAR_SKEW, ABSOLUTE_SKEW)
USD: Final = "usd"
COIN: Final = "coin"

LEAST_DAMPED_RANGE_E9: Final = RATE_SCALE // 100
"""Least spot range beside a dampener, which divides by it."""

_MOST_MOVE_E9: Final = 10 * RATE_SCALE
_MOST_DAYS: Final = 36_500


def require(condition: bool, key: str, rule: str) -> None:
    """`ValueError` that names the key and the rule it breaks, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{key}: {rule}")


def _between(value: int, low: int, high: int, key: str) -> None:
    """`low` and `high` are whole numbers, `value` is x 10^9."""
    inside = low * RATE_SCALE <= value <= high * RATE_SCALE
    require(inside, key, f"must lie in {low} .. {high}")


class NamedRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a table by coin: `name` is the coin, or "default" for all others."""

    name: str
    rate_e9: int


def rate_of(table: tuple[NamedRate, ...], name: str) -> int:
    """The rate (x 10^9) of `name` in a table, or of "default"; `KeyError` if neither is there."""
    rates = {row.name: row.rate_e9 for row in table}
    return rates[name] if name in rates else rates[DEFAULT_NAME]


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Regular scenarios: `fraction_e9` of the spot range, each with the volatilities named."""

    fraction_e9: tuple[int, ...]
    volatility: tuple[str, ...] = MOVES_OF_VOLATILITY

    def __post_init__(self) -> None:
        require(0 in self.fraction_e9, "grid.fraction", "must hold 0")
        within = all(-RATE_SCALE <= fraction <= RATE_SCALE for fraction in self.fraction_e9)
        require(within, "grid.fraction", "must lie in -1 .. 1")
        known = all(side in MOVES_OF_VOLATILITY for side in self.volatility)
        require(known and self.volatility != (), "grid.volatility", "down, unchanged or up")


class Tails(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Extreme spot moves on raised volatility; weight of a move = weight x range / |move|."""

    move_e9: tuple[int, ...]
    weight_e9: int

    def __post_init__(self) -> None:
        possible = all(-RATE_SCALE < move <= _MOST_MOVE_E9 and move != 0 for move in self.move_e9)
        require(possible, "tails.move", "must be above -1, at most 10, and not 0")
        require(0 <= self.weight_e9 <= RATE_SCALE, "tails.weight", "must lie in 0 .. 1")


class Extremes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Far moves in multiples of the spot range, volatility unchanged, at one weight (SPAN)."""

    multiple_e9: tuple[int, ...]
    weight_e9: int

    def __post_init__(self) -> None:
        require(self.multiple_e9 != (), "extremes.multiple", "must not be empty")
        for multiple in self.multiple_e9:
            _between(multiple, -10, 10, "extremes.multiple")
        _between(self.weight_e9, 0, 1, "extremes.weight")


class ListedScenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One scenario written out: relative spot move, what volatility does, weight.

    `volatility` is down, unchanged or up, or a skew (linear, absolute), which leaves spot alone.
    """

    move_e9: int
    volatility: str
    weight_e9: int

    def __post_init__(self) -> None:
        known = self.volatility in MOVES_OF_VOLATILITY + SKEWS
        names = ", ".join(MOVES_OF_VOLATILITY + SKEWS)
        require(known, "scenario.volatility", f"must be one of {names}")
        possible = -RATE_SCALE < self.move_e9 <= _MOST_MOVE_E9
        require(possible, "scenario.move", "must lie above -1 and within 10")
        unmoved = self.volatility not in SKEWS or self.move_e9 == 0
        require(unmoved, "scenario.move", "must be 0 in a skew scenario")
        _between(self.weight_e9, 0, 10, "scenario.weight")


class VolatilityShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Relative volatility moves at `reference_days`, scaled by (reference_days / days)^power.

    The short power holds up to the reference tenor, the long one beyond; days are floored at
    `floor_days`; raised volatility is at least `least_up_e9`. `up_of`: coins whose move up is not
    `up_e9`.
    """

    up_e9: int
    down_e9: int
    reference_days: int
    floor_days_e9: int
    short_power_e9: int
    long_power_e9: int
    least_up_e9: int
    up_of: tuple[NamedRate, ...] = ()

    def __post_init__(self) -> None:
        require(0 <= self.up_e9 <= 10 * RATE_SCALE, "volatility.up", "must lie in 0 .. 10")
        for row in self.up_of:
            inside = 0 <= row.rate_e9 <= 10 * RATE_SCALE
            require(inside, f"volatility.up_of.{row.name}", "must lie in 0 .. 10")
        _between(self.down_e9, 0, 10, "volatility.down")
        inside = 1 <= self.reference_days <= _MOST_DAYS
        require(inside, "volatility.reference_days", f"must lie in 1 .. {_MOST_DAYS}")
        inside = 0 < self.floor_days_e9 <= _MOST_DAYS * RATE_SCALE
        require(inside, "volatility.floor_days", f"must be above 0, at most {_MOST_DAYS}")
        for power in (self.short_power_e9, self.long_power_e9):
            _between(power, 0, 10, "volatility power")
        require(
            0 <= self.least_up_e9 <= 10 * RATE_SCALE, "volatility.least_up", "must lie in 0 .. 10"
        )

    def up_e9_of(self, coin: str) -> int:
        """The move up of a coin's options."""
        return {row.name: row.rate_e9 for row in self.up_of}.get(coin, self.up_e9)


class Skew(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rotation of the smile: volatility x max(0, 1 + clamp(k cap / k*, +-cap)), k = ln(K / F).

    k is signed in the linear scenario and absolute in the other, each with its own
    cap + cap_per_root_year x sqrt(years);
    k* = max(least_reach, sqrt(years) x width x (volatility + volatility_per_root_year x
    sqrt(years))). Source: Derive PMRM 2.
    """

    linear_cap_e9: int
    linear_cap_per_root_year_e9: int
    absolute_cap_e9: int
    absolute_cap_per_root_year_e9: int
    least_reach_e9: int
    width_e9: int
    volatility_e9: int
    volatility_per_root_year_e9: int

    def __post_init__(self) -> None:
        require(self.least_reach_e9 > 0, "skew.least_reach", "must be above 0")
        for key in self.__struct_fields__:
            name = key.removesuffix("_e9")
            _between(getattr(self, key), -100, 100, f"skew.{name}")


class StaticDiscount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Factors on the shocked net value of an expiry's options, by its sign.

    Positive: long_base x exp(-years (rate x long_rate_share + long_add)). Negative:
    min(1 / discount factor, short_base x exp(years (rate x short_rate_share + short_add))).
    Source: Derive PMRM 2.
    """

    long_base_e9: int
    long_rate_share_e9: int
    long_add_e9: int
    short_base_e9: int
    short_rate_share_e9: int
    short_add_e9: int

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            name = key.removesuffix("_e9")
            _between(getattr(self, key), 0, 10, f"discount.{name}")


class Basis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every expiry's own worse of two forward moves, volatility unchanged; gains do not count.

    Weight add + per_year x years, at most so much that a future loses its whole value. The sum
    over expiries is one more candidate for the worst loss. Source: Derive PMRM 2.
    """

    down_e9: int
    up_e9: int
    add_e9: int
    per_year_e9: int

    def __post_init__(self) -> None:
        possible = -RATE_SCALE < self.down_e9 < 0 < self.up_e9 <= _MOST_MOVE_E9
        require(possible, "basis", "needs -1 < down < 0 < up <= 10")
        for key in ("add_e9", "per_year_e9"):
            _between(getattr(self, key), 0, 100, f"basis.{key.removesuffix('_e9')}")


class Averaging(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Length of the window before expiry whose mean settles: what is fixed is not shocked.

    With `scales_profit` an option's whole profit and loss shrinks with the time left (Paradex);
    otherwise only the open part of the forward moves (Derive).
    """

    window_s: int
    scales_profit: bool = False

    def __post_init__(self) -> None:
        require(0 < self.window_s <= 86_400, "averaging.window_s", "must lie in 1 .. 86400")


class Roll(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Charge on |delta| of every instrument: max(least, exp(annual x years) - 1) of its notional.

    Part of the worst loss: the factors apply. Tables by coin. Source: Deribit's roll shock.
    """

    least: tuple[NamedRate, ...]
    annual: tuple[NamedRate, ...]

    def __post_init__(self) -> None:
        check_table("roll.least", self.least)
        check_table("roll.annual", self.annual)


class Dampener(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD by which a unit's loss in a tail is forgiven, per range by which the tail exceeds one.

    (|move| / range - 1) x amount / (1 +- range). Source: Deribit's extended dampener.
    """

    amount: tuple[NamedRate, ...]

    def __post_init__(self) -> None:
        check_names("dampener.amount", self.amount)
        for row in self.amount:
            _between(row.rate_e9, 0, 10**9, "dampener.amount")


class DeltaFloor(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Least worst loss of a unit: parts of the deltas that hedge each other and of the rest.

    Source: Paradex's delta minimum.
    """

    hedged_ppb: int
    unhedged_ppb: int

    def __post_init__(self) -> None:
        within = 0 <= self.hedged_ppb <= 2 * self.unhedged_ppb <= 2 * RATE_SCALE
        require(within, "delta_floor", "needs 0 <= hedged <= 2 x unhedged <= 2")


class DeltaShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rate on a net delta beyond `threshold_usd`: `per_coin` more for each coin, at most `most`.

    Source: Deribit's delta liquidity, whose form is second-hand. A table by coin.
    """

    threshold_usd: int
    per_coin: tuple[NamedRate, ...]
    most_ppb: int

    def __post_init__(self) -> None:
        require(
            0 <= self.threshold_usd <= 10**12, "pair.delta_shock.threshold_usd",
            "must lie in 0 .. 1,000,000,000,000",
        )  # fmt: skip
        check_table("pair.delta_shock.per_coin", self.per_coin)
        _between(self.most_ppb, 0, 1, "pair.delta_shock.most")


class Pair(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a unit's risk vector would count towards others (Deribit): told, charged nowhere.

    `offset`: the part of a gain in a cell that may offset what other units lose there.
    """

    offset_ppb: int
    delta_shock: DeltaShock | None = None

    def __post_init__(self) -> None:
        _between(self.offset_ppb, 0, 1, "pair.offset")


class OptionValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a model values options: with or without the discount factor exp(-rate x years).

    With `from_mark` profit and loss starts from the option's mark (Paradex), otherwise from the
    model's own value at the marks (Derive).
    """

    discounted: bool
    from_mark: bool = False


class Factors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the worst loss that are charged as maintenance and as initial margin.

    With `scales_contingency` the initial factor applies to the maintenance contingency too.
    """

    maintenance_ppb: int
    initial_ppb: int
    scales_contingency: bool = False

    def __post_init__(self) -> None:
        ordered = 0 < self.maintenance_ppb <= self.initial_ppb <= 10 * RATE_SCALE
        require(ordered, "factor", "needs 0 < maintenance <= initial <= 10")


class Contingency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Charges on size, as fractions of notional at index, added to the scenario loss."""

    delta_one_maintenance_ppb: int
    delta_one_initial_extra_ppb: int
    naked_option_maintenance_ppb: int
    naked_option_initial_extra_ppb: int

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            rate = getattr(self, key)
            require(0 <= rate <= RATE_SCALE, f"contingency.{key}", "must lie in 0 .. 1")


class CollateralCharges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Charges on coin cash, as fractions of its value: where haircuts are not taken in equity."""

    maintenance: tuple[NamedRate, ...]
    initial_extra: tuple[NamedRate, ...]

    def __post_init__(self) -> None:
        check_table("collateral.maintenance", self.maintenance)
        check_table("collateral.initial_extra", self.initial_extra)


class Oracle(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Below `threshold` a price of confidence c adds (1 - c) x margin x notional to the IM."""

    threshold_ppb: int
    margin_ppb: int

    def __post_init__(self) -> None:
        _between(self.threshold_ppb, 0, 1, "oracle.threshold")
        _between(self.margin_ppb, 0, 10, "oracle.margin")


class Peg(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Below `threshold` a stable coin at price p adds (threshold - p) x factor to the IM factor.

    With `collateral_in_stable` coin cash is valued in the stable coin: at price / p.
    """

    threshold_e9: int
    factor_e9: int
    collateral_in_stable: bool = False

    def __post_init__(self) -> None:
        _between(self.threshold_e9, 0, 2, "peg.threshold")
        _between(self.factor_e9, 0, 10, "peg.factor")


def check_table(key: str, table: tuple[NamedRate, ...]) -> None:
    """`ValueError` unless a table by coin is sorted, has a default, and lies in 0 .. 1."""
    check_names(key, table)
    require(all(0 <= row.rate_e9 < RATE_SCALE for row in table), key, "must lie in 0 .. 1")


def check_names(key: str, table: tuple[NamedRate, ...]) -> None:
    """`ValueError` unless the names of a table by coin are sorted, distinct and with a default."""
    names = [row.name for row in table]
    require(names == sorted(set(names)), key, "names must be sorted and distinct")
    require(DEFAULT_NAME in names, key, "needs a default")
