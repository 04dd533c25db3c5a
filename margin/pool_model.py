"""One pool under one model, with the sums that the requirement is made of kept.

This is the one place beside the engine that knows how a risk table is laid out: `margin.explain`
asks here for profit and loss per scenario, contingencies and a position's part of them, and gets
them from the kernels' own steps (`margin.risk_table`), never from a formula of its own.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit

from margin.book import Book, positions_of
from margin.fixed_point import PRICE_SCALE, USDC_SCALE
from margin.invariant import Int64Array
from margin.portfolio import INVERSE, Marks, Positions
from margin.preset import ONE_E9, Preset
from margin.requirement import pool_requirements
from margin.risk_table import (
    UNIT,
    RiskTable,
    add_coin,
    add_unit,
    risk_layout,
    risk_table,
)
from margin.scenarios import (
    MOST_RISK_EXPONENT,
    Scenarios,
    loss_multiple,
    lot_matrix,
    risk_exponent,
    scenario_grid,
    scenarios_of,
)

FRACTION_ONE: Final = 1 << MOST_RISK_EXPONENT
"""Exact sums are whole numbers of 1 / FRACTION_ONE minor units, whatever the risk exponent."""

_GROWTH: Final = 8  # how many times its notional a pool may grow by moves of its index
_E16_PER_MINOR: Final = PRICE_SCALE * PRICE_SCALE // USDC_SCALE
_SIDES: Final = ("down", "unchanged", "up")
_VOLATILITY_SIDES: Final = 3


class Cell(msgspec.Struct, frozen=True):
    """One scenario of a risk unit: `kind` grid or tail; `volatility` down, unchanged or up."""

    scenario: int
    name: str
    kind: str
    spot_move_e9: int
    volatility: str
    weight_e9: int


class UnitSums(NamedTuple):
    """Exact sums of one unit, in 1 / FRACTION_ONE minor units.

    `profit[S]` per scenario; `charge` and `extra`: maintenance and extra initial contingency.
    """

    profit: list[int]
    charge: int
    extra: int


def percent_text(fraction_e9: int) -> str:
    """A fraction x 10^9 as a percentage with its sign and no digit too many: -13.5 %."""
    whole, part = divmod(abs(fraction_e9), ONE_E9 // 100)
    digits = f"{whole}.{part:07d}".rstrip("0").rstrip(".")
    sign = "-" if fraction_e9 < 0 else "+" if fraction_e9 > 0 else ""
    return f"{sign}{digits} %"


def weight_text(weight_e9: int) -> str:
    """A weight x 10^9 to four places."""
    rounded = (weight_e9 + 50_000) // 100_000
    return f"{rounded // 10_000}.{rounded % 10_000:04d}"


def cells_of(preset: Preset, scenarios: Scenarios) -> tuple[Cell, ...]:
    """The scenarios of a unit with their names, in order."""
    regular = len(preset.grid.fraction_e9) * _VOLATILITY_SIDES
    rows = zip(
        scenarios.spot_move_e9.tolist(), scenarios.volatility_side.tolist(),
        scenarios.weight_e9.tolist(), strict=True,
    )  # fmt: skip
    cells = []
    for number, (move, side, weight) in enumerate(rows):
        volatility = _SIDES[side + 1]
        name = f"spot {percent_text(move)}, volatility {volatility}"
        if weight != ONE_E9:
            name += f", weight {weight_text(weight)}"
        kind = "grid" if number < regular else "tail"
        cells.append(Cell(number, name, kind, move, volatility, weight))
    return tuple(cells)


@njit(cache=True)
def _unit_sums(
    total: Int64Array,
    rows: Int64Array,
    stride: int,
    terms: Int64Array,
    options: bool,
    coin: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: int,
    unit: int,
) -> tuple[int, int]:
    """Fill `total[S]` with a unit's sums and return its contingencies: one turn of the pass."""
    begin: int = np.int64(0)  # type: ignore[assignment]
    while begin < len(instrument) and terms[instrument[begin], UNIT] != unit:
        begin += 1
    _, charge, extra = add_unit(
        total, rows, stride, terms, options, instrument, lots, begin, len(instrument), unit
    )
    if coin_minor != 0:
        add_coin(total, coin, unit, coin_minor)
    return charge, extra


def finest_exponent(preset: Preset, book: Book) -> int:
    """The finest risk exponent at which no sum of this pool can wrap, also after its index rose.

    `InvariantBroken` if the pool is too large for any.
    """
    of, marks = book.instruments, book.marks
    most = max(int(price) for price in marks.index_e8) // (PRICE_SCALE // USDC_SCALE) + 1
    lot, held = 1, 0
    for row in range(len(of)):
        index, size_e16 = int(marks.index_e8[int(of.unit[row])]), int(of.lot_e8[row])
        if int(of.kind[row]) == INVERSE:
            worth = size_e16 * index // int(marks.mark_e8[row]) // (PRICE_SCALE // USDC_SCALE) + 1
        else:
            worth = size_e16 * index // _E16_PER_MINOR + 1
        lots = abs(int(book.quantity_lots[row]))
        most, lot, held = max(most, lots * worth), max(lot, worth), held + (lots > 0)
    for unit, coin in enumerate(book.coin_of_unit):
        if coin > 0:
            amount = abs(int(book.cash_minor[coin])) * int(marks.index_e8[unit])
            most = max(most, amount // _E16_PER_MINOR + 1)
    multiple = max(loss_multiple(scenarios_of(preset, name)) for name in book.risk_classes)
    # a lot of what is not held has to fit as well
    return min(
        risk_exponent(_GROWTH * most, max(1, held), multiple),
        risk_exponent(_GROWTH * lot, 1, multiple),
    )


class PoolModel:
    """The engine at work on one book's instruments under one preset, all units on one exponent."""

    def __init__(self, preset: Preset, book: Book, exponent: int) -> None:
        self.preset, self.book, self.exponent = preset, book, exponent
        scenarios = [scenarios_of(preset, name) for name in book.risk_classes]
        self.cells = [cells_of(preset, unit) for unit in scenarios]
        exponents = np.full(len(scenarios), exponent, dtype=np.int64)
        self._grid = scenario_grid(preset, scenarios, exponents)
        self._layout = risk_layout(book.instruments)
        self.table = self.table_at(book.marks)

    def table_at(self, marks: Marks) -> RiskTable:
        """The risk table of the book's instruments at some marks."""
        of = self.book.instruments
        matrix = lot_matrix(self._grid, of, marks)
        return risk_table(self.preset, of, matrix, self._layout)

    def margins(self, book: Book) -> tuple[int, int, int]:
        """(worst, initial, maintenance) of a book of the same instruments, at its own marks."""
        needed = pool_requirements(self.table_at(book.marks), positions_of(book))
        return (
            int(needed.worst_minor[0]), int(needed.initial_minor[0]),
            int(needed.maintenance_minor[0]),
        )  # fmt: skip

    def sums(self, held: Positions, unit: int) -> UnitSums:
        """A unit's profit and loss per scenario and its contingencies, exact."""
        table = self.table
        total = np.zeros(table.rows.shape[1], dtype=np.int64)
        charge, extra = _unit_sums(
            total, table.rows, table.row_stride, table.terms, len(table.group_terms) > 0,
            table.coin, held.instrument, held.quantity_lots, held.coin_minor[0, unit], unit,
        )  # fmt: skip
        scale = 1 << (MOST_RISK_EXPONENT - self.exponent)
        profit = [value * scale for value in total[: len(self.cells[unit])].tolist()]
        return UnitSums(profit, int(charge) * scale, int(extra) * scale)

    def parts(self, unit: int, scenario: int) -> tuple[list[tuple[int, int]], int]:
        """What makes up a unit's profit and loss in one scenario, exact.

        Returns (row of the instrument, its part) of every position in margin order, and the part
        of coin cash. A scenario is a sum of rows times lots, so the part of a position (Euler's, of
        a function of degree one) is its own row; the parts add up to the scenario's sum.
        """
        held = positions_of(self.book)
        mine = [row for row in held.instrument.tolist()
                if int(self.book.instruments.unit[row]) == unit]  # fmt: skip
        parts = [
            (row, self.sums(positions_of(self.book, [row], coins=False), unit).profit[scenario])
            for row in mine
        ]
        coin = self.sums(positions_of(self.book, []), unit).profit[scenario]
        return parts, coin


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, dtype=np.int64), np.zeros((1, 1), dtype=np.int64)
    terms = np.array([[0, -1, 0, 0]], dtype=np.int64)
    _unit_sums(one.copy(), grid, 1, terms, False, grid, one, one, one[0], 0)
