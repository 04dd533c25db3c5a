"""The engine: `apply(command) -> events`, the only way that state changes.

Commands come in the order of the journal. A request that cannot be granted is answered with a
numbered reason and changes nothing; a broken invariant raises and the engine must not be used
again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exchange.core import clearing_cycle
from exchange.core.clearing_cycle import run_revalue, run_seal, run_uncross
from exchange.core.commands import (
    Attest,
    CancelAll,
    CancelOrder,
    ClosePool,
    Command,
    Deposit,
    EditOrder,
    Genesis,
    Halt,
    ListInstruments,
    MoveMargin,
    OpenAccount,
    OpenPool,
    OrderColumns,
    PlaceOrder,
    Revalue,
    Seal,
    SwitchMode,
    Uncross,
    Withdraw,
)
from exchange.core.elsewhere.attest import attest
from exchange.core.events import Event, Rejected, VenueOpened
from exchange.core.market.listing import halt, list_instruments
from exchange.core.orders.batch_entry import apply_columns
from exchange.core.orders.entry import cancel, cancel_all, edit, place
from exchange.core.orders.risk_gate import RiskGate
from exchange.core.pools.money import deposit, open_account, withdraw
from exchange.core.pools.pool_moves import close_pool, move_margin, open_pool, switch_mode
from exchange.core.reject_reason import PostingCause, RejectReason
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.ledger import House
from exchange.core.stored.state import VERSION, State
from exchange.core.venue import USDC, validate, validate_instrument
from margin.invariant import check

__all__ = ["VERSION", "Engine", "clearing_cycle"]

Handler = Callable[["Engine", Any], list[Event]]


class Engine:
    """The venue as a deterministic state machine."""

    state: State  # there is one, and the two below, once `Genesis` was applied
    risk: Risk
    gate: RiskGate

    def __init__(self) -> None:
        self.has_begun = False

    @property
    def cycle(self) -> int:
        """The last finished cycle; -1 before the first."""
        return self.state.cycle if self.has_begun else -1

    @property
    def last_state_hash(self) -> bytes:
        """Digest of the state at the end of the last cycle; zeros before the first."""
        return self.state.last_hash if self.has_begun else bytes(32)

    def state_hash(self) -> bytes:
        """Digest of the state as it is now."""
        return self.state.digest()

    def apply(self, command: Command) -> list[Event]:
        """Apply one command and return what happened."""
        if not self.has_begun:
            return _genesis(self, command)
        state = self.state
        if command.time_ns < state.time_ns:
            check(False, "time never runs backwards")
        kind = type(command)
        if state.phase and kind not in CYCLE_COMMANDS:  # 0 is collecting
            return [Rejected(RejectReason.CYCLE_OPEN)]
        earlier, state.time_ns = state.time_ns, command.time_ns
        events = HANDLERS[kind](self, command)
        if len(events) == 1 and type(events[0]) is Rejected:
            state.time_ns = earlier  # a refusal changes nothing, the clock included
        return events

    def snapshot(self) -> bytes:
        """Canonical bytes of the state."""
        return self.state.snapshot()

    @classmethod
    def restore(cls, data: bytes) -> Engine:
        """The engine whose snapshot this is; what is derived is derived anew."""
        engine = cls()
        engine._adopt(State.restore(data))
        return engine

    def _adopt(self, state: State) -> None:
        self.state = state
        self.risk = Risk(state)
        self.gate = RiskGate(state, self.risk)
        self.has_begun = True
        if state.marks.is_open:
            self.risk.holdings.mark()
            self.risk.reprice()
            self.risk.revalue()
            self.gate.rebuild()
        else:
            self.risk.add_pools(state.accounts.pools)
            self.gate.add_pools(state.accounts.pools)


def _genesis(engine: Engine, command: Command) -> list[Event]:
    check(isinstance(command, Genesis), "the first command is Genesis")
    assert isinstance(command, Genesis)
    check(command.version == VERSION, f"journal of version {command.version}, not {VERSION}")
    venue = command.venue
    validate(venue)
    state = State(venue, command.seed)
    for spec in venue.instruments:
        validate_instrument(venue, spec)
        state.contracts.list_spec(spec)
    state.contracts.reindex()
    state.marks.resize()
    state.time_ns = command.time_ns
    for house, amount in (
        (House.INSURANCE, venue.default.fund_minor),
        (House.VENUE_CAPITAL, venue.default.venue_capital_minor),
    ):
        if amount:
            state.ledger.transfer(PostingCause.ENDOWMENT, House.EXTERNAL, house, USDC, amount)
    engine._adopt(state)
    return [VenueOpened(venue.name, len(state.contracts))]


def _second_genesis(engine: Engine, command: Genesis) -> list[Event]:
    check(False, "Genesis comes once")
    return []


CYCLE_COMMANDS = (Seal, Uncross, Revalue)

HANDLERS: dict[type, Handler] = {
    Genesis: _second_genesis,
    OpenAccount: open_account,
    OpenPool: open_pool,
    ClosePool: close_pool,
    MoveMargin: move_margin,
    SwitchMode: switch_mode,
    Deposit: deposit,
    Withdraw: withdraw,
    PlaceOrder: place,
    EditOrder: edit,
    CancelOrder: cancel,
    CancelAll: cancel_all,
    OrderColumns: apply_columns,
    ListInstruments: list_instruments,
    Halt: halt,
    Attest: attest,
    Seal: lambda engine, command: run_seal(engine.state, engine.gate, command),
    Uncross: lambda engine, command: run_uncross(engine.state, command),
    Revalue: lambda engine, command: run_revalue(engine.state, engine.risk, engine.gate, command),
}
