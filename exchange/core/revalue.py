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
def _revalue_rows(table: Int64Array, instrument: Int64Array, value_e6: Int64Array,
                  paid_at_fill: Int64Array, final: Int64Array, step_e12: Int64Array,
                  step_per_minor: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:  # fmt: skip
    """Variation margin, funding and exercise value of each position; updates what it is paid to."""
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
    positions = np.bincount(state.positions.instrument, minlength=len(state.contracts))
    for slot in state.contracts.listed():
        spec = state.contracts.specs[slot]
        price_e8 = int(state.marks.mark_e8[slot])
        alive = state.marks.index_state[spec.underlying] != IndexState.DEAD
        if state.contracts.life[slot] == Life.CLOSED and alive:
            settlement = state.marks.settlement_e8(spec.underlying, spec.expiry_ns)
            price_e8 = _settlement_price(state, slot, settlement)
            final[slot] = 1
            state.contracts.life[slot] = Life.SETTLED
            events.append(InstrumentSettled(slot, settlement, int(positions[slot])))
        value[slot] = value_per_lot_e6(spec, price_e8) if price_e8 > 0 else 0
    return value, final, events


def _post_rows(state: State, cause: PostingCause, counter: House, amount: Int64Array) -> list[Event]:
    """Post one amount per position row against a house pool, rows of zero left out."""
    hit = np.flatnonzero(amount)
    if not len(hit):
        return []
    instrument = state.positions.instrument[hit]
    against = np.full(len(hit), int(counter), np.int64)
    currency = state.contracts.currency_column[instrument]
    pool = state.positions.pool[hit]
    return [state.ledger.post(cause, pool, against, currency, instrument, amount[hit])]


def _hold_gains(state: State, flow: Int64Array) -> tuple[Gains, list[Event]]:
    """Net the flows per pool and currency; hold the winners' until the cycle closes."""
    net = np.zeros((state.accounts.pools, state.ledger.currencies), np.int64)
    currency = state.contracts.currency_column[state.positions.instrument]
    np.add.at(net, (state.positions.pool, currency), flow)
    pending = np.maximum(net, 0)
    pool, money = np.nonzero(pending)
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
    scale = np.where(
        state.contracts.currency_column == USDC, USDC_STEP_PER_MINOR, COIN_STEP_PER_MINOR
    )
    margin, funding, exercise = _revalue_rows(
        state.positions.table, state.positions.instrument, value, state.contracts.is_option,
        final, steps, scale,
    )  # fmt: skip
    events += settled
    events += _post_rows(state, PostingCause.VARIATION_MARGIN, House.VM_PENDING, margin)
    events += _post_rows(state, PostingCause.FUNDING, House.VM_PENDING, funding)
    events += _post_rows(state, PostingCause.EXERCISE, House.CLEARING, exercise)
    gains, held = _hold_gains(state, margin + funding)
    state.positions.drop_flat()
    return gains, events + held


def release_gains(state: State, gains: Gains) -> list[Event]:
    """Step 10: pay the winners; what rounding left in the house's books goes to `rounding`."""
    events: list[Event] = []
    pool, money = np.nonzero(gains.pending)
    if len(pool):
        held = np.full(len(pool), int(House.VM_PENDING), np.int64)
        nothing = np.full(len(pool), -1, np.int64)
        amount = gains.pending[pool, money]
        cause = PostingCause.GAINS_RELEASED
        events.append(state.ledger.post(cause, pool, held, money, nothing, amount))
    for house in (House.VM_PENDING, House.CLEARING):
        for currency in range(state.ledger.currencies):
            residue = state.ledger.balance(house, currency)
            if residue:
                events.append(state.ledger.transfer(
                    PostingCause.ROUNDING, house, House.ROUNDING, currency, residue
                ))  # fmt: skip
    return events


def warm_up() -> None:
    """Compile the kernels of this module."""
    none = np.empty(0, np.int64)
    _revalue_rows(np.empty((6, 0), np.int64), none, none, none, none, none, none)
