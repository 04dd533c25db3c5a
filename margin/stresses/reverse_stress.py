"""Reverse stress: the smallest move that breaks a pool, or the insurance fund.

The question of a stress turned round: not what a move costs, but which move costs too much. A move
is one number, the relative move of spot; a direction says how far each risk unit goes with it, and
how implied volatility answers. The answer is searched for on both sides of zero, from -99 % to
+500 %.

An option book does not lose steadily: it may break at -10 %, stand again at -20 % and break for
good at -40 %. So a grid is walked outwards first, and bisection runs, on integers of 10^-9, between
the first move of the grid that breaks and the one before it. An island of breakage that lies
wholly between two moves of the grid is not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeAlias

import msgspec
import numpy as np

from margin.fixed_point import RATE_SCALE
from margin.invariant import BoolArray, Int64Array, check
from margin.pools.collateral import AnyHaircuts, pool_equity
from margin.portfolio import INVERSE, INVERSE_CALL, Instruments, Marks, Positions
from margin.stresses.stress import (
    LEAST_MOVE_E9,
    MOST_MOVE_E9,
    MOST_VOLATILITY_MOVE_E9,
    MovedMarks,
    Moves,
    lot_profits,
    moved_marks,
    pool_profits,
)
from margin.valuation import option_marks

FINE_STEP_E9: Final = 5_000_000
FINE_UP_TO_E9: Final = 500_000_000
COARSE_STEP_E9: Final = 20_000_000
_MOVES_AT_ONCE: Final = 32
_HALF: Final = 20

MaintenanceAt: TypeAlias = Callable[[Marks, Positions], Int64Array]
"""Maintenance margin of every pool, shape [P], at some marks: a model, from outside."""

CoveredAfter: TypeAlias = Callable[[Moves], list[int]]
"""What others pay of the deficits of all pools after each move, in minor units."""


class Pools(msgspec.Struct, frozen=True, gc=False):
    """Pools with what they hold and own.

    `cash_minor[P,C]`, `option_value_minor[P,C]` and `haircuts` as `collateral.pool_equity` takes
    them, every pool its owner's only one; `currency_of_unit[U]` is the currency of a unit's coin,
    -1 if it has none here.
    """

    instruments: Instruments
    marks: Marks
    positions: Positions
    cash_minor: Int64Array
    option_value_minor: Int64Array
    haircuts: AnyHaircuts
    currency_of_unit: Int64Array

    def only(self, pool: int) -> Pools:
        """The book of one pool."""
        held = self.positions
        rows = slice(int(held.pool_start[pool]), int(held.pool_start[pool + 1]))
        start = np.array([0, rows.stop - rows.start], np.int64)
        positions = Positions(
            start, held.instrument[rows], held.quantity_lots[rows], held.coin_minor[pool : pool + 1]
        )
        return msgspec.structs.replace(
            self,
            positions=positions,
            cash_minor=self.cash_minor[pool : pool + 1],
            option_value_minor=self.option_value_minor[pool : pool + 1],
        )


class Direction(msgspec.Struct, frozen=True, gc=False):
    """How risk units go with a move x: unit u moves by `beta_e9[U]` x / 10^9, in -99 % .. +500 %.

    Implied volatility of a unit rises, relatively, by `volatility_on_fall_e9` / 10^9 times its fall
    and by `volatility_on_rise_e9` / 10^9 times its rise (either may be negative).
    """

    beta_e9: Int64Array
    volatility_on_fall_e9: int = 0
    volatility_on_rise_e9: int = 0


def along_unit(unit: int, units: int, fall_e9: int = 0, rise_e9: int = 0) -> Direction:
    """The direction in which one of `units` risk units moves alone."""
    beta_e9 = np.zeros(units, np.int64)
    beta_e9[unit] = RATE_SCALE
    return Direction(beta_e9, fall_e9, rise_e9)


def along_all(units: int, fall_e9: int = 0, rise_e9: int = 0) -> Direction:
    """The direction in which all risk units move by the same part: one common factor."""
    return Direction(np.full(units, RATE_SCALE, np.int64), fall_e9, rise_e9)


class Break(NamedTuple):
    """The moves (x 10^9) nearest to zero that break, down and up; None: none within the range.

    Both are 0 if it is broken as it stands.
    """

    fall_e9: int | None
    rise_e9: int | None

    def describe(self) -> str:
        """The two moves in words, in per cent."""
        fall, rise = (_in_words(move) for move in self)
        return f"fall: {fall}; rise: {rise}"


def _in_words(move_e9: int | None) -> str:
    if move_e9 is None:
        return "none within [-99 %, +500 %]"
    sign, size = "-" if move_e9 < 0 else "+", abs(move_e9)
    return f"{sign}{size // 10_000_000}.{size % 10_000_000:07d} %"


def moves_along(direction: Direction, instruments: Instruments, move_e9: Sequence[int]) -> Moves:
    """The joint moves of a direction at each of K sizes; no basis."""
    size = np.array(move_e9, np.int64)[None, :]
    beta = direction.beta_e9[:, None]
    whole = beta // RATE_SCALE
    spot = whole * size + (beta - whole * RATE_SCALE) * size // RATE_SCALE
    spot = np.clip(spot, LEAST_MOVE_E9, MOST_MOVE_E9)
    fall, rise = direction.volatility_on_fall_e9, direction.volatility_on_rise_e9
    check(max(abs(fall), abs(rise)) <= 10**11, "reverse stress: volatility's answer out of range")
    # |spot| is at most 5 x 10^9, so its tenth of a per cent times the answer fits
    answer = np.where(spot < 0, -spot * (fall // 1000), spot * (rise // 1000)) // 1_000_000
    answer = np.clip(answer, -RATE_SCALE, MOST_VOLATILITY_MOVE_E9)
    volatility = np.where(instruments.is_option()[:, None], answer[instruments.unit], 0)
    return Moves(spot, np.ascontiguousarray(volatility), np.zeros_like(volatility))


class Holdings(msgspec.Struct, frozen=True, gc=False):
    """What pools own after K moves, in minor units of each currency, and what that is worth:
    `cash_minor[P,C,K]`, `option_value_minor[P,C,K]`, `index_e8[C,K]`."""

    cash_minor: Int64Array
    option_value_minor: Int64Array
    index_e8: Int64Array

    def equity(self, haircuts: AnyHaircuts, owner_of: Int64Array | None = None) -> Int64Array:
        """`collateral.pool_equity` of every pool after every move, shape [P,K]."""
        pools, _, moves = self.cash_minor.shape
        result = np.empty((pools, moves), np.int64)
        for k in range(moves):
            cash, options, index_e8 = (
                np.ascontiguousarray(of[..., k])
                for of in (self.cash_minor, self.option_value_minor, self.index_e8)
            )
            result[:, k] = pool_equity(cash, options, index_e8, haircuts, owner_of)
        return result


def holdings_after(book: Pools, moves: Moves) -> Holdings:
    """What every pool owns after each of K joint moves.

    Every contract is priced again at the moved marks. The profit of futures goes to cash in the
    currency they settle in, that of options to their value, each floored once per pool and
    currency. Needs `currency_of_unit` for every unit that has an inverse contract.
    """
    of, currencies = book.instruments, book.cash_minor.shape[1]
    moved = moved_marks(of, book.marks, moves)
    profit = lot_profits(of, book.marks, moved, settles_in_coin=True)
    in_coin = (of.kind == INVERSE) | (of.kind >= INVERSE_CALL)
    currency = np.where(in_coin, book.currency_of_unit[of.unit], 0).astype(np.int64)
    check((currency >= 0).all(), "reverse stress: an inverse contract settles in no currency")
    column = np.where(of.is_option(), currencies + currency, currency)
    gain = pool_profits(book.positions, column, profit)
    cash = np.repeat(book.cash_minor[:, :, None], len(moves), axis=2)
    options = np.repeat(book.option_value_minor[:, :, None], len(moves), axis=2)
    cash[:, : gain.shape[1]] += gain[:, :currencies]
    options[:, : max(0, gain.shape[1] - currencies)] += gain[:, currencies:]
    index_e8 = np.full((currencies, len(moves)), 10**8, np.int64)
    for unit, number in enumerate(book.currency_of_unit.tolist()):
        if number > 0:
            index_e8[number] = moved.index_e8[unit]
    return Holdings(cash, options, index_e8)


def equity_after(book: Pools, moves: Moves) -> Int64Array:
    """Equity of every pool after each of K joint moves, USDC minor units, shape [P,K].

    Of `holdings_after`; currencies convert at the moved index with their haircuts.
    """
    return holdings_after(book, moves).equity(book.haircuts)


def positions_after(book: Pools, then: Holdings, k: int) -> Positions:
    """The same positions beside the coin cash that the k-th move leaves."""
    coin = book.positions.coin_minor.copy()
    for unit, number in enumerate(book.currency_of_unit.tolist()):
        if number > 0:
            coin[:, unit] += then.cash_minor[:, number, k] - book.cash_minor[:, number]
    return msgspec.structs.replace(book.positions, coin_minor=coin)


def marks_after(instruments: Instruments, marks: Marks, moved: MovedMarks, k: int) -> Marks:
    """The k-th of the moved marks, with the premiums of options at them."""
    columns = {
        "index_e8": moved.index_e8, "mark_e8": moved.mark_e8, "forward_e8": moved.forward_e8,
        "volatility_e9": moved.volatility_e9,
    }  # fmt: skip
    then = msgspec.structs.replace(
        marks, **{name: np.ascontiguousarray(of[:, k]) for name, of in columns.items()}
    )
    option = instruments.is_option()
    then.mark_e8[option] = option_marks(instruments, then)[option]
    return then


def excess_after(
    book: Pools, direction: Direction, move_e9: Sequence[int], maintenance_at: MaintenanceAt | None
) -> Int64Array:
    """Equity less maintenance of every pool after each move, shape [P,K]; without a model, equity.

    The model is asked at the moved marks, about the coin cash that is then left: maintenance moves
    with the market. It is not asked where no pool has equity of 0 or more: all are broken there.
    """
    moves = moves_along(direction, book.instruments, move_e9)
    holdings = holdings_after(book, moves)
    excess = holdings.equity(book.haircuts)
    if maintenance_at is not None:
        moved = moved_marks(book.instruments, book.marks, moves)
        for k in np.flatnonzero((excess >= 0).any(axis=0)).tolist():
            then = marks_after(book.instruments, book.marks, moved, k)
            excess[:, k] -= maintenance_at(then, positions_after(book, holdings, k))
    return excess


def search_grid() -> list[int]:
    """The sizes walked outwards: steps of 0.5 % to 50 %, of 2 % beyond, both ends included."""
    fine = list(range(FINE_STEP_E9, FINE_UP_TO_E9 + 1, FINE_STEP_E9))
    coarse = list(range(FINE_UP_TO_E9 + COARSE_STEP_E9, MOST_MOVE_E9 + 1, COARSE_STEP_E9))
    falls = [-size for size in fine + coarse if -size > LEAST_MOVE_E9] + [LEAST_MOVE_E9]
    return [*reversed(falls), 0, *fine, *coarse]


def _parts(grid: list[int]) -> list[list[int]]:
    """The grid in pieces, so that many pools do not need room for all moves at once."""
    return [grid[k : k + _MOVES_AT_ONCE] for k in range(0, len(grid), _MOVES_AT_ONCE)]


def _bisect(is_broken: Callable[[int], bool], sound_e9: int, broken_e9: int) -> int:
    """The move next to a sound one that breaks, between a sound move and a broken one."""
    while abs(broken_e9 - sound_e9) > 1:
        middle = (sound_e9 + broken_e9) // 2
        if is_broken(middle):
            broken_e9 = middle
        else:
            sound_e9 = middle
    return broken_e9


def _first_break(grid: list[int], broken: BoolArray, is_broken: Callable[[int], bool]) -> Break:
    """Walk outwards from 0 along a grid that has been judged; bisect the first step that breaks."""
    middle = grid.index(0)
    if broken[middle]:
        return Break(0, 0)
    found: list[int | None] = []
    for step, last in ((-1, -1), (1, len(grid))):
        hits = (k for k in range(middle + step, last, step) if broken[k])
        at = next(hits, None)
        found.append(None if at is None else _bisect(is_broken, grid[at - step], grid[at]))
    return Break(found[0], found[1])


def breaking_moves(
    book: Pools, direction: Direction, maintenance_at: MaintenanceAt | None = None
) -> tuple[Break, ...]:
    """For every pool, the smallest move down and up after which it is broken.

    Broken is equity below maintenance, or below 0 without a model of maintenance. Each result is a
    move that breaks next to one, 10^-9 nearer to zero, that does not. The grid is judged outwards
    for all pools together, bisection pool by pool.
    """
    grid = search_grid()
    middle, pools = grid.index(0), book.positions.pool_count
    broken = np.zeros((pools, len(grid)), np.bool_)
    for columns in (range(middle, -1, -1), range(middle, len(grid))):
        for part in _parts(list(columns)):
            if broken[:, columns].any(axis=1).all():
                break  # nobody looks beyond the first break
            moves = [grid[k] for k in part]
            broken[:, part] = excess_after(book, direction, moves, maintenance_at) < 0

    def search(pool: int) -> Break:
        alone = book.only(pool)

        def is_broken(move_e9: int) -> bool:
            return bool(excess_after(alone, direction, [move_e9], maintenance_at)[0, 0] < 0)

        return _first_break(grid, broken[pool], is_broken)

    return tuple(search(pool) for pool in range(pools))


def fund_breaking_move(
    book: Pools,
    direction: Direction,
    fund_minor: int,
    own: Pools | None = None,
    covered_after: CoveredAfter | None = None,
) -> Break:
    """The smallest common move after which the deficits of all pools exceed the insurance fund.

    A deficit is max(0, -equity) of a pool; nobody trades on the way, so this is the gap against
    which a fund stands alone. Leave the pools of the venue itself out of the book; `own` is the
    pool of the fund, whose gain or loss on what it holds is added to `fund_minor`. What
    `covered_after` says is taken off the deficits; it is asked only where they exceed the fund.
    """
    check(fund_minor >= 0, "reverse stress: a fund below 0")
    grid = search_grid()

    def fund_after(move_e9: Sequence[int]) -> list[int]:
        if own is None:
            return [fund_minor] * len(move_e9)
        moves = moves_along(direction, own.instruments, [0, *move_e9])
        now, *then = equity_after(own, moves)[0].tolist()
        return [fund_minor + after - now for after in then]

    def is_broken(move_e9: Sequence[int]) -> list[bool]:
        totals, has = deficits(excess_after(book, direction, move_e9, None)), fund_after(move_e9)
        over = [k for k in range(len(totals)) if totals[k] > has[k]]
        if covered_after is not None and over:
            moves = moves_along(direction, book.instruments, [move_e9[k] for k in over])
            for k, covered in zip(over, covered_after(moves), strict=True):
                totals[k] -= covered
        return [total > limit for total, limit in zip(totals, has, strict=True)]

    middle, broken = grid.index(0), np.zeros(len(grid), np.bool_)
    for columns in (range(middle, -1, -1), range(middle, len(grid))):
        for part in _parts(list(columns)):
            broken[part] = is_broken([grid[k] for k in part])
            if broken[part].any():
                break  # nobody looks beyond the first break
    return _first_break(grid, broken, lambda move_e9: is_broken([move_e9])[0])


def deficits(equity_minor: Int64Array) -> list[int]:
    """The sum over pools of max(0, -equity), exact, of `equity_minor[P,K]`: one number a move."""
    short = np.maximum(0, -equity_minor)
    high, low = (short >> _HALF).sum(axis=0), (short & ((1 << _HALF) - 1)).sum(axis=0)
    return [(a << _HALF) + b for a, b in zip(high.tolist(), low.tolist(), strict=True)]
