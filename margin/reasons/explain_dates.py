"""Explanations under a model whose worst loss is the expected shortfall over dates of the past.

The shortfall is taken apart by what each position makes on the dates of the tail, on average: these
parts add up to it (D. Tasche, Risk contributions and performance measurement, 1999). A hedge has a
gain for its part, so a unit may have a loss below 0. On a date on which a unit counts with the
worst of several horizons, its positions' parts are those at that horizon.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Final

import numpy as np

from margin.add_ons.charges import AddOns
from margin.book import Book, book_haircuts, positions_of, units_in_play
from margin.fixed_point import PRICE_SCALE, RATE_SCALE, USDC_SCALE, mul_div_ceil
from margin.invariant import Int64Array, check
from margin.presets.preset import Preset
from margin.reasons.explanation import (
    Charge,
    Explanation,
    PositionPart,
    Simulated,
    SimulatedUnit,
    UnitPart,
)
from margin.reasons.parts import (
    NOTHING_ELSEWHERE,
    Elsewhere,
    Requirement,
    assembled,
    coin_parts,
    distance_of,
    position_part,
    stale_charges,
)
from margin.reasons.pool_model import PoolModel, finest_exponent_at
from margin.scenarios.grid import COIN_STEP_MINOR
from margin.simulation.dates import dated_moves, history_of, loss_multiple, simulation_terms
from margin.simulation.delta_gamma import Screen, exposures_of, full_reprice_is_needed, unit_screen
from margin.simulation.historical import LotProfits, SimulatedMoves, lot_profits
from margin.simulation.pools import (
    gross_notional_minor,
    liquidity_horizons,
    lot_notional_minor,
    pool_tails,
)
from margin.simulation.tail_measures import tail_measures, tail_weights

_SCREEN_TOLERANCE_PPB: Final = 50_000_000


class Dates:
    """The dates of a preset at work on one book's instruments."""

    def __init__(self, preset: Preset, book: Book, exponent: int | None = None) -> None:
        self.preset, self.history = preset, history_of(preset)
        self.moves: SimulatedMoves = dated_moves(preset, book.risk_classes)
        # profits of all units are added, so each may take its share of the bits only
        multiple = loss_multiple(self.moves) * len(book.unit_names)
        finest = finest_exponent_at(book, multiple)
        self.exponent = finest if exponent is None else min(exponent, finest)

    def profits(self, book: Book) -> LotProfits:
        """Every lot on every date, at the book's marks."""
        terms = simulation_terms(self.history)
        return lot_profits(self.moves, book.instruments, book.marks, self.exponent, terms)

    def horizon(self, book: Book) -> tuple[Int64Array, Int64Array]:
        """Gross notional of every unit, and the horizon that it needs: [1,U] each.

        Where the market's volumes are not known, the first.
        """
        lot_minor, held = lot_notional_minor(book.instruments, book.marks), positions_of(book)
        notional = gross_notional_minor(book.instruments, lot_minor, held)
        if book.conditions is None:
            return notional, np.zeros_like(notional)
        volumes = book.conditions.daily_volume_minor
        return notional, liquidity_horizons(notional, volumes, simulation_terms(self.history))

    def shortfall_minor(self, book: Book) -> int:
        """Expected shortfall of the book, rounded up, at least 0."""
        tails = pool_tails(
            self.profits(book), self.moves.weight, self.history.level_ppb, book.instruments,
            positions_of(book), self.horizon(book)[1],
        )  # fmt: skip
        return int(tails.expected_shortfall_minor[0])

    def _made(self, book: Book) -> tuple[dict[int, Int64Array], dict[int, Int64Array]]:
        """Profit on every date, in quanta: of rows held, and of coin by unit.

        Each unit at the horizon that is its worst on the date, of equals the shortest.
        """
        profits, held = self.profits(book), positions_of(book)
        horizon, unit = self.horizon(book)[1][0].tolist(), book.instruments.unit
        of_rows: dict[int, Int64Array] = {}
        of_coins: dict[int, Int64Array] = {}
        for u, longest in enumerate(horizon):
            rows = [row for row in held.instrument.tolist() if int(unit[row]) == u]
            table = [profits.lot[: longest + 1, row] * int(book.quantity_lots[row]) for row in rows]
            amount = int(held.coin_minor[0, u])
            if amount:
                table.append(_coin_profit(amount, profits.coin[: longest + 1, u]))
            if not table:
                continue
            worst = np.argmin(sum(table[1:], table[0]), axis=0)[None, :]
            made = [np.take_along_axis(profit, worst, axis=0)[0] for profit in table]
            of_rows |= dict(zip(rows, made, strict=False))
            if amount:
                of_coins[u] = made[-1]
        return of_rows, of_coins

    def parts(self, book: Book) -> tuple[dict[int, Fraction], dict[int, Fraction]]:
        """Mean profit on the tail's dates in minor units: of rows held, and of coin by unit."""
        of_rows, of_coins = self._made(book)
        total = sum((*of_rows.values(), *of_coins.values()), np.zeros(self.history.dates, np.int64))
        weight, tail = tail_weights(self.moves.weight, self.history.level_ppb)
        counted = np.zeros(len(total), np.int64)
        left = tail
        for date in np.argsort(total, kind="stable").tolist():
            counted[date] = min(int(weight[date]), left)
            left -= int(counted[date])
        scale = tail << self.exponent

        def mean(profit: Int64Array) -> Fraction:
            pairs = zip(profit.tolist(), counted.tolist(), strict=True)
            return Fraction(sum(value * part for value, part in pairs), scale)

        return (
            {row: mean(profit) for row, profit in of_rows.items()},
            {unit: mean(profit) for unit, profit in of_coins.items()},
        )

    def _value_at_risk_minor(self, book: Book) -> list[int]:
        """Value at risk of every unit alone, rounded up, at least 0."""
        of_rows, of_coins = self._made(book)
        profit = np.zeros((len(book.unit_names), self.history.dates), np.int64)
        for row, made in of_rows.items():
            profit[int(book.instruments.unit[row])] += made
        for unit, made in of_coins.items():
            profit[unit] += made
        quanta, _ = tail_measures(profit, self.moves.weight, self.history.level_ppb)
        return [max(0, -(-loss >> self.exponent)) for loss in quanta.tolist()]

    def told(self, book: Book) -> Simulated:
        """What the dates of the book's units were scaled by, and over how many days."""
        history, stressed = self.history, self.history.stressed
        notional, horizon = self.horizon(book)
        value_at_risk, exposures = self._value_at_risk_minor(book), exposures_of(book)
        units = []
        for u in units_in_play(book):
            name, days = book.risk_classes[u], history.horizon_days[int(horizon[0, u])]
            range_e9 = max(self.preset.spot_range_e9(name), history.floor_e9(name))
            slope, bend = exposures[u]
            index = int(book.marks.index_e8[u]) / PRICE_SCALE
            screen = unit_screen(exposures[u], range_e9, days, history.level_ppb)
            units.append(SimulatedUnit(
                unit=book.unit_names[u], range_e9=range_e9, floor_e9=history.floor_e9(name),
                stressed_e9=history.stressed_e9(name)[0], notional_minor=int(notional[0, u]),
                horizon_days=days,
                delta_e8=round(slope / index * PRICE_SCALE),
                gamma_e8=round(bend / index / 100 * PRICE_SCALE),
                value_at_risk_minor=value_at_risk[u],
                screen_minor=round(screen.value_at_risk * USDC_SCALE),
                screen_is_valid=screen.is_valid,
            ))  # fmt: skip
        return Simulated(
            history.level_ppb, history.latest, 0 if stressed is None else stressed.dates,
            0 if stressed is None else stressed.weight_ppb, tuple(units),
        )  # fmt: skip


def scaled_loss(preset: Preset, loss_minor: int) -> tuple[int, int]:
    """What a shortfall adds to (initial, maintenance) margin: its factors' parts, rounded up."""
    factor = preset.factor
    return (mul_div_ceil(loss_minor, factor.initial_ppb, RATE_SCALE),
            mul_div_ceil(loss_minor, factor.maintenance_ppb, RATE_SCALE))  # fmt: skip


def _coin_profit(amount_minor: int, step: Int64Array) -> Int64Array:
    whole, rest = divmod(amount_minor, COIN_STEP_MINOR)
    profit: Int64Array = whole * step + rest * step // COIN_STEP_MINOR
    return profit


def _whole(exact: Sequence[Fraction], total: int) -> list[int]:
    """Whole numbers that add up to `total`, each near its exact part, by largest remainder."""
    whole = [part.numerator // part.denominator for part in exact]
    missing = total - sum(whole)
    check(0 <= missing <= len(whole), "explain: parts do not add up to the shortfall")
    first = sorted(range(len(exact)), key=lambda at: (whole[at] - exact[at], at))
    for at in first[:missing]:
        whole[at] += 1
    return whole


def _units(dates: Dates, book: Book, worst: int) -> dict[int, list[PositionPart]]:
    """Positions and coin of every unit in play, which together make minus the shortfall."""
    units = units_in_play(book)
    rows, coins = dates.parts(book)
    exact = [*rows.values(), *coins.values()]
    minor = _whole(exact, -worst) if worst else [0] * len(exact)
    of_row = dict(zip(rows, minor, strict=False))
    of_coin = dict(zip(coins, minor[len(rows) :], strict=True))
    return {
        unit: [
            *(position_part(book, row, of_row[row]) for row in rows
              if int(book.instruments.unit[row]) == unit),
            *coin_parts(book, unit, of_coin.get(unit, 0)),
        ]
        for unit in units
    }  # fmt: skip


def explain_history(
    preset: Preset,
    book: Book,
    still: Explanation,
    *,
    exponent: int | None = None,
    distances: bool = True,
    venue_initial_minor: int | None = None,
    open_orders_minor: int = 0,
    elsewhere: Elsewhere = NOTHING_ELSEWHERE,
) -> Explanation:
    """Add the shortfall to the explanation of the same preset without its dates (`still`).

    Other arguments as in `margin.reasons.explain.explain`; contingencies and add-ons are those of
    `still`, which must not know of orders or of a venue. `InvariantBroken` where the book is too
    large or the parts do not add up.
    """
    dates, haircuts = Dates(preset, book, exponent), book_haircuts(preset, book)
    model = PoolModel(preset, book, dates.exponent)
    check(AddOns(gamma=preset.gamma) == AddOns(), "explain: dates and gamma margin")
    worst = dates.shortfall_minor(book)
    factor = preset.factor
    added = sum(charge.maintenance_minor for charge in still.add_ons)
    of_dates = scaled_loss(preset, worst)
    initial = still.call_initial_minor - added + of_dates[0]
    maintenance = still.maintenance_minor - added + of_dates[1]
    stale_minor = 0 if venue_initial_minor is None else venue_initial_minor - initial - added
    check(stale_minor >= 0, "explain: the venue asks less than its model")

    def needs(there: Book) -> tuple[int, int]:
        found = model.requirements(there)
        more = scaled_loss(preset, dates.shortfall_minor(there))
        return (int(found.initial_minor[0]) + more[0] + added,
                int(found.maintenance_minor[0]) + more[1] + added)  # fmt: skip

    told = [
        UnitPart(
            unit=book.unit_names[unit], index_e8=int(book.marks.index_e8[unit]),
            loss_minor=-sum(part.profit_minor for part in parts), worst=None, scenarios=(),
            positions=tuple(parts),
            distance=distance_of(book, unit, haircuts, needs, stale_minor, elsewhere)
            if distances
            else None,
        )
        for unit, parts in _units(dates, book, worst).items()
    ]  # fmt: skip
    charges: list[Charge] = list(still.charges)
    return assembled(
        preset.name, book, haircuts,
        Requirement(initial, maintenance, worst, factor.initial_ppb, factor.maintenance_ppb,
                    *of_dates),
        units=told, charges=charges, add_ons=still.add_ons,
        beyond=stale_charges(stale_minor), open_orders_minor=open_orders_minor,
        elsewhere=elsewhere, simulated=dates.told(book),
    )  # fmt: skip


def _whole_screen(found: Simulated) -> Screen:
    """All units' screens together, as if they lost at the same time."""
    total = sum(unit.screen_minor for unit in found.units)
    return Screen(float(total), all(unit.screen_is_valid for unit in found.units))


def screen_asks_for_reprice(before: Explanation, after: Explanation) -> bool | None:
    """Whether the delta-gamma screen would have asked for a full reprice of the book after changes.

    Of 5 % of initial margin (`full_reprice_is_needed`); None where the model has no dates. Both
    explanations are full: the answer says what a look at delta and gamma alone would have been
    worth here.
    """
    if before.simulated is None or after.simulated is None:
        return None
    return full_reprice_is_needed(
        _whole_screen(after.simulated), _whole_screen(before.simulated),
        before.call_initial_minor, after.equity_minor, _SCREEN_TOLERANCE_PPB,
    )  # fmt: skip
