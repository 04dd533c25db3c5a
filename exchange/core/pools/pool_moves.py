"""Pools open and close, and margin and positions move between the pools of one owner.

Each request is granted whole or refused whole. Nothing moves that would leave the giving pool
short of its initial margin with open orders, and nothing that makes a short receiving pool shorter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exchange.core import limits
from exchange.core.commands import ClosePool, MoveMargin, OpenPool, SwitchMode
from exchange.core.events import (
    Event,
    MarginMoved,
    ModeSwitched,
    PoolClosed,
    PoolOpened,
    Rejected,
)
from exchange.core.pools.money import add_pool, refresh
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.contracts import Life
from exchange.core.stored.layers import NO_POOL, OPENED_BY_OWNER, Layer, PoolKind
from exchange.core.stored.marks import IndexState
from exchange.core.stored.orders import INSTRUMENT_SHIFT, OPEN_LOTS, ORDER_ID, SIDE
from exchange.core.stored.state import State

if TYPE_CHECKING:
    from exchange.core.engine import Engine

OTHER_IS_SHORT = "another pool of the owner would be short of its margin"


def _refusal_of_layer(state: State, command: OpenPool) -> RejectReason:
    accounts, kind = state.accounts, command.kind
    if not 0 <= command.account < len(accounts.names):
        return RejectReason.ACCOUNT_UNKNOWN
    if kind not in OPENED_BY_OWNER:
        return RejectReason.POOL_KIND_UNKNOWN
    if kind == PoolKind.GROUP and command.account in accounts.layers.parent_account:
        return RejectReason.ACCOUNT_IS_SUB_ACCOUNT
    isolated = kind == PoolKind.ISOLATED
    contracts = state.contracts
    known = 0 <= command.instrument < len(contracts)
    if isolated and not known:
        return RejectReason.INSTRUMENT_UNKNOWN
    if isolated and contracts.life[command.instrument] != Life.LISTED:
        return RejectReason.INSTRUMENT_EXPIRED
    if not isolated and command.instrument != -1:
        return RejectReason.POOL_KIND_UNKNOWN
    named = 0 < len(command.name) <= limits.POOL_NAME_LENGTH_MAX
    if named != (kind == PoolKind.PORTFOLIO) or (command.name and not named):
        return RejectReason.POOL_NAME_INVALID
    layers = accounts.layers
    if layers.find(command.account, kind, command.instrument, command.name) != NO_POOL:
        return RejectReason.POOL_EXISTS
    if not layers.has_room(layers.owner(command.account), PoolKind(kind)):
        return RejectReason.TOO_MANY_POOLS
    return RejectReason.NONE


def open_pool(engine: Engine, command: OpenPool) -> list[Event]:
    """Open a pool of an account; it starts empty and nothing fills into it yet."""
    state, account = engine.state, command.account
    reason = _refusal_of_layer(state, command)
    if reason:
        return [Rejected(reason)]
    layer = Layer(command.kind, account, command.instrument, command.name)
    pool, is_new = state.accounts.open_layer(layer)
    if is_new:
        add_pool(engine)
    return [PoolOpened(account, pool, command.kind, command.instrument, command.name)]


def _refusal_of_own(state: State, account: int, pool: int) -> RejectReason:
    """Why an account has no say over a pool that it opened, or NONE."""
    if not 0 <= account < len(state.accounts.names):
        return RejectReason.ACCOUNT_UNKNOWN
    if not state.accounts.is_open_pool(pool):
        return RejectReason.POOL_UNKNOWN
    if state.accounts.owner_of[pool] != account:
        return RejectReason.POOL_NOT_OWNED
    return RejectReason.NONE


def close_pool(engine: Engine, command: ClosePool) -> list[Event]:
    """Close a pool without position, order, money, call or liquidation."""
    state, pool = engine.state, command.pool
    accounts = state.accounts
    reason = _refusal_of_own(state, command.account, pool)
    if reason:
        return [Rejected(reason)]
    if pool not in accounts.layers.of_pool:
        text = "an account's cross pool cannot be closed"
        return [Rejected(RejectReason.POOL_KIND_UNKNOWN, text)]
    rows = state.positions.rows_of(pool)
    if (
        rows.start != rows.stop
        or np.count_nonzero(state.ledger.cash[pool])
        or state.orders.of_pool(pool).shape[1]
        or pool in accounts.calls
        or pool in accounts.cases
    ):
        return [Rejected(RejectReason.POOL_NOT_EMPTY)]
    accounts.layers.close(pool)
    return [PoolClosed(command.account, pool)]


def _refusal_of_move(state: State, command: MoveMargin) -> RejectReason:
    accounts = state.accounts
    for pool in (command.from_pool, command.to_pool):
        reason = accounts.refusal_of_holder(command.account, pool)
        if reason:
            return reason
    if command.from_pool == command.to_pool:
        return RejectReason.POOLS_EQUAL
    if not 0 <= command.currency < state.ledger.currencies:
        return RejectReason.CURRENCY_UNKNOWN
    if command.amount_minor <= 0:
        return RejectReason.AMOUNT_NOT_POSITIVE
    after = state.ledger.balance(command.to_pool, command.currency) + command.amount_minor
    if command.amount_minor > limits.TRANSFER_MINOR_MAX or after > limits.BALANCE_MINOR_MAX // 2:
        return RejectReason.AMOUNT_TOO_LARGE
    if accounts.in_liquidation(command.from_pool):
        return RejectReason.ACCOUNT_IN_LIQUIDATION
    if command.amount_minor > state.ledger.balance(command.from_pool, command.currency):
        return RejectReason.INSUFFICIENT_FUNDS
    return RejectReason.NONE


def _margin_left(risk: Risk, pool: int) -> int:
    """Equity of a pool less its initial margin."""
    return int(risk.equity[pool]) - risk.need(pool).initial_minor


def _margins_of_others(engine: Engine, giver: int, taker: int) -> dict[int, int]:
    """Equity less initial margin of the owner's other pools, where size can move them, too."""
    if not engine.state.marks.is_open:
        return {}
    risk = engine.risk
    others = [pool for pool in risk.judged_with(giver) if pool not in (giver, taker)]
    return {pool: _margin_left(risk, pool) for pool in others}


def _leaves_short(engine: Engine, before: dict[int, int]) -> bool:
    """Whether one of some pools has less margin than before, and too little with its orders."""
    worse = [pool for pool, had in before.items() if _margin_left(engine.risk, pool) < had]
    return any(engine.gate.room(pool) < 0 for pool in worse)


def move_margin(engine: Engine, command: MoveMargin) -> list[Event]:
    """Move collateral between pools: the giver stays covered, no other pool gets short by it.

    Coins carry their own risk, so receiving them can cost a pool more margin than they bring. Where
    haircuts grow with what an owner has, a coin that pays the receiver's debt, or that leaves the
    giver owing, changes what the owner's other pools count for.
    """
    state = engine.state
    reason = _refusal_of_move(state, command)
    if reason:
        short = reason == RejectReason.INSUFFICIENT_FUNDS
        return [Rejected(reason, "more than the cash in the giving pool" if short else "")]
    giver, taker = command.from_pool, command.to_pool
    currency, amount = command.currency, command.amount_minor
    before = engine.gate.room(taker) if state.marks.is_open else 0
    others = _margins_of_others(engine, giver, taker)
    cause = PostingCause.MARGIN_MOVED
    posted = state.ledger.transfer(cause, giver, taker, currency, amount)
    refresh(engine, giver)
    refresh(engine, taker)
    text = ""
    if state.marks.is_open:
        if engine.gate.own_room(giver) < 0:
            reason = RejectReason.INSUFFICIENT_FUNDS
            text = "the rest would not cover the margin of the giving pool"
        elif engine.gate.room(taker) < min(0, before):
            reason = RejectReason.MARGIN_INSUFFICIENT
            text = "the receiving pool would be short of its margin"
        elif _leaves_short(engine, others):
            reason, text = RejectReason.MARGIN_INSUFFICIENT, OTHER_IS_SHORT
    if reason:
        state.ledger.transfer(cause, taker, giver, currency, amount)
        refresh(engine, taker)
        refresh(engine, giver)
        return [Rejected(reason, text)]
    return [MarginMoved(command.account, giver, taker, currency, amount), posted]


def _refusal_of_switch(state: State, command: SwitchMode, giver: int) -> RejectReason:
    """Why nothing can move from the contract's pool into `command.pool`, or NONE."""
    accounts, taker = state.accounts, command.pool
    if not 0 <= command.instrument < len(state.contracts):
        return RejectReason.INSTRUMENT_UNKNOWN
    if taker == NO_POOL:
        return RejectReason.POOL_UNKNOWN
    reason = accounts.pool_for(command.account, command.instrument, taker)[1]
    if reason:
        return reason
    if giver == taker:
        return RejectReason.POOLS_EQUAL
    if accounts.in_liquidation(giver) or accounts.in_liquidation(taker):
        return RejectReason.ACCOUNT_IN_LIQUIDATION
    unit = state.contracts.specs[command.instrument].underlying
    if state.marks.index_state[unit] != IndexState.FRESH:
        return RejectReason.INDEX_STALE
    return RejectReason.NONE


def _words_of_switch(state: State, command: SwitchMode, reason: RejectReason) -> str:
    """Why nothing can move, where the reason alone would speak of something else; or empty."""
    if reason == RejectReason.INDEX_STALE:
        return "the index is stale: the contract does not move between pools"
    owned = not state.accounts.refusal_of_holder(command.account, command.pool)
    if reason == RejectReason.POOL_NOT_OWNED and owned:
        return "the margin pool is a sub-account's: only money moves between accounts"
    return ""


def _lots_that_meet(state: State, pools: tuple[int, int], slot: int) -> int:
    """The most lots that one pool can come to hold of a contract, after two have joined."""
    rows = state.orders.of_pools(list(pools))
    rows = rows[:, rows[ORDER_ID] >> INSTRUMENT_SHIFT == slot]
    held = sum(state.positions.lots_of(pool, slot) for pool in pools)
    return max(
        max(0, side * held) + int(rows[OPEN_LOTS, rows[SIDE] == side].sum()) for side in (1, -1)
    )


def switch_mode(engine: Engine, command: SwitchMode) -> list[Event]:
    """Move a contract's position and orders to another pool and let it fill there from now on.

    Both pools must hold their initial margin with orders afterwards, and none of the owner's others
    may get short by it (the size of positions and of coins is judged over all). A future is paid up
    to the mark, so it moves no equity; an option takes its value at the mark with it.
    """
    state, slot, taker = engine.state, command.instrument, command.pool
    accounts = state.accounts
    giver, reason = accounts.pool_for(command.account, slot, NO_POOL)
    reason = reason or _refusal_of_switch(state, command, giver)
    if reason:
        return [Rejected(reason, _words_of_switch(state, command, reason))]
    rows = state.orders.of_pool(giver)
    moving = rows[ORDER_ID] >> INSTRUMENT_SHIFT == slot
    orders, lots = rows[:, moving], state.positions.lots_of(giver, slot)
    if lots or orders.shape[1]:
        if _lots_that_meet(state, (giver, taker), slot) > state.contracts.lots_max[slot]:
            return [Rejected(RejectReason.POSITION_LIMIT)]
        others = _margins_of_others(engine, giver, taker)
        table = state.positions.table
        state.positions.move(giver, taker, slot)
        refresh(engine, giver)
        refresh(engine, taker)
        joined = np.concatenate((state.orders.of_pool(taker), orders), axis=1)
        text = ""
        if engine.gate.room(giver, rows[:, ~moving]) < 0:
            text = "what stays would not cover the margin of the pool that the contract leaves"
        elif engine.gate.room(taker, joined) < 0:
            text = "the pool that the contract moves to would be short of its margin"
        elif _leaves_short(engine, others):
            text = OTHER_IS_SHORT
        if text:
            state.positions.table = table
            refresh(engine, taker)
            refresh(engine, giver)
            return [Rejected(RejectReason.MARGIN_INSUFFICIENT, text)]
        state.orders.move(giver, taker, slot)
        engine.gate.orders_moved(giver, taker, slot, orders)
    cross = accounts.pool_of[command.account]
    accounts.layers.set_mode(command.account, slot, NO_POOL if taker == cross else taker)
    return [ModeSwitched(command.account, slot, giver, taker, lots, orders.shape[1])]
