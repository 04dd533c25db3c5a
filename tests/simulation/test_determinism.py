"""The same story gives the same state hash, whatever the machine does differently."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.short_story import play_short_story

ROOT = Path(__file__).parents[2]
SEED, CYCLES, SHORT_CYCLES = 11, 60, 12
NO_VECTORS = "GLIBC_TUNABLES=glibc.cpu.hwcaps=" + ",".join(
    "-" + name for name in ("AVX", "AVX2", "FMA", "FMA4", "AVX512F", "SSE4_2", "ERMS")
)


def hash_in_process(cycles: int, *settings: str) -> str:
    """The hash that a fresh interpreter prints under these environment settings."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "PYTHONHASH"))}
    environment = inherited | dict(setting.split("=", 1) for setting in settings)
    command = [sys.executable, "-m", "tests.simulation.short_story", str(SEED), str(cycles)]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split()[0]) == cycles
    return done.stdout.split()[-1]


@pytest.fixture(scope="module")
def expected() -> str:
    """The hash of the story in this process."""
    engine, commands = play_short_story(SEED, CYCLES)
    assert commands > 30 * CYCLES
    assert len(engine.state.accounts.names) > 10
    return engine.state_hash().hex()


@pytest.mark.parametrize(
    "settings",
    [
        ("NUMBA_NUM_THREADS=1", "PYTHONHASHSEED=0"),
        ("NUMBA_NUM_THREADS=2", "PYTHONHASHSEED=1"),
        (NO_VECTORS, "PYTHONHASHSEED=7"),
    ],
    ids=["one thread", "two threads", "plain libm"],
)
def test_threads_hash_seeds_and_libm_change_nothing(
    expected: str, settings: tuple[str, ...]
) -> None:
    assert hash_in_process(CYCLES, *settings) == expected


@pytest.mark.long  # half a minute of compiling; the default run has margin's kernels so compiled
def test_compiled_for_a_generic_processor_it_is_the_same(
    expected: str, pytestconfig: pytest.Config
) -> None:
    assert pytestconfig.cache is not None
    cache = pytestconfig.cache.mkdir("numba-generic")
    settings = (f"NUMBA_CACHE_DIR={cache}", "NUMBA_CPU_NAME=generic", "NUMBA_CPU_FEATURES=")
    assert hash_in_process(CYCLES, *settings) == expected


def test_interpreted_it_is_the_same() -> None:
    engine, _ = play_short_story(SEED, SHORT_CYCLES)
    assert hash_in_process(SHORT_CYCLES, "NUMBA_DISABLE_JIT=1") == engine.state_hash().hex()


def test_another_seed_is_another_story() -> None:
    one, other = (play_short_story(seed, 2)[0].state_hash() for seed in (1, 2))
    assert one != other
