"""The drift screen decides what a full pass decides, and its bound is never below the truth."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from margin.invariant import Int64Array
from margin.pools.changed_pools import requirements_of
from margin.pools.drift_bound import LotValues
from margin.pools.drift_screen import DriftScreen, PoolCash, Revaluation
from margin.pools.equity import equity
from margin.pools.requirement import RiskTable, pool_requirements
from margin.portfolio import Positions
from tests.reference.moving_marks import (
    CURRENCIES,
    MODELS,
    PS_1,
    lot_values,
    moved,
    table_at,
    values_by_hand,
)
from tests.reference.random_portfolios import (
    CLASSES,
    Venue,
    column,
    first_pools,
    random_positions,
    random_venue,
)

ROOT = Path(__file__).parents[2]
HAIRCUT_PPB = column([0, 50_000_000, 70_000_000, 250_000_000])


def cash_near(
    margin: float, initial: Int64Array, value: Int64Array, index_e8: Int64Array, seed: int
) -> PoolCash:
    """Cash that gives most pools an equity of `margin` to twice that of their requirement."""
    random = np.random.default_rng(seed)
    cash = np.zeros_like(value)
    prices = np.concatenate((column([10**8]), index_e8))
    held = equity(cash, value, prices, HAIRCUT_PPB)
    cash[:, 0] = (initial * random.uniform(margin, 2 * margin, len(initial))).astype(np.int64)
    cash[:, 0] -= held
    return PoolCash(cash, prices, HAIRCUT_PPB)


def assert_decisions_of_a_full_pass(
    result: Revaluation, table: RiskTable, positions: Positions, equity_minor: Int64Array
) -> None:
    """Every comparison comes out the same, bounds are bounds, and scanned pools are exact."""
    full = pool_requirements(table, positions)
    assert (result.equity_minor == equity_minor).all()
    for ours, exact in (
        (result.initial_minor, full.initial_minor),
        (result.maintenance_minor, full.maintenance_minor),
    ):
        assert ((equity_minor < ours) == (equity_minor < exact)).all()
        assert (ours >= exact).all()
        assert (ours == exact)[result.scanned].all()
    unscanned = np.ones(positions.pool_count, np.bool_)
    unscanned[result.scanned] = False
    assert (equity_minor >= result.initial_minor)[unscanned].all()


@pytest.mark.parametrize(
    ("seed", "size", "margin", "model"),
    [
        (1, 0.0005, 1.05, "ps-1"),
        (2, 0.0005, 1.05, "grid only"),
        (3, 0.002, 0.95, "ps-1"),
        (4, 0.01, 1.1, "ps-1"),
        (5, 0.001, 1.0, "better rows"),
        (6, 0.001, 1.0, "charged coins"),
        (7, 0.001, 1.0, "deribit"),
        (8, 0.001, 1.0, "paradex"),
        (9, 0.001, 1.0, "span-16"),
        (10, 0.001, 1.0, "derive-pmrm2"),
    ],
)
def test_over_a_walk_of_marks_every_decision_is_that_of_a_full_pass(
    seed: int, size: float, margin: float, model: str
) -> None:
    """Thousands of pools near their requirement; positions, coins and cash change on the way."""
    random = np.random.default_rng(seed)
    preset = MODELS[model]
    venue = random_venue(preset, seed)
    pools = 3_000
    positions = random_positions(venue, pools, seed)
    marks, screen = venue.marks, DriftScreen()
    table = table_at(venue, marks, preset)
    values = lot_values(venue, marks)
    initial = pool_requirements(table, positions).initial_minor
    cash = cash_near(
        margin, initial, values_by_hand(positions, values), marks.index_e8, seed
    ).cash_minor
    changed, short, scanned = column([]), 0, 0
    for _ in range(16):
        values = lot_values(venue, marks)
        prices = np.concatenate((column([10**8]), marks.index_e8))
        funds = PoolCash(cash, prices, HAIRCUT_PPB)
        result = screen.update(table, positions, changed, values, funds)
        exact = equity(cash, values_by_hand(positions, values), prices, HAIRCUT_PPB)
        assert_decisions_of_a_full_pass(result, table, positions, exact)
        short += int((exact < result.initial_minor).sum())
        scanned += len(result.scanned)
        positions, changed = _traded(venue, positions, random)
        cash = cash.copy()
        cash[random.integers(pools, size=20), 0] -= random.integers(0, 10**9, 20)
        marks = moved(venue, marks, random, size)
        table = table_at(venue, marks, preset)
    assert short > 50, "nobody came near a decision"
    if size < 0.001:
        assert scanned < 0.6 * 16 * pools, "the screen kept no work away"


def _traded(
    venue: Venue, positions: Positions, random: np.random.Generator
) -> tuple[Positions, Int64Array]:
    """One pool in a hundred trades; coin cash of one in ten moves without being told."""
    changed = np.flatnonzero(random.random(positions.pool_count) < 0.01).astype(np.int64)
    lots, coin = positions.quantity_lots.copy(), positions.coin_minor.copy()
    for p in changed.tolist():
        rows = slice(int(positions.pool_start[p]), int(positions.pool_start[p + 1]))
        lots[rows] = random.integers(-(10**5), 10**5, rows.stop - rows.start)
    drifting = random.random(positions.pool_count) < 0.1
    coin[drifting] += random.integers(-(10**8), 10**8, (int(drifting.sum()), len(CLASSES)))
    after = Positions(positions.pool_start, positions.instrument, lots, coin)
    return after, changed


def test_no_change_is_no_drift_and_pools_that_join_are_judged_without_a_full_pass() -> None:
    venue = random_venue(PS_1, 7)
    table, values = table_at(venue, venue.marks), lot_values(venue, venue.marks)
    everyone = random_positions(venue, 400, 7)
    prices = np.concatenate((column([10**8]), venue.marks.index_e8))
    needed = pool_requirements(table, everyone).initial_minor
    worth = equity(
        np.zeros((400, CURRENCIES), np.int64), values_by_hand(everyone, values), prices, HAIRCUT_PPB
    )
    cash = np.zeros((400, CURRENCIES), np.int64)
    cash[:, 0] = needed - worth + 10  # more than rounding can take
    cash[350:, 0] -= 20
    screen = DriftScreen()

    def look(pools: int) -> Revaluation:
        funds = PoolCash(cash[:pools], prices, HAIRCUT_PPB)
        return screen.update(table, first_pools(everyone, pools), column([]), values, funds)

    assert len(look(300).scanned) == 300, "the base"
    assert len(look(300).scanned) == 0
    joined = look(400)
    assert joined.scanned.tolist() == list(range(350, 400)), "the poor ones alone"
    assert_decisions_of_a_full_pass(joined, table, everyone, worth + cash[:, 0])
    assert len(look(300).scanned) == 300, "a pool that is gone takes the base along"


def test_add_ons_count_in_the_doubt_and_not_in_the_requirement() -> None:
    venue = random_venue(PS_1, 12)
    table, values = table_at(venue, venue.marks), lot_values(venue, venue.marks)
    held = random_positions(venue, 100, 12)
    prices = np.concatenate((column([10**8]), venue.marks.index_e8))
    needed = pool_requirements(table, held).initial_minor
    cash = np.zeros((100, CURRENCIES), np.int64)
    cash[:, 0] = needed + 1_000
    nothing = LotValues(np.zeros_like(values.value_e6), values.currency)
    screen, funds = DriftScreen(), PoolCash(cash, prices, HAIRCUT_PPB)
    added = np.where(np.arange(100) % 2 == 0, 900, 1_001).astype(np.int64)
    screen.update(table, held, column([]), nothing, funds, added)
    found = screen.update(table, held, column([]), nothing, funds, added)
    assert found.scanned.tolist() == list(range(1, 100, 2))
    assert (found.initial_minor[found.scanned] == needed[found.scanned]).all()


def test_scanning_as_many_pools_as_there_are_takes_a_new_base() -> None:
    """Forty of a hundred are short for ever: every third cycle passes over all of them."""
    venue = random_venue(PS_1, 13)
    table, values = table_at(venue, venue.marks), lot_values(venue, venue.marks)
    held = random_positions(venue, 100, 13)
    prices = np.concatenate((column([10**8]), venue.marks.index_e8))
    cash = np.full((100, CURRENCIES), 10**16)
    cash[:40] = -(10**12)
    screen, funds = DriftScreen(), PoolCash(cash, prices, HAIRCUT_PPB)
    counts = [len(screen.update(table, held, column([]), values, funds).scanned) for _ in range(7)]
    assert counts == [100, 40, 40, 100, 40, 40, 100]


def test_the_base_stays_when_the_next_marks_are_written_over_its_table() -> None:
    venue = random_venue(PS_1, 14)
    held = random_positions(venue, 200, 14)
    first, values = table_at(venue, venue.marks), lot_values(venue, venue.marks)
    prices = np.concatenate((column([10**8]), venue.marks.index_e8))
    screen = DriftScreen()
    rich = PoolCash(np.full((200, CURRENCIES), 10**16), prices, HAIRCUT_PPB)
    screen.update(first, held, column([]), values, rich)
    later = table_at(venue, moved(venue, venue.marks, np.random.default_rng(1), 0.001))
    first.rows[:], first.terms[:] = later.rows, later.terms
    first.coin[:], first.coin_terms[:] = later.coin, later.coin_terms
    found = screen.update(first, held, column([]), values, rich)
    assert (found.initial_minor >= pool_requirements(first, held).initial_minor).all()
    assert len(found.scanned) == 0


def test_a_second_full_pass_is_the_base_of_what_follows() -> None:
    """There and back again: after a full pass elsewhere, the first marks are far away."""
    venue = random_venue(PS_1, 10)
    near = msgspec.structs.replace(venue.marks, volatility_e9=venue.marks.volatility_e9 // 2)
    there, back = table_at(venue, near), table_at(venue, venue.marks)
    at_first = random_positions(venue, 400, 10)
    coins = at_first.coin_minor + np.where(at_first.coin_minor == 0, -(10**9), 0)
    elsewhere = Positions(
        at_first.pool_start, at_first.instrument, at_first.quantity_lots, coins.clip(0)
    )
    needed = [
        pool_requirements(table, held).initial_minor
        for table, held in ((back, at_first), (there, elsewhere))
    ]
    zeros = np.zeros(len(venue.instruments), np.int64)
    nothing = LotValues(zeros, zeros)
    prices = np.concatenate((column([10**8]), venue.marks.index_e8))
    screen = DriftScreen()

    def look(table: RiskTable, held: Positions, equity_minor: Int64Array) -> Revaluation:
        cash = np.zeros((400, CURRENCIES), np.int64)
        cash[:, 0] = equity_minor
        funds = PoolCash(cash, prices, HAIRCUT_PPB)
        return screen.update(table, held, column([]), nothing, funds)

    between = (needed[0] + needed[1]) // 2
    tight = (needed[1] < between) & (between < needed[0])
    assert tight[:150].sum() > 50
    between[150:] = 10**15  # most are not in doubt, so that there is no full pass
    assert len(look(back, at_first, between).scanned) == 400
    assert len(look(there, elsewhere, -between - 1).scanned) == 400, "all in doubt: a full pass"
    assert_decisions_of_a_full_pass(look(back, at_first, between), back, at_first, between)
    assert len(look(there, elsewhere, -between - 1).scanned) == 400
    assert_decisions_of_a_full_pass(look(there, at_first, between), there, at_first, between)


def screen_digest(pools: int = 60) -> str:
    """Digest of a short walk: equity, bounds and who was scanned."""
    random = np.random.default_rng(9)
    venue = random_venue(PS_1, 9)
    positions = random_positions(venue, pools, 9)
    marks, screen, digest = venue.marks, DriftScreen(), hashlib.sha256()
    prices = np.concatenate((column([10**8]), marks.index_e8))
    table = table_at(venue, marks)
    initial = pool_requirements(table, positions).initial_minor
    cash = np.zeros((pools, CURRENCIES), np.int64)
    cash[:, 0] = initial + initial // 4
    for step in range(4):
        values = lot_values(venue, marks)
        changed = column([step, 5])
        result = screen.update(
            table, positions, changed, values, PoolCash(cash, prices, HAIRCUT_PPB)
        )
        for part in (*result[:4], *result.exact):
            digest.update(part.tobytes())
        exact = requirements_of(table, positions, result.scanned)
        assert (exact.initial_minor == result.initial_minor[result.scanned]).all()
        size = 1 + int(random.integers(5))
        marks = msgspec.structs.replace(
            marks,
            mark_e8=marks.mark_e8 + marks.mark_e8 * size // 10_000,
            forward_e8=marks.forward_e8 + marks.forward_e8 * size // 10_000,
        )
        table = table_at(venue, marks)
    return digest.hexdigest()


def test_compiled_and_interpreted_screens_are_the_same() -> None:
    code = "from tests.margin.test_drift_screen import screen_digest as d; print(d())"
    interpreted = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert interpreted.stdout.strip() == screen_digest(), interpreted.stderr
