"""The constants of standard margin as structures of integers, each with its own checks.

They are a section of `margin.presets.preset.Preset` where a venue is charged by them, and are read
by `margin.models.standard_constants` where they are only asked about.
"""

from __future__ import annotations

from typing import Final

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.presets.sections import DEFAULT_NAME, NamedRate, rate_of
from margin.presets.sections import require as _require

_MOST_RATE: Final = 10 * RATE_SCALE


class Levels(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A rate for maintenance margin and one, not lower, for initial margin."""

    maintenance_ppb: int
    initial_ppb: int

    def __post_init__(self) -> None:
        ordered = 0 <= self.maintenance_ppb <= self.initial_ppb <= _MOST_RATE
        _require(ordered, "maintenance, initial", "needs 0 <= maintenance <= initial <= 10")


class ShortOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates of a short option alone: of the index, of the mark, and of maintenance itself."""

    call_maintenance_ppb: int
    put_maintenance_ppb: int
    put_maintenance_of_mark_ppb: int
    initial_most_ppb: int
    initial_least_ppb: int
    put_initial_over_maintenance_ppb: int

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            _require(0 <= getattr(self, key) <= _MOST_RATE, f"short_option.{key}", "not in 0 .. 10")
        falls = self.initial_least_ppb <= self.initial_most_ppb
        _require(falls, "short_option.initial_least", "is above initial_most")
        covers = self.call_maintenance_ppb <= self.initial_least_ppb
        _require(covers, "short_option.call_maintenance", "is above initial_least")
        least = self.put_initial_over_maintenance_ppb >= RATE_SCALE
        _require(least, "short_option.put_initial_over_maintenance", "is below 1")


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A charge that starts below `threshold_e9` of a confidence or a price."""

    threshold_e9: int
    factor_ppb: int

    def __post_init__(self) -> None:
        _require(0 <= self.threshold_e9 <= RATE_SCALE, "threshold", "must lie in 0 .. 1")
        _require(0 <= self.factor_ppb <= _MOST_RATE, "factor", "must lie in 0 .. 10")


class CoinCollateral(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`initial_scale_ppb`: part of a coin's value after its haircut that counts initially."""

    initial_scale_ppb: int

    def __post_init__(self) -> None:
        _require(
            0 <= self.initial_scale_ppb <= RATE_SCALE, "coin.initial_scale", "must lie in 0 .. 1"
        )


class Standard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All constants of the standard model; `haircut` is sorted by name."""

    name: str
    perpetual: Levels
    short_option: ShortOption
    unpaired_call: Levels
    oracle: Threshold
    depeg: Threshold
    coin: CoinCollateral
    haircut: tuple[NamedRate, ...]

    def __post_init__(self) -> None:
        names = [row.name for row in self.haircut]
        _require(names == sorted(set(names)), "haircut", "names must be sorted and distinct")
        _require(DEFAULT_NAME in names, "haircut", "needs a default")
        inside = all(0 <= row.rate_e9 < RATE_SCALE for row in self.haircut)
        _require(inside, "haircut", "must lie in 0 .. 1")

    def haircut_ppb(self, currency: str) -> int:
        """Collateral haircut of a currency."""
        return rate_of(self.haircut, currency)
