"""The dispatcher: a session, a method and its parameters in; a result or a `WireError` out.

It knows no transport. Reads are answered at once, or (what takes long) from a copy on another
thread; commands go through the sequencer and are answered when they are durable. It also owns the
read models and feeds them every command's events, so whatever a client is told by channel it can
ask for in the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from exchange.core.commands import (
    Attest,
    CancelAll,
    CancelOrder,
    Command,
    Deposit,
    EditOrder,
    Genesis,
    ListInstruments,
    MoveMargin,
    OrderColumns,
    PlaceOrder,
    Revalue,
    Seal,
    Uncross,
    Withdraw,
)
from exchange.core.events import (
    Event,
    InstrumentsListed,
    MarginMoved,
    OrderAccepted,
    OrderDone,
    Printed,
)
from exchange.core.limits import instrument_of
from exchange.core.stored.layers import NO_POOL
from exchange.core.stored.state import State
from exchange.gateway.account_queries import AccountQueries
from exchange.gateway.account_view import AccountView
from exchange.gateway.attestation_methods import AttestationMethods
from exchange.gateway.authentication import Authenticator
from exchange.gateway.batch_view import BatchView, Readiness
from exchange.gateway.cycle_record import CycleRecord
from exchange.gateway.errors import (
    WireError,
    forbidden,
    invalid_params,
    method_not_found,
    unauthorized,
)
from exchange.gateway.instrument_view import InstrumentView
from exchange.gateway.margin_queries import MarginQueries
from exchange.gateway.market_data import MarketData
from exchange.gateway.market_queries import MarketQueries
from exchange.gateway.methods import METHODS, Method, Permission
from exchange.gateway.order_history import OrderHistory
from exchange.gateway.parameter_words import refusal_words
from exchange.gateway.pool_methods import PoolMethods
from exchange.gateway.publisher import Publisher
from exchange.gateway.queries import Queries, Query
from exchange.gateway.rate_limit import RateLimit
from exchange.gateway.session import Session
from exchange.gateway.session_methods import SessionMethods, must_be_websocket
from exchange.gateway.sub_accounts import SubAccounts
from exchange.gateway.trading import Action, Trading
from exchange.sequencer import Sequencer, SequencerStopped

_NOTHING = (b"", b"null")
OF_A_CONNECTION = frozenset({
    "public/subscribe", "public/unsubscribe", "private/subscribe", "private/unsubscribe",
    "batch/register", "batch/ready",
})  # fmt: skip
OF_ACCOUNT = (PlaceOrder, EditOrder, CancelOrder, CancelAll, Deposit, Withdraw, Attest)


class Entry(msgspec.Struct, frozen=True):
    """A method with what reads its parameters and what answers it (one of the two)."""

    method: Method
    decoder: msgspec.json.Decoder[Any]
    query: Query | None
    action: Action | None


class Dispatcher:
    """All methods and channels of one venue."""

    def __init__(self, sequencer: Sequencer, history: OrderHistory | None = None, *,
                 authenticator: Authenticator | None = None,
                 limits: RateLimit | None = None) -> None:  # fmt: skip
        """Listen to `sequencer`; after a recovery call `rebuild` before the first session.

        Without an authenticator sessions have the account that their transport gives them;
        without limits they may ask as often as they like.
        """
        self.limits = limits
        self.stopping = False
        self.sequencer = sequencer
        self.market = MarketData()
        self.history = history if history is not None else OrderHistory()
        self.instruments = InstrumentView(self.market)
        self.record = CycleRecord()
        self.accounts = AccountView(sequencer.engine)
        self.batches = BatchView(self.market, sequencer.now_ns)
        self.readiness = Readiness()
        self.publisher = Publisher(
            self.market, self.history, self.instruments, self.accounts, self.batches
        )
        queries = Queries(
            sequencer, self.market, self.history, self.instruments, self.accounts, self.batches,
            self.publisher, self.readiness,
        ).queries()  # fmt: skip
        self.sessions = SessionMethods(
            sequencer, self.history, self.publisher, self.readiness, authenticator
        )
        queries |= self.sessions.queries()
        queries |= MarketQueries(
            sequencer, self.market, self.instruments, self.record
        ).queries()  # fmt: skip
        queries |= AccountQueries(sequencer, self.history).queries()
        self.margins = MarginQueries(sequencer)
        queries |= self.margins.queries()
        actions = Trading(sequencer, self.history, self.sessions.entered).actions()
        actions |= PoolMethods(sequencer).actions()
        sub_accounts = SubAccounts(sequencer, self.accounts, self.history)
        attestations = AttestationMethods(sequencer)
        queries |= sub_accounts.queries() | attestations.queries()
        actions |= sub_accounts.actions() | attestations.actions()
        self.entries = {
            method.name: Entry(method, msgspec.json.Decoder(method.parameters),
                               queries.get(method.name), actions.get(method.name))
            for method in METHODS
        }  # fmt: skip
        sequencer.listeners.append(self._take)

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def now_ns(self) -> int:
        """The venue's time."""
        return self.sequencer.now_ns()

    def account_of(self, name: str) -> int | None:
        """The number of an account by name, or None."""
        return self.state.accounts.number_of.get(name)

    def rebuild(self) -> None:
        """Take open orders from the engine, as after a recovery."""
        self.history.rebuild(self.state)
        self.record.time_ns = self.state.marks.time_ns
        self.batches.recount(self.state)

    def disconnect(self, session: Session) -> None:
        """Forget a session: its subscriptions, the batches' waiting for it, and (if it asked for
        that) its orders, whose cancels are queued. All its requests must have been answered.
        """
        self.sessions.cancel_orders(session)
        session.orders.clear()
        self.readiness.leave(session)
        for channel in list(session.channels):
            self.publisher.unsubscribe(self.state, session, channel)

    async def handle(
        self, session: Session, method: str, params: bytes | Mapping[str, object] = b"{}"
    ) -> object:
        """The result of a request, ready for JSON.

        `params` is the JSON text of an object, or a mapping of names to text as in the query of
        an address. Raises `WireError` for whatever is refused; then nothing has changed.
        """
        entry = self.entries.get(method)
        if entry is None:
            raise method_not_found(method)
        params = self.sessions.take_token(session, params)
        permission = entry.method.permission
        if permission is not Permission.PUBLIC:
            if session.account is None:
                raise unauthorized()
            if permission.value not in session.scopes:
                raise forbidden(permission.value)
        if not session.lasting and method in OF_A_CONNECTION:
            raise must_be_websocket()
        if self.limits is not None:
            self.limits.spend(session, entry.action is not None)
        decoded = _decoded(entry, params)
        if entry.query is not None:
            answer = entry.query(session, decoded)
            return await answer if isinstance(answer, asyncio.Future) else answer
        assert entry.action is not None
        if self.stopping and not method.startswith("private/cancel"):
            raise WireError(11051, "system_maintenance", {"reason": "the venue is being stopped"})
        try:
            return await entry.action(session, decoded)
        except SequencerStopped as error:
            reason = "the venue stopped; its journal decides whether the request was taken"
            raise WireError(11094, "internal_server_error", {"reason": reason}) from error

    # Events

    def _take(self, command: Command, events: list[Event]) -> None:
        """Feed the read models, then tell the listeners."""
        kind, state = type(command), self.state
        self.accounts.changed(command.account if isinstance(command, OF_ACCOUNT) else None)
        if kind is Uncross:
            printed = next((e for e in events if isinstance(e, Printed)), None)
            self.market.take_uncross(state, command.time_ns, printed)
        self.history.take(state, command, events, self.market.new_trades)
        self._count(kind, state, events)
        if kind is Uncross:
            self.publisher.printed(state)
        if self.history.touched:
            self.publisher.touched(state)
        if kind is Revalue:
            self.readiness.next_batch()
            self.record.take(state, events, command.time_ns)
            self.publisher.revalued(state, events, command.time_ns)
        if kind in (Seal, Uncross, Revalue):
            self.publisher.batch(state)
        elif isinstance(command, Attest) and self.publisher.users:
            self.publisher.portfolio(state, command.account)
        elif isinstance(command, (Deposit, Withdraw)) and self.publisher.users:
            holder = command.account
            if command.pool != NO_POOL and state.accounts.is_open_pool(command.pool):
                holder = state.accounts.owner_of[command.pool]
            self.publisher.portfolio(state, holder)
        elif isinstance(command, MoveMargin) and self.publisher.users:
            for event in events:
                if isinstance(event, MarginMoved):
                    owner_of = state.accounts.owner_of
                    for account in sorted({owner_of[event.from_pool], owner_of[event.to_pool]}):
                        self.publisher.portfolio(state, account)
        elif kind is ListInstruments:
            for event in events:
                if isinstance(event, InstrumentsListed):
                    self.instruments.listed(event.slots, command.time_ns)

    def _count(self, kind: type[Command], state: State, events: list[Event]) -> None:
        """Keep the number of orders in the running batch."""
        if kind is PlaceOrder:
            event = events[0]
            if isinstance(event, OrderAccepted) and not event.repeated:
                self.batches.count(instrument_of(event.order_id), 1)
        elif kind in (Seal, Uncross, Revalue, OrderColumns, Genesis):
            self.batches.recount(state)
        else:
            for event in events:
                if isinstance(event, OrderDone):
                    self.batches.count(instrument_of(event.order_id), -1)


def _decoded(entry: Entry, params: bytes | Mapping[str, object]) -> Any:
    try:
        if isinstance(params, bytes):
            return entry.decoder.decode(b"{}" if params in _NOTHING else params)
        return msgspec.convert(params, entry.method.parameters, strict=False)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        words = refusal_words(str(error), entry.method.parameters)
        raise invalid_params(*words) from None
