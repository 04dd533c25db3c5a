"""Requirement of one pool with open orders, any of which may fill.

Every order enters every row of its expiry with min(0, profit and loss from its limit to the
scenario): a gain of an order that may not fill offsets nothing. The rows are those of
`margin.pools.expiry_groups`, which are concave in the positions where discounts are, so the result
is at least that of the pool after any subset of fills.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np
from numba import njit

from margin.fixed_point import mul_div_floor
from margin.invariant import Int64Array
from margin.pools.risk_table import (
    BETTER_ROW,
    EXPIRY,
    GROSS_CHARGE,
    GROSS_EXTRA_CHARGE,
    GROUP,
    NAKED_CHARGE,
    NAKED_EXTRA_CHARGE,
    UNIT,
    RiskTable,
)
from margin.pools.steps import add_coins, carry, largest_loss, margins
from margin.scenarios.grid import COIN_STEP_MINOR

_LOSS_E6: Final = 1_000_000
# Sums of a group beside its rows: the most that fills can bring each row (for skews), and what
# orders lose at once.
_LOW, _HIGH = 0, 1

Orders = tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array]
"""The columns of `OpenOrders`."""

Table = tuple[
    Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array, Int64Array,
    Int64Array,
]  # fmt: skip
"""`rows`, `start`, `terms`, `group_terms`, `gross_floor`, `coin`, `coin_value`, `coin_terms`,
`risk_exponent`."""


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


@njit(cache=True)
def _group_sums(
    instrument: Int64Array,
    lots: Int64Array,
    orders: Orders,
    table: Table,
    columns: int,
    sums: Int64Array,
    at_once: Int64Array,
    unit_of: Int64Array,
    better: Int64Array,
) -> None:
    """Low and high sums [groups, 2, row] of every expiry, and what its orders lose at once."""
    rows, _, terms, _, _, coin, coin_value, _, _ = table
    for k in range(len(instrument)):
        i = instrument[k]
        g = terms[i, EXPIRY]
        unit_of[g], better[g] = terms[i, UNIT], terms[i, BETTER_ROW]
        for s in range(rows.shape[1]):
            sums[g, _LOW, s] += lots[k] * rows[i, s]
            sums[g, _HIGH, s] += lots[k] * rows[i, s]
    order_instrument, side, size, loss_quanta, loss_coin_e6 = orders
    for k in range(len(order_instrument)):
        i = order_instrument[k]
        g, u = terms[i, EXPIRY], terms[i, UNIT]
        unit_of[g], better[g] = u, terms[i, BETTER_ROW]
        gain = side[k] * size[k] * loss_quanta[k]
        paid_coin = mul_div_floor(side[k] * loss_coin_e6[k], size[k], _LOSS_E6)
        steps = paid_coin // COIN_STEP_MINOR
        rest = paid_coin - steps * COIN_STEP_MINOR
        now = steps * coin_value[u] + rest * coin_value[u] // COIN_STEP_MINOR
        at_once[g] += min(0, gain + now)
        for half in range(0, rows.shape[1], columns):
            for s in range(columns):
                cash = gain
                if paid_coin != 0:
                    column = coin_value[u] + coin[u, s]
                    cash += steps * column + rest * column // COIN_STEP_MINOR
                moved = side[k] * size[k] * rows[i, half + s]
                sums[g, _LOW, half + s] += min(0, moved + cash)
                sums[g, _HIGH, half + s] += max(0, moved - cash)


@njit(cache=True)
def _add_group(
    total: Int64Array, sums: Int64Array, at_once: int, better: int, shape: tuple[int, int, int, int]
) -> None:  # fmt: skip
    """Add one expiry to its unit: spot scenarios, then skews, then the basis candidate."""
    regular, skews, basis, halves = shape
    columns = len(total)
    other = columns if halves == 2 else 0
    for s in range(regular):
        a, b = sums[_LOW, s], sums[_LOW, other + s]
        total[s] += max(a, b) if better == 1 else min(a, b)
    for s in range(regular, regular + skews):
        a, b = sums[_LOW, s], sums[_LOW, other + s]
        low = max(a, b) if better == 1 else min(a, b)
        a, b = sums[_HIGH, s], sums[_HIGH, other + s]
        high = max(a, b) if better == 1 else min(a, b)
        total[s] += min(low, -high)
    at = regular + skews
    if basis == 1:
        total[at] += min(at_once, min(sums[_LOW, at], sums[_LOW, other + at]))


@njit(cache=True)
def _charges(instrument: Int64Array, lots: Int64Array, orders: Orders, table: Table) -> Int64Array:
    """Contingencies and gross delta floor [U,3] after the fills that make each largest.

    Columns: maintenance, extra initial, the floor's part on gross delta.
    """
    _, _, terms, group_terms, gross_floor, _, _, _, risk_exponent = table
    charges = np.zeros((len(risk_exponent), 3), np.int64)
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
        u, group = terms[i, UNIT], terms[i, GROUP]
        size = max(abs(held[i] + bought[i]), abs(held[i] - sold[i]))
        charges[u, 0] += size * terms[i, GROSS_CHARGE]
        charges[u, 1] += size * terms[i, GROSS_EXTRA_CHARGE]
        if len(gross_floor) > 0:
            charges[u, 2] += size * gross_floor[i]
        if group >= 0:
            net[group] += held[i] - sold[i]  # buys only ever cover: sales are worse
    for g in range(len(net)):
        naked = max(0, -net[g])
        charges[group_terms[g, UNIT], 0] += naked * group_terms[g, NAKED_CHARGE]
        charges[group_terms[g, UNIT], 1] += naked * group_terms[g, NAKED_EXTRA_CHARGE]
    return charges


@njit(cache=True)
def unit_columns(
    instrument: Int64Array,
    lots: Int64Array,
    orders: Orders,
    table: Table,
    shape: tuple[int, int, int, int],
    expiries: int,
) -> tuple[Int64Array, Int64Array]:
    """Profit and loss [U, columns] of one pool's positions and orders, and charges [U,3].

    Without coin cash and without what `start` forgives.
    """
    rows, risk_exponent = table[0], table[8]
    columns = rows.shape[1] // shape[3]
    sums = np.zeros((expiries, 2, rows.shape[1]), np.int64)
    at_once = np.zeros(expiries, np.int64)
    unit_of = np.full(expiries, -1, np.int64)
    better = np.zeros(expiries, np.int64)
    _group_sums(instrument, lots, orders, table, columns, sums, at_once, unit_of, better)
    total = np.zeros((len(risk_exponent), columns), np.int64)
    for g in range(expiries):
        if unit_of[g] >= 0:
            _add_group(total[unit_of[g]], sums[g], at_once[g], better[g], shape)
    charges = _charges(instrument, lots, orders, table)
    if len(table[4]) > 0:
        for u in range(len(total)):
            total[u, shape[0]] -= charges[u, 2]
    return total, charges


@njit(cache=True)
def pool_with_orders(
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    orders: Orders,
    table: Table,
    shape: tuple[int, int, int, int],
    expiries: int,
    factors_ppb: Int64Array,
) -> tuple[int, int, int]:
    """(worst, initial, maintenance) of one pool with orders: `requirement_with_orders`, compiled.

    For kernels that check many pools: a call from Python costs more than the arithmetic.
    `orders` are the columns of `OpenOrders`, the rest those of `RiskTable` (`table_columns`).
    """
    start, coin, coin_terms, risk_exponent = table[1], table[5], table[7], table[8]
    total, charges = unit_columns(instrument, lots, orders, table, shape, expiries)
    whole, fraction = (0, 0, 0), (0, 0, 0)
    for u in range(len(risk_exponent)):
        for s in range(total.shape[1]):
            total[u, s] += start[u, s]
        more, more_extra = add_coins(total[u], coin, coin_terms, coin_minor, u, len(risk_exponent))
        loss = largest_loss(total[u])
        sums = (loss, charges[u, 0] + more, charges[u, 1] + more_extra)
        whole, fraction = carry(whole, fraction, sums, risk_exponent[u])
    return margins(whole, fraction, factors_ppb)


def table_columns(table: RiskTable) -> Table:
    """The arrays of a risk table in the order of `pool_with_orders`."""
    return (
        table.rows,
        table.start,
        table.terms,
        table.group_terms,
        table.gross_floor,
        table.coin,
        table.coin_value,
        table.coin_terms,
        table.risk_exponent,
    )


def _shape_of(table: RiskTable) -> tuple[int, int, int, int]:
    regular, skews, basis, halves = table.shape
    return regular, skews, basis, halves


def _order_columns(orders: OpenOrders) -> Orders:
    return (
        orders.instrument,
        orders.side,
        orders.lots,
        orders.loss_quanta_per_lot,
        orders.loss_coin_minor_e6_per_lot,
    )


def requirement_with_orders(
    table: RiskTable,
    instrument: Int64Array,
    quantity_lots: Int64Array,
    coin_minor: Int64Array,
    orders: OpenOrders,
) -> tuple[int, int]:
    """(initial, maintenance) of one pool in USDC minor units if any of its orders may fill.

    `instrument[n]`, `quantity_lots[n]`: the pool's position rows in margin order; `coin_minor[C]`.

    Per unit and scenario: positions + coin cash + sum over orders of min(0, P). P of a buy is what
    its lots gain from the mark to the scenario plus mark less limit at once; of a sale the
    negative of the first less the second. The second part is cash that changes hands at the fill,
    so no tail weight damps it. For an inverse order that cash is coin: lots x (1/limit - 1/mark)
    x USD per lot, floored to minor units, and it counts at the index now and then moves with the
    coin's own column. Where expiries count on their own, orders enter both rows of their expiry so;
    in a skew they enter the lowest and the highest that the expiry can come to, and the larger
    magnitude counts; to the basis candidate an expiry adds the least of its two moves and of what
    its orders lose at once. The result covers the pool after any subset of fills, gains booked at
    the fill set aside. In a pool that holds only that instrument, an order that reduces the
    position at its mark or better never raises it.

    Contingencies: per instrument the larger of |position + all buys| and |position - all sales|;
    per strike naked shorts after all sales and no buys. Without orders the result is that of
    `pool_requirements`. Whoever liquidates on maintenance margin passes no orders: an order is not
    yet a loss.
    """
    _, initial, maintenance = pool_with_orders(
        instrument, quantity_lots, coin_minor, _order_columns(orders), table_columns(table),
        _shape_of(table), table.expiries, table.factors_ppb,
    )  # fmt: skip
    return int(initial), int(maintenance)


def unit_profits(
    table: RiskTable, instrument: Int64Array, quantity_lots: Int64Array, coin_minor: Int64Array
) -> Int64Array:
    """Profit and loss of one pool in every candidate, shape [U, candidates], quanta of each unit.

    Candidates are the spot scenarios, the skews, and the basis where the model has one, in the
    order of `Requirements.worst_scenario`. Positions in margin order; coin cash included, what a
    dampener forgives not.
    """
    none = np.zeros(0, np.int64)
    total, _ = unit_columns(
        instrument, quantity_lots, (none, none, none, none, none), table_columns(table),
        _shape_of(table), table.expiries,
    )  # fmt: skip
    for unit in range(len(total)):
        add_coins(total[unit], table.coin, table.coin_terms, coin_minor, unit, len(total))
    shape = table.shape
    return total[:, : shape.regular + shape.skews + shape.basis].copy()


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    terms = np.zeros((1, 8), dtype=np.int64)
    terms[0, GROUP] = -1
    charges = np.zeros((1, 3), np.int64)
    table = (grid, grid, terms, terms[:0, :4].copy(), one[:0], grid, one, charges, one)
    factors = np.zeros(2, dtype=np.int64)
    pool_with_orders(one, one, one, (one, one, one, one, one), table, (1, 0, 0, 1), 1, factors)
