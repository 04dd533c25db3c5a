"""The steps that the kernels over pools share.

Every step is integer arithmetic on one pool: add position rows, add coin cash, find the largest
loss, add contingencies, carry sums of different risk exponents to one scale, round up once.
"""

from __future__ import annotations

from typing import Final

from margin.fixed_point import RATE_SCALE, apart, mul_div_ceil, uncounted
from margin.invariant import Int64Array
from margin.pools.risk_table import (
    COIN_CHARGE,
    COIN_EXTRA,
    COIN_UNIT,
    GROSS_CHARGE,
    GROSS_EXTRA_CHARGE,
    GROUP,
    NAKED_CHARGE,
    NAKED_EXTRA_CHARGE,
    UNIT,
)
from margin.portfolio import NO_STRIKE_GROUP
from margin.scenarios.grid import COIN_STEP_MINOR, MOST_RISK_EXPONENT

# What is and-ed with this is not negative, so the compiler leaves out the code by which a negative
# index counts from the end: a twentieth of a large pass. Slots and rows are far below.
_NOT_NEGATIVE: Final = 2**31 - 1
_FRACTION_ONE: Final = 1 << MOST_RISK_EXPONENT

# Planes of what a pass says of each unit: which candidate is the worst, and its loss in quanta.
SCENARIO: Final = 0
LOSS: Final = 1

Triple = tuple[int, int, int]
"""Worst loss, maintenance contingency, extra initial contingency."""


@uncounted
def naked_growth(
    terms: Int64Array, i: int, lots: int, group: int, net: int, naked: int
) -> tuple[int, int, int, int]:
    """(group, net, naked, growth) after `lots` of instrument `i`, given those of the row before.

    `naked`: the naked shorts of the strike so far; `growth`: what this row adds to them. Without
    branches, since nothing predicts whether the next row is of the same strike. Delta-one rows may
    go through as if they were of one strike: nothing is charged on what they add.
    """
    here = terms[i, GROUP]
    keep = -1 if here == group else 0  # all bits of what the strike has so far, none of another
    net = lots + (net & keep)
    before, naked = naked & keep, max(-net, 0)
    return here, net, naked, naked - before


@apart
def add_four(
    total: Int64Array,
    rows: Int64Array,
    instrument: tuple[int, int, int, int],
    lots: tuple[int, int, int, int],
) -> None:
    """Add lots x row of four positions to `total`, scenarios innermost: this loop vectorises."""
    q0, q1, q2, q3 = lots
    i0, i1, i2, i3 = instrument
    for s in range(len(total)):
        total[s] += q0 * rows[i0, s] + q1 * rows[i1, s] + q2 * rows[i2, s] + q3 * rows[i3, s]


@apart
def add_one(total: Int64Array, rows: Int64Array, instrument: int, lots: int) -> None:
    """Add lots x row of one position to `total`."""
    row = instrument & _NOT_NEGATIVE
    for s in range(len(total)):
        total[s] += lots * rows[row, s]


@uncounted
def add_unit(
    total: Int64Array,
    start: Int64Array,
    rows: Int64Array,
    terms: Int64Array,
    options: bool,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
    unit: int,
) -> tuple[int, int, int]:
    """Set `total` to start + sum of lots x row over the rows of `unit` from `begin` to `end`.

    Returns the first row after them and their contingencies (maintenance, extra initial) in quanta
    of the unit, counted on the way because scalar units idle while vectors are added. `options`:
    whether any instrument of the table is in a strike group. For tables of one half.
    """
    for s in range(len(total)):
        total[s] = start[unit, s]
    charge, extra, group, net, naked = 0, 0, NO_STRIKE_GROUP, 0, 0
    k = begin
    # rows are sorted by unit: if the fourth row is of this unit, so are the three before it
    while k + 4 <= end and terms[instrument[k + 3], UNIT] == unit:
        b = k & _NOT_NEGATIVE
        i0 = instrument[b] & _NOT_NEGATIVE
        i1 = instrument[b + 1] & _NOT_NEGATIVE
        i2 = instrument[b + 2] & _NOT_NEGATIVE
        i3 = instrument[b + 3] & _NOT_NEGATIVE
        i = i0, i1, i2, i3
        q = lots[b], lots[b + 1], lots[b + 2], lots[b + 3]
        g0, g1, g2, g3 = abs(q[0]), abs(q[1]), abs(q[2]), abs(q[3])
        charge += g0 * terms[i0, GROSS_CHARGE] + g1 * terms[i1, GROSS_CHARGE]
        charge += g2 * terms[i2, GROSS_CHARGE] + g3 * terms[i3, GROSS_CHARGE]
        extra += g0 * terms[i0, GROSS_EXTRA_CHARGE] + g1 * terms[i1, GROSS_EXTRA_CHARGE]
        extra += g2 * terms[i2, GROSS_EXTRA_CHARGE] + g3 * terms[i3, GROSS_EXTRA_CHARGE]
        if options:
            group, net, naked, g0 = naked_growth(terms, i0, q[0], group, net, naked)
            group, net, naked, g1 = naked_growth(terms, i1, q[1], group, net, naked)
            group, net, naked, g2 = naked_growth(terms, i2, q[2], group, net, naked)
            group, net, naked, g3 = naked_growth(terms, i3, q[3], group, net, naked)
            charge += g0 * terms[i0, NAKED_CHARGE] + g1 * terms[i1, NAKED_CHARGE]
            charge += g2 * terms[i2, NAKED_CHARGE] + g3 * terms[i3, NAKED_CHARGE]
            extra += g0 * terms[i0, NAKED_EXTRA_CHARGE] + g1 * terms[i1, NAKED_EXTRA_CHARGE]
            extra += g2 * terms[i2, NAKED_EXTRA_CHARGE] + g3 * terms[i3, NAKED_EXTRA_CHARGE]
        add_four(total, rows, i, q)
        k += 4
    while k < end and terms[instrument[k], UNIT] == unit:
        i0 = instrument[k]
        size = abs(lots[k])
        group, net, naked, g0 = naked_growth(terms, i0, lots[k], group, net, naked)
        charge += g0 * terms[i0, NAKED_CHARGE] + size * terms[i0, GROSS_CHARGE]
        extra += g0 * terms[i0, NAKED_EXTRA_CHARGE] + size * terms[i0, GROSS_EXTRA_CHARGE]
        add_one(total, rows, i0, lots[k])
        k += 1
    return k, charge, extra


@uncounted
def place_floor(
    total: Int64Array,
    regular: int,
    gross_floor: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> None:
    """Turn the column of net delta into the delta floor's candidate, over the unit's rows."""
    gross = 0
    for k in range(begin, end):
        gross += abs(lots[k]) * gross_floor[instrument[k]]
    total[regular] = -gross - abs(total[regular])


@uncounted
def _add_coin(total: Int64Array, column: Int64Array, c: int, amount_minor: int) -> None:
    """Add floor(amount x column[c] / step): exact, rounded against the pool."""
    steps = amount_minor // COIN_STEP_MINOR
    rest = amount_minor - steps * COIN_STEP_MINOR
    for s in range(len(total)):
        total[s] += steps * column[c, s] + rest * column[c, s] // COIN_STEP_MINOR


@uncounted
def _coin_charge(rate: int, amount_minor: int) -> int:
    """ceil(|amount| x rate / step)."""
    size = abs(amount_minor)
    steps = size // COIN_STEP_MINOR
    rest = size - steps * COIN_STEP_MINOR
    return steps * rate + (rest * rate + COIN_STEP_MINOR - 1) // COIN_STEP_MINOR


@uncounted
def add_coins(
    total: Int64Array, coin: Int64Array, coin_terms: Int64Array, amounts: Int64Array, unit: int,
    units: int,
) -> tuple[int, int]:  # fmt: skip
    """Add a pool's coin and tokens of `unit` to `total`; their charges: maintenance, extra.

    `amounts[C]`: the first `units` are the units' own coins.
    """
    charge, extra = 0, 0
    if amounts[unit] != 0:
        _add_coin(total, coin, unit, amounts[unit])
        charge += _coin_charge(coin_terms[unit, COIN_CHARGE], amounts[unit])
        extra += _coin_charge(coin_terms[unit, COIN_EXTRA], amounts[unit])
    for c in range(units, len(amounts)):
        if coin_terms[c, COIN_UNIT] == unit and amounts[c] != 0:
            _add_coin(total, coin, c, amounts[c])
            charge += _coin_charge(coin_terms[c, COIN_CHARGE], amounts[c])
            extra += _coin_charge(coin_terms[c, COIN_EXTRA], amounts[c])
    return charge, extra


@uncounted
def has_coins(coin_terms: Int64Array, amounts: Int64Array, unit: int, units: int) -> bool:
    """Whether a pool has coin cash or tokens in `unit`."""
    found: bool = amounts[unit] != 0
    for c in range(units, len(amounts)):
        found = found or (coin_terms[c, COIN_UNIT] == unit and amounts[c] != 0)
    return found


@uncounted
def largest_loss(total: Int64Array) -> int:
    """Minus the lowest entry, or 0 if none is negative."""
    lowest = 0
    for s in range(len(total)):
        lowest = min(lowest, total[s])
    return -lowest


@uncounted
def scenario_of(total: Int64Array, loss: int) -> int:
    """Where `total` first is minus the largest loss; -1 for no loss."""
    count = len(total)
    at = count
    for s in range(count):  # without a branch: this loop vectorises, a search does not
        at = min(at, s if total[s] == -loss else count)
    return at if loss > 0 else -1


@uncounted
def carry(whole: Triple, fraction: Triple, sums: Triple, exponent: int) -> tuple[Triple, Triple]:
    """Add sums in quanta of 2^-exponent to whole minor units and fractions of 2^-20."""
    mask = (1 << exponent) - 1
    up = MOST_RISK_EXPONENT - exponent
    return (
        (
            whole[0] + (sums[0] >> exponent),
            whole[1] + (sums[1] >> exponent),
            whole[2] + (sums[2] >> exponent),
        ),
        (
            fraction[0] + ((sums[0] & mask) << up),
            fraction[1] + ((sums[1] & mask) << up),
            fraction[2] + ((sums[2] & mask) << up),
        ),
    )


@uncounted
def rounded_up(whole: int, fraction: int) -> int:
    """Minor units of a sum kept as whole units and fractions of 2^-20, upward."""
    return whole + ((fraction + (_FRACTION_ONE - 1)) >> MOST_RISK_EXPONENT)


@uncounted
def margins(whole: Triple, fraction: Triple, factors_ppb: Int64Array) -> tuple[int, int, int]:
    """(worst, initial, maintenance) in minor units from exact sums of worst, MM, extra IM."""
    worst = rounded_up(whole[0], fraction[0])
    charge = rounded_up(whole[1], fraction[1])
    extra = rounded_up(whole[2], fraction[2])
    maintenance = mul_div_ceil(worst, factors_ppb[0], RATE_SCALE) + charge
    initial = mul_div_ceil(worst, factors_ppb[1], RATE_SCALE) + extra + charge
    return worst, initial, maintenance
