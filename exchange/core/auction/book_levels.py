"""The levels of one book: what is bought and sold at each tick that matters to its print.

A *level* is a tick with its buy and sell lots. Levels are counted, one a tick, over the whole grid
or over a window of it, or they come from sorting the limits; `price_search` chooses.
"""

from __future__ import annotations

from typing import NamedTuple

from numba import njit

from exchange.core.auction.radix_sort import sort_rows
from margin.invariant import Int64Array

BOOK_LOTS_BITS = 45  # lots of one book fit in them, so that pro-rata products fit in 62


class PricedOrders(NamedTuple):
    """What the price depends on: one entry an order, meaning as in `clearing.SealedBooks`."""

    side: Int64Array
    is_market: Int64Array
    price_ticks: Int64Array
    quantity_lots: Int64Array


class Depth(NamedTuple):
    """One book's levels, price rising; `lots[2 * i]` are bought at level i, `[2 * i + 1]` sold."""

    price_ticks: Int64Array
    lots: Int64Array


class SortSpace(NamedTuple):
    """Scratch for sorting the limits of one book."""

    keys: Int64Array
    rows: Int64Array
    other_keys: Int64Array
    other_rows: Int64Array


@njit(cache=True)
def book_facts(orders, reference):  # type: ignore[no-untyped-def]
    """Lowest and highest candidate, lots bought, market lots sold; `bad` is 0 for a sound book.

    Free of branches, so that it compiles to vector instructions: it reads every order.
    """
    lowest = highest = reference
    lots = signed_lots = market_lots = signed_market_lots = 0
    bad = (reference + (1 << 31)) >> 32
    for row in range(len(orders.side)):
        market = orders.is_market[row]
        limit = orders.price_ticks[row]
        limit = reference if market != 0 else limit
        lowest = min(lowest, limit)
        highest = max(highest, limit)
        quantity = orders.quantity_lots[row]
        signed = orders.side[row] * quantity
        lots += quantity
        signed_lots += signed
        market_lots += market * quantity
        signed_market_lots += market * signed
        bad |= (orders.side[row] * orders.side[row]) ^ 1
        bad |= (market >> 1) | ((quantity - 1) >> 31) | ((limit + (1 << 31)) >> 32)
    bad |= lots >> BOOK_LOTS_BITS
    bought = (lots + signed_lots) >> 1
    market_sold = (market_lots - signed_market_lots) >> 1
    return lowest, highest, bought, market_sold, bad


@njit(cache=True)
def count_by_tick(orders, lowest, count, depth):  # type: ignore[no-untyped-def]
    """Write `count` levels, one a tick from `lowest` on."""
    for level in range(count):
        depth.price_ticks[level] = lowest + level
    for cell in range(2 * count):
        depth.lots[cell] = 0
    for row in range(len(orders.side)):
        cell = 2 * (orders.price_ticks[row] - lowest)
        # market orders go to a spare level behind the last: selecting a cell costs no branch
        cell = 2 * count if orders.is_market[row] != 0 else cell
        cell += (1 - orders.side[row]) >> 1
        depth.lots[cell] += orders.quantity_lots[row]


@njit(cache=True)
def count_in_window(orders, first, count, depth):  # type: ignore[no-untyped-def]
    """Write `count` levels, one a tick from `first` on; returns lots bought and sold below them."""
    for level in range(count):
        depth.price_ticks[level] = first + level
    for cell in range(2 * count + 4):
        depth.lots[cell] = 0
    for row in range(len(orders.side)):
        level = orders.price_ticks[row] - first
        # one spare level takes what lies above, and market orders, another one what lies below
        level = count + 1 if level < 0 else min(level, count)
        level = count if orders.is_market[row] != 0 else level
        depth.lots[2 * level + ((1 - orders.side[row]) >> 1)] += orders.quantity_lots[row]
    return depth.lots[2 * count + 2], depth.lots[2 * count + 3]


@njit(cache=True)
def _open_level(depth, level, price):  # type: ignore[no-untyped-def]
    depth.price_ticks[level] = price
    depth.lots[2 * level] = 0
    depth.lots[2 * level + 1] = 0


@njit(cache=True)
def sort_by_limit(orders, lowest, highest, depth, spare):  # type: ignore[no-untyped-def]
    """Write a level for each distinct limit and both ends of the grid; returns their number."""
    limits = 0
    for row in range(len(orders.side)):
        spare.keys[limits] = orders.price_ticks[row] - lowest
        spare.rows[limits] = row
        limits += 1 - orders.is_market[row]
    keys, rows = sort_rows(
        spare.keys[:limits],
        spare.rows[:limits],
        spare.other_keys[:limits],
        spare.other_rows[:limits],
        highest - lowest,
    )
    level = 0
    _open_level(depth, 0, lowest)
    for k in range(limits):
        if lowest + keys[k] != depth.price_ticks[level]:
            level += 1
            _open_level(depth, level, lowest + keys[k])
        row = rows[k]
        depth.lots[2 * level + ((1 - orders.side[row]) >> 1)] += orders.quantity_lots[row]
    if depth.price_ticks[level] != highest:
        level += 1
        _open_level(depth, level, highest)
    return level + 1


@njit(cache=True)
def first_level_from(count, depth, price):  # type: ignore[no-untyped-def]
    """Index of the first level at or above `price`; `count` if there is none."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if depth.price_ticks[middle] < price:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def depth_at(count, depth, bought, market_sold, price):  # type: ignore[no-untyped-def]
    """Demand and supply at any tick."""
    demand = bought
    supply = market_sold
    for level in range(count):
        if depth.price_ticks[level] < price:
            demand -= depth.lots[2 * level]
        if depth.price_ticks[level] <= price:
            supply += depth.lots[2 * level + 1]
    return demand, supply
