"""What an order request says about price, size and display, in the engine's integers."""

from __future__ import annotations

from decimal import Decimal

from exchange.core.reject_reason import RejectReason
from exchange.core.venue import InstrumentSpec
from exchange.gateway import parameters as p
from exchange.gateway.errors import WireError, invalid_params, refused
from exchange.gateway.order_record import OrderRecord
from exchange.gateway.units import TOO_LARGE, lots_of, lots_of_contracts, ticks_of
from margin.invariant import check


def limit_ticks(spec: InstrumentSpec, order_type: str, price: Decimal | None) -> int:
    """An order's price in ticks, 0 for a market order."""
    if order_type == "market":
        if price is not None:
            raise refused(RejectReason.MARKET_ORDER_WITH_PRICE, param="price")
        return 0
    if price is None:
        raise invalid_params("a limit order needs a price", "price")
    ticks = ticks_of(spec, price)
    check(0 < ticks <= TOO_LARGE, "a limit price is positive, so it never reads as a market order")
    return ticks


def size_lots(
    spec: InstrumentSpec, amount: Decimal | None, contracts: Decimal | None
) -> int | None:
    """A size in lots from either word for it; None where neither was said.

    Raises `WireError` -32602 where both were said and differ.
    """
    if contracts is None:
        return None if amount is None else lots_of(spec, amount)
    lots = lots_of_contracts(spec, contracts)
    if amount is not None and lots_of(spec, amount) != lots:
        raise invalid_params("contracts and amount are different sizes", "contracts")
    return lots


def order_lots(spec: InstrumentSpec, params: p.OrderParameters) -> int:
    """A new order's size in lots, all of it shown.

    Raises `WireError`: -32602 without a size, 10024 for a part of it to be shown.
    """
    lots = size_lots(spec, params.amount, params.contracts)
    if lots is None:
        raise invalid_params("an order needs an amount", "amount")
    if params.max_show is not None or params.display_amount is not None:
        _check_shown(spec, params, lots)
    return lots


def _check_shown(spec: InstrumentSpec, params: p.OrderParameters, lots: int) -> None:
    for name in ("max_show", "display_amount"):
        shown = getattr(params, name)
        if shown is not None and (not shown.is_finite() or _shown_lots(spec, shown) < lots):
            data: dict[str, object] = {"reason": "orders are shown whole", "param": name}
            raise WireError(10024, "invalid_max_show", data)


def _shown_lots(spec: InstrumentSpec, shown: Decimal) -> int:
    """The part to be shown in lots; nothing is 0."""
    return lots_of(spec, shown) if shown > 0 else 0


def check_post_only(params: p.OrderParameters) -> None:
    """11047 for an order that must not trade at once and may not wait either."""
    if params.post_only and params.time_in_force == "immediate_or_cancel":
        data: dict[str, object] = {
            "reason": "a post-only order cannot be immediate-or-cancel", "param": "post_only",
        }  # fmt: skip
        raise WireError(11047, "unsupported_arg_combination", data)


def check_unchanged(params: p.EditParameters, record: OrderRecord) -> None:
    """-32602 for an edit that would turn an order into one of another kind."""
    standing = {"post_only": record.post_only, "reject_post_only": record.post_only,
                "reduce_only": record.reduce_only}  # fmt: skip
    for name, is_so in standing.items():
        if getattr(params, name) not in (None, is_so):
            raise invalid_params(f"an edit does not change {name}", name)
