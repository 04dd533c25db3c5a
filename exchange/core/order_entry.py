"""Orders come, change and go while a batch collects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from exchange.core import limits
from exchange.core.commands import CancelAll, CancelOrder, EditOrder, PlaceOrder
from exchange.core.contracts import Life
from exchange.core.events import Event, OrderAccepted, OrderDone, OrderEdited, Rejected
from exchange.core.marks import IndexState
from exchange.core.orders import (
    AGE_BATCH,
    FLAGS,
    IMMEDIATE,
    LIQUIDATION,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    OWN_SEQUENCE,
    POOL,
    PRICE_TICKS,
    REDUCE_ONLY,
    SIDE,
)
from exchange.core.reject_reason import DoneReason, RejectReason
from exchange.core.state import State

if TYPE_CHECKING:
    from exchange.core.engine import Engine


def refusal_of_instrument(state: State, slot: int) -> RejectReason:
    """Why no order may enter this contract now, or NONE."""
    contracts = state.contracts
    if not 0 <= slot < len(contracts):
        return RejectReason.INSTRUMENT_UNKNOWN
    if not state.marks.is_open:
        return RejectReason.MARKET_NOT_OPEN
    spec = contracts.specs[slot]
    if contracts.life[slot] != Life.LISTED or spec.expiry_ns <= state.time_ns:
        return RejectReason.INSTRUMENT_EXPIRED
    if contracts.halted[slot]:
        return RejectReason.INSTRUMENT_HALTED
    if state.marks.index_state[spec.underlying] == IndexState.DEAD:
        return RejectReason.INDEX_DEAD
    return RejectReason.NONE


def refusal_of_terms(state: State, slot: int, price_ticks: int, lots: int) -> RejectReason:
    """Why an order of this price (0: market) and size is never accepted, or NONE."""
    if price_ticks < 0:
        return RejectReason.PRICE_NOT_POSITIVE
    if price_ticks > state.contracts.price_max[slot]:
        return RejectReason.PRICE_TOO_HIGH
    if lots <= 0:
        return RejectReason.QUANTITY_NOT_POSITIVE
    if lots > state.contracts.lots_max[slot]:
        return RejectReason.QUANTITY_TOO_LARGE
    return RejectReason.NONE


def _refusal(state: State, command: PlaceOrder) -> RejectReason:
    if not 0 <= command.account < len(state.accounts.names):
        return RejectReason.ACCOUNT_UNKNOWN
    if command.side not in (1, -1):
        return RejectReason.SIDE_UNKNOWN
    reason = refusal_of_instrument(state, command.instrument)
    if reason:
        return reason
    if len(command.client_order_id) > limits.CLIENT_ORDER_ID_LENGTH_MAX:
        return RejectReason.CLIENT_ORDER_ID_TOO_LONG
    return refusal_of_terms(state, command.instrument, command.price_ticks, command.quantity_lots)


def place(engine: Engine, command: PlaceOrder) -> list[Event]:
    """Accept an order into the running batch, or repeat the answer its client id had before."""
    state = engine.state
    accounts = state.accounts
    account, client_order_id = command.account, command.client_order_id
    if client_order_id:
        known = state.client_orders.find(account, client_order_id)
        if known is not None:
            return [OrderAccepted(known, account, repeated=True)]
    reason = _refusal(state, command)
    if reason:
        return [Rejected(reason)]
    pool = accounts.pool_of[account]
    if pool in accounts.cases and not command.reduce_only:
        return [Rejected(RejectReason.ACCOUNT_IN_LIQUIDATION)]
    slot, side = command.instrument, command.side
    price_ticks, lots = command.price_ticks, command.quantity_lots
    reason = engine.gate.admit(pool, slot, side, price_ticks, lots, command.reduce_only)
    if reason:
        return [Rejected(reason)]
    flags = MARKET if price_ticks == 0 else 0
    if command.immediate_or_cancel:
        flags |= IMMEDIATE
    if command.reduce_only:
        flags |= REDUCE_ONLY
    order_id = state.orders.append(
        slot, pool, side, price_ticks, lots, flags, state.batch, accounts.next_own_sequence(account)
    )
    if client_order_id:
        state.client_orders.remember(account, client_order_id, order_id)
    return [OrderAccepted(order_id, account)]


def _find(state: State, account: int, order_id: int) -> tuple[tuple[int, ...], RejectReason]:
    """The columns of an account's own open order, or why it cannot be touched."""
    none: tuple[int, ...] = ()
    if not 0 <= account < len(state.accounts.names):
        return none, RejectReason.ACCOUNT_UNKNOWN
    sequence = order_id & limits.ORDER_SEQUENCE_MAX
    known = order_id > 0 and 0 < sequence < state.orders.next_sequence
    if not known or limits.instrument_of(order_id) >= len(state.contracts):
        return none, RejectReason.ORDER_UNKNOWN
    row = state.orders.find(order_id)
    if row is None:
        return none, RejectReason.ORDER_NOT_OPEN
    if state.accounts.owner_of[row[POOL]] != account:
        return none, RejectReason.ORDER_NOT_OWNED
    if row[FLAGS] & LIQUIDATION:
        return none, RejectReason.ORDER_OF_LIQUIDATION
    return row, RejectReason.NONE


def cancel(engine: Engine, command: CancelOrder) -> list[Event]:
    """Take one order out."""
    state = engine.state
    row, reason = _find(state, command.account, command.order_id)
    if reason:
        return [Rejected(reason)]
    state.orders.close(command.order_id)
    done = DoneReason.CANCELLED_BY_OWNER
    return [OrderDone(command.order_id, command.account, row[OPEN_LOTS], done)]


def cancel_all(engine: Engine, command: CancelAll) -> list[Event]:
    """Take out all of an account's orders, in one contract or everywhere."""
    state = engine.state
    if not 0 <= command.account < len(state.accounts.names):
        return [Rejected(RejectReason.ACCOUNT_UNKNOWN)]
    if not -1 <= command.instrument < len(state.contracts):
        return [Rejected(RejectReason.INSTRUMENT_UNKNOWN)]
    rows = state.orders.of_pool(state.accounts.pool_of[command.account])
    wanted = (rows[FLAGS] & LIQUIDATION) == 0
    if command.instrument >= 0:
        wanted &= (rows[ORDER_ID] >> limits.ORDER_SEQUENCE_BITS) == command.instrument
    events: list[Event] = []
    for order_id, lots in zip(
        rows[ORDER_ID, wanted].tolist(), rows[OPEN_LOTS, wanted].tolist(), strict=True
    ):
        state.orders.close(order_id)
        done = DoneReason.CANCELLED_BY_OWNER
        events.append(OrderDone(order_id, command.account, lots, done))
    return events


def edit(engine: Engine, command: EditOrder) -> list[Event]:
    """Change price and open quantity; a better claim than before takes the new batch's age.

    The order stays as it was where the change is refused.
    """
    state = engine.state
    row, reason = _find(state, command.account, command.order_id)
    if not reason and row[FLAGS] & MARKET:
        reason = RejectReason.EDIT_OF_MARKET_ORDER
    slot = limits.instrument_of(command.order_id)
    if not reason:
        reason = refusal_of_instrument(state, slot)
    price_ticks, lots = command.price_ticks, command.quantity_lots
    if not reason and price_ticks <= 0:
        reason = RejectReason.PRICE_NOT_POSITIVE
    if not reason:
        reason = refusal_of_terms(state, slot, price_ticks, lots)
    if reason:
        return [Rejected(reason)]
    order_id, pool = command.order_id, row[POOL]
    claims_more = price_ticks != row[PRICE_TICKS] or lots > row[OPEN_LOTS]
    if claims_more:
        state.orders.set(order_id, OPEN_LOTS, 0)
        reduce_only = bool(row[FLAGS] & REDUCE_ONLY)
        reason = engine.gate.admit(pool, slot, row[SIDE], price_ticks, lots, reduce_only)
        if reason:
            state.orders.set(order_id, OPEN_LOTS, row[OPEN_LOTS])
            return [Rejected(reason)]
        own = state.accounts.next_own_sequence(command.account)
        state.orders.set(order_id, PRICE_TICKS, price_ticks)
        state.orders.set(order_id, AGE_BATCH, state.batch)
        state.orders.set(order_id, OWN_SEQUENCE, own)
    state.orders.set(order_id, OPEN_LOTS, lots)
    return [OrderEdited(order_id, command.account, price_ticks, lots)]


def open_orders(state: State, account: int) -> list[tuple[int, ...]]:
    """An account's open orders as rows of columns, in order of acceptance."""
    rows = state.orders.of_pool(state.accounts.pool_of[account])
    return [tuple(row) for row in np.ascontiguousarray(rows.T).tolist()]
