"""The sections of a margin model's file that charge add-ons (`margin.add_ons.charges`).

Each is optional. Fractions are x 10^9 (`_e9`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.presets.sections import require

SQUARE_ROOT: Final = "square-root"
LINEAR: Final = "linear"


class Liquidity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Charge on size beyond `free_share_e9` of a day's volume.

    "square-root": coefficient x daily volatility x sqrt(size / depth). "linear": coefficient x
    spot range x (size - free) / depth. Depth is `depth_days_e9` days of volume.
    """

    form: str
    coefficient_e9: int
    free_share_e9: int
    depth_days_e9: int

    def __post_init__(self) -> None:
        require(
            self.form in (SQUARE_ROOT, LINEAR),
            "liquidity.form",
            'must be "square-root" or "linear"',
        )
        within = 0 <= self.coefficient_e9 <= 10 * RATE_SCALE
        require(within, "liquidity.coefficient", "must lie in 0 .. 10")
        require(0 <= self.free_share_e9 <= RATE_SCALE, "liquidity.free_share", "must lie in 0 .. 1")
        inside = max(1, self.free_share_e9) <= self.depth_days_e9 <= 30 * RATE_SCALE
        require(inside, "liquidity.depth_days", "must lie in free_share .. 30, above 0")


class Gamma(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Gap loss of net short gamma: `quantile_e9` deviations of a batch interval, at least
    `least_gap_e9`; expiries below `near_days` stand alone; `half_spread_e9` is paid to re-hedge."""

    quantile_e9: int
    least_gap_e9: int
    near_days: int
    half_spread_e9: int

    def __post_init__(self) -> None:
        require(
            RATE_SCALE <= self.quantile_e9 <= 20 * RATE_SCALE,
            "gamma.quantile",
            "must lie in 1 .. 20",
        )
        require(0 <= self.least_gap_e9 <= RATE_SCALE, "gamma.least_gap", "must lie in 0 .. 1")
        require(0 <= self.near_days <= 365, "gamma.near_days", "must lie in 0 .. 365")
        require(0 <= self.half_spread_e9 <= RATE_SCALE, "gamma.half_spread", "must lie in 0 .. 1")


class Funding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Funding to be provided for, at the current rate, over `horizon_hours`."""

    horizon_hours: int

    def __post_init__(self) -> None:
        require(0 <= self.horizon_hours <= 168, "funding.horizon_hours", "must lie in 0 .. 168")
