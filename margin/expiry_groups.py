"""Pools in a model whose expiries count on their own: static discounts, skews, basis.

The rows of a pool that share a risk unit and an expiry are a *group*. A group's positions are
summed twice, with the rows for a positive and for a negative net value of the expiry. What it adds
to its unit is in every spot scenario the lower of the two sums (the static discount, exactly: V d+
if V >= 0 else V d- is the lower of V d+ and V d- as long as d+ <= d-, else the higher); in every
skew minus the magnitude of that, since the smile can turn either way; and to the basis candidate
the lower of its two moves, at most 0. Nothing is multiplied or rounded after the sums.
"""

from __future__ import annotations

from margin.fixed_point import inlined
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

Shape = tuple[int, int, int]
"""Spot scenarios, skews and basis moves of a row, as in `margin.risk_table.RowShape`."""


@inlined
def sum_groups(
    sums: Int64Array,
    group_unit: Int64Array,
    better: Int64Array,
    charges: Int64Array,
    rows: Int64Array,
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> int:
    """Sum lots x row per group into `sums[g]`; contingencies of the units into `charges[U,2]`.

    Returns the number of groups. `group_unit[g]` is a group's unit, `better[g]` whether its higher
    sum counts. No branch depends on where a group ends: nothing could predict it.
    """
    g, expiry = -1, -1
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
        u = terms[i, UNIT] & _MASK
        group_unit[row], better[row] = u, terms[i, BETTER_ROW]
        strike, net, size, growth = grown(terms, i, q, strike, net, size)
        charges[u, 0] += growth * terms[i, CHARGE] + abs(q) * terms[i, GROSS_CHARGE]
        charges[u, 1] += growth * terms[i, EXTRA_CHARGE] + abs(q) * terms[i, GROSS_EXTRA]
    return g + 1


@inlined
def add_group(
    total: Int64Array,
    positive: Int64Array,
    negative: Int64Array,
    better: int,
    shape: Shape,
    special: Int64Array,
) -> None:
    """Add one group to its unit: spot scenarios to `total`, skews and basis to `special`."""
    regular, skews, basis_moves = shape
    if better == 0:
        for s in range(len(total)):
            total[s] += min(positive[s], negative[s])
    else:
        for s in range(len(total)):
            total[s] += max(positive[s], negative[s])
    for j in range(skews):
        a, b = positive[regular + j], negative[regular + j]
        special[j] -= abs(min(a, b) if better == 0 else max(a, b))
    if basis_moves == 2:
        at = regular + skews
        special[skews] += min(0, min(positive[at], positive[at + 1]))


@inlined
def place_special(total: Int64Array, special: Int64Array, shape: Shape) -> None:
    """Put skews and basis behind the spot scenarios; what the group sums left there goes."""
    regular, skews, basis_moves = shape
    for s in range(regular, len(total)):
        total[s] = 0
    for j in range(skews + basis_moves // 2):
        total[regular + j] = special[j]


@inlined
def pool_by_expiry(
    p: int,
    scratch: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    positions: tuple[Int64Array, Int64Array, Int64Array, Int64Array],
    rows: Int64Array,
    shape: Shape,
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
    sums, group_unit, better, total, special, charges = scratch
    halves = sums.reshape((len(sums), 2, total.shape[1]))
    pool_start, instrument, lots, coin_minor = positions
    units = len(risk_exponent)
    for u in range(units):
        for s in range(total.shape[1]):
            total[u, s] = start[u, s]
    special[:] = 0
    charges[:] = 0
    groups = sum_groups(
        sums, group_unit, better, charges, rows, terms, instrument, lots, pool_start[p],
        pool_start[p + 1],
    )  # fmt: skip
    for g in range(groups):
        u = group_unit[g] & _MASK
        add_group(total[u], halves[g, 0], halves[g, 1], better[g], shape, special[u])
    whole, fraction = (0, 0, 0), (0, 0, 0)
    for u in range(units):
        place_special(total[u], special[u], shape)
        charge, extra = charges[u, 0], charges[u, 1]
        if has_coins(coin_terms, coin_minor[p], u, units):
            more = add_coins(total[u], coin, coin_terms, coin_minor[p], u, units)
            charge, extra = charge + more[0], extra + more[1]
        loss, worst[SCENARIO, p, u] = largest_loss(total[u])
        worst[LOSS, p, u] = loss
        whole, fraction = carry(whole, fraction, (loss, charge, extra), risk_exponent[u])
    return whole, fraction
