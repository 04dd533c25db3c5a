"""The groups of one pool with their sums kept, which the pass over all pools does not store.

A group is what a pool holds of one unit and expiry (`margin.pools.expiry_groups`). Which half of
the rows a group counts with is seen from its sums, so an explanation needs them.
"""

from __future__ import annotations

from margin.fixed_point import inlined
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
from margin.pools.steps import naked_growth
from margin.portfolio import NO_STRIKE_GROUP

_MASK = 2**31 - 1  # see `margin.pools.steps`: no code for negative indices
_UNIT, _BETTER, _CHARGE, _EXTRA = range(4)  # columns of `groups`


@inlined
def sum_groups(
    sums: Int64Array,
    groups: Int64Array,
    rows: Int64Array,
    terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    begin: int,
    end: int,
) -> int:
    """Sum lots x row per group into `sums[g]`, and its unit and contingencies into `groups[g,4]`.

    Returns the number of groups. No branch depends on where a group ends: nothing could predict it.
    """
    g, expiry, charge, extra = -1, -1, 0, 0
    strike, net, naked = NO_STRIKE_GROUP, 0, 0
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
        strike, net, naked, growth = naked_growth(terms, i, q, strike, net, naked)
        charge, extra = charge & keep, extra & keep
        charge += growth * terms[i, NAKED_CHARGE] + abs(q) * terms[i, GROSS_CHARGE]
        extra += growth * terms[i, NAKED_EXTRA_CHARGE] + abs(q) * terms[i, GROSS_EXTRA_CHARGE]
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
