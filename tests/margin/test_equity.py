from __future__ import annotations

import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.pools.requirement import equity
from tests.reference import reference_margin
from tests.reference.random_portfolios import column

USDC = 10**6
BTC = 10**8
INDEX_E8 = column([10**8, 60_000 * 10**8 + 1, 12_345])
HAIRCUT_PPB = column([0, 50_000_000, 250_000_000])


def test_equity_deducts_haircuts_from_what_is_owned_and_not_from_what_is_owed() -> None:
    cash = np.array([[100 * USDC, 2 * BTC, 0], [100 * USDC, -2 * BTC, 0]], np.int64)
    options = np.array([[-30 * USDC, 0, 0], [-130 * USDC, 0, 0]], np.int64)
    index = column([10**8, 60_000 * 10**8, 12_345])
    assert equity(cash, options, index, HAIRCUT_PPB).tolist() == [
        70 * USDC + 114_000 * USDC,
        -30 * USDC - 120_000 * USDC,
    ]


def test_equity_equals_the_twin_to_the_minor_unit() -> None:
    random = np.random.default_rng(16)
    cash = random.integers(-(10**13), 10**13, (2_000, 3)).astype(np.int64)
    cash[:, 2] *= 10**4
    options = random.integers(-(10**12), 10**12, (2_000, 3)).astype(np.int64)
    got = equity(cash, options, INDEX_E8, HAIRCUT_PPB).tolist()
    for p in range(2_000):
        amounts = (cash[p] + options[p]).tolist()
        assert got[p] == reference_margin.equity(amounts, INDEX_E8.tolist(), HAIRCUT_PPB.tolist())


def test_equity_rounds_a_fraction_of_a_unit_against_the_pool() -> None:
    cash = np.array([[0, 1, 0], [0, -1, 0]], np.int64)
    index = column([10**8, 15_000 * 10**6, 1])
    none = column([0, 0, 0])
    assert equity(cash, cash * 0, index, none).tolist() == [1, -2]  # 1.5 units


def test_currency_0_must_be_worth_one_usdc() -> None:
    cash = np.zeros((1, 3), np.int64)
    with pytest.raises(InvariantBroken, match="currency 0"):
        equity(cash, cash, INDEX_E8 + 1, HAIRCUT_PPB)
