"""A whole market under stress: what pools lose beyond what they own, and what the fund bears.

The engine is read and left as it is. Nobody trades on the way; groups pay their guarantees, as they
do before any liquidation, and else no layer but the insurance fund pays, so this is the gap against
which the fund stands alone. A deficit is counted at full value, as the waterfall counts it, and
credit for what is elsewhere pays none of it; equity and credit stand against maintenance by the
engine's own rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np

from exchange.core.engine import Engine
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.moved_risk import MovedRisk
from exchange.pool_names import pool_name
from exchange.portfolios.stress import (
    AS_IT_STANDS,
    GRID_E9,
    Moved,
    directions_of,
    moved_of,
    with_no_move,
)
from margin.invariant import BoolArray, Int64Array, check
from margin.pools.changed_pools import gather_pools
from margin.presets.preset import Preset
from margin.stresses.reverse_stress import (
    Break,
    Direction,
    Holdings,
    Pools,
    deficits,
    equity_after,
    fund_breaking_move,
    holdings_after,
    marks_after,
    moves_along,
)
from margin.stresses.stress import MovedMarks, Moves, Stress, moved_marks, stress_moves

WORST: Final = 5


class WorstPool(msgspec.Struct, frozen=True):
    """A pool that loses: its account, its name, and at full value its loss and what is left.

    What a group pays or a pool is paid as a guarantee is no loss, and in what is left.
    """

    account: str
    pool: str
    loss_minor: int
    equity_minor: int


class MarketOutcome(msgspec.Struct, frozen=True):
    """A market after a move.

    `losses_minor`: of all pools that lose; `burden_minor`: what they owe beyond their equity, once
    groups have paid; `fund_minor`: the insurance fund after its own holdings moved and the burden
    was paid; `credit_minor`: what counts for margin of what is elsewhere. Below maintenance is what
    is liquidated at once, credit counted. `worst`: pools that lose in the order of what is left to
    them, the least first.
    """

    name: str
    losses_minor: int
    burden_minor: int
    credit_minor: int
    accounts_below_maintenance: int
    pools_below_maintenance: int
    accounts_below_zero: int
    pools_below_zero: int
    fund_minor: int
    worst: tuple[WorstPool, ...]


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
    pools: int
    models: tuple[str, ...]
    fund_minor: int
    outcomes: tuple[MarketOutcome, ...]
    reverse: tuple[FundReverse, ...]
    grid: tuple[MarketStep, ...]


def pools_book(engine: Engine, pools: Int64Array) -> Pools:
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
    return Pools(
        state.contracts.columns, msgspec.structs.replace(seen, **copies), positions,
        np.ascontiguousarray(cash[pools]), np.ascontiguousarray(held.option_values()[pools]),
        np.zeros(cash.shape[1], np.int64), np.array(currency, np.int64),
    )  # fmt: skip


class _Market:
    """The open pools of an engine's accounts and its fund, and the risk that moves with them."""

    def __init__(self, engine: Engine, preset: Preset | None) -> None:
        check(engine.state.marks.is_open, "stress: the market has not opened")
        self.state, accounts = engine.state, engine.state.accounts
        opened = [
            pool for pool in range(HOUSE_POOLS, accounts.pools) if accounts.is_open_pool(pool)
        ]
        self.pools = np.array(opened, np.int64)
        self.account = accounts.account_column()[self.pools]
        self.users = pools_book(engine, self.pools)
        self.fund = pools_book(engine, np.array([House.INSURANCE], np.int64))
        self.moved = MovedRisk(engine, preset)
        self.models = tuple(model.preset.name for model in self.moved.risk.models)
        self.guaranteed = self._guaranteed()
        nothing = Direction(np.zeros(len(self.users.marks.index_e8), np.int64))
        none = moves_along(nothing, self.users.instruments, [0])
        self.fund_minor = int(self.fund_after(none)[0])

    def _guaranteed(self) -> BoolArray:
        """Whether a group of its owner may pay for a pool."""
        groups = self.state.accounts.layers.group_of
        parents = [self.state.accounts.parent_of(pool) for pool in self.pools.tolist()]
        return np.isin(np.array(parents, np.int64), np.array(list(groups.values()), np.int64))

    def fund_after(self, moves: Moves) -> Int64Array:
        """Equity of the fund after each move of what it holds."""
        after: Int64Array = equity_after(self.fund, moves)[0]
        return after

    def _stand(self, then: Holdings, moved: MovedMarks, k: int) -> None:
        """Bring the risk to where the k-th move leaves it."""
        marks = marks_after(self.users.instruments, self.users.marks, moved, k)
        self.moved.stand(marks, self.pools, then.cash_minor[:, :, k])

    def paid_after(self, then: Holdings, full: Int64Array, moves: Moves) -> Int64Array:
        """What groups pay to pools, some of which owe `full[P,K]`, after each move, [P,K].

        Groups are asked where a pool that one stands behind owes: elsewhere nothing that they pay
        changes what is owed.
        """
        paid = np.zeros_like(full)
        asked = np.flatnonzero((full[self.guaranteed] < 0).any(axis=0)).tolist()
        if asked:
            moved = moved_marks(self.users.instruments, self.users.marks, moves)
            for k in asked:
                self._stand(then, moved, k)
                paid[:, k] = self.moved.pay_guarantees()[self.pools]
        return paid

    def burdens(self, moves: Moves) -> tuple[list[int], list[int]]:
        """What pools owe after each move once groups have paid, and what these have paid of it."""
        then = holdings_after(self.users, moves)
        full = then.equity(self.users.haircuts)
        alone, left = deficits(full), deficits(full + self.paid_after(then, full, moves))
        return left, [a - b for a, b in zip(alone, left, strict=True)]

    def outcomes(self, names: Sequence[str], moves: Moves) -> list[MarketOutcome]:
        """What each of some moves leaves; the first of them is none, and what stands stands."""
        book, risk = self.users, self.moved
        then = holdings_after(book, moves)
        full = then.equity(book.haircuts)
        moved, fund = moved_marks(book.instruments, book.marks, moves), self.fund_after(moves)
        found = []
        for k, name in enumerate(names):
            left: Int64Array = full[:, k]
            if k == 0:
                risk.stand()
            else:
                self._stand(then, moved, k)
                left = left + risk.pay_guarantees()[self.pools]
            loss, breached = full[:, 0] - full[:, k], risk.breached()[self.pools]
            (burden,) = deficits(left[:, None])
            found.append(
                MarketOutcome(
                    name=name,
                    losses_minor=sum(np.maximum(0, loss).tolist()),
                    burden_minor=burden,
                    credit_minor=sum(risk.risk.backing.credit.values()),
                    accounts_below_maintenance=self._accounts(breached),
                    pools_below_maintenance=int(breached.sum()),
                    accounts_below_zero=self._accounts(left < 0),
                    pools_below_zero=int((left < 0).sum()),
                    fund_minor=int(fund[k]) - burden,
                    worst=self._worst(loss, left),
                )
            )
        return found

    def _accounts(self, which: BoolArray) -> int:
        """How many accounts some pools are of."""
        return len(np.unique(self.account[which]))

    def _worst(self, loss: Int64Array, left: Int64Array) -> tuple[WorstPool, ...]:
        losers = np.flatnonzero(loss > 0)
        first = losers[np.argsort(left[losers], kind="stable")][:WORST].tolist()
        names = self.state.accounts.names
        return tuple(
            WorstPool(
                names[int(self.account[row])], pool_name(self.state, int(self.pools[row])),
                int(loss[row]), int(left[row]),
            )
            for row in first
        )  # fmt: skip

    def exhausting(self, direction: Direction) -> Moved:
        """The nearest moves after which the fund is less than nothing."""
        if self.fund_minor < 0:
            return moved_of(Break(0, 0))
        found = fund_breaking_move(
            self.users, direction, self.fund_minor, own=self.fund,
            covered_after=lambda moves: self.burdens(moves)[1],
        )  # fmt: skip
        return moved_of(found)


def stressed_market(
    engine: Engine, stresses: Sequence[Stress], preset: Preset | None = None
) -> MarketStress:
    """What some stresses do to the accounts of a market and to its fund, and the moves that exhaust
    it.

    `preset` judges all accounts in place of the venue's own models. `InvariantBroken` before the
    first revaluation, `VenueError` where the preset cannot judge the venue.
    """
    state, market = engine.state, _Market(engine, preset)
    coins = [unit.name for unit in state.venue.underlyings]
    of, now_ns = market.users.instruments, state.marks.time_ns
    moves = with_no_move(stress_moves(stresses, coins, of, now_ns))
    along = directions_of(coins, range(len(coins)))
    burden = [
        market.burdens(moves_along(direction, of, GRID_E9))[0] for direction in along.values()
    ]
    return MarketStress(
        venue=state.venue.name,
        cycle=state.cycle,
        time_ns=now_ns,
        accounts=len(state.accounts.names),
        pools=len(market.pools),
        models=market.models,
        fund_minor=market.fund_minor,
        outcomes=tuple(market.outcomes([AS_IT_STANDS, *(s.name for s in stresses)], moves)),
        reverse=tuple(FundReverse(name, market.exhausting(one)) for name, one in along.items()),
        grid=tuple(
            MarketStep(move, tuple(column[k] for column in burden))
            for k, move in enumerate(GRID_E9)
        ),
    )
