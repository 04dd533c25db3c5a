"""A market of 980 instruments and pools that hold 20 of them, for the margin benchmarks."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from exchange.core import limits
from margin.invariant import Int64Array
from margin.pools.requirement import RiskTable, risk_table
from margin.portfolio import (
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    NO_STRIKE_GROUP,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.presets import load_preset
from margin.scenarios.grid import loss_multiple, risk_exponent, scenario_matrix, scenarios_of
from margin.valuation import option_marks

PRESET = load_preset("ps-1")
POSITIONS = 20
DAY_NS = 86_400 * 10**9
# Name, index in USD x 10^8, coins a lot x 10^8: a lot is worth 50 to 100 USD.
UNITS = (
    ("BTC", 100_000 * 10**8, 10**5),
    ("ETH", 4_000 * 10**8, 2 * 10**6),
    ("SOL", 200 * 10**8, 5 * 10**7),
    ("AVAX", 25 * 10**8, 2 * 10**8),
)
DAYS = (2, 9, 30, 120)
STRIKES = 30


class Market(NamedTuple):
    """What is listed and what it is worth."""

    instruments: Instruments
    marks: Marks


def market() -> Market:
    """Four units, each a perpetual and four expiries of a future and 30 strikes x call and put."""
    rows: list[tuple[int, ...]] = []  # kind, unit, expiry, strike, lot, group, forward
    group = 0
    for unit, (_, index, lot) in enumerate(UNITS):
        rows.append((LINEAR, unit, NEVER_NS, 0, lot, NO_STRIKE_GROUP, index))
        for days in DAYS:
            forward = index + index * days // 3650
            rows.append((LINEAR, unit, days * DAY_NS, 0, lot, NO_STRIKE_GROUP, forward))
            for n in range(STRIKES):
                strike = index * (60 + 3 * n) // 100
                for kind in (LINEAR_CALL, LINEAR_PUT):
                    rows.append((kind, unit, days * DAY_NS, strike, lot, group, forward))
                group += 1
    columns = [np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)]
    instruments = Instruments(*columns[:6])
    index_e8 = np.array([index for _, index, _ in UNITS], dtype=np.int64)
    volatility = np.full(len(rows), 600_000_000, dtype=np.int64)
    rate = np.full(len(rows), 40_000_000, dtype=np.int64)
    marks = Marks(0, index_e8, columns[6], columns[6], volatility, rate)
    return Market(instruments, with_premiums(instruments, marks))


def with_premiums(instruments: Instruments, marks: Marks) -> Marks:
    """The marks with the premiums that follow from forwards and volatilities."""
    premiums = option_marks(instruments, marks)
    return msgspec.structs.replace(
        marks, mark_e8=np.where(instruments.is_option(), premiums, marks.forward_e8)
    )


def a_moment_later(market: Market, move_ppm: int) -> Market:
    """Every price `move_ppm` millionths higher, five seconds later."""
    marks = market.marks
    moved = msgspec.structs.replace(
        marks,
        now_ns=marks.now_ns + 5 * 10**9,
        index_e8=marks.index_e8 + marks.index_e8 // 10**6 * move_ppm,
        forward_e8=marks.forward_e8 + marks.forward_e8 // 10**6 * move_ppm,
    )
    return Market(market.instruments, with_premiums(market.instruments, moved))


def table_of(market: Market) -> RiskTable:
    """PS-1 as a venue runs it: the risk exponent that the exchange's limits give."""
    scenarios = [scenarios_of(PRESET, name) for name, _, _ in UNITS]
    exponent = risk_exponent(
        limits.POSITION_NOTIONAL_MINOR_MAX,
        limits.INSTRUMENTS_PER_UNIT_MAX,
        max(loss_multiple(unit) for unit in scenarios),
    )
    exponents = np.full(len(UNITS), exponent, dtype=np.int64)
    matrix = scenario_matrix(PRESET, scenarios, market.instruments, market.marks, exponents)
    return risk_table(PRESET, market.instruments, matrix)


def lot_value_e6(market: Market) -> Int64Array:
    """Value of a lot at its mark in 10^-6 minor units of USDC."""
    lot, mark = market.instruments.lot_e8, market.marks.mark_e8
    return np.array([int(a) * int(b) // 10**4 for a, b in zip(lot, mark, strict=True)], np.int64)


def book(market: Market, pools: int, seed: int = 1) -> Positions:
    """`pools` pools of 20 different instruments, long and short up to 100 lots, no coin cash."""
    random = np.random.default_rng(seed)
    listed = len(market.instruments)
    ranks = np.sort(random.integers(0, listed - POSITIONS + 1, (pools, POSITIONS)), axis=1)
    ranks += np.arange(POSITIONS)
    lots = random.integers(1, 101, pools * POSITIONS)
    lots *= random.choice(np.array([-1, 1]), pools * POSITIONS)
    return Positions(
        pool_start=np.arange(pools + 1, dtype=np.int64) * POSITIONS,
        instrument=margin_order(market.instruments)[ranks].reshape(-1),
        quantity_lots=lots.astype(np.int64),
        coin_minor=np.zeros((pools, len(UNITS)), dtype=np.int64),
    )
