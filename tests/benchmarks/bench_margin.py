"""Revaluation of every pool: the kernel against a sparse matrix product in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import scipy.sparse  # type: ignore[import-untyped]

from margin.invariant import Int64Array, check
from margin.portfolio import LINEAR, NEVER_NS, NO_STRIKE_GROUP, Instruments, Positions
from margin.presets import load_preset
from margin.requirement import RiskTable, pool_requirements, risk_table
from margin.scenarios import ScenarioMatrix

_INSTRUMENTS = 1_000
_SCENARIOS = 64
_POSITIONS = 20
_REPEATS = 7


def _seconds(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Best and median time of several runs, and the result of the last."""
    times, result = [], None
    for _ in range(_REPEATS):
        begin = time.perf_counter()
        result = work()
        times.append(time.perf_counter() - begin)
    return min(times), statistics.median(times), result


def _case(pools: int) -> tuple[RiskTable, Positions, Int64Array]:
    """A random matrix, and pools with 20 random positions each; one risk unit."""
    random = np.random.default_rng(1)
    zero = np.zeros(_INSTRUMENTS, dtype=np.int64)
    instruments = Instruments(
        kind=zero + LINEAR,
        unit=zero,
        expiry_ns=zero + NEVER_NS,
        strike_e8=zero,
        lot_e8=zero + 1,
        strike_group=zero + NO_STRIKE_GROUP,
    )
    long = random.integers(-(10**9), 10**9, (_INSTRUMENTS, _SCENARIOS)).astype(np.int64)
    coin = np.zeros((1, _SCENARIOS), dtype=np.int64)
    charge = zero + 10**7
    matrix = ScenarioMatrix(
        long, -long, coin, coin[:, 0].copy(), charge, charge, zero, zero, zero[:1]
    )
    instrument = np.sort(random.integers(0, _INSTRUMENTS, (pools, _POSITIONS)), axis=1)
    positions = Positions(
        pool_start=np.arange(pools + 1, dtype=np.int64) * _POSITIONS,
        instrument=instrument.astype(np.int64).reshape(-1),
        quantity_lots=random.integers(-100, 101, pools * _POSITIONS).astype(np.int64),
        coin_minor=np.zeros((pools, 1), dtype=np.int64),
    )
    return risk_table(load_preset("ps-1"), instruments, matrix), positions, long


def run(quick: bool = False) -> list[dict[str, Any]]:
    """Pools revalued per second: worst loss, its scenario, IM and MM against scipy's worst alone.

    scipy multiplies a compressed-row matrix of positions by the dense scenario matrix in float64
    and takes the minimum; every product here is below 2^53, so the two must agree exactly.
    """
    pools = 50_000 if quick else 1_000_000
    table, positions, long = _case(pools)
    pool_requirements(table, positions)
    ours_seconds, ours_median, requirements = _seconds(lambda: pool_requirements(table, positions))
    held = scipy.sparse.csr_matrix(
        (positions.quantity_lots.astype(float), positions.instrument, positions.pool_start),
        shape=(pools, _INSTRUMENTS),
    )
    scenarios = long.astype(float)
    baseline_seconds, baseline_median, lowest = _seconds(lambda: (held @ scenarios).min(axis=1))
    worst = np.maximum(0.0, -lowest).astype(np.int64)
    check(np.array_equal(worst, requirements.worst_minor), "benchmark: the two disagree")
    check((worst > 0).mean() > 0.99, "benchmark: nothing was at risk")
    check((requirements.initial_minor > worst).all(), "benchmark: no contingencies")
    return [
        {
            "name": "revalue pools",
            "ours": pools / ours_seconds / 1e6,
            "baseline": pools / baseline_seconds / 1e6,
            "unit": "M pools/s",
            "ratio": baseline_seconds / ours_seconds,
            "baseline_name": "scipy CSR @ dense, min",
            "conditions": (
                f"{pools:,} pools x {_POSITIONS} positions x {_SCENARIOS} scenarios, "
                f"{_INSTRUMENTS:,} instruments, {numba.get_num_threads()} threads, "
                f"entries below 2^31, best (median) of {_REPEATS}; "
                f"ours {ours_seconds * 1e3:.1f} ({ours_median * 1e3:.1f}) ms with IM and MM, "
                f"scipy {baseline_seconds * 1e3:.1f} ({baseline_median * 1e3:.1f}) ms without"
            ),
        }
    ]


if __name__ == "__main__":
    for row in run():
        print(row)
