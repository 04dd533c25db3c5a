"""Requirements worked by hand: grid, tails and contingencies, positions and orders."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.pools.requirement import (
    OpenOrders,
    RiskTable,
    pool_requirements,
    requirement_with_orders,
    risk_table,
)
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, NEVER_NS, Instruments, Marks, Positions
from margin.presets import load_preset
from margin.scenarios.grid import scenario_matrix, scenarios_of
from tests.reference.random_portfolios import column

GRID_ONLY = msgspec.structs.replace(
    load_preset("ps-1"), skew=None, discount=None, basis=None, averaging=None
)
USDC = 10**6
BTC = 10**8


def _only(instrument: list[int], lots: list[int], coin_minor: list[int]) -> Positions:
    start = column([0, len(instrument)])
    return Positions(start, column(instrument), column(lots), np.array([coin_minor], np.int64))


def _worst(table: RiskTable, instrument: list[int], lots: list[int], coin: list[int]) -> int:
    return int(pool_requirements(table, _only(instrument, lots, coin)).worst_minor[0])


# Worked by hand: BTC at 100,000, futures at the index.
PERPETUAL, INVERSE_PERPETUAL, CALL = 0, 1, 2


@pytest.fixture(scope="module")
def worked() -> RiskTable:
    instruments = Instruments(
        kind=column([LINEAR, INVERSE, LINEAR_CALL]),
        unit=column([0, 0, 0]),
        expiry_ns=column([NEVER_NS, NEVER_NS, 1]),
        strike_e8=column([0, 0, 110_000 * 10**8]),
        lot_e8=column([10**5, 10 * 10**8, 10**8]),  # 0.001 BTC, 10 USD, 1 BTC
        strike_group=column([-1, -1, 4]),
    )
    spot = 100_000 * 10**8
    # an option at expiry: intrinsic value now and in every scenario
    everywhere = column([spot] * 3)
    volatility = column([0, 0, 10**9])
    marks = Marks(1, column([spot]), everywhere, everywhere, volatility, column([0, 0, 0]))
    scenarios = [scenarios_of(GRID_ONLY, "BTC")]
    matrix = scenario_matrix(GRID_ONLY, scenarios, instruments, marks, column([5]))
    return risk_table(GRID_ONLY, instruments, matrix)


def test_worked_example_linear_perpetual(worked: RiskTable) -> None:
    """Long 2 BTC: 200,000 x 16 % = 32,000; MM .8 x 32,000 + 1.5 %; IM 32,000 + 1.5 % + .5 %."""
    result = pool_requirements(worked, _only([PERPETUAL], [2_000], [0]))
    assert result.worst_minor[0] == 32_000 * USDC
    assert result.worst_scenario[0, 0] == 0
    assert result.maintenance_minor[0] == (25_600 + 3_000) * USDC
    assert result.initial_minor[0] == (32_000 + 3_000 + 1_000) * USDC


def test_worked_example_inverse_perpetual_with_coin_collateral(worked: RiskTable) -> None:
    """Short 100,000 USD against 1 BTC is flat in dollars: only the contingency on size stays."""
    hedged = pool_requirements(worked, _only([INVERSE_PERPETUAL], [-10_000], [BTC]))
    assert hedged.worst_minor[0] == 0
    assert hedged.worst_scenario[0, 0] == -1
    assert hedged.maintenance_minor[0] == 1_500 * USDC
    assert hedged.initial_minor[0] == 2_000 * USDC
    # Long against 1 BTC: both lose 16,000 when the coin falls.
    wrong_way = pool_requirements(worked, _only([INVERSE_PERPETUAL], [10_000], [BTC]))
    assert wrong_way.worst_minor[0] == 32_000 * USDC
    # A debt of half a coin is a short.
    assert _worst(worked, [], [], [-BTC // 2]) == 8_000 * USDC


def test_worked_example_short_call(worked: RiskTable) -> None:
    """3 short calls struck at 110,000, at expiry: worst is +50 % weighted .24, 40,000 x .24.

    Naked: .3 % and .2 % of 300,000.
    """
    result = pool_requirements(worked, _only([CALL], [-3], [0]))
    # +16 %: 6,000; +50 %: 9,600; +100 %: 90,000 x .12; +200 %: 190,000 x .06;
    # +300 %: 290,000 x .04; +400 %: 390,000 x .03; +500 %: 490,000 x .024 = 11,760, the largest
    assert result.worst_minor[0] == 3 * 11_760 * USDC
    assert result.worst_scenario[0, 0] == 34
    assert result.maintenance_minor[0] == (28_224 + 900) * USDC
    assert result.initial_minor[0] == (35_280 + 900 + 600) * USDC
    # bought back within the strike: nothing is naked
    assert pool_requirements(worked, _only([CALL], [3], [0])).initial_minor[0] == 0


def test_worked_example_orders(worked: RiskTable) -> None:
    """Buy 1 BTC at 101,000 while flat: 1,000 lost at once, 16,000 in the worst scenario."""
    loss = (100_000 - 101_000) * USDC * 2**5 // 1_000
    buy = OpenOrders(column([PERPETUAL]), column([1]), column([1_000]), column([loss]), column([0]))
    empty = column([])
    initial, maintenance = requirement_with_orders(worked, empty, empty, column([0]), buy)
    assert initial == (17_000 + 2_000) * USDC
    assert maintenance == (13_600 + 1_500) * USDC


def test_worked_example_inverse_order(worked: RiskTable) -> None:
    """Sell 100,000 USD at 80,000, mark 100,000: .25 coin lost at once, worth .25 x S (1 + m)."""
    loss_coin_e6 = 10 * (1 / 80_000 - 1 / 100_000) * 1e8 * 1e6
    sell = OpenOrders(
        column([INVERSE_PERPETUAL]), column([-1]), column([10_000]), column([0]),
        column([round(loss_coin_e6)]),
    )  # fmt: skip
    empty = column([])
    initial, _ = requirement_with_orders(worked, empty, empty, column([0]), sell)
    # +16 %: 25,000 x 1.16 + 16,000
    assert initial == (29_000 + 16_000 + 2_000) * USDC
