"""A small market at round prices, and books of pools in it, for reverse stress."""

from __future__ import annotations

import numpy as np

from margin.invariant import Int64Array
from margin.pools.requirement import pool_requirements
from margin.pools.risk_table import risk_table
from margin.portfolio import (
    INVERSE,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
)
from margin.presets import load_preset
from margin.scenarios.grid import scenario_matrix, scenarios_of
from margin.stresses.reverse_stress import Pools
from margin.valuation import option_marks
from tests.reference.reference_add_ons import DAY_NS, column

PS_1 = load_preset("ps-1")
USDC = 10**6
COIN = 10**8
E9 = 10**9
BTC, ETH, INVERSE_BTC, PUT_90, PUT_80, CALL_120 = range(6)
INDEX_E8 = column([100_000, 4_000]) * 10**8

# BTC: a linear and an inverse perpetual, three options of 30 days; ETH: a perpetual. Lots are 0.001
# coin (ETH 0.01, the inverse 10 USD). Rows are in margin order of the slots 3, 4, 5, 0, 2, 1.
INSTRUMENTS = Instruments(
    kind=column([LINEAR, LINEAR, INVERSE, LINEAR_PUT, LINEAR_PUT, LINEAR_CALL]),
    unit=column([0, 1, 0, 0, 0, 0]),
    expiry_ns=column([NEVER_NS] * 3 + [30 * DAY_NS] * 3),
    strike_e8=column([0, 0, 0, 90_000, 80_000, 120_000]) * 10**8,
    lot_e8=column([10**5, 10**6, 10 * 10**8, 10**5, 10**5, 10**5]),
    strike_group=column([-1, -1, -1, 0, 1, 2]),
)
RANK = [PUT_80, PUT_90, CALL_120, BTC, INVERSE_BTC, ETH]


def _marks() -> Marks:
    index = INDEX_E8[INSTRUMENTS.unit]
    volatility = np.where(INSTRUMENTS.is_option(), E9 // 2, 0)
    marks = Marks(0, INDEX_E8, index.copy(), index.copy(), volatility, column([0] * 6))
    option = INSTRUMENTS.is_option()
    marks.mark_e8[option] = option_marks(INSTRUMENTS, marks)[option]
    return marks


MARKS = _marks()


def book(*pools: tuple[dict[int, int], int, int]) -> Pools:
    """Pools of (lots by slot, USDC, 10^-8 BTC); option premiums count as equity."""
    rows = [sorted(lots.items(), key=lambda row: RANK.index(row[0])) for lots, _, _ in pools]
    start = np.cumsum([0, *(len(pool) for pool in rows)]).astype(np.int64)
    slots, lots = (column([row[c] for pool in rows for row in pool]) for c in (0, 1))
    cash = np.array([[usd * USDC, coin, 0] for _, usd, coin in pools], np.int64)
    premium = np.zeros_like(cash)
    for p, pool in enumerate(rows):
        for slot, size in pool:
            if int(INSTRUMENTS.kind[slot]) >= LINEAR_CALL:
                lot = int(INSTRUMENTS.lot_e8[slot])
                premium[p, 0] += size * int(MARKS.mark_e8[slot]) * lot // 10**10
    coins = np.ascontiguousarray(cash[:, 1:])
    positions = Positions(start, slots, lots, coins)
    positions.validate(INSTRUMENTS)
    haircut = column([0, 50_000_000, 70_000_000])
    return Pools(INSTRUMENTS, MARKS, positions, cash, premium, haircut, column([1, 2]))


def maintenance_at(marks: Marks, positions: Positions) -> Int64Array:
    """Maintenance margin of PS-1, all of it computed again at the marks."""
    scenarios = [scenarios_of(PS_1, coin) for coin in ("BTC", "ETH")]
    matrix = scenario_matrix(PS_1, scenarios, INSTRUMENTS, marks, column([2, 2]))
    return pool_requirements(risk_table(PS_1, INSTRUMENTS, matrix), positions).maintenance_minor
