"""A margin model's constants, resolved to integers: fractions x 10^9 (`_e9`, `_ppb`).

A `Preset` is part of the journal's first record, so it is immutable and encodes the same way
every time: struct fields in their order, names sorted. Presets that ship are data files read by
`margin.presets.load_preset`. A further part of a model is a further optional section here.
"""

from __future__ import annotations

from typing import Final

import msgspec

ONE_E9: Final = 1_000_000_000
DEFAULT_NAME: Final = "default"


def _require(condition: bool, key: str, rule: str) -> None:
    if not condition:
        raise ValueError(f"{key}: {rule}")


class NamedRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of a table by coin: `name` is the coin, or "default" for all others."""

    name: str
    rate_e9: int


def rate_of(table: tuple[NamedRate, ...], name: str) -> int:
    """The rate (x 10^9) of `name` in a table, or of "default"; `KeyError` if neither is there."""
    rates = {row.name: row.rate_e9 for row in table}
    return rates[name] if name in rates else rates[DEFAULT_NAME]


class Grid(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Regular scenarios: `fraction_e9` of the spot range, each with volatility down, as is, up."""

    fraction_e9: tuple[int, ...]

    def __post_init__(self) -> None:
        _require(0 in self.fraction_e9, "grid.fraction", "must hold 0")
        within = all(-ONE_E9 <= fraction <= ONE_E9 for fraction in self.fraction_e9)
        _require(within, "grid.fraction", "must lie in -1 .. 1")


class Tails(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Extreme spot moves on raised volatility; weight of a move = weight x range / |move|."""

    move_e9: tuple[int, ...]
    weight_e9: int

    def __post_init__(self) -> None:
        possible = all(move > -ONE_E9 and move != 0 for move in self.move_e9)
        _require(possible, "tails.move", "must be above -1 and not 0")
        _require(0 <= self.weight_e9 <= ONE_E9, "tails.weight", "must lie in 0 .. 1")


class VolatilityShock(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Relative volatility moves at `reference_days`, scaled by (reference_days / days)^power.

    The short power holds up to the reference tenor, the long one beyond; days are floored at
    `floor_days`; raised volatility is at least `least_up_e9`.
    """

    up_e9: int
    down_e9: int
    reference_days: int
    floor_days: int
    short_power_e9: int
    long_power_e9: int
    least_up_e9: int

    def __post_init__(self) -> None:
        _require(0 <= self.up_e9 <= 10 * ONE_E9, "volatility.up", "must lie in 0 .. 10")
        _require(0 <= self.down_e9 <= ONE_E9, "volatility.down", "must lie in 0 .. 1")
        _require(self.reference_days >= 1, "volatility.reference_days", "must be at least 1")
        _require(self.floor_days >= 1, "volatility.floor_days", "must be at least 1")
        for power in (self.short_power_e9, self.long_power_e9):
            _require(0 <= power <= ONE_E9, "volatility power", "must lie in 0 .. 1")
        _require(0 <= self.least_up_e9 <= 10 * ONE_E9, "volatility.least_up", "must lie in 0 .. 10")


class Factors(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the worst loss that are charged as maintenance and as initial margin."""

    maintenance_ppb: int
    initial_ppb: int

    def __post_init__(self) -> None:
        ordered = 0 < self.maintenance_ppb <= self.initial_ppb
        _require(ordered, "factor", "needs 0 < maintenance <= initial")


class Contingency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Charges on size, as fractions of notional at index, added to the scenario loss."""

    delta_one_maintenance_ppb: int
    delta_one_initial_extra_ppb: int
    naked_option_maintenance_ppb: int
    naked_option_initial_extra_ppb: int

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            rate = getattr(self, key)
            _require(0 <= rate <= ONE_E9, f"contingency.{key}", "must lie in 0 .. 1")


class Preset(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All constants of one margin model. `spot_range` and `haircut` are sorted by name."""

    name: str
    spot_range: tuple[NamedRate, ...]
    grid: Grid
    tails: Tails
    volatility: VolatilityShock
    factor: Factors
    contingency: Contingency
    haircut: tuple[NamedRate, ...]

    def __post_init__(self) -> None:
        for key, table in (("spot_range", self.spot_range), ("haircut", self.haircut)):
            names = [row.name for row in table]
            _require(names == sorted(set(names)), key, "names must be sorted and distinct")
            _require(DEFAULT_NAME in names, key, "needs a default")
            _require(all(0 <= row.rate_e9 < ONE_E9 for row in table), key, "must lie in 0 .. 1")

    def spot_range_e9(self, unit_class: str) -> int:
        """Largest regular spot move of a risk class, named by its coin."""
        return rate_of(self.spot_range, unit_class)

    def haircut_ppb(self, currency: str) -> int:
        """Collateral haircut of a currency."""
        return rate_of(self.haircut, currency)
