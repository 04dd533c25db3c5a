"""Clearing one large batch, fills included, against an auction written with numpy sorting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numba
import numpy as np

from exchange.core.auction import clearing
from margin.invariant import Int64Array

TICKS = 1024
BATCH_SEED = 12345
ROUNDS = 7


def random_batch(
    seed: int, orders: int, books: int
) -> tuple[clearing.SealedBooks, clearing.AuctionTerms]:
    """Fresh books of equal size: 5 % market orders, normal limits around the reference."""
    generator = np.random.default_rng(seed)
    limits = generator.normal(TICKS // 2, TICKS // 8, orders).astype(np.int64)
    sealed = clearing.SealedBooks(
        book_start=np.arange(books + 1) * orders // books,
        side=generator.integers(0, 2, orders) * 2 - 1,
        is_market=(generator.random(orders) < 0.05).astype(np.int64),
        price_ticks=np.clip(limits, 0, TICKS - 1),
        quantity_lots=generator.integers(1, 100, orders),
        batch=generator.integers(0, 2, orders),
        account=generator.integers(1, 10_000, orders),
        sequence=np.arange(orders),
    )
    column = np.full(books, TICKS // 2)
    no_band = np.full(books, clearing.NO_BAND_LOW), np.full(books, clearing.NO_BAND_HIGH)
    return sealed, clearing.AuctionTerms(column, *no_band, np.zeros(books, dtype=np.int64))


def sorted_clear(books: clearing.SealedBooks, terms: clearing.AuctionTerms) -> Int64Array:
    """Fills by sorting each side of each book once, then searches and running sums.

    Less than the auction does: only limits are candidates, no reference and no collar; the
    rationed price is served in whatever order the sort leaves, without ages or pro rata.
    """
    far = books.side * np.int64(1 << 40)
    limit = np.where(books.is_market == 1, far, books.price_ticks)
    fills = np.empty_like(books.quantity_lots)
    for number in range(len(terms.clamp)):
        rows = slice(books.book_start[number], books.book_start[number + 1])
        buys = books.side[rows] > 0
        bids, bid_lots = -limit[rows][buys], books.quantity_lots[rows][buys]
        asks, ask_lots = limit[rows][~buys], books.quantity_lots[rows][~buys]
        bid_order, ask_order = bids.argsort(), asks.argsort()
        bids, asks = bids[bid_order], asks[ask_order]
        bid_lots, ask_lots = bid_lots[bid_order], ask_lots[ask_order]
        bought = np.concatenate(([0], bid_lots.cumsum()))
        sold = np.concatenate(([0], ask_lots.cumsum()))
        ticks = np.concatenate((asks, -bids))
        supply = sold[asks.searchsorted(ticks, side="right")]
        demand = bought[bids.searchsorted(-ticks, side="right")]
        volume = np.minimum(supply, demand)
        surplus = np.where(volume == volume.max(), np.abs(demand - supply), 1 << 62)
        traded = volume[surplus.argmin()]
        bid_fills, ask_fills = np.empty_like(bid_lots), np.empty_like(ask_lots)
        bid_fills[bid_order] = np.clip(traded - bought[:-1], 0, bid_lots)
        ask_fills[ask_order] = np.clip(traded - sold[:-1], 0, ask_lots)
        fills[rows][buys] = bid_fills
        fills[rows][~buys] = ask_fills
    return fills


def median_seconds(
    clear: Callable[[clearing.SealedBooks, clearing.AuctionTerms], Int64Array],
    orders: int,
    books: int,
    first_seed: int,
) -> tuple[float, int]:
    """Median time over fresh batches, and the lots traded in all of them."""
    seconds = []
    traded = 0
    for seed in range(first_seed, first_seed + ROUNDS):
        sealed, terms = random_batch(seed, orders, books)
        before = time.perf_counter()
        fills = clear(sealed, terms)
        seconds.append(time.perf_counter() - before)
        bought = int(fills[sealed.side > 0].sum())
        sold = int(fills[sealed.side < 0].sum())
        if bought == 0 or bought != sold:
            raise AssertionError(f"seed {seed}: {bought} lots bought, {sold} sold")
        traded += bought
    return sorted(seconds)[ROUNDS // 2], traded


def compiled_clear(books: clearing.SealedBooks, terms: clearing.AuctionTerms) -> Int64Array:
    return clearing.clear(books, terms, BATCH_SEED).fill_lots


def run(quick: bool = False) -> list[dict[str, object]]:
    """Million orders per second, ours and numpy's, in one run; `quick` takes a twentieth."""
    clearing.warm_up()
    rows: list[dict[str, object]] = []
    total = 50_000 if quick else 1_000_000
    for books in (500, 1):
        ours, our_lots = median_seconds(compiled_clear, total, books, 100)
        baseline, their_lots = median_seconds(sorted_clear, total, books, 100)
        if our_lots != their_lots:
            raise AssertionError(f"volumes differ: {our_lots} and {their_lots} lots")
        rows.append(
            {
                "name": f"clear {total:,} orders over {books} book{'s' * (books > 1)}, with fills",
                "ours": total / ours / 1e6,
                "baseline": total / baseline / 1e6,
                "unit": "M orders/s",
                "ratio": baseline / ours,
                "baseline_name": "numpy argsort and cumsum, with fills (no pro rata, no collar)",
                "conditions": (
                    f"median of {ROUNDS} fresh batches, {TICKS} ticks, 5 % market orders, 2 ages, "
                    f"{numba.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
                ),
            }
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(row)
