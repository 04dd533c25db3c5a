"""Every benchmark runs in its short form and measured work that was really done.

The benchmarks themselves compare results with their baselines and raise where nothing happened;
here the rows are checked, and that the checks are alive.
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.benchmarks import bench_auction, bench_engine

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("bench_*.py"))
KEYS = {"name", "ours", "baseline", "unit", "ratio", "baseline_name", "conditions"}


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_complete_and_ratios_are_those_of_the_figures(name: str) -> None:
    rows: list[dict[str, Any]] = importlib.import_module(f"tests.benchmarks.{name}").run(quick=True)
    assert rows
    for row in rows:
        if "skipped" in row:
            assert row["skipped"] in row["conditions"]
            continue
        assert set(row) == KEYS
        for key in ("ours", "baseline", "ratio"):
            assert math.isfinite(row[key]), key
            assert row[key] > 0, key
        assert row["ratio"] == pytest.approx(row["ours"] / row["baseline"], rel=1e-6)
        assert row["unit"].endswith("/s") or row["unit"] in ("ms", "KiB")
        assert row["baseline_name"]
        assert row["conditions"]


def test_every_subsystem_that_has_a_goal_is_measured() -> None:
    measured = {"bench_auction", "bench_black76", "bench_engine", "bench_journal", "bench_margin",
                "bench_wire"}  # fmt: skip
    assert measured <= set(NAMES)


def test_an_engine_that_trades_nothing_is_no_result() -> None:
    with pytest.raises(AssertionError, match="nothing traded"):
        bench_engine.Market(risk_gate=True).check()


def test_both_entries_and_the_peer_get_the_same_work() -> None:
    flow = bench_engine.random_requests(seed=3, batches=2)
    assert len(flow) == 2 * bench_engine.BATCH_REQUESTS
    cancels = np.flatnonzero(flow.target >= 0)
    assert 0.2 < len(cancels) / len(flow) <= 0.25
    named = flow.target[cancels]
    assert (named < cancels).all(), "an order is cancelled after it was placed"
    assert len(np.unique(named)) == len(named)
    assert (flow.account[named] == flow.account[cancels]).all()
    _, single, refused = bench_engine.place_one_by_one(flow)
    _, columnar = bench_engine.place_in_columns(flow)
    assert refused == 0
    assert single.volume_lots == columnar.volume_lots > 0
    assert bench_engine.match_continuously(flow)[1] > 0


def test_the_numpy_auction_trades_what_the_auction_trades() -> None:
    sealed, terms = bench_auction.random_batch(seed=1, orders=2_000, books=5)
    fills = bench_auction.sorted_clear(sealed, terms)
    ours = bench_auction.compiled_clear(sealed, terms)
    assert fills.sum() == ours.sum() > 0
