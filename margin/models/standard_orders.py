"""Standard margin of one pool whose open orders may fill, in whole numbers of any size.

For an expiry the requirement is the smaller of two amounts, `alone` and `at end` (see
`margin.models.standard`), and each is the largest of linear functions of the positions:

    alone    per option, of value x lots (long) and -charge x lots (short)
    at end   per price in {none, 0, every strike} and per {covered, unpaired}, of
             value - payoff there - unpaired rate x forward for calls

So with orders, any of which may fill, each linear function grows by what every order adds to it at
most, loss at once included and gains set aside: max(0, slope x lots + loss). The smaller of the two
largest is at least the requirement after any subset of fills plus what these lose at once. It is
not the sum of parts: an order may end what made `at end` the smaller. Strikes of open orders count
as strikes held. Extra initial charges count on all sales and no buys.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from margin.invariant import Int64Array
from margin.models.standard import (
    CALL,
    EXPIRY,
    EXTRA,
    INITIAL,
    MAINTENANCE,
    MULTIPLE,
    STRIKE,
    UNIT,
    UNPAIRED_INITIAL,
    UNPAIRED_MAINTENANCE,
    VALUE,
    StandardTable,
    coin_charge,
)
from margin.pools.open_orders import OpenOrders
from margin.portfolio import INVERSE_CALL, LINEAR_CALL, Instruments, Marks, Positions
from margin.scenarios.grid import COIN_STEP_MINOR

_E6: Final = 1_000_000
_E8: Final = 10**8


def in_dollars(instruments: Instruments, marks: Marks) -> tuple[Instruments, Marks]:
    """Options settled in coin as the linear ones that they are worth in dollars.

    An inverse call pays (S - K) / S coin, which at a price of S are S - K dollars: the linear
    payoff. Its mark of so many coins is worth that times the index, to the nearest 10^-8.
    """
    at = np.flatnonzero(instruments.kind >= INVERSE_CALL)
    if not len(at):
        return instruments, marks
    kind, mark_e8 = instruments.kind.copy(), marks.mark_e8.copy()
    kind[at] += LINEAR_CALL - INVERSE_CALL
    for row in at.tolist():
        index_e8 = int(marks.index_e8[instruments.unit[row]])
        mark_e8[row] = (2 * int(mark_e8[row]) * index_e8 + _E8) // (2 * _E8)
    columns = {name: getattr(instruments, name) for name in instruments.__struct_fields__}
    seen = {name: getattr(marks, name) for name in marks.__struct_fields__}
    return Instruments(**{**columns, "kind": kind}), Marks(**{**seen, "mark_e8": mark_e8})


def alone_minor(table: StandardTable, positions: Positions) -> Int64Array:
    """Initial margin of every pool option by option, at least that of `pool_margins`, shape [P].

    It is a sum over positions: what an order adds to it does not depend on the others.
    """
    terms, lots, slot = table.terms, positions.quantity_lots, positions.instrument
    size, option = np.abs(lots), terms[slot, EXPIRY] >= 0
    charged = size * (terms[slot, INITIAL] + terms[slot, EXTRA])
    quanta = np.where(option & (lots > 0), size * terms[slot, VALUE], charged)
    unit, units = terms[slot, UNIT], len(table.risk_exponent)
    pool = np.repeat(np.arange(positions.pool_count), np.diff(positions.pool_start))
    by_unit = np.zeros((positions.pool_count, units), np.int64)
    np.add.at(by_unit, (pool, unit), quanta)
    total: Int64Array = (-(-by_unit >> table.risk_exponent)).sum(axis=1)
    for u in np.flatnonzero(table.coin_ppb).tolist():
        rate, index_e8 = int(table.coin_ppb[u]), int(table.index_e8[u])
        for p in np.flatnonzero(positions.coin_minor[:, u] > 0).tolist():
            total[p] += coin_charge(int(positions.coin_minor[p, u]), index_e8, rate)
    return total


class _Leg(NamedTuple):
    """An open order: signed lots, and quanta that all of them lose at once."""

    slot: int
    signed: int
    loss: int


def _legs(table: StandardTable, coin_value: Int64Array, orders: OpenOrders
          ) -> tuple[list[_Leg], dict[int, int]]:  # fmt: skip
    """Orders with what they lose at the index now, and coin that they may bring, by unit."""
    legs: list[_Leg] = []
    received: dict[int, int] = {}
    for k, slot in enumerate(orders.instrument.tolist()):
        side, lots = int(orders.side[k]), int(orders.lots[k])
        gain = side * lots * int(orders.loss_quanta_per_lot[k])
        paid = side * int(orders.loss_coin_minor_e6_per_lot[k]) * lots // _E6
        unit = int(table.terms[slot, UNIT])
        gain += paid * int(coin_value[unit]) // COIN_STEP_MINOR
        if paid > 0:
            received[unit] = received.get(unit, 0) + paid
        legs.append(_Leg(slot, side * lots, -gain))
    return legs, received


def _largest(slopes: dict[int, int], lots: dict[int, int], legs: Sequence[_Leg]) -> int:
    """A linear function of the positions, with all that orders add to it at most."""
    held = sum(slopes[slot] * size for slot, size in lots.items())
    return held + sum(max(0, slopes[leg.slot] * leg.signed + leg.loss) for leg in legs)


class _Rates(NamedTuple):
    """Columns of one level: charge of a short option, of an unpaired call, the extra one."""

    charge: int
    unpaired: int
    extra: int | None


_LEVELS: Final = (
    _Rates(INITIAL, UNPAIRED_INITIAL, EXTRA), _Rates(MAINTENANCE, UNPAIRED_MAINTENANCE, None),
)  # fmt: skip


def _alone(terms: Int64Array, rates: _Rates, lots: dict[int, int], legs: Sequence[_Leg]) -> int:
    """Option by option: the larger slope of each with its own orders."""
    total = 0
    for slot in lots:
        own = [leg for leg in legs if leg.slot == slot]
        slopes = (int(terms[slot, VALUE]), -int(terms[slot, rates.charge]))
        total += max(_largest({slot: slope}, {slot: lots[slot]}, own) for slope in slopes)
    return total


def _at_end(terms: Int64Array, rates: _Rates, lots: dict[int, int], legs: Sequence[_Leg]) -> int:
    """The largest loss at expiry, over prices and over whether calls are unpaired."""
    row = {slot: terms[slot].tolist() for slot in lots}
    step = {slot: int(of[STRIKE]) for slot, of in row.items()}  # per smallest lot of the expiry
    found = []
    for price in (None, 0, *sorted(set(step.values()))):
        covered, unpaired = {}, {}
        for slot, of in row.items():
            paid = 0
            if price is not None:
                paid = max(0, (price - step[slot]) if of[CALL] else (step[slot] - price))
            covered[slot] = of[VALUE] - paid * of[MULTIPLE]
            more = of[rates.unpaired] * of[MULTIPLE] if of[CALL] else 0
            unpaired[slot] = covered[slot] - more
        found += [_largest(slopes, lots, legs) for slopes in (covered, unpaired)]
    return max(found)


def _extras(terms: Int64Array, lots: dict[int, int], legs: Sequence[_Leg]) -> int:
    sold = dict(lots)
    for leg in legs:
        sold[leg.slot] += min(0, leg.signed)
    return sum(max(0, -size) * int(terms[slot, EXTRA]) for slot, size in sold.items())


def _delta_one(terms: Int64Array, rates: _Rates, lots: dict[int, int], legs: Sequence[_Leg]) -> int:
    total = 0
    for slot in lots:
        rate = int(terms[slot, rates.charge])
        rate += int(terms[slot, rates.extra]) if rates.extra is not None else 0
        own = [leg for leg in legs if leg.slot == slot]
        total += max(_largest({slot: rate * way}, {slot: lots[slot]}, own) for way in (1, -1))
    return total


def margins_with_orders(
    table: StandardTable,
    coin_value: Int64Array,
    instrument: Int64Array,
    quantity_lots: Int64Array,
    coin_minor: Int64Array,
    orders: OpenOrders,
) -> tuple[int, int]:
    """(initial, maintenance) of one pool in USDC minor units if any of its orders may fill.

    `coin_value[U]`: quanta of `COIN_STEP_MINOR` minor units of coin at the index. Without orders
    the result is that of `pool_margins`. It is never below what the orders can lose at once.
    """
    terms = table.terms
    legs, received = _legs(table, coin_value, orders)
    lots = {leg.slot: 0 for leg in legs}
    lots.update(zip(instrument.tolist(), quantity_lots.tolist(), strict=True))
    together: dict[tuple[int, int], dict[int, int]] = {}
    for slot in lots:
        key = int(terms[slot, UNIT]), int(terms[slot, EXPIRY])
        together.setdefault(key, {})[slot] = lots[slot]
    found = []
    for rates in _LEVELS:
        exact = [0] * len(table.risk_exponent)
        for (unit, expiry), held in together.items():
            mine = [leg for leg in legs if leg.slot in held]
            if expiry < 0:
                exact[unit] += _delta_one(terms, rates, held, mine)
                continue
            each = (_alone(terms, rates, held, mine), _at_end(terms, rates, held, mine))
            exact[unit] += min(each)
            exact[unit] += _extras(terms, held, mine) if rates.extra is not None else 0
        exponents = table.risk_exponent.tolist()
        minor = sum(-(-sum_ >> e) for sum_, e in zip(exact, exponents, strict=True))
        if rates.extra is not None:
            minor += _coins(table, coin_minor, received)
        at_once = [0] * len(exponents)
        for leg in legs:
            at_once[int(terms[leg.slot, UNIT])] += max(0, leg.loss)
        least = sum(-(-sum_ >> e) for sum_, e in zip(at_once, exponents, strict=True))
        found.append(max(least, minor))
    return found[0], found[1]


def _coins(table: StandardTable, coin_minor: Int64Array, received: dict[int, int]) -> int:
    """Charges on coin cash with all that fills can bring."""
    total = 0
    for unit, rate in enumerate(table.coin_ppb.tolist()):
        amount = int(coin_minor[unit]) + received.get(unit, 0)
        total += coin_charge(amount, int(table.index_e8[unit]), rate)
    return total
