"""Named stresses: what every pool would lose if a day of the past, or one of your own, came back.

A stress moves all risk units at once: spot by coin, implied volatility by tenor, and the basis of
perpetuals and dated contracts. Marks are moved in integers; contracts are then priced again from
the moved marks, so a stress is a revaluation and not a sensitivity. Stresses that ship are data
files read by `margin.stresses`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numba import njit

from margin.black76 import price
from margin.fixed_point import (
    COIN_SCALE,
    NS_PER_DAY,
    NS_PER_YEAR,
    PRICE_SCALE,
    RATE_SCALE,
    USDC_SCALE,
    VOLATILITY_SCALE,
    quantise,
)
from margin.invariant import Int64Array, check
from margin.portable_math import exp
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    LINEAR_CALL,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
)
from margin.presets.preset import DEFAULT_NAME, NamedRate, rate_of

LEAST_MOVE_E9: Final = -990_000_000
MOST_MOVE_E9: Final = 5_000_000_000
MOST_VOLATILITY_MOVE_E9: Final = 20_000_000_000

QUANTUM_BITS: Final = 10
"""Profit and loss per lot is in 2^-10 minor units."""

_E8: Final = float(PRICE_SCALE)
_E9: Final = float(VOLATILITY_SCALE)
_YEAR: Final = float(NS_PER_YEAR)
_USDC_QUANTA: Final = float(USDC_SCALE << QUANTUM_BITS)
_COIN_QUANTA: Final = float(COIN_SCALE << QUANTUM_BITS)
_SPLIT: Final = 100_000  # its square turns coin minor units x price_e8 into USDC minor units


def _require(condition: bool, key: str, rule: str) -> None:
    if not condition:
        raise ValueError(f"{key}: {rule}")


class TenorMove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The relative move of implied volatility `days` before expiry."""

    days: int
    move_e9: int


class Basis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Relative moves of marks beyond spot: of perpetuals, and of dated futures with the forwards
    of options."""

    perpetual_e9: int = 0
    dated_e9: int = 0

    def __post_init__(self) -> None:
        for key in self.__struct_fields__:
            within = LEAST_MOVE_E9 <= getattr(self, key) <= RATE_SCALE
            _require(within, f"basis.{key.removesuffix('_e9')}", "must lie in -0.99 .. 1")


class Stress(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One stress. `spot`: by coin, sorted, with a default. `volatility`: by ascending days; between
    two tenors linear in days, flat outside them, so one row is one number for all."""

    name: str
    spot: tuple[NamedRate, ...]
    volatility: tuple[TenorMove, ...]
    basis: Basis = Basis()

    def __post_init__(self) -> None:
        names = [row.name for row in self.spot]
        _require(bool(self.name), "name", "must not be empty")
        _require(self.name.isprintable(), "name", "must be one line of characters that print")
        _require(names == sorted(set(names)), "spot", "names must be sorted and distinct")
        _require(DEFAULT_NAME in names, "spot", "needs a default")
        for row in self.spot:
            within = LEAST_MOVE_E9 <= row.rate_e9 <= MOST_MOVE_E9
            _require(within, f"spot.{row.name}", "must lie in -0.99 .. 5")
        days = [node.days for node in self.volatility]
        _require(bool(days), "volatility", "must hold a move")
        rising = days == sorted(set(days)) and days[0] >= 0
        _require(rising, "volatility.days", "must rise from 0 or more")
        for node in self.volatility:
            inside = -RATE_SCALE <= node.move_e9 <= MOST_VOLATILITY_MOVE_E9
            _require(inside, "volatility.move", "must lie in -1 .. 20")

    def spot_move_e9(self, coin: str) -> int:
        """The relative spot move of a coin."""
        return rate_of(self.spot, coin)

    def volatility_move_e9(self, left_ns: int) -> int:
        """The relative volatility move `left_ns` before expiry, interpolated, rounded down."""
        near = self.volatility[0]
        if left_ns <= near.days * NS_PER_DAY:
            return near.move_e9
        for far in self.volatility[1:]:
            if left_ns <= far.days * NS_PER_DAY:
                done, width = left_ns - near.days * NS_PER_DAY, (far.days - near.days) * NS_PER_DAY
                return near.move_e9 + (far.move_e9 - near.move_e9) * done // width
            near = far
        return near.move_e9


class Moves(msgspec.Struct, frozen=True, gc=False):
    """K joint moves, relative, x 10^9: `spot_e9[U,K]`, `volatility_e9[I,K]`, `basis_e9[I,K]`."""

    spot_e9: Int64Array
    volatility_e9: Int64Array
    basis_e9: Int64Array

    def __len__(self) -> int:
        return int(self.spot_e9.shape[1])


class MovedMarks(msgspec.Struct, frozen=True, gc=False):
    """Marks after K moves: `index_e8[U,K]`, `mark_e8[I,K]`, `forward_e8[I,K]`,
    `volatility_e9[I,K]`. Marks of options are left where they were: they are priced again."""

    index_e8: Int64Array
    mark_e8: Int64Array
    forward_e8: Int64Array
    volatility_e9: Int64Array


def stress_moves(
    stresses: Sequence[Stress], coins: Sequence[str], instruments: Instruments, now_ns: int
) -> Moves:
    """The moves of some stresses for risk units on `coins[U]`."""
    spot = [[stress.spot_move_e9(coin) for stress in stresses] for coin in coins]
    volatility = np.zeros((len(instruments), len(stresses)), np.int64)
    basis = np.zeros_like(volatility)
    perpetual = instruments.expiry_ns == NEVER_NS
    option = instruments.is_option()
    expiries = np.unique(instruments.expiry_ns[option]).tolist()
    for k, stress in enumerate(stresses):
        basis[:, k] = np.where(perpetual, stress.basis.perpetual_e9, stress.basis.dated_e9)
        for expiry_ns in expiries:
            rows = option & (instruments.expiry_ns == expiry_ns)
            volatility[rows, k] = stress.volatility_move_e9(max(0, expiry_ns - now_ns))
    return Moves(np.array(spot, np.int64).reshape(len(coins), len(stresses)), volatility, basis)


def _moved(amount: Int64Array, move_e9: Int64Array) -> Int64Array:
    """floor(amount x (1 + move)) without forming the product."""
    factor = RATE_SCALE + move_e9
    whole = amount // RATE_SCALE
    moved: Int64Array = whole * factor + (amount - whole * RATE_SCALE) * factor // RATE_SCALE
    return moved


def moved_marks(instruments: Instruments, marks: Marks, moves: Moves) -> MovedMarks:
    """Marks after each of K moves, in integers: rounded down, prices at least 10^-8.

    Index x (1 + m). Futures, perpetuals and forwards x (1 + m), then x (1 + basis). Volatility
    x (1 + v).
    """
    check(moves.spot_e9.shape[0] == marks.index_e8.shape[0], "stress: moves of other risk units")
    check(moves.volatility_e9.shape[0] == len(instruments), "stress: moves of other instruments")
    spot = moves.spot_e9[instruments.unit]

    def prices(column: Int64Array) -> Int64Array:
        moved = _moved(_moved(column[:, None], spot), moves.basis_e9)
        return np.ascontiguousarray(np.maximum(moved, 1))

    index_e8 = np.maximum(_moved(marks.index_e8[:, None], moves.spot_e9), 1)
    option = instruments.is_option()[:, None]
    return MovedMarks(
        index_e8=np.ascontiguousarray(index_e8),
        mark_e8=np.where(option, marks.mark_e8[:, None], prices(marks.mark_e8)),
        forward_e8=np.where(option, prices(marks.forward_e8), marks.forward_e8[:, None]),
        volatility_e9=_moved(marks.volatility_e9[:, None], moves.volatility_e9),
    )


@njit(cache=True, error_model="numpy")
def _lot_kernel(
    instruments: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    now_ns: int,
    marks: tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array],
    moved: tuple[Int64Array, Int64Array, Int64Array, Int64Array],
    settles_in_coin: bool,
    profit: Int64Array,
) -> None:
    """Profit [I,K] of one long lot between the marks and the moved marks, in quanta."""
    kind, unit, expiry_ns, strike_e8, lot_e8 = instruments
    index_e8, mark_e8, forward_e8, volatility_e9, rate_e9 = marks
    index_then, mark_then, forward_then, volatility_then = moved
    for i in range(len(kind)):
        lot = lot_e8[i] / _E8
        if kind[i] == INVERSE:
            mark = mark_e8[i] / _E8
            for k in range(profit.shape[1]):
                coins = lot * (1.0 / mark - 1.0 / (mark_then[i, k] / _E8))
                if settles_in_coin:
                    profit[i, k] = quantise(coins * _COIN_QUANTA)
                else:
                    profit[i, k] = quantise(coins * (index_then[unit[i], k] / _E8) * _USDC_QUANTA)
            continue
        if kind[i] < LINEAR_CALL:
            for k in range(profit.shape[1]):
                step = (mark_then[i, k] - mark_e8[i]) / _E8
                profit[i, k] = quantise(lot * step * _USDC_QUANTA)
            continue
        strike = strike_e8[i] / _E8
        years = max(0, expiry_ns[i] - now_ns) / _YEAR
        in_coin = kind[i] >= INVERSE_CALL
        discount = 1.0 if in_coin else exp(-(max(0, rate_e9[i]) / _E9) * years)
        is_call = kind[i] == LINEAR_CALL or kind[i] == INVERSE_CALL
        now = price(forward_e8[i] / _E8, strike, volatility_e9[i] / _E9, years, discount, is_call)
        if in_coin:
            now /= forward_e8[i] / _E8
        for k in range(profit.shape[1]):
            forward, volatility = forward_then[i, k] / _E8, volatility_then[i, k] / _E9
            then = price(forward, strike, volatility, years, discount, is_call)
            if not in_coin:
                profit[i, k] = quantise(lot * (then - now) * _USDC_QUANTA)
            elif settles_in_coin:
                profit[i, k] = quantise(lot * (then / forward - now) * _COIN_QUANTA)
            else:
                index, after = index_e8[unit[i]] / _E8, index_then[unit[i], k] / _E8
                profit[i, k] = quantise(lot * (then / forward * after - now * index) * _USDC_QUANTA)


def lot_profits(
    instruments: Instruments, marks: Marks, moved: MovedMarks, *, settles_in_coin: bool
) -> Int64Array:
    """Profit of one long lot after each move, in 2^-10 minor units, shape [I,K].

    Linear: lot x (F' - F) USDC. Inverse: lot x (1/F - 1/F') coin, which at the moved index is that
    times S' USDC; `settles_in_coin` says which of the two. Options: lot x (B76' - B76) USDC, both
    at the time of the marks, discounted by exp(-max(r, 0) tau), whose rate does not move. Inverse
    options: lot x (B76'/F' - B76/F) coin without a discount, or what that premium is worth in USDC
    then less what it is worth now, lot x (S' B76'/F' - S B76/F).
    """
    profit = np.zeros((len(instruments), moved.mark_e8.shape[1]), np.int64)
    _lot_kernel(
        instruments.kernel_columns(),
        marks.now_ns,
        marks.kernel_columns(),
        (moved.index_e8, moved.mark_e8, moved.forward_e8, moved.volatility_e9),
        settles_in_coin, profit,
    )  # fmt: skip
    return profit


@njit(cache=True)
def _sum_kernel(
    pool_start: Int64Array,
    instrument: Int64Array,
    lots: Int64Array,
    column: Int64Array,
    profit: Int64Array,
    total: Int64Array,
) -> None:
    """Add to total[P,C,K], at column[I] of the instrument, floor(sum of lots x profit / 2^10).

    Whole minor units and fractions are summed apart, so nothing near 2^62 is ever multiplied.
    """
    columns, moves = total.shape[1], total.shape[2]
    whole, part = np.empty((columns, moves), np.int64), np.empty((columns, moves), np.int64)
    mask = (1 << QUANTUM_BITS) - 1
    for p in range(len(pool_start) - 1):
        whole[:, :] = 0
        part[:, :] = 0
        for r in range(pool_start[p], pool_start[p + 1]):
            i, c = instrument[r], column[instrument[r]]
            for k in range(moves):
                whole[c, k] += lots[r] * (profit[i, k] >> QUANTUM_BITS)
                part[c, k] += lots[r] * (profit[i, k] & mask)
        for c in range(columns):
            for k in range(moves):
                total[p, c, k] += whole[c, k] + (part[c, k] >> QUANTUM_BITS)


def pool_profits(positions: Positions, column: Int64Array, profit: Int64Array) -> Int64Array:
    """Profit of every pool by column, floored once for each, shape [P,C,K].

    `profit[I,K]` of one lot as `lot_profits` gives it; `column[I]` says where an instrument's
    profit goes. |lots| < 2^31 and |lots x profit| < 2^53 minor units, 256 rows: no sum wraps.
    """
    columns = int(column.max(initial=0)) + 1
    total = np.zeros((positions.pool_count, columns, profit.shape[1]), np.int64)
    _sum_kernel(
        positions.pool_start, positions.instrument, positions.quantity_lots, column, profit, total
    )
    return total


def _coin_value(amount_minor: Int64Array, price_e8: Int64Array) -> Int64Array:
    """floor(amount x price / 10^10), from halves of five digits."""
    high, price_high = amount_minor // _SPLIT, price_e8 // _SPLIT
    low, price_low = amount_minor - high * _SPLIT, price_e8 - price_high * _SPLIT
    middle = high * price_low + low * price_high + low * price_low // _SPLIT
    value: Int64Array = high * price_high + middle // _SPLIT
    return value


def stress_losses(
    instruments: Instruments,
    marks: Marks,
    positions: Positions,
    stresses: Sequence[Stress],
    coins: Sequence[str],
) -> Int64Array:
    """What every pool loses in every stress, USDC minor units, shape [P,K]; a gain is negative.

    `coins[U]` names the coin of each risk unit. Coin cash loses amount x (S - S'). Haircuts are
    left out, as in the scenarios. Rounded against the pool: positions once, and coin cash once a
    unit. `OverflowError` if one lot gains or loses 2^52 minor units.
    """
    moves = stress_moves(stresses, coins, instruments, marks.now_ns)
    moved = moved_marks(instruments, marks, moves)
    profit = lot_profits(instruments, marks, moved, settles_in_coin=False)
    total = pool_profits(positions, np.zeros(len(instruments), np.int64), profit)[:, 0, :]
    for u in range(len(coins)):
        step_e8 = moved.index_e8[u] - marks.index_e8[u]
        total += _coin_value(positions.coin_minor[:, u, None], step_e8[None, :])
    losses: Int64Array = -total
    return losses


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.ones(1, np.int64), np.ones((1, 1), np.int64)
    call = Instruments(one * LINEAR_CALL, one * 0, one, one, one, one * 0)
    marks = Marks(0, one, one, one, one, one)
    moved = MovedMarks(grid, grid, grid, grid)
    profit = lot_profits(call, marks, moved, settles_in_coin=True)
    held = Positions(np.array([0, 1], np.int64), one * 0, one, grid * 0)
    pool_profits(held, one * 0, profit)
