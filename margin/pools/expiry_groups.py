"""Pools in a model whose expiries count on their own: static discounts, skews, basis.

The rows of a pool that share a risk unit and an expiry are a *group*. A group's positions are
summed twice, with the rows for a positive and for a negative net value of the expiry. What it adds
to its unit is in every spot scenario the lower of the two sums (the static discount, exactly: V d+
if V >= 0 else V d- is the lower of V d+ and V d- as long as d+ <= d-, else the higher); in every
skew minus the magnitude of that, since the smile can turn either way; and to the basis candidate
the lower of its two moves, at most 0. Nothing is multiplied or rounded after the sums. Of a group
of one position all this is known before: the table has a row for it (`RiskTable.lone`).
"""

from __future__ import annotations

import numpy as np

from margin.fixed_point import apart, uncounted
from margin.invariant import Int64Array
from margin.pools.risk_table import (
    BETTER_ROW,
    EXPIRY,
    GROSS_CHARGE,
    GROSS_EXTRA_CHARGE,
    NAKED_CHARGE,
    NAKED_EXTRA_CHARGE,
    UNIT,
)
from margin.pools.steps import (
    LOSS,
    SCENARIO,
    Triple,
    add_coins,
    carry,
    has_coins,
    largest_loss,
    naked_growth,
)
from margin.portfolio import NO_STRIKE_GROUP

_MASK = 2**31 - 1  # see `margin.pools.steps`: no code for negative indices

_OUT_OF_REACH = 2**62

_STARTS, _LONE, _OTHERS = range(3)  # rows of what is noted of a pool's groups

Shape = tuple[int, int, int]
"""Spot scenarios, skews and basis of a row, as in `margin.pools.risk_table.RowShape`."""
Rows = tuple[Int64Array, Int64Array, bool]
"""`rows` and `lone` of a `RiskTable`, and whether the better of two rows may count anywhere."""
Bounds = tuple[Int64Array, Int64Array]
"""What `column_bounds` gives."""
Pair = tuple[int, int, int, int]
"""Instrument and lots of one position, and of a second."""


@uncounted
def _bounded(low: int, turn: int, most: int) -> int:
    """What a group adds to a column: at most `most`, and in a skew (`turn` -1) minus its size.

    (m ^ -1) + 1 is -m, so the lower of m and that is minus the magnitude.
    """
    return min(min(low, (low ^ turn) - turn), most)


@apart
def _add_lone(total: Int64Array, lone: Int64Array, instrument: int, lots: int) -> None:
    """Add a group of one position to its unit's columns."""
    width = len(total)
    first, size = 0 if lots > 0 else width, abs(lots)
    for s in range(width):
        total[s] += size * lone[instrument, first + s]


@apart
def _add_two(
    total: Int64Array, rows: Int64Array, pair: Pair, turn: Int64Array, most: Int64Array
) -> None:
    """Add a group of two positions to its unit's columns."""
    i, q, j, r = pair
    width = len(total)
    for s in range(width):
        positive = q * rows[i, s] + r * rows[j, s]
        negative = q * rows[i, width + s] + r * rows[j, width + s]
        total[s] += _bounded(min(positive, negative), turn[s], most[s])


@apart
def _add_four(
    total: Int64Array,
    rows: Int64Array,
    first: Pair,
    second: Pair,
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


@apart
def _sum_two(sums: Int64Array, rows: Int64Array, pair: Pair) -> None:
    """Set `sums` to the rows of two positions, both halves."""
    i, q, j, r = pair
    for s in range(len(sums)):
        sums[s] = q * rows[i, s] + r * rows[j, s]


@apart
def _sum_two_more(sums: Int64Array, rows: Int64Array, pair: Pair) -> None:
    """Add the rows of two more positions, both halves."""
    i, q, j, r = pair
    for s in range(len(sums)):
        sums[s] += q * rows[i, s] + r * rows[j, s]


@apart
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
def _pair(instrument: Int64Array, lots: Int64Array, k: int, end: int) -> Pair:
    """Position k and the one after it, which counts nothing at `end`."""
    counts = min(1, end - 1 - k)
    first, second = k & _MASK, (k + counts) & _MASK
    return instrument[first] & _MASK, lots[first], instrument[second] & _MASK, lots[second] * counts


@uncounted
def _add_several(
    total: Int64Array,
    sums: Int64Array,
    rows: Int64Array,
    bounds: Bounds,
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> None:
    """Add a group of two positions or more to its unit's columns, whichever row of it counts."""
    better = 0
    for k in range(begin, end):
        better |= terms[instrument[k & _MASK] & _MASK, BETTER_ROW]
    _sum_two(sums, rows, _pair(instrument, lots, begin, end))
    k = begin + 2
    while k < end:
        _sum_two_more(sums, rows, _pair(instrument, lots, k, end))
        k += 2
    _add_sums(total, sums, better, bounds[0], bounds[1])


@uncounted
def _find_groups(
    places: Int64Array,
    charges: Int64Array,
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> int:
    """Note in `places[STARTS]` where each group of a pool starts, and after the last its end.

    Adds the contingencies of its positions to `charges[U, 2]`. Returns how many groups there are.
    """
    groups, expiry = 0, -1
    strike, net, naked = NO_STRIKE_GROUP, 0, 0
    for k in range(begin, end):
        i, q = instrument[k & _MASK] & _MASK, lots[k & _MASK]
        places[_STARTS, groups & _MASK] = k
        groups += 1 if terms[i, EXPIRY] != expiry else 0
        expiry = terms[i, EXPIRY]
        strike, net, naked, growth = naked_growth(terms, i, q, strike, net, naked)
        size, u = abs(q), terms[i, UNIT] & _MASK
        charges[u, 0] += growth * terms[i, NAKED_CHARGE] + size * terms[i, GROSS_CHARGE]
        charges[u, 1] += growth * terms[i, NAKED_EXTRA_CHARGE] + size * terms[i, GROSS_EXTRA_CHARGE]
    places[_STARTS, groups & _MASK] = end
    return groups


@uncounted
def _split(places: Int64Array, groups: int) -> int:
    """List the groups of one position in `places[LONE]`, the others in `places[OTHERS]`.

    Returns how many are alone. Half of all groups are, and nothing predicts which: so there is no
    branch here, and each list is gone through without one.
    """
    lone, others = 0, 0
    for g in range(groups):
        alone = 1 if places[_STARTS, g + 1] - places[_STARTS, g] == 1 else 0
        places[_LONE, lone & _MASK] = places[_OTHERS, others & _MASK] = g
        lone += alone
        others += 1 - alone
    return lone


@uncounted
def add_groups(
    total: Int64Array,
    charges: Int64Array,
    scratch: tuple[Int64Array, Int64Array],
    rows: Rows,
    bounds: Bounds,
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> None:
    """Add every group of a pool to `total[U, columns]`, its contingencies to `charges[U, 2]`.

    `scratch`: room for a group's two sums, and `[3, positions + 1]` for places of groups.
    """
    sums, places = scratch
    all_rows, lone_rows, may_be_better = rows
    groups = _find_groups(places, charges, terms, instrument, lots, begin, end)
    lone = _split(places, groups)
    for n in range(lone):
        k = places[_STARTS, places[_LONE, n] & _MASK] & _MASK
        i = instrument[k] & _MASK
        _add_lone(total[terms[i, UNIT] & _MASK], lone_rows, i, lots[k])
    for n in range(groups - lone):
        g = places[_OTHERS, n] & _MASK
        k, stop = places[_STARTS, g], places[_STARTS, g + 1]
        first = _pair(instrument, lots, k, stop)
        unit = total[terms[first[0], UNIT] & _MASK]
        if stop - k > 4 or may_be_better:
            _add_several(unit, sums, all_rows, bounds, terms, instrument, lots, k, stop)
        elif stop - k == 2:
            _add_two(unit, all_rows, first, bounds[0], bounds[1])
        else:
            second = _pair(instrument, lots, k + 2, stop)
            _add_four(unit, all_rows, first, second, bounds[0], bounds[1])


def column_bounds(shape: Shape, columns: int) -> tuple[Int64Array, Int64Array]:
    """`turn` and `most` of `add_groups` for every column: see `_bounded`."""
    regular, skews, basis = shape
    turn = np.zeros(columns, np.int64)
    most = np.full(columns, _OUT_OF_REACH, np.int64)
    turn[regular : regular + skews] = -1
    most[regular + skews : regular + skews + basis] = 0
    return turn, most


@apart
def _scenario_and_reset(total: Int64Array, start: Int64Array, loss: int) -> int:
    """`scenario_of` a unit's columns, which are set to `start` for the next pool on the way."""
    count = len(total)
    at = count
    for s in range(count):
        at = min(at, s if total[s] == -loss else count)
        total[s] = start[s]
    return at if loss > 0 else -1


@uncounted
def pool_by_expiry(
    p: int,
    scratch: tuple[Int64Array, Int64Array, Int64Array, Int64Array],
    positions: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    rows: Rows,
    bounds: Bounds,
    start: Int64Array,
    terms: Int64Array,
    coin: Int64Array,
    coin_terms: Int64Array,
    risk_exponent: Int64Array,
    worst: Int64Array,
) -> tuple[Triple, Triple]:
    """Worst loss and contingencies of pool `p`: whole minor units and fractions.

    `worst[2,P,U]`: scenario and loss of each unit are left there. The sums in `scratch` are those
    of `start` before and after.
    """
    sums, places, total, charges = scratch
    begin, end, instrument, lots, coin_minor = positions
    units = len(risk_exponent)
    for u in range(units):
        charges[u, 0] = charges[u, 1] = 0
    add_groups(
        total, charges, (sums, places), rows, bounds, terms, instrument, lots, begin[p], end[p],
    )  # fmt: skip
    for u in range(units):
        if has_coins(coin_terms, coin_minor[p], u, units):
            charge, extra = add_coins(total[u], coin, coin_terms, coin_minor[p], u, units)
            charges[u, 0] += charge
            charges[u, 1] += extra
    for u in range(units):  # unit by unit, each step would wait for the one before
        worst[LOSS, p, u] = largest_loss(total[u])
    whole, fraction = (0, 0, 0), (0, 0, 0)
    for u in range(units):
        loss = worst[LOSS, p, u]
        worst[SCENARIO, p, u] = _scenario_and_reset(total[u], start[u], loss)
        parts = loss, charges[u, 0], charges[u, 1]
        whole, fraction = carry(whole, fraction, parts, risk_exponent[u])
    return whole, fraction
