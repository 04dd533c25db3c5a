"""From a portfolio file to what margin reads: contracts, lots and marks as columns."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import msgspec
import numpy as np

from exchange.contract_names import Contract
from exchange.core import limits
from exchange.core.venue import InstrumentSpec, Venue, position_lots_max
from exchange.listing import expiry_name
from exchange.portfolios.file import Holding, Market, Portfolio, PortfolioError, currencies_of
from margin.book import NO_COIN, Book, Conditions
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array, InvariantBroken
from margin.portfolio import CERTAIN_PPB, INVERSE, NO_STRIKE_GROUP, Instruments, Marks
from margin.presets.preset import Preset
from margin.reasons.pool_model import finest_exponent
from margin.scenarios.grid import loss_multiple, risk_exponent, scenarios_of
from margin.valuation import option_marks

E6, E8 = 10**6, 10**8
E16_PER_MINOR = 10**10


class Row(NamedTuple):
    """One instrument of a book and its marks, before they become columns."""

    contract: Contract
    unit: int
    lot_e8: int
    quantity_lots: int
    mark_e8: int
    forward_e8: int
    volatility_e9: int
    rate_e9: int


def build_book(portfolio: Portfolio, also: Sequence[Holding] = ()) -> Book:
    """The book of a portfolio; `also` are quantities that a change may trade.

    Their contracts get a row of zero lots, and a lot in which they are whole too. Raises
    `PortfolioError`, which names the position.
    """
    market = portfolio.market
    for holding in (*portfolio.holdings, *also):
        _check_contract(market, holding)
    lot_of = _lots(market, [*portfolio.holdings, *also])
    units = list(market.index_e8)
    rows: dict[str, Row] = {}
    for holding in portfolio.holdings:
        lots = holding.quantity_e8 // lot_of[holding.contract.name]
        rows[holding.contract.name] = _row(market, units, holding, lots, lot_of)
    for holding in also:
        if holding.contract.name not in rows:
            rows[holding.contract.name] = _row(market, units, holding, 0, lot_of)
    for number, unit in enumerate(units):
        most = limits.INSTRUMENTS_PER_UNIT_MAX
        if sum(row.unit == number for row in rows.values()) > most:
            raise PortfolioError(f"positions: more than {most} contracts on {unit}")
    currencies = currencies_of(market)
    instruments = _instruments(list(rows.values()))
    book = Book(
        instrument_names=tuple(rows),
        unit_names=tuple(units),
        risk_classes=_risk_classes(market),
        currency_names=currencies,
        coin_of_unit=tuple(
            currencies.index(unit) if unit in currencies else NO_COIN for unit in units
        ),
        instruments=instruments,
        marks=_marks(market, instruments, list(rows.values())),
        quantity_lots=_column(row.quantity_lots for row in rows.values()),
        cash_minor=_column(portfolio.cash_minor.get(name, 0) for name in currencies),
        conditions=_conditions(market, list(rows)),
    )
    book.validate()
    return book


def exponent_of(preset: Preset, book: Book, venue: Venue | None) -> int:
    """The risk exponent of a model: a venue's own, so that figures are its own, else the finest.

    Raises `PortfolioError` where the pool is too large to be added exactly.
    """
    try:
        finest = finest_exponent(preset, book)
    except InvariantBroken:
        raise PortfolioError(f"{largest_part(book)}: too large to be added exactly") from None
    if venue is None:
        return finest
    multiple = max(loss_multiple(scenarios_of(preset, name), preset) for name in book.risk_classes)
    own = risk_exponent(
        limits.POSITION_NOTIONAL_MINOR_MAX, limits.INSTRUMENTS_PER_UNIT_MAX, multiple
    )
    return min(own, finest)


def largest_part(book: Book) -> str:
    """The place in a file of what is worth most: a coin of the collateral, or the positions."""
    worth = {"positions": 0}
    for row in np.flatnonzero(book.quantity_lots).tolist():
        size = abs(int(book.quantity_lots[row])) * int(book.instruments.lot_e8[row])
        unit, inverse = int(book.instruments.unit[row]), int(book.instruments.kind[row]) == INVERSE
        price_e8 = E8 if inverse else int(book.marks.index_e8[unit])
        worth["positions"] = max(worth["positions"], size * price_e8)
    for unit, coin in enumerate(book.coin_of_unit):
        if coin != NO_COIN:
            amount = abs(int(book.cash_minor[coin])) * int(book.marks.index_e8[unit])
            worth[f"collateral.{book.currency_names[coin]}"] = amount
    return max(worth, key=worth.__getitem__)


def _column(values: object) -> Int64Array:
    return np.fromiter(values, dtype=np.int64)  # type: ignore[call-overload, no-any-return]


def _risk_classes(market: Market) -> tuple[str, ...]:
    if market.venue is None:
        return tuple(market.index_e8)
    return tuple(unit.risk_class for unit in market.venue.underlyings)


def _form(contract: Contract) -> tuple[str, bool]:
    return contract.coin, contract.kind == INVERSE


def _lots(market: Market, wanted: Sequence[Holding]) -> dict[str, int]:
    """Lot (10^-8) of each contract: the venue's, else the coarsest power of ten up to one that
    makes all quantities of its form on its underlying whole.
    """
    if market.venue is not None:
        listed = {spec.name: spec for spec in market.venue.instruments}
        return {h.contract.name: _venue_lot(market.venue, listed, h) for h in wanted}
    lot_of: dict[tuple[str, bool], int] = {}
    for holding in wanted:
        lot = lot_of.get(_form(holding.contract), E8)
        while holding.quantity_e8 % lot:
            lot //= 10
        lot_of[_form(holding.contract)] = lot
    return {h.contract.name: lot_of[_form(h.contract)] for h in wanted}


def _venue_lot(venue: Venue, listed: dict[str, InstrumentSpec], holding: Holding) -> int:
    contract, quantity_e8 = holding.contract, holding.quantity_e8
    spec = listed.get(contract.name)
    if spec is None:
        raise PortfolioError(
            f"{holding.place('instrument')} {contract.name} is not listed at {venue.name}"
        )
    lots, rest = divmod(abs(quantity_e8), spec.lot_e8)
    if rest:
        step = Decimal(spec.lot_e8).scaleb(-8).normalize()
        raise PortfolioError(f"{holding.place('quantity')} is no multiple of the lot of {step:f}")
    if lots > position_lots_max(venue, spec):
        raise PortfolioError(
            f"{holding.place('quantity')} is above the largest position at {venue.name}"
        )
    return spec.lot_e8


def _check_contract(market: Market, holding: Holding) -> None:
    contract, quantity_e8 = holding.contract, holding.quantity_e8
    at = f"{holding.place('instrument')} {contract.name}"
    if contract.coin not in market.index_e8:
        raise PortfolioError(
            f"{at} is on {contract.coin}: there is no {contract.coin} in market.index"
        )
    if contract.expiry_ns <= market.time_ns:
        raise PortfolioError(f"{at} has expired at the market's time")
    in_usd = E8 if contract.kind == INVERSE else market.index_e8[contract.coin]
    if abs(quantity_e8) * in_usd // E16_PER_MINOR > limits.TRANSFER_MINOR_MAX:
        most = limits.TRANSFER_MINOR_MAX // E6
        raise PortfolioError(f"{holding.place('quantity')} is worth more than {most:,} USDC")


def _row(
    market: Market, units: list[str], holding: Holding, lots: int, lot_of: dict[str, int]
) -> Row:
    contract = holding.contract
    at = f"{holding.place('instrument')} {contract.name}"
    index_e8 = market.index_e8[contract.coin]
    mark_e8 = market.mark_e8.get(contract.name, index_e8)
    forward_e8, volatility_e9, rate_e9 = mark_e8, 0, 0
    if contract.is_option:
        expiry = contract.coin, contract.expiry_ns
        future = f"{contract.coin}_USDC-{expiry_name(contract.expiry_ns)}"
        forward_e8 = market.forward_e8.get(expiry, market.mark_e8.get(future, index_e8))
        rate_e9 = market.rate_e9.get(expiry, 0)
        known = market.volatility_e9.get((*expiry, contract.strike_e8))
        if known is None:
            raise PortfolioError(f"{at} has no volatility in market.volatilities")
        volatility_e9, mark_e8 = known, 0  # valued below
    return Row(
        contract, units.index(contract.coin), lot_of[contract.name], lots, mark_e8, forward_e8,
        volatility_e9, rate_e9,
    )  # fmt: skip


def _instruments(rows: list[Row]) -> Instruments:
    groups: dict[tuple[str, int, int], int] = {}
    return Instruments(
        kind=_column(row.contract.kind for row in rows),
        unit=_column(row.unit for row in rows),
        expiry_ns=_column(row.contract.expiry_ns for row in rows),
        strike_e8=_column(row.contract.strike_e8 for row in rows),
        lot_e8=_column(row.lot_e8 for row in rows),
        strike_group=_column(
            groups.setdefault(
                (row.contract.coin, row.contract.expiry_ns, row.contract.strike_e8), len(groups)
            )
            if row.contract.is_option
            else NO_STRIKE_GROUP
            for row in rows
        ),
    )


def _marks(market: Market, instruments: Instruments, rows: list[Row]) -> Marks:
    marks = Marks(
        now_ns=market.time_ns,
        index_e8=_column(market.index_e8.values()),
        mark_e8=_column(row.mark_e8 for row in rows),
        forward_e8=_column(row.forward_e8 for row in rows),
        volatility_e9=_column(row.volatility_e9 for row in rows),
        rate_e9=_column(row.rate_e9 for row in rows),
        index_confidence_ppb=_confidences(market, list(market.index_e8)),
        confidence_ppb=_confidences(market, [row.contract.name for row in rows]),
        stable_e9=market.stable_price_e8 * (RATE_SCALE // E8),
    )
    option = instruments.is_option()
    if not option.any():
        return marks
    mark_e8 = marks.mark_e8.copy()
    mark_e8[option] = option_marks(instruments, marks)[option]
    return msgspec.structs.replace(marks, mark_e8=mark_e8)


def _confidences(market: Market, names: list[str]) -> Int64Array | None:
    """A confidence of each name, or None where nothing is in doubt."""
    if not any(name in market.confidence_ppb for name in names):
        return None
    return _column(market.confidence_ppb.get(name, CERTAIN_PPB) for name in names)


def _conditions(market: Market, names: list[str]) -> Conditions | None:
    seen = market.activity
    if seen is None:
        return None
    return Conditions(
        volatility_e9=_column(seen.forecast_e9[unit] for unit in market.index_e8),
        daily_volume_minor=_column(seen.volume_minor[unit] for unit in market.index_e8),
        interval_ns=seen.interval_ns,
        funding_rate_e9=_column(seen.funding_e9.get(name, 0) for name in names),
    )
