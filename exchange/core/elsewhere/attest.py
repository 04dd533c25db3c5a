"""An outside venue's word enters: what must be true of it before it replaces the one before."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from exchange.core import limits
from exchange.core.commands import Attest
from exchange.core.events import Attested, Event, Rejected
from exchange.core.pools.money import refresh
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.state import State

if TYPE_CHECKING:
    from exchange.core.engine import Engine


def refusal_of(state: State, command: Attest) -> tuple[RejectReason, str]:
    """Why an attestation is not taken, with what is wrong in words; or NONE.

    The signature is not looked at: it was verified before the command was made.
    """
    number = state.venue.outside_number(command.outside_venue)
    if number < 0:
        return RejectReason.OUTSIDE_VENUE_UNKNOWN, command.outside_venue[:64]
    if not 0 <= command.account < len(state.accounts.names):
        return RejectReason.ACCOUNT_UNKNOWN, ""
    before = state.attestations.latest(command.account, number)
    last = -1 if before is None else before.sequence
    if not 0 <= command.sequence <= limits.ATTESTATION_SEQUENCE_MAX:
        return RejectReason.ATTESTATION_INVALID, "the sequence is out of bounds"
    if command.sequence <= last:
        return RejectReason.ATTESTATION_OUT_OF_ORDER, f"sequence {last} was taken already"
    if command.observed_ns > command.time_ns:
        return RejectReason.ATTESTATION_IN_FUTURE, ""
    if before is not None and command.observed_ns < before.observed_ns:
        return RejectReason.ATTESTATION_OUT_OF_ORDER, "an observation of a later time was taken"
    if command.observed_ns < 0:
        return RejectReason.ATTESTATION_INVALID, "the time is negative"
    return _refusal_of_content(state, command, number)


def _rise(rows: tuple[tuple[int, int], ...]) -> bool:
    return all(a[0] < b[0] for a, b in pairwise(rows))


def _refusal_of_content(state: State, command: Attest, number: int) -> tuple[RejectReason, str]:
    if not (_rise(command.balances) and _rise(command.positions)):
        return RejectReason.ATTESTATION_INVALID, "currencies and instruments rise, each once"
    for currency, amount in command.balances:
        if not 0 <= currency < state.ledger.currencies:
            return RejectReason.CURRENCY_UNKNOWN, ""
        if abs(amount) > limits.TRANSFER_MINOR_MAX:
            return RejectReason.AMOUNT_TOO_LARGE, ""
    for slot, lots in command.positions:
        if not 0 <= slot < len(state.contracts):
            return RejectReason.INSTRUMENT_UNKNOWN, ""
        elsewhere = state.attestations.outside_lots(command.account, slot, number)
        if elsewhere + abs(lots) > state.contracts.lots_max[slot]:
            return RejectReason.POSITION_LIMIT, "outside positions in one contract are too large"
    return RejectReason.NONE, ""


def attest(engine: Engine, command: Attest) -> list[Event]:
    """Take an attestation; from now on it is what counts."""
    state = engine.state
    reason, text = refusal_of(state, command)
    if reason:
        return [Rejected(reason, text)]
    number = state.venue.outside_number(command.outside_venue)
    state.attestations.take(number, command)
    pool = state.accounts.pool_of[command.account]
    refresh(engine, pool)
    return [
        Attested(
            command.account, pool, command.outside_venue, command.sequence, command.observed_ns,
            engine.risk.backing.credit.get(pool, 0),
        )
    ]  # fmt: skip
