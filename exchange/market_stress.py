"""A whole market under stress: what accounts lose beyond what they own, and what the fund bears.

The engine is read and left as it is. Nobody trades on the way and no layer but the insurance fund
pays, so this is the gap against which the fund stands alone. A deficit is counted at full value,
as the waterfall counts it; equity against maintenance with the haircuts of the account's model.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Final

import msgspec
import numpy as np

from exchange.core.engine import Engine
from exchange.core.ledger import HOUSE_POOLS, House
from exchange.core.margin_models import risk_model
from exchange.core.state import State
from exchange.portfolio_stress import (
    AS_IT_STANDS,
    GRID_E9,
    Moved,
    directions_of,
    moved_of,
    with_no_move,
)
from margin.changed_pools import gather_pools
from margin.collateral import pool_equity
from margin.invariant import Int64Array, check
from margin.portfolio import Marks
from margin.preset import Preset
from margin.reverse_stress import (
    Book,
    Break,
    Direction,
    deficits,
    equity_after,
    fund_breaking_move,
    holdings_after,
    marks_after,
    moves_along,
    positions_after,
)
from margin.stress import Moves, Stress, moved_marks, stress_moves

WORST: Final = 5


class WorstAccount(msgspec.Struct, frozen=True):
    """An account that loses, and its equity after that, at full value."""

    account: str
    loss_minor: int
    equity_minor: int


class MarketOutcome(msgspec.Struct, frozen=True):
    """A market after a move.

    `losses_minor`: of all that lose; `burden_minor`: what they owe beyond their equity;
    `fund_minor`: the insurance fund after its own holdings moved and the burden was paid;
    `worst`: losers in the order of what is left to them, the least first.
    """

    name: str
    losses_minor: int
    burden_minor: int
    below_maintenance: int
    below_zero: int
    fund_minor: int
    worst: tuple[WorstAccount, ...]


class FundReverse(msgspec.Struct, frozen=True):
    """The nearest moves along `direction` after which the burden exceeds the fund."""

    direction: str
    exhausted: Moved


class MarketStep(msgspec.Struct, frozen=True):
    """The fund's burden after one move of spot, along every direction."""

    move_e9: int
    burden_minor: tuple[int, ...]


class MarketStress(msgspec.Struct, frozen=True):
    """All of it, in minor units of USDC (10^-6). The first outcome is that of no move at all."""

    venue: str
    cycle: int
    time_ns: int
    accounts: int
    models: tuple[str, ...]
    fund_minor: int
    outcomes: tuple[MarketOutcome, ...]
    reverse: tuple[FundReverse, ...]
    grid: tuple[MarketStep, ...]


def pools_book(engine: Engine, pools: Int64Array) -> Book:
    """Some pools of an engine as a reverse stress reads them, at the last marks, at full value.

    Its arrays are copies. `InvariantBroken` before the first revaluation.
    """
    state, held = engine.state, engine.risk.holdings
    check(state.marks.is_open, "stress: the market has not opened")
    venue, seen = state.venue, state.marks.columns()
    columns = {name: getattr(seen, name) for name in seen.__struct_fields__}
    copies = {
        name: value.copy() for name, value in columns.items() if isinstance(value, np.ndarray)
    }
    currency = [max(-1, venue.coin_of(unit)) for unit in range(len(venue.underlyings))]
    cash = held.cash()
    positions = gather_pools(held.columns(held.coins()), pools)
    return Book(
        state.contracts.columns, msgspec.structs.replace(seen, **copies), positions,
        np.ascontiguousarray(cash[pools]), np.ascontiguousarray(held.option_values()[pools]),
        np.zeros(cash.shape[1], np.int64), np.array(currency, np.int64),
    )  # fmt: skip


class _Market:
    """The accounts of an engine and its fund, with the models that charge them."""

    def __init__(self, engine: Engine, preset: Preset | None) -> None:
        check(engine.state.marks.is_open, "stress: the market has not opened")
        self.state, self.layout = engine.state, engine.risk.layout
        accounts = self.state.accounts
        self.pools = np.array(accounts.pool_of, np.int64)
        check(bool((self.pools >= HOUSE_POOLS).all()), "stress: an account in a pool of the house")
        self.accounts = pools_book(engine, self.pools)
        self.fund = pools_book(engine, np.array([House.INSURANCE], np.int64))
        venue = self.state.venue
        presets = venue.presets() if preset is None else (preset,)
        self.models = [risk_model(venue, one) for one in presets]
        of = np.array(accounts.model_of, np.int64)[self.pools]
        self.model_of = of if preset is None else np.zeros_like(of)
        self.owner = accounts.owner_column()[self.pools]
        self.fund_minor = int(self.fund_after(self.moves_along_none())[0])

    def moves_along_none(self) -> Moves:
        """One move, of nothing."""
        units = len(self.accounts.marks.index_e8)
        nothing = Direction(np.zeros(units, np.int64))
        return moves_along(nothing, self.accounts.instruments, [0])

    def fund_after(self, moves: Moves) -> Int64Array:
        """Equity of the fund after each move of what it holds."""
        after: Int64Array = equity_after(self.fund, moves)[0]
        return after

    def _state_at(self, marks: Marks) -> State:
        """The engine's state, seen at other marks; nothing else is copied, nothing is changed."""
        there = copy(self.state)
        there.marks = board = copy(self.state.marks)
        board.index_e8, board.mark_e8 = marks.index_e8, marks.mark_e8
        board.forward_e8, board.volatility_e9 = marks.forward_e8, marks.volatility_e9
        return there

    def outcomes(self, names: Sequence[str], moves: Moves) -> list[MarketOutcome]:
        """What each of some moves leaves; the first of them is none."""
        book = self.accounts
        then = holdings_after(book, moves)
        full = then.equity(book.haircuts)
        burdens, fund = deficits(full), self.fund_after(moves).tolist()
        moved = moved_marks(book.instruments, book.marks, moves)
        found = []
        for k, name in enumerate(names):
            there = self._state_at(marks_after(book.instruments, book.marks, moved, k))
            held = positions_after(book, then, k)
            short = 0
            for number, model in enumerate(self.models):
                at = np.flatnonzero(self.model_of == number)
                if not len(at):
                    continue
                model.reprice(there, self.layout)
                needed = model.needed(gather_pools(held, at), self.owner[at])[0]
                has = pool_equity(
                    np.ascontiguousarray(then.cash_minor[at, :, k]),
                    np.ascontiguousarray(then.option_value_minor[at, :, k]),
                    np.ascontiguousarray(then.index_e8[:, k]), model.haircuts, self.owner[at],
                )  # fmt: skip
                short += int((has < needed.maintenance_minor).sum())
            loss = full[:, 0] - full[:, k]
            found.append(
                MarketOutcome(
                    name=name,
                    losses_minor=sum(np.maximum(0, loss).tolist()),
                    burden_minor=burdens[k],
                    below_maintenance=short,
                    below_zero=int((full[:, k] < 0).sum()),
                    fund_minor=fund[k] - burdens[k],
                    worst=self._worst(loss, full[:, k]),
                )
            )
        return found

    def _worst(self, loss: Int64Array, left: Int64Array) -> tuple[WorstAccount, ...]:
        losers = np.flatnonzero(loss > 0)
        first = losers[np.argsort(left[losers], kind="stable")][:WORST].tolist()
        names = self.state.accounts.names
        return tuple(WorstAccount(names[row], int(loss[row]), int(left[row])) for row in first)

    def exhausting(self, direction: Direction) -> Moved:
        """The nearest moves after which the fund is less than nothing."""
        if self.fund_minor < 0:
            return moved_of(Break(0, 0))
        return moved_of(
            fund_breaking_move(self.accounts, direction, self.fund_minor, own=self.fund)
        )


def stressed_market(
    engine: Engine, stresses: Sequence[Stress], preset: Preset | None = None
) -> MarketStress:
    """What some stresses do to the accounts of a market and to its fund, and the moves that exhaust
    it.

    `preset` judges all accounts in place of the venue's own models. `InvariantBroken` before the
    first revaluation.
    """
    state, market = engine.state, _Market(engine, preset)
    coins = [unit.name for unit in state.venue.underlyings]
    of, now_ns = market.accounts.instruments, state.marks.time_ns
    moves = with_no_move(stress_moves(stresses, coins, of, now_ns))
    along = directions_of(coins, range(len(coins)))
    burden = [
        deficits(equity_after(market.accounts, moves_along(direction, of, GRID_E9)))
        for direction in along.values()
    ]
    return MarketStress(
        venue=state.venue.name,
        cycle=state.cycle,
        time_ns=now_ns,
        accounts=len(market.pools),
        models=tuple(model.preset.name for model in market.models),
        fund_minor=market.fund_minor,
        outcomes=tuple(market.outcomes([AS_IT_STANDS, *(s.name for s in stresses)], moves)),
        reverse=tuple(FundReverse(name, market.exhausting(one)) for name, one in along.items()),
        grid=tuple(
            MarketStep(move, tuple(column[k] for column in burden))
            for k, move in enumerate(GRID_E9)
        ),
    )
