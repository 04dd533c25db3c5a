"""One pool under one model, with the sums that the requirement is made of kept.

This is the one place beside the engine that knows how a risk table is laid out:
`margin.reasons.explain` asks here for profit and loss per scenario, contingencies and a position's
part of them, and gets them from the kernels' own steps (`margin.pools.group_sums`,
`margin.pools.steps`), never from a formula of its own. A table of one half is a table of groups
that are whole units, so one path serves both.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
import numpy as np
from numba import njit

from margin.book import Book, positions_of
from margin.fixed_point import PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array
from margin.pools.expiry_groups import column_bounds
from margin.pools.group_sums import add_group, sum_groups
from margin.pools.requirement import Requirements, pool_requirements
from margin.pools.risk_table import EXPIRY, UNIT, RiskTable, RowShape, risk_layout, risk_table
from margin.pools.steps import add_coins
from margin.portfolio import CERTAIN_PPB, INVERSE, Collateral, Marks, Positions
from margin.presets.preset import Preset
from margin.scenarios.grid import (
    MOST_RISK_EXPONENT,
    ScenarioGrid,
    Scenarios,
    loss_multiple,
    lot_matrix,
    risk_exponent,
    scenario_grid,
    scenarios_of,
)
from margin.scenarios.listed import SIDE_ABSOLUTE_SKEW, SIDE_LINEAR_SKEW, SIDE_UP, listed_order

FRACTION_ONE: Final = 1 << MOST_RISK_EXPONENT
"""Exact sums are whole numbers of 1 / FRACTION_ONE minor units, whatever the risk exponent."""

GRID: Final = "grid"
TAIL: Final = "tail"
SKEW: Final = "skew"
BASIS: Final = "basis"
FLOOR: Final = "floor"

_GROWTH: Final = 8  # how many times its notional a pool may grow by moves of its index
_E16_PER_MINOR: Final = PRICE_SCALE * PRICE_SCALE // USDC_SCALE
_SIDES: Final = ("down", "unchanged", "up")
_SKEW_SIDES: Final = {SIDE_LINEAR_SKEW: "linear", SIDE_ABSOLUTE_SKEW: "absolute"}
_UNIT, _BETTER, _CHARGE, _EXTRA = range(4)  # columns of the groups that `sum_groups` fills
_BASIS_NAME: Final = "the worse basis of every expiry"
_FLOOR_NAME: Final = "floor on delta"


class Cell(msgspec.Struct, frozen=True):
    """One scenario of a risk unit: `kind` grid, tail, skew, basis or floor.

    `volatility` is down, unchanged or up, in a skew linear or absolute.
    """

    scenario: int
    name: str
    kind: str
    spot_move_e9: int
    volatility: str
    weight_e9: int


class UnitSums(NamedTuple):
    """Exact sums of one unit, in 1 / FRACTION_ONE minor units.

    `profit[S]` per scenario, basis or floor last; `charge` and `extra`: maintenance and extra
    initial contingency.
    """

    profit: list[int]
    charge: int
    extra: int


class _Sums(NamedTuple):
    """What the kernels add up for a pool, in quanta.

    `rows[g, halves x columns]` of every expiry, `groups[g, 4]` its unit, whether its better half
    counts, and its contingencies; `total[U, columns]` with coin cash, `coins[U, columns]` of coin
    cash alone; `charges[U, 2]`.
    """

    rows: Int64Array
    groups: Int64Array
    total: Int64Array
    coins: Int64Array
    charges: Int64Array


def percent_text(fraction_e9: int) -> str:
    """A fraction x 10^9 as a percentage with its sign and no digit too many: -13.5 %."""
    whole, part = divmod(abs(fraction_e9), RATE_SCALE // 100)
    digits = f"{whole}.{part:07d}".rstrip("0").rstrip(".")
    sign = "-" if fraction_e9 < 0 else "+" if fraction_e9 > 0 else ""
    return f"{sign}{digits} %"


def weight_text(weight_e9: int) -> str:
    """A weight x 10^9 to four places."""
    rounded = (weight_e9 + 50_000) // 100_000
    return f"{rounded // 10_000}.{rounded % 10_000:04d}"


def _is_regular(preset: Preset, scenarios: Scenarios, unit_class: str) -> list[bool]:
    """Which spot scenarios are of the grid: its own rows, or listed ones within the range."""
    if preset.grid is not None:
        regular = len(preset.grid.fraction_e9) * len(preset.grid.volatility)
        return [number < regular for number in range(len(scenarios))]
    range_e9 = preset.spot_range_e9(unit_class)
    listed = [preset.scenario[at] for at in listed_order(preset.scenario)]
    return [row.weight_e9 == RATE_SCALE and abs(row.move_e9) <= range_e9 for row in listed]


def cells_of(preset: Preset, scenarios: Scenarios, unit_class: str) -> tuple[Cell, ...]:
    """The scenarios of a unit with their names, in order; then the model's basis or floor."""
    rows = zip(
        scenarios.spot_move_e9.tolist(), scenarios.volatility_side.tolist(),
        scenarios.weight_e9.tolist(), _is_regular(preset, scenarios, unit_class), strict=True,
    )  # fmt: skip
    cells = []
    for number, (move, side, weight, regular) in enumerate(rows):
        weighted = "" if weight == RATE_SCALE else f", weight {weight_text(weight)}"
        if side > SIDE_UP:
            volatility, kind = _SKEW_SIDES[side], SKEW
            name = f"{volatility} skew of volatility{weighted}"
        else:
            volatility, kind = _SIDES[side + 1], GRID if regular else TAIL
            name = f"spot {percent_text(move)}, volatility {volatility}{weighted}"
        cells.append(Cell(number, name, kind, move, volatility, weight))
    if preset.basis is not None:
        cells.append(Cell(len(cells), _BASIS_NAME, BASIS, 0, _SIDES[1], RATE_SCALE))
    elif preset.delta_floor is not None:
        cells.append(Cell(len(cells), _FLOOR_NAME, FLOOR, 0, _SIDES[1], RATE_SCALE))
    return tuple(cells)


@njit(cache=True)
def _pool_sums(
    rows: Int64Array,
    halves: int,
    bounds: tuple[Int64Array, Int64Array],
    start: Int64Array,
    floor: tuple[int, Int64Array],
    terms: Int64Array,
    coin: Int64Array,
    coin_terms: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    coin_minor: Int64Array,
    sums: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
) -> int:
    """Fill the arrays of `_Sums` for one pool and return its number of groups."""
    of_group, groups, total, coins, charges = sums
    units, columns = total.shape
    count: int = sum_groups(of_group, groups, rows, terms, instrument, lots, 0, len(instrument))
    other = columns if halves == 2 else 0
    for g in range(count):
        u = groups[g, _UNIT]
        charges[u, 0] += groups[g, _CHARGE]
        charges[u, 1] += groups[g, _EXTRA]
        add_group(
            total[u], of_group[g, :columns], of_group[g, other : other + columns],
            groups[g, _BETTER], bounds[0], bounds[1],
        )  # fmt: skip
    column, gross_floor = floor
    if len(gross_floor) > 0:
        # the column of net delta is laid out as a skew: of it the magnitude counts, too
        for k in range(len(instrument)):
            u = terms[instrument[k], UNIT]
            total[u, column] -= abs(lots[k]) * gross_floor[instrument[k]]
    for u in range(units):
        more = add_coins(coins[u], coin, coin_terms, coin_minor, u, units)
        charges[u, 0] += more[0]
        charges[u, 1] += more[1]
        for s in range(columns):
            total[u, s] += start[u, s] + coins[u, s]
    return count


def _sums_of(table: RiskTable, held: Positions) -> _Sums:
    """The sums of the one pool that `held` is of."""
    count, units = len(held.instrument), table.risk_exponent.shape[0]
    columns = table.rows.shape[1] // table.shape.halves
    found = _Sums(
        np.zeros((count, table.rows.shape[1]), np.int64), np.zeros((count, 4), np.int64),
        np.zeros((units, columns), np.int64), np.zeros((units, columns), np.int64),
        np.zeros((units, 2), np.int64),
    )  # fmt: skip
    groups = _pool_sums(
        table.rows, table.shape.halves, column_bounds(table.shape[:3], columns), table.start,
        (table.shape.regular, table.gross_floor), table.terms, table.coin, table.coin_terms,
        held.instrument, held.quantity_lots, held.coin_minor[0],
        tuple(found),  # type: ignore[arg-type]
    )  # fmt: skip
    return found._replace(rows=found.rows[:groups], groups=found.groups[:groups])


def _slope(group: list[int], better: bool, shape: RowShape, scenario: int) -> tuple[int, int]:
    """(column, factor) of a group's rows that its part of a scenario is: what its sum chose.

    Spot: the half, positive or negative, that counted. Skew: that half, turned so that it loses.
    Basis: the worse of the two moves, or nothing (factor 0) where neither loses.
    """
    other = len(group) // 2 if shape.halves == 2 else 0
    basis = scenario >= shape.regular + shape.skews
    first, second = group[scenario], group[other + scenario]
    chosen = max(first, second) if better and not basis else min(first, second)
    column = scenario if chosen == first else other + scenario
    if basis:
        return column, 1 if chosen < 0 else 0
    return column, -1 if scenario >= shape.regular and chosen > 0 else 1


def finest_exponent(preset: Preset, book: Book) -> int:
    """The finest risk exponent at which no sum of this pool can wrap, also after its index rose.

    `InvariantBroken` if the pool is too large for any.
    """
    multiples = [loss_multiple(scenarios_of(preset, name), preset) for name in book.risk_classes]
    return finest_exponent_at(book, max(multiples))


def finest_exponent_at(book: Book, multiple: int) -> int:
    """The same where no position counts for more than `multiple` of its notional."""
    of, marks, option = book.instruments, book.marks, book.instruments.is_option()
    most = max(int(price) for price in marks.index_e8) // (PRICE_SCALE // USDC_SCALE) + 1
    lot, held = 1, 0
    for row in range(len(of)):
        index, size_e16 = int(marks.index_e8[int(of.unit[row])]), int(of.lot_e8[row])
        if int(of.kind[row]) == INVERSE:
            worth = size_e16 * index // int(marks.mark_e8[row]) // (PRICE_SCALE // USDC_SCALE) + 1
        else:
            price = int(marks.forward_e8[row] if option[row] else marks.mark_e8[row])
            highest = max(index, price, int(of.strike_e8[row]))
            worth = size_e16 * highest // _E16_PER_MINOR + 1
        lots = abs(int(book.quantity_lots[row]))
        most, lot, held = max(most, lots * worth), max(lot, worth), held + (lots > 0)
    for unit, coin in enumerate(book.coin_of_unit):
        if coin > 0:
            amount = abs(int(book.cash_minor[coin])) * int(marks.index_e8[unit])
            most = max(most, amount // _E16_PER_MINOR + 1)
    # a lot of what is not held has to fit as well
    return min(
        risk_exponent(_GROWTH * most, max(1, held), multiple),
        risk_exponent(_GROWTH * lot, 1, multiple),
    )


class PoolModel:
    """The engine at work on one book's instruments under one preset, all units on one exponent."""

    def __init__(self, preset: Preset, book: Book, exponent: int) -> None:
        self.preset, self.book, self.exponent = preset, book, exponent
        self.scenarios = [scenarios_of(preset, name) for name in book.risk_classes]
        self.cells = [
            cells_of(preset, unit, name)
            for unit, name in zip(self.scenarios, book.risk_classes, strict=True)
        ]
        self.exponents = np.full(len(self.scenarios), exponent, dtype=np.int64)
        self._grid = scenario_grid(preset, self.scenarios, self.exponents)
        self._layout = risk_layout(book.instruments)
        self.table = self.table_at(book.marks)
        self.held = positions_of(book)
        self._sums = _sums_of(self.table, self.held)
        self._scale = 1 << (MOST_RISK_EXPONENT - exponent)

    def table_at(self, marks: Marks) -> RiskTable:
        """The risk table of the book's instruments at some marks, coin charged by the preset."""
        return self._table(self.preset, self._grid, marks)

    def _table(self, preset: Preset, grid: ScenarioGrid, marks: Marks) -> RiskTable:
        of, units = self.book.instruments, marks.index_e8.shape[0]
        rates = [preset.collateral_rates_ppb(name) for name in self.book.unit_names]
        charges, extras = np.array(rates, np.int64).reshape(-1, 2).T
        sure = marks.index_confidence_ppb
        coins = Collateral(
            unit=np.arange(units, dtype=np.int64),
            price_e8=marks.index_e8,
            moves=np.ones(units, np.int64),
            maintenance_ppb=np.ascontiguousarray(charges),
            initial_extra_ppb=np.ascontiguousarray(extras),
            confidence_ppb=np.full(units, CERTAIN_PPB, np.int64) if sure is None else sure,
        )
        return risk_table(preset, of, lot_matrix(grid, of, marks, coins), self._layout)

    def without(self, *, oracle: bool, roll: bool) -> RiskTable:
        """The table of the same model without its charge for doubtful prices, or for rolling.

        The difference of two charges is what a section of the model adds.
        """
        less = msgspec.structs.replace(
            self.preset,
            oracle=None if oracle else self.preset.oracle,
            roll=None if roll else self.preset.roll,
        )
        if less == self.preset:
            return self.table
        scenarios = [scenarios_of(less, name) for name in self.book.risk_classes]
        grid = scenario_grid(less, scenarios, self.exponents)
        return self._table(less, grid, self.book.marks)

    def requirements(self, book: Book) -> Requirements:
        """What `pool_requirements` says of a book of the same instruments, at its own marks."""
        here = book.marks is self.book.marks
        table = self.table if here else self.table_at(book.marks)
        return pool_requirements(table, positions_of(book))

    def unit_sums(self, unit: int) -> UnitSums:
        """A unit's profit and loss per scenario and its contingencies, exact."""
        profit = self._sums.total[unit, : len(self.cells[unit])].tolist()
        charge, extra = self._sums.charges[unit].tolist()
        scale = self._scale
        return UnitSums([value * scale for value in profit], charge * scale, extra * scale)

    def charges(self, table: RiskTable, held: Positions) -> list[tuple[int, int]]:
        """(maintenance, extra initial) contingencies of every unit of some positions, exact."""
        rows = _sums_of(table, held).charges.tolist()
        return [(charge * self._scale, extra * self._scale) for charge, extra in rows]

    def parts(self, unit: int, scenario: int) -> tuple[list[tuple[int, int]], int, int]:
        """What makes up a unit's profit and loss in one scenario, exact.

        Returns (row of the instrument, its part) of every position in margin order, the part of
        coin cash, and what a dampener forgives. What an expiry adds is one of a few sums of rows
        times lots (`_slope`), so the part of a position, which is Euler's, is its own row in the
        sum that was chosen; the parts add up to the scenario's sum.
        """
        table, sums = self.table, self._sums
        chosen = [
            _slope(rows, group[_BETTER] == 1, table.shape, scenario)
            for rows, group in zip(sums.rows.tolist(), sums.groups.tolist(), strict=True)
        ]
        numbers: dict[int, int] = {}  # groups stand in the order of their first positions
        floors = table.gross_floor.tolist() if self.cells[unit][scenario].kind == FLOOR else []
        parts = []
        for row, lots in zip(
            self.held.instrument.tolist(), self.held.quantity_lots.tolist(), strict=True
        ):
            group = numbers.setdefault(int(table.terms[row, EXPIRY]), len(numbers))
            if int(sums.groups[group, _UNIT]) == unit:
                column, factor = chosen[group]
                part = factor * lots * int(table.rows[row, column])
                part -= abs(lots) * floors[row] if floors else 0
                parts.append((row, part * self._scale))
        coin, forgiven = int(sums.coins[unit, scenario]), int(table.start[unit, scenario])
        return parts, coin * self._scale, forgiven * self._scale


def warm_up() -> None:
    """Compile the kernel of this module."""
    one, grid = np.zeros(1, dtype=np.int64), np.zeros((1, 8), dtype=np.int64)
    terms = np.zeros((1, 8), dtype=np.int64)
    coins = np.zeros((1, 3), dtype=np.int64)
    sums = (grid.copy(), grid[:, :4].copy(), grid.copy(), grid.copy(), grid[:, :2].copy())
    _pool_sums(
        grid, 1, column_bounds((8, 0, 0), 8), grid, (0, one), terms, grid, coins, one, one, one,
        sums,
    )  # fmt: skip
