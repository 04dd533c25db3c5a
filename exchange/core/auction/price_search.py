"""Where a book prints: the one price of a batch, its volume, and where the rationing starts.

`D(p)` is what would be bought at `p` (market buys and buy limits >= p), `S(p)` what would be sold,
volume `V = min(D, S)`, imbalance `I = D - S`. Candidates are *all* ticks from the lowest to the
highest of the limits and the reference. The ladder: maximum V, then minimum |I|, then market
pressure (all buy-heavy: highest tick, all sell-heavy: lowest), then the reference clamped into
what is left.

Nothing here walks ticks that hold no order. `I` never rises with the price, so the candidates
split into a part with I >= 0, where V = S rises up to its last tick `a`, and a part with I < 0,
where V = D falls from its first tick `b = a + 1`. Comparing `a` with `b` is the whole ladder:

- `a` better and buy-heavy: print `a`
- `a` better and balanced: the reference, clamped into the balanced run of ticks that ends at `a`
- `b` better: print `b`, which is sell-heavy
- equal V and equal |I| (signs are mixed): the reference, clamped into [a, b]

A *level* is a tick with its buy and sell lots. Levels come from a histogram with a level for each
tick or, where the grid is wide for the orders on it, from sorting the limits. Between two levels D
and S are constant; such an interior matters only where I changes sign. Both give the same result.

Most books print near their reference, and what lies far below or above counts there only as a
whole. So a wide grid is first cut to a *window* of ticks around the reference; where that does not
contain every level that the print or the rationing needs, all levels are searched.

An order's *key* is its limit for a buy, minus its limit for a sell, `MARKET_KEY` for a market
order: on either side the larger key is served first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from exchange.core.auction.book_levels import (
    Depth,
    PricedOrders,
    SortSpace,
    book_facts,
    count_by_tick,
    count_in_window,
    depth_at,
    first_level_from,
    sort_by_limit,
)
from margin.invariant import Int64Array

MARKET_KEY = 1 << 62
SMALL_BOOK_ORDERS = 8  # added to the orders of a book when its grid is judged

INVALID, NO_CROSS, PRINTED, INTERRUPTED, CLAMPED = -1, 0, 1, 2, 3

# rows of `prints`
STATE, PRICE, VOLUME, SURPLUS = 0, 1, 2, 3
PRINT_ROWS = 4
# rows of `cuts`: a side's orders with a key above its line are filled in full; on the rationed
# side (+1, -1, or 0 for none) the orders at the rationed key share the rationed lots
BUY_ABOVE, SELL_ABOVE, RATIONED_SIDE, RATIONED_KEY, RATIONED_LOTS = 0, 1, 2, 3, 4
CUT_ROWS = 5


class BookTerms(NamedTuple):
    """One entry a book, meaning as in `clearing.AuctionTerms`."""

    reference_ticks: Int64Array
    band_low_ticks: Int64Array
    band_high_ticks: Int64Array
    clamp: Int64Array


@njit(cache=True)
def _crossing(count, depth, bought, market_sold):  # type: ignore[no-untyped-def]
    """The last tick with I >= 0 and the first with I < 0, each as (tick, demand, supply).

    A part without ticks comes back without demand and supply: no volume, so it cannot win.
    """
    prices, lots = depth
    demand = bought
    supply = market_sold
    level = 0
    while level < count:
        supply += lots[2 * level + 1]
        if demand < supply:
            break
        demand -= lots[2 * level]
        level += 1
    if level == count:
        last = count - 1
        return prices[last], demand + lots[2 * last], supply, prices[last], 0, 0
    here = prices[level]
    if level == 0:
        return here, 0, 0, here, demand, supply
    below = prices[level - 1]
    supply_between = supply - lots[2 * level + 1]
    demand_below = demand + lots[2 * level - 2]
    if here - below == 1 or demand < supply_between:
        # sell-heavy ticks between trade no more than `here`, and both less than `below`
        return below, demand_below, supply_between, here, demand, supply
    return here - 1, demand, supply_between, here, demand, supply


@njit(cache=True)
def _balanced_from(count, depth, last):  # type: ignore[no-untyped-def]
    """Lowest tick of the run that ends at tick `last` and on which D and S do not change."""
    prices, lots = depth
    level = first_level_from(count, depth, last)
    if prices[level] == last and (lots[2 * level + 1] != 0 or level == 0):
        return last
    level -= 1
    while lots[2 * level] == 0:  # nobody buys at the level: its own tick belongs to the run
        if lots[2 * level + 1] != 0 or level == 0:
            return prices[level]
        level -= 1
    return prices[level] + 1


@njit(cache=True)
def _free_print(count, depth, bought, market_sold, reference):  # type: ignore[no-untyped-def]
    """Price, demand and supply by volume, surplus, pressure and reference, without a collar.

    And whether I changes sign between two of the levels.
    """
    a, demand_a, supply_a, b, demand_b, supply_b = _crossing(count, depth, bought, market_sold)
    inside = a != b
    surplus_a = demand_a - supply_a  # >= 0, so supply_a is the volume at a
    surplus_b = supply_b - demand_b  # >= 0, so demand_b is the volume at b
    if supply_a > demand_b or (supply_a == demand_b and surplus_a < surplus_b):
        if surplus_a == 0 and reference < a:
            return max(reference, _balanced_from(count, depth, a)), demand_a, supply_a, inside
        return a, demand_a, supply_a, inside
    if supply_a == demand_b and surplus_a == surplus_b and reference <= a:
        return a, demand_a, supply_a, inside
    return b, demand_b, supply_b, inside


@njit(cache=True)
def _rationed_class(count, depth, price, heavy, excess, volume):  # type: ignore[no-untyped-def]
    """Key of the class at which the heavy side runs dry, and the lots left for that class.

    From the print towards better prices, levels drop out whole until `excess` is used up. If
    every limit drops out, the market orders share the volume. 0 lots: only larger keys fill.
    """
    level = first_level_from(count, depth, price)
    if heavy < 0 and (level == count or depth.price_ticks[level] != price):
        level -= 1
    cell = (1 - heavy) >> 1
    while 0 <= level < count:
        here = depth.lots[2 * level + cell]
        if here >= excess:
            return heavy * depth.price_ticks[level], here - excess
        excess -= here
        level += heavy
    return MARKET_KEY, volume


@njit(cache=True)
def _print_book(book, count, depth, bought, market_sold, terms, whole, prints, cuts):  # type: ignore[no-untyped-def]
    """Write one book's column of `prints`, and of `cuts` the lines where its fills end.

    Unless the levels are the `whole` book, they may not tell; then nothing is written, and the
    answer is False. The reference must be one of their ticks.
    """
    reference = terms.reference_ticks[book]
    low = terms.band_low_ticks[book]
    high = terms.band_high_ticks[book]
    price, demand, supply, inside = _free_print(count, depth, bought, market_sold, reference)
    if not (inside or whole):
        return False
    if min(demand, supply) == 0:
        return True
    state = PRINTED
    surplus = demand - supply
    if price < low or price > high:
        if terms.clamp[book] == 0:
            prints[STATE, book] = INTERRUPTED
            prints[PRICE, book] = price
            prints[SURPLUS, book] = surplus
            return True
        state = CLAMPED
        price = max(low, min(high, price))
        if not whole and not depth.price_ticks[0] <= price <= depth.price_ticks[count - 1]:
            return False
        demand, supply = depth_at(count, depth, bought, market_sold, price)
        surplus = demand - supply
        if min(demand, supply) == 0:
            return True
    volume = min(demand, supply)
    heavy = 1 if surplus > 0 else -1
    key = share_lots = 0
    if surplus != 0:
        key, share_lots = _rationed_class(count, depth, price, heavy, abs(surplus), volume)
        if key == MARKET_KEY and not whole:
            return False
    prints[STATE, book] = state
    prints[PRICE, book] = price
    prints[VOLUME, book] = volume
    prints[SURPLUS, book] = surplus
    cuts[BUY_ABOVE, book] = price - 1
    cuts[SELL_ABOVE, book] = -price - 1
    if surplus != 0:
        cuts[BUY_ABOVE if heavy > 0 else SELL_ABOVE, book] = key
    if share_lots > 0:
        cuts[RATIONED_SIDE, book] = heavy
        cuts[RATIONED_KEY, book] = key
        cuts[RATIONED_LOTS, book] = share_lots
    return True


@njit(cache=True)
def _print_in_window(book, width, own, facts, depth, terms, prints, cuts):  # type: ignore[no-untyped-def]
    """Print a book from `width` ticks around its reference, if they tell; whether they did.

    `facts`: lowest and highest candidate, lots bought, market lots sold.
    """
    lowest, highest, bought, market_sold = facts
    first = terms.reference_ticks[book] - width // 2
    first = max(lowest, min(first, highest - width + 1))
    below_bought, below_sold = count_in_window(own, first, width, depth)
    return _print_book(
        book, width, depth, bought - below_bought, market_sold + below_sold, terms, False, prints,
        cuts,
    )  # fmt: skip


@njit(cache=True)
def search_books(  # type: ignore[no-untyped-def]
    first, last, window_ticks, ticks_per_order, book_start, orders, terms, prints, cuts
):
    """Print the books first .. last - 1 one by one, on one scratch as large as they need."""
    most_orders = 0
    for book in range(first, last):
        most_orders = max(most_orders, book_start[book + 1] - book_start[book])
    most_ticks = ticks_per_order * (most_orders + SMALL_BOOK_ORDERS)
    most_levels = max(most_orders, most_ticks, window_ticks) + 2
    depth = Depth(np.empty(most_levels, np.int64), np.empty(2 * most_levels, np.int64))
    spare = SortSpace(
        np.empty(most_orders + 1, np.int64),
        np.empty(most_orders + 1, np.int64),
        np.empty(most_orders, np.int64),
        np.empty(most_orders, np.int64),
    )
    for book in range(first, last):
        rows = slice(book_start[book], book_start[book + 1])
        own = PricedOrders(
            orders.side[rows],
            orders.is_market[rows],
            orders.price_ticks[rows],
            orders.quantity_lots[rows],
        )
        lowest, highest, bought, market_sold, bad = book_facts(own, terms.reference_ticks[book])
        if bad != 0:
            prints[STATE, book] = INVALID
            continue
        count = highest - lowest + 1
        if 0 < window_ticks < count:
            facts = lowest, highest, bought, market_sold
            if _print_in_window(book, window_ticks, own, facts, depth, terms, prints, cuts):
                continue
        if count <= ticks_per_order * (len(own.side) + SMALL_BOOK_ORDERS):
            count_by_tick(own, lowest, count, depth)
        else:
            count = sort_by_limit(own, lowest, highest, depth, spare)
        _print_book(book, count, depth, bought, market_sold, terms, True, prints, cuts)


@njit(cache=True, parallel=True)
def search_books_in_parallel(  # type: ignore[no-untyped-def]
    chunk_start, window_ticks, ticks_per_order, book_start, orders, terms, prints, cuts
):
    """Write `prints` [4, B] and `cuts` [5, B], both zero before, for all books.

    `chunk_start` splits the books into chunks of neighbours, which threads take one by one.
    A book writes its own column only, so the number of threads cannot change a result.
    """
    for chunk in prange(len(chunk_start) - 1):
        search_books(
            chunk_start[chunk],
            chunk_start[chunk + 1],
            window_ticks,
            ticks_per_order,
            book_start,
            orders,
            terms,
            prints,
            cuts,
        )
