"""How far requirements can have moved since a full pass: one multiplication a position.

Between two risk tables let d_i be the largest change of any entry of instrument i's rows. A pool's
profit and loss in a scenario is the sum of lots x row entries, so no scenario has moved by more
than

    D = sum over positions |lots_i| d_i,

and what is made of the scenarios moves by no more than that either, because each step is
1-Lipschitz in the largest change of its inputs: a lowest entry, the lower of two sums (a long and a
short discount), -|sum| (a skew), min(0, a, b) (a basis), a weight of at most 1, and a sum over
parts, whose bounds are summed (for a delta floor of gross and net parts: d_i and the change of its
gross part). Contingencies are at most |lots| x charge, so they move by at most |lots| x the change
of the charge. Hence for the initial margin

    IM_now <= IM_then + sum |lots_i| (im_factor d_i + change of its charges) + coin + rounding,

and the same sum bounds the growth of the maintenance margin. The rounding is the most by which
rounding up twice can differ: |ceil a - ceil b| <= ceil |a - b|. A requirement that is *not*
continuous in its rows, such as an offset between units that depends on the direction of their
worst moves, has no such bound.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit, prange

from margin.fixed_point import RATE_SCALE, inlined, mul_div_ceil, mul_div_floor, uncounted
from margin.invariant import Int64Array, check
from margin.pools.risk_table import (
    BETTER_ROW,
    COIN_CHARGE,
    COIN_EXTRA,
    COIN_UNIT,
    EXPIRY,
    GROSS_CHARGE,
    GROSS_EXTRA_CHARGE,
    GROUP,
    NAKED_CHARGE,
    NAKED_EXTRA_CHARGE,
    UNIT,
    RiskTable,
)
from margin.portfolio import Positions
from margin.scenarios.grid import COIN_STEP_MINOR

UNBOUNDED: Final = 2**61
"""Increase of a pool for which no bound was formed; requirements and equity stay below it."""

_DRIFT_BITS: Final = 8  # drifts are counted in 2^-8 minor units, rounded up
_MOST_QUANTA: Final = 2**50
_MOST_DRIFT: Final = 2**60
_MOST_ROWS: Final = 256
_VALUE_SCALE: Final = 1_000_000
_POOLS_PER_CHUNK: Final = 1024
# What is and-ed with these is not negative already; the compiler learns it and leaves out code.
_NOT_NEGATIVE: Final = 2**31 - 1
_POSITIVE: Final = 2**63 - 1
_BIAS: Final = 2**62 // _VALUE_SCALE * _VALUE_SCALE
# What the pass reads of an instrument: two numbers side by side.
_DRIFT, _VALUE = range(2)


class LotValues(NamedTuple):
    """Value of one lot at its mark, shape [I] each.

    `value_e6`: in 10^-6 minor units of `currency`, 0 being USDC; 0 for what settles into cash.
    """

    value_e6: Int64Array
    currency: Int64Array


class Drift(NamedTuple):
    """How far a requirement can have moved since the base, in 2^-8 minor units, rounded up.

    `lot[I]`: per lot of an instrument, either side. `coin[C]`: per 10^-4 coin that was there at the
    base; `coin_added[C]`: per 10^-4 coin that came or went. `rounding_minor`: per pool.
    """

    lot: Int64Array
    coin: Int64Array
    coin_added: Int64Array
    rounding_minor: int


@njit(cache=True)
def row_drift(then: Int64Array, now: Int64Array) -> Int64Array:
    """Largest absolute change of any entry of each row, shape [I].

    `then` and `now` have shape [I, columns]: whatever the columns are, as long as what is made of
    them is 1-Lipschitz. Entries below 2^61.
    """
    largest = np.zeros(then.shape[0], np.int64)
    for i in range(then.shape[0]):
        most = 0
        for s in range(then.shape[1]):
            change = now[i, s] - then[i, s]
            most = max(most, max(change, -change))
        largest[i] = most
    return largest


@inlined
def _fine_units(change: int, charge: int, exponent: int, factor_ppb: int) -> int:
    """factor x change + charge, quanta of 2^-exponent, as 2^-8 minor units rounded up."""
    if change >= _MOST_QUANTA or charge >= _MOST_QUANTA:
        return UNBOUNDED
    quanta = mul_div_ceil(change, factor_ppb, RATE_SCALE) + charge
    if exponent <= _DRIFT_BITS:
        return quanta << (_DRIFT_BITS - exponent)
    return -(-quanta >> (exponent - _DRIFT_BITS))


@njit(cache=True)
def _lot_drifts(
    rows: tuple[Int64Array, Int64Array],
    gross_floor: tuple[Int64Array, Int64Array],
    terms: tuple[Int64Array, Int64Array],
    risk_exponent: Int64Array,
    factor_ppb: int,
) -> Int64Array:
    """`Drift.lot` of rows, delta floors and terms (then, now)."""
    drift = row_drift(rows[0], rows[1])
    for i in range(len(drift)):
        if len(gross_floor[0]) > 0:  # a candidate of gross and net parts: both may have moved
            drift[i] += abs(gross_floor[1][i] - gross_floor[0][i])
        charge = abs(terms[1][i, NAKED_CHARGE] - terms[0][i, NAKED_CHARGE])
        charge += abs(terms[1][i, NAKED_EXTRA_CHARGE] - terms[0][i, NAKED_EXTRA_CHARGE])
        charge += abs(terms[1][i, GROSS_CHARGE] - terms[0][i, GROSS_CHARGE])
        charge += abs(terms[1][i, GROSS_EXTRA_CHARGE] - terms[0][i, GROSS_EXTRA_CHARGE])
        drift[i] = _fine_units(drift[i], charge, risk_exponent[terms[1][i, UNIT]], factor_ppb)
    return drift


@njit(cache=True)
def _coin_drifts(
    coin: tuple[Int64Array, Int64Array],
    terms: tuple[Int64Array, Int64Array],
    risk_exponent: Int64Array,
    factor_ppb: int,
) -> Int64Array:
    """Drift per step of coin columns and charges (then, now), shape [C]."""
    drift = row_drift(coin[0], coin[1])
    for c in range(len(drift)):
        charge = abs(terms[1][c, COIN_CHARGE] - terms[0][c, COIN_CHARGE])
        charge += abs(terms[1][c, COIN_EXTRA] - terms[0][c, COIN_EXTRA])
        drift[c] = _fine_units(drift[c], charge, risk_exponent[terms[1][c, COIN_UNIT]], factor_ppb)
    return drift


def requirement_drift(then: RiskTable, now: RiskTable) -> Drift | None:
    """How far a pool's requirements can move from table `then` to table `now`.

    None if the tables are not of the same listing, model, risk exponents and factors, or if the
    better instead of the worse of two rows has come to count somewhere: then only a full pass says
    anything.
    """
    same = (
        then.rows.shape == now.rows.shape
        and then.shape == now.shape
        and then.coin.shape == now.coin.shape
        and np.array_equal(then.start, now.start)
        and then.gross_floor.shape == now.gross_floor.shape
        and np.array_equal(_fixed_terms(then), _fixed_terms(now))
        and np.array_equal(then.coin_terms[:, COIN_UNIT], now.coin_terms[:, COIN_UNIT])
        and np.array_equal(then.risk_exponent, now.risk_exponent)
        and np.array_equal(then.factors_ppb, now.factors_ppb)
    )
    if not same:
        return None
    factor_ppb = int(now.factors_ppb.max())
    exponent = now.risk_exponent
    lot = _lot_drifts(
        (then.rows, now.rows), (then.gross_floor, now.gross_floor), (then.terms, now.terms),
        exponent, factor_ppb,
    )  # fmt: skip
    held = (then.coin, now.coin), (then.coin_terms, now.coin_terms)
    from_nothing = now.coin_terms.copy()
    from_nothing[:, COIN_CHARGE] = from_nothing[:, COIN_EXTRA] = 0
    added = (np.zeros_like(now.coin), now.coin), (from_nothing, now.coin_terms)
    # The worst loss is rounded up before the factor and after it, each contingency once.
    return Drift(
        lot=lot,
        coin=_coin_drifts(*held, exponent, factor_ppb),
        coin_added=_coin_drifts(*added, exponent, factor_ppb),
        rounding_minor=-(-factor_ppb // RATE_SCALE) + 3,
    )


def _fixed_terms(table: RiskTable) -> Int64Array:
    """The terms whose change no bound covers."""
    return table.terms[:, [UNIT, GROUP, EXPIRY, BETTER_ROW]]


@uncounted
def _are_small(lots: Int64Array, most_bits: int) -> bool:
    """Whether no position of a pool has a bit outside `most_bits`, and there are not too many."""
    bits = 0
    for k in range(len(lots)):
        bits |= abs(lots[k])
    return bits <= most_bits and len(lots) <= _MOST_ROWS


@uncounted
def _mark_small(instrument: Int64Array, lots: Int64Array, per_lot: Int64Array) -> tuple[int, int]:
    """Value in USDC and drift of a pool of small positions, none of whose products can overflow.

    Nearly all of a quiet cycle is spent here: no branch, one product for the value, and a division
    whose numerator a multiple of the divisor has made positive.
    """
    value, drift = -len(lots) * (_BIAS // _VALUE_SCALE), 0
    for k in range(len(lots)):
        line = (instrument[k] & _NOT_NEGATIVE) << 1
        quantity = lots[k]
        drift += abs(quantity) * per_lot[line + _DRIFT]
        value += ((quantity * per_lot[line + _VALUE] + _BIAS) & _POSITIVE) // _VALUE_SCALE
    return value, drift


@njit(cache=True)
def _mark_large(instrument: Int64Array, lots: Int64Array, per_lot: Int64Array) -> tuple[int, int]:
    """The same for positions of any size; the drift is `UNBOUNDED` if it comes near 2^60."""
    value, drift, most = 0, 0, _MOST_DRIFT // (len(lots) + 1)
    beyond = False
    for k in range(len(lots)):
        line = instrument[k] << 1
        each, size = per_lot[line + _DRIFT], abs(lots[k])
        value += mul_div_floor(per_lot[line + _VALUE], lots[k], _VALUE_SCALE)
        if each > 0 and size > most // each:
            beyond = True
        else:
            drift += size * each
    return value, UNBOUNDED if beyond else drift


@uncounted
def _mark_coins(
    instrument: Int64Array,
    lots: Int64Array,
    value_e6: Int64Array,
    currency: Int64Array,
    value_minor: Int64Array,
) -> None:
    """Set the value of positions that settle in a coin, in the pool's row of values."""
    for c in range(1, len(value_minor)):
        value_minor[c] = 0
    for k in range(len(lots)):
        i = instrument[k]
        if currency[i] != 0:
            value_minor[currency[i]] += mul_div_floor(value_e6[i], lots[k], _VALUE_SCALE)


@uncounted
def _coin_drift(
    p: int, coin_then: Int64Array, coin_now: Int64Array, per_step: Int64Array, bound: int
) -> int:
    """`bound` and what the pool's coin cash adds to it, or `UNBOUNDED`."""
    for u in range(coin_now.shape[1]):
        then, now = coin_then[p, u], coin_now[p, u]
        if then == 0 and now == 0:
            continue
        held = abs(then) // COIN_STEP_MINOR + 1
        added = (abs(now - then) + COIN_STEP_MINOR - 1) // COIN_STEP_MINOR
        if bound == UNBOUNDED or held > per_step[u, 1] or added > per_step[u, 3]:
            return UNBOUNDED
        bound += held * per_step[u, 0] + added * per_step[u, 2]
    return bound


@uncounted
def _mark_chunk(
    chunk: int,
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_then: Int64Array,
    coin_now: Int64Array,
    per_lot: Int64Array,
    per_step: Int64Array,
    value_e6: Int64Array,
    currency: Int64Array,
    most_bits: int,
    rounding_minor: int,
    value_minor: Int64Array,
    increase_minor: Int64Array,
) -> None:
    """Value of every pool of a chunk, and the most that its requirements can have grown."""
    coins = value_minor.shape[1] > 1
    last = min(len(increase_minor), (chunk + 1) * _POOLS_PER_CHUNK)
    for p in range(chunk * _POOLS_PER_CHUNK, last):
        begin, end = pool_start[p], pool_start[p + 1]
        held, size = instrument[begin:end], lots[begin:end]
        if _are_small(size, most_bits):
            value_minor[p, 0], bound = _mark_small(held, size, per_lot)
        else:
            value_minor[p, 0], bound = _mark_large(held, size, per_lot)
        if coins:
            _mark_coins(held, size, value_e6, currency, value_minor[p])
        bound = _coin_drift(p, coin_then, coin_now, per_step, bound)
        whole = -(-bound >> _DRIFT_BITS) + rounding_minor
        increase_minor[p] = UNBOUNDED if bound == UNBOUNDED else whole


@njit(cache=True, parallel=True)
def _mark_parallel(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in prange(chunks):
        _mark_chunk(np.int64(chunk), *columns)  # type: ignore[arg-type]


def _per_lot(values: LotValues, drift: Drift) -> Int64Array:
    """Drift and USDC value of each instrument, side by side, one after the other."""
    table = np.empty((len(drift.lot), 2), dtype=np.int64)
    table[:, _DRIFT] = drift.lot
    table[:, _VALUE] = np.where(values.currency == 0, values.value_e6, 0)
    return table.reshape(-1)


def _most_bits(values: LotValues, drift: Drift) -> int:
    """2^n - 1: positions up to this size are small, `_MOST_ROWS` of them together too."""
    largest = max(
        int(drift.lot.max(initial=1)) * _MOST_ROWS, int(np.abs(values.value_e6).max(initial=1))
    )
    return (1 << (_MOST_DRIFT // largest).bit_length() >> 1) - 1


def _per_step(drift: Drift) -> Int64Array:
    """[C,4]: drift of coin held and the most steps of it, the same of coin added."""
    most = _MOST_DRIFT // (2 * len(drift.coin) + 1)
    columns = []
    for drifts in (drift.coin, drift.coin_added):
        columns += [drifts, most // np.maximum(drifts, 1)]
    return np.stack(columns, axis=1)


def mark_and_bound(
    positions: Positions,
    coin_then_minor: Int64Array,
    values: LotValues,
    drift: Drift,
    value_minor: Int64Array,
    increase_minor: Int64Array,
) -> None:
    """One pass over positions: their value at the marks, and the bound on requirements.

    Writes `value_minor[P,C]`, the sum over positions of floor(lots x value per lot) in each
    currency, and `increase_minor[P]`, which neither requirement of the pool can have grown by
    more than (`UNBOUNDED` where the numbers are too large for a bound). `coin_then_minor[P,C']` is
    the coin cash at the base. Positions themselves must be those of the base. Needs
    |lots x value per lot| below 2^62 minor units and |lots| below 2^42.
    """
    pools = positions.pool_count
    check(value_minor.shape[0] == increase_minor.shape[0] == pools, "drift screen: other pools")
    check(coin_then_minor.shape == positions.coin_minor.shape, "drift screen: coin cash differs")
    check(len(values.value_e6) == len(drift.lot), "drift screen: one value per instrument")
    known = (values.currency >= 0) & (values.currency < value_minor.shape[1])
    check(known.all(), "drift screen: a currency has no column")
    _mark_parallel(
        (pools + _POOLS_PER_CHUNK - 1) // _POOLS_PER_CHUNK,
        positions.pool_start, positions.instrument, positions.quantity_lots, coin_then_minor,
        positions.coin_minor, _per_lot(values, drift), _per_step(drift), values.value_e6,
        values.currency, _most_bits(values, drift), drift.rounding_minor, value_minor,
        increase_minor,
    )  # fmt: skip


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 8), np.int64)
    _lot_drifts((grid, grid), (one, one), (grid, grid), one, RATE_SCALE)
    _coin_drifts((grid, grid), (grid, grid), one, RATE_SCALE)
    start, cash = np.array([0, 1], np.int64), np.zeros((1, 1), np.int64)
    positions = Positions(start, one, one, cash)
    mark_and_bound(positions, cash, LotValues(one, one), Drift(one, one, one, 0), cash.copy(), one)
