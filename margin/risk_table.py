"""A scenario matrix laid out for the kernels that go over pools (`margin.pool_steps`)."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
from numba import njit

from margin.invariant import BoolArray, Int64Array
from margin.portfolio import NO_STRIKE_GROUP, Instruments
from margin.preset import Preset
from margin.scenarios import ScenarioMatrix

# Columns of `RiskTable.terms`: what a position needs besides its row, in one cache line.
UNIT: Final = 0
GROUP: Final = 1
CHARGE: Final = 2
EXTRA_CHARGE: Final = 3
EXPIRY: Final = 4
GROSS_EXTRA: Final = 5
BETTER_ROW: Final = 6
GROSS_CHARGE: Final = 7
_TERMS: Final = 8

# Columns of `RiskTable.coin_terms`.
COIN_UNIT: Final = 0
COIN_CHARGE: Final = 1
COIN_EXTRA: Final = 2

_COLUMN_BLOCK: Final = 8
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

    `rows[I, halves x S]`: S is padded with zero columns, which never are a loss. `shape`: what the
    columns are. `start[U,S]`: what a unit's columns start from. `terms[I,8]`: risk unit, strike
    group counted from 0 (-1 for delta-one), maintenance and extra initial contingency in quanta
    (per lot of a delta-one instrument, per naked short lot of an option's strike), number of the
    (unit, expiry) or of the unit where expiries do not count, extra initial contingency per option
    lot on either side, 1 where the better of two rows counts, maintenance contingency per option
    lot on either side. `group_terms[G,4]`: unit, one slot of the group, and contingencies of the
    strike again. `expiries`: how many numbers there are. `gross_floor[I]`: part of a delta floor
    per lot on either side, empty without a floor. `coin[C,S]`, `coin_value[C]`, `risk_exponent[U]`
    as in `ScenarioMatrix`; `coin_terms[C,3]`: unit, maintenance and extra initial charge per step.
    `factors_ppb`: maintenance, initial.
    """

    rows: Int64Array
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
) -> RiskTable:
    """Lay out a scenario matrix for the kernels: once a revaluation, not once a pool."""
    layout = layout or risk_layout(instruments)
    charges = (matrix.delta_one_mm, matrix.delta_one_im_extra)
    naked = (matrix.naked_mm, matrix.naked_im_extra)
    by_expiry = matrix.expiry_rows
    if by_expiry is None:
        shape = RowShape(matrix.long.shape[1], 0, 0, 1)
        halves = (matrix.long, matrix.long)
        if matrix.floor is not None:  # the last column is net delta, whose magnitude counts
            shape = RowShape(matrix.long.shape[1] - 1, 1, 0, 1)
            net = np.concatenate((matrix.long[:, :-1], matrix.floor[1][:, None]), axis=1)
            halves = (net, net)
        better = np.zeros(len(instruments), np.bool_)
        expiry, expiries = instruments.unit, int(matrix.risk_exponent.shape[0])
    else:
        shape = RowShape(by_expiry.regular, by_expiry.skews, by_expiry.basis, 2)
        halves = (by_expiry.asset, by_expiry.liability)
        better = by_expiry.reversed_discount
        expiry, expiries = layout.expiry, int(layout.expiry.max(initial=-1)) + 1
    none = np.zeros(len(instruments), np.int64)
    gross = (
        matrix.option_mm if matrix.option_mm is not None else none,
        matrix.option_im_extra if matrix.option_im_extra is not None else none,
    )
    rows, terms, group_terms, coin = _lay_out(
        halves, shape.halves, matrix.coin, (instruments.unit, layout.group, expiry), gross,
        better, layout.slot, charges, naked,
    )  # fmt: skip
    initial_ppb = preset.factor.initial_ppb + matrix.peg_ppb
    return RiskTable(
        rows=rows,
        shape=shape,
        terms=terms,
        group_terms=group_terms,
        expiries=expiries,
        start=_start(matrix, rows.shape[1] // shape.halves),
        gross_floor=none[:0] if matrix.floor is None else np.ascontiguousarray(matrix.floor[0]),
        coin=coin,
        coin_value=matrix.coin_value,
        coin_terms=_coin_terms(matrix),
        risk_exponent=matrix.risk_exponent,
        factors_ppb=np.array((preset.factor.maintenance_ppb, initial_ppb), np.int64),
    )


def _start(matrix: ScenarioMatrix, columns: int) -> Int64Array:
    start = np.zeros((matrix.risk_exponent.shape[0], columns), np.int64)
    if matrix.allowance is not None:
        start[:, : matrix.allowance.shape[1]] = matrix.allowance
    return start


def _coin_terms(matrix: ScenarioMatrix) -> Int64Array:
    coins = matrix.coin.shape[0]
    terms = np.zeros((coins, 3), np.int64)
    terms[:, COIN_UNIT] = np.arange(coins) if matrix.coin_unit is None else matrix.coin_unit
    if matrix.coin_mm is not None:
        terms[:, COIN_CHARGE] = matrix.coin_mm
    if matrix.coin_im_extra is not None:
        terms[:, COIN_EXTRA] = matrix.coin_im_extra
    return terms


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
    halves: tuple[Int64Array, Int64Array],
    half_count: int,
    coin: Int64Array,
    listed: tuple[Int64Array, Int64Array, Int64Array],
    gross: tuple[Int64Array, Int64Array],
    better: BoolArray,
    slot: Int64Array,
    charges: tuple[Int64Array, Int64Array],
    naked: tuple[Int64Array, Int64Array],
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Rows, terms, group terms and coin columns of a `RiskTable`."""
    count, width = halves[0].shape
    columns = (width + _COLUMN_BLOCK - 1) // _COLUMN_BLOCK * _COLUMN_BLOCK
    unit, group, expiry = listed
    rows = np.zeros((count, half_count * columns), np.int64)
    terms = np.zeros((count, _TERMS), np.int64)
    for i in range(count):
        terms[i, UNIT], terms[i, GROUP] = unit[i], group[i]
        terms[i, CHARGE], terms[i, EXTRA_CHARGE] = charges[0][i], charges[1][i]
        terms[i, EXPIRY] = expiry[i]
        terms[i, GROSS_CHARGE], terms[i, GROSS_EXTRA] = gross[0][i], gross[1][i]
        terms[i, BETTER_ROW] = 1 if better[i] else 0
        if group[i] >= 0:
            strike = slot[group[i]]
            terms[i, CHARGE], terms[i, EXTRA_CHARGE] = naked[0][strike], naked[1][strike]
        for s in range(width):
            rows[i, s] = halves[0][i, s]
            if half_count == 2:
                rows[i, columns + s] = halves[1][i, s]
    group_terms = np.empty((len(slot), 4), np.int64)
    for g in range(len(slot)):
        i = slot[g]
        group_terms[g, UNIT], group_terms[g, GROUP] = unit[i], i
        group_terms[g, CHARGE], group_terms[g, EXTRA_CHARGE] = naked[0][i], naked[1][i]
    padded = np.zeros((coin.shape[0], columns), np.int64)
    for u in range(coin.shape[0]):
        for s in range(coin.shape[1]):
            padded[u, s] = coin[u, s]
    return rows, terms, group_terms, padded


def warm_up() -> None:
    """Compile the layout kernel; the steps compile with the kernels that inline them."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    _lay_out(
        (grid, grid), 1, grid, (one, one, one), (one, one), np.zeros(1, np.bool_), one, (one, one),
        (one, one),
    )  # fmt: skip
