"""What the venue tells, as typed records in Deribit's names and units.

Amounts: coin for linear contracts and options, USD for inverse futures. Prices in the contract's
quote currency. Times in milliseconds. Unknown fields are ignored.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import TypeVar

import msgspec

from clients.errors import AnswerUnexpected

ZERO = Decimal(0)
Record = TypeVar("Record", bound="WireRecord")


class WireRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all records."""


def record_of(kind: type[Record], data: object) -> Record:
    """`data`, a decoded JSON object, as a record; `AnswerUnexpected` where it does not fit."""
    if isinstance(data, dict) and data.get("price") == "market_price":
        data = {**data, "price": None}  # Deribit's word for the price of a market order
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        raise AnswerUnexpected(f"no {kind.__name__}: {error}") from error


def records_of(kind: type[Record], data: object) -> list[Record]:
    """A decoded JSON list, or a single object, as records."""
    if isinstance(data, dict):
        return [record_of(kind, data)]
    if not isinstance(data, list):
        raise AnswerUnexpected(f"no list of {kind.__name__}: {data!r:.80}")
    return [record_of(kind, row) for row in data]


def multiple_below(value: Decimal, step: Decimal) -> Decimal:
    """The greatest multiple of `step` that is not above `value`."""
    return (value / step).to_integral_value(ROUND_FLOOR) * step


def multiple_above(value: Decimal, step: Decimal) -> Decimal:
    """The least multiple of `step` that is not below `value`."""
    return (value / step).to_integral_value(ROUND_CEILING) * step


class Instrument(WireRecord, frozen=True, kw_only=True):
    """The terms of one contract."""

    instrument_name: str
    kind: str
    base_currency: str
    settlement_currency: str
    tick_size: Decimal
    min_trade_amount: Decimal
    quote_currency: str = ""
    contract_size: Decimal = Decimal(1)
    expiration_timestamp: int | None = None
    settlement_period: str = ""
    strike: Decimal | None = None
    option_type: str | None = None
    is_active: bool = True
    price_index: str = ""
    maker_commission: Decimal = ZERO
    taker_commission: Decimal = ZERO

    @property
    def is_option(self) -> bool:
        """Whether this is an option."""
        return self.kind == "option"

    @property
    def is_perpetual(self) -> bool:
        """Whether this future never expires."""
        return self.settlement_period == "perpetual"

    @property
    def is_inverse(self) -> bool:
        """Whether this future settles in its coin, with amounts in USD."""
        return self.kind == "future" and self.settlement_currency == self.base_currency

    @property
    def is_priced_in_coin(self) -> bool:
        """Whether this is an option that settles in its coin, with the premium in coin."""
        return self.is_option and self.settlement_currency == self.base_currency

    def price_below(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid that is not above `price`."""
        return multiple_below(price, self.tick_size)

    def price_above(self, price: Decimal) -> Decimal:
        """The nearest price on the tick grid that is not below `price`."""
        return multiple_above(price, self.tick_size)

    def amount_below(self, amount: Decimal) -> Decimal:
        """The greatest tradable amount that is not above `amount`; zero if there is none."""
        return max(ZERO, multiple_below(amount, self.min_trade_amount))

    def notional(self, amount: Decimal, price: Decimal) -> Decimal:
        """What `amount` is worth in USD at `price` of the underlying (sign of the amount)."""
        return amount if self.is_inverse else amount * price

    def amount_worth(self, notional: Decimal, price: Decimal) -> Decimal:
        """The tradable amount worth at most `notional` USD at `price` of the underlying."""
        return self.amount_below(notional if self.is_inverse else notional / price)


class Greeks(WireRecord, frozen=True, kw_only=True):
    """Sensitivities of one option: vega per volatility point, theta per day."""

    delta: Decimal
    gamma: Decimal
    theta: Decimal
    vega: Decimal
    rho: Decimal


class Ticker(WireRecord, frozen=True, kw_only=True):
    """The state of one contract after the last auction and its marks."""

    instrument_name: str
    timestamp: int
    mark_price: Decimal | None = None
    index_price: Decimal | None = None
    underlying_price: Decimal | None = None
    last_price: Decimal | None = None
    best_bid_price: Decimal | None = None
    best_bid_amount: Decimal | None = None
    best_ask_price: Decimal | None = None
    best_ask_amount: Decimal | None = None
    open_interest: Decimal = ZERO
    state: str = ""
    mark_iv: Decimal | None = None
    greeks: Greeks | None = None
    current_funding: Decimal | None = None
    funding_8h: Decimal | None = None


class OrderBook(WireRecord, frozen=True, kw_only=True):
    """The disclosed unexecuted orders of one contract as (price, amount), best first."""

    instrument_name: str
    timestamp: int
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]
    change_id: int = 0


class BookMessage(WireRecord, frozen=True, kw_only=True):
    """One message of a `book` channel: rows are (`new`, `change` or `delete`, price, amount)."""

    instrument_name: str
    timestamp: int
    change_id: int
    bids: list[tuple[str, Decimal, Decimal]]
    asks: list[tuple[str, Decimal, Decimal]]
    type: str = "snapshot"
    prev_change_id: int | None = None


class Order(WireRecord, frozen=True, kw_only=True):
    """One order of this account. `price` is None for a market order."""

    order_id: str
    instrument_name: str
    direction: str
    order_state: str
    amount: Decimal
    order_type: str = "limit"
    price: Decimal | None = None
    filled_amount: Decimal = ZERO
    average_price: Decimal | None = None
    time_in_force: str = ""
    reduce_only: bool = False
    is_liquidation: bool = False
    label: str = ""
    client_order_id: str | None = None
    cancel_reason: str | None = None
    creation_timestamp: int = 0
    last_update_timestamp: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it can still trade."""
        return self.order_state in ("open", "untriggered")

    @property
    def open_amount(self) -> Decimal:
        """What is left to trade."""
        return self.amount - self.filled_amount


class Position(WireRecord, frozen=True, kw_only=True):
    """A holding in one contract. `size` is signed: negative when short."""

    instrument_name: str
    size: Decimal
    direction: str = ""
    average_price: Decimal | None = None
    mark_price: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    floating_profit_loss: Decimal | None = None
    estimated_liquidation_price: Decimal | None = None

    @property
    def amount(self) -> Decimal:
        """The signed amount, whether or not the venue signs `size` itself."""
        return -abs(self.size) if self.direction == "sell" else self.size


class UserTrade(WireRecord, frozen=True, kw_only=True):
    """What one of this account's orders traded in one auction."""

    trade_id: str
    instrument_name: str
    direction: str
    price: Decimal
    amount: Decimal
    timestamp: int
    order_id: str = ""
    fee: Decimal = ZERO
    fee_currency: str = ""
    liquidity: str = ""
    order_type: str = ""
    state: str = ""
    label: str = ""
    client_order_id: str | None = None

    @property
    def signed_amount(self) -> Decimal:
        """Positive when bought, negative when sold."""
        return self.amount if self.direction == "buy" else -self.amount


class PublicTrade(WireRecord, frozen=True, kw_only=True):
    """The outcome of one auction: the whole volume at the one price."""

    trade_id: str
    instrument_name: str
    direction: str
    price: Decimal
    amount: Decimal
    timestamp: int


class AccountSummary(WireRecord, frozen=True, kw_only=True):
    """Money of one currency, and what it stands against, in that currency.

    The `total_..._usd` fields, where the venue gives them, are those of the whole margin pool.
    """

    currency: str
    equity: Decimal
    balance: Decimal = ZERO
    margin_balance: Decimal = ZERO
    available_funds: Decimal = ZERO
    initial_margin: Decimal = ZERO
    maintenance_margin: Decimal = ZERO
    total_equity_usd: Decimal | None = None
    total_margin_balance_usd: Decimal | None = None
    total_initial_margin_usd: Decimal | None = None
    total_maintenance_margin_usd: Decimal | None = None


class IndexPrice(WireRecord, frozen=True, kw_only=True):
    """An index and when it was so."""

    index_name: str
    price: Decimal
    timestamp: int = 0


class BatchNotice(WireRecord, frozen=True, kw_only=True):
    """A batch, its phase, and the time of the last marks."""

    batch: int
    timestamp: int
    phase: str = "collecting"

    @property
    def collects(self) -> bool:
        """Whether orders still reach this batch."""
        return self.phase == "collecting"


class MarginCallNotice(WireRecord, frozen=True, kw_only=True):
    """News of a margin call (issued, standing, cured, expired, breached) or of what follows it.

    Outcome `liquidation` is a step of an open liquidation, or a deleveraging of this account:
    `step` names it, `instrument_name` and `size` say what it was about. `deadline` is the cycle in
    which a call expires.
    """

    outcome: str
    amount: Decimal = ZERO
    deadline: int | None = None
    currency: str = "USDC"
    timestamp: int = 0
    step: str = ""
    instrument_name: str | None = None
    size: Decimal = ZERO

    @property
    def stands(self) -> bool:
        """Whether money is being asked for."""
        return self.outcome in ("issued", "standing")

    @property
    def is_only_news(self) -> bool:
        """Whether it leaves a call that stands as it is: the age of attested credit."""
        return self.outcome.startswith("credit_")


class MarginForecast(WireRecord, frozen=True, kw_only=True):
    """What the venue's margin model forecasts of a pool within so many cycles.

    `initial_minor`: the most initial margin, in 10^-6 USDC; `call_probability_ppb`: the chance of a
    margin call, x 10^9.
    """

    horizon_cycles: int
    initial_minor: int
    call_probability_ppb: int

    @property
    def initial_margin(self) -> Decimal:
        """The same in USDC."""
        return Decimal(self.initial_minor) / 10**6

    @property
    def probability(self) -> Decimal:
        """The chance as a fraction."""
        return Decimal(self.call_probability_ppb) / 10**9


class MarginWarning(WireRecord, frozen=True, kw_only=True):
    """A margin call of one pool has become likely: its probability within so many cycles.

    `initial_margin`: the most that the pool is forecast to need in them, in `currency`. Said once;
    positions and orders are as they were.
    """

    pool_id: int
    probability: Decimal
    horizon_cycles: int
    initial_margin: Decimal
    currency: str = "USDC"
    timestamp: int = 0
