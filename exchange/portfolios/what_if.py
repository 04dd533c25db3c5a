"""Changes to a portfolio, and the book after them: `uncross margin --what-if CHANGES`.

    CHANGES = CHANGE {"," CHANGE}, applied from left to right
    CHANGE  = INSTRUMENT ":" NUMBER       trade that quantity at the mark: BTC_USDC-PERPETUAL:+2
            | CURRENCY ":" NUMBER         bring money in, or take it out: USDC:-1000 (or cash:-1000)
            | UNDERLYING ":spot=" PERCENT move index, marks and forwards: BTC:spot=-10%
            | UNDERLYING ":vol=" PERCENT  move volatilities relatively: BTC:vol=+25%

A trade costs no fee; an option's premium leaves the cash. A move of prices pays the futures' profit
and loss in cash and values options anew, as the venue's variation margin would.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import TypeVar

import msgspec

from exchange.contract_names import NameRefused, contract_of
from exchange.core import limits
from exchange.core.venue_ranges import decimal_text
from exchange.portfolios.file import E6, E8, QUANTITY_E8_MAX, Holding, Portfolio, currencies_of
from exchange.portfolios.text import PortfolioError, scaled
from margin.book import USDC, Book, deposited, moved, traded
from margin.fixed_point import RATE_SCALE

Found = TypeVar("Found")

CASH = "cash"
CHANGES_MAX = 100
MOVE_E9_MAX = 5 * RATE_SCALE
TRADE, DEPOSIT, SPOT, VOLATILITY = "trade", "deposit", "spot", "volatility"


class Change(msgspec.Struct, frozen=True):
    """One change: `kind` trade, deposit, spot or volatility, of `name`.

    `amount`: a trade's 10^-8 coin or USD, a deposit's minor units, a move's fraction x 10^9.
    """

    text: str
    kind: str
    name: str
    amount: int
    holding: Holding | None = None


def read_changes(text: str, portfolio: Portfolio) -> tuple[Change, ...]:
    """The changes of a text, in its order. Raises `PortfolioError`, which names the change."""
    changes = [part.strip() for part in text.split(",")]
    if len(changes) > CHANGES_MAX:
        raise PortfolioError(f"what-if: more than {CHANGES_MAX} changes")
    return tuple(_change(part, portfolio) for part in changes)


def traded_in(changes: Sequence[Change]) -> list[Holding]:
    """The quantities that changes trade, for `build_book`."""
    return [change.holding for change in changes if change.holding is not None]


def _number(text: str, where: str) -> Decimal:
    try:
        value = Decimal(text) if text.isascii() and "_" not in text else None
    except InvalidOperation:
        value = None
    if value is None or not value.is_finite():
        raise PortfolioError(f"{where}: {text!r} is no number")
    return value


def _change(text: str, portfolio: Portfolio) -> Change:
    where = f"what-if {text!r}"
    name, colon, rest = text.partition(":")
    if not colon or not name or not rest:
        raise PortfolioError(
            f"{where}: a change is INSTRUMENT:+1, USDC:-1000, BTC:spot=-10% or BTC:vol=+25%"
        )
    kind, equals, percent = rest.partition("=")
    if equals:
        return _move(text, where, name, kind, percent, portfolio)
    number = _number(rest, where)
    currencies = currencies_of(portfolio.market)
    currency = currencies[USDC] if name == CASH else name
    if currency in currencies:
        most = limits.TRANSFER_MINOR_MAX
        scale = E6 if currency == currencies[USDC] else E8
        return Change(text, DEPOSIT, currency, scaled(number, where, scale, -most, most))
    try:
        contract = contract_of(name)
    except NameRefused as error:
        raise PortfolioError(f"{where}: {error}") from None
    quantity_e8 = scaled(number, where, E8, -QUANTITY_E8_MAX, QUANTITY_E8_MAX)
    return Change(
        text, TRADE, name, quantity_e8, Holding(where, contract, quantity_e8, is_change=True)
    )


def _move(
    text: str, where: str, name: str, kind: str, percent: str, portfolio: Portfolio
) -> Change:
    known = {"spot": SPOT, "vol": VOLATILITY}
    if kind not in known:
        raise PortfolioError(f"{where}: {kind!r} is neither spot nor vol")
    if name not in portfolio.market.index_e8:
        raise PortfolioError(f"{where}: there is no underlying {name}")
    if not percent.endswith("%"):
        raise PortfolioError(f"{where}: a move is a percentage, such as -10%")
    number = _number(percent.removesuffix("%").strip(), where)
    least = -RATE_SCALE + 1 if kind == "spot" else -RATE_SCALE
    return Change(
        text, known[kind], name, scaled(number, where, RATE_SCALE // 100, least, MOVE_E9_MAX)
    )


def changed(book: Book, changes: Sequence[Change]) -> Book:
    """The book after the changes, from left to right; it must have a row for every contract.

    Raises `PortfolioError` where prices or amounts leave their bounds.
    """
    for change in changes:
        try:
            book = _after(book, change)
        except OverflowError:
            raise PortfolioError(f"what-if {change.text!r}: too large") from None
        highest = max(int(book.marks.index_e8.max()), int(book.marks.forward_e8.max(initial=0)))
        if highest > limits.INDEX_E8_MAX:
            raise PortfolioError(
                f"what-if {change.text!r}: a price leaves its bounds: it "
                f"may be at most {decimal_text(limits.INDEX_E8_MAX, E8)}"
            )
        if int(book.marks.volatility_e9.max(initial=0)) > limits.VOLATILITY_E9_MAX:
            raise PortfolioError(
                f"what-if {change.text!r}: a volatility leaves its bounds: "
                f"it may be at most {decimal_text(limits.VOLATILITY_E9_MAX, RATE_SCALE)}"
            )
    return book


def explained_after(
    book: Book, changes: Sequence[Change], explained: Callable[[Book], Found]
) -> Found:
    """What `explained` makes of the book after the changes.

    Where it refuses that book, `PortfolioError` names the change that made it too large.
    """
    after = changed(book, changes)
    try:
        return explained(after)
    except PortfolioError as error:
        for change in changes:
            book = _after(book, change)
            try:
                explained(book)
            except PortfolioError as refused:
                raise PortfolioError(f"what-if {change.text!r}: after it, {refused}") from None
        raise error


def _after(book: Book, change: Change) -> Book:
    if change.kind == TRADE:
        row = book.instrument_names.index(change.name)
        return traded(book, row, change.amount // int(book.instruments.lot_e8[row]))
    if change.kind == DEPOSIT:
        return deposited(book, book.currency_names.index(change.name), change.amount)
    unit = book.unit_names.index(change.name)
    if change.kind == SPOT:
        return moved(book, unit, spot_move_e9=change.amount)
    return moved(book, unit, volatility_move_e9=change.amount)
