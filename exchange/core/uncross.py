"""Steps 2 and 3 of the cycle: one price per book, its fills, and their settlement."""

from __future__ import annotations

import numpy as np
from numba import njit

from exchange.core import auction, limits
from exchange.core.contracts import Life, value_per_lot_e6
from exchange.core.events import Event, Filled, OrdersDone, Printed
from exchange.core.ledger import House
from exchange.core.marks import IndexState
from exchange.core.orders import (
    AGE_BATCH,
    FLAGS,
    IMMEDIATE,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    OWN_SEQUENCE,
    POOL,
    PRICE_TICKS,
    SIDE,
)
from exchange.core.reject_reason import DoneReason, PostingCause
from exchange.core.state import State
from margin.fixed_point import mul_div_ceil, mul_div_floor
from margin.invariant import BoolArray, Int64Array, check

PPB = 10**9
E6 = 10**6
_FILLED = int(DoneReason.FILLED)
_REMAINDER = int(DoneReason.REMAINDER_CANCELLED)
_SHORT_LIVED = MARKET | IMMEDIATE


def fee_per_lot_e6(state: State, slot: int, price_ticks: int) -> int:
    """The auction fee on one lot at a price, in 10^-6 minor units of the settlement currency.

    Futures pay on their value; options on the index, at most a part of the premium.
    """
    spec, fees = state.contracts.specs[slot], state.venue.fees
    value_e6 = abs(value_per_lot_e6(spec, price_ticks * spec.tick_e8))
    if not state.contracts.is_option_slot(slot):
        return -(-value_e6 * fees.future_ppb // PPB)
    index_value_e6 = spec.lot_e8 * int(state.marks.index_e8[spec.underlying]) // 10**4
    return -(-min(index_value_e6 * fees.option_ppb, value_e6 * fees.option_cap_ppb) // PPB)


@njit(cache=True)
def _settle_rows(
    table: Int64Array,
    start: Int64Array,
    fill: Int64Array,
    carries: Int64Array,
    value_e6: Int64Array,
    fee_e6: Int64Array,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Reduce open lots by the fills; which rows traded, at what value and fee, and which end.

    Values are signed and rounded down, fees rounded up, in minor units. Remainders of market and
    immediate orders end unless their book `carries` everything. `reason` is 0 for what stays.
    """
    hits = 0
    for row in range(len(fill)):
        if fill[row] > 0:
            hits += 1
    traded = np.empty((3, hits), np.int64)  # row, value, fee
    reason = np.zeros(len(fill), np.int64)
    bought, sold, at = 0, 0, 0
    for book in range(len(start) - 1):
        for row in range(start[book], start[book + 1]):
            if fill[row] > 0:
                signed = table[SIDE, row] * fill[row]
                traded[0, at] = row
                traded[1, at] = mul_div_floor(value_e6[book], signed, 1_000_000)
                traded[2, at] = mul_div_ceil(fee_e6[book], fill[row], 1_000_000)
                at += 1
                bought += max(0, signed)
                sold += max(0, -signed)
                table[OPEN_LOTS, row] -= fill[row]
            if table[OPEN_LOTS, row] == 0:
                reason[row] = _FILLED
            elif carries[book] == 0 and (table[FLAGS, row] & _SHORT_LIVED) != 0:
                reason[row] = _REMAINDER
    return traded[0], traded[1], traded[2], np.where(bought == sold, reason, -1)


def _auctioned(state: State) -> tuple[Int64Array, Int64Array, BoolArray | None]:
    """Slots with orders that are auctioned now, bounds of their books, and the rows that are.

    The last is None where every order is; the books of halted contracts carry over.
    """
    table = state.orders.resting
    starts = state.orders.book_starts(len(state.contracts))
    slots = (starts[1:] - starts[:-1]).nonzero()[0]
    halted = [
        slot
        for slot in slots.tolist()
        if state.contracts.life[slot] != Life.LISTED
        or state.contracts.halted[slot]
        or state.marks.index_state[state.contracts.specs[slot].underlying] == IndexState.DEAD
    ]
    if not halted:
        return slots, np.concatenate((starts[slots], starts[-1:])), None
    rows = np.ones(table.shape[1], np.bool_)
    for slot in halted:
        rows[starts[slot] : starts[slot + 1]] = False
    slots = slots[~np.isin(slots, halted)]
    sizes = np.diff(starts)[slots]
    return slots, np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))), rows


def _terms(state: State, slots: Int64Array) -> auction.AuctionTerms:
    bands = [state.collars.band(s, state.marks.reference_ticks(s)) for s in slots.tolist()]
    columns = (
        np.array(
            [(b.reference_ticks, b.low_ticks, b.high_ticks, int(b.clamp)) for b in bands], np.int64
        )
        .reshape(-1, 4)
        .T.copy()
    )
    return auction.AuctionTerms(*columns)


def _clear(
    state: State, slots: Int64Array, start: Int64Array, orders: Int64Array
) -> tuple[auction.Prints, auction.AuctionTerms]:
    books = auction.SealedBooks(
        book_start=start,
        side=orders[SIDE],
        is_market=orders[FLAGS] & MARKET,
        price_ticks=orders[PRICE_TICKS],
        quantity_lots=orders[OPEN_LOTS],
        batch=orders[AGE_BATCH],
        account=state.accounts.drawing_column()[orders[POOL]],
        sequence=orders[OWN_SEQUENCE],
    )
    terms = _terms(state, slots)
    prints = auction.clear_sound(books, terms, auction.batch_seed(state.seed, state.batch))
    for slot, outcome, reference in zip(
        slots.tolist(), prints.state.tolist(), terms.reference_ticks.tolist(), strict=True
    ):
        if outcome == auction.INTERRUPTED:
            state.collars.interrupted(slot, reference)
        else:
            state.collars.printed(slot)
    return prints, terms


def _unit_values(state: State, slots: Int64Array, prints: auction.Prints) -> Int64Array:
    """Value and fee of one lot at each print, in 10^-6 minor units; zero where nothing traded."""
    units = np.zeros((2, len(slots)), np.int64)
    for at in prints.volume_lots.nonzero()[0].tolist():
        slot, ticks = int(slots[at]), int(prints.price_ticks[at])
        spec = state.contracts.specs[slot]
        units[0, at] = value_per_lot_e6(spec, ticks * spec.tick_e8)
        units[1, at] = fee_per_lot_e6(state, slot, ticks)
    return units


def _post_fills(
    state: State, pool: Int64Array, instrument: Int64Array, value: Int64Array, fee: Int64Array
) -> list[Event]:
    """Premium of options against the clearing pool, fees to the house."""
    currency = state.contracts.currency_column[instrument]
    events: list[Event] = []
    paid_now = state.contracts.is_option[instrument] == 1
    if paid_now.any():
        clearing = np.full(int(paid_now.sum()), int(House.CLEARING), np.int64)
        columns = (pool[paid_now], clearing, currency[paid_now], instrument[paid_now])
        events.append(state.ledger.post(PostingCause.PREMIUM, *columns, -value[paid_now]))
    if fee.any():
        to_fees = np.full(len(fee), int(House.FEES), np.int64)
        events.append(
            state.ledger.post(PostingCause.FEE, pool, to_fees, currency, instrument, -fee)
        )
    return events


def uncross(state: State) -> list[Event]:
    """Clear every book of the sealed batch, settle the fills, carry what stays."""
    slots, start, auctioned = _auctioned(state)
    if not len(slots):
        return []
    table = state.orders.resting
    orders = table if auctioned is None else np.ascontiguousarray(table[:, auctioned])
    prints, terms = _clear(state, slots, start, orders)
    events: list[Event] = [
        Printed(
            state.batch,
            slots,
            prints.state,
            prints.price_ticks,
            prints.volume_lots,
            prints.surplus_lots,
            terms.reference_ticks,
        )
    ]
    value_e6, fee_e6 = _unit_values(state, slots, prints)
    carries = (prints.state == auction.INTERRUPTED).astype(np.int64)
    traded, value, fee, reason = _settle_rows(
        orders, start, prints.fill_lots, carries, value_e6, fee_e6
    )
    check(len(reason) == 0 or reason[0] >= 0, "as much is bought as is sold")
    if len(traded):
        rows = orders[:, traded]
        fill, instrument = prints.fill_lots[traded], rows[ORDER_ID] >> limits.ORDER_SEQUENCE_BITS
        book = np.searchsorted(slots, instrument)
        events.append(
            Filled(
                state.batch,
                rows[ORDER_ID],
                rows[POOL],
                instrument,
                rows[SIDE],
                prints.price_ticks[book],
                fill,
                rows[OPEN_LOTS],
                rows[AGE_BATCH],
                fee,
            )
        )
        state.positions.apply(rows[POOL], instrument, rows[SIDE] * fill, value)
        events += _post_fills(state, rows[POOL], instrument, value, fee)
    ended = reason.nonzero()[0]
    if len(ended):
        gone = orders[:, ended]
        events.append(OrdersDone(gone[ORDER_ID], gone[POOL], gone[OPEN_LOTS], reason[ended]))
    if auctioned is None:
        if len(ended):
            state.orders.keep(reason == 0)
    else:
        table[OPEN_LOTS, auctioned] = orders[OPEN_LOTS]
        kept = np.ones(table.shape[1], np.bool_)
        kept[auctioned] = reason == 0
        state.orders.keep(kept)
    return events


def warm_up() -> None:
    """Compile the kernels of this module and of the auction."""
    none, one = np.empty(0, np.int64), np.zeros(1, np.int64)
    _settle_rows(np.empty((8, 0), np.int64), one, none, none, none, none)
    auction.warm_up()
