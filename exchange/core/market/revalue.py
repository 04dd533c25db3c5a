"""Steps 4 and 5 of the cycle: marks, variation margin, funding, settlement at expiry.

Variation margin telescopes: a futures position is paid the difference between its value at the new
mark, rounded down, and the value up to which it was paid before. Losses are collected into
`vm_pending` at once; gains net per pool and currency, count as equity, and are released when the
cycle closes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from exchange.core.events import Event, FundingApplied, InstrumentSettled
from exchange.core.reject_reason import PostingCause
from exchange.core.stored.contracts import Life, settlement_value_e6
from exchange.core.stored.ledger import House
from exchange.core.stored.marks import IndexState
from exchange.core.stored.positions import (
    CARRIED_LOTS,
    ENTRY_MINOR,
    KEY,
    LOTS,
    RANK_BITS,
    RANK_MASK,
    REALISED_MINOR,
    SETTLED_MINOR,
)
from exchange.core.stored.state import State
from margin.fixed_point import RATE_SCALE, mul_div_floor
from margin.invariant import Int64Array


class Gains(NamedTuple):
    """What the cycle owes its winners until it closes, in minor units.

    `pending[pool, currency]`; `rows`: (pool, currency, -1, amount) as held, before any haircut.
    """

    pending: Int64Array
    rows: Int64Array


def funding_rate_e9(mark_e8: int, index_e8: int, dead_band_ppb: int, cap_ppb: int) -> int:
    """The 8-hour rate: premium beyond the dead band, capped. Source: DESIGN of perpetuals at
    Deribit: clamp(p - clamp(p, +-dead band), +-cap) with p = mark / index - 1."""
    premium = (mark_e8 - index_e8) * RATE_SCALE // index_e8
    inside = max(-dead_band_ppb, min(dead_band_ppb, premium))
    return max(-cap_ppb, min(cap_ppb, premium - inside))


def _funding_steps(state: State, elapsed_ns: int, crossed: int) -> tuple[Int64Array, list[Event]]:
    """Per slot the move of the cumulative funding index of one lot, in 10^-12 of its currency."""
    rules, marks = state.venue.funding, state.marks
    steps = np.zeros(len(state.contracts), np.int64)
    events: list[Event] = []
    if rules.cap_ppb == 0:
        return steps, events
    for slot in marks.perpetuals():
        spec = state.contracts.specs[slot]
        if marks.index_state[spec.underlying] == IndexState.DEAD:
            continue
        index_e8 = int(marks.index_e8[spec.underlying])
        rate = funding_rate_e9(
            int(marks.mark_e8[slot]), index_e8, rules.dead_band_ppb, rules.cap_ppb
        )
        scaled = rate * spec.lot_e8 * elapsed_ns
        if marks.is_inverse(slot):
            step = scaled * 1000 // (rules.period_ns * index_e8)
        else:
            step = scaled * index_e8 // (rules.period_ns * 10**13)
        steps[slot] = step
        marks.funding_rate_e9[slot] = rate
        marks.funding_e12[slot] = marks.funding_e12.get(slot, 0) + step
        events.append(FundingApplied(slot, rate, step, crossed))
    return steps, events


@njit(cache=True)
def _revalue_rows(
    table: Int64Array,
    by_rank: Int64Array,
    value_e6: Int64Array,
    final: Int64Array,
    step_e12: Int64Array,
    terms: Int64Array,
    pending: Int64Array,
) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array]:
    """Pay every position up to the marks.

    `terms[slot]`: paid at fill, currency, funding steps per minor unit. Returns variation margin,
    funding, exercise values and net gains as rows of (pool, currency, instrument, amount), those
    of zero left out; the net gains are also in `pending[pool, currency]`.
    """
    rows = table.shape[1]
    moved = np.empty((3, 4, rows), np.int64)
    count = np.zeros(3, np.int64)
    for row in range(rows):
        pool = table[KEY, row] >> RANK_BITS
        slot = by_rank[table[KEY, row] & RANK_MASK]
        value = mul_div_floor(value_e6[slot], table[LOTS, row], 1_000_000)
        margin, funding, exercise = 0, 0, 0
        if step_e12[slot] != 0:
            funding = mul_div_floor(-step_e12[slot], table[CARRIED_LOTS, row], terms[slot, 2])
        if terms[slot, 0] == 0:
            margin = value - table[SETTLED_MINOR, row]
            table[SETTLED_MINOR, row] = value
        elif final[slot] == 1:
            exercise = value
        if final[slot] == 1:
            table[REALISED_MINOR, row] += value - table[ENTRY_MINOR, row]
            table[ENTRY_MINOR, row] = 0
            table[LOTS, row] = 0
            table[SETTLED_MINOR, row] = 0
        table[CARRIED_LOTS, row] = table[LOTS, row]
        pending[pool, terms[slot, 1]] += margin + funding
        for kind, amount in enumerate((margin, funding, exercise)):
            if amount != 0:
                at = count[kind]
                moved[kind, 0, at] = pool
                moved[kind, 1, at] = terms[slot, 1]
                moved[kind, 2, at] = slot
                moved[kind, 3, at] = amount
                count[kind] += 1
    gains = np.empty((4, pending.size), np.int64)
    won = 0
    for pool in range(pending.shape[0]):
        for currency in range(pending.shape[1]):
            if pending[pool, currency] > 0:
                gains[0, won] = pool
                gains[1, won] = currency
                gains[2, won] = -1
                gains[3, won] = pending[pool, currency]
                won += 1
            else:
                pending[pool, currency] = 0
    return (
        moved[0, :, : count[0]],
        moved[1, :, : count[1]],
        moved[2, :, : count[2]],
        gains[:, :won],
    )


def _settle_expired(state: State, value_e6: Int64Array) -> tuple[Int64Array, list[Event]]:
    """Which slots end now, their value per lot put into `value_e6`, and the events of it."""
    final = np.zeros(len(state.contracts), np.int64)
    events: list[Event] = []
    for slot in state.contracts.closed():
        spec = state.contracts.specs[slot]
        if state.marks.index_state[spec.underlying] == IndexState.DEAD:
            continue
        settlement = state.marks.settlement_e8(spec.underlying, spec.expiry_ns)
        value_e6[slot] = settlement_value_e6(spec, settlement)
        final[slot] = 1
        state.contracts.set_life(slot, Life.SETTLED)
        held = int((state.positions.instrument == slot).sum())
        events.append(InstrumentSettled(slot, settlement, held))
    return final, events


def _post(
    state: State,
    cause: PostingCause,
    house: House,
    rows: Int64Array,
    amount_minor: Int64Array | None = None,
) -> list[Event]:
    """Post rows of (pool, currency, instrument, amount) against a house pool.

    `amount_minor` stands for the amounts where they are others.
    """
    count = rows.shape[1]
    if count == 0:
        return []
    against = np.empty(count, np.int64)
    against.fill(house)
    amount = rows[3] if amount_minor is None else amount_minor
    return [state.ledger.post(cause, rows[0], against, rows[1], rows[2], amount)]


def take_marks(
    state: State, value_e6: Int64Array, elapsed_ns: int, crossed: int
) -> tuple[Gains, list[Event]]:
    """Pay everything up to the marks just taken; returns the gains still to be released.

    `value_e6[slot]` is the value of one lot at its mark, in 10^-6 minor units.
    """
    steps, events = _funding_steps(state, elapsed_ns, crossed)
    final, settled = _settle_expired(state, value_e6)
    positions, contracts = state.positions, state.contracts
    pending = np.zeros((state.accounts.pools, state.ledger.currencies), np.int64)
    margin, funding, exercise, gains = _revalue_rows(
        positions.table, contracts.by_rank, value_e6, final, steps, contracts.payment_terms, pending
    )
    events += settled
    events += _post(state, PostingCause.VARIATION_MARGIN, House.VM_PENDING, margin)
    events += _post(state, PostingCause.FUNDING, House.VM_PENDING, funding)
    events += _post(state, PostingCause.EXERCISE, House.CLEARING, exercise)
    events += _post(state, PostingCause.GAINS_HELD, House.VM_PENDING, gains, -gains[3])
    positions.drop_flat()
    return Gains(pending, gains), events


def release_gains(state: State, gains: Gains) -> list[Event]:
    """Step 10: pay the winners; what rounding left in the house's books goes to `rounding`."""
    pool, currency = gains.rows[0], gains.rows[1]
    due = gains.pending.ravel().take(pool * state.ledger.currencies + currency)
    events = _post(state, PostingCause.GAINS_RELEASED, House.VM_PENDING, gains.rows, due)
    left = state.ledger.cash[: House.VM_PENDING + 1]  # clearing and vm_pending
    if np.count_nonzero(left):
        for house, currency in zip(*(at.tolist() for at in left.nonzero()), strict=True):
            residue = int(left[house, currency])
            cause = PostingCause.ROUNDING
            events.append(state.ledger.transfer(cause, house, House.ROUNDING, currency, residue))
    return events


def warm_up() -> None:
    """Compile the kernels of this module."""
    one, grid = np.zeros(1, np.int64), np.zeros((1, 1), np.int64)
    terms = np.array([[0, 0, 1]], np.int64)
    _revalue_rows(np.zeros((6, 1), np.int64), one, one, one, one, terms, grid)
