"""Read model of each account's orders and trades, fed by the sequencer's events.

Memory is bounded: per account all open orders, the newest `DONE_KEPT` orders that are done, and
the newest `TRADES_KEPT` trades. `rebuild` restores the open orders from a recovered engine, with
what the engine keeps: their open quantity (not what was filled before) and no label. Orders that
enter as columns (replays of recorded flow) belong to nobody's history.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import msgspec

from exchange.core import limits
from exchange.core.commands import Command, EditOrder, PlaceOrder
from exchange.core.events import (
    Event,
    Filled,
    LiquidationStep,
    OrderAccepted,
    OrderDone,
    OrderEdited,
    OrdersDone,
)
from exchange.core.reject_reason import DoneReason
from exchange.core.stored.orders import (
    FLAGS,
    IMMEDIATE,
    LIQUIDATION,
    MARKET,
    OPEN_LOTS,
    ORDER_ID,
    POST_ONLY,
    PRICE_TICKS,
    REDUCE_ONLY,
    SIDE,
)
from exchange.core.stored.state import State
from exchange.gateway.market_data import PublicTrade
from exchange.gateway.order_record import OrderRecord, UserTrade, fee_currency_of
from exchange.gateway.units import amount_number, contracts_number, money, order_id_text

DONE_KEPT = 10_000
TRADES_KEPT = 10_000


class AccountOrders(msgspec.Struct):
    """One account's orders and trades; dictionaries and deques run from old to new."""

    open: dict[int, OrderRecord]
    done: deque[OrderRecord]
    trades: deque[UserTrade]


class Touched(msgspec.Struct):
    """What one command changed of one account: orders in their last state, and trades."""

    orders: dict[int, OrderRecord]
    trades: list[UserTrade]


class OrderHistory:
    """Orders and trades of all accounts."""

    def __init__(self, done_kept: int = DONE_KEPT, trades_kept: int = TRADES_KEPT) -> None:
        self.done_kept, self.trades_kept = done_kept, trades_kept
        self.orders: dict[int, OrderRecord] = {}
        self.accounts: dict[int, AccountOrders] = {}
        self.labels: dict[int, str] = {}
        self.touched: dict[int, Touched] = {}

    def of(self, account: int) -> AccountOrders:
        """The orders and trades of an account."""
        found = self.accounts.get(account)
        if found is None:
            found = AccountOrders({}, deque(), deque(maxlen=self.trades_kept))
            self.accounts[account] = found
        return found

    def label_next(self, command: PlaceOrder, label: str) -> None:
        """Give the order of a command that is about to be applied its label."""
        if label:
            self.labels[id(command)] = label

    def take(self, state: State, command: Command, events: Iterable[Event],
             trades: dict[int, PublicTrade]) -> None:  # fmt: skip
        """Take what a command did; `trades` are the public trades of the same batch, by slot.

        Afterwards `touched` holds what changed, account by account.
        """
        self.touched = {}
        for event in events:
            if isinstance(event, OrderAccepted):
                assert isinstance(command, PlaceOrder)
                self._accepted(command, event)
            elif isinstance(event, OrderDone):
                self._done(event.order_id, event.open_lots, event.reason, command.time_ns)
            elif isinstance(event, OrderEdited):
                self._edited(event, command.time_ns)
            elif isinstance(event, Filled):
                self._filled(state, event, command.time_ns, trades)
            elif isinstance(event, OrdersDone):
                self._orders_done(event, command.time_ns)
            elif isinstance(event, LiquidationStep) and event.step == "offered":
                self._liquidations(state, event.pool, command.time_ns)
        self.labels.pop(id(command), None)

    def _touch(self, record: OrderRecord) -> Touched:
        found = self.touched.get(record.account)
        if found is None:
            found = self.touched[record.account] = Touched({}, [])
        found.orders[record.order_id] = record
        return found

    def _add(self, record: OrderRecord) -> None:
        self.orders[record.order_id] = record
        self.of(record.account).open[record.order_id] = record

    def _accepted(self, command: PlaceOrder, event: OrderAccepted) -> None:
        if event.repeated:
            return
        record = record_of_command(command, event.order_id, self.labels.get(id(command), ""))
        self._add(record)
        self._touch(record)

    def _edited(self, event: OrderEdited, time_ns: int) -> None:
        record = self.orders.get(event.order_id)
        if record is None:
            return
        record.price_ticks = event.price_ticks
        record.quantity_lots = record.filled_lots + event.quantity_lots
        record.replaced = True
        record.updated_ns = time_ns
        self._touch(record)

    def _filled(self, state: State, event: Filled, time_ns: int,
                trades: dict[int, PublicTrade]) -> None:  # fmt: skip
        columns = (event.order_id, event.instrument, event.price_ticks, event.quantity_lots,
                   event.open_lots, event.age_batch, event.fee_minor)  # fmt: skip
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for order_id, slot, price_ticks, lots, open_lots, age, fee_minor in rows:
            record = self.orders.get(order_id)
            if record is None:
                continue
            record.filled_lots += lots
            record.filled_value += lots * price_ticks
            record.fee_minor += fee_minor
            record.updated_ns = time_ns
            trade = _user_trade(state, record, trades[slot], lots, fee_minor,
                                "M" if age < event.batch else "T", open_lots == 0)  # fmt: skip
            self.of(record.account).trades.append(trade)
            self._touch(record).trades.append(trade)

    def _orders_done(self, event: OrdersDone, time_ns: int) -> None:
        columns = (event.order_id, event.open_lots, event.reason)
        for order_id, lots, reason in zip(*(c.tolist() for c in columns), strict=True):
            self._done(order_id, lots, DoneReason(reason), time_ns)

    def _done(self, order_id: int, lots: int, reason: DoneReason,
              time_ns: int) -> None:  # fmt: skip
        record = self.orders.get(order_id)
        if record is None or record.done:
            return
        record.updated_ns = time_ns
        self._touch(record)
        if reason == DoneReason.REDUCE_ONLY_TRIMMED and lots < record.open_lots:
            record.quantity_lots -= lots  # the rest of the order stays
            return
        record.done = int(reason)
        mine = self.of(record.account)
        mine.open.pop(order_id, None)
        mine.done.append(record)
        while len(mine.done) > self.done_kept:
            del self.orders[mine.done.popleft().order_id]

    def _liquidations(self, state: State, pool: int, time_ns: int) -> None:
        """A liquidation's orders belong to the account whose position they reduce."""
        account = state.accounts.owner_of[pool]
        if account < 0:
            return
        rows = state.orders.of_pool(pool)
        for row in rows[:, (rows[FLAGS] & LIQUIDATION) != 0].T.tolist():
            if row[ORDER_ID] not in self.orders:
                record = record_of_row(row, account, time_ns)
                self._add(record)
                self._touch(record)

    def rebuild(self, state: State) -> None:
        """Forget everything and take the engine's open orders."""
        self.orders, self.accounts, self.touched = {}, {}, {}
        names = {order: name for (_, name), order in state.client_orders.order_of.items()}
        for account in range(len(state.accounts.names)):
            for row in state.orders.of_pools(state.accounts.pools_of(account)).T.tolist():
                record = record_of_row(row, account, state.time_ns)
                record.client_order_id = names.get(record.order_id, "")
                self._add(record)


def record_of_command(command: PlaceOrder, order_id: int, label: str) -> OrderRecord:
    """The record of an order just accepted."""
    return OrderRecord(
        order_id=order_id,
        account=command.account,
        slot=command.instrument,
        side=command.side,
        price_ticks=command.price_ticks,
        quantity_lots=command.quantity_lots,
        immediate=command.immediate_or_cancel,
        reduce_only=command.reduce_only,
        post_only=command.post_only,
        created_ns=command.time_ns,
        updated_ns=command.time_ns,
        label=label,
        client_order_id=command.client_order_id,
    )


def record_of_row(row: list[int], account: int, time_ns: int) -> OrderRecord:
    """The record of an open order as the engine's columns have it."""
    flags = row[FLAGS]
    return OrderRecord(
        order_id=row[ORDER_ID],
        account=account,
        slot=limits.instrument_of(row[ORDER_ID]),
        side=row[SIDE],
        price_ticks=0 if flags & MARKET else row[PRICE_TICKS],
        quantity_lots=row[OPEN_LOTS],
        immediate=bool(flags & IMMEDIATE),
        reduce_only=bool(flags & REDUCE_ONLY),
        post_only=bool(flags & POST_ONLY),
        liquidation=bool(flags & LIQUIDATION),
        created_ns=time_ns,
        updated_ns=time_ns,
    )


def edited_command(history: OrderHistory, time_ns: int, account: int, order_id: int,
                   price_ticks: int | None, quantity_lots: int | None) -> EditOrder:  # fmt: skip
    """The edit whose terms are completed from the order as it stands at the commit.

    The wire's amount counts what is filled, the engine's quantity what is open.
    """
    record = history.orders.get(order_id)
    if record is None or record.account != account:
        return EditOrder(time_ns, account, order_id, price_ticks or 1, quantity_lots or 1)
    total = record.quantity_lots if quantity_lots is None else quantity_lots
    price = record.price_ticks if price_ticks is None else price_ticks
    return EditOrder(time_ns, account, order_id, price, total - record.filled_lots)


def _user_trade(state: State, record: OrderRecord, trade: PublicTrade, lots: int, fee_minor: int,
                liquidity: str, is_last: bool) -> UserTrade:  # fmt: skip
    spec = state.contracts.specs[record.slot]
    currency = state.contracts.currency[record.slot]
    sequence = record.order_id & limits.ORDER_SEQUENCE_MAX
    return UserTrade(
        trade_id=f"{trade.trade_id}-{sequence}",
        trade_seq=trade.trade_seq,
        instrument_name=spec.name,
        timestamp=trade.timestamp,
        direction="buy" if record.side > 0 else "sell",
        tick_direction=trade.tick_direction,
        price=trade.price,
        amount=amount_number(spec, lots),
        contracts=contracts_number(spec, lots),
        mark_price=trade.mark_price,
        index_price=trade.index_price,
        order_id=order_id_text(record.order_id),
        order_type="liquidation" if record.liquidation else record.order_type,
        state="filled" if is_last else "open",
        liquidity=liquidity,
        fee=money(currency, fee_minor),
        fee_currency=fee_currency_of(state, record.slot),
        label=record.label,
        client_order_id=record.client_order_id or None,
        reduce_only=record.reduce_only,
        post_only=record.post_only,
        iv=trade.iv,
        liquidation=liquidity if record.liquidation else msgspec.UNSET,
    )
