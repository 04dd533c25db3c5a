"""Requests that read: answered from the engine's state and the read models, at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from exchange.core.engine import VERSION
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.contracts import Life
from exchange.core.stored.state import State
from exchange.gateway import parameters as p
from exchange.gateway.account_view import AccountView, currency_of
from exchange.gateway.batch_view import ALL, BatchView, Readiness
from exchange.gateway.errors import WireError, refused
from exchange.gateway.instrument_view import InstrumentView, slot_of
from exchange.gateway.market_data import MarketData, PublicTrade
from exchange.gateway.order_history import OrderHistory
from exchange.gateway.order_record import OrderRecord, UserTrade, WireOrder, wire_order
from exchange.gateway.pool_view import own_account
from exchange.gateway.publisher import Publisher
from exchange.gateway.query_parameters import CurrencyTradesParameters
from exchange.gateway.session import Session
from exchange.gateway.units import (
    E8,
    decimals_of,
    kind_name,
    milliseconds,
    order_id_of,
    settlement_name,
    underlying_of_index,
)
from exchange.sequencer import Sequencer

Query = Callable[[Session, Any], object]
AnyTrade = TypeVar("AnyTrade", PublicTrade, UserTrade)


class Queries:
    """All methods that change nothing but the session itself."""

    def __init__(self, sequencer: Sequencer, market: MarketData, history: OrderHistory,
                 instruments: InstrumentView, accounts: AccountView, batches: BatchView,
                 publisher: Publisher, readiness: Readiness) -> None:  # fmt: skip
        self.sequencer, self.market, self.history = sequencer, market, history
        self.instruments, self.accounts = instruments, accounts
        self.batches, self.publisher, self.readiness = batches, publisher, readiness

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def queries(self) -> dict[str, Query]:
        """Method name -> what answers it."""
        return {
            "public/get_time": self._time,
            "public/status": self._status,
            "public/test": self._test,
            "public/get_currencies": self._currencies,
            "public/get_instruments": self._instruments,
            "public/get_instrument": self._instrument,
            "public/ticker": self._ticker,
            "public/get_order_book": self._order_book,
            "public/get_last_trades_by_instrument": self._last_trades,
            "public/get_index_price": self._index_price,
            "public/get_batch": self._batch,
            "public/subscribe": lambda s, q: self._subscribe(s, q, private=False),
            "public/unsubscribe": self._unsubscribe,
            "private/subscribe": lambda s, q: self._subscribe(s, q, private=True),
            "private/unsubscribe": self._unsubscribe,
            "private/get_order_state": self._order_state,
            "private/get_order_state_by_client_order_id": self._order_of_client,
            "private/get_open_orders": self._open_orders,
            "private/get_open_orders_by_instrument": self._open_of_instrument,
            "private/get_order_history_by_instrument": self._order_history,
            "private/get_user_trades_by_instrument": self._user_trades,
            "private/get_positions": self._positions,
            "private/get_position": self._position,
            "private/get_account_summary": self._summary,
            "private/get_account_summaries": self._summaries,
            "private/get_margin_calls": self._margin_calls,
            "batch/register": self._register,
            "batch/ready": self._ready,
        }

    # The market

    def _time(self, session: Session, params: p.NoParameters) -> int:
        return milliseconds(self.sequencer.now_ns())

    def _status(self, session: Session, params: p.NoParameters) -> dict[str, object]:
        locked = "true" if self.sequencer.stopped is not None else "false"
        return {"locked": locked, "locked_indices": []}

    def _test(self, session: Session, params: p.TestParameters) -> dict[str, object]:
        if params.expected_result == "exception":
            raise WireError(10001, "error", {"reason": "an exception was asked for"})
        return {"version": VERSION}

    def _currencies(self, session: Session, params: p.NoParameters) -> list[dict[str, object]]:
        return [
            {
                "currency": name,
                "currency_long": name,
                "coin_type": name,
                "decimals": decimals_of(number),
                "fee_precision": decimals_of(number),
                "withdrawal_fee": 0.0,
                "min_withdrawal_fee": 0.0,
                "min_confirmations": 0,
                "in_cross_collateral_group": True,
            }
            for number, name in enumerate(self.state.venue.currencies())
        ]

    def _instruments(
        self, session: Session, params: p.InstrumentsParameters
    ) -> list[dict[str, object]]:
        state, rows = self.state, []
        currency = params.currency if params.currency == "any" else params.currency.upper()
        for slot, spec in enumerate(state.contracts.specs):
            over = state.contracts.life[slot] != Life.LISTED or spec.expiry_ns <= state.time_ns
            filed = currency in ("any", settlement_name(state.venue, spec))
            if over == params.expired and filed and params.kind in ("any", kind_name(spec)):
                rows.append(self.instruments.instrument(state, slot))
        return rows

    def _instrument(self, session: Session, params: p.OfInstrument) -> dict[str, object]:
        return self.instruments.instrument(self.state, slot_of(self.state, params.instrument_name))

    def _ticker(self, session: Session, params: p.OfInstrument) -> dict[str, object]:
        return self.instruments.ticker(self.state, slot_of(self.state, params.instrument_name))

    def _order_book(self, session: Session, params: p.OrderBookParameters) -> dict[str, object]:
        slot = slot_of(self.state, params.instrument_name)
        return self.instruments.order_book(self.state, slot, params.depth)

    def _last_trades(self, session: Session, params: p.TradesParameters) -> dict[str, object]:
        tape = self.market.tapes.get(slot_of(self.state, params.instrument_name))
        return select_trades(tape.trades if tape else (), params)

    def _index_price(self, session: Session, params: p.IndexParameters) -> dict[str, object]:
        underlying = underlying_of_index(self.state.venue, params.index_name)
        if underlying is None:
            text = f"no index {params.index_name!r}"
            raise WireError(13020, "not_found", {"reason": text, "param": "index_name"})
        price = int(self.state.marks.index_e8[underlying]) / E8
        return {
            "index_price": price,
            "estimated_delivery_price": price,
            "timestamp": milliseconds(self.state.marks.time_ns),
        }

    def _batch(self, session: Session, params: p.BatchParameters) -> dict[str, object]:
        name = params.instrument_name
        return self.batches.describe(
            self.state, ALL if name == "any" else slot_of(self.state, name)
        )

    # The session

    def _subscribe(
        self, session: Session, params: p.ChannelsParameters, private: bool
    ) -> list[str]:
        state, publisher = self.state, self.publisher
        return [c for c in params.channels if publisher.subscribe(state, session, c, private)]

    def _unsubscribe(self, session: Session, params: p.ChannelsParameters) -> list[str]:
        state = self.state
        return [c for c in params.channels if self.publisher.unsubscribe(state, session, c)]

    def _register(self, session: Session, params: p.NoParameters) -> dict[str, object]:
        self.readiness.register(session)
        return self.batches.describe(self.state)

    def _ready(self, session: Session, params: p.ReadyParameters) -> dict[str, object]:
        if session not in self.readiness.registered:
            raise WireError(11050, "bad_request", {"reason": "the session is not registered"})
        running = self.state.batch
        counted = params.batch is None or params.batch == running
        if counted:
            self.readiness.ready(session)
        return {"batch": running, "counted": counted}

    # The account

    def _wire(self, records: Iterable[OrderRecord]) -> list[WireOrder]:
        state = self.state
        return [wire_order(state, record) for record in records]

    def _order_state(self, session: Session, params: p.OfOrder) -> WireOrder:
        record = own_order(self.history, account_of(session), order_id_of(params.order_id))
        return wire_order(self.state, record)

    def _order_of_client(self, session: Session, params: p.OfClientOrder) -> WireOrder:
        account = account_of(session)
        order_id = self.state.client_orders.find(account, params.client_order_id)
        if order_id is None:
            raise refused(RejectReason.ORDER_UNKNOWN, param="client_order_id")
        return wire_order(self.state, own_order(self.history, account, order_id))

    def _open_orders(self, session: Session, params: p.OpenOrdersParameters) -> list[WireOrder]:
        specs = self.state.contracts.specs
        return self._wire(
            record
            for record in self.history.of(account_of(session)).open.values()
            if params.kind in ("any", kind_name(specs[record.slot]))
            and params.type in ("all", record.order_type)
        )

    def _open_of_instrument(
        self, session: Session, params: p.OpenInstrumentParameters
    ) -> list[WireOrder]:
        slot = slot_of(self.state, params.instrument_name)
        return self._wire(
            record
            for record in self.history.of(account_of(session)).open.values()
            if record.slot == slot and params.type in ("all", record.order_type)
        )

    def _order_history(self, session: Session, params: p.HistoryParameters) -> list[WireOrder]:
        slot = slot_of(self.state, params.instrument_name)
        found = [
            record
            for record in reversed(self.history.of(account_of(session)).done)
            if record.slot == slot and (record.filled_lots or params.include_unfilled)
        ]
        return self._wire(found[params.offset : params.offset + params.count])

    def _user_trades(self, session: Session, params: p.TradesParameters) -> dict[str, object]:
        slot = slot_of(self.state, params.instrument_name)
        name = self.state.contracts.specs[slot].name
        mine = self.history.of(account_of(session)).trades
        return select_trades([t for t in mine if t.instrument_name == name], params)

    def _positions(
        self, session: Session, params: p.PositionsParameters
    ) -> list[dict[str, object]]:
        currency = params.currency if params.currency == "any" else params.currency.upper()
        account = own_account(self.state, account_of(session), params.subaccount_id)
        return self.accounts.positions(account, currency, params.kind)

    def _position(self, session: Session, params: p.OfInstrument) -> dict[str, object]:
        slot = slot_of(self.state, params.instrument_name)
        return self.accounts.position(account_of(session), slot)

    def _summary(self, session: Session, params: p.SummaryParameters) -> dict[str, object]:
        currency = currency_of(self.state, params.currency)
        account = own_account(self.state, account_of(session), params.subaccount_id)
        return self.accounts.summary(account, currency, params.extended)

    def _summaries(self, session: Session, params: p.SummariesParameters) -> dict[str, object]:
        account = own_account(self.state, account_of(session), params.subaccount_id)
        return self.accounts.summaries(account, params.extended)

    def _margin_calls(self, session: Session, params: p.NoParameters) -> list[dict[str, object]]:
        return self.accounts.margin_calls(account_of(session))


def account_of(session: Session) -> int:
    """The session's account; the dispatcher lets no session without one get here."""
    assert session.account is not None
    return session.account


def own_order(history: OrderHistory, account: int, order_id: int) -> OrderRecord:
    """The record of an account's order; 10004 where there is none, 10029 where it is another's."""
    record = history.orders.get(order_id)
    if record is None:
        raise refused(RejectReason.ORDER_UNKNOWN)
    if record.account != account:
        raise refused(RejectReason.ORDER_NOT_OWNED)
    return record


def select_trades(
    trades: Iterable[AnyTrade], params: p.TradesParameters | CurrencyTradesParameters
) -> dict[str, object]:
    """The newest `count` trades within the bounds; newest first unless sorted `asc`."""
    found = [
        trade
        for trade in trades
        if (params.start_seq is None or trade.trade_seq >= params.start_seq)
        and (params.end_seq is None or trade.trade_seq <= params.end_seq)
        and (params.start_timestamp is None or trade.timestamp >= params.start_timestamp)
        and (params.end_timestamp is None or trade.timestamp <= params.end_timestamp)
    ]
    oldest_first = params.sorting == "asc"
    chosen = found[: params.count] if oldest_first else found[-params.count :][::-1]
    return {"trades": chosen, "has_more": len(found) > len(chosen)}
