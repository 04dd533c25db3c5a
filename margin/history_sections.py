"""The section of a margin model whose scenarios are dates of a history: filtered simulation.

The dates are kept as residuals: returns divided by the volatility forecast for their period, so
that a range of one deviation turns them into moves of today.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

import msgspec

from margin.preset_sections import DEFAULT_NAME, ONE_E9, require

MOST_RESIDUAL_E9: Final = 6 * ONE_E9
_MOST_DATES: Final = 2_000


class Residuals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Residuals of one coin, oldest first: `name` is the coin, or "default" for all others."""

    name: str
    residual_e9: tuple[int, ...]

    def __post_init__(self) -> None:
        inside = all(abs(e9) <= MOST_RESIDUAL_E9 for e9 in self.residual_e9)
        require(inside, f"history.{self.name}.residual", "must lie in -6 .. 6")


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Joint dates, and the part of them whose mean loss is charged.

    In a scenario spot moves by exp(residual x range) - 1, the range being one deviation over the
    horizon (`spot_range`), and the implied volatility at a tenor by exp(residual x up x share) - 1,
    up being that of the section `volatility`, shares given at `tenor_days` and linear in between.
    The loss is the mean of the worst 1 - `level` of all dates (expected shortfall). `spot` and
    `volatility` hold residuals by coin, sorted, all of one length: row n of all is one date.
    """

    level_ppb: int
    tenor_days: tuple[int, ...]
    tenor_share_e9: tuple[int, ...]
    spot: tuple[Residuals, ...]
    volatility: tuple[Residuals, ...]

    def __post_init__(self) -> None:
        require(0 < self.level_ppb < ONE_E9, "history.level", "must lie in 0 .. 1")
        rising = all(a < b for a, b in pairwise(self.tenor_days))
        paired = len(self.tenor_days) == len(self.tenor_share_e9) > 0
        require(rising and paired and self.tenor_days[0] > 0, "history.tenor_days",
                "must rise, each with its share")  # fmt: skip
        within = all(0 <= share <= 10 * ONE_E9 for share in self.tenor_share_e9)
        require(within, "history.tenor_share", "must lie in 0 .. 10")
        lengths = {len(row.residual_e9) for row in (*self.spot, *self.volatility)}
        require(len(lengths) == 1, "history", "needs one residual a date of everything")
        require(0 < min(lengths) <= _MOST_DATES, "history", f"has 1 .. {_MOST_DATES} dates")
        for key in ("spot", "volatility"):
            names = [row.name for row in getattr(self, key)]
            require(names == sorted(set(names)), f"history.{key}", "names must be sorted, distinct")
            require(DEFAULT_NAME in names, f"history.{key}", "needs a default")

    @property
    def dates(self) -> int:
        """How many scenarios there are."""
        return len(self.spot[0].residual_e9)

    def residuals_e9(self, factor: str, unit_class: str) -> tuple[int, ...]:
        """Residuals of a risk class: `factor` is spot or volatility."""
        table = self.spot if factor == "spot" else self.volatility
        rows = {row.name: row.residual_e9 for row in table}
        return rows[unit_class] if unit_class in rows else rows[DEFAULT_NAME]
