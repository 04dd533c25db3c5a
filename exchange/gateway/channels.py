"""Channel names: what each stands for. The table of them is in `methods`."""

from __future__ import annotations

import msgspec

from exchange.core.stored.state import State
from exchange.core.venue import InstrumentSpec
from exchange.gateway.batch_view import ALL
from exchange.gateway.candles import RESOLUTIONS
from exchange.gateway.units import kind_name, settlement_name, underlying_of_index
from margin.portfolio import NEVER_NS

RAW = "raw"
INTERVALS = (RAW, "100ms", "agg2")
PUBLIC_BY_INTERVAL = ("book", "ticker", "trades", "perpetual")
TRADES_OF_KIND = "trades of kind"
USER_BY_INTERVAL = ("orders", "trades", "changes")
MARGIN_CALLS, MARGIN_WARNINGS = "margin_calls", "margin_warnings"
USER_NEWS = (MARGIN_CALLS, MARGIN_WARNINGS)
KINDS = ("any", "future", "option")


class Topic(msgspec.Struct, frozen=True, gc=False):
    """What a channel carries: `number` is a slot, underlying or currency, or `ALL`.

    `kind` and `currency_name` narrow a channel of many contracts down to some; `as_list` says that
    several orders come in one message; `minutes` is a chart's resolution.
    """

    name: str
    is_user: bool
    number: int = ALL
    kind: str = "any"
    currency_name: str = "any"
    as_list: bool = False
    minutes: int = 0

    def covers(self, state: State, slot: int, spec: InstrumentSpec) -> bool:
        """Whether a channel of many contracts tells of this one."""
        if self.number != ALL:
            return self.number == slot
        return self.kind in ("any", kind_name(spec)) and self.currency_name in (
            "any", settlement_name(state.venue, spec),
        )  # fmt: skip


def topic_of(state: State, channel: str) -> Topic | None:
    """What a channel name stands for, or None where there is no such channel."""
    parts = channel.split(".")
    if parts[0] == "user":
        return _user_topic(state, parts)
    if len(parts) == 3 and parts[0] in PUBLIC_BY_INTERVAL and parts[2] in INTERVALS:
        return _of_instrument(state, parts[0], parts[1])
    if len(parts) == 4 and parts[0] == "trades":
        return _of_kind(state, TRADES_OF_KIND, parts, is_user=False)
    if len(parts) == 4 and parts[:2] == ["chart", "trades"] and parts[3] in RESOLUTIONS:
        return _of_instrument(state, "chart", parts[2], RESOLUTIONS[parts[3]])
    if len(parts) != 2:
        return None
    name, target = parts
    if name == "quote":
        return _of_instrument(state, name, target)
    if name == "batch":
        return Topic(name, False) if target == "any" else _of_instrument(state, name, target)
    if name == "deribit_price_index":
        underlying = underlying_of_index(state.venue, target)
        return None if underlying is None else Topic(name, False, underlying)
    return None


def _of_instrument(state: State, name: str, instrument_name: str, minutes: int = 0) -> Topic | None:
    slot = state.contracts.slot_of.get(instrument_name)
    if slot is None:
        return None
    if name == "perpetual" and state.contracts.specs[slot].expiry_ns != NEVER_NS:
        return None
    return Topic(name, False, slot, minutes=minutes)


def _of_kind(state: State, name: str, parts: list[str], *, is_user: bool) -> Topic | None:
    """A topic of all contracts of a kind and currency: the last three parts, with an interval."""
    kind, currency, interval = parts[-3], parts[-2].upper(), parts[-1]
    known = ("ANY", "USDC", *(u.name for u in state.venue.underlyings))
    if kind not in KINDS or currency not in known or interval not in INTERVALS:
        return None
    filed = "any" if currency == "ANY" else currency
    return Topic(name, is_user, ALL, kind, filed, interval != RAW)


def _user_topic(state: State, parts: list[str]) -> Topic | None:
    if len(parts) == 2 and parts[1] in USER_NEWS:
        return Topic(parts[1], True)
    if len(parts) == 3 and parts[1] == "portfolio":
        return _portfolio(state, parts[2])
    if len(parts) < 4 or parts[1] not in USER_BY_INTERVAL or parts[-1] not in INTERVALS:
        return None
    as_list = parts[-1] != RAW
    if len(parts) == 4:
        slot = state.contracts.slot_of.get(parts[2])
        return None if slot is None else Topic(parts[1], True, slot, as_list=as_list)
    return _of_kind(state, parts[1], parts, is_user=True) if len(parts) == 5 else None


def _portfolio(state: State, currency: str) -> Topic | None:
    if currency.lower() == "any":
        return Topic("portfolio", True)
    names = state.venue.currencies()
    if currency.upper() not in names:
        return None
    return Topic("portfolio", True, names.index(currency.upper()))
