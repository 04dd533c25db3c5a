"""Requirements of every pool: integers only, the same whatever the thread count.

For a pool and a risk unit, profit and loss per scenario is the sum of lots x matrix rows plus the
coin cash column; where the model values expiries on their own it is the sum over expiries of
`margin.pools.expiry_groups`, with skews and the basis as further candidates.
worst_u = max(0, -lowest). The pool's worst loss is the sum over units, rounded up to minor units
once; then

    maintenance = ceil(worst x mm_factor) + ceil(mm_contingency)
    initial     = ceil(worst x im_factor) + ceil(im_extra_contingency) + ceil(mm_contingency)

Form: Derive PMRM 2, with contingencies for delta-one size (gross over instruments, coin cash
excluded), for naked short options per expiry and strike, max(0, -(net calls + puts)), for coin
cash where the preset charges it, and for doubtful prices. Open orders: `margin.pools.open_orders`.
Equity: `margin.pools.equity`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit, prange

from margin.fixed_point import inlined
from margin.invariant import Int64Array, check
from margin.pools.equity import equity
from margin.pools.expiry_groups import column_bounds, pool_by_expiry
from margin.pools.open_orders import (
    OpenOrders,
    pool_with_orders,
    requirement_with_orders,
    table_columns,
    unit_profits,
)
from margin.pools.prefetch import prefetch_lines
from margin.pools.risk_table import (
    BETTER_ROW,
    UNIT,
    RiskTable,
    RowShape,
    narrow_rows,
    risk_table,
)
from margin.pools.steps import (
    LOSS,
    SCENARIO,
    add_coins,
    add_unit,
    carry,
    has_coins,
    largest_loss,
    margins,
    place_floor,
    scenario_of,
)
from margin.portfolio import Positions

__all__ = [
    "PARALLEL_POOLS",
    "OpenOrders",
    "Requirements",
    "RiskTable",
    "equity",
    "pool_requirements",
    "pool_with_orders",
    "requirement_with_orders",
    "risk_table",
    "table_columns",
    "unit_profits",
    "warm_up",
]

# Below this many pools one thread is done before a second has woken.
PARALLEL_POOLS: Final = 2048
_POOLS_PER_CHUNK: Final = 256
_POOLS_AHEAD: Final = 6  # far enough for memory, near enough for the first-level cache
WORST, INITIAL, MAINTENANCE = range(3)


class Requirements(NamedTuple):
    """Per pool, USDC minor units: `worst_minor`, `initial_minor`, `maintenance_minor`, shape [P].

    `worst_scenario[P,U]` is the candidate of a unit's largest loss (the first of equals): a
    scenario in the order of `scenarios_of`, skews last, or after them the basis; -1 where none
    loses. `unit_loss[P,U]`: that loss in quanta of the unit.
    """

    worst_minor: Int64Array
    initial_minor: Int64Array
    maintenance_minor: Int64Array
    worst_scenario: Int64Array
    unit_loss: Int64Array


@inlined
def _margin_chunk(
    chunk: int,
    begin: Int64Array,
    end: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    rows: Int64Array,
    start: Int64Array,
    regular: int,
    gross_floor: Int64Array,
    terms: Int64Array,
    group_terms: Int64Array,
    coin: Int64Array,
    coin_terms: Int64Array,
    risk_exponent: Int64Array,
    factors_ppb: Int64Array,
    margin_minor: Int64Array,
    worst: Int64Array,
) -> None:
    """Margins of one chunk of pools; scratch is taken once for all of them."""
    total = np.empty(rows.shape[1], np.int64)
    options, floors = len(group_terms) > 0, len(gross_floor) > 0
    units = len(risk_exponent)
    last = min(len(begin), (chunk + 1) * _POOLS_PER_CHUNK)
    for p in range(chunk * _POOLS_PER_CHUNK, last):
        whole, fraction = (0, 0, 0), (0, 0, 0)
        k, stop = begin[p], end[p]
        for u in range(units):
            worst[SCENARIO, p, u] = -1
            held = k < stop and terms[instrument[k], UNIT] == u
            coins = has_coins(coin_terms, coin_minor[p], u, units)
            if not held and not coins:
                continue
            first = k
            k, charge, extra = add_unit(
                total, start, rows, terms, options, instrument, lots, k, stop, u
            )
            if floors:
                place_floor(total, regular, gross_floor, instrument, lots, first, k)
            if coins:
                more = add_coins(total, coin, coin_terms, coin_minor[p], u, units)
                charge, extra = charge + more[0], extra + more[1]
            loss = largest_loss(total)
            worst[LOSS, p, u], worst[SCENARIO, p, u] = loss, scenario_of(total, loss)
            whole, fraction = carry(whole, fraction, (loss, charge, extra), risk_exponent[u])
        margin_minor[WORST, p], margin_minor[INITIAL, p], margin_minor[MAINTENANCE, p] = margins(
            whole, fraction, factors_ppb
        )


@njit(cache=True)
def _margins_serial(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in range(chunks):
        _margin_chunk(chunk, *columns)


@njit(cache=True, parallel=True)
def _margins_parallel(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in prange(chunks):
        # the index is unsigned, for which the chunk would be compiled a second time
        _margin_chunk(np.int64(chunk), *columns)  # type: ignore[arg-type]


@inlined
def _expiry_chunk(
    chunk: int,
    begin: Int64Array,
    end: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    rows: Int64Array,
    lone: Int64Array,
    may_be_better: bool,
    turn: Int64Array,
    upper: Int64Array,
    start: Int64Array,
    terms: Int64Array,
    coin: Int64Array,
    coin_terms: Int64Array,
    risk_exponent: Int64Array,
    factors_ppb: Int64Array,
    margin_minor: Int64Array,
    worst: Int64Array,
) -> None:
    """Margins of one chunk of pools in a model with expiries of their own."""
    positions = begin, end, instrument, lots, coin_minor
    first = chunk * _POOLS_PER_CHUNK
    last = min(len(begin), first + _POOLS_PER_CHUNK)
    units, most = len(risk_exponent), 0
    for p in range(first, last):
        most = max(most, end[p] - begin[p])
    scratch = (
        np.empty(rows.shape[1], np.int64), np.empty((3, most + 1), np.int64),
        start.copy(), np.empty((units, 2), np.int64),
    )  # fmt: skip
    for p in range(first, last):
        ahead = min(p + _POOLS_AHEAD, last - 1)
        prefetch_lines(instrument, begin[ahead], end[ahead])
        prefetch_lines(lots, begin[ahead], end[ahead])
        whole, fraction = pool_by_expiry(
            p, scratch, positions, (rows, lone, may_be_better), (turn, upper), start, terms, coin,
            coin_terms, risk_exponent, worst,
        )  # fmt: skip
        margin_minor[WORST, p], margin_minor[INITIAL, p], margin_minor[MAINTENANCE, p] = margins(
            whole, fraction, factors_ppb
        )


@njit(cache=True)
def _expiries_serial(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in range(chunks):
        _expiry_chunk(chunk, *columns)


@njit(cache=True, parallel=True)
def _expiries_parallel(chunks, *columns):  # type: ignore[no-untyped-def]
    for chunk in prange(chunks):
        _expiry_chunk(np.int64(chunk), *columns)  # type: ignore[arg-type]


def pool_requirements(
    table: RiskTable, positions: Positions, pools: Int64Array | None = None
) -> Requirements:
    """Requirements of every pool from its positions and coin cash, in one compiled pass.

    Of `pools` alone, shape [K], where they are given: entry n then is of pool `pools[n]`.

    Rows of a pool must be in margin order (`Positions.validate`). A pool that holds nothing
    needs nothing. Sums stay below 2^62 if `risk_exponent` was derived from the venue's limits.
    """
    check(
        positions.coin_minor.shape[1] == table.coin.shape[0],
        "requirements: coin cash of other risk units",
    )
    start, coin_minor = positions.pool_start, positions.coin_minor
    begin, end, reads = start[:-1], start[1:], len(positions.instrument)
    if pools is not None:
        # five times as fast as an index, on which a pass over few pools would spend a tenth
        begin, end = begin.take(pools), end.take(pools)
        coin_minor = coin_minor.take(pools, axis=0)
        reads = int((end - begin).sum())
    count = len(begin)
    margin_minor = np.zeros((3, count), dtype=np.int64)
    worst = np.zeros((2, count, table.risk_exponent.shape[0]), dtype=np.int64)
    many = count >= PARALLEL_POOLS
    rows = narrow_rows(table.rows, reads) if many else table.rows
    chunks = (count + _POOLS_PER_CHUNK - 1) // _POOLS_PER_CHUNK
    held = begin, end, positions.instrument, positions.quantity_lots, coin_minor
    if table.shape.halves == 1:
        (_margins_parallel if many else _margins_serial)(
            chunks, *held, rows, table.start, table.shape.regular, table.gross_floor, table.terms,
            table.group_terms, table.coin, table.coin_terms, table.risk_exponent,
            table.factors_ppb, margin_minor, worst,
        )  # fmt: skip
    else:
        bounds = column_bounds(table.shape[:3], table.start.shape[1])
        lone = narrow_rows(table.lone, reads) if many else table.lone
        may_be_better = bool(table.terms[:, BETTER_ROW].any())
        (_expiries_parallel if many else _expiries_serial)(
            chunks, *held, rows, lone, may_be_better, *bounds, table.start, table.terms, table.coin,
            table.coin_terms, table.risk_exponent, table.factors_ppb, margin_minor, worst,
        )  # fmt: skip
    return Requirements(
        margin_minor[WORST], margin_minor[INITIAL], margin_minor[MAINTENANCE],
        worst[SCENARIO], worst[LOSS],
    )  # fmt: skip


def _blank_table(halves: int) -> RiskTable:
    """A table of one worthless perpetual, with rows of one or of two halves."""
    one, grid = np.zeros(1, dtype=np.int64), np.zeros((1, 8), dtype=np.int64)
    terms = np.zeros((1, 8), dtype=np.int64)
    terms[0, 1] = -1
    return RiskTable(
        rows=np.zeros((1, 8 * halves), np.int64),
        lone=np.zeros((1, 8 * halves), np.int64),
        shape=RowShape(1, 0, 0, halves),
        terms=terms,
        group_terms=np.zeros((0, 4), np.int64),
        expiries=1,
        start=grid,
        gross_floor=one[:0],
        coin=grid,
        coin_value=one,
        coin_terms=np.zeros((1, 3), np.int64),
        risk_exponent=one,
        factors_ppb=np.zeros(2, np.int64),
    )


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    many = np.zeros(PARALLEL_POOLS + 1, dtype=np.int64)
    flat = np.zeros((PARALLEL_POOLS, 1), dtype=np.int64)
    for halves in (1, 2):
        table = _blank_table(halves)
        pool_requirements(table, Positions(np.array([0, 1], dtype=np.int64), one, one, grid))
        for held in (one[:0], many):  # rows of 64 bits, then of 32
            pool_requirements(table, Positions(many, held, held, flat))
