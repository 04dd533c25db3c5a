"""Whole batches of orders as columns: the entry for replays of recorded order flow.

Every row is judged by the rules of `entry`; where the venue's risk gate is off, in one
compiled pass, else one by one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import njit

from exchange.core import limits
from exchange.core.commands import CancelOrder, EditOrder, OrderColumns, PlaceOrder
from exchange.core.events import ColumnsApplied, Event, OrderAccepted, Rejected
from exchange.core.orders.admission import refusal_of_contract
from exchange.core.orders.entry import cancel, edit, place
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.orders import (
    COLUMNS,
    IMMEDIATE,
    INSTRUMENT_SHIFT,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    POOL,
    PRICE_TICKS,
    SEQUENCE_MASK,
)
from exchange.core.stored.orders import SIDE as ORDER_SIDE
from exchange.core.stored.positions import KEY, RANK_BITS, RANK_MASK
from exchange.core.stored.positions import LOTS as POSITION_LOTS
from exchange.core.stored.sorted_column import first_at_least
from exchange.core.stored.state import State
from margin.invariant import Int64Array, check

if TYPE_CHECKING:
    from exchange.core.engine import Engine

# Fields of one row of the command.
ACCOUNT, INSTRUMENT, SIDE, PRICE, LOTS, IMMEDIATE_OR_CANCEL, TARGET = range(7)
FIELDS = 7
# Up to so many pools x contracts the compiled entry counts what each may come to hold.
TALLIES_MAX = 2**22

_INSTRUMENTS = limits.INSTRUMENTS_MAX
_NOBODY = -2  # owns no pool; the house's are of -1
_ACCOUNT_UNKNOWN = int(RejectReason.ACCOUNT_UNKNOWN)
_SIDE_UNKNOWN = int(RejectReason.SIDE_UNKNOWN)
_PRICE_NOT_POSITIVE = int(RejectReason.PRICE_NOT_POSITIVE)
_PRICE_TOO_HIGH = int(RejectReason.PRICE_TOO_HIGH)
_QUANTITY_NOT_POSITIVE = int(RejectReason.QUANTITY_NOT_POSITIVE)
_QUANTITY_TOO_LARGE = int(RejectReason.QUANTITY_TOO_LARGE)
_POSITION_LIMIT = int(RejectReason.POSITION_LIMIT)
_ORDER_UNKNOWN = int(RejectReason.ORDER_UNKNOWN)
_ORDER_NOT_OPEN = int(RejectReason.ORDER_NOT_OPEN)
_ORDER_NOT_OWNED = int(RejectReason.ORDER_NOT_OWNED)


@njit(cache=True)
def _refusal(
    rows: Int64Array,
    row: int,
    slot_reason: Int64Array,
    price_max: Int64Array,
    lots_max: Int64Array,
    accounts: int,
) -> int:
    slot, price, lots = rows[INSTRUMENT, row], rows[PRICE, row], rows[LOTS, row]
    if rows[ACCOUNT, row] < 0 or rows[ACCOUNT, row] >= accounts:
        return _ACCOUNT_UNKNOWN
    if rows[SIDE, row] != 1 and rows[SIDE, row] != -1:
        return _SIDE_UNKNOWN
    if slot < 0 or slot >= len(slot_reason) - 1:
        return int(slot_reason[-1])
    if slot_reason[slot] != 0:
        return int(slot_reason[slot])
    if price < 0:
        return _PRICE_NOT_POSITIVE
    if price > price_max[slot]:
        return _PRICE_TOO_HIGH
    if lots <= 0:
        return _QUANTITY_NOT_POSITIVE
    return _QUANTITY_TOO_LARGE if lots > lots_max[slot] else 0


@njit(cache=True)
def _committed(
    positions: Int64Array,
    by_rank: Int64Array,
    resting: Int64Array,
    incoming: Int64Array,
    pools: int,
) -> Int64Array:
    """Lots that each pool may come to hold, [pool, slot, long or short]: position and orders."""
    lots = np.zeros((pools, len(by_rank), 2), np.int64)
    for row in range(positions.shape[1]):
        slot = by_rank[positions[KEY, row] & RANK_MASK]
        held = positions[POSITION_LOTS, row]
        lots[positions[KEY, row] >> RANK_BITS, slot, 0 if held > 0 else 1] += abs(held)
    for row in range(resting.shape[1]):
        slot = resting[ORDER_ID, row] >> INSTRUMENT_SHIFT
        side = 0 if resting[ORDER_SIDE, row] > 0 else 1
        lots[resting[POOL, row], slot, side] += resting[OPEN_LOTS, row]
    for row in range(incoming.shape[0]):
        side = 0 if incoming[row, ORDER_SIDE] > 0 else 1
        slot = incoming[row, ORDER_ID] >> INSTRUMENT_SHIFT
        lots[incoming[row, POOL], slot, side] += incoming[row, OPEN_LOTS]
    return lots


@njit(cache=True)
def _pool_of_mode(account: int, slot: int, cross: int, modes: Int64Array) -> int:
    """The pool that an account's orders in a contract fill, where some contracts have their own."""
    key = account * _INSTRUMENTS + slot
    at = first_at_least(modes[0], key)
    return int(modes[1, at]) if at < modes.shape[1] and modes[0, at] == key else cross


@njit(cache=True)
def _reduce(
    resting: Int64Array,
    incoming: Int64Array,
    entered: Int64Array,
    first_incoming: int,
    order_id: int,
    account: int,
    account_of: Int64Array,
    lots: int,
) -> int:
    """Take `lots` off an order of the account, wherever it is; the reason why not, or 0."""
    at = (order_id & SEQUENCE_MASK) - first_incoming
    if at < 0:
        at = first_at_least(resting[ORDER_ID], order_id)
        if at == resting.shape[1] or resting[ORDER_ID, at] != order_id:
            return _ORDER_NOT_OPEN
        if resting[OPEN_LOTS, at] == 0:
            return _ORDER_NOT_OPEN
        if account_of[resting[POOL, at]] != account:
            return _ORDER_NOT_OWNED
        resting[OPEN_LOTS, at] = max(0, resting[OPEN_LOTS, at] - lots)
        return 0
    table, at = (incoming, at) if at < len(incoming) else (entered, at - len(incoming))
    if table[at, ORDER_ID] != order_id or table[at, OPEN_LOTS] == 0:
        return _ORDER_NOT_OPEN
    if account_of[table[at, POOL]] != account:
        return _ORDER_NOT_OWNED
    table[at, OPEN_LOTS] = max(0, table[at, OPEN_LOTS] - lots)
    return 0


@njit(cache=True)
def _enter(
    rows: Int64Array,
    resting: Int64Array,
    incoming: Int64Array,
    entered: Int64Array,
    first_incoming: int,
    next_sequence: int,
    batch: int,
    pool_of: Int64Array,
    account_of: Int64Array,
    modes: Int64Array,
    own_sequence: Int64Array,
    slot_reason: Int64Array,
    price_max: Int64Array,
    lots_max: Int64Array,
    committed: Int64Array,
    order_ids: Int64Array,
    reasons: Int64Array,
) -> int:
    """New orders into `entered`, reductions into the tables; returns how many entered."""
    count = 0
    for row in range(rows.shape[1]):
        target = rows[TARGET, row]
        if target == 0:
            reasons[row] = _refusal(rows, row, slot_reason, price_max, lots_max, len(pool_of))
            if reasons[row] != 0:
                continue
            account, slot = rows[ACCOUNT, row], rows[INSTRUMENT, row]
            side = 0 if rows[SIDE, row] > 0 else 1
            pool = pool_of[account]
            if modes.shape[1] > 0:
                pool = _pool_of_mode(account, slot, pool, modes)
            held = committed[pool, slot, side] + rows[LOTS, row]
            if held > lots_max[slot]:
                reasons[row] = _POSITION_LIMIT
                continue
            committed[pool, slot, side] = held
            own_sequence[account] += 1
            flags = MARKET if rows[PRICE, row] == 0 else 0
            if rows[IMMEDIATE_OR_CANCEL, row] != 0:
                flags |= IMMEDIATE
            order_id = (rows[INSTRUMENT, row] << INSTRUMENT_SHIFT) | (next_sequence + count)
            fields = (
                order_id,
                pool,
                rows[SIDE, row],
                rows[PRICE, row],
                rows[LOTS, row],
                flags,
                batch,
                own_sequence[account],
            )
            for column in range(COLUMNS):
                entered[count, column] = fields[column]
            order_ids[row] = order_id
            count += 1
            continue
        if target < 0:
            target = order_ids[-target - 1] if -target <= row else 0
        order_ids[row] = target
        if not 0 < target & SEQUENCE_MASK < next_sequence + count:
            reasons[row] = _ORDER_UNKNOWN
        elif rows[LOTS, row] <= 0:
            reasons[row] = _QUANTITY_NOT_POSITIVE
        else:
            account = rows[ACCOUNT, row]
            if not 0 <= account < len(pool_of):
                account = _NOBODY
            reasons[row] = _reduce(
                resting, incoming, entered, first_incoming, target, account, account_of,
                rows[LOTS, row],
            )  # fmt: skip
    return count


def _apply_compiled(state: State, rows: Int64Array) -> ColumnsApplied:
    contracts, orders = state.contracts, state.orders
    slot_reason = [int(refusal_of_contract(state, slot)) for slot in range(len(contracts))]
    slot_reason.append(int(RejectReason.INSTRUMENT_UNKNOWN))
    order_ids = np.zeros(rows.shape[1], np.int64)
    reasons = np.zeros(rows.shape[1], np.int64)
    entered = np.empty((rows.shape[1], COLUMNS), np.int64)
    buffer = np.frombuffer(orders.incoming, np.int64).reshape(-1, COLUMNS)
    committed = _committed(
        state.positions.table, contracts.by_rank, orders.resting, buffer, state.accounts.pools
    )
    count = _enter(
        rows,
        orders.resting,
        buffer,
        entered,
        orders.first_incoming,
        orders.next_sequence,
        state.batch,
        state.accounts.pool_column(),
        state.accounts.account_column(),
        state.accounts.layers.mode_columns(),
        state.accounts.own_sequence,
        np.array(slot_reason, np.int64),
        contracts.price_max_column,
        contracts.lots_max_column,
        committed,
        order_ids,
        reasons,
    )
    del buffer  # the array cannot grow while a view of it exists
    orders.append_rows(entered[:count])
    return ColumnsApplied(order_ids, reasons)


def _apply_one_by_one(engine: Engine, rows: Int64Array, time_ns: int) -> ColumnsApplied:
    state = engine.state
    order_ids, reasons = np.zeros(rows.shape[1], np.int64), np.zeros(rows.shape[1], np.int64)
    for row, fields in enumerate(rows.T.tolist()):
        account, slot, side, price, lots, immediate, target = fields
        if target == 0:
            event = place(
                engine, PlaceOrder(time_ns, account, slot, side, price, lots, bool(immediate))
            )[0]
        else:
            order_id = (
                target if target > 0 else int(order_ids[-target - 1]) if -target <= row else 0
            )
            order_ids[row] = order_id
            found = state.orders.find(order_id) if order_id > 0 else None
            if found and lots <= 0:
                reasons[row] = int(RejectReason.QUANTITY_NOT_POSITIVE)
                continue
            left = found[OPEN_LOTS] - lots if found else 0
            if found and left > 0:
                change = EditOrder(time_ns, account, order_id, found[PRICE_TICKS], left)
                event = edit(engine, change)[0]
            else:
                event = cancel(engine, CancelOrder(time_ns, account, order_id))[0]
        if isinstance(event, Rejected):
            reasons[row] = int(event.reason)
        elif isinstance(event, OrderAccepted):
            order_ids[row] = event.order_id
    return ColumnsApplied(order_ids, reasons)


def apply_columns(engine: Engine, command: OrderColumns) -> list[Event]:
    """Enter all rows; each gets its order identifier and its reject reason (0: none)."""
    flat = np.frombuffer(command.columns, np.int64)
    check(len(flat) == FIELDS * command.rows, "columns hold `rows` rows")
    rows = flat.reshape(FIELDS, command.rows)
    state = engine.state
    fits = state.accounts.pools * len(state.contracts) <= TALLIES_MAX
    if state.venue.risk_gate or not fits:
        return [_apply_one_by_one(engine, rows, command.time_ns)]
    return [_apply_compiled(state, rows)]


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, keys = np.zeros(1, np.int64), np.zeros((6, 0), np.int64)
    rows = np.frombuffer(bytes(8 * FIELDS), np.int64).reshape(FIELDS, 1)
    resting, table = np.empty((COLUMNS, 0), np.int64), np.zeros((1, COLUMNS), np.int64)
    tallies = _committed(keys, one, resting, table, 1)
    after = (one, one, resting[:2], one, one, one, one, tallies, one.copy(), one.copy())
    _enter(rows, resting, table, table, 1, 1, 0, *after)
