"""Every refusal the engine can give, with a number that never changes, grouped by subsystem."""

from __future__ import annotations

from enum import IntEnum


class RejectReason(IntEnum):
    """Why a request changed nothing. Hundreds name the subsystem that refused."""

    NONE = 0

    # 1xx: the venue and its phases
    CYCLE_OPEN = 101
    MARKET_NOT_OPEN = 102
    INSTRUMENT_UNKNOWN = 110
    INSTRUMENT_HALTED = 111
    INSTRUMENT_EXPIRED = 112
    INDEX_DEAD = 113
    INDEX_STALE = 114
    INSTRUMENT_EXISTS = 115
    INSTRUMENT_INVALID = 116

    # 2xx: accounts and money
    ACCOUNT_UNKNOWN = 201
    ACCOUNT_EXISTS = 202
    ACCOUNT_IN_LIQUIDATION = 203
    ACCOUNT_CLASS_UNKNOWN = 204
    CURRENCY_UNKNOWN = 210
    AMOUNT_NOT_POSITIVE = 211
    AMOUNT_TOO_LARGE = 212
    INSUFFICIENT_FUNDS = 213
    WITHDRAWALS_FROZEN = 214

    # 22x: margin pools
    POOL_UNKNOWN = 220
    POOL_NOT_OWNED = 221
    POOL_EXISTS = 222
    POOL_KIND_UNKNOWN = 223
    POOL_NAME_INVALID = 224
    POOL_NOT_EMPTY = 225
    POOL_OF_OTHER_INSTRUMENT = 226
    POOL_WITHOUT_POSITIONS = 227
    POOLS_EQUAL = 228
    TOO_MANY_POOLS = 229
    ACCOUNT_IS_SUB_ACCOUNT = 230

    # 3xx: the order itself
    SIDE_UNKNOWN = 301
    PRICE_NOT_POSITIVE = 302
    PRICE_TOO_HIGH = 303
    QUANTITY_NOT_POSITIVE = 304
    QUANTITY_TOO_LARGE = 305
    MARKET_ORDER_WITH_PRICE = 306
    TIME_IN_FORCE_UNKNOWN = 307
    CLIENT_ORDER_ID_TOO_LONG = 308
    POST_ONLY_WOULD_TRADE = 309

    # 4xx: orders that are there already
    ORDER_UNKNOWN = 401
    ORDER_NOT_OWNED = 402
    ORDER_NOT_OPEN = 403
    ORDER_OF_LIQUIDATION = 404
    CLIENT_ORDER_ID_REUSED = 405
    EDIT_OF_MARKET_ORDER = 406

    # 5xx: risk
    MARGIN_INSUFFICIENT = 501
    POSITION_LIMIT = 502

    # 7xx: attestations of outside venues
    OUTSIDE_VENUE_UNKNOWN = 701
    ATTESTATION_OUT_OF_ORDER = 702
    ATTESTATION_IN_FUTURE = 703
    ATTESTATION_FORGED = 704
    ATTESTATION_INVALID = 705


class DoneReason(IntEnum):
    """Why an order left the book."""

    FILLED = 1
    CANCELLED_BY_OWNER = 2
    REMAINDER_CANCELLED = 3
    REDUCE_ONLY_TRIMMED = 4
    MARGIN_RECHECK = 5
    INSTRUMENT_EXPIRED = 6
    LIQUIDATION = 7
    REDUCED_TO_NOTHING = 8


class PostingCause(IntEnum):
    """What a ledger posting is for."""

    DEPOSIT = 1
    WITHDRAWAL = 2
    PREMIUM = 3
    FEE = 4
    VARIATION_MARGIN = 5
    GAINS_RELEASED = 6
    GAINS_HAIRCUT = 7
    ROUNDING = 8
    EXERCISE = 9
    LIQUIDATION_FEE = 10
    TAKEOVER = 11
    DEFICIT_PAID = 12
    DELEVERAGING = 13
    CONVERSION = 14
    ENDOWMENT = 15
    FUNDING = 16
    GAINS_HELD = 17
    NETTING = 18
    MARGIN_MOVED = 19
    GUARANTEE = 20
