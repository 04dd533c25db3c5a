"""Value at risk and expected shortfall of weighted scenarios, exactly and in integers.

With total weight W and confidence a, the tail is the worst (1 - a) W of weight. Value at risk is
the upper a-quantile of the loss: the smallest loss x such that less than the tail's weight loses
more than x. Expected shortfall is the mean loss of the tail, the scenario at its edge counted by
the part that fits (C. Acerbi and D. Tasche, On the coherence of expected shortfall, 2002). So the
shortfall is never below the value at risk, and it is subadditive.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numba import njit

from margin.fixed_point import RATE_SCALE, inlined
from margin.invariant import Int64Array, check

_TAKEN: Final = 2**62  # marks a scenario that has been counted; no profit is as large
_TAIL_MOST: Final = 2**31  # its square must fit, see `tail_of`


def tail_weights(weight: Int64Array, level_ppb: int) -> tuple[Int64Array, int]:
    """Scenario weights and the weight of the tail, in one unit in which both are whole.

    `weight[S]` > 0, any unit; `level_ppb` the confidence (990,000,000 is 99 %). With 1 - a = n / d
    in lowest terms, weights are multiplied by d and the tail is n x their sum. `InvariantBroken`
    for a level outside 0 .. 1, and for weights too fine to be kept exact.
    """
    check(0 < level_ppb < RATE_SCALE, "tail: the level must lie in 0 .. 1")
    check(len(weight) > 0 and bool((weight > 0).all()), "tail: weights must be positive")
    part = RATE_SCALE - level_ppb
    shared = math.gcd(part, RATE_SCALE)
    step = math.gcd(*weight.tolist())
    total = sum(weight.tolist()) // step
    tail = part // shared * total
    check(tail < _TAIL_MOST and total * (RATE_SCALE // shared) < _TAKEN, "tail: weights too fine")
    return weight // step * (RATE_SCALE // shared), tail


@inlined
def tail_of(profit: Int64Array, weight: Int64Array, tail: int) -> tuple[int, int, int]:
    """(value at risk, expected shortfall, scenario of the largest loss); destroys `profit`.

    `profit[S]` with |profit| < 2^62; `weight` and `tail` from `tail_weights`. Losses are positive
    and not floored at 0; the shortfall is rounded up; of equal scenarios the first is named.
    Exact: with loss = q tail + r, the sum of loss x weight over the tail is
    tail x (sum of q x weight) + sum of r x weight, and both sums stay below 2^62.
    """
    left, whole, rest, loss, worst = tail, 0, 0, 0, -1
    while left > 0:
        lowest, at = profit[0], 0
        for s in range(len(profit)):  # without a branch: this loop vectorises, a search does not
            lowest = min(lowest, profit[s])
        while profit[at] != lowest:
            at += 1
        worst = at if worst < 0 else worst
        loss = -profit[at]
        profit[at] = _TAKEN
        counted = min(weight[at], left)
        quotient = loss // tail
        whole += quotient * counted
        rest += (loss - quotient * tail) * counted
        left -= counted
    return loss, whole + (rest + tail - 1) // tail, worst


@njit(cache=True)
def _tails(
    profit: Int64Array, weight: Int64Array, tail: int, value: Int64Array, shortfall: Int64Array
) -> None:
    scratch = np.empty(profit.shape[1], np.int64)
    for n in range(len(profit)):
        for s in range(len(scratch)):
            scratch[s] = profit[n, s]
        value[n], shortfall[n], _ = tail_of(scratch, weight, tail)


def tail_measures(
    profit: Int64Array, weight: Int64Array, level_ppb: int
) -> tuple[Int64Array, Int64Array]:
    """(value at risk, expected shortfall) of each row of `profit[N,S]`, shape [N], losses positive.

    In the unit of `profit`, the shortfall rounded up; negative where even the tail gains.
    `weight[S]` as in `tail_weights`. Needs |profit| < 2^62.
    """
    check(profit.ndim == 2 and profit.shape[1:] == weight.shape, "tail: one weight per scenario")
    scaled, tail = tail_weights(weight, level_ppb)
    value = np.empty(len(profit), np.int64)
    shortfall = np.empty(len(profit), np.int64)
    _tails(np.ascontiguousarray(profit), scaled, tail, value, shortfall)
    return value, shortfall


def warm_up() -> None:
    """Compile the kernel of this module."""
    one = np.ones(1, np.int64)
    _tails(one.reshape(1, 1), one, 1, one.copy(), one.copy())
