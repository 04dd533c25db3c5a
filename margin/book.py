"""One pool and the market it stands in, by name, and what a change to either makes of it.

A `Book` is what a margin question is about: positions, cash and marks, without a venue or a model.
All steps give a new book and are exact: a trade happens at the mark and so leaves equity as it is,
a move of prices pays the variation margin of futures in cash, as a venue does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, check
from margin.pools.collateral import AnyHaircuts, Haircuts, haircuts_of, pool_equity
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.presets.preset import Preset
from margin.valuation import option_marks

USDC: Final = 0
NO_COIN: Final = -1
_LINEAR_E16_PER_E6: Final = PRICE_SCALE * PRICE_SCALE // (USDC_SCALE * 10**6)  # 10^4
_INVERSE_E8_TO_E6: Final = COIN_SCALE * 10**6
_COIN_E16_PER_E6: Final = PRICE_SCALE * PRICE_SCALE // (COIN_SCALE * 10**6)  # 100
_IN_COIN: Final = (INVERSE, INVERSE_CALL, INVERSE_PUT)


class Conditions(msgspec.Struct, frozen=True, gc=False):
    """What add-ons read of the market, by unit, and funding by instrument.

    `volatility_e9[U]`: forecast, a year. `daily_volume_minor[U]`: average daily volume in USDC
    minor units. `interval_ns`: between two batches. `funding_rate_e9[I]`: per eight hours.
    """

    volatility_e9: Int64Array
    daily_volume_minor: Int64Array
    interval_ns: int
    funding_rate_e9: Int64Array


class OtherPools(msgspec.Struct, frozen=True, gc=False):
    """What a pool's owner has elsewhere, where haircuts grow with what all of its pools have.

    `amount_minor[N,C]`: cash and options at the mark, per pool and currency, in order of pool;
    `before`: how many of the pools come before this one.
    """

    amount_minor: Int64Array
    before: int


class Book(msgspec.Struct, frozen=True, gc=False):
    """One pool and its market. Sizes: I instruments, U risk units, C currencies.

    `instruments[I]` and `marks` as in `margin.portfolio`, in any order; `quantity_lots[I]` (0 where
    nothing is held); `cash_minor[C]` after variation margin, currency 0 USDC. `risk_classes[U]` are
    the names under which a preset knows the units, `coin_of_unit[U]` the currency that is a unit's
    own coin, `NO_COIN` where there is none. Without `conditions` no add-ons are charged; without
    `others` the pool is its owner's only one.
    """

    instrument_names: tuple[str, ...]
    unit_names: tuple[str, ...]
    risk_classes: tuple[str, ...]
    currency_names: tuple[str, ...]
    coin_of_unit: tuple[int, ...]
    instruments: Instruments
    marks: Marks
    quantity_lots: Int64Array
    cash_minor: Int64Array
    conditions: Conditions | None = None
    others: OtherPools | None = None

    def validate(self) -> None:
        """Raise `InvariantBroken` unless names, columns and currencies fit together."""
        units, currencies = len(self.unit_names), len(self.currency_names)
        self.instruments.validate(units)
        self.marks.validate(self.instruments)
        check(len(self.instrument_names) == len(self.instruments), "book: a name per instrument")
        check(self.quantity_lots.shape == (len(self.instruments),), "book: lots per instrument")
        check(self.cash_minor.shape == (currencies,), "book: cash per currency")
        check(len(self.risk_classes) == units, "book: a risk class per unit")
        check(len(self.coin_of_unit) == units, "book: a coin per unit")
        coins = sorted(coin for coin in self.coin_of_unit if coin != NO_COIN)
        check(coins == list(range(1, currencies)), "book: every currency but USDC is a unit's coin")
        if self.others is not None:
            rows = self.others.amount_minor.shape
            check(rows[1:] == (currencies,), "book: other pools of other currencies")
            check(0 <= self.others.before <= rows[0], "book: no place among the other pools")
        inverse = self.instruments.unit[np.isin(self.instruments.kind, _IN_COIN)].tolist()
        check(all(self.coin_of_unit[u] > 0 for u in inverse), "book: inverse without its coin")


def position_value_minor(kind: int, lot_e8: int, price_e8: int, lots: int) -> int:
    """Value of a position at a price, rounded down, in minor units of what it settles in.

    Linear contracts and options: coin per lot x price, 10^-6 USDC. Inverse: minus USD per lot /
    price, 10^-8 coin, since a long gives up coin worth that many dollars. Inverse options: coin per
    lot x premium in coin. Two floors, of a lot to 10^-6 minor units and of the position, as a venue
    settles.
    """
    if kind == INVERSE:
        per_lot_e6 = -lot_e8 * _INVERSE_E8_TO_E6 // price_e8
    elif kind in _IN_COIN:
        per_lot_e6 = lot_e8 * price_e8 // _COIN_E16_PER_E6
    else:
        per_lot_e6 = lot_e8 * price_e8 // _LINEAR_E16_PER_E6
    return per_lot_e6 * lots // 10**6


def value_of(book: Book, row: int, lots: int) -> int:
    """Value at the mark of `lots` in the instrument of a row, minor units of its currency."""
    of = book.instruments
    return position_value_minor(
        int(of.kind[row]), int(of.lot_e8[row]), int(book.marks.mark_e8[row]), lots
    )


def settlement_currency(book: Book, row: int) -> int:
    """The currency that an instrument's profit and premium are paid in."""
    inverse = int(book.instruments.kind[row]) in _IN_COIN
    return book.coin_of_unit[int(book.instruments.unit[row])] if inverse else USDC


def option_value_minor(book: Book) -> Int64Array:
    """Value at the mark of the options held, per currency, shape [C]; floored per position."""
    values = [0] * len(book.currency_names)
    for row in np.flatnonzero(book.instruments.is_option() & (book.quantity_lots != 0)).tolist():
        values[settlement_currency(book, row)] += value_of(book, row, int(book.quantity_lots[row]))
    return np.array(values, dtype=np.int64)


def currency_index_e8(book: Book) -> Int64Array:
    """USD price x 10^8 of every currency, shape [C]: one for USDC, the index of its unit else."""
    prices = [PRICE_SCALE] * len(book.currency_names)
    for unit, coin in enumerate(book.coin_of_unit):
        if coin != NO_COIN:
            prices[coin] = int(book.marks.index_e8[unit])
    return np.array(prices, dtype=np.int64)


def book_haircuts(preset: Preset, book: Book) -> Haircuts:
    """The preset's collateral haircuts of the book's currencies."""
    return haircuts_of(preset, book.currency_names)


def book_equity(book: Book, haircuts: AnyHaircuts) -> int:
    """Equity of the pool in USDC minor units, beside its owner's others at the book's marks."""
    amount = (book.cash_minor + option_value_minor(book))[None, :]
    return counted_minor(book, amount, haircuts)


def counted_minor(book: Book, amount_minor: Int64Array, haircuts: AnyHaircuts) -> int:
    """What `amount_minor[1,C]` counts for in the book's place among its owner's pools."""
    rows, at = amount_minor, 0
    if book.others is not None:
        at, others = book.others.before, book.others.amount_minor
        rows = np.concatenate((others[:at], amount_minor, others[at:]))
    one_owner = np.zeros(len(rows), np.int64)
    index_e8 = currency_index_e8(book)
    return int(pool_equity(rows, np.zeros_like(rows), index_e8, haircuts, one_owner)[at])


def positions_of(book: Book, rows: Sequence[int] | None = None, coins: bool = True) -> Positions:
    """The pool as margin reads it: what is held, in margin order.

    `rows` keeps only those instruments; without `coins` coin cash is left out.
    """
    order = margin_order(book.instruments)
    held = order[book.quantity_lots[order] != 0]
    if rows is not None:
        held = held[np.isin(held, np.array(rows, dtype=np.int64))]
    coin_minor = np.zeros((1, len(book.unit_names)), dtype=np.int64)
    for unit, coin in enumerate(book.coin_of_unit):
        if coins and coin != NO_COIN:
            coin_minor[0, unit] = book.cash_minor[coin]
    return Positions(
        pool_start=np.array([0, len(held)], dtype=np.int64),
        instrument=held,
        quantity_lots=np.ascontiguousarray(book.quantity_lots[held]),
        coin_minor=coin_minor,
    )


def units_in_play(book: Book) -> list[int]:
    """Risk units in which the pool has a position or coin cash, in order."""
    held = positions_of(book)
    units = book.instruments.unit[held.instrument].tolist()
    return [
        unit
        for unit in range(len(book.unit_names))
        if unit in units or int(held.coin_minor[0, unit]) != 0
    ]


def deposited(book: Book, currency: int, amount_minor: int) -> Book:
    """The book after `amount_minor` came in (negative: went out). `OverflowError` if huge."""
    cash = book.cash_minor.copy()
    cash[currency] = int(cash[currency]) + amount_minor  # never wraps: OverflowError
    return msgspec.structs.replace(book, cash_minor=cash)


def traded(book: Book, row: int, lots: int) -> Book:
    """The book after `lots` were bought (negative: sold) at the mark, without a fee.

    An option's premium leaves the cash of its currency; a future costs nothing at its mark. So
    equity before haircuts stays as it is, and trading back restores the book to the minor unit.
    """
    held = int(book.quantity_lots[row])
    quantity = book.quantity_lots.copy()
    quantity[row] = held + lots
    after = msgspec.structs.replace(book, quantity_lots=quantity)
    if not bool(book.instruments.is_option()[row]):
        return after
    premium = value_of(book, row, held + lots) - value_of(book, row, held)
    return deposited(after, settlement_currency(book, row), -premium)


def moved(book: Book, unit: int, spot_move_e9: int = 0, volatility_move_e9: int = 0) -> Book:
    """The book after a unit's index, marks and forwards moved by `spot_move_e9` of themselves.

    Volatilities move by `volatility_move_e9` of themselves, options are valued anew, and futures
    pay their variation margin: value at the new mark less value at the old, in cash. Prices are
    rounded down to 10^-8 and stay positive.
    """
    check(
        spot_move_e9 > -RATE_SCALE and volatility_move_e9 >= -RATE_SCALE,
        "book: a move below nothing",
    )
    of, marks = book.instruments, book.marks
    rows = np.flatnonzero(of.unit == unit).tolist()
    option = of.is_option()

    def shifted(price_e8: int) -> int:
        return max(1, price_e8 * (RATE_SCALE + spot_move_e9) // RATE_SCALE)

    index, mark = marks.index_e8.copy(), marks.mark_e8.copy()
    forward, volatility = marks.forward_e8.copy(), marks.volatility_e9.copy()
    index[unit] = shifted(int(index[unit]))
    for row in rows:
        forward[row] = shifted(int(forward[row]))
        raised = int(volatility[row]) * (RATE_SCALE + volatility_move_e9) // RATE_SCALE
        volatility[row] = raised
        if not option[row]:
            mark[row] = shifted(int(mark[row]))
    then = msgspec.structs.replace(
        marks, index_e8=index, mark_e8=mark, forward_e8=forward, volatility_e9=volatility
    )
    if option.any():
        mark[option] = option_marks(of, then)[option]
    after = msgspec.structs.replace(book, marks=then)
    cash = book.cash_minor.copy()
    for row in rows:
        lots = int(book.quantity_lots[row])
        if lots and not option[row]:
            paid = value_of(after, row, lots) - value_of(book, row, lots)
            currency = settlement_currency(book, row)
            cash[currency] = int(cash[currency]) + paid
    return msgspec.structs.replace(after, cash_minor=cash)
