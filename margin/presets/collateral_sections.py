"""The section of a margin model's file that makes haircuts grow with size.

Read by `margin.pools.collateral`. Fractions are x 10^9 (`_ppb`), amounts whole USDC.
"""

from __future__ import annotations

from typing import Final

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.presets.sections import DEFAULT_NAME, NamedRate, rate_of, require

MOST_USDC: Final = 4_000_000_000
"""Highest tier and limit: what a pool holds of a coin beyond 2^52 minor units is not counted."""
_USDC: Final = "USDC"


class CollateralTier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The haircut of that part of a coin's value which lies above `above_usdc`."""

    above_usdc: int
    haircut_ppb: int

    def __post_init__(self) -> None:
        within = 0 < self.above_usdc <= MOST_USDC
        require(within, "collateral_size.tiers.above_usdc", f"must lie in 1 .. {MOST_USDC}")
        inside = 0 <= self.haircut_ppb <= RATE_SCALE
        require(inside, "collateral_size.tiers.haircut", "must lie in 0 .. 1")


class CollateralSize(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is deducted from a coin of which an owner has much, over all of its pools.

    Up to the first tier the coin's own haircut counts. What lies beyond `limit_usdc` is worth
    nothing. `currency` "default" stands for all coins without an entry of their own.
    """

    currency: str
    tiers: tuple[CollateralTier, ...] = ()
    limit_usdc: int | None = None

    def __post_init__(self) -> None:
        key = "collateral_size"
        require(self.currency != _USDC, f"{key}.currency", "USDC is the unit of account")
        require(self.tiers != () or self.limit_usdc is not None, key, "needs tiers or a limit")
        for one, following in zip(self.tiers, self.tiers[1:], strict=False):
            rising = one.above_usdc < following.above_usdc
            require(rising, f"{key}.tiers.above_usdc", "must rise from tier to tier")
            never_less = one.haircut_ppb <= following.haircut_ppb
            require(never_less, f"{key}.tiers.haircut", "must not fall from tier to tier")
        if self.limit_usdc is not None:
            last = self.tiers[-1].above_usdc if self.tiers else 0
            above = last < self.limit_usdc <= MOST_USDC
            require(above, f"{key}.limit_usdc", f"must lie above the last tier, up to {MOST_USDC}")


def check_sizes(sizes: tuple[CollateralSize, ...], haircut: tuple[NamedRate, ...]) -> None:
    """`ValueError` unless every coin stands once and no tier is below the coin's own haircut.

    An entry for "default" must not be below the haircut of any coin that it stands for.
    """
    key = "collateral_size"
    names = [size.currency for size in sizes]
    require(len(names) == len(set(names)), f"{key}.currency", "a coin has one entry")
    for size in sizes:
        own = [rate_of(haircut, size.currency)]
        if size.currency == DEFAULT_NAME:
            others = [row for row in haircut if row.name not in (*names, _USDC)]
            own += [row.rate_e9 for row in others]
        lowest = min([tier.haircut_ppb for tier in size.tiers], default=RATE_SCALE)
        never_less = lowest >= max(own)
        require(never_less, f"{key}.tiers.haircut", "must not be below the coin's own haircut")


def size_of(sizes: tuple[CollateralSize, ...], currency: str) -> CollateralSize | None:
    """The entry of a coin, or that of all others; None where size changes nothing (USDC: never)."""
    by_name = {size.currency: size for size in sizes}
    return None if currency == _USDC else by_name.get(currency, by_name.get(DEFAULT_NAME))
