"""The small market that most worked examples of margin/README.md stand in, under any preset."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from margin.fixed_point import COIN_SCALE, PRICE_SCALE
from margin.pools.requirement import pool_requirements
from margin.pools.risk_table import RiskTable, risk_table
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR,
    LINEAR_PUT,
    NEVER_NS,
    Collateral,
    Instruments,
    Marks,
    Positions,
    unit_coins,
)
from margin.presets import load_preset
from margin.presets.preset import Preset
from margin.scenarios.grid import loss_multiple, risk_exponent, scenario_matrix, scenarios_of
from margin.valuation import option_marks
from tests.margin.readme_page import column

PS_1 = load_preset("ps-1")
DAY_NS = 86_400 * 10**9
INDEX = 100_000
EXPIRY_NS = 30 * DAY_NS

# On one index: a perpetual of 0.001 BTC; a put of 0.01 BTC, and the same put and a call struck at
# 110,000 settled in coin; an inverse perpetual of 10 USD.
INSTRUMENTS = Instruments(
    kind=column(LINEAR, LINEAR_PUT, INVERSE_PUT, INVERSE_CALL, INVERSE),
    unit=column(0, 0, 0, 0, 0),
    expiry_ns=column(NEVER_NS, EXPIRY_NS, EXPIRY_NS, EXPIRY_NS, NEVER_NS),
    strike_e8=column(0, 90_000 * PRICE_SCALE, 90_000 * PRICE_SCALE, 110_000 * PRICE_SCALE, 0),
    lot_e8=column(10**5, 10**6, 10**6, 10**6, 10 * PRICE_SCALE),
    strike_group=column(-1, 0, 0, 1, -1),
)
PERPETUAL, PUT, COIN_PUT, COIN_CALL = (0, 1000), (1, 100), (2, 100), (3, 100)  # lots of one coin
INVERSE_PERPETUAL = (4, 10_000)


def marks_at(price: int = INDEX, **others: object) -> Marks:
    """Index, futures and forwards at one price, options at a volatility of 0.50."""
    price_e8 = price * PRICE_SCALE
    option = INSTRUMENTS.is_option()
    marks = Marks(
        0, column(price_e8), np.where(option, 0, price_e8), column(*[price_e8] * 5),
        np.where(option, 5 * 10**8, 0), column(*[0] * 5),
    )  # fmt: skip
    marks = msgspec.structs.replace(marks, **others)
    marks.mark_e8[option] = option_marks(INSTRUMENTS, marks)[option]
    return marks


MARKS = marks_at()


def exponent_of(preset: Preset) -> int:
    """The risk exponent of BTC at the engine's bounds."""
    return risk_exponent(2**48, 256, loss_multiple(scenarios_of(preset, "BTC"), preset))


def table_of(preset: Preset, marks: Marks = MARKS, coins: Collateral | None = None) -> RiskTable:
    """The risk table of BTC."""
    matrix = scenario_matrix(
        preset,
        [scenarios_of(preset, "BTC")],
        INSTRUMENTS,
        marks,
        column(exponent_of(preset)),
        coins,
    )
    return risk_table(preset, INSTRUMENTS, matrix)


def charged_coin(preset: Preset) -> Collateral:
    """BTC as collateral, with the charges that a preset names for it."""
    maintenance, extra = preset.collateral_rates_ppb("BTC")
    return msgspec.structs.replace(
        unit_coins(MARKS), maintenance_ppb=column(maintenance), initial_extra_ppb=column(extra)
    )


class Margins(NamedTuple):
    """USDC minor units, and the index of the worst scenario."""

    worst: int
    initial: int
    maintenance: int
    scenario: int


TABLE = table_of(PS_1)


def held(*positions: tuple[int, int], coin: int = 0) -> Positions:
    """One pool: (slot, lots) in margin order, and 10^-8 coin."""
    rows = Positions(
        column(0, len(positions)), column(*(p[0] for p in positions)),
        column(*(p[1] for p in positions)), column(coin).reshape(1, 1),
    )  # fmt: skip
    rows.validate(INSTRUMENTS)
    return rows


def margins(*positions: tuple[int, int], coins: int = 0, table: RiskTable = TABLE) -> Margins:
    """Requirements of one pool of positions in margin order and whole coins."""
    found = pool_requirements(table, held(*positions, coin=coins * COIN_SCALE))
    return Margins(
        int(found.worst_minor[0]), int(found.initial_minor[0]), int(found.maintenance_minor[0]),
        int(found.worst_scenario[0, 0]),
    )  # fmt: skip


def short(of: tuple[int, int]) -> tuple[int, int]:
    """The same size sold."""
    return of[0], -of[1]
