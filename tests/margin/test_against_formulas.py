"""The engine against the published formulas, computed another way, on random portfolios."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.pools.requirement import pool_requirements, risk_table
from margin.portfolio import (
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.presets import load_preset
from margin.presets.preset import Preset
from margin.scenarios.grid import scenario_matrix, scenarios_of
from tests.reference.random_portfolios import column
from tests.reference.reference_pmrm import Book, Option, margins

DAY_NS = 86_400 * 10**9
YEAR_NS = 365 * DAY_NS
SPOT = 60_000.0
LOT_E8 = 10**6
# The first expires in five minutes: most of its settlement mean is fixed.
EXPIRIES_NS = (300 * 10**9, 2 * DAY_NS, 31 * DAY_NS, 200 * DAY_NS)
STRIKES = (45_000, 58_000, 63_000, 90_000)
PS_1 = load_preset("ps-1")
# Constants at which every part is the worst at times.
EXTREME = msgspec.structs.replace(
    PS_1,
    skew=msgspec.structs.replace(PS_1.skew, linear_cap_e9=3 * 10**9, absolute_cap_e9=3 * 10**9),
    basis=msgspec.structs.replace(PS_1.basis, add_e9=4 * 10**9, per_year_e9=5 * 10**9),
    discount=msgspec.structs.replace(PS_1.discount, short_base_e9=3 * 10**9),
)


def _book(seed: int) -> Book:
    random = np.random.default_rng(seed)
    forward = {e / YEAR_NS: SPOT * float(random.uniform(0.97, 1.04)) for e in EXPIRIES_NS}
    options = [
        Option(
            EXPIRIES_NS[int(random.integers(4))] / YEAR_NS, STRIKES[int(random.integers(4))],
            bool(random.integers(2)), int(random.integers(-500, 500)) * LOT_E8 / 1e8,
            round(float(random.uniform(0.2, 1.5)), 6),
        )
        for _ in range(int(random.integers(0, 12)))
    ]  # fmt: skip
    futures = [
        (
            when,
            int(random.integers(-300, 300)) * LOT_E8 / 1e8,
            SPOT * float(random.uniform(0.9, 1.1)),
        )
        for when in (None, *forward)
        if random.integers(2)
    ]
    return Book(
        SPOT, round(float(random.uniform(0.0, 0.3)), 6), forward, options, futures,
        float(random.integers(-2, 3)), round(float(random.choice([1.0, 0.4])), 6),
        {years: round(float(random.choice([0.9, 0.2])), 6) for years in forward},
        float(random.choice([1.0, 0.9])),
    )  # fmt: skip


def _expiry_ns(years: float | None) -> int:
    return NEVER_NS if years is None else round(years * YEAR_NS)


def _of_engine(preset: Preset, book: Book) -> tuple[int, int]:
    rows = [
        (LINEAR, _expiry_ns(when), 0, coins, mark, 0.0, 1.0) for when, coins, mark in book.futures
    ]
    rows += [
        (LINEAR_CALL if o.is_call else LINEAR_PUT, _expiry_ns(o.years), o.strike, o.quantity,
         book.forward[o.years], o.volatility, book.confidence[o.years])
        for o in book.options
    ]  # fmt: skip
    strikes = sorted({(row[1], row[2]) for row in rows})
    instruments = Instruments(
        kind=column([row[0] for row in rows]),
        unit=column([0] * len(rows)),
        expiry_ns=column([row[1] for row in rows]),
        strike_e8=column([row[2] * 10**8 for row in rows]),
        lot_e8=column([LOT_E8] * len(rows)),
        strike_group=column([strikes.index((r[1], r[2])) if r[2] else -1 for r in rows]),
    )
    instruments.validate(1)
    price = column([round(row[4] * 1e8) for row in rows])
    marks = Marks(
        0, column([round(book.spot * 1e8)]), price, price,
        column([round(row[5] * 1e9) for row in rows]),
        column([round(book.rate * 1e9)] * len(rows)),
        column([round(book.spot_confidence * 1e9)]),
        column([round(row[6] * 1e9) for row in rows]), stable_e9=round(book.stable * 1e9),
    )  # fmt: skip
    scenarios = [scenarios_of(preset, "BTC")]
    table = risk_table(
        preset, instruments, scenario_matrix(preset, scenarios, instruments, marks, column([8]))
    )
    order = margin_order(instruments)
    lots = column([round(row[3] * 1e8) // LOT_E8 for row in rows])[order]
    coin = column([round(book.coin * 1e8)])
    positions = Positions(column([0, len(rows)]), order, lots, coin[None, :])
    positions.validate(instruments)
    result = pool_requirements(table, positions)
    return int(result.initial_minor[0]), int(result.maintenance_minor[0])


def _scenarios(preset: Preset) -> list[tuple[float, int, float]]:
    btc = scenarios_of(preset, "BTC")
    return [
        (move / 1e9, side, weight / 1e9)
        for move, side, weight in zip(
            btc.spot_move_e9.tolist(),
            btc.volatility_side.tolist(),
            btc.weight_e9.tolist(),
            strict=True,
        )
    ]


@pytest.mark.parametrize(("name", "preset"), [("ps-1", PS_1), ("extreme", EXTREME)])
def test_requirements_are_those_of_the_formulas(name: str, preset: Preset) -> None:
    for seed in range(60):
        book = _book(seed)
        initial, maintenance = margins(preset, book, _scenarios(preset))
        gross = sum(abs(o.quantity) for o in book.options) * SPOT
        gross += sum(abs(coins) for _, coins, _ in book.futures) * SPOT + abs(book.coin) * SPOT
        tolerance = max(2, gross * 1e6 * 1e-8)
        got = _of_engine(preset, book)
        assert abs(got[0] - initial * 1e6) <= tolerance, (name, seed)
        assert abs(got[1] - maintenance * 1e6) <= tolerance, (name, seed)
