"""Pools in a model whose expiries count on their own: static discounts, skews, basis.

The rows of a pool that share a risk unit and an expiry are a *group*. A group's positions are
summed twice, with the rows for a positive and for a negative net value of the expiry. What it adds
to its unit is in every spot scenario the lower of the two sums (the static discount, exactly: V d+
if V >= 0 else V d- is the lower of V d+ and V d- as long as d+ <= d-, else the higher); in every
skew minus the magnitude of that, since the smile can turn either way; and to the basis candidate
the lower of its two moves, at most 0. Nothing is multiplied or rounded after the sums.
"""

from __future__ import annotations

import numpy as np

from margin.fixed_point import uncounted
from margin.invariant import Int64Array
from margin.pool_steps import (
    LOSS,
    SCENARIO,
    Triple,
    add_coins,
    carry,
    grown,
    has_coins,
    largest_loss,
)
from margin.portfolio import NO_STRIKE_GROUP
from margin.risk_table import (
    BETTER_ROW,
    CHARGE,
    EXPIRY,
    EXTRA_CHARGE,
    GROSS_CHARGE,
    GROSS_EXTRA,
    UNIT,
)

_MASK = 2**31 - 1  # see `margin.pool_steps`: no code for negative indices

_OUT_OF_REACH = 2**62

Shape = tuple[int, int, int]
"""Spot scenarios, skews and basis of a row, as in `margin.risk_table.RowShape`."""


@uncounted
def _bounded(low: int, turn: int, most: int) -> int:
    """What a group adds to a column: at most `most`, and in a skew (`turn` -1) minus its size.

    (m ^ -1) + 1 is -m, so the lower of m and that is minus the magnitude.
    """
    return min(min(low, (low ^ turn) - turn), most)


@uncounted
def _add_pair(
    total: Int64Array,
    rows: Int64Array,
    pair: tuple[int, int, int, int],
    turn: Int64Array,
    most: Int64Array,
) -> None:
    """Add a group of two positions (the second may be none: lots 0) to its unit's columns."""
    i, q, j, r = pair
    width = len(total)
    for s in range(width):
        positive = q * rows[i, s] + r * rows[j, s]
        negative = q * rows[i, width + s] + r * rows[j, width + s]
        total[s] += _bounded(min(positive, negative), turn[s], most[s])


@uncounted
def _add_four(
    total: Int64Array,
    rows: Int64Array,
    first: tuple[int, int, int, int],
    second: tuple[int, int, int, int],
    turn: Int64Array,
    most: Int64Array,
) -> None:
    """The same for a group of three or four positions."""
    i0, q0, i1, q1 = first
    i2, q2, i3, q3 = second
    width = len(total)
    for s in range(width):
        positive = q0 * rows[i0, s] + q1 * rows[i1, s] + q2 * rows[i2, s] + q3 * rows[i3, s]
        negative = q0 * rows[i0, width + s] + q1 * rows[i1, width + s]
        negative += q2 * rows[i2, width + s] + q3 * rows[i3, width + s]
        total[s] += _bounded(min(positive, negative), turn[s], most[s])


@uncounted
def _sum_pair(sums: Int64Array, rows: Int64Array, pair: tuple[int, int, int, int]) -> None:
    """Set `sums` to the rows of two positions, both halves."""
    i, q, j, r = pair
    for s in range(len(sums)):
        sums[s] = q * rows[i, s] + r * rows[j, s]


@uncounted
def _more(sums: Int64Array, rows: Int64Array, pair: tuple[int, int, int, int]) -> None:
    """Add the rows of two more positions, both halves."""
    i, q, j, r = pair
    for s in range(len(sums)):
        sums[s] += q * rows[i, s] + r * rows[j, s]


@uncounted
def _add_sums(
    total: Int64Array, sums: Int64Array, better: int, turn: Int64Array, most: Int64Array
) -> None:
    """Add a group's two sums to its unit's columns."""
    width = len(total)
    for s in range(width):
        low = min(sums[s], sums[width + s])
        if better != 0 and most[s] != 0:
            low = max(sums[s], sums[width + s])
        total[s] += _bounded(low, turn[s], most[s])


@uncounted
def _add_large(
    total: Int64Array,
    sums: Int64Array,
    rows: Int64Array,
    bounds: tuple[Int64Array, Int64Array],
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> int:
    """Add the group that begins at `begin`, of more than two positions or with the better row
    counted, to its unit's columns; returns where it ends."""
    turn, most = bounds
    expiry = terms[instrument[begin & _MASK] & _MASK, EXPIRY]
    last, better = begin, 0
    while last < end and terms[instrument[last & _MASK] & _MASK, EXPIRY] == expiry:
        better |= terms[instrument[last & _MASK] & _MASK, BETTER_ROW]
        last += 1
    pair = _pair(instrument, lots, begin, last)
    if last - begin <= 4 and better == 0:
        _add_four(total, rows, pair, _pair(instrument, lots, begin + 2, last), turn, most)
        return last
    _sum_pair(sums, rows, pair)
    k = begin + 2
    while k < last:
        _more(sums, rows, _pair(instrument, lots, k, last))
        k += 2
    _add_sums(total, sums, better, turn, most)
    return last


@uncounted
def _pair(
    instrument: Int64Array, lots: Int64Array, k: int, end: int
) -> tuple[int, int, int, int]:  # fmt: skip
    """Instrument and lots of position k and of the one after it, of which none counts at `end`."""
    second = min(k + 1, end - 1) & _MASK
    first = k & _MASK
    counts = min(1, end - 1 - k)
    return instrument[first] & _MASK, lots[first], instrument[second] & _MASK, lots[second] * counts


@uncounted
def _add_charges(
    charges: Int64Array,
    gross: bool,
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> None:
    """Add the contingencies of a pool's positions to `charges[U, 2]`."""
    strike, net, size = NO_STRIKE_GROUP, 0, 0
    for k in range(begin, end):
        i, q = instrument[k] & _MASK, lots[k]
        u = terms[i, UNIT] & _MASK
        strike, net, size, growth = grown(terms, i, q, strike, net, size)
        charge, extra = growth * terms[i, CHARGE], growth * terms[i, EXTRA_CHARGE]
        if gross:
            charge += abs(q) * terms[i, GROSS_CHARGE]
            extra += abs(q) * terms[i, GROSS_EXTRA]
        charges[u, 0] += charge
        charges[u, 1] += extra


@uncounted
def add_groups(
    total: Int64Array,
    charges: Int64Array,
    sums: Int64Array,
    gross: bool,
    rows: Int64Array,
    bounds: tuple[Int64Array, Int64Array],
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> None:
    """Add every group of a pool to `total[U, columns]`, its contingencies to `charges[U, 2]`.

    `gross`: whether any instrument is charged on its gross lots. Most groups hold one or two
    positions, and nothing predicts which: both go the same way, without a branch between them.
    """
    _add_charges(charges, gross, terms, instrument, lots, begin, end)
    k, final = begin, end - 1
    while k < end:
        i = instrument[k & _MASK] & _MASK
        j = instrument[min(k + 1, final) & _MASK] & _MASK
        m = instrument[min(k + 2, final) & _MASK] & _MASK
        u, expiry = terms[i, UNIT] & _MASK, terms[i, EXPIRY]
        two = (1 if terms[j, EXPIRY] == expiry else 0) & min(1, final - k)
        three = (1 if terms[m, EXPIRY] == expiry else 0) & min(1, max(0, final - k - 1))
        better = terms[i, BETTER_ROW] | (terms[j, BETTER_ROW] & two)
        if (two & three) | better == 0:
            pair = i, lots[k & _MASK], j, lots[min(k + 1, final) & _MASK] * two
            _add_pair(total[u], rows, pair, bounds[0], bounds[1])
            k += 1 + two
        else:
            k = _add_large(total[u], sums, rows, bounds, terms, instrument, lots, k, end)


def column_bounds(shape: Shape, columns: int) -> tuple[Int64Array, Int64Array]:
    """`turn` and `most` of `add_groups` for every column: see `_bounded`."""
    regular, skews, basis = shape
    turn = np.zeros(columns, np.int64)
    most = np.full(columns, _OUT_OF_REACH, np.int64)
    turn[regular : regular + skews] = -1
    most[regular + skews : regular + skews + basis] = 0
    return turn, most


@uncounted
def pool_by_expiry(
    p: int,
    scratch: tuple[Int64Array, Int64Array, Int64Array],
    gross: bool,
    positions: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    rows: Int64Array,
    bounds: tuple[Int64Array, Int64Array],
    start: Int64Array,
    terms: Int64Array,
    coin: Int64Array,
    coin_terms: Int64Array,
    risk_exponent: Int64Array,
    worst: Int64Array,
) -> tuple[Triple, Triple]:
    """Worst loss and contingencies of pool `p`: whole minor units and fractions.

    `worst[2,P,U]`: scenario and loss of each unit are left there.
    """
    sums, total, charges = scratch
    begin, end, instrument, lots, coin_minor = positions
    units = len(risk_exponent)
    for u in range(units):
        for s in range(total.shape[1]):
            total[u, s] = start[u, s]
    charges[:] = 0
    add_groups(
        total, charges, sums, gross, rows, bounds, terms, instrument, lots, begin[p], end[p],
    )  # fmt: skip
    whole, fraction = (0, 0, 0), (0, 0, 0)
    for u in range(units):
        charge, extra = charges[u, 0], charges[u, 1]
        if has_coins(coin_terms, coin_minor[p], u, units):
            more = add_coins(total[u], coin, coin_terms, coin_minor[p], u, units)
            charge, extra = charge + more[0], extra + more[1]
        loss, worst[SCENARIO, p, u] = largest_loss(total[u])
        worst[LOSS, p, u] = loss
        whole, fraction = carry(whole, fraction, (loss, charge, extra), risk_exponent[u])
    return whole, fraction
