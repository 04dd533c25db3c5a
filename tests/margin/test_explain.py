"""An explanation adds up, is the engine's own figure, and says how far away trouble is."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from margin.book import book_equity, book_haircuts, moved, positions_of
from margin.invariant import InvariantBroken
from margin.models.venue_models import venue_model, venue_model_names
from margin.pools.requirement import pool_requirements
from margin.pools.risk_table import risk_table
from margin.presets import load_preset, preset_names
from margin.reasons.explain import (
    DELTA_ONE,
    NAKED_OPTIONS,
    OPEN_ORDERS,
    STALE_INDEX,
    dealt,
    explain,
    margins_of,
)
from margin.reasons.pool_model import (
    BASIS,
    FRACTION_ONE,
    SKEW,
    PoolModel,
    percent_text,
    weight_text,
)
from tests.margin.small_books import (
    EXPONENT,
    PS_1,
    USDC,
    check_sums,
    matrix_of,
    random_book,
    small_book,
    with_conditions,
)
from tests.reference.moving_marks import REVERSED
from tests.reference.random_portfolios import CLASSES
from tests.reference.reference_margin import profits_of_unit


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("seed", range(4))
def test_an_explanation_adds_up_and_is_what_the_engine_says(name: str, seed: int) -> None:
    """For every model; the profits are those of the slow twin, number by number."""
    preset = load_preset(name)
    book = random_book(seed, preset, doubtful=seed % 2 == 1)
    found = explain(preset, book, exponent=EXPONENT, distances=False)
    check_sums(found)
    matrix = matrix_of(preset, book)
    table = risk_table(preset, book.instruments, matrix)
    needed = pool_requirements(table, positions_of(book))
    assert found.worst_minor == needed.worst_minor[0]
    assert found.initial_minor == needed.initial_minor[0]
    assert found.maintenance_minor == needed.maintenance_minor[0]
    assert found.equity_minor == book_equity(book, book_haircuts(preset, book))
    lots = {row: lots for row, lots in enumerate(book.quantity_lots.tolist()) if lots}
    for unit in found.units:
        number, coins = CLASSES.index(unit.unit), book.cash_minor[1:].tolist()
        slow = profits_of_unit(book.instruments, matrix, number, lots, coins, [])
        told = [row.profit_minor for row in unit.scenarios]
        assert told in ([q >> EXPONENT for q in slow], [-(-q >> EXPONENT) for q in slow])


@pytest.mark.parametrize("name", ["ps-1", "derive-pmrm2", "deribit"])
def test_losses_are_the_worst_scenarios_of_their_units_to_the_minor_unit(name: str) -> None:
    """Units are rounded together: some take the smaller whole number, and their rows with it."""
    preset, dealt_less = load_preset(name), 0
    for seed in range(12):
        found = explain(preset, random_book(seed, preset), exponent=EXPONENT, distances=False)
        check_sums(found)
        exact = PoolModel(preset, random_book(seed, preset), EXPONENT)
        for unit in found.units:
            if unit.worst is not None:
                low = min(exact.unit_sums(CLASSES.index(unit.unit)).profit)
                assert unit.loss_minor in (-low // FRACTION_ONE, -(low // FRACTION_ONE))
                dealt_less += unit.loss_minor < -(low // FRACTION_ONE)
    assert dealt_less, "the books are no test of it otherwise"


@pytest.mark.parametrize("name", [*preset_names(), "reversed"])
@pytest.mark.parametrize("seed", range(3))
def test_a_position_counts_by_the_half_that_its_expiry_used(name: str, seed: int) -> None:
    """In every scenario parts make up the sum, and those of one expiry come from one half."""
    preset = REVERSED if name == "reversed" else load_preset(name)
    book = random_book(seed, preset)
    model, rows = PoolModel(preset, book, EXPONENT), matrix_of(preset, book).expiry_rows
    for unit in range(3):
        for cell, profit in zip(model.cells[unit], model.unit_sums(unit).profit, strict=True):
            parts, coin, forgiven = model.parts(unit, cell.scenario)
            assert sum(part for _, part in parts) + coin + forgiven == profit
            if rows is None or cell.kind == BASIS:
                continue
            groups: dict[int, list[tuple[int, int]]] = {}
            for row, part in parts:
                groups.setdefault(int(book.instruments.expiry_ns[row]), []).append((row, part))
            for group in groups.values():
                kept = [part * 2**EXPONENT for _, part in group]
                lots = [(row, int(book.quantity_lots[row])) for row, _ in group]
                halves = [
                    [n * int(half[row, cell.scenario]) * FRACTION_ONE for row, n in lots]
                    for half in (rows.asset, rows.liability)
                ]
                turned = [[-part for part in half] for half in halves]
                assert kept in (halves + turned if cell.kind == SKEW else halves)
                if cell.kind == SKEW:
                    assert sum(kept) <= 0, "a smile turns against the expiry"
                else:
                    better = any(rows.reversed_discount[row] for row, _ in group)
                    assert sum(kept) == (max if better else min)(map(sum, halves))


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
    assert len(grid) == 38
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
from margin.reasons.explain import explain
from tests.margin.small_books import PS_1, random_book
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


def test_ratios_are_rounded_up_so_that_one_means_covered() -> None:
    """18,000 and 14,300 of 21,001 dollars."""
    found = explain(PS_1, small_book(1, usdc=21_001), distances=False)
    levels = (found.initial_minor, found.maintenance_minor)
    assert levels == (18_000 * 10**6, 14_300 * 10**6)
    assert found.initial_ratio_ppb == 18_000 * 10**9 // 21_001 + 1
    assert found.maintenance_ratio_ppb == 14_300 * 10**9 // 21_001 + 1


@pytest.mark.parametrize("name", venue_model_names())
def test_margins_without_their_parts_are_those_of_the_explanation(name: str) -> None:
    preset = venue_model(name)
    for seed in range(4):
        book = random_book(seed, preset)
        units, instruments = len(CLASSES), len(book.instruments)
        traded = with_conditions(
            book, volatility_e9=np.full(units, 6 * 10**8),
            daily_volume_minor=np.full(units, 10**9 * USDC),
            funding_rate_e9=np.full(instruments, 10**5),
        )  # fmt: skip
        for one in (book, traded):
            found = explain(preset, one, distances=False, growth_ppb=1_200_000_000)
            assert margins_of(preset, one, growth_ppb=1_200_000_000) == (
                found.call_initial_minor, found.maintenance_minor,
            )  # fmt: skip
