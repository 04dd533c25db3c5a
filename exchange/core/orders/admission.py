"""What may be asked of a contract at all, before anybody's margin is looked at."""

from __future__ import annotations

from exchange.core.reject_reason import RejectReason
from exchange.core.stored.contracts import Life
from exchange.core.stored.marks import IndexState
from exchange.core.stored.state import State


def refusal_of_contract(state: State, slot: int) -> RejectReason:
    """Why no order may enter this contract now, or NONE."""
    contracts = state.contracts
    if not 0 <= slot < len(contracts):
        return RejectReason.INSTRUMENT_UNKNOWN
    if not state.marks.is_open:
        return RejectReason.MARKET_NOT_OPEN
    spec = contracts.specs[slot]
    if contracts.life[slot] != Life.LISTED or spec.expiry_ns <= state.time_ns:
        return RejectReason.INSTRUMENT_EXPIRED
    if contracts.halted[slot]:
        return RejectReason.INSTRUMENT_HALTED
    if state.marks.index_state[spec.underlying] == IndexState.DEAD:
        return RejectReason.INDEX_DEAD
    return RejectReason.NONE


def refusal_of_terms(state: State, slot: int, price_ticks: int, lots: int) -> RejectReason:
    """Why an order of this price (0: market) and size is never accepted, or NONE."""
    if price_ticks < 0:
        return RejectReason.PRICE_NOT_POSITIVE
    if price_ticks > state.contracts.price_max[slot]:
        return RejectReason.PRICE_TOO_HIGH
    if lots <= 0:
        return RejectReason.QUANTITY_NOT_POSITIVE
    if lots > state.contracts.lots_max[slot]:
        return RejectReason.QUANTITY_TOO_LARGE
    return RejectReason.NONE
