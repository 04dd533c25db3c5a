"""Books for tests of explanations: a small one by hand and random ones, and their matrix."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from margin.book import Book, Conditions
from margin.portfolio import INVERSE, LINEAR, LINEAR_PUT, NEVER_NS, Instruments, Marks, unit_coins
from margin.presets import load_preset
from margin.presets.preset import Preset
from margin.reasons.explanation import Explanation
from margin.scenarios.grid import ScenarioMatrix, scenario_matrix, scenarios_of
from margin.valuation import option_marks
from tests.reference.random_portfolios import CLASSES, column, random_venue

PS_1 = load_preset("ps-1")
USDC, E8 = 10**6, 10**8
DAY_NS = 86_400 * 10**9
EXPONENT = 6


def small_book(*lots: int, usdc: int = 0, coin: float = 0.0) -> Book:
    """Whole coins of a perpetual, a put struck at 90,000 (30 days), thousands of USD inverse."""
    price = 100_000 * E8
    instruments = Instruments(
        kind=column([LINEAR, LINEAR_PUT, INVERSE]),
        unit=column([0, 0, 0]),
        expiry_ns=column([NEVER_NS, 30 * DAY_NS, NEVER_NS]),
        strike_e8=column([0, 90_000 * E8, 0]),
        lot_e8=column([E8, E8, 1_000 * E8]),
        strike_group=column([-1, 0, -1]),
    )
    marks = Marks(0, column([price]), column([price, 0, price]), column([price] * 3),
                  column([0, 5 * 10**8, 0]), column([0, 0, 0]))  # fmt: skip
    marks.mark_e8[1] = option_marks(instruments, marks)[1]
    held = [*lots, 0, 0, 0][:3]
    return Book(
        ("perpetual", "put", "inverse"), ("BTC",), ("BTC",), ("USDC", "BTC"), (1,), instruments,
        marks, column(held), column([usdc * USDC, round(coin * E8)]),
    )  # fmt: skip


def random_book(seed: int, preset: Preset = PS_1, doubtful: bool = False) -> Book:
    """A dozen positions on three units, coins of all of them long or short."""
    venue, random = random_venue(preset, seed, doubtful), np.random.default_rng(seed)
    count = len(venue.instruments)
    lots = np.zeros(count, np.int64)
    for row in random.choice(count, 12, replace=False).tolist():
        lots[row] = int(random.integers(-50, 51))
    cash = [int(random.integers(-(10**10), 10**11)), 0, int(random.integers(-(10**9), 10**9))]
    marks = msgspec.structs.replace(venue.marks, mark_e8=venue.marks.mark_e8.copy())
    option = venue.instruments.is_option()
    marks.mark_e8[option] = option_marks(venue.instruments, marks)[option]
    # the third unit has inverse contracts, and so must have a coin
    cash.append(int(random.integers(-(10**12), 10**12)))
    return Book(
        tuple(f"contract-{row}" for row in range(count)), CLASSES, CLASSES, ("USDC", *CLASSES),
        (1, 2, 3), venue.instruments, marks, lots, column(cash),
    )  # fmt: skip


def matrix_of(preset: Preset, book: Book) -> ScenarioMatrix:
    """The engine's matrix of a book, with what the preset charges on its coins."""
    scenarios = [scenarios_of(preset, name) for name in book.risk_classes]
    rates = [preset.collateral_rates_ppb(name) for name in book.unit_names]
    coins = msgspec.structs.replace(
        unit_coins(book.marks),
        maintenance_ppb=column([charge for charge, _ in rates]),
        initial_extra_ppb=column([extra for _, extra in rates]),
    )
    exponents = column([EXPONENT] * len(scenarios))
    return scenario_matrix(preset, scenarios, book.instruments, book.marks, exponents, coins)


def with_conditions(book: Book, **parts: Any) -> Book:
    """The book in a market of 1,000 million USDC a day at 60 %, batches of 5 s."""
    values: dict[str, Any] = {
        "volatility_e9": column([6 * 10**8]),
        "daily_volume_minor": column([10**9 * USDC]),
        "interval_ns": 5 * 10**9,
        "funding_rate_e9": column([0, 0, 0]),
        **parts,
    }
    return msgspec.structs.replace(book, conditions=Conditions(**values))


def check_sums(found: Explanation) -> None:
    assert sum(unit.loss_minor for unit in found.units) == found.worst_minor
    for unit in found.units:
        profits = [row.profit_minor for row in unit.scenarios]
        if unit.worst is None:
            assert min(profits, default=0) >= 0
            assert unit.loss_minor == 0
            continue
        assert profits[unit.worst.scenario] == min(profits)
        parts = sum(part.profit_minor for part in unit.positions)
        assert parts == profits[unit.worst.scenario], "the parts make up the worst scenario"
        assert parts == -unit.loss_minor, "and the loss, whose rounding all of them share"
    charges = (*found.charges, *found.add_ons)
    both = sum(charge.maintenance_minor for charge in charges)
    extra = sum(charge.initial_minor for charge in charges)
    assert found.scenario_maintenance_minor + both == found.maintenance_minor
    assert found.scenario_initial_minor + both + extra == found.initial_minor
    assert sum(part.counted_minor for part in found.collateral) == found.equity_minor
    for part in found.collateral:
        assert part.value_minor - part.haircut_minor == part.counted_minor
    assert found.equity_minor - found.call_initial_minor == found.call_distance_minor
    assert found.equity_minor - found.maintenance_minor == found.liquidation_distance_minor
