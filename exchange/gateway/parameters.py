"""What each method takes: typed, and strict about names it does not know.

Amounts and prices are `Decimal`s read from the digits of the JSON number. A few parameters that
common clients always send are known though the market has no use for them; their text says so.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from exchange.core import limits

ChannelName = Annotated[str, msgspec.Meta(max_length=128)]
Name = Annotated[str, msgspec.Meta(max_length=64)]
Text = Annotated[str, msgspec.Meta(max_length=256)]
Count = Annotated[int, msgspec.Meta(ge=1, le=1000)]
Kind = Literal["future", "option", "spot", "future_combo", "option_combo", "combo", "any"]
Label = Annotated[str, msgspec.Meta(max_length=limits.LABEL_LENGTH_MAX)]
ClientOrderId = Annotated[str, msgspec.Meta(max_length=limits.CLIENT_ORDER_ID_LENGTH_MAX)]
PoolId = Annotated[int, msgspec.Meta(ge=-1, lt=limits.POOLS_MAX)]
AccountId = Annotated[int, msgspec.Meta(ge=0, lt=limits.POOLS_MAX)]
ACCOUNT_NAME_PATTERN = r"^[!-~]+$"
ACCOUNT_NAME_WORDS = "1 to 64 letters, digits and signs of ASCII without spaces"
AccountName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=64, pattern=ACCOUNT_NAME_PATTERN)
]
CHANNELS_MAX = 1000


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Parameters of one method; unknown names are refused."""


class NoParameters(Parameters, frozen=True):
    """A method without parameters."""


class TestParameters(Parameters, frozen=True):
    """`expected_result` "exception" asks for an error answer."""

    __test__ = False  # no test class, whatever its name

    expected_result: Literal["exception"] | None = None


class AuthParameters(Parameters, frozen=True):
    """A grant and what it needs: `client_credentials` the key's `client_id` and `client_secret`;
    `client_signature` the `client_id`, the client's `timestamp` (wall clock, ms), a `nonce`, `data`
    and the `signature` over them; `refresh_token` a token. `scope` may ask for less than the key
    has (`trade:read`), `state` is echoed.
    """

    grant_type: Literal["client_credentials", "client_signature", "refresh_token"]
    client_id: Name = ""
    client_secret: Text = ""
    refresh_token: Text = ""
    timestamp: Annotated[int, msgspec.Meta(ge=0)] | None = None
    nonce: Text = ""
    data: Text = ""
    signature: Text = ""
    scope: Text = ""
    state: Text = ""


NEEDED_BY_GRANT = {
    "client_credentials": ("client_id", "client_secret"),
    "client_signature": ("client_id", "timestamp", "signature"),
    "refresh_token": ("refresh_token",),
}


class HelloParameters(Parameters, frozen=True):
    """What the client is called; the venue does not mind."""

    client_name: Text
    client_version: Text = ""


class HeartbeatParameters(Parameters, frozen=True):
    """Seconds between two signs of life."""

    interval: Annotated[int, msgspec.Meta(ge=10, le=86_400)]


class LogoutParameters(Parameters, frozen=True):
    """`invalidate_token` makes all tokens of the key useless."""

    invalidate_token: bool = True


class DisconnectParameters(Parameters, frozen=True):
    """`connection`: this one; `account`: what later connections of the account start with."""

    scope: Literal["connection", "account"] = "connection"


class InstrumentsParameters(Parameters, frozen=True):
    """Which contracts: those filed under a currency, of a kind, running or expired."""

    currency: Name = "any"
    kind: Kind = "any"
    expired: bool = False


class OfInstrument(Parameters, frozen=True):
    """One contract by name."""

    instrument_name: Name


class OrderBookParameters(Parameters, frozen=True):
    """One contract and how many price levels a side."""

    instrument_name: Name
    depth: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 5


class TradesParameters(Parameters, frozen=True):
    """Trades of one contract: the newest `count` within the given bounds (inclusive).

    `sorting` asc gives the oldest first. `include_old` and `historical` change nothing.
    """

    instrument_name: Name
    count: Count = 10
    start_seq: int | None = None
    end_seq: int | None = None
    start_timestamp: int | None = None
    end_timestamp: int | None = None
    sorting: Literal["asc", "desc", "default"] = "default"
    include_old: bool = True
    historical: bool = False


class IndexParameters(Parameters, frozen=True):
    """An index such as btc_usdc (or btc_usd, which is the same)."""

    index_name: Name


class BatchParameters(Parameters, frozen=True):
    """One contract, or all."""

    instrument_name: Name = "any"


class OrderParameters(Parameters, frozen=True):
    """An order. `price` is required for limit orders and refused for market orders.

    The size comes as `amount` or as `contracts`. `client_order_id` makes sending again safe: the
    venue answers an id that it knows with the order that had it first. `label` is echoed and
    identifies nothing. A `post_only` order is refused where it would have traded at the last
    print; its price is never changed, so `reject_post_only` adds nothing. `max_show` and
    `display_amount` must be the whole amount: the curve that a venue discloses hides no part.
    `pool_id` is the margin pool that it fills into; left out, that of the contract's margin mode.
    """

    instrument_name: Name
    amount: Decimal | None = None
    contracts: Decimal | None = None
    type: Literal["limit", "market"] = "limit"
    price: Decimal | None = None
    time_in_force: Literal["good_til_cancelled", "immediate_or_cancel"] = "good_til_cancelled"
    reduce_only: bool = False
    label: Label = ""
    client_order_id: ClientOrderId = ""
    post_only: bool = False
    reject_post_only: bool = False
    max_show: Decimal | None = None
    display_amount: Decimal | None = None
    pool_id: PoolId = -1


class EditParameters(Parameters, frozen=True):
    """New terms of an open limit order; what is left out stays.

    `amount` (or `contracts`) counts the filled part. `post_only`, `reject_post_only` and
    `reduce_only` cannot be changed: they must say what the order is.
    """

    order_id: Name
    amount: Decimal | None = None
    contracts: Decimal | None = None
    price: Decimal | None = None
    post_only: bool | None = None
    reject_post_only: bool | None = None
    reduce_only: bool | None = None


class OfOrder(Parameters, frozen=True):
    """One order of this account."""

    order_id: Name


class OfClientOrder(Parameters, frozen=True):
    """One order of this account by the id that the client gave it."""

    client_order_id: ClientOrderId


class CancelAllParameters(Parameters, frozen=True):
    """`detailed` answers with the cancelled orders instead of their number."""

    detailed: bool = False


class CancelInstrumentParameters(Parameters, frozen=True):
    """All orders in one contract. `type`: all orders of the venue are limit or market orders."""

    instrument_name: Name
    type: Literal["all", "limit"] = "all"
    detailed: bool = False


class CancelLabelParameters(Parameters, frozen=True):
    """Orders with a label."""

    label: Label
    currency: Name = "any"


class CloseParameters(Parameters, frozen=True):
    """The position in a contract; `price` for a limit order."""

    instrument_name: Name
    type: Literal["limit", "market"]
    price: Decimal | None = None


class OpenOrdersParameters(Parameters, frozen=True):
    """Open orders, of one kind of contract or type if given."""

    kind: Kind = "any"
    type: Literal["all", "limit"] = "all"


class OpenInstrumentParameters(Parameters, frozen=True):
    """Open orders in one contract."""

    instrument_name: Name
    type: Literal["all", "limit"] = "all"


class HistoryParameters(Parameters, frozen=True):
    """Orders that are done, newest first. `include_old` changes nothing."""

    instrument_name: Name
    count: Count = 20
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    include_old: bool = True
    include_unfilled: bool = True


class PositionsParameters(Parameters, frozen=True):
    """Positions filed under a currency, of a kind; `subaccount_id` names a sub-account."""

    currency: Name = "any"
    kind: Kind = "any"
    subaccount_id: AccountId | None = None


class SummaryParameters(Parameters, frozen=True):
    """Money of one currency; `extended` adds who the account is and what it pays.

    `subaccount_id`: of a sub-account, asked by its parent.
    """

    currency: Name
    extended: bool = False
    subaccount_id: AccountId | None = None


class SummariesParameters(Parameters, frozen=True):
    """Money of all currencies, of a sub-account if `subaccount_id` names one."""

    extended: bool = False
    subaccount_id: AccountId | None = None


class MoneyParameters(Parameters, frozen=True):
    """An amount of one currency; `pool_id` (ours): another pool than the account's cross pool, of
    the account or one of its sub-accounts."""

    currency: Name
    amount: Decimal
    pool_id: PoolId = -1


class TransferParameters(Parameters, frozen=True):
    """An amount for the account with the number `destination`, out of the asking account."""

    currency: Name
    amount: Decimal
    destination: AccountId


class TransferBetweenParameters(Parameters, frozen=True):
    """An amount from `source` (left out: the asking account) to `destination`, both by number."""

    currency: Name
    amount: Decimal
    destination: AccountId
    source: AccountId | None = None


class CreateSubAccountParameters(Parameters, frozen=True):
    """`name` (ours): how keys name the account; left out, the parent's with a number."""

    name: AccountName | None = None


class OpenPoolParameters(Parameters, frozen=True):
    """`isolated` takes the contract's `instrument_name`, `portfolio` a `name`, `group` neither."""

    kind: Literal["isolated", "portfolio", "group"]
    instrument_name: Name | None = None
    name: Annotated[str, msgspec.Meta(max_length=limits.POOL_NAME_LENGTH_MAX)] = ""


class OfPool(Parameters, frozen=True):
    """A margin pool of this account by its number."""

    pool_id: PoolId


class MoveMarginParameters(Parameters, frozen=True):
    """An amount of one currency, from one pool to another."""

    from_pool_id: PoolId
    to_pool_id: PoolId
    currency: Name
    amount: Decimal


class SwitchParameters(Parameters, frozen=True):
    """A contract, and the pool that its position and its orders go to."""

    instrument_name: Name
    pool_id: PoolId


class AttestationParameters(Parameters, frozen=True):
    """The text that an outside venue signed, character by character, and its signature in hex."""

    attestation: Annotated[str, msgspec.Meta(max_length=32_768)]
    signature: Annotated[str, msgspec.Meta(min_length=128, max_length=128)]


class ChannelsParameters(Parameters, frozen=True):
    """Channels by name."""

    channels: Annotated[list[ChannelName], msgspec.Meta(max_length=CHANNELS_MAX)]


class ReadyParameters(Parameters, frozen=True):
    """`batch`: the batch that was meant; a word for another batch does not count."""

    batch: int | None = None
