"""Refusals on the wire: Deribit's code and word, and our own numbered reason beside it.

Codes and words are those of the table that ccxt and Deribit's older error page agree on.
"""

from __future__ import annotations

from exchange.core import limits
from exchange.core.reject_reason import RejectReason

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
NOT_OPEN_ORDER = 11044
ALREADY_CLOSED = 10010
CAN_NOT_EDIT_LIQUIDATION_ORDER = 10046


class WireError(Exception):
    """A request that is answered with an error object: `code`, `message` and `data`."""

    def __init__(self, code: int, message: str, data: dict[str, object] | None = None) -> None:
        super().__init__(f"{code} {message}")
        self.code, self.message, self.data = code, message, data


_R = RejectReason
CODES: dict[RejectReason, tuple[int, str, str]] = {
    _R.CYCLE_OPEN: (10040, "retry", "the batch is being cleared"),
    _R.MARKET_NOT_OPEN: (11051, "system_maintenance", "the market has no marks yet"),
    _R.INSTRUMENT_UNKNOWN: (13020, "not_found", "there is no such instrument"),
    _R.INSTRUMENT_HALTED: (10012, "book_closed", "the instrument is halted"),
    _R.INSTRUMENT_EXPIRED: (11046, "outdated_instrument", "the instrument has expired"),
    _R.INDEX_DEAD: (10012, "book_closed", "the index of the instrument is dead"),
    _R.INDEX_STALE: (
        11030, "other_reject", "the index is stale: only orders that reduce risk are accepted",
    ),
    _R.INSTRUMENT_EXISTS: (11050, "bad_request", "the instrument exists already"),
    _R.INSTRUMENT_INVALID: (11050, "bad_request", "the instrument is invalid"),
    _R.ACCOUNT_UNKNOWN: (13007, "user_not_found", "there is no such account"),
    _R.ACCOUNT_EXISTS: (11050, "bad_request", "the account exists already"),
    _R.ACCOUNT_CLASS_UNKNOWN: (11050, "bad_request", "no such account class at the venue"),
    _R.ACCOUNT_IN_LIQUIDATION: (13021, "forbidden", "the account is being liquidated"),
    _R.POOL_UNKNOWN: (13020, "not_found", "there is no such margin pool"),
    _R.POOL_NOT_OWNED: (11042, "permission_denied", "the margin pool is another account's"),
    _R.POOL_EXISTS: (11050, "bad_request", "the margin pool exists already"),
    _R.POOL_KIND_UNKNOWN: (
        11029, "invalid_arguments",
        "isolated, portfolio and group pools can be opened; only an isolated one has an instrument",
    ),
    _R.POOL_NAME_INVALID: (
        11029, "invalid_arguments",
        f"a portfolio pool needs a name of 1 to {limits.POOL_NAME_LENGTH_MAX} characters, "
        "a pool of another kind has none",
    ),
    _R.POOL_NOT_EMPTY: (
        11050, "bad_request", "the pool has a position, an order, money or a margin call",
    ),
    _R.POOL_OF_OTHER_INSTRUMENT: (
        11031, "other_error", "the isolated pool is another instrument's",
    ),
    _R.POOL_WITHOUT_POSITIONS: (11031, "other_error", "a group's pool holds no positions"),
    _R.POOLS_EQUAL: (11029, "invalid_arguments", "both pools are the same"),
    _R.TOO_MANY_POOLS: (12001, "too_many_subaccounts", "the owner has as many pools as it may"),
    _R.ACCOUNT_IS_SUB_ACCOUNT: (
        13012, "unavailable_in_subaccount",
        "a sub-account has neither sub-accounts nor a group pool",
    ),
    _R.CURRENCY_UNKNOWN: (11029, "invalid_arguments", "there is no such currency"),
    _R.AMOUNT_NOT_POSITIVE: (11029, "invalid_arguments", "the amount must be positive"),
    _R.AMOUNT_TOO_LARGE: (11029, "invalid_arguments", "the amount is too large"),
    _R.INSUFFICIENT_FUNDS: (10009, "not_enough_funds", "the funds do not cover the withdrawal"),
    _R.WITHDRAWALS_FROZEN: (
        12100, "transfer_not_allowed", "withdrawals are frozen while a shortfall is open",
    ),
    _R.SIDE_UNKNOWN: (11029, "invalid_arguments", "an order buys or sells"),
    _R.PRICE_NOT_POSITIVE: (10023, "invalid_price", "the price must be positive"),
    _R.PRICE_TOO_HIGH: (10007, "price_too_high", "the price is above the instrument's bound"),
    _R.QUANTITY_NOT_POSITIVE: (10002, "qty_too_low", "the amount must be positive"),
    _R.QUANTITY_TOO_LARGE: (10021, "invalid_amount", "the amount is above the largest position"),
    _R.MARKET_ORDER_WITH_PRICE: (10023, "invalid_price", "a market order has no price"),
    _R.TIME_IN_FORCE_UNKNOWN: (11029, "invalid_arguments", "unknown time in force"),
    _R.CLIENT_ORDER_ID_TOO_LONG: (11029, "invalid_arguments", "the client order id is too long"),
    _R.POST_ONLY_WOULD_TRADE: (
        11054, "post_only_reject", "the order would have traded at the last print",
    ),
    _R.ORDER_UNKNOWN: (10004, "order_not_found", "there is no such order"),
    _R.ORDER_NOT_OWNED: (10029, "not_owner_of_order", "the order is somebody else's"),
    _R.ORDER_NOT_OPEN: (NOT_OPEN_ORDER, "not_open_order", "the order is no longer open"),
    _R.ORDER_OF_LIQUIDATION: (
        10045, "can_not_cancel_liquidation_order", "the order belongs to a liquidation",
    ),
    _R.CLIENT_ORDER_ID_REUSED: (11050, "bad_request", "the client order id names another order"),
    _R.EDIT_OF_MARKET_ORDER: (11043, "bad_argument", "a market order cannot be edited"),
    _R.MARGIN_INSUFFICIENT: (10009, "not_enough_funds", "the margin does not cover the order"),
    _R.POSITION_LIMIT: (
        10018, "non_pme_max_future_position_size", "the position could exceed its limit",
    ),
    _R.OUTSIDE_VENUE_UNKNOWN: (13020, "not_found", "there is no such outside venue"),
    _R.ATTESTATION_OUT_OF_ORDER: (
        11050, "bad_request", "an attestation of this sequence or a later one was taken",
    ),
    _R.ATTESTATION_IN_FUTURE: (11050, "bad_request", "the attestation's time has not come yet"),
    _R.ATTESTATION_FORGED: (
        13004, "invalid_credentials", "the signature is not the outside venue's",
    ),
    _R.ATTESTATION_INVALID: (11029, "invalid_arguments", "the attestation is invalid"),
}  # fmt: skip

EDIT_CODES: dict[RejectReason, tuple[int, str, str]] = {
    _R.ORDER_NOT_OPEN: (ALREADY_CLOSED, "already_closed", "the order is no longer open"),
    _R.ORDER_OF_LIQUIDATION: (
        CAN_NOT_EDIT_LIQUIDATION_ORDER, "can_not_edit_liquidation_order",
        "the order belongs to a liquidation",
    ),
    _R.QUANTITY_NOT_POSITIVE: (
        10021, "invalid_amount", "the amount must be above what is filled already",
    ),
}  # fmt: skip


def refused(
    reason: RejectReason, text: str = "", param: str = "", *, edit: bool = False
) -> WireError:
    """The error of a numbered reason; `text` replaces the standing explanation."""
    entry = EDIT_CODES.get(reason) if edit else None
    code, message, standing = entry or CODES[reason]
    data: dict[str, object] = {"reason": text or standing, "reject_reason": int(reason)}
    if param:
        data["param"] = param
    return WireError(code, message, data)


def invalid_params(text: str, param: str = "") -> WireError:
    """-32602: parameters that do not fit the table."""
    data: dict[str, object] = {"reason": text}
    if param:
        data["param"] = param
    return WireError(INVALID_PARAMS, "Invalid params", data)


def method_not_found(method: str) -> WireError:
    """-32601: no such method."""
    return WireError(METHOD_NOT_FOUND, "Method not found", {"reason": f"no method {method!r}"})


def unauthorized() -> WireError:
    """13009: the method needs an account and the session has none."""
    return WireError(13009, "unauthorized", {"reason": "the method needs an account"})


def forbidden(scope: str) -> WireError:
    """13021: the session's scopes do not cover the method."""
    return WireError(13021, "forbidden", {"reason": f"the session lacks the scope {scope!r}"})
