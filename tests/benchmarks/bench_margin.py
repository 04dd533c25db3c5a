"""Revaluation of every pool: full passes, the drift screen, changed pools, memory.

Baselines are sparse matrix products of scipy in the same run; the screen and the changed pools are
held against the full pass that they replace.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse  # type: ignore[import-untyped]

from margin.fixed_point import PRICE_SCALE
from margin.invariant import Int64Array, check
from margin.pools import changed_pools, drift_screen, requirement
from margin.pools.changed_pools import renew_requirements
from margin.pools.collateral import base_of
from margin.pools.drift_bound import LotValues
from margin.pools.drift_screen import DriftScreen, PoolCash
from margin.pools.equity import equity
from margin.pools.requirement import Requirements, RiskTable, pool_requirements
from margin.pools.risk_table import EXPIRY, UNIT
from margin.portfolio import Positions
from margin.simulation import tail_mean
from margin.simulation.tail_mean import tail_means
from tests.benchmarks import collateral_rows, dynamic_rows
from tests.benchmarks.conditions import in_turn, machine, rates
from tests.benchmarks.margin_book import (
    POSITIONS,
    Market,
    a_moment_later,
    book,
    lot_value_e6,
    market,
    table_of,
)
from tests.reference.random_portfolios import first_pools

_INSTRUMENTS = 1_000
_SCENARIOS = 64
_TAIL = 2
_ROUNDS = 7
_BASELINE_SHARE = 20  # PS-1 by sparse products needs gigabytes: it gets a part of the pools
_QUIET_PPM = 100

Floats = npt.NDArray[np.float64]


def _sparse(positions: Positions, starts: Int64Array, instruments: int) -> scipy.sparse.csr_matrix:
    lots = positions.quantity_lots[: starts[-1]].astype(float)
    held = positions.instrument[: starts[-1]]
    return scipy.sparse.csr_matrix((lots, held, starts), shape=(len(starts) - 1, instruments))


def random_rows() -> Int64Array:
    """A dense matrix of 1,000 instruments x 64 scenarios."""
    random = np.random.default_rng(1)
    return random.integers(-(10**9), 10**9, (_INSTRUMENTS, _SCENARIOS)).astype(np.int64)


def random_book(pools: int) -> Positions:
    """Pools with 20 random positions each, in one risk unit."""
    random = np.random.default_rng(2)
    instrument = np.sort(random.integers(0, _INSTRUMENTS, (pools, POSITIONS)), axis=1)
    return Positions(
        pool_start=np.arange(pools + 1, dtype=np.int64) * POSITIONS,
        instrument=instrument.astype(np.int64).reshape(-1),
        quantity_lots=random.integers(-100, 101, pools * POSITIONS).astype(np.int64),
        coin_minor=np.zeros((pools, 1), dtype=np.int64),
    )


def _scipy_tail_means(held: scipy.sparse.csr_matrix, rows: Floats) -> tuple[Floats, Floats]:
    """Lowest profit of every pool and the sum of its lowest two, in float64."""
    profits = held @ rows
    lowest = np.partition(profits, _TAIL - 1, axis=1)[:, :_TAIL]
    return lowest.min(axis=1), lowest.sum(axis=1)


def tail_row(pools: int, rounds: int) -> dict[str, Any]:
    """Worst loss and tail mean over 64 joint scenarios; every product is exact in float64 too."""
    rows, positions = random_rows(), random_book(pools)
    held, dense = _sparse(positions, positions.pool_start, _INSTRUMENTS), rows.astype(float)
    tail_mean.warm_up()
    ours, theirs = in_turn(
        rounds,
        lambda: tail_means(rows, positions, _TAIL),
        lambda: _scipy_tail_means(held, dense),
    )
    worst = np.maximum(0, -theirs.result[0])
    mean = np.maximum(0, -(theirs.result[1] // _TAIL))
    check(np.array_equal(worst, ours.result.worst), "benchmark: other worst losses")
    check(np.array_equal(mean, ours.result.tail_mean), "benchmark: other tail means")
    check((worst > 0).mean() > 0.99, "benchmark: nothing was at risk")
    return rates(
        "worst + tail mean", pools, "pools", ours, theirs, "scipy CSR @ dense, partition",
        f"{pools:,} pools x {POSITIONS} positions x {_SCENARIOS} scenarios, {_INSTRUMENTS:,} "
        f"instruments, tail of {_TAIL}",
    )  # fmt: skip


def scipy_worst_quanta(table: RiskTable, positions: Positions) -> Int64Array:
    """Worst loss by sparse products, in quanta: groups of one expiry summed with both rows.

    The same model as `margin.pools.expiry_groups`, for rows of two halves, no coin cash and linear
    discounts whose lower row counts.
    """
    pool = np.repeat(np.arange(positions.pool_count), np.diff(positions.pool_start))
    terms = table.terms[positions.instrument]
    key = np.stack((pool, terms[:, EXPIRY]))
    new_group = np.flatnonzero(np.append(True, (np.diff(key) != 0).any(axis=0)))
    starts = np.append(new_group, len(pool))
    held = _sparse(positions, starts, len(table.terms))
    width = table.rows.shape[1] // 2
    rows = table.rows.astype(float)
    group = np.minimum(held @ rows[:, :width], held @ rows[:, width:])
    spot, skew = table.shape.regular, table.shape.regular + table.shape.skews
    group[:, spot:skew] = -np.abs(group[:, spot:skew])
    group[:, skew] = np.minimum(0, group[:, skew])  # the basis: move down, move up
    group = group[:, : skew + 1]
    key = np.stack((pool[new_group], terms[new_group, UNIT]))
    new_unit = np.flatnonzero(np.append(True, (np.diff(key) != 0).any(axis=0)))
    lowest = np.minimum(0, np.add.reduceat(group, new_unit, axis=0).min(axis=1))
    worst = np.zeros(positions.pool_count)
    np.add.at(worst, key[0][new_unit], -lowest)
    return worst.astype(np.int64)


def full_row(table: RiskTable, positions: Positions, rounds: int) -> dict[str, Any]:
    """PS-1 whole: requirements of every pool, against its worst loss alone by scipy."""
    part = first_pools(positions, max(1, positions.pool_count // _BASELINE_SHARE))
    requirement.warm_up()
    ours, theirs = in_turn(
        rounds,
        lambda: pool_requirements(table, positions),
        lambda: scipy_worst_quanta(table, part),
    )
    exponent = int(table.risk_exponent[0])
    worst = -(-theirs.result >> exponent)
    needed: Requirements = ours.result
    check(np.array_equal(worst, needed.worst_minor[: len(worst)]), "benchmark: other worst losses")
    check((needed.worst_minor > 0).mean() > 0.99, "benchmark: nothing was at risk")
    check((needed.initial_minor > needed.worst_minor).all(), "benchmark: no contingencies")
    groups = table.terms[positions.instrument[: len(part.instrument)], EXPIRY].reshape(
        -1, POSITIONS
    )
    held = 1 + (np.diff(groups, axis=1) != 0).sum(axis=1).mean()
    return rates(
        "PS-1, full pass", positions.pool_count, "pools", ours, theirs,
        "scipy CSR @ dense, worst only",
        f"{positions.pool_count:,} pools x {POSITIONS} positions in 4 units ({held:.1f} expiry "
        f"groups), {len(table.terms)} instruments, {table.shape.regular} spot scenarios, "
        f"{table.shape.skews} skews, basis; IM and MM; scipy on {part.pool_count:,} pools",
        part.pool_count,
    )  # fmt: skip


def pool_cash(initial: Int64Array, value: Int64Array, seed: int = 3) -> PoolCash:
    """USDC that gives pools 0.99 to 4 times their initial margin."""
    random = np.random.default_rng(seed)
    equity_minor = initial * random.integers(990, 4_000, len(initial)) // 1_000
    none = np.zeros(1, dtype=np.int64)
    return PoolCash((equity_minor - value)[:, None], none + PRICE_SCALE, none)


def drift_row(now: Market, positions: Positions, rounds: int) -> dict[str, Any]:
    """A quiet cycle, equity included, by the drift screen and by the full pass."""
    table, later = table_of(now), a_moment_later(now, _QUIET_PPM)
    pools = positions.pool_count
    none = np.zeros(len(table.terms), np.int64)
    held = np.add.reduceat(
        positions.quantity_lots * lot_value_e6(now)[positions.instrument] // 10**6,
        positions.pool_start[:-1],
    )
    cash = pool_cash(pool_requirements(table, positions).initial_minor, held)
    screen, changed = DriftScreen(), np.zeros(0, np.int64)
    drift_screen.warm_up()
    first = screen.update(table, positions, changed, LotValues(lot_value_e6(now), none), cash)
    check(len(first.scanned) == pools, "benchmark: the first pass is not full")
    later_table, values = table_of(later), LotValues(lot_value_e6(later), none)

    def whole() -> tuple[Requirements, Int64Array]:
        needed = pool_requirements(later_table, positions)
        value = first.equity_minor[:, None] - cash.cash_minor
        return needed, equity(cash.cash_minor, value, cash.index_e8, base_of(cash.haircuts))

    ours, theirs = in_turn(
        rounds,
        lambda: screen.update(later_table, positions, changed, values, cash),
        whole,
    )
    quiet, needed = ours.result, theirs.result[0]
    for bound, exact in ((quiet.initial_minor, needed.initial_minor),
                         (quiet.maintenance_minor, needed.maintenance_minor)):  # fmt: skip
        same = (quiet.equity_minor < bound) == (quiet.equity_minor < exact)
        check(same.all(), "benchmark: the screen decided otherwise")
    check((needed.initial_minor != first.initial_minor).mean() > 0.9, "benchmark: nothing moved")
    check(0 < len(quiet.scanned) < pools // 10, "benchmark: not a quiet cycle")
    return rates(
        "drift screen, quiet cycle", pools, "pools", ours, theirs, "full pass",
        f"{pools:,} pools x {POSITIONS} positions, marks {_QUIET_PPM} ppm away, equity marked "
        f"exactly, {len(quiet.scanned):,} pools scanned",
    )  # fmt: skip


def changed_row(table: RiskTable, positions: Positions, rounds: int) -> dict[str, Any]:
    """One pool in a hundred traded: its requirements again, against all again."""
    pools = positions.pool_count
    changed = np.flatnonzero(np.random.default_rng(4).random(pools) < 0.01).astype(np.int64)
    lots = positions.quantity_lots.copy()
    lots[positions.pool_start[changed]] += 50
    traded = Positions(positions.pool_start, positions.instrument, lots, positions.coin_minor)
    known = pool_requirements(table, positions)
    changed_pools.warm_up()
    ours, theirs = in_turn(
        rounds,
        lambda: renew_requirements(table, traded, changed, known),
        lambda: pool_requirements(table, traded),
    )
    for renewed, exact in zip(known, theirs.result, strict=True):
        check(np.array_equal(renewed, exact), "benchmark: changed pools differ")
    return rates(
        "1 % changed pools", pools, "pools", ours, theirs, "full pass",
        f"{len(changed):,} of {pools:,} pools x {POSITIONS} positions, gathered and scanned, "
        "results written into the arrays of all",
    )  # fmt: skip


def _peak_bytes(work: Callable[[], Any]) -> int:
    """The most memory that `work` held at a time beyond what was there."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def memory_row(pools: int) -> dict[str, Any]:
    """Memory of positions, results and scratch of one pass, a pool."""
    rows, positions = random_rows(), random_book(pools)
    ours = sum(column.nbytes for column in (
        positions.pool_start, positions.instrument, positions.quantity_lots, positions.coin_minor,
    ))  # fmt: skip
    ours += _peak_bytes(lambda: tail_means(rows, positions, _TAIL))
    held, dense = _sparse(positions, positions.pool_start, _INSTRUMENTS), rows.astype(float)
    theirs = held.data.nbytes + held.indices.nbytes + held.indptr.nbytes
    theirs += _peak_bytes(lambda: _scipy_tail_means(held, dense))
    return {
        "name": "memory a pool",
        "ours": ours / pools / 1024,
        "baseline": theirs / pools / 1024,
        "unit": "KiB",
        "ratio": ours / theirs,
        "baseline_name": "scipy CSR @ dense",
        "conditions": f"positions, results and scratch of worst + tail mean, {pools:,} pools x "
        f"{POSITIONS} positions x {_SCENARIOS} scenarios; {ours / pools * 1e6 / 2**20:,.0f} MiB "
        f"a million pools against {theirs / pools * 1e6 / 2**20:,.0f}; {machine()}",
    }


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Rows for the benchmark table; `quick` for a smoke test."""
    pools, rounds = (20_000, 2) if quick else (1_000_000, _ROUNDS)
    rows = [tail_row(pools, rounds), memory_row(min(pools, 200_000))]
    now = market()
    table, positions = table_of(now), book(now, pools)
    rows.append(full_row(table, positions, rounds))
    rows.append(drift_row(now, positions, rounds))
    rows.append(changed_row(table, positions, rounds))
    rows += dynamic_rows.rows(table, positions, rounds)
    return rows + collateral_rows.rows(pools, rounds)


if __name__ == "__main__":
    for row in run():
        print(row)
