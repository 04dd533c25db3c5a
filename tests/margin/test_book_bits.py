"""A book of 10,000 pools, marked and margined: the same bytes in every mode of execution."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from margin.pools.requirement import equity, pool_requirements, risk_table
from margin.presets import load_preset
from margin.valuation import option_marks
from tests.reference.random_portfolios import CLASSES, column, random_positions, random_venue

ROOT = Path(__file__).parents[2]
POOLS, FEW_POOLS = 10_000, 100
NO_VECTORS = "GLIBC_TUNABLES=glibc.cpu.hwcaps=" + ",".join(
    "-" + name for name in ("AVX", "AVX2", "FMA", "FMA4", "AVX512F", "SSE4_2", "ERMS")
)


def book_digest(pools: int) -> str:
    """Digest of premiums, scenario rows, requirements, worst scenarios and equity.

    The book is drawn from integers and uniform numbers: other distributions would bring the last
    bits of the C library in.
    """
    preset = load_preset("ps-1")
    venue = random_venue(preset, 23)
    positions = random_positions(venue, pools, 23)
    digest = hashlib.sha256(positions.quantity_lots.tobytes())
    premiums = option_marks(venue.instruments, venue.marks)
    table = risk_table(preset, venue.instruments, venue.matrix)
    needed = pool_requirements(table, positions)
    assert (needed.worst_minor > 0).mean() > 0.8
    cash = np.concatenate((needed.initial_minor[:, None], positions.coin_minor), axis=1)
    prices = np.concatenate((column([10**8]), venue.marks.index_e8))
    haircuts = np.array([0, *(50_000_000 for _ in CLASSES)])
    equity_minor = equity(cash, np.zeros_like(cash), prices, haircuts)
    for part in (premiums, table.rows, table.terms, table.coin, *needed, equity_minor):
        digest.update(part.tobytes())
    return digest.hexdigest()


def _digest_in_process(pools: int, *settings: str) -> str:
    """The digest that a fresh interpreter computes under these environment settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("NUMBA_")}
    code = f"from tests.margin.test_book_bits import book_digest as d; print(d({pools}))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env=inherited | dict(setting.split("=", 1) for setting in settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def expected() -> str:
    return book_digest(POOLS)


@pytest.mark.parametrize(
    "setting",
    ["NUMBA_NUM_THREADS=1", "NUMBA_NUM_THREADS=2", NO_VECTORS],
    ids=["one thread", "two threads", "plain libm"],
)
def test_threads_and_libm_change_no_byte(expected: str, setting: str) -> None:
    assert _digest_in_process(POOLS, setting) == expected


def test_compiled_for_a_generic_processor_it_is_the_same(
    expected: str, pytestconfig: pytest.Config
) -> None:
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("numba-generic")
    settings = (f"NUMBA_CACHE_DIR={cache}", "NUMBA_CPU_NAME=generic", "NUMBA_CPU_FEATURES=")
    assert _digest_in_process(POOLS, *settings) == expected


def test_interpreted_a_hundred_pools_are_the_same() -> None:
    assert _digest_in_process(FEW_POOLS, "NUMBA_DISABLE_JIT=1") == book_digest(FEW_POOLS)


@pytest.mark.long
def test_interpreted_the_whole_book_is_the_same(expected: str) -> None:
    assert _digest_in_process(POOLS, "NUMBA_DISABLE_JIT=1") == expected


def test_the_digest_sees_a_single_pool() -> None:
    assert book_digest(FEW_POOLS) != book_digest(FEW_POOLS + 1)
