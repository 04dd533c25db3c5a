"""How far attestations have aged, as their owners are told."""

from __future__ import annotations

from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.events import CreditAged, Event
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.state import State


def age_credit(state: State, risk: Risk) -> list[Event]:
    """Say which attestations began to decay, got too old or are fresh again; each once."""
    events: list[Event] = []
    for account in sorted(state.attestations.of_account):
        pool = state.accounts.pool_of[account]
        for outside, known in state.attestations.of(account):
            stage = risk.backing.outside.stage(outside, known)
            if stage == known.stage:
                continue
            state.attestations.tell(known, stage)
            full = risk.backing.outside.credit(account, Reading.STANDING).total_minor
            events.append(CreditAged(pool, outside.name, stage, risk.backing.credit[pool], full))
    return events
