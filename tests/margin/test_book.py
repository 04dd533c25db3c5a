"""A book by name: what positions are worth, and what changes make of it."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from exchange.core.stored.contracts import value_per_lot_e6
from exchange.core.venue import InstrumentSpec
from margin.book import (
    NO_COIN,
    book_equity,
    deposited,
    moved,
    option_value_minor,
    position_value_minor,
    traded,
)
from margin.fixed_point import mul_div_floor
from margin.invariant import InvariantBroken
from margin.portfolio import INVERSE, INVERSE_PUT, LINEAR, LINEAR_CALL
from margin.reasons.explain import explain
from margin.reasons.pool_model import finest_exponent
from tests.margin.small_books import E8, PS_1, USDC, random_book, small_book
from tests.reference.random_portfolios import column


@pytest.mark.parametrize("kind", [LINEAR, INVERSE, LINEAR_CALL, INVERSE_PUT])
def test_a_position_is_worth_what_the_venue_settles(kind: int) -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        highest = 10**9 if kind == INVERSE_PUT else 10**13
        lot_e8, price_e8 = int(random.integers(1, 10**9)), int(random.integers(1, highest))
        lots = int(random.integers(-(10**6), 10**6))
        spec = InstrumentSpec(name="X", kind=kind, underlying=0, tick_e8=1, lot_e8=lot_e8)
        settled = mul_div_floor(value_per_lot_e6(spec, price_e8), lots, 10**6)
        assert position_value_minor(kind, lot_e8, price_e8, lots) == settled


@pytest.mark.parametrize("seed", range(4))
def test_trading_there_and_back_changes_nothing_and_costs_nothing(seed: int) -> None:
    book, random = random_book(seed), np.random.default_rng(seed)
    nothing = np.zeros(4, np.int64)
    for row in random.choice(len(book.instruments), 8, replace=False).tolist():
        lots = int(random.integers(-1000, 1000))
        there = traded(book, row, lots)
        assert book_equity(there, nothing) == book_equity(book, nothing), "a trade at the mark"
        back = traded(there, row, -lots)
        assert back.quantity_lots.tolist() == book.quantity_lots.tolist()
        assert back.cash_minor.tolist() == book.cash_minor.tolist()


def test_a_move_pays_futures_and_values_options_anew() -> None:
    book = small_book(1, -1, usdc=1_000)
    down = moved(book, 0, -100_000_000)
    assert down.marks.index_e8.tolist() == [90_000 * E8]
    assert down.marks.mark_e8[0] == 90_000 * E8
    assert down.cash_minor[0] == (1_000 - 10_000) * USDC
    assert option_value_minor(down)[0] < option_value_minor(book)[0], "a short put loses"
    assert moved(book, 0, 0).cash_minor.tolist() == book.cash_minor.tolist()
    raised = moved(book, 0, 0, 200_000_000)
    assert raised.marks.volatility_e9[1] == 600_000_000
    assert raised.cash_minor.tolist() == book.cash_minor.tolist()
    inverse = moved(small_book(0, 0, 100), 0, 10**9)  # 100,000 USD long, at twice the price
    assert inverse.cash_minor.tolist() == [0, E8 // 2]


def test_changes_leave_the_book_they_are_made_from_alone() -> None:
    book = small_book(1, -1, usdc=1_000)
    before = msgspec.json.encode(explain(PS_1, book))
    traded(book, 1, 5)
    moved(book, 0, -(10**8), 10**8)
    deposited(book, 0, 7)
    assert msgspec.json.encode(explain(PS_1, book)) == before


def test_a_book_that_does_not_fit_together_is_refused() -> None:
    book = small_book(1)
    for change in (
        {"coin_of_unit": (NO_COIN,)}, {"risk_classes": ()}, {"instrument_names": ("perpetual",)},
        {"cash_minor": column([0])}, {"quantity_lots": column([0, 0])},
    ):  # fmt: skip
        with pytest.raises(InvariantBroken, match="book"):
            explain(PS_1, msgspec.structs.replace(book, **change))
    with pytest.raises(InvariantBroken):
        finest_exponent(PS_1, small_book(10**12))
