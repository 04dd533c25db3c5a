"""What a move of the market does to a pool's cushion, its equity less its initial margin.

Equity and requirement are both taken at moved marks, so that the requirement's own move counts:
that of a future grows with the price, that of a short straddle as it leaves the money. All units
move at once, and since a requirement is a sum over units, one pass says what each unit did to it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from margin.fixed_point import RATE_SCALE, mul_div_ceil, mul_div_floor
from margin.invariant import Int64Array, check

_SHARE_BITS = 30


class Worst(NamedTuple):
    """The parts of requirements: `unit_loss[P,U]` in quanta, `worst_minor[P]` after offsets.

    `contingency_minor[P]`: what is not a share of the worst loss, add-ons left out.
    """

    unit_loss: Int64Array
    worst_minor: Int64Array
    contingency_minor: Int64Array


@njit(cache=True)
def _contingencies(
    initial: Int64Array, worst: Int64Array, factor_ppb: int, out: Int64Array
) -> None:
    for p in range(len(initial)):
        out[p] = initial[p] - mul_div_ceil(worst[p], factor_ppb, RATE_SCALE)


def worst_of(
    unit_loss: Int64Array, worst_minor: Int64Array, initial_minor: Int64Array, factor_ppb: int
) -> Worst:
    """The parts of initial margins [P] without add-ons, of whose worst loss a factor is charged."""
    rest = np.empty(len(worst_minor), np.int64)
    _contingencies(initial_minor, worst_minor, factor_ppb, rest)
    return Worst(unit_loss, worst_minor, rest)


@njit(cache=True)
def _changes(
    now: Int64Array, worst: Int64Array, rest: Int64Array, then: Int64Array, exponent: Int64Array,
    factor_ppb: int, out: Int64Array,
) -> None:  # fmt: skip
    """`rest[p]`: by how much contingencies grow."""
    units = now.shape[1]
    for p in range(len(now)):
        whole = 0
        for u in range(units):
            whole += now[p, u] >> exponent[u]
        cut = 0
        while whole >> cut >= 1 << _SHARE_BITS:
            cut += 1
        total = whole >> cut
        kept = min(total, worst[p] >> cut)
        for u in range(units):
            more = (then[p, u] >> exponent[u]) - (now[p, u] >> exponent[u])
            more = mul_div_floor(more, factor_ppb, RATE_SCALE)
            if total > 0:
                more = mul_div_floor(more, kept, total)
                more += mul_div_floor(rest[p], now[p, u] >> exponent[u] >> cut, total)
            out[p, u] = more


def requirement_changes_minor(
    now: Worst, then: Worst, risk_exponent: Int64Array, factor_ppb: int
) -> Int64Array:
    """By how much each unit's move changes initial margins, minor USDC, shape [P,U].

    An offset between units keeps its share of the losses; what contingencies grow by is dealt out
    by the units' losses of `now`.
    """
    check(now.unit_loss.shape == then.unit_loss.shape, "cushion: the same pools and units")
    out = np.zeros_like(now.unit_loss)
    _changes(
        now.unit_loss, now.worst_minor, then.contingency_minor - now.contingency_minor,
        then.unit_loss, risk_exponent, factor_ppb, out,
    )  # fmt: skip
    return out


def slope_and_bend(up_minor: Int64Array, down_minor: Int64Array) -> tuple[Int64Array, Int64Array]:
    """a and b of a z + b z^2 through what a cushion gains at z = 1 and z = -1, rounded down."""
    return (up_minor - down_minor) >> 1, (up_minor + down_minor) >> 1


@njit(cache=True)
def _gains(
    pool: Int64Array, slot: Int64Array, lots: Int64Array, unit: Int64Array, kind: Int64Array,
    now_e6: Int64Array, then_e6: Int64Array, out: Int64Array,
) -> None:  # fmt: skip
    for row in range(len(pool)):
        at = slot[row]
        gain = mul_div_floor(then_e6[at] - now_e6[at], lots[row], 1_000_000)
        out[kind[at], pool[row], unit[at]] += gain


IN_USDC, COIN_CASH, COIN_VALUE = range(3)


def unit_gains(
    pool: Int64Array, slot: Int64Array, lots: Int64Array, unit: Int64Array, kind: Int64Array,
    now_e6: Int64Array, then_e6: Int64Array, pools: int, units: int,
) -> Int64Array:  # fmt: skip
    """What positions [N] gain between two values a lot, by pool and unit: shape [3,P,U].

    `unit[slot]` and `kind[slot]` of a contract, the latter `IN_USDC` (minor USDC), `COIN_CASH`
    (a future that pays coin) or `COIN_VALUE` (an option worth coin), both in minor coin.
    """
    out = np.zeros((3, pools, units), np.int64)
    _gains(pool, slot, lots, unit, kind, now_e6, then_e6, out)
    return out


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    parts = worst_of(grid, one, one, RATE_SCALE)
    requirement_changes_minor(parts, parts, one, RATE_SCALE)
    unit_gains(one, one, one, one, one, one, one, 1, 1)
