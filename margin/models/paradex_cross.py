"""Cross margin of Paradex's perpetuals: a fraction of value at the mark, maintenance a part of it.

    IMR = |size| x mark x imf_base        MMR = IMR x mmf_factor

Source: paradex-py, margin model and its tests. Minor units are rounded up.
"""

from __future__ import annotations

from typing import Final

import msgspec

from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, check
from margin.models.linear import LinearCharges, charge_of, linear_charges
from margin.portfolio import Instruments, Marks

_VALUE_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // USDC_SCALE


class CrossMargin(msgspec.Struct, frozen=True, kw_only=True):
    """`imf_base_ppb` of the value at the mark; `mmf_factor_ppb` of that for maintenance."""

    imf_base_ppb: int
    mmf_factor_ppb: int

    def __post_init__(self) -> None:
        if not (0 <= self.imf_base_ppb <= RATE_SCALE and 0 <= self.mmf_factor_ppb <= RATE_SCALE):
            raise ValueError("cross margin: factors must lie in 0 .. 1")


def cross_margin_minor(
    quantity_lots: int, mark_e8: int, lot_e8: int, model: CrossMargin
) -> tuple[int, int]:
    """(initial, maintenance) of one perpetual position in minor units; exact but for rounding."""
    check(mark_e8 > 0 and lot_e8 > 0, "cross margin: mark and lot must be positive")
    initial = abs(quantity_lots) * lot_e8 * mark_e8 * model.imf_base_ppb  # minor x 10^19
    scale = _VALUE_DIVISOR * RATE_SCALE
    maintenance = initial * model.mmf_factor_ppb
    return -(-initial // scale), -(-maintenance // (scale * RATE_SCALE))


def lot_charges(
    instruments: Instruments,
    marks: Marks,
    risk_exponent: Int64Array,
    imf_base_ppb: Int64Array,
    mmf_factor_ppb: Int64Array,
) -> LinearCharges:
    """Charges per lot of delta-one instruments; factors are columns [I]."""
    maintenance = charge_of(imf_base_ppb, mmf_factor_ppb)
    return linear_charges(
        instruments, marks, risk_exponent,
        maintenance_ppb=(maintenance, maintenance),
        initial_ppb=(imf_base_ppb, imf_base_ppb),
    )  # fmt: skip
