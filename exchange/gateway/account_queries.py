"""Requests about own orders and trades over many contracts."""

from __future__ import annotations

from exchange.core.stored.state import State
from exchange.gateway import parameters as p
from exchange.gateway import query_parameters as q
from exchange.gateway.instrument_view import slot_of
from exchange.gateway.market_queries import slots_filed_under
from exchange.gateway.order_history import OrderHistory
from exchange.gateway.order_record import UserTrade, WireOrder, wire_order
from exchange.gateway.queries import Query, account_of, own_order, select_trades
from exchange.gateway.session import Session
from exchange.gateway.units import order_id_of
from exchange.sequencer import Sequencer


class AccountQueries:
    """Own orders and trades by currency, by time, by order.

    A contract is filed under one currency, so that reading all currencies one after the other
    gives everything once.
    """

    def __init__(self, sequencer: Sequencer, history: OrderHistory) -> None:
        self.sequencer, self.history = sequencer, history

    @property
    def state(self) -> State:
        """The engine's state."""
        return self.sequencer.engine.state

    def queries(self) -> dict[str, Query]:
        """Method name -> what answers it."""
        return {
            "private/get_open_orders_by_currency": self._open_orders,
            "private/get_order_history_by_currency": self._order_history,
            "private/get_user_trades_by_currency": self._trades_of_currency,
            "private/get_user_trades_by_currency_and_time": self._trades_of_currency,
            "private/get_user_trades_by_instrument_and_time": self._trades_of_instrument,
            "private/get_user_trades_by_order": self._trades_of_order,
        }

    def _open_orders(self, session: Session, params: q.OpenCurrencyParameters) -> list[WireOrder]:
        slots = set(slots_filed_under(self.state, params.currency, params.kind))
        return [
            wire_order(self.state, record)
            for record in self.history.of(account_of(session)).open.values()
            if record.slot in slots and params.type in ("all", record.order_type)
        ]

    def _order_history(
        self, session: Session, params: q.CurrencyHistoryParameters
    ) -> list[WireOrder]:
        slots = set(slots_filed_under(self.state, params.currency, params.kind))
        found = [
            record
            for record in reversed(self.history.of(account_of(session)).done)
            if record.slot in slots and (record.filled_lots or params.include_unfilled)
        ]
        chosen = found[params.offset : params.offset + params.count]
        return [wire_order(self.state, record) for record in chosen]

    def _trades(self, session: Session, slots: set[int]) -> list[UserTrade]:
        specs = self.state.contracts.specs
        names = {specs[slot].name for slot in slots}
        mine = self.history.of(account_of(session)).trades
        return [trade for trade in mine if trade.instrument_name in names]

    def _trades_of_currency(
        self, session: Session, params: q.CurrencyTradesParameters
    ) -> dict[str, object]:
        slots = set(slots_filed_under(self.state, params.currency, params.kind))
        return select_trades(self._trades(session, slots), params)

    def _trades_of_instrument(
        self, session: Session, params: p.TradesParameters
    ) -> dict[str, object]:
        slot = slot_of(self.state, params.instrument_name)
        return select_trades(self._trades(session, {slot}), params)

    def _trades_of_order(
        self, session: Session, params: q.OrderTradesParameters
    ) -> list[UserTrade]:
        account, order_id = account_of(session), order_id_of(params.order_id)
        own_order(self.history, account, order_id)
        mine = self.history.of(account).trades
        found = [trade for trade in mine if trade.order_id == params.order_id]
        return found if params.sorting == "asc" else found[::-1]
