"""A scenario matrix laid out for the kernels, and the steps that the kernels share.

Every step is integer arithmetic on one pool: add position rows, add coin cash, find the largest
loss, add contingencies, carry sums of different risk exponents to one scale, round up once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from margin.fixed_point import RATE_SCALE, mul_div_ceil
from margin.invariant import Int64Array
from margin.portfolio import NO_STRIKE_GROUP, Instruments
from margin.preset import Preset
from margin.scenarios import COIN_STEP_MINOR, MOST_RISK_EXPONENT, ScenarioMatrix

# Columns of `RiskTable.terms`: what a position needs besides its row, in one cache line.
UNIT: Final = 0
GROUP: Final = 1
CHARGE: Final = 2
EXTRA_CHARGE: Final = 3

_COLUMN_BLOCK: Final = 8
_READS_PER_ROW: Final = 8
_LEAST_INT32: Final = -(2**31)
_MOST_INT32: Final = 2**31 - 1
# What is and-ed with this is not negative, so the compiler leaves out the code by which a negative
# index counts from the end: a twentieth of a large pass. Slots and rows are far below.
_NOT_NEGATIVE: Final = 2**31 - 1
_FRACTION_ONE: Final = 1 << MOST_RISK_EXPONENT

Triple = tuple[int, int, int]
"""Worst loss, maintenance contingency, extra initial contingency."""

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def inlined(function: Kernel) -> Kernel:
    """Inline into every caller: the steps are short and hand arrays on."""
    return cast(Kernel, njit(cache=True, forceinline=True)(function))


class RiskTable(msgspec.Struct, frozen=True, gc=False):
    """What the kernels read of one revaluation, laid out for them; built by `risk_table`.

    `rows[I x row_stride, S]`: long rows, or long and short rows in turn when they are not
    mirror images; S is padded with zero columns, which never are a loss. `terms[I,4]`: risk unit,
    strike group counted from 0 (-1 for delta-one), maintenance and extra initial contingency in
    quanta: per lot of a delta-one instrument, per naked short lot of an option's strike.
    `group_terms[G,4]`: unit, one slot of the group, and those of the strike again. `coin[U,S]`,
    `coin_value[U]`, `risk_exponent[U]` as in `ScenarioMatrix`. `factors_ppb`: maintenance, initial.
    """

    rows: Int64Array
    row_stride: int
    terms: Int64Array
    group_terms: Int64Array
    coin: Int64Array
    coin_value: Int64Array
    risk_exponent: Int64Array
    factors_ppb: Int64Array


class RiskLayout(msgspec.Struct, frozen=True, gc=False):
    """What a risk table takes from the listing alone: strike groups and one slot of each."""

    group: Int64Array
    slot: Int64Array


def risk_layout(instruments: Instruments) -> RiskLayout:
    """Number the strike groups from 0; once a listing."""
    option = np.flatnonzero(instruments.strike_group != NO_STRIKE_GROUP)
    _, first, number = np.unique(
        instruments.strike_group[option], return_index=True, return_inverse=True
    )
    group = np.full(len(instruments), NO_STRIKE_GROUP, dtype=np.int64)
    group[option] = number.reshape(-1)
    return RiskLayout(group, option[first].astype(np.int64))


def risk_table(
    preset: Preset,
    instruments: Instruments,
    matrix: ScenarioMatrix,
    layout: RiskLayout | None = None,
) -> RiskTable:
    """Lay out a scenario matrix for the kernels: once a revaluation, not once a pool."""
    layout = layout or risk_layout(instruments)
    charges = (matrix.delta_one_mm, matrix.delta_one_im_extra)
    naked = (matrix.naked_mm, matrix.naked_im_extra)
    rows, stride, terms, group_terms, coin = _lay_out(
        matrix.long, matrix.short, matrix.coin, instruments.unit, layout.group, layout.slot,
        charges, naked,
    )  # fmt: skip
    return RiskTable(
        rows=rows,
        row_stride=stride,
        terms=terms,
        group_terms=group_terms,
        coin=coin,
        coin_value=matrix.coin_value,
        risk_exponent=matrix.risk_exponent,
        factors_ppb=np.array((preset.factor.maintenance_ppb, preset.factor.initial_ppb), np.int64),
    )


def narrow_rows(rows: Int64Array, reads: int) -> npt.NDArray[np.signedinteger]:
    """`rows` at half the width, if every entry fits in 32 bits and `reads` of rows repay the copy.

    A large pass waits for rows from the second-level cache, so half the bytes take less time. The
    result is the same: lots have 64 bits, so every product and sum has them too.
    """
    if reads < _READS_PER_ROW * len(rows):
        return rows
    if rows.min(initial=0) < _LEAST_INT32 or rows.max(initial=0) > _MOST_INT32:
        return rows
    return rows.astype(np.int32)


@njit(cache=True)
def _lay_out(
    long: Int64Array,
    short: Int64Array,
    coin: Int64Array,
    unit: Int64Array,
    group: Int64Array,
    slot: Int64Array,
    charges: tuple[Int64Array, Int64Array],
    naked: tuple[Int64Array, Int64Array],
) -> tuple[Int64Array, int, Int64Array, Int64Array, Int64Array]:
    """Rows, their stride, terms, group terms and coin columns of a `RiskTable`."""
    count, scenarios = long.shape
    columns = (scenarios + _COLUMN_BLOCK - 1) // _COLUMN_BLOCK * _COLUMN_BLOCK
    stride = 1
    for i in range(count):
        for s in range(scenarios):
            if short[i, s] != -long[i, s]:
                stride = 2
    rows = np.zeros((count * stride, columns), np.int64)
    terms = np.empty((count, 4), np.int64)
    for i in range(count):
        terms[i, UNIT], terms[i, GROUP] = unit[i], group[i]
        terms[i, CHARGE], terms[i, EXTRA_CHARGE] = charges[0][i], charges[1][i]
        if group[i] >= 0:
            strike = slot[group[i]]
            terms[i, CHARGE], terms[i, EXTRA_CHARGE] = naked[0][strike], naked[1][strike]
        for s in range(scenarios):
            rows[i * stride, s] = long[i, s]
            if stride == 2:
                rows[2 * i + 1, s] = short[i, s]
    group_terms = np.empty((len(slot), 4), np.int64)
    for g in range(len(slot)):
        i = slot[g]
        group_terms[g, UNIT], group_terms[g, GROUP] = unit[i], i
        group_terms[g, CHARGE], group_terms[g, EXTRA_CHARGE] = naked[0][i], naked[1][i]
    padded = np.zeros((coin.shape[0], columns), np.int64)
    for u in range(coin.shape[0]):
        for s in range(scenarios):
            padded[u, s] = coin[u, s]
    return rows, stride, terms, group_terms, padded


@inlined
def _grown(
    terms: Int64Array, i: int, lots: int, group: int, net: int, size: int
) -> tuple[int, int, int, int]:
    """(group, net, size, growth) after `lots` of instrument `i`, given those of the row before.

    `size` is what contingencies are charged on: either side of a delta-one instrument, the naked
    shorts of a strike; `growth` is what this row adds to it. Without branches, since nothing
    predicts whether the next row is of the same strike.
    """
    here = terms[i, GROUP]
    same = here >= 0 and here == group
    net = lots + (net if same else 0)
    before = size if same else 0
    size = max(-net, net if here < 0 else 0)
    return here, net, size, size - before


@inlined
def _add_four(
    total: Int64Array,
    rows: Int64Array,
    stride: int,
    instrument: tuple[int, int, int, int],
    lots: tuple[int, int, int, int],
) -> None:
    """Add lots x row of four positions to `total`, scenarios innermost: this loop vectorises."""
    step = stride - 1
    q0, q1, q2, q3 = lots
    i0 = (instrument[0] * stride + (step if q0 < 0 else 0)) & _NOT_NEGATIVE
    i1 = (instrument[1] * stride + (step if q1 < 0 else 0)) & _NOT_NEGATIVE
    i2 = (instrument[2] * stride + (step if q2 < 0 else 0)) & _NOT_NEGATIVE
    i3 = (instrument[3] * stride + (step if q3 < 0 else 0)) & _NOT_NEGATIVE
    if stride == 2:
        q0, q1, q2, q3 = abs(q0), abs(q1), abs(q2), abs(q3)
    for s in range(len(total)):
        total[s] += q0 * rows[i0, s] + q1 * rows[i1, s] + q2 * rows[i2, s] + q3 * rows[i3, s]


@inlined
def _add_one(total: Int64Array, rows: Int64Array, stride: int, instrument: int, lots: int) -> None:
    """Add lots x row of one position to `total`."""
    row = (instrument * stride + (stride - 1 if lots < 0 else 0)) & _NOT_NEGATIVE
    size = abs(lots) if stride == 2 else lots
    for s in range(len(total)):
        total[s] += size * rows[row, s]


@inlined
def add_unit(
    total: Int64Array,
    rows: Int64Array,
    stride: int,
    terms: Int64Array,
    options: bool,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
    unit: int,
) -> tuple[int, int, int]:
    """Set `total` to the sum of lots x row over the rows of `unit` from `begin` on, before `end`.

    Returns the first row after them and their contingencies (maintenance, extra initial) in quanta
    of the unit, counted on the way because scalar units idle while vectors are added. `options`:
    whether any instrument of the table is in a strike group.
    """
    total[:] = 0
    charge, extra, group, net, size = 0, 0, NO_STRIKE_GROUP, 0, 0
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
        if options:
            group, net, size, g0 = _grown(terms, i0, q[0], group, net, size)
            group, net, size, g1 = _grown(terms, i1, q[1], group, net, size)
            group, net, size, g2 = _grown(terms, i2, q[2], group, net, size)
            group, net, size, g3 = _grown(terms, i3, q[3], group, net, size)
        charge += g0 * terms[i0, CHARGE] + g1 * terms[i1, CHARGE]
        charge += g2 * terms[i2, CHARGE] + g3 * terms[i3, CHARGE]
        extra += g0 * terms[i0, EXTRA_CHARGE] + g1 * terms[i1, EXTRA_CHARGE]
        extra += g2 * terms[i2, EXTRA_CHARGE] + g3 * terms[i3, EXTRA_CHARGE]
        _add_four(total, rows, stride, i, q)
        k += 4
    while k < end and terms[instrument[k], UNIT] == unit:
        i0 = instrument[k]
        group, net, size, g0 = _grown(terms, i0, lots[k], group, net, size)
        charge += g0 * terms[i0, CHARGE]
        extra += g0 * terms[i0, EXTRA_CHARGE]
        _add_one(total, rows, stride, i0, lots[k])
        k += 1
    return k, charge, extra


@inlined
def add_coin(total: Int64Array, column: Int64Array, unit: int, amount_minor: int) -> None:
    """Add floor(amount x column[unit] / step): exact, rounded against the pool."""
    steps = amount_minor // COIN_STEP_MINOR
    rest = amount_minor - steps * COIN_STEP_MINOR
    for s in range(len(total)):
        total[s] += steps * column[unit, s] + rest * column[unit, s] // COIN_STEP_MINOR


@inlined
def largest_loss(total: Int64Array) -> tuple[int, int]:
    """(loss, scenario) of the lowest entry, the first of equals; (0, -1) if none is negative."""
    count = len(total)
    lowest = 0
    for s in range(count):
        lowest = min(lowest, total[s])
    at = count
    for s in range(count):  # without a branch: this loop vectorises, a search does not
        at = min(at, s if total[s] == lowest else count)
    return -lowest, at if lowest < 0 else -1


@inlined
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


@inlined
def rounded_up(whole: int, fraction: int) -> int:
    """Minor units of a sum kept as whole units and fractions of 2^-20, upward."""
    return whole + ((fraction + (_FRACTION_ONE - 1)) >> MOST_RISK_EXPONENT)


@inlined
def margins(whole: Triple, fraction: Triple, factors_ppb: Int64Array) -> tuple[int, int, int]:
    """(worst, initial, maintenance) in minor units from exact sums of worst, MM, extra IM."""
    worst = rounded_up(whole[0], fraction[0])
    charge = rounded_up(whole[1], fraction[1])
    extra = rounded_up(whole[2], fraction[2])
    maintenance = mul_div_ceil(worst, factors_ppb[0], RATE_SCALE) + charge
    initial = mul_div_ceil(worst, factors_ppb[1], RATE_SCALE) + extra + charge
    return worst, initial, maintenance


def warm_up() -> None:
    """Compile the layout kernel; the steps compile with the kernels that inline them."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    _lay_out(grid, grid, grid, one, one, one, (one, one), (one, one))
