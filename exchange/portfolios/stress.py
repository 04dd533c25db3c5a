"""A portfolio under stress: what it loses, what is left, and which move is the first to break it.

Equity is what a venue would book: futures pay in cash, options are valued anew, currencies convert
at the moved index with the model's haircuts. Margin is the model's at the moved market.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec
import numpy as np

from margin import book as portfolio
from margin.book import option_value_minor, positions_of, units_in_play
from margin.default.margin_call import health
from margin.invariant import Int64Array, check
from margin.pools.collateral import AnyHaircuts
from margin.portfolio import INVERSE, INVERSE_CALL, Marks, Positions
from margin.stresses.reverse_stress import (
    Break,
    Direction,
    Pools,
    along_all,
    along_unit,
    breaking_moves,
    holdings_after,
    marks_after,
    moves_along,
    positions_after,
)
from margin.stresses.stress import Moves, Stress, moved_marks, stress_moves

Needs = Callable[[portfolio.Book], tuple[int, int]]
"""(initial, maintenance) margin of a book at its own marks: a model."""

TOGETHER: Final = "all together"
AS_IT_STANDS: Final = "as it stands"
STEP_E9: Final = 50_000_000
GRID_E9: Final = tuple(step * STEP_E9 for step in range(-6, 7))
SAFE_MINOR: Final = 2**52
SAFE_COIN_MINOR: Final = 2**58


class Outcome(msgspec.Struct, frozen=True):
    """A portfolio after a move: `loss_minor` of equity (a gain is negative), and its standing."""

    name: str
    loss_minor: int
    equity_minor: int
    initial_minor: int
    maintenance_minor: int
    standing: str


class Moved(msgspec.Struct, frozen=True):
    """The nearest moves, fractions x 10^9, that break something: None where none does from -99 %
    to +500 %, 0 where it is broken as it stands."""

    fall_e9: int | None
    rise_e9: int | None


class Reverse(msgspec.Struct, frozen=True):
    """The nearest moves along `direction` to a margin call, to liquidation, and below zero."""

    direction: str
    call: Moved
    liquidation: Moved
    zero: Moved


class Step(msgspec.Struct, frozen=True):
    """Equity after one move of spot, along every direction."""

    move_e9: int
    equity_minor: tuple[int, ...]


class PortfolioStress(msgspec.Struct, frozen=True):
    """All of it, in minor units of USDC (10^-6). The first outcome is that of no move at all."""

    model: str
    time_ns: int
    outcomes: tuple[Outcome, ...]
    reverse: tuple[Reverse, ...]
    grid: tuple[Step, ...]


def directions_of(names: Sequence[str], units: Sequence[int]) -> dict[str, Direction]:
    """Each of some units of a market alone, then all of them together if there are several."""
    found = {names[unit]: along_unit(unit, len(names)) for unit in units}
    if len(units) > 1:
        found[TOGETHER] = along_all(len(names))
    return found


def moved_of(found: Break) -> Moved:
    """A break as it is reported."""
    return Moved(found.fall_e9, found.rise_e9)


def is_exact(book: portfolio.Book) -> bool:
    """Whether a book is small enough for every sum of a stress to be exact.

    In dollars a contract grows twelvefold at most, in coin a hundredfold, at -99 %.
    """
    usdc = coin = 0
    for row in np.flatnonzero(book.quantity_lots).tolist():
        of, marks = book.instruments, book.marks
        size = abs(int(book.quantity_lots[row])) * int(of.lot_e8[row])
        index_e8, mark_e8 = int(marks.index_e8[int(of.unit[row])]), int(marks.mark_e8[row])
        forward_e8, strike_e8 = int(marks.forward_e8[row]), int(of.strike_e8[row])
        if int(of.kind[row]) == INVERSE:
            usdc += size // 100
            coin += size * 10**10 // mark_e8
        elif int(of.kind[row]) >= INVERSE_CALL:
            usdc += size * max(index_e8, strike_e8) // 10**10
            coin += size * 100 * (strike_e8 // forward_e8 + 1)
        else:
            usdc += size * max(index_e8, mark_e8, forward_e8, strike_e8) // 10**10
    cash = [abs(amount) for amount in book.cash_minor.tolist()]
    return max(usdc, *cash) < SAFE_MINOR and coin < SAFE_COIN_MINOR


class _Pool:
    """One portfolio under one model, asked at moved marks."""

    def __init__(self, book: portfolio.Book, asked: Needs, haircuts: AnyHaircuts) -> None:
        self.book, self.asked = book, asked
        self.of = Pools(
            book.instruments, book.marks, positions_of(book), book.cash_minor[None, :],
            option_value_minor(book)[None, :], haircuts,
            np.array(book.coin_of_unit, np.int64),
        )  # fmt: skip
        self._needs: dict[bytes, tuple[int, int]] = {}

    def needs(self, marks: Marks, held: Positions) -> tuple[int, int]:
        """(initial, maintenance) at some marks, beside the coin cash of `held`."""
        key = marks.index_e8.tobytes() + marks.mark_e8.tobytes() + marks.volatility_e9.tobytes()
        if key not in self._needs:
            cash = self.book.cash_minor.copy()
            for unit, currency in enumerate(self.book.coin_of_unit):
                if currency > 0:
                    cash[currency] = held.coin_minor[0, unit]
            there = msgspec.structs.replace(self.book, marks=marks, cash_minor=cash)
            self._needs[key] = self.asked(there)
        return self._needs[key]

    def level_at(self, level: int) -> Callable[[Marks, Positions], Int64Array]:
        """Initial (0) or maintenance (1) margin, as a search along a direction asks for it."""
        return lambda marks, held: np.array([self.needs(marks, held)[level]], np.int64)

    def outcomes(self, names: Sequence[str], moves: Moves) -> list[Outcome]:
        """What each of some moves leaves; the first of them is none."""
        then = holdings_after(self.of, moves)
        moved = moved_marks(self.of.instruments, self.of.marks, moves)
        equity = then.equity(self.of.haircuts)[0].tolist()
        found = []
        for k, name in enumerate(names):
            marks = marks_after(self.of.instruments, self.of.marks, moved, k)
            initial, maintenance = self.needs(marks, positions_after(self.of, then, k))
            standing = health(equity[k], initial, initial, maintenance).name.lower()
            loss = equity[0] - equity[k]
            found.append(Outcome(name, loss, equity[k], initial, maintenance, standing))
        return found


def with_no_move(moves: Moves) -> Moves:
    """The same moves after one of nothing."""

    def first(column: Int64Array) -> Int64Array:
        return np.ascontiguousarray(np.pad(column, ((0, 0), (1, 0))))

    return Moves(first(moves.spot_e9), first(moves.volatility_e9), first(moves.basis_e9))


def stressed_portfolio(
    book: portfolio.Book,
    model: str,
    asked: Needs,
    haircuts: AnyHaircuts,
    stresses: Sequence[Stress],
) -> PortfolioStress:
    """Losses in some stresses, and the nearest moves that break the portfolio.

    `asked` is the model of that name, `haircuts` its haircuts by currency. `InvariantBroken`
    unless the book `is_exact`.
    """
    check(is_exact(book), "stress: a portfolio too large to be added exactly")
    pool, units = _Pool(book, asked, haircuts), units_in_play(book)
    moves = stress_moves(stresses, book.unit_names, book.instruments, book.marks.now_ns)
    names = [AS_IT_STANDS, *(stress.name for stress in stresses)]
    along = directions_of(book.unit_names, units)

    def nearest(direction: Direction, level: int | None) -> Moved:
        margin = None if level is None else pool.level_at(level)
        return moved_of(breaking_moves(pool.of, direction, margin)[0])

    equity = [
        holdings_after(pool.of, moves_along(direction, book.instruments, GRID_E9))
        .equity(haircuts)[0]
        .tolist()
        for direction in along.values()
    ]
    return PortfolioStress(
        model=model,
        time_ns=book.marks.now_ns,
        outcomes=tuple(pool.outcomes(names, with_no_move(moves))),
        reverse=tuple(
            Reverse(name, nearest(one, 0), nearest(one, 1), nearest(one, None))
            for name, one in along.items()
        ),
        grid=tuple(
            Step(move, tuple(column[k] for column in equity)) for k, move in enumerate(GRID_E9)
        ),
    )
