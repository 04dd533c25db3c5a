"""Fixtures for every folder of tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.core.market import Market

ROOT = Path(__file__).parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Compile the market's kernels once before several workers would each compile all of them."""
    workers = getattr(config.option, "numprocesses", None)
    if hasattr(config, "workerinput") or not isinstance(workers, int) or workers < 2:
        return
    cache = Path(os.environ.get("NUMBA_CACHE_DIR", ROOT / "margin"))
    if not any(cache.rglob("*.nbi")):
        from exchange.cli.warm_up import warm_up

        warm_up()


@pytest.fixture
def market() -> Market:
    """The `tiny` venue, open at 100,000 dollars a bitcoin."""
    return Market()
