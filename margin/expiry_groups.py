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

from margin.fixed_point import inlined
from margin.invariant import Int64Array
from margin.pool_steps import (
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
_UNIT, _BETTER, _CHARGE, _EXTRA = range(4)  # columns of `groups`

Shape = tuple[int, int, int]
"""Spot scenarios, skews and basis of a row, as in `margin.risk_table.RowShape`."""


@inlined
def sum_groups(
    sums: Int64Array,
    groups: Int64Array,
    gross: bool,
    rows: Int64Array,
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> int:
    """Sum lots x row per group into `sums[g]`, and its unit and contingencies into `groups[g,4]`.

    Returns the number of groups. `gross`: whether any instrument is charged on its gross lots. No
    branch depends on where a group ends: nothing could predict it.
    """
    g, expiry, charge, extra = -1, -1, 0, 0
    strike, net, size = NO_STRIKE_GROUP, 0, 0
    for k in range(begin, end):
        i = instrument[k] & _MASK
        q = lots[k]
        starts = 1 if terms[i, EXPIRY] != expiry else 0
        g += starts
        expiry = terms[i, EXPIRY]
        keep = starts - 1  # all bits of what the group has so far, none for a new one
        row = g & _MASK
        for s in range(rows.shape[1]):
            sums[row, s] = (sums[row, s] & keep) + q * rows[i, s]
        strike, net, size, growth = grown(terms, i, q, strike, net, size)
        charge = (charge & keep) + growth * terms[i, CHARGE]
        extra = (extra & keep) + growth * terms[i, EXTRA_CHARGE]
        if gross:
            charge += abs(q) * terms[i, GROSS_CHARGE]
            extra += abs(q) * terms[i, GROSS_EXTRA]
        groups[row, _UNIT], groups[row, _BETTER] = terms[i, UNIT], terms[i, BETTER_ROW]
        groups[row, _CHARGE], groups[row, _EXTRA] = charge, extra
    return g + 1


@inlined
def add_group(
    total: Int64Array,
    positive: Int64Array,
    negative: Int64Array,
    better: int,
    turn: Int64Array,
    most: Int64Array,
) -> None:
    """Add one group to its unit's columns: the lower of its two sums, at most `most`.

    `turn` is -1 in skews and 0 elsewhere: (m ^ -1) + 1 is -m, so the lower of m and that is minus
    the magnitude. `most` is 0 for the basis and out of reach elsewhere.
    """
    if better == 0:
        for s in range(len(total)):
            low = min(positive[s], negative[s])
            total[s] += min(min(low, (low ^ turn[s]) - turn[s]), most[s])
    else:
        for s in range(len(total)):
            low = max(positive[s], negative[s])
            if most[s] == 0:
                low = min(positive[s], negative[s])
            total[s] += min(min(low, (low ^ turn[s]) - turn[s]), most[s])


def column_bounds(shape: Shape, columns: int) -> tuple[Int64Array, Int64Array]:
    """`turn` and `most` of `add_group` for every column."""
    regular, skews, basis = shape
    turn = np.zeros(columns, np.int64)
    most = np.full(columns, _OUT_OF_REACH, np.int64)
    turn[regular : regular + skews] = -1
    most[regular + skews : regular + skews + basis] = 0
    return turn, most


@inlined
def pool_by_expiry(
    p: int,
    scratch: tuple[Int64Array, Int64Array, Int64Array, Int64Array],
    gross: bool,
    positions: tuple[Int64Array, Int64Array, Int64Array, Int64Array],
    rows: Int64Array,
    bounds: tuple[Int64Array, Int64Array],
    start: Int64Array,
    terms: Int64Array,
    coin: Int64Array,
    coin_terms: Int64Array,
    risk_exponent: Int64Array,
    worst_scenario: Int64Array,
) -> tuple[Triple, Triple]:
    """Worst loss and contingencies of pool `p`: whole minor units and fractions."""
    sums, groups, total, charges = scratch
    halves = sums.reshape((len(sums), 2, total.shape[1]))
    pool_start, instrument, lots, coin_minor = positions
    units = len(risk_exponent)
    for u in range(units):
        for s in range(total.shape[1]):
            total[u, s] = start[u, s]
    charges[:] = 0
    count = sum_groups(
        sums, groups, gross, rows, terms, instrument, lots, pool_start[p],
        pool_start[p + 1],
    )  # fmt: skip
    for g in range(count):
        u = groups[g, _UNIT] & _MASK
        charges[u, 0] += groups[g, _CHARGE]
        charges[u, 1] += groups[g, _EXTRA]
        add_group(total[u], halves[g, 0], halves[g, 1], groups[g, _BETTER], bounds[0], bounds[1])
    whole, fraction = (0, 0, 0), (0, 0, 0)
    for u in range(units):
        charge, extra = charges[u, 0], charges[u, 1]
        if has_coins(coin_terms, coin_minor[p], u, units):
            more = add_coins(total[u], coin, coin_terms, coin_minor[p], u, units)
            charge, extra = charge + more[0], extra + more[1]
        loss, worst_scenario[p, u] = largest_loss(total[u])
        whole, fraction = carry(whole, fraction, (loss, charge, extra), risk_exponent[u])
    return whole, fraction
