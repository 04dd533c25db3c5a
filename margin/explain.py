"""Every number behind a pool's requirement: scenarios, parts, charges, haircuts, distances.

`explain` takes a requirement apart; the parts come from the engine's own kernels
(`margin.pool_model`) and are checked against `pool_requirements` before anybody sees them. All
amounts are whole minor units of USDC that add up exactly: where exact parts are finer, whole units
are dealt out by largest remainder, so that every column sums to its total.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from margin.book import (
    USDC,
    Book,
    book_equity,
    currency_index_e8,
    haircuts_ppb,
    moved,
    option_value_minor,
    positions_of,
    units_in_play,
    value_of,
)
from margin.explanation import (
    Charge,
    CollateralPart,
    Distance,
    Explanation,
    PositionPart,
    ScenarioProfit,
    UnitPart,
)
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array, check
from margin.margin_call import health
from margin.pool_model import FRACTION_ONE, PoolModel, UnitSums, finest_exponent
from margin.preset import ONE_E9, Preset
from margin.requirement import equity, pool_requirements

NO_SCENARIO: Final = -1
DELTA_ONE: Final = "delta-one size"
NAKED_OPTIONS: Final = "naked short options"
STALE_INDEX: Final = "stale index"
OPEN_ORDERS: Final = "open orders"

# Moves of an index at which a pool is looked at, percent, outward; the crossing is then narrowed.
_DOWN: Final = (1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 60, 75, 90, 99)
_UP: Final = (1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300)
_PERCENT_E9: Final = ONE_E9 // 100
_NARROW_E9: Final = ONE_E9 // 10_000


def dealt(exact: Sequence[int], total: int) -> list[int]:
    """Whole units that add up to `total`, each the floor of its exact part or one more.

    `exact` in 1 / FRACTION_ONE units; the largest fractions get the additional units, of equals the
    first. `InvariantBroken` if no such parts add up to `total`.
    """
    whole = [value // FRACTION_ONE for value in exact]
    missing = total - sum(whole)
    check(0 <= missing <= len(whole), "explain: parts do not add up to their total")
    first = sorted(range(len(exact)), key=lambda at: (-(exact[at] % FRACTION_ONE), at))
    for at in first[:missing]:
        whole[at] += 1
    return whole


def _ceiling(exact: int) -> int:
    return -(-exact // FRACTION_ONE)


def _position_parts(model: PoolModel, unit: int, sums: UnitSums, at: int) -> list[PositionPart]:
    """Each position's part of scenario `at`, which adds up to the scenario's rounded sum."""
    book = model.book
    if at == NO_SCENARIO:
        found, coin = [(row, 0) for row in positions_of(book).instrument.tolist()
                       if int(book.instruments.unit[row]) == unit], 0  # fmt: skip
        total = 0
    else:
        found, coin = model.parts(unit, at)
        total = sums.profit[at] // FRACTION_ONE
    profits = dealt([part for _, part in found] + [coin], total)
    of = book.instruments
    parts = [
        PositionPart(
            name=book.instrument_names[row],
            quantity_lots=int(book.quantity_lots[row]),
            lot_e8=int(of.lot_e8[row]),
            mark_e8=int(book.marks.mark_e8[row]),
            value_minor=value_of(book, row, int(book.quantity_lots[row]))
            if of.is_option()[row]
            else 0,
            profit_minor=profit,
        )
        for (row, _), profit in zip(found, profits[:-1], strict=True)
    ]
    currency = book.coin_of_unit[unit]
    if currency > USDC and int(book.cash_minor[currency]) != 0:
        amount, index = int(book.cash_minor[currency]), int(book.marks.index_e8[unit])
        name = book.currency_names[currency]
        parts.append(PositionPart(name, amount, 1, index, 0, profits[-1]))
    return parts


def _lowest(profit: Sequence[int]) -> int:
    """The first scenario of the largest loss, `NO_SCENARIO` where nothing is lost."""
    low = min(profit)
    return profit.index(low) if low < 0 else NO_SCENARIO


def _units(
    model: PoolModel, units: list[int], worst_minor: int, distances: list[Distance | None]
) -> list[UnitPart]:
    held = positions_of(model.book)
    sums = [model.sums(held, unit) for unit in units]
    losses = dealt([max(0, -min(of.profit)) for of in sums], worst_minor)
    parts = []
    for unit, of, loss, distance in zip(units, sums, losses, distances, strict=True):
        at, cells = _lowest(of.profit), model.cells[unit]
        parts.append(
            UnitPart(
                unit=model.book.unit_names[unit],
                index_e8=int(model.book.marks.index_e8[unit]),
                loss_minor=loss,
                worst=None if at == NO_SCENARIO else cells[at],
                scenarios=tuple(
                    ScenarioProfit(cell, value // FRACTION_ONE)
                    for cell, value in zip(cells, of.profit, strict=True)
                ),
                positions=tuple(_position_parts(model, unit, of, at)),
                distance=distance,
            )
        )
    return parts


def _charges(model: PoolModel, units: list[int]) -> list[Charge]:
    """Contingencies by unit and kind; both columns are rounded up once over all of them."""
    book, option = model.book, model.book.instruments.is_option()
    named, exact = [], []
    for unit in units:
        for name, kind in ((DELTA_ONE, ~option), (NAKED_OPTIONS, option)):
            rows = np.flatnonzero(kind & (book.instruments.unit == unit)).tolist()
            sums = model.sums(positions_of(book, rows, coins=False), unit)
            if sums.charge or sums.extra:
                named.append((name, book.unit_names[unit]))
                exact.append((sums.charge, sums.extra))
    maintenance = [charge for charge, _ in exact]
    extra = [more for _, more in exact]
    return [
        Charge(name, unit, in_both, in_initial)
        for (name, unit), in_both, in_initial in zip(
            named, dealt(maintenance, _ceiling(sum(maintenance))),
            dealt(extra, _ceiling(sum(extra))), strict=True,
        )
    ]  # fmt: skip


def _collateral(book: Book, haircut_ppb: Int64Array, has: int) -> list[CollateralPart]:
    """What each currency counts for: the equity of a pool without the others; they sum to `has`."""
    options, index_e8 = option_value_minor(book), currency_index_e8(book)
    count = len(book.currency_names)
    cash = np.diag(book.cash_minor).astype(np.int64)
    value = equity(cash, np.diag(options).astype(np.int64), index_e8, np.zeros(count, np.int64))
    counted = equity(cash, np.diag(options).astype(np.int64), index_e8, haircut_ppb)
    check(int(counted.sum()) == has, "explain: equity differs")
    return [
        CollateralPart(
            currency=book.currency_names[c],
            cash_minor=int(book.cash_minor[c]),
            option_value_minor=int(options[c]),
            index_e8=int(index_e8[c]),
            value_minor=int(value[c]),
            haircut_ppb=int(haircut_ppb[c]),
            haircut_minor=int(value[c] - counted[c]),
            counted_minor=int(counted[c]),
        )
        for c in range(count)
        if c == USDC or int(book.cash_minor[c]) != 0 or int(options[c]) != 0
    ]


def _distance(model: PoolModel, unit: int, haircut_ppb: Int64Array, stale_minor: int) -> Distance:
    """Look outward in both directions, then halve the step in which a requirement is crossed."""
    room: dict[int, tuple[int, int]] = {}

    def short(move_e9: int, liquidation: bool) -> bool:
        if move_e9 not in room:
            there = moved(model.book, unit, move_e9)
            has = book_equity(there, haircut_ppb)
            _, initial, maintenance = model.margins(there)
            room[move_e9] = (has - initial - stale_minor, has - maintenance)
        return room[move_e9][int(liquidation)] < 0

    def nearest(percents: tuple[int, ...], sign: int, liquidation: bool) -> int | None:
        inside = 0
        if short(0, liquidation):
            return 0
        for percent in percents:
            outside = sign * percent * _PERCENT_E9
            if short(outside, liquidation):
                while abs(outside - inside) > _NARROW_E9:
                    middle = (inside + outside) // 2
                    inside, outside = (
                        (inside, middle) if short(middle, liquidation) else (middle, outside)
                    )
                return outside
            inside = outside
        return None

    return Distance(
        nearest(_DOWN, -1, False), nearest(_UP, 1, False),
        nearest(_DOWN, -1, True), nearest(_UP, 1, True),
    )  # fmt: skip


def _scenario_margins(
    preset: Preset, worst: int, charges: Sequence[Charge], initial: int, maintenance: int
) -> tuple[int, int]:
    """The parts of (initial, maintenance) that are worst loss x factor; checks the sums."""
    of_initial = -(-worst * preset.factor.initial_ppb // RATE_SCALE)
    of_maintenance = -(-worst * preset.factor.maintenance_ppb // RATE_SCALE)
    both = sum(charge.maintenance_minor for charge in charges)
    extra = sum(charge.initial_minor for charge in charges)
    check(of_initial + both + extra == initial, "explain: initial margin differs")
    check(of_maintenance + both == maintenance, "explain: maintenance margin differs")
    return of_initial, of_maintenance


def _ratio_ppb(requirement_minor: int, equity_minor: int) -> int | None:
    return None if equity_minor <= 0 else -(-requirement_minor * RATE_SCALE // equity_minor)


def explain(
    preset: Preset,
    book: Book,
    *,
    exponent: int | None = None,
    distances: bool = True,
    venue_initial_minor: int | None = None,
    open_orders_minor: int = 0,
) -> Explanation:
    """Take the requirement of a pool under a preset apart; the book is only read.

    `exponent`: the risk exponent of all units, that of a venue to get its figures to the minor
    unit; without one the finest at which this pool is exact. `distances` costs some hundred
    revaluations of the pool. `venue_initial_minor` is what a venue asks for the same positions;
    what it asks beyond the model, for a stale index, becomes a charge, as do `open_orders_minor`.
    `InvariantBroken` if the book does not fit together or is too large, if the venue asks less, or
    if the parts should not add up to what `pool_requirements` says.
    """
    book.validate()
    exponent = finest_exponent(preset, book) if exponent is None else exponent
    model, held, units = PoolModel(preset, book, exponent), positions_of(book), units_in_play(book)
    needed = pool_requirements(model.table, held)
    worst, initial = int(needed.worst_minor[0]), int(needed.initial_minor[0])
    maintenance = int(needed.maintenance_minor[0])
    stale_minor = 0 if venue_initial_minor is None else venue_initial_minor - initial
    check(stale_minor >= 0, "explain: the venue asks less than its model")
    haircut_ppb = haircuts_ppb(preset, book)
    has = book_equity(book, haircut_ppb)
    parts = _units(model, units, worst, [
        _distance(model, unit, haircut_ppb, stale_minor) if distances else None
        for unit in units
    ])  # fmt: skip
    found = [part.worst.scenario if part.worst else NO_SCENARIO for part in parts]
    check(needed.worst_scenario[0, units].tolist() == found, "explain: another worst scenario")
    charges = _charges(model, units)
    of_initial, of_maintenance = _scenario_margins(preset, worst, charges, initial, maintenance)
    added = ((STALE_INDEX, stale_minor), (OPEN_ORDERS, open_orders_minor))
    charges += [Charge(name, "", 0, minor) for name, minor in added if minor]
    called, in_all = initial + stale_minor, initial + stale_minor + open_orders_minor
    return Explanation(
        model=preset.name,
        time_ns=book.marks.now_ns,
        standing=health(has, in_all, called, maintenance).name.lower(),
        equity_minor=has,
        worst_minor=worst,
        initial_minor=in_all,
        maintenance_minor=maintenance,
        call_initial_minor=called,
        initial_ratio_ppb=_ratio_ppb(in_all, has),
        maintenance_ratio_ppb=_ratio_ppb(maintenance, has),
        call_distance_minor=has - called,
        liquidation_distance_minor=has - maintenance,
        initial_factor_ppb=preset.factor.initial_ppb,
        maintenance_factor_ppb=preset.factor.maintenance_ppb,
        scenario_initial_minor=of_initial,
        scenario_maintenance_minor=of_maintenance,
        units=tuple(parts),
        charges=tuple(charges),
        collateral=tuple(_collateral(book, haircut_ppb, has)),
    )
