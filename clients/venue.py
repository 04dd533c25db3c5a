"""One account's connection to the venue: requests, channels, and what is known from them."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from decimal import Decimal
from types import TracebackType

from clients.errors import AnswerUnexpected, ConnectionLost
from clients.local_state import LocalState
from clients.records import (
    AccountSummary,
    BatchNotice,
    IndexPrice,
    Instrument,
    MarginCallNotice,
    MarginForecast,
    Order,
    OrderBook,
    Position,
    Ticker,
    record_of,
    records_of,
)
from clients.transport import RECONNECTED, Transport

GOOD_TIL_CANCELLED = "good_til_cancelled"
IMMEDIATE_OR_CANCEL = "immediate_or_cancel"
BATCH_CHANNEL = "batch.any"
CROSS_POOL = -1  # the venue's number for the pool that every account starts with
ACCOUNT_CHANNELS = (
    "user.orders.any.any.raw",
    "user.trades.any.any.raw",
    "user.margin_calls",
    "user.margin_warnings",
)


class Venue:
    """A session of one account.

    `name` is the session's: `client_order_id`s are `{name}-1`, `{name}-2`, ... so an order whose
    answer was lost can be sent again without trading twice. Two sessions of one account need two
    names; the venue answers an id that it knows with the order that had it first.
    """

    def __init__(self, transport: Transport, name: str) -> None:
        self.transport, self.name = transport, name
        self.state = LocalState()
        self.instruments: dict[str, Instrument] = {}
        self.listeners: list[Callable[[str, object], None]] = []
        self.subscribed: dict[str, None] = {}
        self._orders_sent = 0
        self._batch: BatchNotice | None = None
        self._batch_waiting = False
        self._wake = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._listener: asyncio.Task[None] | None = None
        self._repairs: dict[asyncio.Task[None], None] = {}

    @classmethod
    def connect(
        cls, url: str | None = None, key: str | None = None, secret: str | None = None, *,
        name: str | None = None,
    ) -> Venue:  # fmt: skip
        """A session over WebSockets with whatever answers at `url` (`LOCAL` if not given).

        Key and secret come from `UNCROSS_KEY` and `UNCROSS_SECRET` unless they are given. `name`
        must be new for each start of a program; a random one is. `open`, or `async with`, connects.
        """
        from clients.websocket import LOCAL, WebSocketTransport

        transport = WebSocketTransport(LOCAL if url is None else url, key, secret)
        return cls(transport, name or f"session-{secrets.token_hex(6)}")

    async def __aenter__(self) -> Venue:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        await self.close()

    async def open(self, currencies: tuple[str, ...] = ("USDC",)) -> None:
        """Load the contracts, subscribe to the account's channels, read where it stands.

        `currencies`: those whose summary is followed.
        """
        self._listener = asyncio.create_task(self._listen())
        await self.get_instruments()
        portfolios = (f"user.portfolio.{currency}" for currency in currencies)
        await self.subscribe(*ACCOUNT_CHANNELS, *portfolios, BATCH_CHANNEL)
        await self.resync()

    async def resync(self) -> None:
        """Ask for positions, open orders, money and the running margin call."""
        await self.get_positions()
        self.state.set_open_orders(await self.get_open_orders())
        await self.get_account_summaries()
        await self.get_margin_calls()

    async def close(self) -> None:
        """End the session; orders stay."""
        await self.transport.close()
        ending = [*self._repairs] if self._listener is None else [self._listener, *self._repairs]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def _listen(self) -> None:
        try:
            async for channel, data in self.transport.notifications():
                if channel == BATCH_CHANNEL:
                    self._take_batch(record_of(BatchNotice, data))
                elif channel == RECONNECTED:
                    self._repair(self.resync())
                elif not self.state.take(channel, data):
                    self._repair(self._subscribe_again(channel))
                for listener in self.listeners:
                    listener(channel, data)
        except Exception as error:  # handed to whoever waits for a batch
            self._failure = error
        finally:
            self._ended = True
            self._wake.set()

    def _repair(self, doing: Coroutine[None, None, None]) -> None:
        """Catch up beside the listener, so that answers and news keep their order."""
        task = asyncio.create_task(self._repaired(doing))
        self._repairs[task] = None
        task.add_done_callback(lambda done: self._repairs.pop(done, None))

    async def _repaired(self, doing: Coroutine[None, None, None]) -> None:
        try:
            with suppress(ConnectionLost):  # the next connection catches up for this one too
                await doing
        except Exception as error:
            self._failure = error
            self._wake.set()

    async def _subscribe_again(self, channel: str) -> None:
        """A fresh start of a channel whose messages no longer fit together."""
        await self.transport.request("public/unsubscribe", {"channels": [channel]})
        await self.subscribe(channel)

    def _take_batch(self, notice: BatchNotice) -> None:
        """While an auction is on its way there is none to act in; the next one is announced."""
        if notice.collects and (self._batch is None or notice.batch > self._batch.batch):
            self._batch, self._batch_waiting = notice, True
            self._wake.set()

    # Batches

    async def register(self) -> None:
        """Take part in the batches: the market may wait for this session's `ready`."""
        await self.transport.request("batch/register", {})
        self._take_batch(await self.get_batch())

    async def ready(self, batch: int | None = None) -> None:
        """Say that everything for `batch` (the latest that `batches` gave) was sent."""
        if batch is None and self._batch is not None:
            batch = self._batch.batch
        await self.transport.request("batch/ready", {} if batch is None else {"batch": batch})

    async def batches(self) -> AsyncIterator[BatchNotice]:
        """Each batch as it begins to collect; a late reader gets only the newest.

        Ends with the connection. Raises what broke it, if it did not end by itself.
        """
        while True:
            if self._failure is not None:
                raise self._failure
            if self._batch_waiting and self._batch is not None:
                self._batch_waiting = False
                yield self._batch
                continue
            if self._ended:
                return
            self._wake.clear()
            await self._wake.wait()

    # Channels

    async def subscribe(self, *channels: str) -> None:
        """Subscribe; what comes is folded into `state` and shown to `listeners`.

        Raises `AnswerUnexpected` if the venue left a channel out.
        """
        for method, wanted in (
            ("public/subscribe", [name for name in channels if not name.startswith("user.")]),
            ("private/subscribe", [name for name in channels if name.startswith("user.")]),
        ):
            if not wanted:
                continue
            accepted = await self.transport.request(method, {"channels": wanted})
            if not isinstance(accepted, list):
                raise AnswerUnexpected(f"{method}: no list of channels but {accepted!r:.80}")
            if missing := [name for name in wanted if name not in accepted]:
                raise AnswerUnexpected(f"the venue has no channel {', '.join(missing)}")
            self.subscribed.update(dict.fromkeys(wanted))

    async def follow(self, *instrument_names: str) -> None:
        """Keep the tickers of these contracts: read once now, then by channel."""
        fresh = [name for name in instrument_names if f"ticker.{name}.raw" not in self.subscribed]
        if fresh:
            await self.subscribe(*(f"ticker.{name}.raw" for name in fresh))
        for name in fresh:
            if name not in self.state.tickers:
                await self.get_ticker(name)

    async def follow_books(self, *instrument_names: str) -> None:
        """Keep the disclosed books of these contracts in `state.books`."""
        channels = [f"book.{name}.raw" for name in instrument_names]
        await self.subscribe(*(name for name in channels if name not in self.subscribed))

    # What can be read

    async def get_instruments(
        self, currency: str = "any", kind: str | None = None
    ) -> list[Instrument]:
        """The listed contracts; those found are also kept in `instruments`."""
        params: dict[str, object] = {"currency": currency}
        if kind is not None:
            params["kind"] = kind
        answer = await self.transport.request("public/get_instruments", params)
        found = records_of(Instrument, answer)
        if currency == "any" and kind is None:
            self.instruments = {}
        self.instruments.update({row.instrument_name: row for row in found})
        return found

    async def get_ticker(self, instrument_name: str) -> Ticker:
        """The ticker of one contract, also kept in `state`."""
        ticker = record_of(Ticker, await self._of("public/ticker", instrument_name))
        self.state.tickers[instrument_name] = ticker
        return ticker

    async def get_order_book(self, instrument_name: str, depth: int = 10) -> OrderBook:
        """What was disclosed of the unexecuted orders after the last auction."""
        answer = await self._of("public/get_order_book", instrument_name, depth=depth)
        return record_of(OrderBook, answer)

    async def get_index_price(self, index_name: str) -> Decimal:
        """An index by its Deribit name, such as `btc_usdc`."""
        answer = await self.transport.request("public/get_index_price", {"index_name": index_name})
        if not isinstance(answer, dict):
            raise AnswerUnexpected(f"no index price: {answer!r:.80}")
        price = answer.get("price", answer.get("index_price"))
        index = record_of(IndexPrice, {**answer, "index_name": index_name, "price": price})
        self.state.index_prices[index_name] = index.price
        return index.price

    async def get_batch(self) -> BatchNotice:
        """The batch that collects now."""
        return record_of(BatchNotice, await self.transport.request("public/get_batch", {}))

    async def get_order_state(self, order_id: str) -> Order:
        """One order of this account."""
        answer = await self.transport.request("private/get_order_state", {"order_id": order_id})
        return self._order(answer)

    async def get_open_orders(self) -> list[Order]:
        """All open orders of this account."""
        return records_of(Order, await self.transport.request("private/get_open_orders", {}))

    async def get_positions(self, currency: str = "any") -> list[Position]:
        """All holdings; asked for every currency they also replace those in `state`."""
        answer = await self.transport.request("private/get_positions", {"currency": currency})
        positions = records_of(Position, answer)
        if currency == "any":
            self.state.set_positions(positions)
        return positions

    async def get_account_summary(self, currency: str) -> AccountSummary:
        """Money and requirements of one currency, also kept in `state`."""
        answer = await self.transport.request("private/get_account_summary", {"currency": currency})
        summary = record_of(AccountSummary, answer)
        self.state.summaries[summary.currency] = summary
        return summary

    async def get_account_summaries(self) -> list[AccountSummary]:
        """Money and requirements of every currency, also kept in `state`."""
        answer = await self.transport.request("private/get_account_summaries", {})
        rows = answer.get("summaries") if isinstance(answer, dict) else answer
        summaries = records_of(AccountSummary, rows)
        self.state.summaries.update({row.currency: row for row in summaries})
        return summaries

    async def get_margin_calls(self) -> list[MarginCallNotice]:
        """The margin calls that stand now (one at most for an account of one pool)."""
        answer = await self.transport.request("private/get_margin_calls", {})
        calls = records_of(MarginCallNotice, answer)
        self.state.margin_call = next((call for call in calls if call.stands), None)
        return calls

    async def get_margin_forecast(self, pool_id: int = CROSS_POOL) -> MarginForecast | None:
        """How likely a margin call of a pool is, and the margin that is forecast for it.

        None where the venue does not forecast, or the pool holds no position.
        """
        params: dict[str, object] = {"pool_id": pool_id, "distances": False}
        answer = await self.transport.request("private/explain_margin", params)
        if not isinstance(answer, dict):
            raise AnswerUnexpected(f"no explanation: {answer!r:.80}")
        row = answer.get("forecast")
        return None if row is None else record_of(MarginForecast, row)

    # What can be done

    async def buy(self, instrument_name: str, amount: Decimal, **terms: object) -> Order:
        """Send a buy order; see `order`."""
        return await self.order("buy", instrument_name, amount, **terms)  # type: ignore[arg-type]

    async def sell(self, instrument_name: str, amount: Decimal, **terms: object) -> Order:
        """Send a sell order; see `order`."""
        return await self.order("sell", instrument_name, amount, **terms)  # type: ignore[arg-type]

    async def order(
        self,
        direction: str,
        instrument_name: str,
        amount: Decimal,
        *,
        price: Decimal | None = None,
        time_in_force: str = GOOD_TIL_CANCELLED,
        reduce_only: bool = False,
        label: str = "",
        client_order_id: str | None = None,
    ) -> Order:
        """Send an order into the running batch: a limit order, or without `price` a market one.

        It is answered `open`; what it trades comes with the cycle. `client_order_id` is made up
        unless one is given, as when an order is sent again. Raises `VenueRefused`; and
        `AnswerUnexpected` if the id was another order's.
        """
        params: dict[str, object] = {
            "instrument_name": instrument_name,
            "amount": amount,
            "type": "market" if price is None else "limit",
            "time_in_force": time_in_force,
            "client_order_id": client_order_id or self.next_client_order_id(),
        }
        if price is not None:
            params["price"] = price
        if reduce_only:
            params["reduce_only"] = True
        if label:
            params["label"] = label
        order = self._order(await self.transport.request(f"private/{direction}", params))
        if order.instrument_name != instrument_name or order.direction != direction:
            raise AnswerUnexpected(
                f"{params['client_order_id']} already names order {order.order_id}, "
                f"a {order.direction} of {order.instrument_name}"
            )
        return order

    def next_client_order_id(self) -> str:
        """`{name}-{counter}`, never the same twice in a session."""
        self._orders_sent += 1
        return f"{self.name}-{self._orders_sent}"

    async def edit(self, order_id: str, amount: Decimal, price: Decimal) -> Order:
        """Give an order a new amount and price."""
        params: dict[str, object] = {"order_id": order_id, "amount": amount, "price": price}
        return self._order(await self.transport.request("private/edit", params))

    async def cancel(self, order_id: str) -> Order:
        """Withdraw one order."""
        return self._order(await self.transport.request("private/cancel", {"order_id": order_id}))

    async def cancel_all(self) -> int:
        """Withdraw all orders; returns how many."""
        cancelled = self._count(await self.transport.request("private/cancel_all", {}))
        self.state.open_orders.clear()
        return cancelled

    async def cancel_all_by_instrument(self, instrument_name: str) -> int:
        """Withdraw all orders in one contract; returns how many."""
        cancelled = self._count(await self._of("private/cancel_all_by_instrument", instrument_name))
        for order in list(self.state.open_orders.values()):
            if order.instrument_name == instrument_name:
                del self.state.open_orders[order.order_id]
        return cancelled

    async def deposit(self, currency: str, amount: Decimal) -> Decimal:
        """Bring money in from outside; returns `amount`."""
        await self.transport.request("private/deposit", {"currency": currency, "amount": amount})
        return amount

    async def withdraw(self, currency: str, amount: Decimal) -> Decimal:
        """Take money out; returns `amount`."""
        await self.transport.request("private/withdraw", {"currency": currency, "amount": amount})
        return amount

    async def _of(self, method: str, instrument_name: str, **more: object) -> object:
        return await self.transport.request(method, {"instrument_name": instrument_name, **more})

    def _order(self, answer: object) -> Order:
        if isinstance(answer, dict) and "order" in answer:
            answer = answer["order"]
        order = record_of(Order, answer)
        self.state.take_order(order)
        return order

    @staticmethod
    def _count(answer: object) -> int:
        if not isinstance(answer, int):
            raise AnswerUnexpected(f"no number of orders: {answer!r:.80}")
        return answer
