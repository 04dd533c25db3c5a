"""Steps 2 and 3 of the cycle: one price per book, its fills, and their settlement."""

from __future__ import annotations

import numpy as np
from numba import njit

from exchange.core.auction import clearing
from exchange.core.events import Event, Filled, OrdersDone, Printed
from exchange.core.reject_reason import DoneReason, PostingCause
from exchange.core.stored.contracts import Life, value_per_lot_e6
from exchange.core.stored.ledger import House
from exchange.core.stored.marks import IndexState
from exchange.core.stored.orders import (
    AGE_BATCH,
    COLUMNS,
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
from exchange.core.stored.state import State
from margin.fixed_point import RATE_SCALE, mul_div_ceil, mul_div_floor
from margin.invariant import Int64Array, check

E6 = 10**6
_FILLED = int(DoneReason.FILLED)
_REMAINDER = int(DoneReason.REMAINDER_CANCELLED)
_SHORT_LIVED = MARKET | IMMEDIATE


def fee_per_lot_e6(state: State, slot: int, price_ticks: int) -> int:
    """The auction fee on one lot at a price, in 10^-6 minor units of the settlement currency.

    Futures pay on their value; options on the index, at most a part of the premium: an inverse
    option on its coins, whose value at the index in coin is their number.
    """
    spec, fees = state.contracts.specs[slot], state.venue.fees
    value_e6 = abs(value_per_lot_e6(spec, price_ticks * spec.tick_e8))
    if not state.contracts.is_option_slot(slot):
        return -(-value_e6 * fees.future_ppb // RATE_SCALE)
    if state.contracts.is_inverse_option(slot):
        index_value_e6 = spec.lot_e8 * E6
    else:
        index_value_e6 = spec.lot_e8 * int(state.marks.index_e8[spec.underlying]) // 10**4
    return -(-min(index_value_e6 * fees.option_ppb, value_e6 * fees.option_cap_ppb) // RATE_SCALE)


# Columns of the fills; up to the fee they are those of the event `Filled`.
(F_ORDER, F_POOL, F_SLOT, F_SIDE, F_PRICE, F_LOTS, F_OPEN, F_AGE, F_FEE, F_SIGNED, F_VALUE) = range(
    11
)
FILL_COLUMNS = 11


@njit(cache=True)
def _settle_rows(
    table: Int64Array, start: Int64Array, fill: Int64Array, books: Int64Array
) -> tuple[Int64Array, Int64Array, Int64Array, int]:
    """Apply the fills to the sealed table.

    Returns the fills (FILL_COLUMNS), the orders that end (id, pool, open lots, reason), the table
    of those that stay, and bought minus sold.

    `books[b]`: slot, price, value and fee of a lot (10^-6 minor units), and 1 where everything
    carries. Values are signed and rounded down, fees rounded up, in minor units. Remainders of
    market and immediate orders end unless their book carries.
    """
    hits, leaving = 0, 0
    for book in range(len(start) - 1):
        for row in range(start[book], start[book + 1]):
            hits += fill[row] > 0
            short_lived = books[book, 4] == 0 and (table[FLAGS, row] & _SHORT_LIVED) != 0
            leaving += short_lived or table[OPEN_LOTS, row] == fill[row]
    fills = np.empty((FILL_COLUMNS, hits), np.int64)
    ended = np.empty((4, leaving), np.int64)
    staying = np.empty((COLUMNS, table.shape[1] - leaving), np.int64)
    balance, at, gone, kept = 0, 0, 0, 0
    for book in range(len(start) - 1):
        slot, price, value_e6, fee_e6, carries = books[book]
        for row in range(start[book], start[book + 1]):
            lots = fill[row]
            open_lots = table[OPEN_LOTS, row] - lots
            if lots > 0:
                signed = table[SIDE, row] * lots
                balance += signed
                fills[F_ORDER, at] = table[ORDER_ID, row]
                fills[F_POOL, at] = table[POOL, row]
                fills[F_SLOT, at] = slot
                fills[F_SIDE, at] = table[SIDE, row]
                fills[F_PRICE, at] = price
                fills[F_LOTS, at] = lots
                fills[F_OPEN, at] = open_lots
                fills[F_AGE, at] = table[AGE_BATCH, row]
                fills[F_FEE, at] = mul_div_ceil(fee_e6, lots, 1_000_000)
                fills[F_SIGNED, at] = signed
                fills[F_VALUE, at] = mul_div_floor(value_e6, signed, 1_000_000)
                at += 1
            reason = 0
            if open_lots == 0:
                reason = _FILLED
            elif carries == 0 and (table[FLAGS, row] & _SHORT_LIVED) != 0:
                reason = _REMAINDER
            if reason != 0:
                ended[0, gone] = table[ORDER_ID, row]
                ended[1, gone] = table[POOL, row]
                ended[2, gone] = open_lots
                ended[3, gone] = reason
                gone += 1
                continue
            for column in range(COLUMNS):
                staying[column, kept] = table[column, row]
            staying[OPEN_LOTS, kept] = open_lots
            kept += 1
    return fills, ended, staying, balance


def _is_halted(state: State, slot: int) -> bool:
    """Whether a contract's book carries over unauctioned."""
    contracts = state.contracts
    if contracts.life[slot] != Life.LISTED or contracts.halted[slot]:
        return True
    return state.marks.index_state[contracts.specs[slot].underlying] == IndexState.DEAD


def _terms(state: State, slots: list[int]) -> clearing.AuctionTerms:
    bands = [state.collars.band(slot, state.marks.reference_ticks(slot)) for slot in slots]
    rows = [
        [band.reference_ticks for band in bands],
        [band.low_ticks for band in bands],
        [band.high_ticks for band in bands],
        [band.clamp for band in bands],
    ]
    return clearing.AuctionTerms(*np.array(rows, np.int64))


def _clear(
    state: State, slots: list[int], start: Int64Array, orders: Int64Array
) -> tuple[clearing.Prints, clearing.AuctionTerms]:
    """Auction these books, and tell collars and last prints what became of them."""
    books = clearing.SealedBooks(
        start,
        orders[SIDE],
        orders[FLAGS] & MARKET,
        orders[PRICE_TICKS],
        orders[OPEN_LOTS],
        orders[AGE_BATCH],
        state.accounts.drawing_column()[orders[POOL]],
        orders[OWN_SEQUENCE],
    )
    terms = _terms(state, slots)
    prints = clearing.clear_sound(books, terms, clearing.batch_seed(state.seed, state.batch))
    for slot, outcome, reference, ticks, volume in zip(
        slots,
        prints.state.tolist(),
        terms.reference_ticks.tolist(),
        prints.price_ticks.tolist(),
        prints.volume_lots.tolist(),
        strict=True,
    ):
        if outcome == clearing.INTERRUPTED:
            state.collars.interrupted(slot, reference)
            continue
        state.collars.printed(slot)
        if volume > 0:
            state.last_prints.price_ticks[slot] = ticks
    return prints, terms


def _book_terms(state: State, slot: int, outcome: int, ticks: int, volume: int) -> tuple[int, ...]:
    """One row of `books` for `_settle_rows`."""
    carries = int(outcome == clearing.INTERRUPTED)
    if volume == 0:
        return slot, 0, 0, 0, carries
    spec = state.contracts.specs[slot]
    value_e6 = value_per_lot_e6(spec, ticks * spec.tick_e8)
    return slot, ticks, value_e6, fee_per_lot_e6(state, slot, ticks), carries


def _post_fills(
    state: State, pool: Int64Array, instrument: Int64Array, value: Int64Array, fee: Int64Array
) -> list[Event]:
    """Premium of options against the clearing pool, fees to the house."""
    contracts = state.contracts
    currency = contracts.currency_column[instrument]
    events: list[Event] = []
    paid_now = contracts.is_option[instrument] == 1
    if contracts.has_options and paid_now.any():
        house = np.full(int(paid_now.sum()), int(House.CLEARING), np.int64)
        columns = (pool[paid_now], house, currency[paid_now], instrument[paid_now])
        events.append(state.ledger.post(PostingCause.PREMIUM, *columns, -value[paid_now]))
    if np.count_nonzero(fee):  # several times faster than `any` on a short column
        to_fees = np.full(len(fee), int(House.FEES), np.int64)
        events.append(
            state.ledger.post(PostingCause.FEE, pool, to_fees, currency, instrument, -fee)
        )
    return events


def _auction_active(
    state: State, slots: list[int], start: Int64Array
) -> tuple[list[Event], Int64Array, Int64Array]:
    """Auction the books that are not halted: the event, every row's fill, every book's terms."""
    table = state.orders.resting
    halted = [_is_halted(state, slot) for slot in slots]
    if not any(halted):
        active, prints, fill = slots, *_printed(state, slots, start, table)
    else:
        sizes = np.diff(start)
        rows = np.repeat(~np.array(halted, np.bool_), sizes)
        active = [slot for slot, held in zip(slots, halted, strict=True) if not held]
        fill = np.zeros(table.shape[1], np.int64)
        if not active:
            carried = [(slot, 0, 0, 0, 1) for slot in slots]
            return [], fill, np.array(carried, np.int64).reshape(-1, 5)
        bounds = np.concatenate(([0], np.cumsum(sizes[~np.array(halted, np.bool_)])))
        orders = np.ascontiguousarray(table[:, rows])
        prints, fill[rows] = _printed(state, active, bounds, orders)
    outcomes = zip(
        active,
        prints.states.tolist(),
        prints.price_ticks.tolist(),
        prints.volume_lots.tolist(),
        strict=True,
    )
    terms = {outcome[0]: _book_terms(state, *outcome) for outcome in outcomes}
    books = [terms.get(slot, (slot, 0, 0, 0, 1)) for slot in slots]
    return [prints], fill, np.array(books, np.int64)


def _printed(
    state: State, slots: list[int], start: Int64Array, orders: Int64Array
) -> tuple[Printed, Int64Array]:
    prints, terms = _clear(state, slots, start, orders)
    event = Printed(
        state.batch,
        np.array(slots, np.int64),
        prints.state,
        prints.price_ticks,
        prints.volume_lots,
        prints.surplus_lots,
        terms.reference_ticks,
    )
    return event, prints.fill_lots


def uncross(state: State) -> list[Event]:
    """Clear every book of the sealed batch, settle the fills, carry what stays."""
    slots, start = state.orders.books()
    if not len(slots):
        return []
    events, fill, books = _auction_active(state, slots.tolist(), start)
    *settled, balance = _settle_rows(state.orders.resting, start, fill, books)
    check(balance == 0, "as much is bought as is sold")
    fills, ended, state.orders.resting = settled
    if fills.shape[1]:
        pool, slot, value, fee = fills[F_POOL], fills[F_SLOT], fills[F_VALUE], fills[F_FEE]
        events.append(Filled(state.batch, *fills[: F_FEE + 1]))
        state.positions.apply(pool, slot, fills[F_SIGNED], value)
        events += _post_fills(state, pool, slot, value, fee)
    if ended.shape[1]:
        events.append(OrdersDone(*ended))
    return events


def warm_up() -> None:
    """Compile the kernels of this module and of the auction."""
    one, row = np.zeros(1, np.int64), np.zeros((COLUMNS, 1), np.int64)
    _settle_rows(row, np.array([0, 1], np.int64), one, np.zeros((1, 5), np.int64))
    clearing.warm_up()
