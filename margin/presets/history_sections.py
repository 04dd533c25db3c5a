"""The section of a margin model whose scenarios are dates of a history: filtered simulation.

The dates are kept as residuals: returns divided by the volatility forecast for their period, so
that a range of one deviation turns them into moves of today.
"""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import Final

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.presets.sections import DEFAULT_NAME, NamedRate, check_table, rate_of, require

MOST_RESIDUAL_E9: Final = 6 * RATE_SCALE
_MOST_DATES: Final = 2_000
_MOST_HORIZON_DAYS: Final = 20
_TAIL_WEIGHT_MOST: Final = 2**31  # what `margin.simulation.tail_measures.tail_weights` keeps exact


class Residuals(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Residuals of one coin, oldest first: `name` is the coin, or "default" for all others."""

    name: str
    residual_e9: tuple[int, ...]

    def __post_init__(self) -> None:
        inside = all(abs(e9) <= MOST_RESIDUAL_E9 for e9 in self.residual_e9)
        require(inside, f"history.{self.name}.residual", "must lie in -6 .. 6")


class LongRun(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deviation over a day as it is in the long run: of spot by coin, of a 30-day volatility.

    What the forecast is held against: `floor_share` of it is the least to which residuals are
    brought, `stressed.multiple` of it what the stressed period had.
    """

    spot_range: tuple[NamedRate, ...]
    up_e9: int
    floor_share_ppb: int = 0

    def __post_init__(self) -> None:
        check_table("history.long_run.spot_range", self.spot_range)
        require(0 <= self.up_e9 <= RATE_SCALE, "history.long_run.up", "must lie in 0 .. 1")
        share = self.floor_share_ppb
        require(0 <= share <= 2 * RATE_SCALE, "history.long_run.floor_share", "must lie in 0 .. 2")


class Stressed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dates of the window that count once more, at the volatility that they had.

    `dates` rows from row `first` on (the oldest is 0), at `multiple` x the long run whatever is
    forecast. Together they weigh `weight` of everything (EU regulation 153/2013, article 28(1)(b),
    asks for at least a quarter).
    """

    first: int
    dates: int
    weight_ppb: int
    multiple_e9: int

    def __post_init__(self) -> None:
        require(self.first >= 0, "history.stressed.first", "must be at least 0")
        require(self.dates >= 1, "history.stressed.dates", "must be at least 1")
        inside = 0 < self.weight_ppb < RATE_SCALE
        require(inside, "history.stressed.weight", "must lie between 0 and 1")
        inside = 0 < self.multiple_e9 <= 10 * RATE_SCALE
        require(inside, "history.stressed.multiple", "must lie above 0 and within 10")


class History(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Joint dates, and the part of them whose mean loss is charged.

    In a scenario spot moves by exp(residual x range) - 1, the range being one deviation over a day
    (`spot_range`), and the implied volatility at a tenor by exp(residual x up x share) - 1, up
    being that of the section `volatility`, shares given at `tenor_days` and linear in between.
    The loss is the mean of the worst 1 - `level` of all dates (expected shortfall). `spot` and
    `volatility` hold residuals by coin, sorted, all of one length: row n of all is one date.

    `horizon_days`: how long a close-out may take, rising; what a position needs of them at
    `participation` of a day's volume is its horizon (`margin.simulation.pools`). A horizon of h
    days sums the residuals of h successive dates, so the first rows only begin such sums.
    """

    level_ppb: int
    tenor_days: tuple[int, ...]
    tenor_share_e9: tuple[int, ...]
    spot: tuple[Residuals, ...]
    volatility: tuple[Residuals, ...]
    horizon_days: tuple[int, ...] = (1,)
    participation_ppb: int = RATE_SCALE // 10
    long_run: LongRun | None = None
    stressed: Stressed | None = None

    def __post_init__(self) -> None:
        tail = RATE_SCALE // 2 <= self.level_ppb < RATE_SCALE  # the worse half at most
        require(tail, "history.level", "must be at least 0.5 and below 1")
        rising = all(a < b for a, b in pairwise(self.tenor_days))
        paired = len(self.tenor_days) == len(self.tenor_share_e9) > 0
        require(rising and paired and self.tenor_days[0] > 0, "history.tenor_days",
                "must rise, each with its share")  # fmt: skip
        within = all(0 <= share <= 10 * RATE_SCALE for share in self.tenor_share_e9)
        require(within, "history.tenor_share", "must lie in 0 .. 10")
        lengths = {len(row.residual_e9) for row in (*self.spot, *self.volatility)}
        require(len(lengths) == 1, "history", "needs one residual a date of everything")
        require(0 < min(lengths) <= _MOST_DATES, "history", f"has 1 .. {_MOST_DATES} dates")
        for key in ("spot", "volatility"):
            names = [row.name for row in getattr(self, key)]
            require(names == sorted(set(names)), f"history.{key}", "names must be sorted, distinct")
            require(DEFAULT_NAME in names, f"history.{key}", "needs a default")

        rises = all(a < b for a, b in pairwise(self.horizon_days))
        bounded = self.horizon_days != () and 1 <= self.horizon_days[0] <= self.horizon_days[-1]
        require(rises and bounded and self.horizon_days[-1] <= _MOST_HORIZON_DAYS,
                "history.horizon_days", f"must rise within 1 .. {_MOST_HORIZON_DAYS}")  # fmt: skip
        inside = 0 < self.participation_ppb <= RATE_SCALE
        require(inside, "history.participation", "must lie above 0 and within 1")
        self._check_dates()

    def _check_dates(self) -> None:
        begins, rows = self.horizon_days[-1] - 1, self.rows
        require(rows > begins, "history.horizon_days", "leaves no date of the window")
        if self.stressed is not None:
            require(self.long_run is not None, "history.stressed", "needs history.long_run")
            first, past = self.stressed.first, self.stressed.first + self.stressed.dates
            inside = begins <= first < past <= rows
            require(inside, "history.stressed", f"must lie in rows {begins} .. {rows - 1}")
        part = RATE_SCALE - self.level_ppb
        tail = part // gcd(part, RATE_SCALE) * sum(self.weights())
        require(tail < _TAIL_WEIGHT_MOST, "history", "level and stressed.weight are too fine")

    @property
    def rows(self) -> int:
        """How many residuals there are of everything."""
        return len(self.spot[0].residual_e9)

    @property
    def latest(self) -> int:
        """How many scenarios follow the forecast: rows on which the longest horizon ends."""
        return self.rows - self.horizon_days[-1] + 1

    @property
    def dates(self) -> int:
        """How many scenarios there are, those of the stressed period last."""
        return self.latest + (0 if self.stressed is None else self.stressed.dates)

    def weights(self) -> list[int]:
        """Whole weights of the scenarios: the stressed ones have their share, equally."""
        stressed = self.stressed
        if stressed is None:
            return [1] * self.latest
        each = (RATE_SCALE - stressed.weight_ppb) * stressed.dates
        each_stressed = stressed.weight_ppb * self.latest
        shared = gcd(each, each_stressed)
        return [each // shared] * self.latest + [each_stressed // shared] * stressed.dates

    def floor_e9(self, unit_class: str) -> int:
        """The least range of a risk class, rounded up; 0 without a floor."""
        found = self.long_run
        if found is None:
            return 0
        return -(-rate_of(found.spot_range, unit_class) * found.floor_share_ppb // RATE_SCALE)

    def floor_up_e9(self) -> int:
        """The least deviation of a 30-day volatility, rounded up; 0 without a floor."""
        found = self.long_run
        return 0 if found is None else -(-found.up_e9 * found.floor_share_ppb // RATE_SCALE)

    def stressed_e9(self, unit_class: str) -> tuple[int, int]:
        """Deviations of the stressed period: of a risk class' spot, of a 30-day volatility."""
        if self.long_run is None or self.stressed is None:
            return 0, 0
        multiple_e9 = self.stressed.multiple_e9
        usual = rate_of(self.long_run.spot_range, unit_class), self.long_run.up_e9
        return usual[0] * multiple_e9 // RATE_SCALE, usual[1] * multiple_e9 // RATE_SCALE

    def residuals_e9(self, factor: str, unit_class: str) -> tuple[int, ...]:
        """Residuals of a risk class: `factor` is spot or volatility."""
        table = self.spot if factor == "spot" else self.volatility
        rows = {row.name: row.residual_e9 for row in table}
        return rows[unit_class] if unit_class in rows else rows[DEFAULT_NAME]
