"""The uniform-price batch auction: sealed books in, each book's one print and all fills out.

`clear` is a pure function of its arguments. The price is found in `price_search`, fills and
lottery are in `rationing`; both are compiled and work in int64 only.

Collar: a book whose free price lies outside its band is INTERRUPTED: nothing is filled, and the
venue carries its orders into the next attempt with a wider band. On the last attempt (`clamp`)
the print is the nearer edge of the band, with the volume that both sides can trade *there*. That
is never more than at the free price and may be 0: a buy at 100 meets a sell at 90, but the band
ends at 60, and nobody sells that low. Then nothing trades; the state is NO_CROSS, every order
carries, and the next attempt begins a new sequence from a fresh reference.
"""

from __future__ import annotations

import msgspec
import numpy as np
from numba import njit

from exchange.core.auction.book_levels import PricedOrders
from exchange.core.auction.price_search import (
    CLAMPED,
    CUT_ROWS,
    INTERRUPTED,
    INVALID,
    NO_CROSS,
    PRICE,
    PRINT_ROWS,
    PRINTED,
    STATE,
    SURPLUS,
    VOLUME,
    BookTerms,
    search_books,
    search_books_in_parallel,
)
from exchange.core.auction.rationing import (
    AgeColumns,
    batch_seed,
    fill_books,
    fill_books_in_parallel,
    lottery,
)
from margin.invariant import Int64Array, check

__all__ = [
    "CLAMPED",
    "INTERRUPTED",
    "NO_BAND_HIGH",
    "NO_BAND_LOW",
    "NO_CROSS",
    "PRINTED",
    "AuctionTerms",
    "Prints",
    "SealedBooks",
    "batch_seed",
    "clear",
    "clear_sound",
    "lottery",
    "warm_up",
]

NO_BAND_LOW = -(1 << 62)
NO_BAND_HIGH = 1 << 62
WINDOW_TICKS = 512  # most books print within so many ticks; searching them is much of a batch
HISTOGRAM_TICKS_PER_ORDER = 8  # up to here counting ticks is faster than sorting orders
PARALLEL_ORDERS = 200_000  # below, waiting for a busy core may cost more than threads save
CHUNKS = 32  # pieces of about equal size, dealt to the threads


class SealedBooks(msgspec.Struct, frozen=True, gc=False):
    """The orders of one batch, grouped by book: B books, N orders, all columns int64.

    Rows book_start[b] .. book_start[b + 1] - 1 belong to book b, in any order.
    """

    book_start: Int64Array  # [B + 1], from 0 to N, never falling
    side: Int64Array  # [N], +1 buy, -1 sell
    is_market: Int64Array  # [N], 1 market, 0 limit
    price_ticks: Int64Array  # [N], -2^31 <= limit < 2^31; not read for market orders
    quantity_lots: Int64Array  # [N], 1 .. 2^31; below 2^45 in one book together
    batch: Int64Array  # [N], the batch that gave the order its age, 0 .. 2^62; smaller is older
    account: Int64Array  # [N]
    sequence: Int64Array  # [N], the account's own; (account, sequence) is unique in a book


class AuctionTerms(msgspec.Struct, frozen=True, gc=False):
    """What the venue lays down for each of the B books in this attempt, all columns int64."""

    reference_ticks: Int64Array  # [B], -2^31 <= reference < 2^31
    band_low_ticks: Int64Array  # [B], lowest print allowed; NO_BAND_LOW for none
    band_high_ticks: Int64Array  # [B], highest print allowed; NO_BAND_HIGH for none
    clamp: Int64Array  # [B], 1 on the last attempt: print at the band's edge, do not interrupt


class Prints(msgspec.Struct, frozen=True, gc=False):
    """What became of each book and each order.

    NO_CROSS: all zero. INTERRUPTED: `price_ticks` and `surplus_lots` are those of the free price
    that lay outside the band, volume and fills are zero. PRINTED, CLAMPED: the print.
    """

    state: Int64Array  # [B]
    price_ticks: Int64Array  # [B]
    volume_lots: Int64Array  # [B]
    surplus_lots: Int64Array  # [B], demand minus supply at the price
    fill_lots: Int64Array  # [N], in the order of the rows


def _check_column(name: str, column: Int64Array, length: int) -> None:
    if column.dtype != np.int64 or not column.flags.c_contiguous or column.shape != (length,):
        check(False, f"{name} must be {length} contiguous int64 values")


def _check_columns(books: SealedBooks, terms: AuctionTerms) -> None:
    starts = books.book_start
    check(starts.ndim == 1 and len(starts) > 0, "book_start needs one entry more than books")
    rows = len(books.side)
    check(
        starts[0] == 0 and starts[-1] == rows, "book_start must run from 0 to the number of orders"
    )
    check(bool((starts[1:] >= starts[:-1]).all()), "book_start must not fall")
    for name, column in msgspec.structs.asdict(books).items():
        _check_column(name, column, len(starts) if name == "book_start" else rows)
    for name, column in msgspec.structs.asdict(terms).items():
        _check_column(name, column, len(starts) - 1)
    band_is_sound = (terms.band_low_ticks <= terms.band_high_ticks).all()
    check(bool(band_is_sound), "a band's low end must not be above its high end")


def clear(
    books: SealedBooks,
    terms: AuctionTerms,
    batch_seed: int,
    *,
    window_ticks: int = WINDOW_TICKS,
    ticks_per_order: int = HISTOGRAM_TICKS_PER_ORDER,
    parallel_orders: int = PARALLEL_ORDERS,
) -> Prints:
    """Print every book at one price and fill its orders.

    `batch_seed` (0 <= seed < 2^62) draws the lots among equal remainders. The other numbers choose
    between searches with the same result: first among `window_ticks` around the reference (0:
    never); where they do not tell, a book with at most `ticks_per_order` candidates an order is
    counted by tick, another one is sorted (0 sorts always). Batches of `parallel_orders` and more
    are spread over threads, with the same result. Rules: the module texts of
    `price_search` and `rationing`. Raises `InvariantBroken` for columns of wrong type or length,
    and for values outside the ranges that `SealedBooks` names.
    """
    _check_columns(books, terms)
    return clear_sound(
        books, terms, batch_seed, window_ticks=window_ticks, ticks_per_order=ticks_per_order,
        parallel_orders=parallel_orders,
    )  # fmt: skip


def clear_sound(
    books: SealedBooks,
    terms: AuctionTerms,
    batch_seed: int,
    *,
    window_ticks: int = WINDOW_TICKS,
    ticks_per_order: int = HISTOGRAM_TICKS_PER_ORDER,
    parallel_orders: int = PARALLEL_ORDERS,
) -> Prints:
    """`clear` for a caller that vouches for the shape of its columns; values are still checked."""
    check(0 <= batch_seed < 1 << 62, "batch_seed must be in 0 .. 2^62 - 1")
    book_count = len(books.book_start) - 1
    starts = books.book_start
    prints = np.zeros((PRINT_ROWS, book_count), dtype=np.int64)
    fill_lots = np.empty(len(books.side), dtype=np.int64)
    if len(books.side) < parallel_orders:
        _clear_serial(
            window_ticks, ticks_per_order, batch_seed, starts,
            books.side, books.is_market, books.price_ticks, books.quantity_lots,
            terms.reference_ticks, terms.band_low_ticks, terms.band_high_ticks, terms.clamp,
            books.batch, books.account, books.sequence, prints, fill_lots,
        )  # fmt: skip
        _check_sound(prints[STATE])
        return Prints(prints[STATE], prints[PRICE], prints[VOLUME], prints[SURPLUS], fill_lots)
    orders = PricedOrders(books.side, books.is_market, books.price_ticks, books.quantity_lots)
    band = (terms.band_low_ticks, terms.band_high_ticks)
    term_columns = BookTerms(terms.reference_ticks, *band, terms.clamp)
    ages = AgeColumns(books.batch, books.account, books.sequence)
    cuts = np.zeros((CUT_ROWS, book_count), dtype=np.int64)
    chunk_start = _chunks(starts)
    search_books_in_parallel(
        chunk_start, window_ticks, ticks_per_order, starts, orders, term_columns, prints, cuts
    )
    _check_sound(prints[STATE])
    fill_books_in_parallel(chunk_start, starts, batch_seed, orders, ages, prints, cuts, fill_lots)
    return Prints(prints[STATE], prints[PRICE], prints[VOLUME], prints[SURPLUS], fill_lots)


@njit(cache=True)
def _clear_serial(  # type: ignore[no-untyped-def]
    window_ticks, ticks_per_order, seed, book_start,
    side, is_market, price_ticks, quantity_lots,
    reference_ticks, band_low_ticks, band_high_ticks, clamp,
    batch, account, sequence, prints, fill_lots,
):  # fmt: skip
    """Search and fill in one call, plain columns in: crossing into compiled code costs most of a
    small batch, and crossing with tuples of columns more than with columns."""
    books = len(book_start) - 1
    orders = PricedOrders(side, is_market, price_ticks, quantity_lots)
    terms = BookTerms(reference_ticks, band_low_ticks, band_high_ticks, clamp)
    cuts = np.zeros((CUT_ROWS, books), np.int64)
    search_books(0, books, window_ticks, ticks_per_order, book_start, orders, terms, prints, cuts)
    for book in range(books):
        if prints[STATE, book] == INVALID:
            return
    ages = AgeColumns(batch, account, sequence)
    fill_books(0, books, book_start, seed, orders, ages, prints, cuts, fill_lots)


def _chunks(book_start: Int64Array) -> Int64Array:
    """Bounds of chunks of neighbouring books with about equally many orders each."""
    wanted = np.arange(CHUNKS + 1, dtype=np.int64) * book_start[-1] // CHUNKS
    chunk_start: Int64Array = np.searchsorted(book_start[:-1], wanted).astype(np.int64)
    chunk_start[0], chunk_start[-1] = 0, len(book_start) - 1
    return chunk_start


def _check_sound(state: Int64Array) -> None:
    states = state.tolist()  # faster than a reduction for the few books of most batches
    if INVALID in states:
        check(False, f"order columns out of range in book {states.index(INVALID)}")


def warm_up() -> None:
    """Compile all kernels on one tiny book, or load them from the cache."""

    def column(*values: int) -> Int64Array:
        return np.array(values, dtype=np.int64)

    books = SealedBooks(
        column(0, 3),
        column(1, 1, -1),
        column(0, 0, 1),
        column(5, 5, 0),
        column(3, 3, 3),
        column(0, 1, 1),
        column(1, 2, 3),
        column(1, 1, 1),
    )
    terms = AuctionTerms(column(5), column(NO_BAND_LOW), column(NO_BAND_HIGH), column(0))
    clear(books, terms, 1)
    clear(books, terms, 1, parallel_orders=0)
