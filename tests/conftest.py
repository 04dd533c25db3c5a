"""Fixtures for every folder of tests."""

from __future__ import annotations

import pytest

from tests.core.market import Market


@pytest.fixture
def market() -> Market:
    """The `tiny` venue, open at 100,000 dollars a bitcoin."""
    return Market()
