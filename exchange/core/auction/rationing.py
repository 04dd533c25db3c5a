"""Who gets how much of a print: full fills, the rationed class, and the lottery for the last lots.

The lighter side is filled in full. On the heavier one the search has cut the ladder (market
orders, then better limits, price by price): every class before the cut is full, the class at the
cut shares what is left, the rest gets nothing. Inside that class the older batch is served first.
Orders of one batch share pro rata to their size, rounded down; the lots still missing go one each
to the largest remainders. Equal remainders are drawn by lot: the smaller `lottery` number wins,
and equal numbers (a chance of 2^-32) go by account, then by the account's own sequence. The time
of arrival appears nowhere.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from exchange.core.auction.book_levels import PricedOrders
from exchange.core.auction.price_search import (
    BUY_ABOVE,
    MARKET_KEY,
    RATIONED_KEY,
    RATIONED_LOTS,
    RATIONED_SIDE,
    SELL_ABOVE,
    VOLUME,
)
from exchange.core.auction.radix_sort import sort_rows
from margin.invariant import Int64Array

MASK_32 = (1 << 32) - 1


class AgeColumns(NamedTuple):
    """What the ration depends on: one entry an order, meaning as in `clearing.SealedBooks`."""

    batch: Int64Array
    account: Int64Array
    sequence: Int64Array


class RationSpace(NamedTuple):
    """Scratch for the rationed class of one book."""

    keys: Int64Array
    selection: Int64Array
    rows: Int64Array


def batch_seed(genesis_seed: int, batch: int) -> int:
    """Seed of a batch's lottery, 0 <= seed < 2^62: the head of a sha256 over both numbers.

    `genesis_seed` is the venue's (0 <= seed < 2^256), `batch` the batch number (0 <= batch < 2^64).
    Raises OverflowError outside these ranges. Whoever knows the genesis seed can compute every
    batch's seed; seeds that nobody knows beforehand need revealed salts instead.
    """
    preimage = (
        b"uncross/batch-seed/v1" + genesis_seed.to_bytes(32, "big") + batch.to_bytes(8, "big")
    )
    return int.from_bytes(hashlib.sha256(preimage).digest()[:8], "big") >> 2


@njit(cache=True)
def _multiply_32(word, factor):  # type: ignore[no-untyped-def]
    """`word * factor` modulo 2^32 by halves, so that no product leaves 2^49."""
    high = (word * (factor >> 16)) & 0xFFFF
    return (word * (factor & 0xFFFF) + (high << 16)) & MASK_32


@njit(cache=True)
def _stir_32(word):  # type: ignore[no-untyped-def]
    """The 32-bit finaliser of MurmurHash3 (`fmix32`, A. Appleby, public domain): a bijection."""
    word = _multiply_32(word ^ (word >> 16), 0x85EBCA6B)
    word = _multiply_32(word ^ (word >> 13), 0xC2B2AE35)
    return word ^ (word >> 16)


@njit(cache=True)
def lottery(batch_seed, account, sequence):  # type: ignore[no-untyped-def]
    """An order's lottery number in one batch, 0 <= number < 2^32; the smaller number wins.

    The six 32-bit halves of the three integers are added in turn to a running word, which
    is stirred by `_stir_32` after each. Everything stays in int64: intermediate values are
    below 2^50. As stirring is a bijection, one account's orders numbered below 2^32 never
    draw the same number.
    """
    word = 0x9E3779B9
    word = _stir_32((word + (batch_seed & MASK_32)) & MASK_32)
    word = _stir_32((word + ((batch_seed >> 32) & MASK_32)) & MASK_32)
    word = _stir_32((word + (account & MASK_32)) & MASK_32)
    word = _stir_32((word + ((account >> 32) & MASK_32)) & MASK_32)
    word = _stir_32((word + ((sequence >> 32) & MASK_32)) & MASK_32)
    return _stir_32((word + (sequence & MASK_32)) & MASK_32)


@njit(cache=True)
def _exact_share(quantity, share_lots, class_lots):  # type: ignore[no-untyped-def]
    """Quotient and remainder of quantity * share_lots / class_lots without leaving 2^62.

    quantity < 2^31 and share_lots < class_lots < 2^45: the quantity goes in two 16-bit parts,
    the first one's remainder carried into the second as in long division.
    """
    if class_lots < (1 << 31):
        product = quantity * share_lots
        whole = product // class_lots
        return whole, product - whole * class_lots
    product = (quantity >> 16) * share_lots
    high = product // class_lots
    carry = product - high * class_lots
    product = (carry << 16) + (quantity & 0xFFFF) * share_lots
    whole = product // class_lots
    return (high << 16) + whole, product - whole * class_lots


@njit(cache=True)
def _kth_smallest(values, count, k):  # type: ignore[no-untyped-def]
    """The k-th smallest (from 0) of values[:count], which it reorders: Hoare's FIND (1961)."""
    low = 0
    high = count - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i = low
        j = high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                swapped = values[i]
                values[i] = values[j]
                values[j] = swapped
                i += 1
                j -= 1
        if k <= j:
            high = j
        elif k >= i:
            low = i
        else:
            break
    return values[k]


@njit(cache=True)
def _award_leftover(rows, scratch, count, leftover, seed, ages, fill_lots):  # type: ignore[no-untyped-def]
    """One more lot for the first `leftover` < count by remainder, lottery, account, sequence.

    `scratch.keys` holds minus the remainders. Each criterion selects without sorting: who comes
    before the last place wins, who ties for it goes on to the next criterion.
    """
    keys = scratch.keys
    selection = scratch.selection
    for criterion in range(4):
        for k in range(count):
            row = rows[k]
            if criterion == 1:
                keys[k] = lottery(seed, ages.account[row], ages.sequence[row])
            elif criterion == 2:
                keys[k] = ages.account[row]
            elif criterion == 3:
                keys[k] = ages.sequence[row]
            selection[k] = keys[k]
        last_place = _kth_smallest(selection, count, leftover - 1)
        tied = 0
        for k in range(count):
            if keys[k] < last_place:
                fill_lots[rows[k]] += 1
                leftover -= 1
            elif keys[k] == last_place:
                rows[tied] = rows[k]
                tied += 1
        count = tied
        if leftover == count:
            break
    for k in range(leftover):
        fill_lots[rows[k]] += 1


@njit(cache=True)
def _share_pro_rata(rows, scratch, share_lots, class_lots, seed, quantity_lots, ages, fill_lots):  # type: ignore[no-untyped-def]
    """Split share_lots < class_lots over `rows`, orders of one batch; writes their fills."""
    leftover = share_lots
    for k in range(len(rows)):
        row = rows[k]
        whole, remainder = _exact_share(quantity_lots[row], share_lots, class_lots)
        fill_lots[row] = whole
        scratch.keys[k] = -remainder
        leftover -= whole
    if leftover > 0:
        _award_leftover(rows, scratch, len(rows), leftover, seed, ages, fill_lots)


@njit(cache=True)
def _oldest_first(rows, scratch, batch):  # type: ignore[no-untyped-def]
    """The rows ordered by the batch that gave them their age."""
    oldest = newest = batch[rows[0]]
    for k in range(len(rows)):
        oldest = min(oldest, batch[rows[k]])
        newest = max(newest, batch[rows[k]])
    if oldest == newest:
        return rows
    count = len(rows)
    for k in range(count):
        scratch.keys[k] = batch[rows[k]] - oldest
    _, ordered = sort_rows(
        scratch.keys[:count],
        rows,
        scratch.selection[:count],
        scratch.rows[:count],
        newest - oldest,
    )
    return ordered


@njit(cache=True)
def _ration(rows, scratch, share_lots, seed, quantity_lots, ages, fill_lots):  # type: ignore[no-untyped-def]
    """Serve the class at the cut batch by batch; the batch that runs dry shares pro rata."""
    batch = ages.batch
    rows = _oldest_first(rows, scratch, batch)
    first = 0
    while first < len(rows) and share_lots > 0:
        past = first
        class_lots = 0
        while past < len(rows) and batch[rows[past]] == batch[rows[first]]:
            class_lots += quantity_lots[rows[past]]
            past += 1
        same_age = rows[first:past]
        if class_lots > share_lots:
            _share_pro_rata(
                same_age, scratch, share_lots, class_lots, seed, quantity_lots, ages, fill_lots
            )
            return
        for k in range(len(same_age)):
            fill_lots[same_age[k]] = quantity_lots[same_age[k]]
        share_lots -= class_lots
        first = past


@njit(cache=True)
def _fill_before_cut(orders, start, cut, rows, fill_lots):  # type: ignore[no-untyped-def]
    """Fill every class before the cut; collect the class at it in `rows`, return its size.

    `orders` and `fill_lots` are one book's, which starts at row `start`. Free of branches: it
    reads every order.
    """
    buy_above = cut[BUY_ABOVE]
    sell_above = cut[SELL_ABOVE]
    rationed_side = cut[RATIONED_SIDE]
    rationed_key = cut[RATIONED_KEY]
    for row in range(len(orders.side)):
        side = orders.side[row]
        key = side * orders.price_ticks[row]
        key = MARKET_KEY if orders.is_market[row] != 0 else key
        above = buy_above if side > 0 else sell_above
        fill_lots[row] = orders.quantity_lots[row] if key > above else 0
    count = 0
    if rationed_side == 0:
        return count
    for row in range(len(orders.side)):
        side = orders.side[row]
        key = side * orders.price_ticks[row]
        key = MARKET_KEY if orders.is_market[row] != 0 else key
        rows[count] = start + row
        count += 1 if (key == rationed_key) & (side == rationed_side) else 0
    return count


@njit(cache=True)
def fill_books(first, last, book_start, seed, orders, ages, prints, cuts, fill_lots):  # type: ignore[no-untyped-def]
    """Fill the books first .. last - 1 one by one, on one scratch as large as they need."""
    most_orders = 0
    for book in range(first, last):
        most_orders = max(most_orders, book_start[book + 1] - book_start[book])
    rows = np.empty(most_orders + 1, np.int64)
    scratch = RationSpace(
        np.empty(most_orders, np.int64),
        np.empty(most_orders, np.int64),
        np.empty(most_orders, np.int64),
    )
    for book in range(first, last):
        own = slice(book_start[book], book_start[book + 1])
        if prints[VOLUME, book] == 0:
            fill_lots[own] = 0
            continue
        own_orders = PricedOrders(
            orders.side[own],
            orders.is_market[own],
            orders.price_ticks[own],
            orders.quantity_lots[own],
        )
        cut = cuts[:, book]
        count = _fill_before_cut(own_orders, book_start[book], cut, rows, fill_lots[own])
        if count > 0:
            share_lots = cut[RATIONED_LOTS]
            rationed = rows[:count]
            _ration(rationed, scratch, share_lots, seed, orders.quantity_lots, ages, fill_lots)


@njit(cache=True, parallel=True)
def fill_books_in_parallel(chunk_start, book_start, seed, orders, ages, prints, cuts, fill_lots):  # type: ignore[no-untyped-def]
    """Write `fill_lots` [N] of all books from the `prints` and `cuts` of `search_books`.

    A book writes its own rows only, so the number of threads cannot change a result.
    """
    for chunk in prange(len(chunk_start) - 1):
        fill_books(
            chunk_start[chunk],
            chunk_start[chunk + 1],
            book_start,
            seed,
            orders,
            ages,
            prints,
            cuts,
            fill_lots,
        )
