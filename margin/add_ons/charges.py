"""Add-ons: what is charged after the worst scenario, for what the scenarios cannot see.

Per pool, each at least 0, in USDC minor units:

    liquidity  closing a position that is large for its market, measured over one owner's pools
    gamma      max(0, gap loss - convexity in the worst scenario) + cost of hedging again
    funding    what perpetuals may have to pay within the horizon, receipts left out

A preset section that is absent charges nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit, prange

from margin.add_ons.concentration import (
    LINEAR_SHARE,
    MOST_SLOPE_E9,
    SQUARE_ROOT,
    impact_minor,
    owner_charges,
)
from margin.add_ons.concentration import warm_up as warm_up_concentration
from margin.add_ons.funding import funding_per_lot
from margin.add_ons.gamma import deviation_e9, expiry_buckets, lot_columns, price_gap
from margin.add_ons.gamma import warm_up as warm_up_gamma
from margin.fixed_point import NS_PER_DAY, RATE_SCALE, inlined, mul_div_ceil
from margin.invariant import Int64Array, check
from margin.portfolio import Instruments, Marks, Positions
from margin.presets.add_on_sections import LINEAR, Funding, Gamma, Liquidity
from margin.presets.add_on_sections import SQUARE_ROOT as SQUARE_ROOT_FORM
from margin.scenarios.grid import Scenarios

# Columns of `AddOnTable.terms`: what a position needs, in one cache line.
UNIT: Final = 0
BUCKET: Final = 1
DELTA: Final = 2
GAP_LOSS: Final = 3
HEDGE: Final = 4
FUNDING: Final = 5
_TERMS: Final = 8
_FORMS: Final = {SQUARE_ROOT_FORM: SQUARE_ROOT, LINEAR: LINEAR_SHARE}
_NO_GAP_E9: Final = 1
_POOLS_PER_CHUNK: Final = 256
# What is and-ed with this is not negative, so the compiler leaves out the code by which a negative
# index counts from the end.
_NOT_NEGATIVE: Final = 2**31 - 1
# Below this many pools one thread is done before a second has woken.
PARALLEL_POOLS: Final = 8192


class AddOns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sections of a preset that charge add-ons, each optional."""

    liquidity: Liquidity | None = None
    gamma: Gamma | None = None
    funding: Funding | None = None


class MarketConditions(msgspec.Struct, frozen=True, gc=False):
    """What the market is like now, by risk unit, and funding by instrument.

    `volatility_e9[U]`: forecast, annualised. `daily_volume_minor[U]`: average daily volume in USDC
    minor units. `spot_range_e9[U]`: the largest regular spot move. `interval_ns`: between batches.
    `funding_rate_e9[I]`: per eight hours, of perpetuals.
    """

    volatility_e9: Int64Array
    daily_volume_minor: Int64Array
    spot_range_e9: Int64Array
    interval_ns: int
    funding_rate_e9: Int64Array


class AddOnTable(msgspec.Struct, frozen=True, gc=False):
    """What the kernels read of one revaluation; built by `add_on_table`, once, not once a pool.

    `terms[I,8]`: unit, gamma bucket, delta, gap loss, hedge, funding; per long lot in quanta of
    2^-risk_exponent[U]. `convexity[I,S]` likewise. `form`, `depth_minor[U]`, `free_minor[U]`,
    `slope_e9[U]` as `impact_minor` takes them; `charges_liquidity` says whether it is charged.
    """

    terms: Int64Array
    convexity: Int64Array
    risk_exponent: Int64Array
    half_spread_e9: int
    charges_liquidity: bool
    form: int
    depth_minor: Int64Array
    free_minor: Int64Array
    slope_e9: Int64Array


class AddOnCharges(NamedTuple):
    """Per pool, USDC minor units, shape [P], none below 0; `total_minor` is the sum."""

    liquidity_minor: Int64Array
    gamma_minor: Int64Array
    funding_minor: Int64Array
    total_minor: Int64Array


def _impact_terms(
    section: Liquidity | None, conditions: MarketConditions
) -> tuple[int, Int64Array, Int64Array, Int64Array]:
    """Form, depth, free size and slope of every unit; a slope of 0 where nothing is charged."""
    units = int(conditions.volatility_e9.shape[0])
    depth, free, slope = (np.zeros(units, np.int64) for _ in range(3))
    if section is None:
        return SQUARE_ROOT, depth + 1, free, slope
    for u in range(units):
        volume = int(conditions.daily_volume_minor[u])
        check(volume >= 0, "add-ons: a daily volume below 0")
        depth[u] = volume * section.depth_days_e9 // RATE_SCALE
        free[u] = volume * section.free_share_e9 // RATE_SCALE
        if section.form == "square-root":
            risk = deviation_e9(int(conditions.volatility_e9[u]), NS_PER_DAY)
        else:
            risk = int(conditions.spot_range_e9[u])
        slope[u] = min(MOST_SLOPE_E9, -(-section.coefficient_e9 * risk // RATE_SCALE))
    return _FORMS[section.form], depth, free, slope


def add_on_table(
    sections: AddOns,
    instruments: Instruments,
    marks: Marks,
    conditions: MarketConditions,
    scenarios: Sequence[Scenarios],
    risk_exponent: Int64Array,
) -> AddOnTable:
    """The table of one revaluation.

    `scenarios`: one per risk unit, those whose index `add_ons` is told as the worst; only moves and
    weights are read. `risk_exponent[U]` is that of the scenario matrix: no entry exceeds the
    bound of that matrix, so no sum can reach 2^62.
    """
    units = int(marks.index_e8.shape[0])
    check(len(scenarios) == units, "add-ons: scenarios of other risk units")
    check(conditions.volatility_e9.shape == (units,), "add-ons: conditions of other risk units")
    count = len(scenarios[0]) if units else 0
    terms = np.zeros((len(instruments), _TERMS), np.int64)
    gamma = sections.gamma
    gap_e9, mean_e9 = np.full(units, _NO_GAP_E9, np.int64), np.zeros(units, np.int64)
    if gamma is not None:
        for u in range(units):
            gap_e9[u], mean_e9[u] = price_gap(
                int(conditions.volatility_e9[u]), conditions.interval_ns, gamma.quantile_e9,
                gamma.least_gap_e9,
            )  # fmt: skip
    moves = np.array([unit.spot_move_e9 for unit in scenarios], np.int64).reshape(units, count)
    weights = np.array([unit.weight_e9 for unit in scenarios], np.int64).reshape(units, count)
    columns, convexity = lot_columns(
        instruments, marks, gap_e9, mean_e9, moves, weights, risk_exponent
    )
    terms[:, UNIT] = instruments.unit
    terms[:, BUCKET] = expiry_buckets(instruments, marks.now_ns, gamma.near_days if gamma else 0)
    terms[:, DELTA] = columns[:, 0]
    if gamma is not None:
        terms[:, GAP_LOSS], terms[:, HEDGE] = columns[:, 1], columns[:, 2]
    if sections.funding is not None:
        terms[:, FUNDING] = funding_per_lot(
            instruments, marks, conditions.funding_rate_e9, sections.funding.horizon_hours,
            risk_exponent,
        )  # fmt: skip
    form, depth, free, slope = _impact_terms(sections.liquidity, conditions)
    return AddOnTable(
        terms, convexity, risk_exponent.copy(), gamma.half_spread_e9 if gamma else 0,
        sections.liquidity is not None, form, depth, free, slope,
    )  # fmt: skip


@inlined
def _pool_of(
    p: int,
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    worst_scenario: Int64Array,
    terms: Int64Array,
    convexity: Int64Array,
    risk_exponent: Int64Array,
    half_spread_e9: int,
    form: int,
    depth_minor: Int64Array,
    free_minor: Int64Array,
    slope_e9: Int64Array,
    delta_minor: Int64Array,
    gamma_minor: Int64Array,
    funding_minor: Int64Array,
) -> None:
    """Delta of one pool by unit, its gamma charge and its funding provision."""
    k, end = pool_start[p], pool_start[p + 1]
    for u in range(len(risk_exponent)):
        first, delta, funding = k, 0, 0
        short, hedge, net, net_hedge, bucket = 0, 0, 0, 0, -1
        # without branches, since nothing predicts which row is an option, or of which expiry
        while k < end:
            i = instrument[k & _NOT_NEGATIVE] & _NOT_NEGATIVE
            if terms[i, UNIT] != u:
                break
            q = lots[k & _NOT_NEGATIVE]
            delta += q * terms[i, DELTA]
            funding += max(0, q * terms[i, FUNDING])
            same = terms[i, BUCKET] == bucket
            bucket = terms[i, BUCKET]
            short += 0 if same else max(0, -net)
            hedge += 0 if same else max(0, -net_hedge)
            net = q * terms[i, GAP_LOSS] + (net if same else 0)
            net_hedge = q * terms[i, HEDGE] + (net_hedge if same else 0)
            k += 1
        short, hedge = short + max(0, -net), hedge + max(0, -net_hedge)
        e = risk_exponent[u]
        size = -((-abs(delta)) >> e)
        delta_minor[p, u] = size if delta >= 0 else -size
        funding_minor[p] += -((-funding) >> e)
        s = worst_scenario[p, u]
        bent = 0
        if short > 0 and 0 <= s < convexity.shape[1]:
            for j in range(first, k):
                bent -= lots[j] * convexity[instrument[j] & _NOT_NEGATIVE, s]
        gamma_minor[p] += -((-max(0, short - max(0, bent))) >> e)
        if hedge > 0:
            traded = -((-hedge) >> e)
            gamma_minor[p] += mul_div_ceil(traded, half_spread_e9, RATE_SCALE)
            gamma_minor[p] += impact_minor(form, traded, depth_minor[u], free_minor[u], slope_e9[u])


@njit(cache=True)
def _pool_serial(chunks, pools, *columns):  # type: ignore[no-untyped-def]
    for p in range(pools):
        _pool_of(p, *columns)


@njit(cache=True, parallel=True)
def _pool_parallel(chunks, pools, *columns):  # type: ignore[no-untyped-def]
    for chunk in prange(chunks):
        first = np.int64(chunk) * _POOLS_PER_CHUNK
        for p in range(first, min(pools, first + _POOLS_PER_CHUNK)):
            _pool_of(p, *columns)


def add_ons(
    table: AddOnTable, positions: Positions, owner_of: Int64Array, worst_scenario: Int64Array
) -> AddOnCharges:
    """The add-ons of every pool.

    `owner_of[P]`: owner of each pool, 0 .. O - 1. `worst_scenario[P,U]` as `pool_requirements`
    gives it; one that is not in the table's scenarios (none, or a candidate outside the grid)
    holds no convexity. Rows of a pool must be in margin order.

    Gamma: per unit and bucket the net gap loss if short; summed over buckets, less the convexity of
    the unit's positions in the worst scenario, at least 0. Hedging again costs half the spread and
    the impact of the notional traded, for the net short of each bucket. Funding: the sum over
    positions of what each pays. Liquidity: `owner_charges` on the net delta per unit, coin cash
    left out. Sums are exact in quanta and rounded up to minor units once per unit.
    """
    pools, units = positions.pool_count, int(table.risk_exponent.shape[0])
    check(worst_scenario.shape == (pools, units), "add-ons: worst scenarios of other pools")
    check(owner_of.shape == (pools,), "add-ons: one owner per pool")
    delta = np.zeros((pools, units), np.int64)
    gamma, funding, liquidity = (np.zeros(pools, np.int64) for _ in range(3))
    kernel = _pool_serial if pools < PARALLEL_POOLS else _pool_parallel
    kernel(
        (pools + _POOLS_PER_CHUNK - 1) // _POOLS_PER_CHUNK, pools,
        positions.pool_start, positions.instrument, positions.quantity_lots, worst_scenario,
        table.terms, table.convexity, table.risk_exponent, table.half_spread_e9, table.form,
        table.depth_minor, table.free_minor, table.slope_e9, delta, gamma, funding,
    )  # fmt: skip
    if table.charges_liquidity:
        liquidity = owner_charges(
            table.form, delta, owner_of, table.depth_minor, table.free_minor, table.slope_e9
        )
    return AddOnCharges(liquidity, gamma, funding, liquidity + gamma + funding)


def warm_up() -> None:
    """Compile the kernels of this module and of those that it calls."""
    warm_up_concentration()
    warm_up_gamma()
    one, none = np.ones(1, np.int64), np.zeros(1, np.int64)
    table = AddOnTable(
        np.zeros((1, _TERMS), np.int64), np.zeros((1, 1), np.int64), none, 0, True, SQUARE_ROOT,
        one, none, none,
    )  # fmt: skip
    held = Positions(np.array([0, 1], np.int64), none, one, np.zeros((1, 1), np.int64))
    add_ons(table, held, none, np.zeros((1, 1), np.int64))
    nobody, flat = np.zeros(PARALLEL_POOLS, np.int64), np.zeros((PARALLEL_POOLS, 1), np.int64)
    empty = Positions(np.zeros(PARALLEL_POOLS + 1, np.int64), none, one, flat)
    add_ons(table, empty, nobody, flat)
