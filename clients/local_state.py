"""A client's own picture of the market and of its account, folded from channels and answers."""

from __future__ import annotations

from decimal import Decimal

from clients.followed_book import FollowedBook
from clients.records import (
    ZERO,
    AccountSummary,
    BookMessage,
    IndexPrice,
    MarginCallNotice,
    MarginWarning,
    Order,
    Position,
    Ticker,
    UserTrade,
    record_of,
    records_of,
)

DONE_ORDERS_REMEMBERED = 4096
INDEX_CHANNEL = "deribit_price_index."


class LocalState:
    """The latest known of everything that was subscribed to or asked for."""

    def __init__(self) -> None:
        self.tickers: dict[str, Ticker] = {}
        self.books: dict[str, FollowedBook] = {}
        self.index_prices: dict[str, Decimal] = {}
        self.positions: dict[str, Decimal] = {}
        self.open_orders: dict[str, Order] = {}
        self.summaries: dict[str, AccountSummary] = {}
        self.margin_call: MarginCallNotice | None = None
        self.last_margin_notice: MarginCallNotice | None = None
        self.margin_notices = 0
        self.last_margin_warning: MarginWarning | None = None
        self.margin_warnings = 0
        self.trades = 0
        self._done: dict[str, None] = {}

    def take(self, channel: str, data: object) -> bool:
        """Fold one notification in. Channels that carry no state are ignored.

        False where it does not follow from the one before: the channel has to be started afresh.
        """
        if channel.startswith("book."):
            return self._take_book(record_of(BookMessage, data))
        if channel.startswith("ticker."):
            ticker = record_of(Ticker, data)
            self.tickers[ticker.instrument_name] = ticker
        elif channel.startswith("user.orders."):
            for order in records_of(Order, data):
                self.take_order(order)
        elif channel.startswith("user.trades."):
            for trade in records_of(UserTrade, data):
                self._take_trade(trade)
        elif channel.startswith("user.portfolio."):
            for summary in records_of(AccountSummary, data):
                self.summaries[summary.currency] = summary
        elif channel == "user.margin_calls":
            for notice in records_of(MarginCallNotice, data):
                self.take_margin_notice(notice)
        elif channel == "user.margin_warnings":
            for warning in records_of(MarginWarning, data):
                self.last_margin_warning = warning
                self.margin_warnings += 1
        elif channel.startswith(INDEX_CHANNEL):
            index = record_of(IndexPrice, data)
            self.index_prices[index.index_name] = index.price
        return True

    def _take_book(self, message: BookMessage) -> bool:
        name = message.instrument_name
        book = self.books.get(name)
        if message.type == "snapshot":
            self.books[name] = FollowedBook(message)
        elif book is None or not book.follow(message):
            self.books.pop(name, None)  # better none than a wrong one
            return False
        return True

    def take_order(self, order: Order) -> None:
        """The latest word on an order. What is done stays done, however late an answer comes.

        Orders that the venue sends to liquidate the account are not this client's to manage.
        """
        if order.is_liquidation:
            return
        if order.is_open:
            if order.order_id not in self._done:
                self.open_orders[order.order_id] = order
            return
        self.open_orders.pop(order.order_id, None)
        self._done[order.order_id] = None
        if len(self._done) > DONE_ORDERS_REMEMBERED:
            del self._done[next(iter(self._done))]

    def _take_trade(self, trade: UserTrade) -> None:
        self.trades += 1
        name = trade.instrument_name
        amount = self.positions.get(name, ZERO) + trade.signed_amount
        if amount:
            self.positions[name] = amount
        else:
            self.positions.pop(name, None)

    def take_margin_notice(self, notice: MarginCallNotice) -> None:
        """A margin call was issued or refreshed, or is over; or news that leave it as it is."""
        self.margin_notices += 1
        self.last_margin_notice = notice
        if not notice.is_only_news:
            self.margin_call = notice if notice.stands else None

    def set_positions(self, positions: list[Position]) -> None:
        """Replace all holdings by what the venue says they are."""
        self.positions = {
            position.instrument_name: position.amount for position in positions if position.amount
        }

    def set_open_orders(self, orders: list[Order]) -> None:
        """Replace all open orders by what the venue says they are."""
        self.open_orders = {
            order.order_id: order for order in orders if order.is_open and not order.is_liquidation
        }

    @property
    def equity(self) -> Decimal | None:
        """Equity of the whole account in USD(C), or None before the first summary."""
        summary = self._summary()
        if summary is None or summary.total_equity_usd is None:
            return None if summary is None else summary.equity
        return summary.total_equity_usd

    @property
    def initial_margin(self) -> Decimal | None:
        """Initial margin of the whole account in USD(C), or None before the first summary."""
        summary = self._summary()
        if summary is None or summary.total_initial_margin_usd is None:
            return None if summary is None else summary.initial_margin
        return summary.total_initial_margin_usd

    def _summary(self) -> AccountSummary | None:
        return self.summaries.get("USDC") or next(iter(self.summaries.values()), None)
