"""A venue that answers like the wire and clears nothing: what a client sees, under test control."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

from clients.errors import ConnectionLost, VenueRefused

DAY_MS = 86_400_000
START_MS = 1_760_126_400_000


def future(name: str, base: str, settle: str, tick: str, lot: str, expiry_ms: int = 0) -> dict:
    """A future as public/get_instruments describes it."""
    return {
        "instrument_name": name, "kind": "future", "base_currency": base,
        "quote_currency": "USD", "counter_currency": "USD", "settlement_currency": settle,
        "settlement_period": "week" if expiry_ms else "perpetual", "contract_size": 1,
        "tick_size": Decimal(tick), "min_trade_amount": Decimal(lot), "is_active": True,
        "expiration_timestamp": expiry_ms or 32503708800000, "price_index": "btc_usdc",
        "maker_commission": Decimal("0.0003"), "taker_commission": Decimal("0.0003"),
    }  # fmt: skip


def option(strike: int, letter: str) -> dict:
    """A BTC option as public/get_instruments describes it."""
    return {
        "instrument_name": f"BTC_USDC-17OCT25-{strike}-{letter}", "kind": "option",
        "base_currency": "BTC", "quote_currency": "USDC", "settlement_currency": "USDC",
        "settlement_period": "week", "contract_size": 1, "tick_size": 5,
        "min_trade_amount": Decimal("0.01"), "is_active": True, "strike": strike,
        "option_type": "call" if letter == "C" else "put",
        "expiration_timestamp": START_MS + 7 * DAY_MS, "price_index": "btc_usdc",
    }  # fmt: skip


CONTRACTS = [
    future("BTC_USDC-PERPETUAL", "BTC", "USDC", "0.5", "0.001"),
    future("BTC-PERPETUAL", "BTC", "BTC", "0.5", "10"),
    future("BTC_USDC-17OCT25", "BTC", "USDC", "0.5", "0.001", START_MS + 7 * DAY_MS),
    future("ETH_USDC-PERPETUAL", "ETH", "USDC", "0.05", "0.01"),
    *(option(strike, letter) for strike in (96000, 100000, 104000) for letter in "CP"),
]
INDICES = {"BTC": Decimal(100_000), "ETH": Decimal(4_000)}


class FakeVenue:
    """A `Transport` for one account. Every request is kept in `requests`."""

    def __init__(self, *, marks: bool = True) -> None:
        self.contracts = {row["instrument_name"]: row for row in CONTRACTS}
        self.marks = marks
        self.index = dict(INDICES)
        self.mark_of: dict[str, Decimal] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.refusals: dict[str, tuple[int, str]] = {}
        self.orders: dict[str, dict[str, Any]] = {}
        self.of_client_id: dict[str, str] = {}
        self.positions: dict[str, Decimal] = {}
        self.cash = Decimal(0)
        self.initial_margin = Decimal(0)
        self.batch, self.timestamp = 1, START_MS
        self.channels: list[str] = []
        self.unknown_channels: set[str] = set()
        self.readied: list[int] = []
        self.ready = asyncio.Event()
        self.call: dict[str, Any] | None = None
        self.forecast: dict[str, Any] | None = None
        self._notices: asyncio.Queue[tuple[str, object] | None] = asyncio.Queue()
        self.closed = False

    # The transport

    async def request(self, method: str, params: dict[str, object]) -> object:
        """Dispatch to the method of that name with `/` as `_`."""
        if self.closed:
            raise ConnectionLost("closed")
        self.requests.append((method, dict(params)))
        await asyncio.sleep(0)
        if method in self.refusals:
            raise VenueRefused(*self.refusals[method])
        return getattr(self, method.replace("/", "_"))(**params)

    async def notifications(self) -> AsyncIterator[tuple[str, object]]:
        """What `publish` was given."""
        while (notice := await self._notices.get()) is not None:
            yield notice

    async def close(self) -> None:
        """End the notifications."""
        if not self.closed:
            self.closed = True
            self._notices.put_nowait(None)

    # What a test does

    def publish(self, channel: str, data: object) -> None:
        """Notify, whether subscribed or not."""
        self._notices.put_nowait((channel, data))

    def fill(self, order: dict[str, Any], amount: Decimal | None = None) -> None:
        """Trade an order in part or whole, and say so as the venue does."""
        amount = order["amount"] - order["filled_amount"] if amount is None else amount
        order["filled_amount"] += amount
        name, sign = order["instrument_name"], 1 if order["direction"] == "buy" else -1
        self.positions[name] = self.positions.get(name, Decimal(0)) + sign * amount
        if order["filled_amount"] == order["amount"]:
            order["order_state"] = "filled"
        self.publish("user.orders.any.any.raw", dict(order))
        self.publish("user.trades.any.any.raw", [{
            "trade_id": f"t{len(self.requests)}", "order_id": order["order_id"],
            "instrument_name": name, "direction": order["direction"], "amount": amount,
            "price": self.mark(name), "timestamp": self.timestamp, "liquidity": "T",
        }])  # fmt: skip

    def end_immediate_orders(self) -> None:
        """Cancel what should not outlive its batch, as a cycle does."""
        for order in self.orders.values():
            if order["order_state"] == "open" and order["time_in_force"] == "immediate_or_cancel":
                order["order_state"] = "cancelled"
                self.publish("user.orders.any.any.raw", dict(order))

    def next_batch(self) -> None:
        """Publish tickers and money, then the notice of the next batch."""
        self.publish("batch.any", {**self.public_get_batch(), "phase": "sealed"})
        self.publish("batch.any", {**self.public_get_batch(), "phase": "printed"})
        self.batch, self.timestamp = self.batch + 1, self.timestamp + 5000
        for channel in self.channels:
            if channel.startswith("ticker."):
                self.publish(channel, self.public_ticker(channel.split(".")[1]))
        self.publish("user.portfolio.USDC", self.summary())
        self.ready.clear()
        self.publish("batch.any", self.public_get_batch())

    def margin_call(self, outcome: str, amount: str = "0") -> None:
        """News of a margin call."""
        self.call = {"outcome": outcome, "amount": Decimal(amount), "deadline": self.batch + 3,
                     "currency": "USDC", "timestamp": self.timestamp}  # fmt: skip
        self.publish("user.margin_calls", dict(self.call))

    def margin_warning(self, probability: str) -> None:
        """A margin call has become likely."""
        self.publish("user.margin_warnings", {
            "pool_id": 10, "probability": Decimal(probability), "horizon_cycles": 60,
            "initial_margin": Decimal(2_500), "currency": "USDC", "timestamp": self.timestamp,
        })  # fmt: skip

    def sent(self, *methods: str) -> list[dict[str, Any]]:
        """Parameters of the requests of these methods, in order."""
        return [params for method, params in self.requests if method in methods]

    def open_orders(self) -> list[dict[str, Any]]:
        """Orders that rest."""
        return [order for order in self.orders.values() if order["order_state"] == "open"]

    def mark(self, name: str) -> Decimal:
        """Mark price: what a test set, a fixed premium for options, else the index."""
        row = self.contracts[name]
        return self.mark_of.get(
            name, Decimal(2000) if row["kind"] == "option" else self.index[row["base_currency"]]
        )

    def summary(self) -> dict[str, Any]:
        """The USDC summary."""
        return {
            "currency": "USDC", "equity": self.cash, "balance": self.cash,
            "margin_balance": self.cash, "available_funds": self.cash,
            "initial_margin": self.initial_margin, "maintenance_margin": 0,
        }  # fmt: skip

    # The methods

    def public_get_instruments(self, currency: str, kind: str = "any") -> object:
        return list(self.contracts.values())

    def public_ticker(self, instrument_name: str) -> dict[str, Any]:
        row = self.contracts[instrument_name]
        answer: dict[str, Any] = {
            "instrument_name": instrument_name, "timestamp": self.timestamp, "state": "open",
            "mark_price": None, "index_price": None, "best_bid_price": None,
            "best_ask_price": None, "open_interest": 0,
        }  # fmt: skip
        if self.marks:
            answer["mark_price"] = self.mark(instrument_name)
            answer["index_price"] = self.index[row["base_currency"]]
        if row["kind"] == "option" and self.marks:
            sign = 1 if row["option_type"] == "call" else -1
            answer |= {"mark_iv": Decimal("45"), "underlying_price": self.index["BTC"], "greeks": {
                "delta": Decimal("0.5") * sign, "gamma": Decimal("0.00001"), "vega": Decimal("55"),
                "theta": Decimal("-100"), "rho": Decimal("3"),
            }}  # fmt: skip
        return answer

    def public_get_order_book(self, instrument_name: str, depth: int) -> object:
        bids = [[Decimal("99999.5"), Decimal("0.2")]]
        return {
            "instrument_name": instrument_name, "timestamp": self.timestamp, "state": "open",
            "bids": bids, "asks": [], "change_id": 7,
        }  # fmt: skip

    def public_get_index_price(self, index_name: str) -> object:
        return {"index_price": self.index[index_name.split("_")[0].upper()],
                "estimated_delivery_price": 1}  # fmt: skip

    def public_get_batch(self) -> dict[str, Any]:
        return {"batch": self.batch, "phase": "collecting", "timestamp": self.timestamp}

    def public_subscribe(self, channels: list[str]) -> list[str]:
        accepted = [name for name in channels if name not in self.unknown_channels]
        self.channels += accepted
        return accepted

    private_subscribe = public_subscribe

    def private_buy(self, **params: Any) -> object:
        return self._place("buy", params)

    def private_sell(self, **params: Any) -> object:
        return self._place("sell", params)

    def _place(self, direction: str, params: dict[str, Any]) -> object:
        client_id = params["client_order_id"]
        if client_id in self.of_client_id:
            return {"order": self.orders[self.of_client_id[client_id]], "trades": []}
        order = {
            "order_id": str(len(self.orders) + 1), "direction": direction, "order_state": "open",
            "instrument_name": params["instrument_name"], "order_type": params["type"],
            "amount": params["amount"], "filled_amount": Decimal(0),
            "price": params.get("price", "market_price"), "client_order_id": client_id,
            "time_in_force": params["time_in_force"], "label": params.get("label", ""),
            "reduce_only": params.get("reduce_only", False),
            "creation_timestamp": self.timestamp, "last_update_timestamp": self.timestamp,
        }  # fmt: skip
        self.orders[order["order_id"]] = order
        self.of_client_id[client_id] = order["order_id"]
        return {"order": dict(order), "trades": []}

    def private_edit(self, order_id: str, amount: Decimal, price: Decimal) -> object:
        order = self._order(order_id)
        order |= {"amount": amount, "price": price}
        return {"order": dict(order), "trades": []}

    def private_cancel(self, order_id: str) -> object:
        order = self._order(order_id)
        order["order_state"] = "cancelled"
        return dict(order)

    def private_get_order_state(self, order_id: str) -> object:
        return dict(self._order(order_id))

    def _order(self, order_id: str) -> dict[str, Any]:
        if order_id not in self.orders:
            raise VenueRefused(10004, "order_not_found")
        return self.orders[order_id]

    def private_cancel_all(self) -> int:
        cancelled = self.open_orders()
        for order in cancelled:
            order["order_state"] = "cancelled"
        return len(cancelled)

    def private_cancel_all_by_instrument(self, instrument_name: str) -> int:
        cancelled = [row for row in self.open_orders() if row["instrument_name"] == instrument_name]
        for order in cancelled:
            order["order_state"] = "cancelled"
        return len(cancelled)

    def private_get_open_orders(self) -> object:
        return [dict(order) for order in self.open_orders()]

    def private_get_positions(self, currency: str) -> object:
        return [
            {"instrument_name": name, "size": size, "kind": self.contracts[name]["kind"],
             "direction": "buy" if size > 0 else "sell" if size < 0 else "zero",
             "average_price": self.mark(name), "mark_price": self.mark(name)}
            for name, size in self.positions.items()
        ]  # fmt: skip

    def private_get_account_summary(self, currency: str) -> object:
        return self.summary()

    def private_get_account_summaries(self) -> object:
        return {"summaries": [self.summary()], "id": 1}

    def private_get_margin_calls(self) -> object:
        return [] if self.call is None else [self.call]

    def private_explain_margin(self, pool_id: int, distances: bool) -> object:
        return {"model": "ps-1", "forecast": self.forecast}

    def private_deposit(self, currency: str, amount: Decimal) -> object:
        self.cash += amount
        self.publish("user.portfolio.USDC", self.summary())
        return {"currency": currency, "amount": amount}

    def private_withdraw(self, currency: str, amount: Decimal) -> object:
        self.cash -= amount
        return {"currency": currency, "amount": amount}

    def batch_register(self) -> object:
        return "ok"

    def batch_ready(self, batch: int) -> object:
        self.readied.append(batch)
        self.ready.set()
        return "ok"
