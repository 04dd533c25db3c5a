"""Offset between the worst losses of risk units, by the correlation of their moves.

    M = sum L_i - min(cap, sum L_i - sqrt(sum_ij rho_ij d_i d_j L_i L_j)),  rho_ii = 1,

L_i is a unit's worst loss and d_i = +-1 the direction of the spot move in which it falls. Uncapped,
rho = 0 gives the root of the sum of squares and rho = 1 gives |sum d_i L_i|. A loss without a
direction (a skew, the basis, volatility alone) counts whole beside the root. The form is PS-1's own
"dynamic" one; the correlation is an EWMA of products of moves (RiskMetrics, 1996) drawn toward a
constant (O. Ledoit and M. Wolf, Honey, I shrunk the sample covariance matrix, 2004).

All integers: losses are cut to 30 bits, what is cut off is added back whole, products and the
root are rounded up, so that the offset is never more than the formula's.
"""

from __future__ import annotations

from math import isqrt
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit, prange

from margin.fixed_point import (
    NS_PER_SECOND,
    RATE_SCALE,
    USDC_SCALE,
    inlined,
    integer_root,
    mul_div_ceil,
    mul_div_floor,
    root_up,
    uncounted,
)
from margin.forecasts.ranges import relative_move_e9
from margin.invariant import Int64Array, check
from margin.pools.requirement import PARALLEL_POOLS, Requirements
from margin.presets.dynamic_sections import CrossUnit

CUT_BITS: Final = 30
_CUT: Final = 1 << CUT_BITS
_MOST_STEPS: Final = 64
_POOLS_PER_CHUNK: Final = 256


class CorrelationState(msgspec.Struct, gc=False):
    """What is remembered: `moment_e18[U,U]` of moves, index and number of the last boundary."""

    moment_e18: Int64Array
    price_e8: Int64Array
    period: int = -1


def opening(section: CrossUnit, variance_e18: Int64Array) -> CorrelationState:
    """A state of these variances [U] in which every pair is correlated by the constant."""
    units = len(variance_e18)
    moment = np.zeros((units, units), np.int64)
    for i, own in enumerate(variance_e18.tolist()):
        for j, other in enumerate(variance_e18.tolist()):
            whole = own if i == j else isqrt(own * other) * section.toward_ppb // RATE_SCALE
            moment[i, j] = whole
    return CorrelationState(moment, np.zeros(units, np.int64))


def step(
    section: CrossUnit, state: CorrelationState, time_ns: int, index_e8: list[int], fresh: bool
) -> bool:
    """Move on to the indices at `time_ns`; returns whether the moments changed.

    `fresh`: whether every index is; otherwise nothing is learnt until they are. A gap of n periods
    counts as n moves of the same variance, n at most 64.
    """
    period = time_ns // (section.period_s * NS_PER_SECOND)
    if not fresh or period == state.period:
        return False
    elapsed = min(_MOST_STEPS, period - state.period)
    known = state.period >= 0
    before = state.price_e8.tolist()
    state.price_e8[:], state.period = index_e8, period
    if not known:
        return False
    root = isqrt(elapsed * RATE_SCALE * RATE_SCALE)
    moves = [
        relative_move_e9(then, now) * RATE_SCALE // root
        for then, now in zip(before, index_e8, strict=True)
    ]
    for _ in range(elapsed):
        for i, own in enumerate(moves):
            for j, other in enumerate(moves):
                kept = int(state.moment_e18[i, j]) * section.decay_ppb
                added = own * other * (RATE_SCALE - section.decay_ppb)
                state.moment_e18[i, j] = (kept + added) // RATE_SCALE
    return True


def correlations_ppb(section: CrossUnit, state: CorrelationState) -> Int64Array:
    """rho[U,U]: moments as correlations within -1 .. 1, drawn toward the constant; 1 to itself.

    To the nearest 10^-9: a correlation has no side on which to err.
    """
    moment, units = state.moment_e18, len(state.moment_e18)
    rho = np.full((units, units), RATE_SCALE, np.int64)
    keep, drawn = RATE_SCALE - section.shrinkage_ppb, section.shrinkage_ppb * section.toward_ppb
    for i in range(units):
        for j in range(units):
            if i == j:
                continue
            scale = root_up(int(moment[i, i]) * int(moment[j, j]))
            own = section.toward_ppb
            if scale > 0:
                own = (2 * int(moment[i, j]) * RATE_SCALE + scale) // (2 * scale)
                own = max(-RATE_SCALE, min(RATE_SCALE, own))
            rho[i, j] = (2 * (own * keep + drawn) + RATE_SCALE) // (2 * RATE_SCALE)
    return rho


@uncounted
def _offset(
    loss: Int64Array, direction: Int64Array, rho: Int64Array, share_ppb: int, most: int,
    cut: Int64Array,
) -> int:  # fmt: skip
    """Offset of one pool from its losses and directions [U]; `cut[U]` is scratch."""
    units = len(loss)
    total, directed = 0, 0
    for u in range(units):
        total += loss[u]
        directed += loss[u] if direction[u] != 0 else 0
    shift = 0
    while directed >> shift >= _CUT:
        shift += 1
    rest, form = 0, 0
    for u in range(units):
        cut[u] = loss[u] >> shift if direction[u] != 0 else 0
        rest += loss[u] - (cut[u] << shift) if direction[u] != 0 else 0
        form += cut[u] * cut[u]
        for v in range(u):
            if cut[u] != 0 and cut[v] != 0:
                pair = direction[u] * direction[v] * cut[u] * cut[v]
                form += 2 * mul_div_ceil(pair, rho[u, v], RATE_SCALE)
    root = 0
    if form > 0:
        root = integer_root(form)
        root += 1 if root * root < form else 0
    saved = max(0, directed - ((root << shift) + rest))
    return min(saved, min(most, mul_div_floor(total, share_ppb, RATE_SCALE)))


@njit(cache=True)
def _offsets(
    loss: Int64Array, direction: Int64Array, rho: Int64Array, share_ppb: int, most: int,
    out: Int64Array,
) -> None:  # fmt: skip
    """Offsets [P] from losses and directions [P,U]."""
    cut = np.zeros(loss.shape[1], np.int64)
    for p in range(len(loss)):
        out[p] = _offset(loss[p], direction[p], rho, share_ppb, most, cut)


def offsets_minor(
    section: CrossUnit, rho_ppb: Int64Array, loss_minor: Int64Array, direction: Int64Array
) -> Int64Array:
    """What is taken off the sum of each pool's unit losses, USDC minor units, rounded down, [P].

    `loss_minor[P,U]`: worst losses, 0 to 2^61 in sum; `direction[P,U]`: -1, +1, or 0 for a loss
    without one. `rho_ppb[U,U]` symmetric.
    """
    check(loss_minor.shape == direction.shape, "cross-unit: a direction for each loss")
    out = np.zeros(len(loss_minor), np.int64)
    most = section.most_usdc * USDC_SCALE
    _offsets(loss_minor, direction, rho_ppb, section.most_share_ppb, most, out)
    return out


@uncounted
def _read_unit(quanta: int, scenario: int, exponent: int, moves: Int64Array) -> tuple[int, int]:
    """Loss in minor units, rounded down, and the direction of the move in which it falls."""
    direction = moves[scenario] if 0 <= scenario < len(moves) else 0
    return quanta >> exponent, direction


@inlined
def _relieved_chunk(
    chunk: int, loss: Int64Array, scenario: Int64Array, exponent: Int64Array, moves: Int64Array,
    rho: Int64Array, caps: tuple[int, int], worst: Int64Array, factors_ppb: Int64Array,
    out: Int64Array,
) -> None:  # fmt: skip
    units = loss.shape[1]
    scratch = np.zeros((3, units), np.int64)
    for p in range(chunk * _POOLS_PER_CHUNK, min(len(loss), (chunk + 1) * _POOLS_PER_CHUNK)):
        for u in range(units):
            scratch[0, u], scratch[1, u] = _read_unit(
                loss[p, u], scenario[p, u], exponent[u], moves[u]
            )
        offset = _offset(scratch[0], scratch[1], rho, caps[0], caps[1], scratch[2])
        for k in range(2):
            whole = mul_div_ceil(worst[p], factors_ppb[k], RATE_SCALE)
            out[k, p] = whole - mul_div_ceil(worst[p] - offset, factors_ppb[k], RATE_SCALE)
        out[2, p] = offset


@njit(cache=True)
def _relieved_serial(
    chunks: int, loss: Int64Array, scenario: Int64Array, exponent: Int64Array, moves: Int64Array,
    rho: Int64Array, caps: tuple[int, int], worst: Int64Array, factors_ppb: Int64Array,
    out: Int64Array,
) -> None:  # fmt: skip
    for chunk in range(chunks):
        _relieved_chunk(
            chunk, loss, scenario, exponent, moves, rho, caps, worst, factors_ppb, out
        )  # fmt: skip


@njit(cache=True, parallel=True)
def _relieved_parallel(
    chunks: int, loss: Int64Array, scenario: Int64Array, exponent: Int64Array, moves: Int64Array,
    rho: Int64Array, caps: tuple[int, int], worst: Int64Array, factors_ppb: Int64Array,
    out: Int64Array,
) -> None:  # fmt: skip
    for chunk in prange(chunks):
        _relieved_chunk(
            chunk, loss, scenario, exponent, moves, rho, caps, worst, factors_ppb, out
        )  # fmt: skip


class Relief(NamedTuple):
    """What offsets do to pools [P], USDC minor units: to the worst loss and to both margins."""

    offset_minor: Int64Array
    maintenance_minor: Int64Array
    initial_minor: Int64Array


def relief_minor(
    section: CrossUnit, rho_ppb: Int64Array, found: Requirements, risk_exponent: Int64Array,
    sign: Int64Array, factors_ppb: Int64Array,
) -> Relief:  # fmt: skip
    """By how much offsets lower the worst losses and margins of requirements.

    `sign[U,S]`: direction of the spot move of each scenario; a candidate beyond them (the basis)
    has none. `factors_ppb`: shares of the worst loss charged as maintenance and initial margin.
    """
    check(found.unit_loss.shape[1] == len(sign), "cross-unit: moves of each unit")
    out = np.zeros((3, len(found.unit_loss)), np.int64)
    caps = (section.most_share_ppb, section.most_usdc * USDC_SCALE)
    pools = out.shape[1]
    kernel = _relieved_serial if pools < PARALLEL_POOLS else _relieved_parallel
    kernel(
        -(-pools // _POOLS_PER_CHUNK), found.unit_loss, found.worst_scenario, risk_exponent, sign,
        rho_ppb, caps, found.worst_minor, factors_ppb, out,
    )  # fmt: skip
    return Relief(out[2], out[0], out[1])


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    _offsets(grid, grid, grid, 0, 0, one)
    for kernel in (_relieved_serial, _relieved_parallel):
        kernel(
            1, grid, grid, one, grid, grid, (0, 0), one, np.zeros(2, np.int64),
            np.zeros((3, 1), np.int64),
        )  # fmt: skip
