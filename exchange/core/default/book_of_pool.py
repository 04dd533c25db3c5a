"""One pool's positions in the words of default management, and how positions change hands."""

from __future__ import annotations

import numpy as np

from exchange.core.events import Event
from exchange.core.reject_reason import PostingCause
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.positions import CARRIED_LOTS, LOTS
from exchange.core.stored.state import State
from exchange.core.venue import USDC, lot_notional_minor
from margin.default.liquidation import ContractForm, LiquidationTerms, Position
from margin.portfolio import INVERSE


def terms_of(state: State) -> LiquidationTerms:
    """The venue's liquidation constants as margin reads them."""
    rules, fees = state.venue.default, state.venue.fees
    return LiquidationTerms(
        buffer_ppb=rules.buffer_ppb,
        first_step_ppb=rules.large_first_fraction_ppb,
        first_step_notional_minor=rules.large_notional_minor,
        spread_to_maintenance_ppb=rules.spread_factor_ppb,
        liquidation_fee_ppb=fees.liquidation_ppb,
        takeover_fee_ppb=rules.takeover_fee_ppb,
    )


def slices_of(state: State, pool: int) -> list[Position]:
    """A pool's positions, one slice an instrument, in margin order."""
    rows = state.positions.rows_of(pool)
    slots = state.positions.instrument[rows].tolist()
    lots = state.positions.lots[rows].tolist()
    return [_slice(state, s, q) for s, q in zip(slots, lots, strict=True) if q]


def _slice(state: State, slot: int, lots: int) -> Position:
    spec, marks = state.contracts.specs[slot], state.marks
    mark_e8, index_e8 = int(marks.mark_e8[slot]), int(marks.index_e8[spec.underlying])
    if spec.kind == INVERSE:
        # Worth 1 / price coins a dollar, each at the index: slope lot x index / mark^2.
        form, slope = ContractForm.INVERSE, (spec.lot_e8 * index_e8, mark_e8 * mark_e8 * 100)
    elif state.contracts.is_inverse_option(slot):
        # The premium is coin, each coin at the index.
        form, slope = ContractForm.OPTION, (spec.lot_e8 * index_e8, 10**18)
    else:
        option = state.contracts.is_option_slot(slot)
        form = ContractForm.OPTION if option else ContractForm.LINEAR
        slope = (spec.lot_e8, 10**10)
    return Position(
        instrument=slot,
        quantity_lots=lots,
        form=form,
        mark_e8=mark_e8,
        tick_e8=spec.tick_e8,
        slope_num=slope[0],
        slope_den=slope[1],
        notional_minor=abs(lots) * lot_notional_minor(spec, index_e8),
    )


def move_position(
    state: State,
    risk: Risk,
    giver: int,
    taker: int,
    slot: int,
    lots: int,
    cause: PostingCause,
    extra_minor: int = 0,
) -> list[Event]:
    """Move signed `lots` from one pool to another at the mark.

    Futures are paid up to the mark, so only an option moves cash: its value, to the giver, in the
    currency that it settles in. The value is what the giver's position loses, so that parting with
    a position in several pieces leaves the giver what it was worth, to the minor unit.
    `extra_minor` USDC is paid by the taker to the giver on top (negative: by the giver).
    """
    pair = np.array([giver, taker], np.int64)
    slots = np.array([slot, slot], np.int64)
    held, value_minor = state.positions.lots_of(giver, slot), risk.holdings.value_minor
    value = value_minor(slot, held) - value_minor(slot, held - lots)
    state.positions.apply(
        pair, slots, np.array([-lots, lots], np.int64), np.array([-value, value], np.int64)
    )
    # The mark is this cycle's: whoever holds a position from here on carries it.
    state.positions.table[CARRIED_LOTS] = state.positions.table[LOTS]
    state.positions.drop_flat()
    currency = state.contracts.currency[slot]
    premium = value if state.contracts.is_option_slot(slot) else 0
    due = {currency: premium}
    due[USDC] = due.get(USDC, 0) + extra_minor
    return [
        state.ledger.transfer(cause, taker, giver, paid_in, amount, slot)
        for paid_in, amount in due.items()
        if amount
    ]
