"""What the methods take that ask over many contracts, or over time.

`code` beside a currency changes nothing: ccxt passes on the word by which its caller chose one.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from exchange.gateway.parameters import Count, Kind, Name, Parameters, PoolId

Sorting = Literal["asc", "desc", "default"]
Sizes = Annotated[dict[Name, Decimal], msgspec.Meta(max_length=256)]
SizesText = Annotated[str, msgspec.Meta(max_length=32_768)]
Milliseconds = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]


class CurrencyTradesParameters(Parameters, frozen=True):
    """Trades in the contracts filed under a currency, within bounds (inclusive).

    `sorting` asc gives the oldest first. `include_old` and `historical` change nothing.
    """

    currency: Name
    kind: Kind = "any"
    count: Count = 10
    start_seq: int | None = None
    end_seq: int | None = None
    start_timestamp: int | None = None
    end_timestamp: int | None = None
    sorting: Sorting = "default"
    include_old: bool = True
    historical: bool = False
    code: Name = ""


class OrderTradesParameters(Parameters, frozen=True):
    """Own trades of one order. `historical` changes nothing."""

    order_id: Name
    sorting: Sorting = "default"
    historical: bool = False


class SummariesOfBooksParameters(Parameters, frozen=True):
    """Running contracts of a kind that settle in a currency or are about it."""

    currency: Name
    kind: Kind = "any"


class ChartParameters(Parameters, frozen=True):
    """A window of candles; one that begins after the venue's time is moved back to end there."""

    instrument_name: Name
    start_timestamp: Milliseconds
    end_timestamp: Milliseconds
    resolution: Literal["1", "3", "5", "10", "15", "30", "60", "120", "180", "360", "720", "1D"]


class FundingParameters(Parameters, frozen=True):
    """A perpetual and a window; one that begins after the venue's time is moved back."""

    instrument_name: Name
    start_timestamp: Milliseconds
    end_timestamp: Milliseconds


class SettlementsParameters(Parameters, frozen=True):
    """Settlements of a contract, newest first, none later than `search_start_timestamp`.

    `continuation`: the word of an earlier answer, to read on from there.
    """

    instrument_name: Name
    type: Literal["settlement", "delivery", "bankruptcy"] | None = None
    count: Count = 20
    continuation: Name = ""
    search_start_timestamp: Milliseconds | None = None


class OpenCurrencyParameters(Parameters, frozen=True):
    """Open orders in the contracts filed under a currency."""

    currency: Name
    kind: Kind = "any"
    type: Literal["all", "limit"] = "all"
    code: Name = ""


class CurrencyHistoryParameters(Parameters, frozen=True):
    """Done orders in the contracts filed under a currency, newest first.

    `include_old` and `historical` change nothing.
    """

    currency: Name
    kind: Kind = "any"
    count: Count = 20
    offset: Annotated[int, msgspec.Meta(ge=0)] = 0
    include_old: bool = True
    include_unfilled: bool = True
    historical: bool = False
    code: Name = ""


class MarginsParameters(Parameters, frozen=True):
    """A limit order that is not entered: `amount` and `pool_id` as in an order."""

    instrument_name: Name
    amount: Decimal
    price: Decimal
    pool_id: PoolId = -1


class SimulateParameters(Parameters, frozen=True):
    """Positions as {instrument: size}, an object or its JSON text, sizes as in get_positions.

    They come on top of those that the pool has, or (`add_positions` false) in their place.
    `model` (ours): another margin model, a preset or one by formula; open orders and what is
    attested elsewhere are then left out. `pool_id` (ours): another pool than the account's cross
    pool, of the account or one of its sub-accounts.
    """

    currency: Name
    add_positions: bool = True
    simulated_positions: Sizes | SizesText = ""
    model: Name = ""
    pool_id: PoolId = -1


class ExplainParameters(Parameters, frozen=True):
    """`model`: another margin model than the venue's, a preset or one by formula; open orders and
    what is attested elsewhere are then left out. `pool_id`: another pool than the account's cross
    pool, of the account or one of its sub-accounts. Without `distances` nobody looks for the moves
    that end in a margin call.
    """

    model: Name = ""
    distances: bool = True
    pool_id: PoolId = -1


class SubAccountsParameters(Parameters, frozen=True):
    """`with_portfolio` adds every account's money by currency."""

    with_portfolio: bool = False


class SubAccountsDetailsParameters(Parameters, frozen=True):
    """Positions filed under a currency; `with_open_orders` adds the orders there."""

    currency: Name
    with_open_orders: bool = False
