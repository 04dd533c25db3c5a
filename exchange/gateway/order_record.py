"""An order and a trade of one account: as remembered, and as Deribit's clients read them."""

from __future__ import annotations

import msgspec

from exchange.core.reject_reason import DoneReason
from exchange.core.stored.state import State
from exchange.gateway.units import (
    E8,
    amount_number,
    contracts_number,
    milliseconds,
    money,
    order_id_text,
    price_number,
)

MARKET_PRICE = "market_price"

CANCEL_REASONS: dict[int, str] = {
    DoneReason.CANCELLED_BY_OWNER: "user_request",
    DoneReason.REMAINDER_CANCELLED: "remainder_cancelled",
    DoneReason.REDUCE_ONLY_TRIMMED: "reduce_only_trimmed",
    DoneReason.MARGIN_RECHECK: "risk_mitigation",
    DoneReason.INSTRUMENT_EXPIRED: "settlement",
    DoneReason.LIQUIDATION: "autoliquidation",
    DoneReason.REDUCED_TO_NOTHING: "user_request",
}
"""Deribit's words, and ours for what Deribit has none: remainder_cancelled, reduce_only_trimmed."""


class OrderRecord(msgspec.Struct, gc=False, kw_only=True):
    """What is remembered of an order; `filled_value` is the sum of lots times ticks."""

    order_id: int
    account: int
    slot: int
    side: int
    price_ticks: int
    quantity_lots: int
    immediate: bool
    reduce_only: bool
    created_ns: int
    updated_ns: int
    post_only: bool = False
    liquidation: bool = False
    replaced: bool = False
    filled_lots: int = 0
    filled_value: int = 0
    fee_minor: int = 0
    done: int = 0
    label: str = ""
    client_order_id: str = ""

    @property
    def open_lots(self) -> int:
        """What is left to trade."""
        return self.quantity_lots - self.filled_lots

    @property
    def order_type(self) -> str:
        """`limit` or `market`."""
        return "limit" if self.price_ticks else "market"

    @property
    def order_state(self) -> str:
        """`open`, `filled` or `cancelled`."""
        if not self.done:
            return "open"
        return "filled" if self.done == DoneReason.FILLED else "cancelled"


class WireOrder(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Deribit's order object; `client_order_id` is ours, null where the client gave none."""

    order_id: str
    order_state: str
    order_type: str
    instrument_name: str
    direction: str
    price: float | str
    amount: float
    contracts: float
    filled_amount: float
    average_price: float
    commission: float
    time_in_force: str
    creation_timestamp: int
    last_update_timestamp: int
    label: str
    client_order_id: str | None
    reduce_only: bool
    replaced: bool
    is_liquidation: bool
    max_show: float
    display_amount: float
    post_only: bool
    reject_post_only: bool
    is_rebalance: bool = False
    risk_reducing: bool = False
    mmp: bool = False
    api: bool = True
    web: bool = False
    triggered: bool = False
    cancel_reason: str | msgspec.UnsetType = msgspec.UNSET


class UserTrade(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Deribit's user trade: one an order and print."""

    trade_id: str
    trade_seq: int
    instrument_name: str
    timestamp: int
    direction: str
    tick_direction: int
    price: float
    amount: float
    contracts: float
    mark_price: float
    index_price: float
    order_id: str
    order_type: str
    state: str
    liquidity: str
    fee: float
    fee_currency: str
    label: str
    client_order_id: str | None
    reduce_only: bool
    post_only: bool
    mmp: bool = False
    risk_reducing: bool = False
    api: bool = True
    iv: float | msgspec.UnsetType = msgspec.UNSET
    liquidation: str | msgspec.UnsetType = msgspec.UNSET


def fee_currency_of(state: State, slot: int) -> str:
    """Name of the currency in which a contract's fees are paid."""
    number = state.contracts.currency[slot]
    venue = state.venue
    if number == 0:
        return "USDC"
    return venue.underlyings[state.contracts.specs[slot].underlying].name


def wire_order(state: State, record: OrderRecord) -> WireOrder:
    """An order as it stands."""
    spec = state.contracts.specs[record.slot]
    filled = record.filled_lots
    amount = amount_number(spec, record.quantity_lots)
    average = record.filled_value * spec.tick_e8 / (filled * E8) if filled else 0.0
    cancelled = record.done and record.done != DoneReason.FILLED
    return WireOrder(
        order_id=order_id_text(record.order_id),
        order_state=record.order_state,
        order_type=record.order_type,
        instrument_name=spec.name,
        direction="buy" if record.side > 0 else "sell",
        price=price_number(spec, record.price_ticks) if record.price_ticks else MARKET_PRICE,
        amount=amount,
        contracts=contracts_number(spec, record.quantity_lots),
        filled_amount=amount_number(spec, filled),
        average_price=average,
        commission=money(state.contracts.currency[record.slot], record.fee_minor),
        time_in_force="immediate_or_cancel" if record.immediate else "good_til_cancelled",
        creation_timestamp=milliseconds(record.created_ns),
        last_update_timestamp=milliseconds(record.updated_ns),
        label=record.label,
        client_order_id=record.client_order_id or None,
        reduce_only=record.reduce_only,
        post_only=record.post_only,
        reject_post_only=record.post_only,
        replaced=record.replaced,
        is_liquidation=record.liquidation,
        max_show=amount,
        display_amount=amount,
        cancel_reason=CANCEL_REASONS[record.done] if cancelled else msgspec.UNSET,
    )
