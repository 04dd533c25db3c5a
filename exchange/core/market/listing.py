"""Listing of contracts while the venue runs, and halts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from exchange.core import limits
from exchange.core.commands import Halt, ListInstruments
from exchange.core.events import Event, InstrumentHalted, InstrumentsListed, Rejected
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.contracts import Life
from exchange.core.venue import VenueError, validate_instrument, validate_together

if TYPE_CHECKING:
    from exchange.core.engine import Engine


def list_instruments(engine: Engine, command: ListInstruments) -> list[Event]:
    """List contracts: all of the command's, or none."""
    state = engine.state
    contracts = state.contracts
    names = [spec.name for spec in command.specs]
    taken = [name for name in names if name in contracts.slot_of]
    if taken or len(set(names)) < len(names):
        return [Rejected(RejectReason.INSTRUMENT_EXISTS, ", ".join(taken) or "named twice")]
    if len(contracts) + len(names) > limits.INSTRUMENTS_MAX:
        return [Rejected(RejectReason.INSTRUMENT_INVALID, "no room for more contracts")]
    try:
        trading = [contracts.specs[slot] for slot in contracts.listed()]
        for spec in command.specs:
            validate_instrument(state.venue, spec)
            if spec.expiry_ns <= command.time_ns:
                raise VenueError(f"instrument {spec.name}: already expired")
        validate_together(state.venue, [*trading, *command.specs])
    except VenueError as error:
        return [Rejected(RejectReason.INSTRUMENT_INVALID, str(error))]
    ranks_before = contracts.by_rank
    slots = tuple(contracts.list_spec(spec) for spec in command.specs)
    contracts.reindex()
    state.positions.rekey(ranks_before)
    state.marks.resize()
    if state.marks.is_open:
        engine.risk.holdings.mark()
        engine.risk.reprice()
        engine.risk.revalue()
        engine.gate.rebuild()
    return [InstrumentsListed(slots)]


def halt(engine: Engine, command: Halt) -> list[Event]:
    """Halt or resume the auctions of one contract; its orders stay."""
    contracts = engine.state.contracts
    if not 0 <= command.instrument < len(contracts):
        return [Rejected(RejectReason.INSTRUMENT_UNKNOWN)]
    if contracts.life[command.instrument] != Life.LISTED:
        return [Rejected(RejectReason.INSTRUMENT_EXPIRED)]
    contracts.halted[command.instrument] = command.halted
    if engine.gate.desks:
        engine.gate.open_desk()
    return [InstrumentHalted(command.instrument, command.halted)]
