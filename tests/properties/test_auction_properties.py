"""The compiled auction against its slow twin, and the laws that every print obeys."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

import numpy as np
import pytest

from exchange.core.auction import clearing
from exchange.core.auction.clearing import CLAMPED, INTERRUPTED, NO_CROSS, PRINTED
from tests.reference.reference_auction import Order, Outcome, clear_book

BATCH_SEED = clearing.batch_seed(2024, 5)
lottery_number = partial(clearing.lottery, BATCH_SEED)


@dataclass(frozen=True)
class Case:
    orders: list[Order]
    reference: int
    band: tuple[int, int] | None = None
    clamp: bool = False


def clear_together(cases: Sequence[Case], **options: int) -> list[Outcome]:
    """All books in one call; what stands in the price column of a market order must not matter."""
    orders = [order for case in cases for order in case.orders]
    books = clearing.SealedBooks(
        book_start=np.cumsum([0] + [len(case.orders) for case in cases]),
        side=np.array([o.side for o in orders], dtype=np.int64),
        is_market=np.array([o.limit_ticks is None for o in orders], dtype=np.int64),
        price_ticks=np.array(
            [10**9 * (row % 3 - 1) if o.limit_ticks is None else o.limit_ticks
             for row, o in enumerate(orders)], dtype=np.int64,
        ),
        quantity_lots=np.array([o.quantity_lots for o in orders], dtype=np.int64),
        batch=np.array([o.batch for o in orders], dtype=np.int64),
        account=np.array([o.account for o in orders], dtype=np.int64),
        sequence=np.array([o.sequence for o in orders], dtype=np.int64),
    )  # fmt: skip
    no_band = (clearing.NO_BAND_LOW, clearing.NO_BAND_HIGH)
    terms = clearing.AuctionTerms(
        np.array([case.reference for case in cases], dtype=np.int64),
        np.array([(case.band or no_band)[0] for case in cases], dtype=np.int64),
        np.array([(case.band or no_band)[1] for case in cases], dtype=np.int64),
        np.array([case.clamp for case in cases], dtype=np.int64),
    )
    prints = clearing.clear(books, terms, BATCH_SEED, **options)
    facts = zip(
        prints.state, prints.price_ticks, prints.volume_lots, prints.surplus_lots, strict=True
    )
    return [
        Outcome(*map(int, fact), prints.fill_lots[start:end].tolist())
        for fact, (start, end) in zip(facts, itertools.pairwise(books.book_start), strict=True)
    ]


def twin(case: Case) -> Outcome:
    return clear_book(case.orders, case.reference, case.band, case.clamp, lottery_number)


def random_case(generator: np.random.Generator) -> Case:
    """Thin or thick, tight or wide, with few or many market orders, ages, accounts and collars."""
    integer = generator.integers
    count = int(integer(0, 40) if integer(0, 5) == 0 else integer(0, 9))
    ticks = int(generator.choice([1, 2, 4, 10, 60]))
    shift = int(integer(-50, 51))
    market = generator.choice([0.0, 0.1, 0.6, 1.0])
    buyers = generator.choice([0.0, 0.5, 0.5, 0.5, 0.8, 1.0])
    ages = int(generator.choice([1, 1, 3, 20]))
    most_lots = int(generator.choice([1, 3, 10, 1000, 2**31]))
    orders = [
        Order(
            side=1 if generator.random() < buyers else -1,
            limit_ticks=None if generator.random() < market else shift + int(integer(0, ticks)),
            quantity_lots=int(integer(1, most_lots + 1)),
            batch=int(integer(0, ages)) * 10**8,
            account=int(integer(1, 4)),
            sequence=sequence,
        )
        for sequence in range(count)
    ]
    reference = shift + int(integer(-5, ticks + 5))
    width = int(integer(0, ticks + 1))
    band = (reference - width, reference + width) if integer(0, 2) else None
    return Case(orders, reference, band, bool(integer(0, 2)))


def random_cases(seed: int, count: int) -> list[Case]:
    generator = np.random.default_rng(seed)
    return [random_case(generator) for _ in range(count)]


def assert_equal(cases: Sequence[Case], ours: list[Outcome], expected: list[Outcome]) -> None:
    for case, our, wanted in zip(cases, ours, expected, strict=True):
        assert our == wanted, f"{case}"


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_ten_thousand_random_books_equal_the_twin_whichever_way_they_are_searched(
    seed: int,
) -> None:
    cases = random_cases(seed, 2500)
    expected = [twin(case) for case in cases]
    assert {outcome.state for outcome in expected} == {NO_CROSS, PRINTED, INTERRUPTED, CLAMPED}
    assert_equal(cases, clear_together(cases), expected)
    for window_ticks in (0, 1, 2, 3, 7, 20):
        for ticks_per_order in (0, 100):
            options = {"window_ticks": window_ticks, "ticks_per_order": ticks_per_order}
            assert_equal(cases, clear_together(cases, **options), expected)
    assert_equal(cases, clear_together(cases, parallel_orders=0, window_ticks=7), expected)


def test_every_book_of_up_to_three_orders_on_three_prices_equals_the_twin() -> None:
    shapes = [
        (side, limit, lots) for side in (1, -1) for limit in (None, 0, 1, 2) for lots in (1, 2)
    ]
    cases = [
        Case([Order(*shape, account=1, sequence=k) for k, shape in enumerate(chosen)], reference)
        for count in range(4)
        for chosen in itertools.combinations_with_replacement(shapes, count)
        for reference in (-1, 1, 3)
    ]
    expected = [twin(case) for case in cases]
    assert_equal(cases, clear_together(cases, ticks_per_order=0), expected)
    assert_equal(cases, clear_together(cases, ticks_per_order=100), expected)
    assert_equal(cases, clear_together(cases, window_ticks=2), expected)
    clamped = [replace(case, band=(1, 1), clamp=True) for case in cases]
    assert_equal(clamped, clear_together(clamped), [twin(case) for case in clamped])


def wide_cases(seed: int, count: int) -> list[Case]:
    generator = np.random.default_rng(seed)
    cases = []
    for _ in range(count):
        size = int(generator.integers(2, 200))
        orders = [
            Order(
                side=int(generator.choice([-1, 1])),
                limit_ticks=None if generator.random() < 0.1 else int(generator.normal(0, 80)),
                quantity_lots=int(generator.integers(1, 50)),
                batch=int(generator.integers(0, 3)),
                account=int(generator.integers(1, 30)),
                sequence=sequence,
            )
            for sequence in range(size)
        ]
        reference = int(generator.normal(0, 80))
        band = (reference - 40, reference + 40) if generator.random() < 0.5 else None
        cases.append(Case(orders, reference, band, bool(generator.integers(0, 2))))
    return cases


def stretched(case: Case, factor: int) -> Case:
    """The same book with every tick `factor` times as far from 0."""
    orders = [
        o if o.limit_ticks is None else replace(o, limit_ticks=o.limit_ticks * factor)
        for o in case.orders
    ]
    band = None if case.band is None else (case.band[0] * factor, case.band[1] * factor)
    return Case(orders, case.reference * factor, band, case.clamp)


def test_books_with_long_stretches_of_empty_ticks_equal_the_twin() -> None:
    cases = [stretched(case, 13) for case in random_cases(8, 500)]
    assert_equal(cases, clear_together(cases), [twin(case) for case in cases])


def test_no_tick_beside_a_print_is_better_where_limits_are_millions_of_ticks_apart() -> None:
    for case in random_cases(9, 300):
        far = stretched(case, 4_000_000)
        (ours,) = clear_together([far])
        if ours.volume_lots == 0:
            continue
        for other in (ours.price_ticks - 1, ours.price_ticks + 1):
            candidates = [o.limit_ticks for o in far.orders if o.limit_ticks is not None]
            candidates.append(far.reference)
            if ours.state == PRINTED and min(candidates) <= other <= max(candidates):
                assert rank(far, other) <= rank(far, ours.price_ticks), far


def rank(case: Case, price_ticks: int) -> tuple[int, int]:
    """Volume, then minus the surplus' size: larger is better."""
    bought, sold = depth(case, price_ticks)
    return min(bought, sold), -abs(bought - sold)


def depth(case: Case, price_ticks: int) -> tuple[int, int]:
    accepting = [o for o in case.orders if o.accepts(price_ticks)]
    bought = sum(o.quantity_lots for o in accepting if o.side > 0)
    return bought, sum(o.quantity_lots for o in accepting) - bought


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return random_cases(101, 1500) + wide_cases(102, 150)


@pytest.fixture(scope="module")
def outcomes(cases: list[Case]) -> list[Outcome]:
    return clear_together(cases)


def test_thick_books_give_the_same_result_whichever_way_they_are_searched(
    cases: list[Case],
) -> None:
    sorted_books = clear_together(cases, window_ticks=0, ticks_per_order=0)
    assert clear_together(cases, window_ticks=0, ticks_per_order=10**4) == sorted_books
    assert clear_together(cases) == sorted_books


def test_buys_filled_equal_sells_filled_equal_volume(
    cases: list[Case], outcomes: list[Outcome]
) -> None:
    for case, outcome in zip(cases, outcomes, strict=True):
        for side in (1, -1):
            filled = [
                fill
                for o, fill in zip(case.orders, outcome.fill_lots, strict=True)
                if o.side == side
            ]
            assert sum(filled) == outcome.volume_lots


def test_no_fill_is_worse_than_its_limit_or_larger_than_its_order(
    cases: list[Case], outcomes: list[Outcome]
) -> None:
    for case, outcome in zip(cases, outcomes, strict=True):
        for order, fill in zip(case.orders, outcome.fill_lots, strict=True):
            assert 0 <= fill <= order.quantity_lots
            assert fill == 0 or order.accepts(outcome.price_ticks)


def test_nobody_priced_through_an_unclamped_print_is_left(
    cases: list[Case], outcomes: list[Outcome]
) -> None:
    for case, outcome in zip(cases, outcomes, strict=True):
        if outcome.state != PRINTED:
            continue
        for order, fill in zip(case.orders, outcome.fill_lots, strict=True):
            if order.limit_ticks is not None and order.limit_ticks != outcome.price_ticks:
                market_class_short = any(
                    o.limit_ticks is None and o.side == order.side and left < o.quantity_lots
                    for o, left in zip(case.orders, outcome.fill_lots, strict=True)
                )
                assert not (order.accepts(outcome.price_ticks) and market_class_short)
                if order.accepts(outcome.price_ticks):
                    assert fill == order.quantity_lots


def test_the_order_of_arrival_changes_no_fill(cases: list[Case], outcomes: list[Outcome]) -> None:
    generator = np.random.default_rng(103)
    shuffles = [generator.permutation(len(case.orders)).tolist() for case in cases]
    shuffled = [
        replace(case, orders=[case.orders[k] for k in shuffle])
        for case, shuffle in zip(cases, shuffles, strict=True)
    ]
    for shuffle, before, after in zip(shuffles, outcomes, clear_together(shuffled), strict=True):
        assert after == replace(before, fill_lots=[before.fill_lots[k] for k in shuffle])


def test_scaling_every_quantity_scales_the_volume(
    cases: list[Case], outcomes: list[Outcome]
) -> None:
    small = [
        (case, outcome)
        for case, outcome in zip(cases, outcomes, strict=True)
        if all(o.quantity_lots <= 1000 for o in case.orders)
    ]
    scaled = [
        replace(case, orders=[replace(o, quantity_lots=7 * o.quantity_lots) for o in case.orders])
        for case, _ in small
    ]
    for (_, before), after in zip(small, clear_together(scaled), strict=True):
        assert (after.state, after.price_ticks) == (before.state, before.price_ticks)
        assert after.volume_lots == 7 * before.volume_lots
        assert after.surplus_lots == 7 * before.surplus_lots


def test_swapping_sides_and_negating_prices_mirrors_the_print(
    cases: list[Case], outcomes: list[Outcome]
) -> None:
    mirrored = [
        Case(
            [
                replace(
                    o, side=-o.side, limit_ticks=None if o.limit_ticks is None else -o.limit_ticks
                )
                for o in case.orders
            ],
            -case.reference,
            None if case.band is None else (-case.band[1], -case.band[0]),
            case.clamp,
        )
        for case in cases
    ]
    for before, after in zip(outcomes, clear_together(mirrored), strict=True):
        assert (after.state, after.fill_lots) == (before.state, before.fill_lots)
        assert (after.price_ticks, after.surplus_lots) == (
            -before.price_ticks,
            -before.surplus_lots,
        )


def test_one_more_order_never_lowers_the_volume(cases: list[Case]) -> None:
    free = [replace(case, band=None) for case in cases]
    more = [
        replace(case, orders=[*case.orders, replace(extra, sequence=999)])
        for case in free
        for extra in (Order(1, None, 3), Order(-1, 0, 5), Order(1, case.reference, 1))
    ]
    before = [outcome for outcome in clear_together(free) for _ in range(3)]
    for less, outcome in zip(before, clear_together(more), strict=True):
        assert outcome.volume_lots >= less.volume_lots


def test_inside_one_age_every_fill_is_within_a_lot_of_its_exact_share(
    cases: list[Case], outcomes: list[Outcome]
) -> None:
    shared = 0
    for case, outcome in zip(cases, outcomes, strict=True):
        classes: dict[tuple[int, int | None, int], list[int]] = {}
        for row, o in enumerate(case.orders):
            classes.setdefault((o.side, o.limit_ticks, o.batch), []).append(row)
        for rows in classes.values():
            wanted = sum(case.orders[row].quantity_lots for row in rows)
            given = sum(outcome.fill_lots[row] for row in rows)
            shared += 0 < given < wanted
            for row in rows:
                exact = Fraction(case.orders[row].quantity_lots * given, wanted)
                assert abs(outcome.fill_lots[row] - exact) < 1
    assert shared > 100
