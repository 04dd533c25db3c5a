"""Initial margin that grows with a market's open interest, as in dYdX v4.

The fraction rises in a straight line from its base, at the lower cap of open interest, to 1 at
the upper cap:

    IMF = min(1, base + max(0, (OI - lower) / (upper - lower)) x (1 - base))

in parts per million, rounded down; IMR = ceil(value x IMF). Maintenance is a fixed fraction of the
base, so that a crowded market asks more of who opens, not of who holds. An upper cap of 0 turns
scaling off. Source: dydxprotocol/v4-chain, perpetuals module, liquidity tiers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from margin.invariant import Int64Array, check
from margin.models.linear import LinearCharges, linear_charges
from margin.portfolio import Instruments, Marks

PPM: Final = 1_000_000
_PPB_PER_PPM: Final = 1_000


class LiquidityTier(msgspec.Struct, frozen=True, kw_only=True):
    """Base fraction, maintenance as a fraction of it, and the caps (USDC minor units)."""

    base_ppm: int
    maintenance_of_base_ppm: int = PPM // 2
    lower_cap_minor: int = 0
    upper_cap_minor: int = 0

    def __post_init__(self) -> None:
        for key in ("base_ppm", "maintenance_of_base_ppm"):
            if not 0 <= getattr(self, key) <= PPM:
                raise ValueError(f"{key}: must lie in 0 .. 10^6")
        if not 0 <= self.lower_cap_minor <= self.upper_cap_minor:
            raise ValueError("upper_cap_minor: is below lower_cap_minor")


def initial_fraction_ppm(tier: LiquidityTier, open_interest_minor: int) -> int:
    """The initial margin fraction at an open interest, rounded down to parts per million."""
    lower, upper = tier.lower_cap_minor, tier.upper_cap_minor
    if upper == 0 or open_interest_minor <= lower:
        return tier.base_ppm
    if open_interest_minor >= upper:
        return PPM
    scaled = (open_interest_minor - lower) * (PPM - tier.base_ppm) // (upper - lower)
    return tier.base_ppm + scaled


def maintenance_fraction_ppm(tier: LiquidityTier) -> int:
    """Maintenance fraction, of the base whatever the open interest, rounded down."""
    return tier.base_ppm * tier.maintenance_of_base_ppm // PPM


def open_interest_margin_minor(
    notional_minor: int, tier: LiquidityTier, open_interest_minor: int
) -> tuple[int, int]:
    """(initial, maintenance) of a position worth `notional_minor` of either sign, rounded up."""
    size = abs(notional_minor)
    initial = -(-size * initial_fraction_ppm(tier, open_interest_minor) // PPM)
    return initial, -(-size * maintenance_fraction_ppm(tier) // PPM)


def lot_charges(
    instruments: Instruments,
    marks: Marks,
    risk_exponent: Int64Array,
    tiers: Sequence[LiquidityTier],
    open_interest_minor: Int64Array,
) -> LinearCharges:
    """Charges per lot of delta-one instruments: a tier and an open interest of each, [I]."""
    check(len(tiers) == len(instruments), "open interest: one tier an instrument")
    check(open_interest_minor.shape == (len(instruments),), "open interest: one an instrument")
    pairs = zip(tiers, open_interest_minor.tolist(), strict=True)
    initial = np.array([initial_fraction_ppm(*pair) for pair in pairs], dtype=np.int64)
    maintenance = np.array([maintenance_fraction_ppm(tier) for tier in tiers], dtype=np.int64)
    return linear_charges(
        instruments, marks, risk_exponent,
        maintenance_ppb=(maintenance * _PPB_PER_PPM,) * 2,
        initial_ppb=(initial * _PPB_PER_PPM,) * 2,
    )  # fmt: skip
