"""Step 1 of the cycle: the order set is fixed.

Expired contracts lose their orders, reduce-only orders are trimmed to the position, oldest first,
and every pool's margin is checked once more; where it does not hold, the newest risk-adding orders
leave first. Then count and digest of the sealed set are published.
"""

from __future__ import annotations

import numpy as np

from exchange.core.events import BatchSealed, Event, OrdersDone
from exchange.core.orders.risk_gate import RiskGate
from exchange.core.reject_reason import DoneReason
from exchange.core.stored.contracts import Life
from exchange.core.stored.orders import (
    FLAGS,
    INSTRUMENT_SHIFT,
    LIQUIDATION,
    OPEN_LOTS,
    ORDER_ID,
    POOL,
    REDUCE_ONLY,
    SEQUENCE_MASK,
    SIDE,
)
from exchange.core.stored.state import State
from margin.invariant import BoolArray, Int64Array


def orders_done(rows: Int64Array, reason: DoneReason) -> OrdersDone:
    """The event for rows (columns x n) that leave the book for one reason."""
    reasons = np.full(rows.shape[1], int(reason), np.int64)
    return OrdersDone(rows[ORDER_ID].copy(), rows[POOL].copy(), rows[OPEN_LOTS].copy(), reasons)


def close_rows(state: State, closed: BoolArray, reason: DoneReason) -> list[Event]:
    """Take the marked resting rows out of the table and say so."""
    if not closed.any():
        return []
    leaving = state.orders.resting[:, closed]
    state.orders.keep(~closed)
    return [orders_done(leaving, reason)]


def _close_expired(state: State, time_ns: int) -> list[Event]:
    expired = state.contracts.expiring(time_ns)
    if not expired:
        return []
    for slot in expired:
        state.contracts.set_life(slot, Life.CLOSED)
        state.collars.printed(slot)
    instruments = state.orders.resting[ORDER_ID] >> INSTRUMENT_SHIFT
    return close_rows(state, np.isin(instruments, expired), DoneReason.INSTRUMENT_EXPIRED)


def _trim_reduce_only(state: State) -> list[Event]:
    """Reduce-only quantity never exceeds the position; the oldest orders keep theirs."""
    table = state.orders.resting
    if not state.orders.flags_sealed & REDUCE_ONLY:
        return []
    rows = np.flatnonzero((table[FLAGS] & REDUCE_ONLY) != 0)
    room: dict[tuple[int, int, int], int] = {}
    trimmed: list[tuple[int, int]] = []
    for row in rows[np.argsort(table[ORDER_ID, rows] & SEQUENCE_MASK, kind="stable")].tolist():
        pool, side = int(table[POOL, row]), int(table[SIDE, row])
        slot = int(table[ORDER_ID, row]) >> INSTRUMENT_SHIFT
        key = (pool, slot, side)
        if key not in room:
            room[key] = max(0, -side * state.positions.lots_of(pool, slot))
        open_lots = int(table[OPEN_LOTS, row])
        kept = min(open_lots, room[key])
        room[key] -= kept
        if kept < open_lots:
            table[OPEN_LOTS, row] = kept
            trimmed.append((row, open_lots - kept))
    if not trimmed:
        return []
    at = np.array(trimmed, np.int64).T
    gone = orders_done(table[:, at[0]], DoneReason.REDUCE_ONLY_TRIMMED)
    events: list[Event] = [OrdersDone(gone.order_id, gone.pool, at[1], gone.reason)]
    empty = table[OPEN_LOTS] == 0
    state.orders.keep(~empty)
    return events


def _recheck_margin(state: State, gate: RiskGate) -> list[Event]:
    """Drop the newest risk-adding orders of every pool whose orders its equity no longer covers."""
    dropped = gate.orders_to_drop(state.orders.resting)
    if not dropped:
        return []
    closed = np.isin(state.orders.resting[ORDER_ID], dropped)
    return close_rows(state, closed, DoneReason.MARGIN_RECHECK)


def seal(state: State, gate: RiskGate, batch: int, time_ns: int) -> list[Event]:
    """Fix the order set of `batch`; returns what left the book, then the published count."""
    state.orders.seal(len(state.contracts))
    events = _close_expired(state, time_ns)
    events += _trim_reduce_only(state)
    if state.venue.risk_gate:
        events += _recheck_margin(state, gate)
    table = state.orders.resting
    instruments, starts = state.orders.books()
    shown = starts[1:] - starts[:-1]
    if state.orders.flags_sealed & LIQUIDATION:
        of_house = (table[FLAGS] & LIQUIDATION) != 0
        slots = table[ORDER_ID, of_house] >> INSTRUMENT_SHIFT
        np.subtract.at(shown, np.searchsorted(instruments, slots), 1)
    # The uncrossing makes a new table and leaves this one as it is.
    events.append(BatchSealed(batch, time_ns, instruments, shown, table))
    return events
