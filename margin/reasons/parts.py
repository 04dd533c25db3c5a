"""What explanations of every kind of model share: dealt units, collateral, distances, the frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from margin.book import (
    USDC,
    Book,
    book_equity,
    counted_minor,
    currency_index_e8,
    moved,
    option_value_minor,
    value_of,
)
from margin.default.margin_call import health
from margin.fixed_point import PRICE_SCALE, RATE_SCALE
from margin.invariant import check
from margin.pools.collateral import AnyHaircuts, base_of
from margin.reasons.explanation import (
    Charge,
    CollateralPart,
    Distance,
    Explanation,
    MarketLevels,
    PairVector,
    PositionPart,
    Simulated,
    UnitPart,
)
from margin.reasons.pool_model import FRACTION_ONE

STALE_INDEX: Final = "stale index"
OPEN_ORDERS: Final = "open orders"
ELSEWHERE: Final = "positions and coin elsewhere"
ATTESTED_CREDIT: Final = "attested credit"

# Moves of an index at which a pool is looked at, percent, outward; the crossing is then narrowed.
_DOWN: Final = (1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 60, 75, 90, 99)
_UP: Final = (1, 2, 3, 4, 6, 8, 10, 13, 16, 20, 25, 30, 40, 50, 75, 100, 150, 200, 300)
_PERCENT_E9: Final = RATE_SCALE // 100
_NARROW_E9: Final = RATE_SCALE // 10_000

Needs = Callable[[Book], tuple[int, int]]
"""(initial, maintenance) of a book of the same instruments, at its own marks."""


class Requirement(NamedTuple):
    """A model's requirement; what follows `maintenance_minor` is 0 where nothing is a scenario."""

    initial_minor: int
    maintenance_minor: int
    worst_minor: int = 0
    initial_factor_ppb: int = 0
    maintenance_factor_ppb: int = 0
    scenario_initial_minor: int = 0
    scenario_maintenance_minor: int = 0


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


def ceiling(exact: int) -> int:
    """Whole units of an exact part, upward."""
    return -(-exact // FRACTION_ONE)


def position_part(book: Book, row: int, profit_minor: int) -> PositionPart:
    """The position in the instrument of a row, and its part of a scenario."""
    lots, option = int(book.quantity_lots[row]), bool(book.instruments.is_option()[row])
    return PositionPart(
        name=book.instrument_names[row],
        quantity_lots=lots,
        lot_e8=int(book.instruments.lot_e8[row]),
        mark_e8=int(book.marks.mark_e8[row]),
        value_minor=value_of(book, row, lots) if option else 0,
        profit_minor=profit_minor,
    )


def coin_parts(book: Book, unit: int, profit_minor: int) -> list[PositionPart]:
    """The coin cash of a unit and its part of a scenario, if there is any."""
    currency = book.coin_of_unit[unit]
    if currency <= USDC or int(book.cash_minor[currency]) == 0:
        return []
    amount, index_e8 = int(book.cash_minor[currency]), int(book.marks.index_e8[unit])
    return [PositionPart(book.currency_names[currency], amount, 1, index_e8, 0, profit_minor)]


def collateral_parts(book: Book, haircuts: AnyHaircuts, has: int) -> list[CollateralPart]:
    """What each currency counts for: the equity of a pool without the others; they sum to `has`."""
    options, index_e8 = option_value_minor(book), currency_index_e8(book)
    count, haircut_ppb = len(book.currency_names), base_of(haircuts)
    alone = np.diag(book.cash_minor + options).astype(np.int64)[:, None]
    none = np.zeros(count, np.int64)
    value, plain, counted = (
        [counted_minor(book, amount, rates) for amount in alone]
        for rates in (none, haircut_ppb, haircuts)
    )
    check(sum(counted) == has, "explain: equity differs")
    return [
        CollateralPart(
            currency=book.currency_names[c],
            cash_minor=int(book.cash_minor[c]),
            option_value_minor=int(options[c]),
            index_e8=int(index_e8[c]),
            value_minor=value[c],
            haircut_ppb=int(haircut_ppb[c]),
            haircut_minor=value[c] - counted[c],
            size_minor=plain[c] - counted[c],
            counted_minor=counted[c],
        )
        for c in range(count)
        if c == USDC or int(book.cash_minor[c]) != 0 or int(options[c]) != 0
    ]


class Elsewhere(NamedTuple):
    """What is attested at outside venues: credit, and what it adds to both requirements."""

    credit_minor: int = 0
    initial_minor: int = 0
    maintenance_minor: int = 0


NOTHING_ELSEWHERE: Final = Elsewhere()


def distance_of(
    book: Book, unit: int, haircuts: AnyHaircuts, needs: Needs, stale_minor: int,
    elsewhere: Elsewhere = NOTHING_ELSEWHERE,
) -> Distance:  # fmt: skip
    """Look outward in both directions, then halve the step in which a requirement is crossed.

    What is elsewhere stays as it is, whatever prices do.
    """
    room: dict[int, tuple[int, int]] = {}

    def short(move_e9: int, liquidation: bool) -> bool:
        if move_e9 not in room:
            there = moved(book, unit, move_e9)
            has = book_equity(there, haircuts) + elsewhere.credit_minor
            initial, maintenance = needs(there)
            initial += stale_minor + elsewhere.initial_minor
            room[move_e9] = (has - initial, has - maintenance - elsewhere.maintenance_minor)
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


def _credit_part(credit_minor: int) -> list[CollateralPart]:
    """What is credited for collateral elsewhere, as a row of collateral; its haircuts are off."""
    if not credit_minor:
        return []
    row = CollateralPart(
        ATTESTED_CREDIT, credit_minor, 0, PRICE_SCALE, credit_minor, 0, 0, credit_minor
    )
    return [row]


def _ratio_ppb(requirement_minor: int, equity_minor: int) -> int | None:
    return None if equity_minor <= 0 else -(-requirement_minor * RATE_SCALE // equity_minor)


def stale_charges(stale_minor: int) -> list[Charge]:
    """What a venue asks for a stale index, as a charge; none where it asks nothing."""
    return [Charge(STALE_INDEX, "", 0, stale_minor)] if stale_minor else []


def assembled(
    model: str,
    book: Book,
    haircuts: AnyHaircuts,
    needed: Requirement,
    *,
    units: Sequence[UnitPart],
    charges: Sequence[Charge],
    add_ons: Sequence[Charge] = (),
    beyond: Sequence[Charge] = (),
    open_orders_minor: int = 0,
    elsewhere: Elsewhere = NOTHING_ELSEWHERE,
    simulated: Simulated | None = None,
    pairs: tuple[PairVector, ...] = (),
    levels: tuple[MarketLevels, ...] = (),
) -> Explanation:
    """The explanation of a requirement from its parts, which must add up to it.

    `needed` is the model's own, without add-ons and without what a venue asks beyond it or takes
    off (`beyond`, `open_orders_minor`).
    """
    here = book_equity(book, haircuts)
    has = here + elsewhere.credit_minor
    both = needed.scenario_maintenance_minor + sum(part.maintenance_minor for part in charges)
    extra = sum(part.initial_minor for part in charges)
    scenarios = needed.scenario_initial_minor - needed.scenario_maintenance_minor
    check(both == needed.maintenance_minor, "explain: maintenance margin differs")
    check(both + scenarios + extra == needed.initial_minor, "explain: initial margin differs")
    more = elsewhere.initial_minor - elsewhere.maintenance_minor
    if elsewhere.maintenance_minor or more:
        beyond = (*beyond, Charge(ELSEWHERE, "", elsewhere.maintenance_minor, more))
    added = sum(part.maintenance_minor for part in (*add_ons, *beyond))
    maintenance = needed.maintenance_minor + added
    called = needed.initial_minor + added + sum(part.initial_minor for part in beyond)
    in_all = called + open_orders_minor
    orders = [Charge(OPEN_ORDERS, "", 0, open_orders_minor)] if open_orders_minor else []
    return Explanation(
        model=model,
        time_ns=book.marks.now_ns,
        standing=health(has, in_all, called, maintenance).name.lower(),
        equity_minor=has,
        worst_minor=needed.worst_minor,
        initial_minor=in_all,
        maintenance_minor=maintenance,
        call_initial_minor=called,
        initial_ratio_ppb=_ratio_ppb(in_all, has),
        maintenance_ratio_ppb=_ratio_ppb(maintenance, has),
        call_distance_minor=has - called,
        liquidation_distance_minor=has - maintenance,
        initial_factor_ppb=needed.initial_factor_ppb,
        maintenance_factor_ppb=needed.maintenance_factor_ppb,
        scenario_initial_minor=needed.scenario_initial_minor,
        scenario_maintenance_minor=needed.scenario_maintenance_minor,
        units=tuple(units),
        charges=(*charges, *beyond, *orders),
        add_ons=tuple(add_ons),
        collateral=(
            *collateral_parts(book, haircuts, here),
            *_credit_part(elsewhere.credit_minor),
        ),
        simulated=simulated,
        pairs=pairs,
        levels=levels,
    )
