"""The offset between coins: closed forms, caps, rounding, and the correlation behind it."""

from __future__ import annotations

import os
import random
from fractions import Fraction
from itertools import product

import msgspec
import numpy as np
import pytest

from margin.forecasts.cross_unit import (
    CorrelationState,
    correlations_ppb,
    offsets_minor,
    opening,
    relief_minor,
    step,
)
from margin.invariant import Int64Array
from margin.pools.requirement import PARALLEL_POOLS, Requirements, pool_requirements
from margin.pools.risk_table import risk_table
from margin.presets import load_preset
from margin.presets.dynamic_sections import CrossUnit
from tests.reference.random_portfolios import random_positions, random_venue
from tests.reference.reference_dynamic import offset_minor
from tests.reference.reference_forecasts import CorrelationTwin

E9 = 10**9
POOLS = int(os.environ.get("UNCROSS_RANDOM_POOLS", "1000"))
WHOLE = CrossUnit(
    period_s=60, decay_ppb=990_000_000, shrinkage_ppb=0, toward_ppb=0, most_share_ppb=E9,
    most_usdc=10**9,
)  # fmt: skip


def rho(*above: int) -> Int64Array:
    """A symmetric matrix from the entries above its diagonal, row by row."""
    units = next(n for n in range(2, 9) if n * (n - 1) // 2 == len(above))
    found, entries = np.full((units, units), E9, np.int64), iter(above)
    for i in range(units):
        for j in range(i + 1, units):
            found[i, j] = found[j, i] = next(entries)
    return found


def left(losses: list[int], ways: list[int], matrix: Int64Array, section: CrossUnit = WHOLE) -> int:
    """What a pool with these unit losses is charged."""
    one, way = np.array([losses], np.int64), np.array([ways], np.int64)
    return sum(losses) - int(offsets_minor(section, matrix, one, way)[0])


def test_without_correlation_it_is_the_root_of_the_sum_of_squares() -> None:
    assert left([3_000_000, 4_000_000], [1, 1], rho(0)) == 5_000_000
    assert left([3_000_000, 4_000_000], [1, -1], rho(0)) == 5_000_000
    assert left([2_000, 3_000, 6_000], [1, -1, 1], rho(0, 0, 0)) == 7_000


@pytest.mark.parametrize("ways", list(product((1, -1), repeat=3)))
def test_at_full_correlation_it_is_the_magnitude_of_the_signed_sum(ways: tuple[int, ...]) -> None:
    losses = [5_000_000, 3_000_000, 1_500_000]
    signed = sum(way * loss for way, loss in zip(ways, losses, strict=True))
    assert left(losses, list(ways), rho(E9, E9, E9)) == abs(signed)


def test_a_worked_example() -> None:
    """rho 0.6, 100 and 80 USDC against each other: root of 10,000 + 6,400 - 9,600 = 82.46."""
    matrix, losses = rho(600_000_000), [100_000_000, 80_000_000]
    assert left(losses, [1, -1], matrix) == 82_462_113
    assert left(losses, [1, 1], matrix) == 161_245_155
    capped = msgspec.structs.replace(WHOLE, most_share_ppb=400_000_000)
    assert left(losses, [1, -1], matrix, capped) == 108_000_000  # 180 less 40 %


def test_one_unit_and_a_loss_without_direction_offset_nothing() -> None:
    assert left([7_000, 0], [1, 0], rho(0)) == 7_000
    assert left([7_000, 5_000], [1, 0], rho(0)) == 12_000
    assert left([3_000, 4_000, 500], [1, 1, 0], rho(0, 0, 0)) == 5_500


def random_pools(seed: int, pools: int) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Losses of every size, directions, and a matrix that is a correlation of something."""
    dice = random.Random(seed)
    units = dice.randint(2, 5)
    rows = [[dice.gauss(0, 1) for _ in range(units)] for _ in range(7)]
    gram = np.array(rows).T @ np.array(rows)
    scale = np.sqrt(np.diag(gram))
    matrix = np.rint(gram / scale[:, None] / scale[None, :] * E9).astype(np.int64)
    losses = [
        [dice.choice([0, 1, dice.randrange(10 ** dice.randint(1, 16))]) for _ in range(units)]
        for _ in range(pools)
    ]
    ways = [[dice.choice([-1, 0, 1, 1]) for _ in range(units)] for _ in range(pools)]
    return np.array(losses, np.int64), np.array(ways, np.int64), matrix


@pytest.mark.parametrize("seed", range(4))
def test_random_pools_are_those_of_the_slow_twin(seed: int) -> None:
    losses, ways, matrix = random_pools(seed, POOLS // 4)
    dice = random.Random(seed)
    section = msgspec.structs.replace(
        WHOLE, most_share_ppb=dice.randrange(E9), most_usdc=dice.choice([0, 1000, 10**9])
    )
    for rules in (WHOLE, section):
        found = offsets_minor(rules, matrix, losses, ways)
        assert found.tolist() == [
            offset_minor(row, way, matrix.tolist(), rules.most_share_ppb, rules.most_usdc * 10**6)
            for row, way in zip(losses.tolist(), ways.tolist(), strict=True)
        ]


@pytest.mark.parametrize("seed", range(4))
def test_the_charge_is_between_the_exact_formula_and_the_sum(seed: int) -> None:
    """Rounded against the account: never below sqrt(sum rho d d L L), never above sum L."""
    losses, ways, matrix = random_pools(seed, 250)
    offset = offsets_minor(WHOLE, matrix, losses, ways)
    for p, (row, way) in enumerate(zip(losses.tolist(), ways.tolist(), strict=True)):
        assert 0 <= offset[p] <= sum(row)
        moving = [(d, loss, u) for u, (d, loss) in enumerate(zip(way, row, strict=True)) if d]
        exact = sum(
            (Fraction(int(matrix[u, v]), E9) * d * e * a * b for d, a, u in moving
             for e, b, v in moving), Fraction(0)
        )  # fmt: skip
        charged = sum(loss for _, loss, _ in moving) - int(offset[p])
        assert charged**2 >= exact
        if sum(row) > 0 and exact > 0:  # nor much above: what is cut off, twice
            slack = (2 * len(row) + 2) * (sum(row) // 2**29 + 2)
            assert max(0, charged - slack) ** 2 <= exact


@pytest.mark.parametrize("seed", range(4))
def test_a_wider_cap_never_raises_the_charge_and_no_offset_exceeds_its_cap(seed: int) -> None:
    losses, ways, matrix = random_pools(seed, 250)
    before = np.zeros(len(losses), np.int64)
    for share_ppb in (0, E9 // 10, E9 // 3, E9 // 2, E9):
        section = msgspec.structs.replace(WHOLE, most_share_ppb=share_ppb)
        found = offsets_minor(section, matrix, losses, ways)
        assert (found >= before).all()
        caps = [sum(row) * share_ppb // E9 for row in losses.tolist()]
        assert all(a <= b for a, b in zip(found.tolist(), caps, strict=True))
        before = found
    for most_usdc in (0, 1, 1000):
        section = msgspec.structs.replace(WHOLE, most_usdc=most_usdc)
        assert (offsets_minor(section, matrix, losses, ways) <= most_usdc * 10**6).all()


def needed(losses: Int64Array, scenario: Int64Array, worst: Int64Array) -> Requirements:
    none = np.zeros(len(losses), np.int64)
    return Requirements(worst, none, none, scenario, losses)


FACTORS = np.array([800_000_000, E9], np.int64)


def test_relief_is_the_difference_of_the_two_rounded_margins() -> None:
    """Unit losses of 500.5 each, wholly against each other, capped at 100."""
    losses, scenario = np.array([[2002, 2002]], np.int64), np.array([[0, 1]], np.int64)
    sign = np.array([[-1, 1]] * 2, np.int64)
    section = msgspec.structs.replace(WHOLE, most_share_ppb=100_000_000)
    two = np.array([2, 2], np.int64)
    found = relief_minor(
        section, rho(E9), needed(losses, scenario, np.array([1_001], np.int64)), two, sign, FACTORS
    )
    assert found.offset_minor.tolist() == [100]
    assert found.maintenance_minor.tolist() == [801 - 721]  # 800.8 and 720.8 rounded up
    assert found.initial_minor.tolist() == [100]


@pytest.mark.parametrize("pools", [1, 300, PARALLEL_POOLS + 300])
def test_relief_of_many_pools_is_that_of_their_losses_and_directions(pools: int) -> None:
    """Also by threads; a scenario beyond the moves (the basis) and none have no direction."""
    dice = np.random.default_rng(pools)
    losses = dice.integers(0, 10**15, (pools, 3)).astype(np.int64)
    scenario = dice.integers(-1, 5, (pools, 3)).astype(np.int64)
    sign = dice.integers(-1, 2, (3, 4)).astype(np.int64)
    exponent = np.array([0, 2, 5], np.int64)
    matrix = rho(600_000_000, -300_000_000, 100_000_000)
    minor = losses >> exponent
    way = np.array(
        [[sign[u, s] if 0 <= s < 4 else 0 for u, s in enumerate(row)] for row in scenario.tolist()],
        np.int64,
    )
    worst = minor.sum(axis=1) + 3
    found = relief_minor(WHOLE, matrix, needed(losses, scenario, worst), exponent, sign, FACTORS)
    offset = offsets_minor(WHOLE, matrix, minor, way)
    assert np.array_equal(found.offset_minor, offset)
    assert np.array_equal(found.initial_minor, offset)
    left = -(-(worst - offset) * 4 // 5)
    assert np.array_equal(found.maintenance_minor, -(-worst * 4 // 5) - left)


def test_unit_losses_add_up_to_the_worst_loss_of_a_pool() -> None:
    preset = load_preset("ps-1")
    venue = random_venue(preset, 5)
    table = risk_table(preset, venue.instruments, venue.matrix)
    asked = pool_requirements(table, random_positions(venue, 300, 5))
    exponents = table.risk_exponent.tolist()
    for losses, scenarios, worst in zip(
        asked.unit_loss.tolist(), asked.worst_scenario.tolist(), asked.worst_minor.tolist(),
        strict=True,
    ):  # fmt: skip
        whole = sum(Fraction(x, 2**e) for x, e in zip(losses, exponents, strict=True))
        assert -(-whole.numerator // whole.denominator) == worst
        assert all((s == -1) == (x == 0) for x, s in zip(losses, scenarios, strict=True))


def walked(section: CrossUnit, moves: list[tuple[int, int]]) -> CorrelationState:
    """A state after relative moves of two indices, one a period."""
    state = opening(section, np.array([10**12, 10**12], np.int64))
    price = [10**12, 10**12]
    step(section, state, 0, price, True)
    for number, pair in enumerate(moves, 1):
        price = [p * (E9 + m) // E9 for p, m in zip(price, pair, strict=True)]
        step(section, state, number * 60 * 10**9, price, True)
    return state


def test_indices_that_move_together_or_against_each_other_are_known_as_such() -> None:
    dice = random.Random(1)
    sizes = [dice.randint(-(10**7), 10**7) for _ in range(2000)]
    together = correlations_ppb(WHOLE, walked(WHOLE, [(m, 2 * m) for m in sizes]))
    against = correlations_ppb(WHOLE, walked(WHOLE, [(m, -m) for m in sizes]))
    assert together[0, 1] > 999_000_000
    assert against[0, 1] < -999_000_000
    drawn = msgspec.structs.replace(WHOLE, shrinkage_ppb=E9 // 2, toward_ppb=E9 // 2)
    state = walked(WHOLE, [(m, 2 * m) for m in sizes])
    assert correlations_ppb(drawn, state)[0, 1] == pytest.approx(E9 * 3 // 4, rel=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_correlations_are_those_of_the_slow_twin(seed: int) -> None:
    dice = random.Random(seed)
    section = msgspec.structs.replace(
        WHOLE, shrinkage_ppb=dice.randrange(E9), toward_ppb=dice.randrange(E9)
    )
    variance = [10**12, 3 * 10**12, 2 * 10**11]
    state = opening(section, np.array(variance, np.int64))
    twin = CorrelationTwin(
        variance, decay_ppb=section.decay_ppb, shrinkage_ppb=section.shrinkage_ppb,
        toward_ppb=section.toward_ppb,
    )  # fmt: skip
    price = [10**12, 4 * 10**11, 10**10]
    step(section, state, 0, price, True)
    for minute in range(1, 200):
        common = dice.randint(-(10**6), 10**6)
        before = price
        price = [p * (E9 + common + dice.randint(-(10**6), 10**6)) // E9 for p in price]
        step(section, state, minute * 60 * 10**9, price, True)
        moves = [(b - a) * E9 // a for a, b in zip(before, price, strict=True)]
        assert correlations_ppb(section, state).tolist() == twin.move(moves)


def test_it_opens_at_the_constant_and_learns_nothing_from_a_stale_index() -> None:
    section = msgspec.structs.replace(WHOLE, toward_ppb=600_000_000, shrinkage_ppb=E9 // 3)
    state = opening(section, np.array([4 * 10**12, 10**12], np.int64))
    assert correlations_ppb(section, state).tolist() == [[E9, 600_000_000], [600_000_000, E9]]
    assert not step(section, state, 0, [100, 100], False)
    assert state.period == -1
    assert not step(section, state, 0, [100, 100], True)
    assert not step(section, state, 10**9, [110, 110], True), "within a period"
    assert step(section, state, 60 * 10**9, [110, 110], True)


def test_moments_that_rounding_has_pushed_apart_are_a_correlation_all_the_same() -> None:
    """Products are rounded down, so that of opposite moves may come out larger than the squares."""
    moments = np.array([[100, -101], [-101, 100]], np.int64)
    state = CorrelationState(moments, np.zeros(2, np.int64))
    assert correlations_ppb(WHOLE, state).tolist() == [[E9, -E9], [-E9, E9]]


def after_a_gap(periods: int, moves: tuple[int, int]) -> Int64Array:
    """Moments after one relative move of each index over so many periods."""
    state = opening(WHOLE, np.array([10**12, 10**12], np.int64))
    step(WHOLE, state, 0, [10**12] * 2, True)
    price = [10**12 + 10**3 * move for move in moves]
    assert step(WHOLE, state, periods * 60 * 10**9, price, True)
    return state.moment_e18


def test_a_gap_counts_as_equal_moves_of_the_same_variance_and_no_more_than_64() -> None:
    """Up 6 % and down 3 % in nine minutes: nine times up 2 % and down 1 %."""
    moments = [[10**12, 0], [0, 10**12]]
    each = (20_000_000, -10_000_000)
    for _ in range(9):
        moments = [
            [(moments[i][j] * 990_000_000 + each[i] * each[j] * 10_000_000) // E9 for j in (0, 1)]
            for i in (0, 1)
        ]
    assert after_a_gap(9, (60_000_000, -30_000_000)).tolist() == moments
    long, longer = (after_a_gap(n, (60_000_000, -30_000_000)) for n in (64, 1_000))
    assert long.tolist() == longer.tolist()
