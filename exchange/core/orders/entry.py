"""Orders come, change and go while a batch collects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core import limits
from exchange.core.commands import CancelAll, CancelOrder, EditOrder, PlaceOrder
from exchange.core.events import Event, OrderAccepted, OrderDone, OrderEdited, Rejected
from exchange.core.orders.admission import refusal_of_contract, refusal_of_terms
from exchange.core.reject_reason import DoneReason, RejectReason
from exchange.core.stored.orders import (
    AGE_BATCH,
    FLAGS,
    IMMEDIATE,
    LIQUIDATION,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    OWN_SEQUENCE,
    POOL,
    POST_ONLY,
    PRICE_TICKS,
    REDUCE_ONLY,
    SIDE,
)
from exchange.core.stored.state import State

_CANCELLED = DoneReason.CANCELLED_BY_OWNER  # reading a member costs as much as a cancel

if TYPE_CHECKING:
    from exchange.core.engine import Engine


def _refusal(state: State, command: PlaceOrder) -> RejectReason:
    if not 0 <= command.account < len(state.accounts.names):
        return RejectReason.ACCOUNT_UNKNOWN
    if command.side not in (1, -1):
        return RejectReason.SIDE_UNKNOWN
    reason = refusal_of_contract(state, command.instrument)
    if reason:
        return reason
    if len(command.client_order_id) > limits.CLIENT_ORDER_ID_LENGTH_MAX:
        return RejectReason.CLIENT_ORDER_ID_TOO_LONG
    return refusal_of_terms(state, command.instrument, command.price_ticks, command.quantity_lots)


def _admission(engine: Engine, command: PlaceOrder, pool: int) -> RejectReason:
    """The full path: every reason not to take an order into a pool, its margin last."""
    state = engine.state
    reason = _refusal(state, command)
    if reason:
        return reason
    if pool in state.accounts.cases and not command.reduce_only:
        return RejectReason.ACCOUNT_IN_LIQUIDATION
    if command.post_only and state.last_prints.crossed_by(
        command.instrument, command.side, command.price_ticks
    ):
        return RejectReason.POST_ONLY_WOULD_TRADE
    return engine.gate.admit(
        pool,
        command.instrument,
        command.side,
        command.price_ticks,
        command.quantity_lots,
        command.reduce_only,
    )


def _is_ordinary(state: State, command: PlaceOrder) -> bool:
    """Whether the gate's short path may look at an order: nothing special about it."""
    return (
        (command.side == 1 or command.side == -1)
        and not command.reduce_only
        and not command.post_only
        and not state.accounts.cases
        and len(command.client_order_id) <= limits.CLIENT_ORDER_ID_LENGTH_MAX
    )


def place(engine: Engine, command: PlaceOrder) -> list[Event]:
    """Accept an order into the running batch, or repeat the answer its client id had before."""
    state = engine.state
    account, client_order_id = command.account, command.client_order_id
    if client_order_id:
        known = state.client_orders.order_of.get((account, client_order_id))
        if known is not None:
            return [OrderAccepted(known, account, True)]
    slot, side, price_ticks = command.instrument, command.side, command.price_ticks
    lots, accounts = command.quantity_lots, state.accounts
    if command.pool == -1 and 0 <= account < len(accounts.pool_of) and not accounts.layers.modes:
        pool = accounts.pool_of[account]
    else:
        pool, reason = accounts.pool_for(account, slot, command.pool)
        if reason:
            return [Rejected(reason)]
    if not (
        _is_ordinary(state, command)
        and engine.gate.admit_ordinary(pool, slot, side, price_ticks, lots)
    ):
        reason = _admission(engine, command, pool)
        if reason:
            return [Rejected(reason)]
    flags = MARKET if price_ticks == 0 else 0
    if command.immediate_or_cancel:
        flags |= IMMEDIATE
    if command.reduce_only:
        flags |= REDUCE_ONLY
    if command.post_only:
        flags |= POST_ONLY
    own = accounts.next_own_sequence(account)
    order_id = state.orders.append(slot, pool, side, price_ticks, lots, flags, state.batch, own)
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
    state, account, order_id = engine.state, command.account, command.order_id
    open_lots = 0
    if 0 <= account < len(state.accounts.pool_of):
        open_lots = state.orders.close_own(order_id, state.accounts.pool_of[account])
    if open_lots == 0:
        row, reason = _find(state, account, order_id)
        if reason:
            return [Rejected(reason)]
        state.orders.close(order_id)
        open_lots = row[OPEN_LOTS]
    return [OrderDone(order_id, account, open_lots, _CANCELLED)]


def cancel_all(engine: Engine, command: CancelAll) -> list[Event]:
    """Take out all of an account's orders, in one contract or everywhere."""
    state = engine.state
    if not 0 <= command.account < len(state.accounts.names):
        return [Rejected(RejectReason.ACCOUNT_UNKNOWN)]
    if not -1 <= command.instrument < len(state.contracts):
        return [Rejected(RejectReason.INSTRUMENT_UNKNOWN)]
    rows = state.orders.of_pools(state.accounts.pools_of(command.account))
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

    The order stays as it was where the change is refused. A post-only order stays one: a better
    claim is measured against the last print again, giving up quantity never is.
    """
    state = engine.state
    row, reason = _find(state, command.account, command.order_id)
    if not reason and row[FLAGS] & MARKET:
        reason = RejectReason.EDIT_OF_MARKET_ORDER
    slot = limits.instrument_of(command.order_id)
    if not reason:
        reason = refusal_of_contract(state, slot)
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
        if row[FLAGS] & POST_ONLY and state.last_prints.crossed_by(slot, row[SIDE], price_ticks):
            return [Rejected(RejectReason.POST_ONLY_WOULD_TRADE)]
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
