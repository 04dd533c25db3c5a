"""What it costs to close a position that is large for its market, charged to its owner.

Size is measured over all pools of an owner together: dividing a position among pools divides
nothing, because their orders would meet the same market. Pools that are long a risk unit and pools
that are short it are added separately. One price move breaks one side only, and losses stop at the
wall of a pool, so the other side neither adds to what must be closed nor pays for it.

Everything is integer arithmetic in 64 bits, with roots by Newton's method.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from margin.fixed_point import RATE_SCALE, inlined, integer_root, mul_div_ceil
from margin.invariant import Int64Array, check

SQUARE_ROOT: Final = 0
LINEAR_SHARE: Final = 1
MOST_SLOPE_E9: Final = 2 * RATE_SCALE
MOST_SIZE_MINOR: Final = 2**59
"""Largest size of an owner's side, and largest depth."""

_RATIO_BITS: Final = 40
_ROOT_BITS: Final = 20
_LINEAR_BITS: Final = 30
_MOST_RATIO: Final = 1 << 20
# Above this rate, a size is at least four free parts (slope <= 2, free <= depth), so that its cost
# exceeds it even after the free part's is taken off: what is cut here would be cut in the end.
_MOST_RATE_E9: Final = 4 * RATE_SCALE


@inlined
def floor_share(a: int, b: int, c: int) -> tuple[int, int]:
    """(floor(a b / c), a b mod c) for 0 <= a < 2^62, 0 <= b <= c, 0 < c < 2^61: no wide product.

    Doubling from the highest bit of a down, with the remainder kept below c.
    """
    quotient, remainder = 0, 0
    bits, rest = 0, a
    while rest > 0:
        rest >>= 1
        bits += 1
    for bit in range(bits - 1, -1, -1):
        quotient <<= 1
        remainder <<= 1
        if (a >> bit) & 1:
            remainder += b
        while remainder >= c:
            remainder -= c
            quotient += 1
    return quotient, remainder


@inlined
def _ratio_up(size: int, depth: int) -> int:
    """size / depth in units of 2^-40, upward, at most 2^20."""
    whole = size // depth
    if whole >= _MOST_RATIO:
        return _MOST_RATIO << _RATIO_BITS
    part, rest = floor_share(1 << _RATIO_BITS, size - whole * depth, depth)
    return (whole << _RATIO_BITS) + part + (1 if rest > 0 else 0)


@inlined
def _root_cost(size_minor: int, depth_minor: int, slope_e9: int) -> int:
    """Cost of closing `size_minor` under the square root law, upward."""
    ratio = _ratio_up(size_minor, depth_minor)
    root = integer_root(ratio)
    root += 1 if root * root < ratio else 0
    rate_e9 = min(_MOST_RATE_E9, mul_div_ceil(root, slope_e9, 1 << _ROOT_BITS))
    return mul_div_ceil(size_minor, rate_e9, RATE_SCALE)


@inlined
def impact_minor(
    form: int, size_minor: int, depth_minor: int, free_minor: int, slope_e9: int
) -> int:
    """What closing `size_minor` costs beyond the first `free_minor`, in minor units, upward.

    Square root, c(n) = n x slope x sqrt(n / depth): c(size) - c(free), the cost of all that
    comes after the free part; zero up to it, continuous, rising, and convex until it is the size.
    Linear share: size x slope x (size - free) / depth. Neither is ever above the size.
    `depth_minor` is what the market takes in a day (or in more than one); where it is zero every
    closing costs its whole size. 0 <= size, depth <= 2^59, 0 <= slope_e9 <= 2 x 10^9, and
    free <= depth.
    Sources: square root law, B. Toth et al., "Anomalous price impact and the critical nature of
    liquidity in financial markets" (2011); linear, the liquidity add-on of Eurex PRISMA, market
    risk x factor(size / capacity).
    """
    if size_minor <= free_minor:
        return 0
    if depth_minor <= 0:
        return size_minor
    if form == SQUARE_ROOT:
        cost = _root_cost(size_minor, depth_minor, slope_e9)
        return min(size_minor, cost - _root_cost(free_minor, depth_minor, slope_e9))
    ratio = _ratio_up(size_minor - free_minor, depth_minor)
    step = 1 << (_RATIO_BITS - _LINEAR_BITS)
    rate_e9 = mul_div_ceil((ratio + step - 1) // step, slope_e9, 1 << _LINEAR_BITS)
    return mul_div_ceil(size_minor, min(RATE_SCALE, rate_e9), RATE_SCALE)


@njit(cache=True)
def _owner_kernel(
    delta_minor: Int64Array,
    owner_of: Int64Array,
    form: int,
    depth_minor: Int64Array,
    free_minor: Int64Array,
    slope_e9: Int64Array,
    size: Int64Array,
    charge: Int64Array,
    liquidity_minor: Int64Array,
) -> None:
    """Sizes and charges [O,U,2] by owner and side, then each pool's part of its side."""
    pools, units = delta_minor.shape
    for p in range(pools):
        for u in range(units):
            side = 0 if delta_minor[p, u] >= 0 else 1
            size[owner_of[p], u, side] += abs(delta_minor[p, u])
            if size[owner_of[p], u, side] > MOST_SIZE_MINOR:
                raise OverflowError("an owner's positions exceed 2^59 minor units")
    for o in range(len(size)):
        for u in range(units):
            for side in range(2):
                charge[o, u, side] = impact_minor(
                    form, size[o, u, side], depth_minor[u], free_minor[u], slope_e9[u]
                )
    before = np.zeros_like(size)
    for p in range(pools):
        o = owner_of[p]
        for u in range(units):
            side = 0 if delta_minor[p, u] >= 0 else 1
            owed = charge[o, u, side]
            if owed == 0 or delta_minor[p, u] == 0:
                continue
            whole = size[o, u, side]
            first = before[o, u, side]
            last = first + abs(delta_minor[p, u])
            before[o, u, side] = last
            if last - first == whole:  # the only pool of its side
                liquidity_minor[p] += owed
                continue
            liquidity_minor[p] += floor_share(owed, last, whole)[0]
            liquidity_minor[p] -= floor_share(owed, first, whole)[0]


def owner_charges(
    form: int,
    delta_minor: Int64Array,
    owner_of: Int64Array,
    depth_minor: Int64Array,
    free_minor: Int64Array,
    slope_e9: Int64Array,
) -> Int64Array:
    """The liquidity charge of every pool in USDC minor units, shape [P].

    `delta_minor[P,U]`: net delta at the index, signed, in USDC minor units. `owner_of[P]`: the
    owner of each pool, 0 .. O - 1. Per owner, risk unit and side, `impact_minor` of the sum of the
    sizes of that side's pools; its pools share it in proportion to size, by cumulative parts in
    order of pool (the part up to a pool, floored, less the part before it), so the shares sum to
    the charge and none is off by a unit or more. `InvariantBroken` if a constant is out of
    range, `OverflowError` if a side exceeds 2^59.
    """
    pools, units = delta_minor.shape
    check(form in (SQUARE_ROOT, LINEAR_SHARE), "concentration: unknown form")
    check(owner_of.shape == (pools,), "concentration: one owner per pool")
    check(pools == 0 or int(owner_of.min()) >= 0, "concentration: an owner below 0")
    check(((slope_e9 >= 0) & (slope_e9 <= MOST_SLOPE_E9)).all(), "concentration: slope")
    inside = (depth_minor <= MOST_SIZE_MINOR) & (free_minor >= 0) & (free_minor <= depth_minor)
    check(inside.all(), "concentration: depth or free part out of range")
    owners = int(owner_of.max()) + 1 if pools else 0
    size = np.zeros((owners, units, 2), np.int64)
    charge = np.zeros_like(size)
    liquidity_minor = np.zeros(pools, np.int64)
    _owner_kernel(
        delta_minor, owner_of, form, depth_minor, free_minor, slope_e9, size, charge,
        liquidity_minor,
    )  # fmt: skip
    return liquidity_minor


def warm_up() -> None:
    """Compile the kernel of this module."""
    one = np.ones(1, np.int64)
    owner_charges(SQUARE_ROOT, np.ones((1, 1), np.int64), one * 0, one, one * 0, one)
