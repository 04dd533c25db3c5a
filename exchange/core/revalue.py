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

from exchange.core.contracts import Life, value_per_lot_e6
from exchange.core.events import Event, FundingApplied, InstrumentSettled
from exchange.core.ledger import House
from exchange.core.marks import IndexState
from exchange.core.positions import CARRIED_LOTS, ENTRY_MINOR, LOTS, REALISED_MINOR, SETTLED_MINOR
from exchange.core.reject_reason import PostingCause
from exchange.core.state import State
from exchange.core.venue import USDC
from margin.fixed_point import mul_div_floor
from margin.invariant import Int64Array
from margin.portfolio import LINEAR_CALL

E9 = 10**9
# A flow is -lots x step; the step is 10^-12 of the settlement currency, its minor unit coarser.
USDC_STEP_PER_MINOR = 10**6
COIN_STEP_PER_MINOR = 10**4


class Gains(NamedTuple):
    """What the cycle owes its winners until it closes: pending[pool, currency] in minor units."""

    pending: Int64Array


def funding_rate_e9(mark_e8: int, index_e8: int, dead_band_ppb: int, cap_ppb: int) -> int:
    """The 8-hour rate: premium beyond the dead band, capped. Source: DESIGN of perpetuals at
    Deribit: clamp(p - clamp(p, +-dead band), +-cap) with p = mark / index - 1."""
    premium = (mark_e8 - index_e8) * E9 // index_e8
    inside = max(-dead_band_ppb, min(dead_band_ppb, premium))
    return max(-cap_ppb, min(cap_ppb, premium - inside))


def _funding_steps(state: State, elapsed_ns: int, crossed: int) -> tuple[Int64Array, list[Event]]:
    """Per slot the move of the cumulative funding index of one lot, in 10^-12 of its currency."""
    rules, marks = state.venue.funding, state.marks
    steps = np.zeros(len(state.contracts), np.int64)
    events: list[Event] = []
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
    pool: Int64Array,
    instrument: Int64Array,
    value_e6: Int64Array,
    paid_at_fill: Int64Array,
    final: Int64Array,
    step_e12: Int64Array,
    step_per_minor: Int64Array,
    currency: Int64Array,
    net: Int64Array,
) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Variation margin, funding and exercise value of each position; updates what it is paid to.

    The first two are added up in `net[pool, currency]`.
    """
    rows = table.shape[1]
    margin = np.zeros(rows, np.int64)
    funding = np.zeros(rows, np.int64)
    exercise = np.zeros(rows, np.int64)
    for row in range(rows):
        slot = instrument[row]
        value = mul_div_floor(value_e6[slot], table[LOTS, row], 1_000_000)
        step = step_e12[slot]
        if step != 0:
            funding[row] = mul_div_floor(-step, table[CARRIED_LOTS, row], step_per_minor[slot])
        if paid_at_fill[slot] == 0:
            margin[row] = value - table[SETTLED_MINOR, row]
            table[SETTLED_MINOR, row] = value
        elif final[slot] == 1:
            exercise[row] = value
        if final[slot] == 1:
            table[REALISED_MINOR, row] += value - table[ENTRY_MINOR, row]
            table[ENTRY_MINOR, row] = 0
            table[LOTS, row] = 0
            table[SETTLED_MINOR, row] = 0
        table[CARRIED_LOTS, row] = table[LOTS, row]
        net[pool[row], currency[slot]] += margin[row] + funding[row]
    return margin, funding, exercise


def _settlement_price(state: State, slot: int, settlement_e8: int) -> int:
    """Price of an expired contract: the settlement index, for an option its intrinsic value."""
    spec = state.contracts.specs[slot]
    if not state.contracts.is_option_slot(slot):
        return settlement_e8
    payoff = settlement_e8 - spec.strike_e8
    return max(0, payoff if spec.kind == LINEAR_CALL else -payoff)


def _prices(state: State) -> tuple[Int64Array, Int64Array, list[Event]]:
    """Value of one lot per slot (10^-6 minor units), which slots end now, and the events of it."""
    value = np.zeros(len(state.contracts), np.int64)
    final = np.zeros(len(state.contracts), np.int64)
    events: list[Event] = []
    for slot in state.contracts.listed():
        spec = state.contracts.specs[slot]
        price_e8 = int(state.marks.mark_e8[slot])
        alive = state.marks.index_state[spec.underlying] != IndexState.DEAD
        if state.contracts.life[slot] == Life.CLOSED and alive:
            settlement = state.marks.settlement_e8(spec.underlying, spec.expiry_ns)
            price_e8 = _settlement_price(state, slot, settlement)
            final[slot] = 1
            state.contracts.life[slot] = Life.SETTLED
            held = int((state.positions.instrument == slot).sum())
            events.append(InstrumentSettled(slot, settlement, held))
        value[slot] = value_per_lot_e6(spec, price_e8) if price_e8 > 0 else 0
    return value, final, events


def _post_rows(
    state: State,
    cause: PostingCause,
    counter: House,
    pool: Int64Array,
    instrument: Int64Array,
    amount: Int64Array,
) -> list[Event]:
    """Post one amount per position row against a house pool, rows of zero left out."""
    hit = amount.nonzero()[0]
    if not len(hit):
        return []
    slots = instrument[hit]
    against = np.full(len(hit), int(counter), np.int64)
    currency = state.contracts.currency_column[slots]
    return [state.ledger.post(cause, pool[hit], against, currency, slots, amount[hit])]


def _hold_gains(state: State, net: Int64Array) -> tuple[Gains, list[Event]]:
    """Hold the winners' net gains until the cycle closes."""
    pending = np.maximum(net, 0)
    pool, money = pending.nonzero()
    if not len(pool):
        return Gains(pending), []
    held = np.full(len(pool), int(House.VM_PENDING), np.int64)
    nothing = np.full(len(pool), -1, np.int64)
    event = state.ledger.post(
        PostingCause.GAINS_HELD, pool, held, money, nothing, -pending[pool, money]
    )
    return Gains(pending), [event]


def take_marks(state: State, elapsed_ns: int, crossed: int) -> tuple[Gains, list[Event]]:
    """Pay everything up to the marks just taken; returns the gains still to be released."""
    steps, events = _funding_steps(state, elapsed_ns, crossed)
    value, final, settled = _prices(state)
    positions, currency = state.positions, state.contracts.currency_column
    pool, instrument = positions.pool, positions.instrument
    scale = np.where(currency == USDC, USDC_STEP_PER_MINOR, COIN_STEP_PER_MINOR)
    net = np.zeros((state.accounts.pools, state.ledger.currencies), np.int64)
    margin, funding, exercise = _revalue_rows(
        positions.table,
        pool,
        instrument,
        value,
        state.contracts.is_option,
        final,
        steps,
        scale,
        currency,
        net,
    )
    events += settled
    at = (pool, instrument)
    events += _post_rows(state, PostingCause.VARIATION_MARGIN, House.VM_PENDING, *at, margin)
    if steps.any():
        events += _post_rows(state, PostingCause.FUNDING, House.VM_PENDING, *at, funding)
    if settled:
        events += _post_rows(state, PostingCause.EXERCISE, House.CLEARING, *at, exercise)
    gains, held = _hold_gains(state, net)
    positions.drop_flat()
    return gains, events + held


def release_gains(state: State, gains: Gains) -> list[Event]:
    """Step 10: pay the winners; what rounding left in the house's books goes to `rounding`."""
    events: list[Event] = []
    pool, money = gains.pending.nonzero()
    if len(pool):
        held = np.full(len(pool), int(House.VM_PENDING), np.int64)
        nothing = np.full(len(pool), -1, np.int64)
        amount = gains.pending[pool, money]
        cause = PostingCause.GAINS_RELEASED
        events.append(state.ledger.post(cause, pool, held, money, nothing, amount))
    left = state.ledger.cash[: House.VM_PENDING + 1]  # clearing and vm_pending
    if left.any():
        for house, currency in zip(*(at.tolist() for at in left.nonzero()), strict=True):
            residue = int(left[house, currency])
            cause = PostingCause.ROUNDING
            events.append(state.ledger.transfer(cause, house, House.ROUNDING, currency, residue))
    return events


def warm_up() -> None:
    """Compile the kernels of this module."""
    none = np.empty(0, np.int64)
    _revalue_rows(np.empty((6, 0), np.int64), *(none,) * 8, np.empty((0, 1), np.int64))
