"""The other side of the wire: a typed client of the venue, and sample bots that use only that."""

from clients.errors import (
    AnswerUnexpected,
    ClientError,
    ConnectionLost,
    OutcomeUnknown,
    VenueRefused,
)
from clients.records import (
    AccountSummary,
    BatchNotice,
    Greeks,
    Instrument,
    MarginCallNotice,
    MarginForecast,
    MarginWarning,
    Order,
    OrderBook,
    Position,
    PublicTrade,
    Ticker,
    UserTrade,
)
from clients.transport import Transport
from clients.venue import GOOD_TIL_CANCELLED, IMMEDIATE_OR_CANCEL, Venue

__all__ = [
    "GOOD_TIL_CANCELLED",
    "IMMEDIATE_OR_CANCEL",
    "AccountSummary",
    "AnswerUnexpected",
    "BatchNotice",
    "ClientError",
    "ConnectionLost",
    "Greeks",
    "Instrument",
    "MarginCallNotice",
    "MarginForecast",
    "MarginWarning",
    "Order",
    "OrderBook",
    "OutcomeUnknown",
    "Position",
    "PublicTrade",
    "Ticker",
    "Transport",
    "UserTrade",
    "Venue",
    "VenueRefused",
]
