"""What perpetuals may have to pay in funding before a pool can be closed."""

from __future__ import annotations

from typing import Final

import numpy as np

from margin.fixed_point import PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, check
from margin.portfolio import INVERSE, LINEAR, NEVER_NS, Instruments, Marks

FUNDING_PERIOD_HOURS: Final = 8
"""A funding rate is per eight hours."""


def funding_per_lot(
    instruments: Instruments,
    marks: Marks,
    rate_e9: Int64Array,
    horizon_hours: int,
    risk_exponent: Int64Array,
) -> Int64Array:
    """What one long lot pays over the horizon at the current rate, in quanta, shape [I].

    Positive where longs pay, negative where shorts do, zero for everything but perpetuals.
    `rate_e9[I]` is the rate of eight hours; a quantum is 2^-risk_exponent[unit] minor units. Coins
    per lot x index x rate x horizon / 8 h, an inverse lot being lot_usd / mark coins; exact, and
    rounded away from zero. A provision is the sum over positions of max(0, lots x this): what is
    to be received is not counted. Form: Paradex adds an 8 h funding provision to its margins.
    `InvariantBroken` if the rate over the horizon is above 100 %.
    """
    check(rate_e9.shape == (len(instruments),), "funding: one rate per instrument")
    result = np.zeros(len(instruments), np.int64)
    perpetual = (instruments.kind == LINEAR) | (instruments.kind == INVERSE)
    perpetual &= (instruments.expiry_ns == NEVER_NS) & (rate_e9 != 0)
    for i in np.flatnonzero(perpetual).tolist():
        unit, rate = int(instruments.unit[i]), int(rate_e9[i])
        within = abs(rate) * horizon_hours <= RATE_SCALE * FUNDING_PERIOD_HOURS
        check(within, "funding: a rate over the horizon is above 100 %")
        amount = int(instruments.lot_e8[i]) * int(marks.index_e8[unit]) * abs(rate) * horizon_hours
        amount *= USDC_SCALE << int(risk_exponent[unit])
        scale = PRICE_SCALE * RATE_SCALE * FUNDING_PERIOD_HOURS
        # a linear lot is in coins (10^-8); an inverse one in USD, over the mark in USD
        scale *= int(marks.mark_e8[i]) if instruments.kind[i] == INVERSE else PRICE_SCALE
        quanta = -(-amount // scale)
        result[i] = quanta if rate > 0 else -quanta
    return result
