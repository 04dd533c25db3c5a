from __future__ import annotations

import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.portfolio import Positions
from margin.simulation import tail_mean
from margin.simulation.tail_mean import tail_means
from margin.simulation.tail_measures import tail_of, tail_weights
from tests.reference.random_portfolios import column


def book(pools: int, instruments: int, seed: int) -> Positions:
    """Pools of 0 to 11 positions, an instrument possibly twice."""
    random = np.random.default_rng(seed)
    sizes = random.integers(0, 12, pools)
    start = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    instrument = random.integers(0, instruments, start[-1]).astype(np.int64)
    lots = random.integers(-(10**5), 10**5, start[-1]).astype(np.int64)
    return Positions(start, instrument, lots, np.zeros((pools, 1), np.int64))


@pytest.mark.parametrize("tail", [1, 2, 7, 40])
def test_the_tail_mean_is_the_mean_of_the_largest_losses(tail: int) -> None:
    random = np.random.default_rng(tail)
    rows = random.integers(-(10**9), 10**9, (30, 40)).astype(np.int64)
    positions = book(300, 30, tail)
    result = tail_means(rows, positions, tail)
    for p in range(300):
        held = slice(int(positions.pool_start[p]), int(positions.pool_start[p + 1]))
        profits = [0] * 40
        for i, lots in zip(
            positions.instrument[held].tolist(), positions.quantity_lots[held].tolist(), strict=True
        ):
            profits = [a + lots * b for a, b in zip(profits, rows[i].tolist(), strict=True)]
        losses = sorted((-x for x in profits), reverse=True)
        assert result.worst[p] == max(0, losses[0])
        assert result.tail_mean[p] == max(0, -(-sum(losses[:tail]) // tail))
    assert (result.worst > 0).mean() > 0.8


def test_equal_losses_are_counted_one_by_one() -> None:
    rows = column([[-5, -5, -5, -2, 0, 9, 9, 9]])
    positions = Positions(column([0, 1]), column([0]), column([1]), column([[0]]))
    assert [int(tail_means(rows, positions, k).tail_mean[0]) for k in range(1, 9)] == [
        5, 5, 5, 5, 4, 2, 0, 0,
    ]  # fmt: skip


def test_it_is_the_expected_shortfall_of_equal_weights() -> None:
    random = np.random.default_rng(4)
    rows = random.integers(-(10**9), 10**9, (20, 40)).astype(np.int64)
    positions = book(100, 20, 4)
    weight, tail = tail_weights(np.ones(40, np.int64), 950_000_000)
    ours = tail_means(rows, positions, 2).tail_mean
    for p in range(100):
        held = slice(int(positions.pool_start[p]), int(positions.pool_start[p + 1]))
        profits = positions.quantity_lots[held] @ rows[positions.instrument[held]]
        assert ours[p] == max(0, tail_of(profits, weight, tail)[1])


def test_threads_and_narrow_rows_give_the_serial_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(5).integers(-(2**31), 2**31, (50, 64)).astype(np.int64)
    positions = book(3_000, 50, 5)
    serial = tail_means(rows, positions, 3)
    monkeypatch.setattr(tail_mean, "PARALLEL_POOLS", 0)
    monkeypatch.setattr("margin.pools.risk_table._READS_PER_ROW", 0)
    parallel = tail_means(rows, positions, 3)
    for one, other in zip(serial, parallel, strict=True):
        assert (one == other).all()


@pytest.mark.parametrize("tail", [0, 9])
def test_a_tail_of_no_or_too_many_scenarios_breaks(tail: int) -> None:
    with pytest.raises(InvariantBroken, match="number of scenarios"):
        tail_means(np.zeros((1, 8), np.int64), book(3, 1, 1), tail)
