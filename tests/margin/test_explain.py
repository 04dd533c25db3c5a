"""An explanation adds up, is the engine's own figure, and says how far away trouble is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from fractions import Fraction

import msgspec
import numpy as np
import pytest

from exchange.core.contracts import value_per_lot_e6
from exchange.core.venue import InstrumentSpec
from margin.book import (
    NO_COIN,
    Book,
    book_equity,
    deposited,
    haircuts_ppb,
    moved,
    option_value_minor,
    position_value_minor,
    positions_of,
    traded,
)
from margin.explain import (
    DELTA_ONE,
    NAKED_OPTIONS,
    OPEN_ORDERS,
    STALE_INDEX,
    dealt,
    explain,
)
from margin.explanation import Explanation
from margin.fixed_point import mul_div_floor
from margin.invariant import InvariantBroken
from margin.pool_model import FRACTION_ONE, finest_exponent, percent_text, weight_text
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, LINEAR_PUT, NEVER_NS, Instruments, Marks
from margin.presets import load_preset
from margin.requirement import pool_requirements
from margin.risk_table import risk_table
from margin.scenarios import scenario_matrix, scenarios_of
from margin.valuation import option_marks
from tests.reference.random_portfolios import CLASSES, column, random_venue

PS_1 = load_preset("ps-1")
USDC, E8 = 10**6, 10**8
DAY_NS = 86_400 * 10**9
EXPONENT = 6


def small_book(*lots: int, usdc: int = 0, coin: float = 0.0) -> Book:
    """Whole coins of a perpetual, a put struck at 90,000 (30 days), thousands of USD inverse."""
    price = 100_000 * E8
    instruments = Instruments(
        kind=column([LINEAR, LINEAR_PUT, INVERSE]),
        unit=column([0, 0, 0]),
        expiry_ns=column([NEVER_NS, 30 * DAY_NS, NEVER_NS]),
        strike_e8=column([0, 90_000 * E8, 0]),
        lot_e8=column([E8, E8, 1_000 * E8]),
        strike_group=column([-1, 0, -1]),
    )
    marks = Marks(0, column([price]), column([price, 0, price]), column([price] * 3),
                  column([0, 5 * 10**8, 0]), column([0, 0, 0]))  # fmt: skip
    marks.mark_e8[1] = option_marks(instruments, marks)[1]
    held = [*lots, 0, 0, 0][:3]
    return Book(
        ("perpetual", "put", "inverse"), ("BTC",), ("BTC",), ("USDC", "BTC"), (1,), instruments,
        marks, column(held), column([usdc * USDC, round(coin * E8)]),
    )  # fmt: skip


def random_book(seed: int) -> Book:
    """A dozen positions on three units, coins of two of them long or short."""
    venue, random = random_venue(PS_1, seed), np.random.default_rng(seed)
    count = len(venue.instruments)
    lots = np.zeros(count, np.int64)
    for row in random.choice(count, 12, replace=False).tolist():
        lots[row] = int(random.integers(-50, 51))
    cash = [int(random.integers(-(10**10), 10**11)), 0, int(random.integers(-(10**9), 10**9))]
    marks = msgspec.structs.replace(venue.marks, mark_e8=venue.marks.mark_e8.copy())
    option = venue.instruments.is_option()
    marks.mark_e8[option] = option_marks(venue.instruments, marks)[option]
    # the third unit has inverse contracts, and so must have a coin
    cash.append(int(random.integers(-(10**12), 10**12)))
    return Book(
        tuple(f"contract-{row}" for row in range(count)), CLASSES, CLASSES, ("USDC", *CLASSES),
        (1, 2, 3), venue.instruments, marks, lots, column(cash),
    )  # fmt: skip


def losses_by_hand(book: Book, unit: int) -> list[Fraction]:
    """Profit and loss of a unit per scenario in minor units, summed from the matrix row by row."""
    scenarios = [scenarios_of(PS_1, name) for name in book.risk_classes]
    exponents = column([EXPONENT] * len(scenarios))
    matrix = scenario_matrix(PS_1, scenarios, book.instruments, book.marks, exponents)
    found = []
    for s in range(len(scenarios[unit])):
        quanta = 0
        for row, lots in enumerate(book.quantity_lots.tolist()):
            if int(book.instruments.unit[row]) == unit:
                side = matrix.long if lots > 0 else matrix.short
                quanta += abs(lots) * int(side[row, s])
        coin = int(book.cash_minor[book.coin_of_unit[unit]])
        steps, rest = divmod(coin, 10_000)
        step = int(matrix.coin[unit, s])
        quanta += steps * step + rest * step // 10_000
        found.append(Fraction(quanta, 2**EXPONENT))
    return found


def check_sums(found: Explanation) -> None:
    assert sum(unit.loss_minor for unit in found.units) == found.worst_minor
    for unit in found.units:
        profits = [row.profit_minor for row in unit.scenarios]
        if unit.worst is None:
            assert min(profits) >= 0
            assert unit.loss_minor == 0
            continue
        assert profits[unit.worst.scenario] == min(profits)
        parts = sum(part.profit_minor for part in unit.positions)
        assert parts == profits[unit.worst.scenario], "the parts make up the worst scenario"
        assert -parts - unit.loss_minor in (0, 1), "units are rounded once, together"
    both = sum(charge.maintenance_minor for charge in found.charges)
    extra = sum(charge.initial_minor for charge in found.charges)
    assert found.scenario_maintenance_minor + both == found.maintenance_minor
    assert found.scenario_initial_minor + both + extra == found.initial_minor
    assert sum(part.counted_minor for part in found.collateral) == found.equity_minor
    for part in found.collateral:
        assert part.value_minor - part.haircut_minor == part.counted_minor
    assert found.equity_minor - found.call_initial_minor == found.call_distance_minor
    assert found.equity_minor - found.maintenance_minor == found.liquidation_distance_minor


@pytest.mark.parametrize("seed", range(6))
def test_an_explanation_adds_up_and_is_what_the_engine_says(seed: int) -> None:
    book = random_book(seed)
    found = explain(PS_1, book, exponent=EXPONENT, distances=False)
    check_sums(found)
    scenarios = [scenarios_of(PS_1, name) for name in CLASSES]
    exponents = column([EXPONENT] * 3)
    matrix = scenario_matrix(PS_1, scenarios, book.instruments, book.marks, exponents)
    needed = pool_requirements(risk_table(PS_1, book.instruments, matrix), positions_of(book))
    assert found.worst_minor == needed.worst_minor[0]
    assert found.initial_minor == needed.initial_minor[0]
    assert found.maintenance_minor == needed.maintenance_minor[0]
    assert found.equity_minor == book_equity(book, haircuts_ppb(PS_1, book))
    for unit in found.units:
        by_hand = losses_by_hand(book, CLASSES.index(unit.unit))
        assert [row.profit_minor for row in unit.scenarios] == [value // 1 for value in by_hand]


def test_the_parts_of_the_readme_portfolio_by_hand() -> None:
    """One BTC long against one put short: -16 % on raised volatility takes 16,000 and 8,999.34."""
    found = explain(PS_1, small_book(1, -1, usdc=30_000))
    (unit,) = found.units
    assert unit.worst is not None
    assert unit.worst.name == "spot -16 %, volatility up"
    parts = {part.name: part.profit_minor / USDC for part in unit.positions}
    assert parts == {"perpetual": -16_000, "put": pytest.approx(-8_999.34, abs=0.005)}
    assert found.initial_minor / USDC == pytest.approx(27_499.34, abs=0.005)
    assert found.maintenance_minor / USDC == pytest.approx(21_799.47, abs=0.005)
    charges = {c.name: (c.maintenance_minor, c.initial_minor) for c in found.charges}
    assert charges == {
        DELTA_ONE: (1_500 * USDC, 500 * USDC),
        NAKED_OPTIONS: (300 * USDC, 200 * USDC),
    }
    grid = {row.cell.name: row.profit_minor for row in unit.scenarios}
    assert len(grid) == 35
    assert grid["spot 0 %, volatility unchanged"] == 0
    tail = next(row for row in unit.scenarios if row.cell.spot_move_e9 == -660_000_000)
    assert tail.cell.name == "spot -66 %, volatility up, weight 0.1818"
    assert tail.cell.kind == "tail"


def test_the_distance_of_a_long_future_is_that_of_algebra() -> None:
    """20,000 + 100,000 x = 18 % or 14.3 % of 100,000 (1 + x)."""
    found = explain(PS_1, small_book(1, usdc=20_000))
    distance = found.units[0].distance
    assert distance is not None
    assert distance.call_down_e9 == pytest.approx(-2_000 / 82_000 * 1e9, abs=10**5)
    assert distance.liquidation_down_e9 == pytest.approx(-5_700 / 85_700 * 1e9, abs=10**5)
    assert distance.call_up_e9 is None
    assert distance.liquidation_up_e9 is None
    short = explain(PS_1, small_book(-1, usdc=20_000)).units[0].distance
    assert short is not None
    assert short.call_up_e9 == pytest.approx(2_000 / 118_000 * 1e9, abs=10**5)
    assert short.call_down_e9 is None


@pytest.mark.parametrize("seed", range(3))
def test_a_distance_is_the_edge_of_trouble(seed: int) -> None:
    """At the move the pool is short, a hundredth of a percent before it is not."""
    random = np.random.default_rng(seed)
    lots = [int(n) for n in random.integers(-3, 4, 2)]
    book = small_book(*lots, int(random.integers(-50, 51)), usdc=90_000, coin=0.5)

    def standing(move_e9: int) -> str:
        return explain(PS_1, moved(book, 0, move_e9), distances=False).standing

    distance = explain(PS_1, book).units[0].distance
    assert distance is not None
    for move, trouble in (
        (distance.call_down_e9, ("ok",)), (distance.call_up_e9, ("ok",)),
        (distance.liquidation_down_e9, ("ok", "call")),
        (distance.liquidation_up_e9, ("ok", "call")),
    ):  # fmt: skip
        if move:
            assert standing(move) not in trouble
            assert standing(move - (10**5 + 1 if move > 0 else -(10**5) - 1)) in trouble


def test_who_is_in_trouble_is_there_already() -> None:
    called = explain(PS_1, small_book(1, usdc=16_000))
    assert called.standing == "call"
    assert called.call_distance_minor == -2_000 * USDC
    assert called.units[0].distance is not None
    assert called.units[0].distance.call_down_e9 == 0
    assert called.units[0].distance.liquidation_down_e9 != 0
    assert explain(PS_1, small_book(1, usdc=14_000)).standing == "liquidate"
    broke = explain(PS_1, small_book(1, usdc=-1))
    assert broke.standing == "bankrupt"
    assert broke.maintenance_ratio_ppb is None


def test_a_venue_may_ask_more_but_not_less_than_its_model() -> None:
    plain = explain(PS_1, small_book(1, usdc=19_000), distances=False)
    more = explain(PS_1, small_book(1, usdc=19_000), distances=False,
                   venue_initial_minor=plain.initial_minor + 5, open_orders_minor=7)  # fmt: skip
    check_sums(more)
    assert more.initial_minor == plain.initial_minor + 12
    assert more.call_initial_minor == plain.initial_minor + 5
    assert [(c.name, c.initial_minor) for c in more.charges[-2:]] == [
        (STALE_INDEX, 5),
        (OPEN_ORDERS, 7),
    ]
    with pytest.raises(InvariantBroken, match="asks less"):
        explain(PS_1, small_book(1), venue_initial_minor=plain.initial_minor - 1)


def test_open_orders_restrict_but_call_nobody() -> None:
    found = explain(
        PS_1, small_book(1, usdc=19_000), distances=False, open_orders_minor=2_000 * USDC
    )
    assert found.standing == "restricted"
    assert found.call_distance_minor == 1_000 * USDC


def test_an_empty_pool_needs_nothing_and_has_what_it_has() -> None:
    found = explain(PS_1, small_book(usdc=5))
    assert (found.initial_minor, found.maintenance_minor, found.units) == (0, 0, ())
    assert found.equity_minor == 5 * USDC


def test_a_haircut_is_told_apart_from_value() -> None:
    found = explain(PS_1, small_book(usdc=1_000, coin=0.1), distances=False)
    coin = found.collateral[1]
    assert (coin.currency, coin.value_minor, coin.haircut_ppb) == ("BTC", 10_000 * USDC, 5 * 10**7)
    assert (coin.haircut_minor, coin.counted_minor) == (500 * USDC, 9_500 * USDC)
    assert found.equity_minor == 10_500 * USDC


# Books


@pytest.mark.parametrize("kind", [LINEAR, INVERSE, LINEAR_CALL])
def test_a_position_is_worth_what_the_venue_settles(kind: int) -> None:
    random = np.random.default_rng(5)
    for _ in range(200):
        lot_e8, price_e8 = int(random.integers(1, 10**9)), int(random.integers(1, 10**13))
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


# Parts


def test_parts_are_dealt_out_to_the_unit_and_by_largest_remainder() -> None:
    half, third = FRACTION_ONE // 2, FRACTION_ONE // 3
    assert dealt([third, half], 1) == [0, 1]
    assert dealt([half, half, third], 1) == [1, 0, 0], "of equals the first"
    assert dealt([-third, FRACTION_ONE + third], 1) == [0, 1]
    assert dealt([], 0) == []
    with pytest.raises(InvariantBroken, match="add up"):
        dealt([half], 2)
    random = np.random.default_rng(3)
    for _ in range(100):
        exact = [int(n) for n in random.integers(-(2**40), 2**40, int(random.integers(1, 9)))]
        for total in (sum(exact) // FRACTION_ONE, -(-sum(exact) // FRACTION_ONE)):
            parts = dealt(exact, total)
            assert sum(parts) == total
            assert all(0 <= p * FRACTION_ONE - e + FRACTION_ONE - 1 < 2 * FRACTION_ONE
                       for p, e in zip(parts, exact, strict=True))  # fmt: skip


def test_cells_are_named_exactly() -> None:
    assert percent_text(-135_000_000) == "-13.5 %"
    assert percent_text(0) == "0 %"
    assert percent_text(5 * 10**9) == "+500 %"
    assert weight_text(181_818_182) == "0.1818"
    assert weight_text(10**9) == "1.0000"


DIGEST = """
import hashlib, msgspec
from tests.margin.test_explain import PS_1, explain, random_book
found = explain(PS_1, random_book(1), distances=False)
print(hashlib.sha256(msgspec.json.encode(found)).hexdigest())
"""


def test_interpreted_and_compiled_explanations_are_the_same_bytes() -> None:
    compiled = explain(PS_1, random_book(1), distances=False)
    interpreted = subprocess.run(
        [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
    )  # fmt: skip
    digest = hashlib.sha256(msgspec.json.encode(compiled)).hexdigest()
    assert interpreted.stdout.strip() == digest
