"""Every number behind a pool's requirement: scenarios, parts, charges, haircuts, distances.

`explain` takes a requirement apart; the parts come from the engine's own kernels
(`margin.reasons.pool_model`) and are checked against `pool_requirements` before anybody sees them.
All amounts are whole minor units of USDC that add up exactly: where exact parts are finer, whole
units are dealt out by largest remainder, so that every column sums to its total.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from margin.add_ons.charges import AddOns, MarketConditions, add_on_table, add_ons
from margin.book import Book, book_haircuts, positions_of, units_in_play
from margin.fixed_point import RATE_SCALE
from margin.forecasts.cross_unit import relief_minor
from margin.forecasts.predictive import growth_minor
from margin.invariant import Int64Array, check
from margin.pools.requirement import Requirements
from margin.presets.preset import Preset
from margin.reasons.explanation import (
    Charge,
    Distance,
    Explanation,
    PositionPart,
    ScenarioProfit,
    UnitPart,
)
from margin.reasons.pair_vector import pair_vectors
from margin.reasons.parts import (
    NOTHING_ELSEWHERE,
    OPEN_ORDERS,
    STALE_INDEX,
    Elsewhere,
    Requirement,
    assembled,
    ceiling,
    coin_parts,
    dealt,
    distance_of,
    position_part,
    stale_charges,
)
from margin.reasons.pool_model import FRACTION_ONE, PoolModel, finest_exponent

__all__ = [
    "COIN_COLLATERAL",
    "DELTA_ONE",
    "DOUBTFUL_PRICES",
    "NAKED_OPTIONS",
    "OPEN_ORDERS",
    "ROLL",
    "STALE_INDEX",
    "dealt",
    "explain",
]

NO_SCENARIO: Final = -1
DAMPENER: Final = "forgiven by the dampener"
DELTA_ONE: Final = "delta-one size"
NAKED_OPTIONS: Final = "naked short options"
COIN_COLLATERAL: Final = "coin collateral"
ROLL: Final = "rolling of positions"
DOUBTFUL_PRICES: Final = "doubtful prices"
LIQUIDITY: Final = "liquidity"
GAMMA: Final = "gamma"
FUNDING: Final = "funding"
OTHER_POOLS: Final = "the owner's other pools"
OFFSET: Final = "offset between underlyings"
FORECAST: Final = "forecast margin"


def _lowest(profit: Sequence[int]) -> int:
    """The first scenario of the largest loss, `NO_SCENARIO` where nothing is lost."""
    low = min(profit)
    return profit.index(low) if low < 0 else NO_SCENARIO


def _unit(model: PoolModel, unit: int, loss_minor: int, distance: Distance | None) -> UnitPart:
    """One unit; the worst of its scenarios and the sum of its positions' parts are minus its loss.

    A loss that was dealt the smaller of its two whole numbers rounds all of the unit's scenarios
    towards it, so that their order stays.
    """
    book, cells, profit = model.book, model.cells[unit], model.unit_sums(unit).profit
    at = _lowest(profit)
    dealt_less = at != NO_SCENARIO and profit[at] // FRACTION_ONE < -loss_minor
    whole = [ceiling(value) if dealt_less else value // FRACTION_ONE for value in profit]
    check(max(0, -min(whole)) == loss_minor, "explain: the worst scenario differs from the loss")
    # in the first scenario stand all positions, too; without a loss they make up nothing
    parts, coin, forgiven = model.parts(unit, max(at, 0))
    if at == NO_SCENARIO:
        minor = [0] * (len(parts) + 2)
    else:
        exact = [part for _, part in parts] + [coin, forgiven]
        minor = dealt(exact, -loss_minor)
    held = [position_part(book, row, part) for (row, _), part in zip(parts, minor, strict=False)]
    held += coin_parts(book, unit, minor[-2])
    if minor[-1]:
        index_e8 = int(book.marks.index_e8[unit])
        held.append(PositionPart(DAMPENER, 0, 1, index_e8, 0, minor[-1]))
    return UnitPart(
        unit=book.unit_names[unit],
        index_e8=int(book.marks.index_e8[unit]),
        loss_minor=loss_minor,
        worst=None if at == NO_SCENARIO else cells[at],
        scenarios=tuple(
            ScenarioProfit(cell, value) for cell, value in zip(cells, whole, strict=True)
        ),
        positions=tuple(held),
        distance=distance,
    )


def _differences(
    these: Sequence[tuple[int, int]], those: Sequence[tuple[int, int]]
) -> list[tuple[int, int]]:
    return [(a - c, b - d) for (a, b), (c, d) in zip(these, those, strict=True)]


def _charges(model: PoolModel, units: list[int]) -> list[Charge]:
    """Contingencies by unit and kind; both columns are rounded up once over all of them.

    What rolling and doubtful prices add is the difference to the same model without them.
    """
    book, option = model.book, model.book.instruments.is_option()
    sure, plain = model.without(oracle=True, roll=False), model.without(oracle=True, roll=True)
    kinds = {
        DELTA_ONE: positions_of(book, np.flatnonzero(~option).tolist(), coins=False),
        NAKED_OPTIONS: positions_of(book, np.flatnonzero(option).tolist(), coins=False),
        COIN_COLLATERAL: positions_of(book, []),
    }
    exact = {name: model.charges(plain, held) for name, held in kinds.items()}
    at_sure = model.charges(sure, model.held)
    exact[ROLL] = _differences(at_sure, model.charges(plain, model.held))
    exact[DOUBTFUL_PRICES] = _differences(model.charges(model.table, model.held), at_sure)
    found = [
        (name, unit, exact[name][unit])
        for unit in units
        for name in exact
        if any(exact[name][unit])
    ]
    maintenance = [charge for _, _, (charge, _) in found]
    extra = [more for _, _, (_, more) in found]
    return [
        Charge(name, book.unit_names[unit], in_both, in_initial)
        for (name, unit, _), in_both, in_initial in zip(
            found, dealt(maintenance, ceiling(sum(maintenance))),
            dealt(extra, ceiling(sum(extra))), strict=True,
        )
    ]  # fmt: skip


def _add_ons(model: PoolModel, book: Book, worst_scenario: Int64Array) -> list[Charge]:
    """What the model's add-ons charge a book, where its conditions are known.

    Of an owner with this pool alone. `worst_scenario[1, U]` as `pool_requirements` gives it.
    """
    preset, known = model.preset, book.conditions
    sections = AddOns(liquidity=preset.liquidity, gamma=preset.gamma, funding=preset.funding)
    if known is None or sections == AddOns():
        return []
    ranges = [preset.spot_range_e9(name) for name in book.risk_classes]
    conditions = MarketConditions(
        known.volatility_e9, known.daily_volume_minor, np.array(ranges, np.int64),
        known.interval_ns, known.funding_rate_e9,
    )  # fmt: skip
    table = add_on_table(
        sections, book.instruments, book.marks, conditions, model.scenarios, model.exponents
    )
    found = add_ons(table, positions_of(book), np.zeros(1, np.int64), worst_scenario)
    amounts = (
        (LIQUIDITY, found.liquidity_minor), (GAMMA, found.gamma_minor),
        (FUNDING, found.funding_minor),
    )  # fmt: skip
    return [Charge(name, "", int(minor[0]), 0) for name, minor in amounts if int(minor[0])]


def _beyond(
    model: PoolModel, needed: Requirements, correlations_ppb: Int64Array | None, growth_ppb: int
) -> list[Charge]:
    """What a venue takes off for correlation between underlyings, and adds for a forecast."""
    section = model.preset.cross_unit
    found, worst = [], needed.worst_minor
    if section is not None and correlations_ppb is not None:
        sign = np.sign(np.array([unit.spot_move_e9 for unit in model.scenarios], np.int64))
        relief = relief_minor(
            section, correlations_ppb, needed, model.exponents, sign, model.table.factors_ppb
        )
        maintenance, initial = int(relief.maintenance_minor[0]), int(relief.initial_minor[0])
        worst = worst - relief.offset_minor
        if initial:
            found.append(Charge(OFFSET, "", -maintenance, maintenance - initial))
    more = growth_minor(worst, model.table.factors_ppb[1], growth_ppb).tolist()
    found += [Charge(FORECAST, "", 0, minor) for minor in more if minor]
    return found


def _margins(
    model: PoolModel, book: Book, correlations_ppb: Int64Array | None, growth_ppb: int
) -> tuple[int, int]:
    """(initial, maintenance) with add-ons, offset and forecast."""
    found = model.requirements(book)
    more = _add_ons(model, book, found.worst_scenario)
    more += _beyond(model, found, correlations_ppb, growth_ppb)
    both = sum(charge.maintenance_minor for charge in more)
    extra = sum(charge.initial_minor for charge in more)
    return int(found.initial_minor[0]) + both + extra, int(found.maintenance_minor[0]) + both


def margins_of(preset: Preset, book: Book, *, growth_ppb: int = RATE_SCALE) -> tuple[int, int]:
    """(initial, maintenance) of a pool by itself as `explain` has them, not taken apart.

    For searches that ask often. `InvariantBroken` as there.
    """
    if preset.standard is not None:
        found = explain(preset, book, distances=False)
        return found.call_initial_minor, found.maintenance_minor
    if preset.history is not None:
        from margin.reasons.explain_dates import Dates, scaled_loss

        more = scaled_loss(preset, Dates(preset, book).shortfall_minor(book))
        still = msgspec.structs.replace(preset, history=None, dynamic=None)
        initial, maintenance = margins_of(still, book)
        return initial + more[0], maintenance + more[1]
    model = PoolModel(preset, book, finest_exponent(preset, book))
    return _margins(model, book, None, growth_ppb)


def _explain_other(
    preset: Preset, book: Book, exponent: int | None, distances: bool,
    venue_initial_minor: int | None, open_orders_minor: int, other_pools_minor: int,
    elsewhere: Elsewhere,
) -> Explanation:  # fmt: skip
    """`explain` of a preset that charges by rules or by dates of the past."""
    if preset.standard is not None:
        from margin.reasons.explain_formula import FormulaModel, explain_formula

        return explain_formula(
            FormulaModel("standard"), book, distances=distances, constants=preset.standard,
            exponent=exponent, venue_initial_minor=venue_initial_minor,
            open_orders_minor=open_orders_minor, elsewhere=elsewhere,
        )  # fmt: skip
    from margin.reasons.explain_dates import explain_history

    plain = msgspec.structs.replace(preset, history=None, dynamic=None)
    still = explain(
        plain, book, exponent=exponent, distances=False, other_pools_minor=other_pools_minor
    )
    return explain_history(
        preset, book, still, exponent=exponent, distances=distances,
        venue_initial_minor=venue_initial_minor, open_orders_minor=open_orders_minor,
        elsewhere=elsewhere,
    )  # fmt: skip


def explain(
    preset: Preset,
    book: Book,
    *,
    exponent: int | None = None,
    distances: bool = True,
    venue_initial_minor: int | None = None,
    open_orders_minor: int = 0,
    other_pools_minor: int = 0,
    correlations_ppb: Int64Array | None = None,
    growth_ppb: int = RATE_SCALE,
    elsewhere: Elsewhere = NOTHING_ELSEWHERE,
) -> Explanation:
    """Take the requirement of a pool under a preset apart; the book is only read.

    `exponent`: the risk exponent of all units, that of a venue to get its figures to the minor
    unit; without one the finest at which this pool is exact. `distances` costs some hundred
    revaluations of the pool. `venue_initial_minor` is what a venue asks for the same positions;
    what it asks beyond the model, for a stale index, becomes a charge, as do `open_orders_minor`.
    Add-ons are charged where the book has conditions; `other_pools_minor` is what they charge this
    pool besides because its owner has others. `correlations_ppb[U,U]` between the underlyings, and
    the growth of ranges that a forecast charges (`growth_ppb`), are a venue's state: without them
    nothing is offset and nothing forecast, and with them both are lines of their own. `elsewhere`:
    what outside venues attest, as the venue counts it; its credit becomes a row of collateral, what
    it adds to the margins a charge.
    `InvariantBroken` if the book does not fit together or is too large, if the venue asks less, or
    if the parts should not add up to what `pool_requirements` says.
    """
    if preset.standard is not None or preset.history is not None:
        return _explain_other(
            preset, book, exponent, distances, venue_initial_minor, open_orders_minor,
            other_pools_minor, elsewhere,
        )  # fmt: skip
    book.validate()
    exponent = finest_exponent(preset, book) if exponent is None else exponent
    model, units = PoolModel(preset, book, exponent), units_in_play(book)
    needed = model.requirements(book)
    worst, initial = int(needed.worst_minor[0]), int(needed.initial_minor[0])
    maintenance_ppb, initial_ppb = model.table.factors_ppb.tolist()
    extras = _add_ons(model, book, needed.worst_scenario)
    added = sum(charge.maintenance_minor for charge in extras)
    if other_pools_minor:
        extras.append(Charge(OTHER_POOLS, "", other_pools_minor, 0))
    stale_minor = 0 if venue_initial_minor is None else venue_initial_minor - initial - added
    check(stale_minor >= 0, "explain: the venue asks less than its model")
    beyond = _beyond(model, needed, correlations_ppb, growth_ppb)
    haircuts = book_haircuts(preset, book)

    def needs(there: Book) -> tuple[int, int]:
        initial, maintenance = _margins(model, there, correlations_ppb, growth_ppb)
        return initial + other_pools_minor, maintenance + other_pools_minor

    losses = dealt([max(0, -min(model.unit_sums(unit).profit)) for unit in units], worst)
    found = [
        distance_of(book, unit, haircuts, needs, stale_minor, elsewhere) if distances else None
        for unit in units
    ]
    parts = [_unit(model, *row) for row in zip(units, losses, found, strict=True)]
    at = [part.worst.scenario if part.worst else NO_SCENARIO for part in parts]
    check(needed.worst_scenario[0, units].tolist() == at, "explain: another worst scenario")
    return assembled(
        preset.name, book, haircuts,
        Requirement(
            initial, int(needed.maintenance_minor[0]), worst, initial_ppb, maintenance_ppb,
            -(-worst * initial_ppb // RATE_SCALE), -(-worst * maintenance_ppb // RATE_SCALE),
        ),
        units=parts, charges=_charges(model, units), add_ons=extras,
        beyond=[*stale_charges(stale_minor), *beyond],
        open_orders_minor=open_orders_minor, elsewhere=elsewhere,
        pairs=pair_vectors(preset, book, parts),
    )  # fmt: skip
