"""A scenario matrix laid out for the kernels that go over pools (`margin.pools.steps`)."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from margin.fixed_point import uncounted
from margin.invariant import BoolArray, Int64Array
from margin.portfolio import NO_STRIKE_GROUP, Instruments
from margin.presets.preset import Preset
from margin.scenarios.grid import ScenarioMatrix
from margin.scenarios.lot_rows import (
    DELTA_ONE,
    DELTA_ONE_EXTRA,
    NAKED,
    NAKED_EXTRA,
    OPTION,
    OPTION_EXTRA,
)

# Columns of `RiskTable.terms`: what a position needs besides its row, in one cache line.
UNIT: Final = 0
GROUP: Final = 1
NAKED_CHARGE: Final = 2
NAKED_EXTRA_CHARGE: Final = 3
EXPIRY: Final = 4
GROSS_EXTRA_CHARGE: Final = 5
BETTER_ROW: Final = 6
GROSS_CHARGE: Final = 7
_TERMS: Final = 8

# Columns of `RiskTable.coin_terms`.
COIN_UNIT: Final = 0
COIN_CHARGE: Final = 1
COIN_EXTRA: Final = 2

_COLUMN_BLOCK: Final = 8
_LINE_BYTES: Final = 64
_READS_PER_ROW: Final = 8
_LEAST_INT32: Final = -(2**31)
_MOST_INT32: Final = 2**31 - 1


class RowShape(NamedTuple):
    """How the columns of a risk table are laid out.

    `regular` spot scenarios come first, then `skews`, then `basis` (0 or 1). `halves` is 2 where a
    row holds the columns for a positive expiry and after them those for a negative one (of the
    basis: its move down, and its move up), 1 where expiries do not count on their own.
    """

    regular: int
    skews: int
    basis: int
    halves: int


class RiskTable(msgspec.Struct, frozen=True, gc=False):
    """What the kernels read of one revaluation, laid out for them; built by `risk_table`.

    `rows[I, halves x S]`: S is padded with zero columns, which never are a loss. `lone[I, 2 x S]`:
    what a position that is alone in its expiry adds to its unit per lot, long and short; empty
    where `halves` is 1. `shape`: what the columns are. `start[U,S]`: what a unit's columns start
    from. `terms[I,8]`: risk unit, strike group counted from 0 (-1 for delta-one), maintenance and
    extra initial contingency in quanta per naked short lot of an option's strike (0 for delta-one),
    number of the (unit, expiry) or of the unit where expiries do not count, extra initial
    contingency per lot on either side, 1 where the better of two rows counts, maintenance
    contingency per lot on either side. `group_terms[G,4]`: unit, one slot of the group, and
    contingencies of the strike again. `expiries`: how many numbers there are. `gross_floor[I]`:
    part of a delta floor per lot on either side, empty without a floor. `coin[C,S]`,
    `coin_value[C]`, `risk_exponent[U]` as in `ScenarioMatrix`; `coin_terms[C,3]`: unit, maintenance
    and extra initial charge per step. `factors_ppb`: maintenance, initial.
    """

    rows: Int64Array
    lone: Int64Array
    shape: RowShape
    terms: Int64Array
    group_terms: Int64Array
    expiries: int
    start: Int64Array
    gross_floor: Int64Array
    coin: Int64Array
    coin_value: Int64Array
    coin_terms: Int64Array
    risk_exponent: Int64Array
    factors_ppb: Int64Array


class RiskLayout(msgspec.Struct, frozen=True, gc=False):
    """What a risk table takes from the listing alone.

    `group`: strike groups counted from 0, `slot`: one slot of each; `expiry`: number of the
    (unit, expiry) of a slot.
    """

    group: Int64Array
    slot: Int64Array
    expiry: Int64Array


def risk_layout(instruments: Instruments) -> RiskLayout:
    """Number the strike groups and the expiries of units from 0; once a listing."""
    option = np.flatnonzero(instruments.strike_group != NO_STRIKE_GROUP)
    _, first, number = np.unique(
        instruments.strike_group[option], return_index=True, return_inverse=True
    )
    group = np.full(len(instruments), NO_STRIKE_GROUP, dtype=np.int64)
    group[option] = number.reshape(-1)
    dated = np.stack((instruments.unit, instruments.expiry_ns))
    _, expiry = np.unique(dated, axis=1, return_inverse=True)
    return RiskLayout(group, option[first].astype(np.int64), expiry.reshape(-1).astype(np.int64))


def risk_table(
    preset: Preset,
    instruments: Instruments,
    matrix: ScenarioMatrix,
    layout: RiskLayout | None = None,
    into: RiskTable | None = None,
) -> RiskTable:
    """Lay out a scenario matrix for the kernels: once a revaluation, not once a pool.

    `into`: a table of the same preset, instruments and layout, which is overwritten.
    """
    layout = layout or risk_layout(instruments)
    table = into if into is not None else _blank(preset, instruments, matrix, layout)
    rows = matrix.rows
    _lay_out(
        (rows.asset, rows.liability), table.shape, rows.reversed_discount,
        matrix.coin, matrix.coin_terms, matrix.contingency, layout.slot, table.rows, table.lone,
        table.terms, table.group_terms, table.coin, table.coin_terms,
    )  # fmt: skip
    table.factors_ppb[1] = preset.factor.initial_ppb + matrix.peg_ppb
    return table


def _blank(
    preset: Preset, instruments: Instruments, matrix: ScenarioMatrix, layout: RiskLayout
) -> RiskTable:
    """The table of a matrix but for what changes with marks."""
    rows, count = matrix.rows, len(instruments)
    shape = RowShape(rows.asset.shape[1], 0, 0, 1)
    expiry, expiries = instruments.unit, int(matrix.risk_exponent.shape[0])
    if matrix.by_expiry:
        shape = RowShape(rows.regular, rows.skews, rows.basis, 2)
        expiry, expiries = layout.expiry, int(layout.expiry.max(initial=-1)) + 1
    elif matrix.floored:  # the last column is net delta, whose magnitude counts
        shape = RowShape(rows.asset.shape[1] - 1, 1, 0, 1)
    columns = -(-rows.asset.shape[1] // _COLUMN_BLOCK) * _COLUMN_BLOCK
    rows_of_lots = on_cache_lines((count, shape.halves * columns), np.int64)
    rows_of_lots[:] = 0
    lone = on_cache_lines((count if shape.halves == 2 else 0, shape.halves * columns), np.int64)
    lone[:] = 0
    terms = np.zeros((count, _TERMS), np.int64)
    terms[:, UNIT], terms[:, GROUP], terms[:, EXPIRY] = instruments.unit, layout.group, expiry
    group_terms = np.zeros((len(layout.slot), 4), np.int64)
    group_terms[:, 0], group_terms[:, 1] = instruments.unit[layout.slot], layout.slot
    coin_terms = np.zeros((len(matrix.coin_unit), 3), np.int64)
    coin_terms[:, COIN_UNIT] = matrix.coin_unit
    start = np.zeros((matrix.risk_exponent.shape[0], columns), np.int64)
    if matrix.allowance is not None:
        start[:, : matrix.allowance.shape[1]] = matrix.allowance
    return RiskTable(
        rows=rows_of_lots,
        lone=lone,
        shape=shape,
        terms=terms,
        group_terms=group_terms,
        expiries=expiries,
        start=start,
        gross_floor=np.zeros(0, np.int64) if matrix.floor is None else matrix.floor[0],
        coin=np.zeros((len(matrix.coin_unit), columns), np.int64),
        coin_value=matrix.coin_value,
        coin_terms=coin_terms,
        risk_exponent=matrix.risk_exponent,
        factors_ppb=np.array((preset.factor.maintenance_ppb, 0), np.int64),
    )


def on_cache_lines(
    shape: tuple[int, int], dtype: type[np.signedinteger]
) -> npt.NDArray[np.signedinteger]:
    """Room for rows, uninitialised, that begins with a cache line.

    A row is a multiple of one, so no load of a vector takes two: a tenth of a large pass.
    """
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    room = np.empty(size + _LINE_BYTES, np.uint8)
    start = -room.ctypes.data % _LINE_BYTES
    return room[start : start + size].view(dtype).reshape(shape)


def narrow_rows(rows: Int64Array, reads: int) -> npt.NDArray[np.signedinteger]:
    """`rows` at half the width, if every entry fits in 32 bits and `reads` of rows repay the copy.

    A large pass waits for rows from the second-level cache, so half the bytes take less time. The
    result is the same: lots have 64 bits, so every product and sum has them too.
    """
    if reads < _READS_PER_ROW * len(rows):
        return rows
    if rows.min(initial=0) < _LEAST_INT32 or rows.max(initial=0) > _MOST_INT32:
        return rows
    narrow = on_cache_lines(rows.shape, np.int32)
    narrow[:] = rows
    return narrow


@uncounted
def _lone_row(row: Int64Array, better: bool, shape: RowShape, lone: Int64Array) -> None:
    """Fill in what a position that is alone in its expiry adds per lot, long and short.

    By the rule of `margin.pools.expiry_groups` for a sum of one row: the lower of its two values,
    or the higher where the better counts; of a skew minus the magnitude; of the basis a loss at
    most.
    """
    columns, spot_and_skews = len(row) // 2, shape.regular + shape.skews
    for s in range(columns):
        low, high = min(row[s], row[columns + s]), max(row[s], row[columns + s])
        if better and s < spot_and_skews:
            low, high = high, low
        if s < shape.regular:
            lone[s], lone[columns + s] = low, -high
        elif s < spot_and_skews:
            lone[s], lone[columns + s] = -abs(low), -abs(high)
        else:
            lone[s], lone[columns + s] = min(low, 0), min(-high, 0)


@njit(cache=True)
def _lay_out(
    halves: tuple[Int64Array, Int64Array],
    shape: RowShape,
    reversed_discount: BoolArray,
    coin: Int64Array,
    coin_charges: Int64Array,
    contingency: Int64Array,
    slot: Int64Array,
    rows: Int64Array,
    lone: Int64Array,
    terms: Int64Array,
    group_terms: Int64Array,
    padded: Int64Array,
    coin_terms: Int64Array,
) -> None:
    """Fill in what changes with marks: rows, charges of terms and groups, coin columns."""
    count, width = halves[0].shape
    columns = rows.shape[1] // shape.halves
    for i in range(count):
        if terms[i, GROUP] >= 0:
            strike = slot[terms[i, GROUP]]
            terms[i, NAKED_CHARGE] = contingency[NAKED, strike]
            terms[i, NAKED_EXTRA_CHARGE] = contingency[NAKED_EXTRA, strike]
            terms[i, GROSS_CHARGE] = contingency[OPTION, i]
            terms[i, GROSS_EXTRA_CHARGE] = contingency[OPTION_EXTRA, i]
        else:
            terms[i, GROSS_CHARGE] = contingency[DELTA_ONE, i]
            terms[i, GROSS_EXTRA_CHARGE] = contingency[DELTA_ONE_EXTRA, i]
        for s in range(width):
            rows[i, s] = halves[0][i, s]
        if shape.halves == 2:
            terms[i, BETTER_ROW] = 1 if reversed_discount[i] else 0
            for s in range(width):
                rows[i, columns + s] = halves[1][i, s]
            _lone_row(rows[i], reversed_discount[i], shape, lone[i])
    for g in range(len(slot)):
        group_terms[g, NAKED_CHARGE] = contingency[NAKED, slot[g]]
        group_terms[g, NAKED_EXTRA_CHARGE] = contingency[NAKED_EXTRA, slot[g]]
    for c in range(coin.shape[0]):
        coin_terms[c, COIN_CHARGE] = coin_charges[1, c]
        coin_terms[c, COIN_EXTRA] = coin_charges[2, c]
        for s in range(coin.shape[1]):
            padded[c, s] = coin[c, s]


def warm_up() -> None:
    """Compile the layout kernel; the steps compile with the kernels that inline them."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    terms, charges = np.zeros((1, _TERMS), np.int64), np.zeros((8, 1), np.int64)
    _lay_out(
        (grid, grid), RowShape(1, 0, 0, 1), np.zeros(1, np.bool_), grid, charges, charges, one,
        grid.copy(), grid.copy(), terms, terms, grid.copy(), terms,
    )  # fmt: skip
