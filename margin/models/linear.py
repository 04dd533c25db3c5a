"""Margins that are a charge per lot, whatever else a pool holds: one compiled pass over all pools.

A model turns marks into `LinearCharges`, four columns of quanta per lot (2^-e minor units, e the
risk exponent of the unit); `pool_margins` sums them. Nothing offsets anything, so a pool of many
instruments needs the sum of what each needs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit

from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, check
from margin.portfolio import INVERSE, Instruments, Marks, Positions
from margin.scenarios.grid import MOST_RISK_EXPONENT

_SPLIT: Final = 100_000
_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // USDC_SCALE  # 10^10, the square of the split
_MOST_LOT_MINOR: Final = 2**38
_MOST_CHARGE: Final = 2**60


class ModelMargins(NamedTuple):
    """Per pool, USDC minor units: `initial_minor` and `maintenance_minor`, shape [P]."""

    initial_minor: Int64Array
    maintenance_minor: Int64Array


class LinearCharges(msgspec.Struct, frozen=True, gc=False):
    """Quanta per lot held, shape [I], by side and level; `unit[I]`, `risk_exponent[U]`."""

    unit: Int64Array
    risk_exponent: Int64Array
    long_maintenance: Int64Array
    short_maintenance: Int64Array
    long_initial: Int64Array
    short_initial: Int64Array


def quanta_of(price_e8: Int64Array, lot_e8: Int64Array, exponent: Int64Array) -> Int64Array:
    """Value of one lot in quanta: price x lot x 2^exponent / 10^10, to the nearest, halves up.

    Columns of one shape: price in USDC per coin x 10^8, coin per lot x 10^8, exponents 0 to 20.
    Exact: both factors are split at five digits, so that no product overflows. `InvariantBroken`
    if a lot is worth 2^38 minor units (about 275,000 USDC) or more.
    """
    check(
        ((exponent >= 0) & (exponent <= MOST_RISK_EXPONENT)).all(), "risk exponent: not in 0 .. 20"
    )
    check((price_e8 >= 0).all() and (lot_e8 >= 0).all(), "value of a lot: negative")
    price_high, price_low = price_e8 // _SPLIT, price_e8 % _SPLIT
    lot_high, lot_low = lot_e8 // _SPLIT, lot_e8 % _SPLIT
    fits = lot_high < _MOST_LOT_MINOR // (price_high + 1) - 1
    check(fits.all(), "value of a lot: too large, list smaller lots")
    middle = lot_high * price_low + lot_low * price_high
    whole = lot_high * price_high + middle // _SPLIT
    rest = middle % _SPLIT * _SPLIT + lot_low * price_low  # below 2 x 10^10
    doubled: Int64Array = (whole << exponent + 1) + (rest << exponent + 1) // _DIVISOR
    return np.right_shift(doubled + 1, 1)


def lot_notional(instruments: Instruments, marks: Marks, risk_exponent: Int64Array) -> Int64Array:
    """Value at the mark of one lot of every delta-one instrument in quanta, shape [I].

    An inverse lot is worth its dollars. `InvariantBroken` if an option is listed: a charge
    proportional to size knows nothing of strikes.
    """
    check(not instruments.is_option().any(), "linear charges: an option is listed")
    inverse = instruments.kind == INVERSE
    price_e8 = np.where(inverse, PRICE_SCALE, marks.mark_e8)
    return quanta_of(price_e8, instruments.lot_e8, risk_exponent[instruments.unit])


def charge_of(value_quanta: Int64Array, rate_ppb: Int64Array | int) -> Int64Array:
    """ceil(value x rate / 10^9), elementwise and exact, for values and rates >= 0."""
    rate = np.broadcast_to(np.asarray(rate_ppb, dtype=np.int64), value_quanta.shape)
    check((value_quanta >= 0).all() and (rate >= 0).all(), "charge: negative")
    times, part = rate // RATE_SCALE, rate % RATE_SCALE
    check((value_quanta < _MOST_CHARGE // (times + 1)).all(), "charge: does not fit into 62 bits")
    quotient = value_quanta // RATE_SCALE
    rest = value_quanta - quotient * RATE_SCALE
    charge: Int64Array = value_quanta * times + quotient * part - (-rest * part) // RATE_SCALE
    return charge


def linear_charges(
    instruments: Instruments,
    marks: Marks,
    risk_exponent: Int64Array,
    *,
    maintenance_ppb: tuple[Int64Array | int, Int64Array | int],
    initial_ppb: tuple[Int64Array | int, Int64Array | int],
) -> LinearCharges:
    """Charges as fractions of the value at the mark, (long, short), each one rate or a rate [I]."""
    value = lot_notional(instruments, marks, risk_exponent)
    return LinearCharges(
        unit=instruments.unit,
        risk_exponent=risk_exponent,
        long_maintenance=charge_of(value, maintenance_ppb[0]),
        short_maintenance=charge_of(value, maintenance_ppb[1]),
        long_initial=charge_of(value, initial_ppb[0]),
        short_initial=charge_of(value, initial_ppb[1]),
    )


@njit(cache=True)
def _sum_charges(
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    unit: Int64Array,
    exponent: Int64Array,
    charge: Int64Array,
    margin_minor: Int64Array,
) -> None:
    for p in range(len(pool_start) - 1):
        k, end = pool_start[p], pool_start[p + 1]
        while k < end:
            u = unit[instrument[k]]
            initial, maintenance = 0, 0
            while k < end and unit[instrument[k]] == u:
                i, q = instrument[k], lots[k]
                side = 1 if q < 0 else 0
                initial += abs(q) * charge[i, side]
                maintenance += abs(q) * charge[i, 2 + side]
                k += 1
            up = (1 << exponent[u]) - 1
            margin_minor[0, p] += (initial + up) >> exponent[u]
            margin_minor[1, p] += (maintenance + up) >> exponent[u]


def pool_margins(charges: LinearCharges, positions: Positions) -> ModelMargins:
    """Margins of every pool, summed in quanta per risk unit and then rounded up to minor units.

    Rows of a pool must be in margin order (`Positions.validate`). Coin cash is collateral, counted
    in equity, and needs nothing. Sums stay below 2^62 if the exponents were derived from the
    venue's limits by `margin.scenarios.grid.risk_exponent` with a multiple no rate exceeds.
    """
    charge = np.stack(
        [charges.long_initial, charges.short_initial,
         charges.long_maintenance, charges.short_maintenance], axis=1,
    )  # fmt: skip
    margin_minor = np.zeros((2, positions.pool_count), dtype=np.int64)
    _sum_charges(
        positions.pool_start, positions.instrument, positions.quantity_lots,
        charges.unit, charges.risk_exponent, charge, margin_minor,
    )  # fmt: skip
    return ModelMargins(margin_minor[0], margin_minor[1])


def warm_up() -> None:
    """Compile the kernel of this module."""
    one = np.zeros(1, dtype=np.int64)
    charges = LinearCharges(one, one, one, one, one, one)
    pool_margins(charges, Positions(np.array([0, 1], dtype=np.int64), one, one, one.reshape(1, 1)))
