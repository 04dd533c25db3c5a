"""Explanations under the models of `margin.models`: a charge for each instrument or expiry.

These models have no scenarios, so there is no worst loss to take apart: the charges are all of the
requirement. What they need beyond a book (`Input`) has a constant here, which a question may
override by underlying. `standard` takes its constants from its own file. Haircuts are those of
`standard` throughout, since the others say nothing about coin.

    lognormal-es   volatility 0.8 a year; l = 10^-6 over one hour, IM 1.2 x MM (Vega's usual)
    vega-levels    risk factors 0.1 either side (Vega's tests), linear slippage 0.001 (ours); no
                   isolated factor and no cap of futures, which are told with its levels if given
    paradex-cross  imf_base 0.02, mmf_factor 0.5 (paradex-py's tests)
    open-interest  base 0.05, maintenance a half of it, caps of 25 and 50 million USDC, open
                   interest 0 (ours, in dYdX's form)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from margin.book import Book, positions_of, units_in_play
from margin.fixed_point import PRICE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, InvariantBroken, check
from margin.models import linear, lognormal, open_interest, paradex_cross, standard, vega
from margin.models.standard_constants import Standard, load_standard
from margin.models.standard_orders import in_dollars
from margin.models.venue_models import venue_model_names
from margin.portfolio import INVERSE
from margin.presets import FLOOR, preset_names
from margin.reasons.explanation import Charge, Explanation, MarketLevels, UnitPart
from margin.reasons.parts import (
    NOTHING_ELSEWHERE,
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
from margin.reasons.pool_model import finest_exponent_at
from margin.scenarios.grid import MOST_RISK_EXPONENT

STANDARD: Final = "standard"
CREDIT: Final = "credit of expiries that need less than nothing"
_E6, _E9 = 10**6, 10**9
_E16_PER_MINOR: Final = PRICE_SCALE * PRICE_SCALE // USDC_SCALE
_LARGEST_LOT_MINOR: Final = 2**35  # an eighth of what `quanta_of` takes: the index may rise
_MOST_MONEY: Final = 2**52
_NOT_BY_ROW: Final = ("now_ns", "index_e8", "index_confidence_ppb", "stable_e9")


class Input(NamedTuple):
    """What a model needs that a book lacks: its constant and bounds, in 1 / `scale`."""

    constant: int
    scale: int = _E9
    low: int = 0
    high: int = _E9


INPUTS: Final[dict[str, dict[str, Input]]] = {
    STANDARD: {},
    "vega-levels": {
        "risk_long": Input(_E9 // 10),
        "risk_short": Input(_E9 // 10),
        "linear_slippage": Input(_E9 // 1000),
        "isolated_factor": Input(0),
        "cap": Input(0, PRICE_SCALE, high=_MOST_MONEY),
    },
    "lognormal-es": {"volatility": Input(8 * _E9 // 10, low=1, high=10 * _E9)},
    "paradex-cross": {"imf_base": Input(2 * _E9 // 100), "mmf_factor": Input(_E9 // 2)},
    "open-interest": {
        "base": Input(_E6 // 20, _E6, high=_E6),
        "maintenance_of_base": Input(_E6 // 2, _E6, high=_E6),
        "lower_cap": Input(25_000_000 * USDC_SCALE, USDC_SCALE, high=_MOST_MONEY),
        "upper_cap": Input(50_000_000 * USDC_SCALE, USDC_SCALE, high=_MOST_MONEY),
        "open_interest": Input(0, USDC_SCALE, high=_MOST_MONEY),
    },
}
"""The models in the order in which they are told, and their inputs by name."""

Overrides = dict[str, dict[str, int]]
"""Input -> underlying -> value, for those that do not stand at the constant."""


class FormulaRefused(ValueError):
    """A book that a model cannot margin, or inputs that contradict each other."""


class FormulaModel(msgspec.Struct, frozen=True):
    """A model of `margin.models` by its name here, with what replaces its constants."""

    name: str
    overrides: Overrides = {}

    def column(self, book: Book, name: str) -> Int64Array:
        """An input of every risk unit, shape [U]."""
        given, constant = self.overrides.get(name, {}), INPUTS[self.name][name].constant
        return np.array([given.get(unit, constant) for unit in book.unit_names], np.int64)


def model_names() -> tuple[str, ...]:
    """Every model that can be asked about: presets, those given by formulas, a venue's others."""
    return tuple(dict.fromkeys((*preset_names(), *INPUTS, *venue_model_names())))


def refusal_of_name(name: str) -> str:
    """Why nothing can be asked about under `name`, in words; "" where it is a model."""
    plain = name.removesuffix(FLOOR)
    if name in model_names():
        return ""
    if plain in model_names():
        return f"{plain}: forecasts nothing that could be a floor"
    return f"no model {name!r}; there are {', '.join(model_names())}"


def _refuse_what_cannot_be(model: FormulaModel, book: Book) -> None:
    option = book.instruments.is_option()
    for row in np.flatnonzero(book.quantity_lots).tolist():
        name = book.instrument_names[row]
        if option[row] and model.name != STANDARD:
            raise FormulaRefused(f"{model.name} margins futures and perpetuals only, not {name}")


def prepared(model: FormulaModel, book: Book) -> Book:
    """What is held of a book, in lots small enough for charges per lot; raises `FormulaRefused`."""
    _refuse_what_cannot_be(model, book)
    rows = np.flatnonzero(book.quantity_lots)
    of, marks = book.instruments, book.marks

    def taken(column: Int64Array | None) -> Int64Array | None:
        return None if column is None else np.ascontiguousarray(column[rows])

    of = msgspec.structs.replace(
        of, **{name: taken(getattr(of, name)) for name in of.__struct_fields__}
    )
    columns = [name for name in marks.__struct_fields__ if name not in _NOT_BY_ROW]
    marks = msgspec.structs.replace(
        marks, **{name: taken(getattr(marks, name)) for name in columns}
    )
    quantity = np.ascontiguousarray(book.quantity_lots[rows])
    lot = of.lot_e8.copy()
    for unit in range(len(book.unit_names)):
        coins = (of.unit == unit) & (of.kind != INVERSE)
        prices = [marks.mark_e8[coins], marks.forward_e8[coins], of.strike_e8[coins]]
        highest = max(int(marks.index_e8[unit]), *(int(p.max(initial=0)) for p in prices))
        while (
            coins.any()
            and int(lot[coins].max()) * highest // _E16_PER_MINOR >= _LARGEST_LOT_MINOR
            and not (lot[coins] % 10).any()
        ):
            lot[coins] //= 10
            quantity[coins] *= 10
    return msgspec.structs.replace(
        book,
        instrument_names=tuple(book.instrument_names[row] for row in rows.tolist()),
        instruments=msgspec.structs.replace(of, lot_e8=lot),
        marks=marks,
        quantity_lots=quantity,
        conditions=None,
    )


# Charges per lot


def _tiers(model: FormulaModel, book: Book) -> list[open_interest.LiquidityTier]:
    names = ("base", "maintenance_of_base", "lower_cap", "upper_cap")
    columns = [model.column(book, name).tolist() for name in names]
    try:
        return [open_interest.LiquidityTier(base_ppm=base, maintenance_of_base_ppm=part,
                                            lower_cap_minor=lower, upper_cap_minor=upper)
                for base, part, lower, upper in zip(*columns, strict=True)]  # fmt: skip
    except ValueError as error:
        raise FormulaRefused(f"{model.name}: {error}") from None


def _linear_charges(model: FormulaModel, book: Book, exponent: Int64Array) -> linear.LinearCharges:
    of, marks = book.instruments, book.marks

    def by_row(name: str) -> Int64Array:
        column: Int64Array = model.column(book, name)[of.unit]
        return column

    if model.name == "vega-levels":
        slippage = by_row("linear_slippage")
        return vega.lot_charges(of, marks, exponent, by_row("risk_long"), by_row("risk_short"),
                                slippage, vega.LevelScaling())  # fmt: skip
    if model.name == "lognormal-es":
        volatility = model.column(book, "volatility")
        return lognormal.lot_charges(of, marks, exponent, lognormal.RiskModel(), volatility)
    if model.name == "paradex-cross":
        return paradex_cross.lot_charges(
            of, marks, exponent, by_row("imf_base"), by_row("mmf_factor")
        )
    tiers = _tiers(model, book)
    return open_interest.lot_charges(
        of, marks, exponent, [tiers[unit] for unit in of.unit.tolist()], by_row("open_interest")
    )


def _levels(model: FormulaModel, book: Book) -> tuple[MarketLevels, ...]:
    """Vega's levels of every position, each in a market of its own; none under another model."""
    if model.name != "vega-levels":
        return ()
    names = ("risk_long", "risk_short", "linear_slippage", "isolated_factor", "cap")
    columns = [model.column(book, name).tolist() for name in names]
    of, found = book.instruments, []
    for row in positions_of(book).instrument.tolist():
        long, short, slippage, factor_ppb, cap_e8 = (
            column[int(of.unit[row])] for column in columns
        )
        factors = vega.RiskFactors(long_ppb=long, short_ppb=short, linear_slippage_ppb=slippage)
        lots, lot_e8 = int(book.quantity_lots[row]), int(of.lot_e8[row])
        inverse = of.kind[row] == INVERSE  # a lot is worth its dollars
        mark_e8 = PRICE_SCALE if inverse else int(book.marks.mark_e8[row])
        levels = vega.margin_levels(
            vega.Exposure(position_lots=lots), mark_e8, lot_e8, factors, vega.LevelScaling()
        )
        isolated = capped = None
        try:
            if factor_ppb:
                isolated = vega.isolated_margin_minor(lots, mark_e8, lot_e8, factor_ppb, factors)
            if cap_e8 and not inverse:
                capped = vega.capped_future_margin_minor(lots, mark_e8, cap_e8, lot_e8)
        except InvariantBroken as error:
            raise FormulaRefused(f"{model.name}: {book.instrument_names[row]}: {error}") from None
        found.append(
            MarketLevels(
                book.instrument_names[row], levels.maintenance_minor, levels.search_minor,
                levels.initial_minor, levels.release_minor,
                vega.least_isolated_factor_ppb(factors), isolated, capped,
            )
        )  # fmt: skip
    return tuple(found)


# Rules


def _standard_table(
    constants: Standard, book: Book, exponent: Int64Array
) -> standard.StandardTable:
    haircuts = np.array([constants.haircut_ppb(name) for name in book.unit_names], np.int64)
    instruments, marks = in_dollars(book.instruments, book.marks)
    feeds = standard.feeds_of(book.instruments, book.marks)
    return standard.standard_table(constants, instruments, marks, feeds, haircuts, exponent)


class _Part(NamedTuple):
    """A charge, exact, in 1 / FRACTION_ONE minor units of both levels."""

    name: str
    unit: int
    initial: int
    maintenance: int


def _linear_parts(charges: linear.LinearCharges, book: Book, exponent: int) -> list[_Part]:
    scale = 1 << (MOST_RISK_EXPONENT - exponent)
    parts = []
    for row in positions_of(book).instrument.tolist():
        lots, unit = int(book.quantity_lots[row]), int(book.instruments.unit[row])
        long = lots > 0
        initial = charges.long_initial if long else charges.short_initial
        maintenance = charges.long_maintenance if long else charges.short_maintenance
        size = abs(lots) * scale
        name = book.instrument_names[row]
        parts.append(_Part(name, unit, size * int(initial[row]), size * int(maintenance[row])))
    return parts


def _standard_parts(table: standard.StandardTable, book: Book, exponent: int) -> list[_Part]:
    """Every expiry's options together, everything else by itself."""
    together: dict[tuple[int, int, int], list[int]] = {}
    of, option = book.instruments, book.instruments.is_option()
    for row in positions_of(book).instrument.tolist():
        alone = -1 if option[row] else row
        key = int(of.unit[row]), int(of.expiry_ns[row]), alone
        together.setdefault(key, []).append(row)
    scale = 1 << (MOST_RISK_EXPONENT - exponent)
    # without an exponent the pass hands out quanta: nothing is rounded
    whole = msgspec.structs.replace(table, risk_exponent=np.zeros_like(table.risk_exponent))
    parts = []
    for (unit, _, _), rows in together.items():
        name = book.instrument_names[rows[0]]
        name += f" and {len(rows) - 1} more of its expiry" if len(rows) > 1 else ""
        found = standard.pool_margins(whole, positions_of(book, rows, coins=False))
        initial, maintenance = int(found.initial_minor[0]), int(found.maintenance_minor[0])
        parts.append(_Part(name, unit, initial * scale, maintenance * scale))
    return parts


def _coin_charges(table: standard.StandardTable, book: Book) -> list[Charge]:
    held, charges = positions_of(book, []), []
    for unit in range(len(book.unit_names)):
        alone = np.zeros_like(held.coin_minor)
        alone[0, unit] = held.coin_minor[0, unit]
        one = msgspec.structs.replace(held, coin_minor=alone)
        initial = int(standard.pool_margins(table, one).initial_minor[0])
        if initial:
            charges.append(Charge("coin collateral", book.unit_names[unit], 0, initial))
    return charges


def _charges(book: Book, parts: Sequence[_Part]) -> list[Charge]:
    """Parts in whole minor units: each unit is rounded up once, as the models do."""
    charges = []
    for unit, name in enumerate(book.unit_names):
        mine = [part for part in parts if part.unit == unit]
        initial = [part.initial for part in mine]
        maintenance = [part.maintenance for part in mine]
        for part, in_all, in_both in zip(
            mine, dealt(initial, ceiling(sum(initial))),
            dealt(maintenance, ceiling(sum(maintenance))), strict=True,
        ):  # fmt: skip
            charges.append(Charge(part.name, name, in_both, in_all - in_both))
    return charges


def _multiple(model: FormulaModel, constants: Standard, book: Book) -> int:
    """A whole number that no charge exceeds as a part of notional."""
    if model.name == STANDARD:
        return standard.loss_multiple(constants)
    exponent = np.zeros(len(book.unit_names), np.int64)
    charges = _linear_charges(model, book, exponent)
    notional = linear.lot_notional(book.instruments, book.marks, exponent)
    columns = (charges.long_initial, charges.short_initial, charges.long_maintenance,
               charges.short_maintenance)  # fmt: skip
    rows = zip(notional.tolist(), *(column.tolist() for column in columns), strict=True)
    return 1 + max((-(-max(row[1:]) // max(1, row[0])) for row in rows), default=0)


def explain_formula(
    model: FormulaModel,
    book: Book,
    *,
    distances: bool = True,
    constants: Standard | None = None,
    exponent: int | None = None,
    venue_initial_minor: int | None = None,
    open_orders_minor: int = 0,
    elsewhere: Elsewhere = NOTHING_ELSEWHERE,
) -> Explanation:
    """Take the requirement of a pool under a formula model apart; the book is only read.

    Every charge is what an instrument, or the options of an expiry, need. `constants` of standard
    margin, where a venue has its own; the rest as in `margin.reasons.explain.explain`.
    `FormulaRefused` where the model cannot margin the book, `InvariantBroken` where that is too
    large.
    """
    book.validate()
    book, constants = prepared(model, book), constants or load_standard()
    finest = finest_exponent_at(book, _multiple(model, constants, book))
    exponent = finest if exponent is None else min(exponent, finest)
    exponents = np.full(len(book.unit_names), exponent, np.int64)
    haircut_ppb = np.array([constants.haircut_ppb(name) for name in book.currency_names], np.int64)

    def margins(there: Book) -> tuple[int, int]:
        held = positions_of(there)
        if model.name == STANDARD:
            found = standard.pool_margins(_standard_table(constants, there, exponents), held)
        else:
            found = linear.pool_margins(_linear_charges(model, there, exponents), held)
        return int(found.initial_minor[0]), int(found.maintenance_minor[0])

    initial, maintenance = margins(book)
    if model.name == STANDARD:
        table = _standard_table(constants, book, exponents)
        charges = _charges(book, _standard_parts(table, book, exponent))
        charges += _coin_charges(table, book)
    else:
        of_lots = _linear_charges(model, book, exponents)
        charges = _charges(book, _linear_parts(of_lots, book, exponent))
    both = maintenance - sum(charge.maintenance_minor for charge in charges)
    extra = initial - maintenance - sum(charge.initial_minor for charge in charges)
    if both or extra:
        charges.append(Charge(CREDIT, "", both, extra))
    stale_minor = 0 if venue_initial_minor is None else venue_initial_minor - initial
    check(stale_minor >= 0, "explain: the venue asks less than its model")
    held = positions_of(book).instrument.tolist()
    told = [
        UnitPart(
            unit=book.unit_names[unit], index_e8=int(book.marks.index_e8[unit]), loss_minor=0,
            worst=None, scenarios=(),
            positions=(
                *(position_part(book, row, 0) for row in held
                  if int(book.instruments.unit[row]) == unit),
                *coin_parts(book, unit, 0),
            ),
            distance=distance_of(book, unit, haircut_ppb, margins, stale_minor, elsewhere)
            if distances
            else None,
        )
        for unit in units_in_play(book)
    ]  # fmt: skip
    return assembled(
        model.name, book, haircut_ppb, Requirement(initial, maintenance), units=told,
        charges=charges, beyond=stale_charges(stale_minor), open_orders_minor=open_orders_minor,
        elsewhere=elsewhere, levels=_levels(model, book),
    )  # fmt: skip


def warm_up() -> None:
    """Compile the kernels that explanations under these models call."""
    linear.warm_up()
    lognormal.warm_up()
    standard.warm_up()
