"""Steps 2 and 3 of the cycle: one price per book, its fills, and their settlement."""

from __future__ import annotations

import numpy as np
from numba import njit

from exchange.core import auction, limits
from exchange.core.contracts import Life, value_per_lot_e6
from exchange.core.events import Event, Filled, Printed
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
    book_starts,
)
from exchange.core.reject_reason import DoneReason, PostingCause
from exchange.core.seal import close_rows
from exchange.core.state import State
from margin.fixed_point import mul_div_ceil, mul_div_floor
from margin.invariant import Int64Array, check

PPB = 10**9
E6 = 10**6


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
def _value_fills(side: Int64Array, fill: Int64Array, book: Int64Array, value_e6: Int64Array,
                 fee_e6: Int64Array) -> tuple[Int64Array, Int64Array]:  # fmt: skip
    """Signed value (rounded down) and fee (rounded up) of each fill, in minor units."""
    value = np.empty(len(fill), np.int64)
    fee = np.empty(len(fill), np.int64)
    for row in range(len(fill)):
        value[row] = mul_div_floor(value_e6[book[row]], side[row] * fill[row], 1_000_000)
        fee[row] = mul_div_ceil(fee_e6[book[row]], fill[row], 1_000_000)
    return value, fee


def _auctioned(state: State) -> tuple[Int64Array, Int64Array]:
    """Slots whose books are auctioned now, and the rows of their orders (False: they carry)."""
    table = state.orders.resting
    starts = book_starts(table[ORDER_ID], len(state.contracts))
    slots = np.flatnonzero(np.diff(starts))
    rows = np.ones(table.shape[1], np.bool_)
    active = np.ones(len(slots), np.bool_)
    for index, slot in enumerate(slots.tolist()):
        unit = state.contracts.specs[slot].underlying
        listed = state.contracts.life[slot] == Life.LISTED and not state.contracts.halted[slot]
        if not listed or state.marks.index_state[unit] == IndexState.DEAD:
            active[index] = False
            rows[starts[slot] : starts[slot + 1]] = False
    return slots[active], np.flatnonzero(rows)


def _terms(state: State, slots: Int64Array) -> auction.AuctionTerms:
    bands = [state.collars.band(s, state.marks.reference_ticks(s)) for s in slots.tolist()]
    return auction.AuctionTerms(
        reference_ticks=np.array([b.reference_ticks for b in bands], np.int64),
        band_low_ticks=np.array([b.low_ticks for b in bands], np.int64),
        band_high_ticks=np.array([b.high_ticks for b in bands], np.int64),
        clamp=np.array([int(b.clamp) for b in bands], np.int64),
    )


def _settle(state: State, slots: Int64Array, orders: Int64Array, book: Int64Array,
            fill: Int64Array, prints: auction.Prints) -> list[Event]:  # fmt: skip
    """Positions, premium and fees of all fills, every one against the clearing pool."""
    values, fees = np.zeros((2, len(slots)), np.int64)
    for at in np.flatnonzero(prints.volume_lots).tolist():
        slot, ticks = int(slots[at]), int(prints.price_ticks[at])
        spec = state.contracts.specs[slot]
        values[at] = value_per_lot_e6(spec, ticks * spec.tick_e8)
        fees[at] = fee_per_lot_e6(state, slot, ticks)
    value, fee = _value_fills(orders[SIDE], fill, book, values, fees)
    instrument = slots[book]
    signed = orders[SIDE] * fill
    pool = orders[POOL].copy()
    state.positions.apply(pool, instrument, signed, value)
    currency = state.contracts.currency_column[instrument]
    house = np.full(len(fill), int(House.CLEARING), np.int64)
    events: list[Event] = []
    paid_now = state.contracts.is_option[instrument] == 1
    if paid_now.any():
        columns = (pool[paid_now], house[paid_now], currency[paid_now], instrument[paid_now])
        events.append(state.ledger.post(PostingCause.PREMIUM, *columns, -value[paid_now]))
    to_fees = np.full(len(fill), int(House.FEES), np.int64)
    events.append(state.ledger.post(PostingCause.FEE, pool, to_fees, currency, instrument, -fee))
    events.insert(0, Filled(
        state.batch, orders[ORDER_ID].copy(), pool, instrument, orders[SIDE].copy(),
        prints.price_ticks[book], fill, orders[OPEN_LOTS] - fill, orders[AGE_BATCH].copy(), fee,
    ))  # fmt: skip
    return events


def _carry(state: State, rows: Int64Array, book: Int64Array, prints: auction.Prints) -> list[Event]:
    """Reduce what was filled; remainders of market and immediate orders leave, the rest stays.

    Interrupted books carry everything, market and immediate-or-cancel included.
    """
    table = state.orders.resting
    table[OPEN_LOTS, rows] -= prints.fill_lots
    filled = table[OPEN_LOTS] == 0
    events = close_rows(state, filled, DoneReason.FILLED)
    short_lived = np.zeros(len(filled), np.bool_)
    ended = prints.state[book] != auction.INTERRUPTED
    flags = table[FLAGS, rows]
    short_lived[rows] = ended & ((flags & (MARKET | IMMEDIATE)) != 0)
    return events + close_rows(state, short_lived[~filled], DoneReason.REMAINDER_CANCELLED)


def _lottery_accounts(state: State, pool: Int64Array) -> Int64Array:
    """The account that draws for each order; a pool of the house draws for itself."""
    owner = np.array(state.accounts.owner_of, np.int64)[pool]
    return np.where(owner >= 0, owner, limits.POOLS_MAX + pool)


def uncross(state: State) -> list[Event]:
    """Clear every book of the sealed batch and settle the fills."""
    slots, rows = _auctioned(state)
    if not len(slots):
        return []
    orders = np.ascontiguousarray(state.orders.resting[:, rows])
    starts = book_starts(orders[ORDER_ID], len(state.contracts))
    sizes = np.diff(starts)[slots]
    books = auction.SealedBooks(
        book_start=np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
        side=orders[SIDE],
        is_market=orders[FLAGS] & MARKET,
        price_ticks=orders[PRICE_TICKS],
        quantity_lots=orders[OPEN_LOTS],
        batch=orders[AGE_BATCH],
        account=_lottery_accounts(state, orders[POOL]),
        sequence=orders[OWN_SEQUENCE],
    )
    terms = _terms(state, slots)
    prints = auction.clear(books, terms, auction.batch_seed(state.seed, state.batch))
    for slot, outcome, reference in zip(
        slots.tolist(), prints.state.tolist(), terms.reference_ticks.tolist(), strict=True
    ):
        if outcome == auction.INTERRUPTED:
            state.collars.interrupted(slot, reference)
        else:
            state.collars.printed(slot)
    events: list[Event] = [
        Printed(state.batch, slots, prints.state, prints.price_ticks, prints.volume_lots,
                prints.surplus_lots, terms.reference_ticks)
    ]  # fmt: skip
    book = np.repeat(np.arange(len(slots)), sizes)
    hit = np.flatnonzero(prints.fill_lots)
    if len(hit):
        fill = prints.fill_lots[hit]
        bought = int(fill[orders[SIDE, hit] > 0].sum())
        check(2 * bought == int(fill.sum()), "as much is bought as is sold")
        settled = np.ascontiguousarray(orders[:, hit])
        events += _settle(state, slots, settled, book[hit], fill, prints)
    return events + _carry(state, rows, book, prints)


def warm_up() -> None:
    """Compile the kernels of this module and of the auction."""
    none = np.empty(0, np.int64)
    _value_fills(none, none, none, none, none)
    auction.warm_up()
