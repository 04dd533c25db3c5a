"""Requirements of every pool, and equity: integers only, the same whatever the thread count.

For a pool and a risk unit, profit and loss per scenario is the sum of lots x matrix rows plus the
coin cash column. worst_u = max(0, -lowest). The pool's worst loss is the sum over units, rounded
up to minor units once; then

    maintenance = ceil(worst x mm_factor) + ceil(mm_contingency)
    initial     = ceil(worst x im_factor) + ceil(im_extra_contingency) + ceil(mm_contingency)

Form: Derive PMRM 2, with contingencies for delta-one size (gross over instruments, coin cash
excluded) and for naked short options per expiry and strike, max(0, -(net calls + puts)).

With open orders a unit's sum gains min(0, profit and loss from limit to scenario) of every order,
and contingencies count the worst that fills can make of each instrument and strike.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit, prange

from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE, mul_div_floor
from margin.invariant import Int64Array, check
from margin.portfolio import Positions
from margin.risk_table import (
    CHARGE,
    EXTRA_CHARGE,
    GROUP,
    UNIT,
    RiskTable,
    add_coin,
    add_unit,
    carry,
    inlined,
    largest_loss,
    margins,
    narrow_rows,
    risk_table,
)
from margin.scenarios import COIN_STEP_MINOR

__all__ = [
    "OpenOrders",
    "Requirements",
    "RiskTable",
    "equity",
    "pool_requirements",
    "pool_with_orders",
    "requirement_with_orders",
    "risk_table",
    "warm_up",
]

_POOLS_PER_CHUNK: Final = 256
# Below this many pools one thread is done before a second has woken.
PARALLEL_POOLS: Final = 8192
WORST, INITIAL, MAINTENANCE = range(3)
_LOSS_E6: Final = 1_000_000
_USDC: Final = 0
_USDC_INDEX_E8: Final = PRICE_SCALE
_VALUE_DIVISOR: Final = PRICE_SCALE * COIN_SCALE // USDC_SCALE  # 10^10
_SPLIT: Final = 100_000  # its square is the divisor


class Requirements(NamedTuple):
    """Per pool, USDC minor units: `worst_minor`, `initial_minor`, `maintenance_minor`, shape [P].

    `worst_scenario[P,U]` is the scenario of a unit's largest loss (the first of equals), -1 where
    no scenario loses.
    """

    worst_minor: Int64Array
    initial_minor: Int64Array
    maintenance_minor: Int64Array
    worst_scenario: Int64Array


class OpenOrders(msgspec.Struct, frozen=True, gc=False):
    """Open orders of one pool, one row each, shape [M].

    `side` +1 buys, -1 sells; `lots` > 0. `loss_quanta_per_lot` is the value of a lot at its mark
    less its value at the order's limit, whatever the side: what a buyer gains at once and a seller
    loses. In quanta of the unit, zero for inverse instruments, whose difference is coin and goes to
    `loss_coin_minor_e6_per_lot` (10^-6 minor coin units): USD per lot x (1/limit - 1/mark).
    """

    instrument: Int64Array
    side: Int64Array
    lots: Int64Array
    loss_quanta_per_lot: Int64Array
    loss_coin_minor_e6_per_lot: Int64Array


@inlined
def _margin_chunk(
    chunk: int,
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    rows: Int64Array,
    stride: int,
    terms: Int64Array,
    group_terms: Int64Array,
    coin: Int64Array,
    risk_exponent: Int64Array,
    factors_ppb: Int64Array,
    margin_minor: Int64Array,
    worst_scenario: Int64Array,
) -> None:
    """Margins of one chunk of pools; scratch is taken once for all of them."""
    total = np.empty(rows.shape[1], np.int64)
    options = len(group_terms) > 0
    last = min(len(pool_start) - 1, (chunk + 1) * _POOLS_PER_CHUNK)
    for p in range(chunk * _POOLS_PER_CHUNK, last):
        whole, fraction = (0, 0, 0), (0, 0, 0)
        k, end = pool_start[p], pool_start[p + 1]
        for u in range(len(risk_exponent)):
            worst_scenario[p, u] = -1
            held = k < end and terms[instrument[k], UNIT] == u
            if not held and coin_minor[p, u] == 0:
                continue
            k, charge, extra = add_unit(
                total, rows, stride, terms, options, instrument, lots, k, end, u
            )
            if coin_minor[p, u] != 0:
                add_coin(total, coin, u, coin_minor[p, u])
            loss, worst_scenario[p, u] = largest_loss(total)
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


def pool_requirements(table: RiskTable, positions: Positions) -> Requirements:
    """Requirements of every pool from its positions and coin cash, in one compiled pass.

    Rows of a pool must be in margin order (`Positions.validate`). A pool that holds nothing
    needs nothing. Sums stay below 2^62 if `risk_exponent` was derived from the venue's limits.
    """
    pools, units = positions.coin_minor.shape
    check(units == table.risk_exponent.shape[0], "requirements: coin cash of other risk units")
    margin_minor = np.zeros((3, pools), dtype=np.int64)
    scenario = np.zeros((pools, units), dtype=np.int64)
    kernel, rows = _margins_serial, table.rows
    if pools >= PARALLEL_POOLS:
        kernel, rows = _margins_parallel, narrow_rows(rows, len(positions.instrument))
    kernel(
        (pools + _POOLS_PER_CHUNK - 1) // _POOLS_PER_CHUNK,
        positions.pool_start, positions.instrument, positions.quantity_lots, positions.coin_minor,
        rows, table.row_stride, table.terms, table.group_terms, table.coin,
        table.risk_exponent, table.factors_ppb, margin_minor, scenario,
    )  # fmt: skip
    return Requirements(
        margin_minor[WORST], margin_minor[INITIAL], margin_minor[MAINTENANCE], scenario
    )


@njit(cache=True)
def _add_orders(
    total: Int64Array,
    unit: int,
    orders: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    rows: Int64Array,
    stride: int,
    terms: Int64Array,
    coin: Int64Array,
    coin_value: Int64Array,
) -> None:
    """Add min(0, profit and loss from limit to scenario) of every order of `unit`."""
    instrument, side, lots, loss_quanta, loss_coin_e6 = orders
    for k in range(len(instrument)):
        i = instrument[k]
        if terms[i, UNIT] != unit:
            continue
        row = i * stride + (stride - 1 if side[k] < 0 else 0)
        size = lots[k] * side[k] if stride == 1 else lots[k]
        at_once = side[k] * lots[k] * loss_quanta[k]
        paid_coin = mul_div_floor(side[k] * loss_coin_e6[k], lots[k], _LOSS_E6)
        if paid_coin == 0:
            for s in range(len(total)):
                total[s] += min(0, size * rows[row, s] + at_once)
            continue
        steps = paid_coin // COIN_STEP_MINOR
        rest = paid_coin - steps * COIN_STEP_MINOR
        for s in range(len(total)):
            column = coin_value[unit] + coin[unit, s]
            in_coin = steps * column + rest * column // COIN_STEP_MINOR
            total[s] += min(0, size * rows[row, s] + at_once + in_coin)


@njit(cache=True)
def _order_charges(
    unit: int,
    held: Int64Array,
    bought: Int64Array,
    sold: Int64Array,
    net: Int64Array,
    terms: Int64Array,
    group_terms: Int64Array,
) -> tuple[int, int]:
    """Contingencies of `unit` (maintenance, extra) after the fills that make each largest."""
    charge, extra = 0, 0
    for i in range(len(held)):
        if terms[i, UNIT] == unit and terms[i, GROUP] < 0:
            size = max(abs(held[i] + bought[i]), abs(held[i] - sold[i]))
            charge += size * terms[i, CHARGE]
            extra += size * terms[i, EXTRA_CHARGE]
    for g in range(len(net)):
        if group_terms[g, UNIT] == unit:
            naked = max(0, -net[g])
            charge += naked * group_terms[g, CHARGE]
            extra += naked * group_terms[g, EXTRA_CHARGE]
    return charge, extra


@njit(cache=True)
def pool_with_orders(
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    orders: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    rows: Int64Array,
    stride: int,
    terms: Int64Array,
    group_terms: Int64Array,
    coin: Int64Array,
    coin_value: Int64Array,
    risk_exponent: Int64Array,
    factors_ppb: Int64Array,
) -> tuple[int, int, int]:
    """(worst, initial, maintenance) of one pool with orders: `requirement_with_orders`, compiled.

    For kernels that check many pools: a call from Python costs more than the arithmetic.
    `orders` are the columns of `OpenOrders`, the rest those of `RiskTable`.
    """
    held = np.zeros(len(terms), np.int64)
    bought = np.zeros(len(terms), np.int64)
    sold = np.zeros(len(terms), np.int64)
    net = np.zeros(len(group_terms), np.int64)
    for k in range(len(instrument)):
        held[instrument[k]] += lots[k]
    for k in range(len(orders[0])):
        if orders[1][k] > 0:
            bought[orders[0][k]] += orders[2][k]
        else:
            sold[orders[0][k]] += orders[2][k]
    for i in range(len(terms)):
        if terms[i, GROUP] >= 0:
            net[terms[i, GROUP]] += held[i] - sold[i]  # buys only ever cover: sales are worse
    total = np.empty(rows.shape[1], np.int64)
    options = len(group_terms) > 0
    whole, fraction = (0, 0, 0), (0, 0, 0)
    begin: int = np.int64(0)  # type: ignore[assignment]  # a literal 0 would compile `add_unit` again
    for u in range(len(risk_exponent)):
        begin = add_unit(
            total, rows, stride, terms, options, instrument, lots, begin, len(instrument), u
        )[0]
        if coin_minor[u] != 0:
            add_coin(total, coin, u, coin_minor[u])
        _add_orders(total, u, orders, rows, stride, terms, coin, coin_value)
        loss = largest_loss(total)[0]
        charge, extra = _order_charges(u, held, bought, sold, net, terms, group_terms)
        whole, fraction = carry(whole, fraction, (loss, charge, extra), risk_exponent[u])
    return margins(whole, fraction, factors_ppb)


def requirement_with_orders(
    table: RiskTable,
    instrument: Int64Array,
    quantity_lots: Int64Array,
    coin_minor: Int64Array,
    orders: OpenOrders,
) -> tuple[int, int]:
    """(initial, maintenance) of one pool in USDC minor units if any of its orders may fill.

    `instrument[n]`, `quantity_lots[n]`: the pool's position rows in margin order; `coin_minor[U]`.

    Per unit and scenario: positions + coin cash + sum over orders of min(0, P). P of a buy is what
    its lots gain from the mark to the scenario (the long row) plus mark less limit at once; of a
    sale the short row less the same. The second part is cash that changes hands at the fill, so
    no tail weight damps it. For an inverse order that cash is coin: lots x (1/limit - 1/mark)
    x USD per lot, floored to minor units, and it counts at the index now and then moves with the
    coin's own column. The result covers the pool after any subset of fills, gains booked at the
    fill set aside. In a pool that holds only that instrument, an order that reduces the position
    at its mark or better never raises it.

    Contingencies: per delta-one instrument the larger of |position + all buys| and
    |position - all sales|; per strike naked shorts after all sales and no buys. Without orders the
    result is that of `pool_requirements`. Whoever liquidates on maintenance margin passes no
    orders: an order is not yet a loss.
    """
    _, initial, maintenance = pool_with_orders(
        instrument, quantity_lots, coin_minor,
        (orders.instrument, orders.side, orders.lots, orders.loss_quanta_per_lot,
         orders.loss_coin_minor_e6_per_lot),
        table.rows, table.row_stride, table.terms, table.group_terms, table.coin,
        table.coin_value, table.risk_exponent, table.factors_ppb,
    )  # fmt: skip
    return int(initial), int(maintenance)


@inlined
def _equity_of(
    p: int,
    cash_minor: Int64Array,
    option_value_minor: Int64Array,
    index_e8: Int64Array,
    haircut_ppb: Int64Array,
    equity_minor: Int64Array,
) -> None:
    total = 0
    for c in range(cash_minor.shape[1]):
        amount = cash_minor[p, c] + option_value_minor[p, c]
        # floor(amount x index / 10^10) from halves of five digits: no product overflows
        price = index_e8[c] * (COIN_SCALE // USDC_SCALE if c == _USDC else 1)
        price_high = price // _SPLIT
        price_low = price - price_high * _SPLIT
        high = amount // _SPLIT
        low = amount - high * _SPLIT
        middle = high * price_low + low * price_high + low * price_low // _SPLIT
        value = high * price_high + middle // _SPLIT
        if value > 0:
            value = mul_div_floor(value, RATE_SCALE - haircut_ppb[c], RATE_SCALE)
        total += value
    equity_minor[p] = total


@njit(cache=True)
def _equity_serial(pools, *columns):  # type: ignore[no-untyped-def]
    for p in range(pools):
        _equity_of(p, *columns)


@njit(cache=True, parallel=True)
def _equity_parallel(pools, *columns):  # type: ignore[no-untyped-def]
    for p in prange(pools):
        _equity_of(np.int64(p), *columns)  # type: ignore[arg-type]  # as for chunks


def equity(
    cash_minor: Int64Array,
    option_value_minor: Int64Array,
    index_e8: Int64Array,
    haircut_ppb: Int64Array,
) -> Int64Array:
    """Equity of every pool in USDC minor units, shape [P].

    `cash_minor[P,C]` after variation margin and `option_value_minor[P,C]` at the mark, in minor
    units of each currency; currency 0 is USDC (10^-6, `index_e8[0]` = 10^8), all others coins
    (10^-8). The two are added per currency; the sum converts at the index, floored, and if it is
    positive loses the haircut, floored again: twice against the pool. Needs |amount| and
    |amount x index| below 2^62 of their minor units.
    """
    check(cash_minor.shape == option_value_minor.shape, "equity: shapes differ")
    currencies = cash_minor.shape[1:]
    check(index_e8.shape == haircut_ppb.shape == currencies, "equity: one index per currency")
    check(index_e8[_USDC] == _USDC_INDEX_E8, "equity: currency 0 is not worth one USDC")
    pools = cash_minor.shape[0]
    result = np.zeros(pools, dtype=np.int64)
    kernel = _equity_serial if pools < PARALLEL_POOLS else _equity_parallel
    kernel(pools, cash_minor, option_value_minor, index_e8, haircut_ppb, result)
    return result


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    terms = np.array([[0, -1, 0, 0]], dtype=np.int64)
    factors = np.zeros(2, dtype=np.int64)
    table = RiskTable(grid, 1, terms, terms[:0], grid, one, one, factors)
    pool_requirements(table, Positions(np.array([0, 1], dtype=np.int64), one, one, grid))
    many = np.zeros(PARALLEL_POOLS + 1, dtype=np.int64)
    flat = np.zeros((PARALLEL_POOLS, 1), dtype=np.int64)
    for held in (one[:0], many):  # rows of 64 bits, then of 32
        pool_requirements(table, Positions(many, held, held, flat))
    equity(flat, flat, np.array([_USDC_INDEX_E8], dtype=np.int64), one)
    orders = OpenOrders(one, one, one, one, one)
    requirement_with_orders(table, one, one, one, orders)
    equity(grid, grid, np.array([_USDC_INDEX_E8], dtype=np.int64), one)
