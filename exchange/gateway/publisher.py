"""Who listens to what, and what they are told after each command.

Only what somebody listens to is built; a notification is encoded once for all its listeners.
Listeners are served in the order of subscription, accounts in the order of their numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from exchange.core.events import Event, MarginWarned
from exchange.core.stored.state import State
from exchange.gateway.account_view import AccountView, default_notice, warning_notice
from exchange.gateway.batch_view import ALL, BatchView
from exchange.gateway.candles import RESOLUTIONS, candle_row
from exchange.gateway.channels import (
    MARGIN_CALLS,
    MARGIN_WARNINGS,
    TRADES_OF_KIND,
    USER_BY_INTERVAL,
    Topic,
    topic_of,
)
from exchange.gateway.instrument_view import InstrumentView
from exchange.gateway.market_data import MarketData
from exchange.gateway.order_history import OrderHistory, Touched
from exchange.gateway.order_record import wire_order
from exchange.gateway.session import Session
from exchange.gateway.wire import encode, notification

Listeners = dict[Session, None]


class UserChannel(msgspec.Struct):
    """One channel of one account, and its listeners."""

    topic: Topic
    listeners: Listeners


class Publisher:
    """Subscriptions of all sessions, and the notifications that each command causes."""

    def __init__(self, market: MarketData, history: OrderHistory, instruments: InstrumentView,
                 accounts: AccountView, batches: BatchView) -> None:  # fmt: skip
        self.market, self.history = market, history
        self.instruments, self.accounts, self.batches = instruments, accounts, batches
        self.public: dict[str, dict[int, dict[str, Listeners]]] = {}
        self.users: dict[int, dict[str, UserChannel]] = {}

    # Subscriptions

    def subscribe(self, state: State, session: Session, channel: str, private: bool) -> bool:
        """Add a channel; False where there is none of that name, or not for this session."""
        if channel in session.channels:
            return True
        topic = topic_of(state, channel)
        if topic is None:
            return False
        if topic.is_user:
            if not private or session.account is None:
                return False
            mine = self.users.setdefault(session.account, {})
            listeners = mine.setdefault(channel, UserChannel(topic, {})).listeners
        else:
            of_topic = self.public.setdefault(topic.name, {}).setdefault(topic.number, {})
            listeners = of_topic.setdefault(channel, {})
        listeners[session] = None
        session.channels[channel] = None
        for data in self._first(state, session, channel, topic):
            session.first_messages.append((channel, notification(channel, encode(data))))
        return True

    def unsubscribe(self, state: State, session: Session, channel: str) -> bool:
        """Remove a channel; False where the session did not listen to it."""
        if channel not in session.channels:
            return False
        del session.channels[channel]
        topic = topic_of(state, channel)
        assert topic is not None, "contracts and currencies never disappear"
        if topic.is_user:
            assert session.account is not None
            mine = self.users[session.account]
            mine[channel].listeners.pop(session, None)
            if not mine[channel].listeners:
                del mine[channel]
            if not mine:
                del self.users[session.account]
            return True
        of_topic = self.public[topic.name][topic.number]
        of_topic[channel].pop(session, None)
        if not of_topic[channel]:
            del of_topic[channel]
        if not of_topic:
            del self.public[topic.name][topic.number]
        return True

    def _first(self, state: State, session: Session, channel: str, topic: Topic) -> list[object]:
        """What a new listener is told at once."""
        number = topic.number
        if topic.name == "portfolio":
            assert session.account is not None
            return list(self._portfolio(state, session.account, number))
        if topic.is_user:
            return []
        if topic.name == "book":
            return [self.instruments.book_snapshot(state, number)]
        if topic.name == "ticker":
            return [self.instruments.ticker(state, number)]
        if topic.name == "quote":
            return [self.instruments.quote(state, number)]
        if topic.name == "batch":
            return [self.batches.describe(state, number)]
        if topic.name == "perpetual":
            return [self.instruments.funding(state, number)]
        if topic.name == "chart":
            tape = self.market.tapes.get(number)
            candle = tape.chart.newest(topic.minutes) if tape else None
            return [] if candle is None else [candle_row(state, number, candle)]
        if topic.name == "deribit_price_index":
            return [self.instruments.index(state, number, channel.partition(".")[2])]
        return []

    def _portfolio(self, state: State, account: int, currency: int) -> list[dict[str, object]]:
        numbers = range(state.ledger.currencies) if currency == ALL else (currency,)
        return [self.accounts.summary(account, number) for number in numbers]

    # Public notifications

    def _tell(self, topic: str, number: int, build: Callable[[], object]) -> None:
        channels = self.public.get(topic, {}).get(number)
        if not channels:
            return
        data = encode(build())
        for channel, listeners in list(channels.items()):
            _send(channel, data, listeners)

    def batch(self, state: State) -> None:
        """The batch changed its phase."""
        for slot in list(self.public.get("batch", {})):
            self._tell("batch", slot, partial(self.batches.describe, state, slot))

    def printed(self, state: State) -> None:
        """The auctions are over: trades, books, quotes."""
        market, view = self.market, self.instruments
        for slot, trade in market.new_trades.items():
            self._tell("trades", slot, partial(list, (trade,)))
            self._tell_charts(state, slot)
        self._tell_trades_of_kinds(state)
        for slot in market.changes:
            self._tell("book", slot, partial(view.book_change, state, slot))
            change = market.changes[slot]
            best_before = change.before.bids[:1], change.before.asks[:1]
            if best_before != (change.after.bids[:1], change.after.asks[:1]):
                self._tell("quote", slot, partial(view.quote, state, slot))

    def _tell_charts(self, state: State, slot: int) -> None:
        """The newest candle of a contract, in each resolution that somebody listens to."""
        for channel, listeners in list(self.public.get("chart", {}).get(slot, {}).items()):
            candle = self.market.tape(slot).chart.newest(RESOLUTIONS[channel.rpartition(".")[2]])
            if candle is not None:
                _send(channel, encode(candle_row(state, slot, candle)), listeners)

    def _tell_trades_of_kinds(self, state: State) -> None:
        """All trades of the batch that a channel of many contracts covers, in one message."""
        specs = state.contracts.specs
        for channel, listeners in list(self.public.get(TRADES_OF_KIND, {}).get(ALL, {}).items()):
            topic = topic_of(state, channel)
            assert topic is not None, "currencies never disappear"
            covered = [
                trade
                for slot, trade in self.market.new_trades.items()
                if topic.covers(state, slot, specs[slot])
            ]
            if covered:
                _send(channel, encode(covered), listeners)

    def revalued(self, state: State, events: list[Event], time_ns: int) -> None:
        """The cycle is over: indices, tickers, margin calls and warnings, portfolios."""
        for unit, channels in list(self.public.get("deribit_price_index", {}).items()):
            for channel, listeners in list(channels.items()):
                name = channel.partition(".")[2]
                _send(channel, encode(self.instruments.index(state, unit, name)), listeners)
        for slot in list(self.public.get("ticker", {})):
            self._tell("ticker", slot, partial(self.instruments.ticker, state, slot))
        for slot in list(self.public.get("perpetual", {})):
            self._tell("perpetual", slot, partial(self.instruments.funding, state, slot))
        if self.users:
            self._margin_news(state, events, time_ns)
            for account in sorted(self.users):
                self.portfolio(state, account)

    # Notifications to the owners of accounts

    def _margin_news(self, state: State, events: list[Event], time_ns: int) -> None:
        """Calls, liquidations and warnings, each to the owner of the pool it is about."""
        for event in events:
            if isinstance(event, MarginWarned):
                notice = warning_notice(state, event, time_ns)
                self._tell_owner(state, MARGIN_WARNINGS, event.pool, notice)
            elif (found := default_notice(state, event, time_ns)) is not None:
                self._tell_owner(state, MARGIN_CALLS, *found)

    def _tell_owner(
        self, state: State, topic: str, pool: int, notice: dict[str, object]
    ) -> None:  # fmt: skip
        name = f"user.{topic}"
        channel = self.users.get(state.accounts.owner_of[pool], {}).get(name)
        if channel is not None:
            _send(name, encode(notice), channel.listeners)

    def portfolio(self, state: State, account: int) -> None:
        """An account's money moved."""
        for name, channel in list(self.users.get(account, {}).items()):
            if channel.topic.name == "portfolio":
                for row in self._portfolio(state, account, channel.topic.number):
                    _send(name, encode(row), channel.listeners)

    def touched(self, state: State) -> None:
        """Orders and trades of accounts changed (see `OrderHistory.touched`)."""
        for account in sorted(self.users.keys() & self.history.touched.keys()):
            touched = self.history.touched[account]
            orders = {
                order_id: msgspec.Raw(encode(wire_order(state, record)))
                for order_id, record in touched.orders.items()
            }
            for name, channel in list(self.users.get(account, {}).items()):
                self._tell_user(state, account, name, channel, touched, orders)

    def _tell_user(self, state: State, account: int, name: str, channel: UserChannel,
                   touched: Touched, orders: dict[int, msgspec.Raw]) -> None:  # fmt: skip
        topic, contracts = channel.topic, state.contracts
        if topic.name not in USER_BY_INTERVAL or (topic.name == "trades" and not touched.trades):
            return
        slots = {record.slot for record in touched.orders.values()}
        covered = {s for s in slots if topic.covers(state, s, contracts.specs[s])}
        if not covered:
            return
        mine = [orders[i] for i, record in touched.orders.items() if record.slot in covered]
        trades = [t for t in touched.trades if contracts.slot_of[t.instrument_name] in covered]
        if topic.name == "orders":
            for data in [encode(mine)] if topic.as_list else map(bytes, mine):
                _send(name, data, channel.listeners)
        elif topic.name == "trades":
            if trades:
                _send(name, encode(trades), channel.listeners)
        else:
            for slot in sorted(covered):
                instrument_name = contracts.specs[slot].name
                of_slot = [t for t in trades if t.instrument_name == instrument_name]
                data = encode({
                    "instrument_name": instrument_name,
                    "orders": [orders[i] for i, r in touched.orders.items() if r.slot == slot],
                    "trades": of_slot,
                    "positions": [self.accounts.position(account, slot)] if of_slot else [],
                })  # fmt: skip
                _send(name, data, channel.listeners)


def _send(channel: str, data: bytes, listeners: Listeners) -> None:
    frame = notification(channel, data)
    for session in tuple(listeners):
        session.send(channel, frame)
