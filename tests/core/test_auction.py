"""One rule of the auction each, on books small enough to be cleared by hand."""

from __future__ import annotations

import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from exchange.core.auction import clearing
from exchange.core.auction.clearing import CLAMPED, INTERRUPTED, NO_CROSS, PRINTED
from margin.invariant import Int64Array, InvariantBroken
from tests.reference.reference_auction import Order

SEED = clearing.batch_seed(7, 3)


def column(*values: int) -> Int64Array:
    return np.array(values, dtype=np.int64)


def buy(limit_ticks: int | None, quantity_lots: int, batch: int = 0, account: int = 0) -> Order:
    return Order(+1, limit_ticks, quantity_lots, batch, account)


def sell(limit_ticks: int | None, quantity_lots: int, batch: int = 0, account: int = 0) -> Order:
    return Order(-1, limit_ticks, quantity_lots, batch, account)


def one_book(*orders: Order) -> clearing.SealedBooks:
    """A book of these orders; accounts and sequences left out are numbered by row."""
    return clearing.SealedBooks(
        book_start=column(0, len(orders)),
        side=column(*(o.side for o in orders)),
        is_market=column(*(int(o.limit_ticks is None) for o in orders)),
        price_ticks=column(*(o.limit_ticks or 0 for o in orders)),
        quantity_lots=column(*(o.quantity_lots for o in orders)),
        batch=column(*(o.batch for o in orders)),
        account=column(*(o.account or 1000 + row for row, o in enumerate(orders))),
        sequence=column(*(o.sequence or row for row, o in enumerate(orders))),
    )


def terms(
    reference_ticks: int,
    low: int = clearing.NO_BAND_LOW,
    high: int = clearing.NO_BAND_HIGH,
    clamp: int = 0,
) -> clearing.AuctionTerms:
    return clearing.AuctionTerms(column(reference_ticks), column(low), column(high), column(clamp))


class Cleared:
    """The print and fills of one book."""

    def __init__(self, *orders: Order, reference: int, seed: int = SEED, **collar: int) -> None:
        prints = clearing.clear(one_book(*orders), terms(reference, **collar), seed)
        self.state = int(prints.state[0])
        self.price = int(prints.price_ticks[0])
        self.volume = int(prints.volume_lots[0])
        self.surplus = int(prints.surplus_lots[0])
        self.fills = prints.fill_lots.tolist()


# --- the price ---------------------------------------------------------------------------------


def test_the_price_with_the_most_volume_wins() -> None:
    book = Cleared(buy(102, 10), buy(100, 50), sell(99, 10), sell(100, 40), reference=102)
    assert (book.state, book.price, book.volume) == (PRINTED, 100, 50)


def test_of_equal_volumes_the_smallest_surplus_wins() -> None:
    # 10 lots trade on every tick from 100 to 104; from 103 on there is one seller too many
    book = Cleared(buy(104, 10), sell(100, 10), sell(103, 1), reference=104)
    assert (book.price, book.volume, book.surplus) == (102, 10, 0)


def test_buying_pressure_prints_at_the_highest_tick() -> None:
    book = Cleared(buy(104, 12), sell(100, 10), reference=101)
    assert (book.price, book.surplus) == (104, 2)


def test_selling_pressure_prints_at_the_lowest_tick() -> None:
    book = Cleared(buy(104, 10), sell(100, 12), reference=103)
    assert (book.price, book.surplus) == (100, -2)


@pytest.mark.parametrize(("reference", "price"), [(90, 100), (102, 102), (110, 104)])
def test_without_surplus_the_reference_is_clamped_into_the_range(
    reference: int, price: int
) -> None:
    book = Cleared(buy(104, 10), sell(100, 10), reference=reference)
    assert (book.price, book.volume, book.surplus) == (price, 10, 0)


@pytest.mark.parametrize(("reference", "price"), [(90, 100), (100, 100), (101, 101), (110, 101)])
def test_of_mixed_signs_only_the_two_ticks_where_they_meet_are_left(
    reference: int, price: int
) -> None:
    # 20 bid for 10 up to 100, 20 offered for 10 from 101 on: surplus +10 and -10
    book = Cleared(buy(105, 10), buy(100, 10), sell(95, 10), sell(101, 10), reference=reference)
    assert (book.price, book.volume, abs(book.surplus)) == (price, 10, 10)


def test_a_tick_without_any_order_is_a_candidate() -> None:
    # Xetra example 4 (reference 201): limits alone would print 199 or 202, but 200 and 201 balance
    book = Cleared(buy(None, 100), buy(199, 100), sell(None, 100), sell(202, 100), reference=201)
    assert (book.price, book.volume, book.surplus) == (201, 100, 0)


def test_the_reference_is_a_candidate_beyond_the_limits() -> None:
    # above 100 nobody sells but the market order, and 120 is as balanced as 101
    book = Cleared(buy(None, 10), sell(None, 10), buy(100, 5), reference=120)
    assert (book.price, book.volume, book.surplus) == (120, 10, 0)


def test_market_orders_alone_trade_at_the_reference() -> None:
    # Xetra example 6: 900 market bid, 800 market asked, reference 99
    book = Cleared(buy(None, 900), sell(None, 800), reference=99)
    assert (book.price, book.volume, book.surplus) == (99, 800, 100)


@pytest.mark.parametrize(
    "orders", [(), (buy(100, 5),), (sell(None, 5),), (buy(99, 5), sell(100, 5))]
)
def test_without_two_sides_that_meet_nothing_prints(orders: tuple[Order, ...]) -> None:
    book = Cleared(*orders, reference=100)
    assert (book.state, book.price, book.volume, book.surplus) == (NO_CROSS, 0, 0, 0)
    assert book.fills == [0] * len(orders)


# Full-grid facts of the four plain cases of the published examples: CoinTossX auction test data
# (dharmeshsing/CoinTossX, 89090ed), msilb/auction-order-matching README (78f126d, in half units)
# and MarketGrid's page on the single-price auction. They name no reference: any one must do.
PUBLISHED = {
    "cointossx-2": (
        [(10550, 10000), (10450, 5600), (10400, 200)],
        [(10300, 6900), (10400, 1000), (10600, 200), (None, 2500)],
        (10450, 10400, 5200),
    ),
    "cointossx-3": (
        [(10550, 10000), (10500, 5600), (10400, 1000)],
        [(10300, 6900), (10400, 1000), (10600, 200), (None, 2500)],
        (10500, 10400, 5200),
    ),
    "msilb-readme": (
        [(209, 100), (209, 2500), (206, 1800), (205, 500), (205, 800), (199, 1500)],
        [(201, 600), (201, 400), (204, 1500), (206, 1200), (209, 700)],
        (206, 3700, 700),
    ),
    "marketgrid-1": (
        [
            (13000, 45), (12900, 95), (12800, 25), (12700, 35), (12600, 25),
            (12500, 55), (12400, 200), (12300, 80), (12200, 60),
        ],
        [
            (13100, 35), (13000, 50), (12900, 10), (12800, 15), (12700, 10),
            (12600, 20), (12500, 90), (12400, 155), (12300, 125), (12200, 10),
        ],
        (12400, 290, 190),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("reference", [1, 10450, 20000])
def test_published_books_print_as_published(name: str, reference: int) -> None:
    bids, asks, expected = PUBLISHED[name]
    orders = [buy(*bid) for bid in bids] + [sell(*ask) for ask in asks]
    book = Cleared(*orders, reference=reference)
    assert (book.price, book.volume, book.surplus) == expected


# --- the collar --------------------------------------------------------------------------------


def test_a_print_outside_the_band_is_interrupted_and_fills_nothing() -> None:
    book = Cleared(buy(120, 7), sell(110, 5), reference=100, low=90, high=119)
    assert (book.state, book.price, book.volume, book.surplus) == (INTERRUPTED, 120, 0, 2)
    assert book.fills == [0, 0]


@pytest.mark.parametrize("clamp", [0, 1])
def test_a_print_on_the_edge_of_the_band_stands(clamp: int) -> None:
    book = Cleared(buy(120, 7), sell(110, 5), reference=100, low=90, high=120, clamp=clamp)
    assert (book.state, book.price, book.volume) == (PRINTED, 120, 5)


def test_the_last_attempt_prints_at_the_edge_with_the_volume_there() -> None:
    orders = (buy(120, 9), sell(100, 4), sell(115, 5))
    book = Cleared(*orders, reference=100, low=90, high=110, clamp=1)
    assert (book.state, book.price, book.volume, book.surplus) == (CLAMPED, 110, 4, 5)
    assert book.fills == [4, 4, 0]


def test_a_clamped_print_serves_better_prices_first_and_may_stop_above_the_edge() -> None:
    orders = (buy(120, 5), buy(118, 6), buy(112, 9), buy(None, 1), sell(100, 9), sell(115, 30))
    book = Cleared(*orders, reference=100, low=90, high=110, clamp=1)
    assert (book.price, book.volume, book.surplus) == (110, 9, 12)
    assert book.fills == [5, 3, 0, 1, 9, 0]


def test_nobody_trades_at_an_edge_that_one_side_does_not_reach() -> None:
    book = Cleared(buy(100, 5), sell(90, 5), reference=50, low=40, high=60, clamp=1)
    assert (book.state, book.price, book.volume, book.surplus) == (NO_CROSS, 0, 0, 0)
    assert book.fills == [0, 0]


# --- the fills ---------------------------------------------------------------------------------


def test_the_lighter_side_is_filled_in_full() -> None:
    book = Cleared(buy(100, 30), sell(99, 4), sell(None, 5), sell(100, 6), reference=100)
    assert book.fills == [15, 4, 5, 6]


def test_market_orders_come_before_limits() -> None:
    book = Cleared(buy(100, 10), buy(None, 10), sell(100, 12), reference=100)
    assert book.fills == [2, 10, 12]


def test_market_orders_that_outweigh_the_other_side_share_by_age_then_size() -> None:
    book = Cleared(
        buy(None, 4, batch=2), buy(None, 30, batch=5), buy(None, 10, batch=5), buy(200, 9),
        sell(100, 12), reference=100,
    )  # fmt: skip
    assert book.fills == [4, 6, 2, 0, 12]


def test_better_limits_come_before_the_printed_price() -> None:
    book = Cleared(sell(98, 5), sell(100, 10), sell(99, 5), buy(100, 13), reference=100)
    assert book.price == 100
    assert book.fills == [5, 3, 5, 13]


def test_at_the_price_the_older_batch_comes_first() -> None:
    book = Cleared(
        buy(100, 10, batch=9), buy(100, 6, batch=4), buy(100, 6, batch=7), sell(100, 8), reference=0
    )
    assert book.fills == [0, 6, 2, 8]


def test_orders_of_one_batch_share_pro_rata_to_their_size() -> None:
    book = Cleared(buy(100, 10), buy(100, 20), buy(100, 30), sell(100, 12), reference=100)
    assert book.fills == [2, 4, 6, 12]


def test_lots_lost_in_rounding_go_to_the_largest_remainders() -> None:
    # exact shares 605 * (300, 900, 600) / 1800 = 100.83, 302.5, 201.67
    book = Cleared(buy(100, 300), buy(100, 900), buy(100, 600), sell(100, 605), reference=100)
    assert book.fills == [101, 302, 202, 605]


def test_equal_remainders_are_drawn_by_the_smaller_lottery_number() -> None:
    orders = [buy(100, 10, account=account) for account in (5, 6, 7, 8)]
    winners = []
    for seed in range(20):
        book = Cleared(*orders, sell(100, 1), reference=100, seed=seed)
        numbers = [int(clearing.lottery(seed, 5 + row, row)) for row in range(4)]
        winner = numbers.index(min(numbers))
        assert book.fills == [int(row == winner) for row in range(4)] + [1]
        winners.append(winner)
    assert set(winners) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("winner", "loser"),
    [
        ((5920, 3), (53402, 2)),  # the smaller account, although its sequence is larger
        ((7, 8126078124034), (7, 179997784408065)),  # one account: its smaller sequence
    ],
)
@pytest.mark.parametrize("winner_first", [True, False])
def test_equal_lottery_numbers_go_by_account_then_by_sequence(
    winner: tuple[int, int], loser: tuple[int, int], winner_first: bool
) -> None:
    assert clearing.lottery(1, *winner) == clearing.lottery(1, *loser)
    buyers = [winner, loser] if winner_first else [loser, winner]
    orders = [Order(+1, 100, 5, 0, account, sequence) for account, sequence in buyers]
    book = Cleared(*orders, sell(100, 1), reference=100, seed=1)
    assert book.fills == [int(winner_first), int(not winner_first), 1]


def test_quantities_near_the_limit_are_shared_exactly() -> None:
    big = 2**31
    book = Cleared(*[buy(100, big)] * 9, buy(100, big - 1), *[sell(100, big)] * 7, reference=100)
    total, volume = 10 * big - 1, 7 * big
    floors = [quantity * volume // total for quantity in [big] * 9 + [big - 1]]
    assert sum(book.fills[:10]) == volume
    assert all(0 <= fill - floor <= 1 for fill, floor in zip(book.fills, floors, strict=False))


def test_the_lottery_is_the_documented_chain_of_murmur_finalisers() -> None:
    def stir(word: int) -> int:
        word = (word ^ word >> 16) * 0x85EBCA6B % 2**32
        word = (word ^ word >> 13) * 0xC2B2AE35 % 2**32
        return word ^ word >> 16

    for seed, account, sequence in [(0, 0, 0), (2**62 - 1, 2**40 + 3, 2**35), (SEED, 17, 4)]:
        word = 0x9E3779B9
        for value in (seed, seed >> 32, account, account >> 32, sequence >> 32, sequence):
            word = stir((word + value % 2**32) % 2**32)
        assert clearing.lottery(seed, account, sequence) == word


def test_batch_seeds_differ_by_batch_and_by_genesis_and_fit_int64() -> None:
    seeds = {clearing.batch_seed(genesis, batch) for genesis in range(20) for batch in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**62 for seed in seeds)
    # sha256sum of 'uncross/batch-seed/v1' and 40 zero bytes: first 16 digits, two bits off
    assert clearing.batch_seed(0, 0) == 1540362460390316158


@pytest.mark.parametrize(
    "order",
    [
        Order(0, 100, 5),
        buy(100, 0),
        buy(100, 2**31 + 1),
        buy(2**31, 5),
        buy(-(2**31) - 1, 5),
    ],
)
def test_an_order_out_of_range_stops_the_auction(order: Order) -> None:
    with pytest.raises(InvariantBroken, match=r"out of range in book 0"):
        Cleared(order, sell(100, 5), reference=100)


def test_columns_of_wrong_type_or_length_stop_the_auction() -> None:
    books = one_book(buy(100, 5), sell(100, 5))
    short = msgspec.structs.replace(books, batch=column(0))
    with pytest.raises(InvariantBroken, match="batch must be 2 contiguous int64 values"):
        clearing.clear(short, terms(100), 1)
    floats = msgspec.structs.replace(books, side=np.array([1.0, -1.0]))
    with pytest.raises(InvariantBroken, match="side must be 2 contiguous int64 values"):
        clearing.clear(floats, terms(100), 1)
    with pytest.raises(InvariantBroken, match="low end must not be above"):
        clearing.clear(books, terms(100, low=5, high=4), 1)


FINGERPRINT = """
import hashlib
import msgspec
import numpy as np
from exchange.core.auction import clearing

generator = np.random.default_rng(11)
orders, books = 1500, 60
start = np.sort(generator.integers(0, orders + 1, books + 1))
start[0], start[-1] = 0, orders
wide = np.repeat(generator.choice([3, 40, 2**30], books), np.diff(start))
column = lambda low, high: generator.integers(low, high, orders)
sealed = clearing.SealedBooks(
    start, column(0, 2) * 2 - 1, (column(0, 8) == 0).astype(np.int64), column(0, 2**40) % wide,
    column(1, 30), column(0, 3), column(1, 9), np.arange(orders),
)
reference = generator.integers(0, 30, books)
clamp = generator.integers(0, 2, books)
terms = clearing.AuctionTerms(reference, reference - 9, reference + 9, clamp)
digest = hashlib.sha256()
for ticks_per_order in (0, 8):
    prints = clearing.clear(
        sealed, terms, 2**61 + 5, ticks_per_order=ticks_per_order, parallel_orders=0
    )
    for values in msgspec.structs.asdict(prints).values():
        digest.update(values.tobytes())
print(sorted(set(prints.state.tolist())), prints.fill_lots.sum(), digest.hexdigest())
"""


def fingerprint(**environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", FINGERPRINT],
        env={**os.environ, "PYTHONPATH": ".", **environment},
        capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip


def test_compiled_and_interpreted_on_one_and_two_threads_give_the_same_bits() -> None:
    compiled = fingerprint(NUMBA_NUM_THREADS="2")
    assert compiled.startswith("[0, 1, 2, 3]")
    assert fingerprint(NUMBA_NUM_THREADS="1") == compiled
    assert fingerprint(NUMBA_DISABLE_JIT="1") == compiled
