"""Attestations on the wire: outside venues feed them, owners read what they count for."""

from __future__ import annotations

from exchange.core.commands import Attest
from exchange.core.elsewhere.attest import refusal_of
from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.events import Attested, Rejected
from exchange.core.outside_venue import OutsideVenue
from exchange.core.stored.attestations import Attestation
from exchange.core.stored.state import State
from exchange.gateway import parameters as p
from exchange.gateway.attestation import PARAM, command_fields, verified
from exchange.gateway.errors import refused
from exchange.gateway.pool_view import USDC_MINOR
from exchange.gateway.queries import Query, account_of
from exchange.gateway.session import Session
from exchange.gateway.submission import Action
from exchange.gateway.units import amount_number, milliseconds, money
from exchange.sequencer import Sequencer
from margin.fixed_point import RATE_SCALE

NS_PER_MS = 10**6


class AttestationMethods:
    """Takes attestations whose signature holds, and shows an account its own."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.sequencer = sequencer

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def actions(self) -> dict[str, Action]:
        """Method name -> what carries it out."""
        return {"public/submit_attestation": self._submit}

    def queries(self) -> dict[str, Query]:
        """Method name -> what answers it."""
        return {"private/get_attestations": self._attestations}

    async def _submit(self, session: Session, params: p.AttestationParameters) -> dict[str, object]:
        """Verify, and queue what the engine would take: nothing refused here is journaled."""
        state = self.state
        fields = command_fields(state, verified(state.venue, params))
        command = Attest(self.sequencer.now_ns(), *fields)  # type: ignore[arg-type]
        reason, text = refusal_of(state, command)
        if not reason:
            events = await self.sequencer.submit(Attest, *fields)
            event = events[0]
            if isinstance(event, Attested):
                return {
                    "outside_venue": event.outside_venue,
                    "account": state.accounts.names[event.account],
                    "sequence": event.sequence,
                    "credit": event.credit_minor / USDC_MINOR,
                }
            assert isinstance(event, Rejected)
            reason, text = event.reason, event.text
        raise refused(reason, text, PARAM)

    def _attestations(self, session: Session, params: p.NoParameters) -> dict[str, object]:
        state, backing = self.state, self.sequencer.engine.risk.backing
        account = account_of(session)
        pool = state.accounts.pool_of[account]
        rows = [self._row(account, *pair) for pair in state.attestations.of(account)]
        counted = pool in backing.credit
        full = backing.outside.credit(account, Reading.STANDING).total_minor if counted else 0
        more = backing.shift(pool, Reading.NOW) if counted else (0, 0)
        return {
            "currency": "USDC",
            "credit": backing.credit.get(pool, 0) / USDC_MINOR,
            "full_credit": full / USDC_MINOR,
            "initial_margin": more[0] / USDC_MINOR,
            "maintenance_margin": more[1] / USDC_MINOR,
            "margin_period": backing.outside.horizon_ns // NS_PER_MS,
            "attestations": rows,
        }

    def _row(self, account: int, outside: OutsideVenue, known: Attestation) -> dict[str, object]:
        state, count = self.state, self.sequencer.engine.risk.backing.outside
        names, specs = state.venue.currencies(), state.contracts.specs
        credit = {Reading.NOW: 0, Reading.STANDING: 0}
        if state.marks.is_open:
            for reading in credit:
                rows = count.of_balances(account, outside, known, reading)
                credit[reading] = sum(amount for _, amount in rows)
        return {
            "outside_venue": outside.name,
            "sequence": known.sequence,
            "timestamp": milliseconds(known.observed_ns),
            "age": count.age_ns(known) // NS_PER_MS,
            "stage": count.stage(outside, known).name.lower(),
            "decay": count.gains_ppb(outside, known, Reading.NOW) / RATE_SCALE,
            "haircut": outside.haircut_ppb / RATE_SCALE,
            "transfer_delay": outside.transfer_delay_ns // NS_PER_MS,
            "too_slow": outside.is_too_slow(count.horizon_ns),
            "balances": {names[number]: money(number, minor) for number, minor in known.balances},
            "positions": {
                specs[slot].name: amount_number(specs[slot], lots) for slot, lots in known.positions
            },
            "credit": credit[Reading.NOW] / USDC_MINOR,
            "full_credit": credit[Reading.STANDING] / USDC_MINOR,
        }
