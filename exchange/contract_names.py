"""What a contract's name says: the inverse of `exchange.listing`, for contracts of any venue.

`BTC-PERPETUAL` and `BTC-27MAR26` are inverse, `BTC_USDC-PERPETUAL` and `BTC_USDC-27MAR26` linear,
`BTC_USDC-27MAR26-90000-C` is a linear call, `BTC-27MAR26-90000-C` one that settles in coin; a `d`
stands for the point of a strike. Expiries fall at 08:00 UTC.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from exchange.core import limits
from exchange.listing import EXPIRY_OF_DAY_NS, MONTHS, decimal_name, expiry_name
from margin.portfolio import (
    INVERSE,
    INVERSE_CALL,
    INVERSE_PUT,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
)

E8 = 10**8
_OPTION_KINDS = {
    (LINEAR, "C"): LINEAR_CALL,
    (LINEAR, "P"): LINEAR_PUT,
    (INVERSE, "C"): INVERSE_CALL,
    (INVERSE, "P"): INVERSE_PUT,
}
_CONTRACT = re.compile(
    r"(?P<coin>[A-Z0-9]{1,12})(?P<linear>_USDC)?"
    r"-(?:(?P<perpetual>PERPETUAL)|(?P<expiry>\d{1,2}[A-Z]{3}\d{2})"
    r"(?:-(?P<strike>\d{1,12}(?:d\d{1,8})?)-(?P<type>[CP]))?)"
)
_COIN = re.compile(r"[A-Z0-9]{1,12}")
_EXPIRY = re.compile(r"(?P<coin>[A-Z0-9]{1,12})-(?P<expiry>\d{1,2}[A-Z]{3}\d{2})")


class NameRefused(ValueError):
    """A text that names no contract that can be margined."""


class Contract(NamedTuple):
    """A contract as its name describes it; `kind` as in `margin.portfolio`."""

    name: str
    coin: str
    kind: int
    expiry_ns: int
    strike_e8: int

    @property
    def is_option(self) -> bool:
        """Whether it is a call or a put."""
        return self.kind in _OPTION_KINDS.values()


def expiry_ns_of(text: str) -> int:
    """The expiry that a text such as 27MAR26 names, 08:00 UTC. Raises `NameRefused`."""
    day, month, year = text[:-5], text[-5:-2], text[-2:]
    if month not in MONTHS:
        raise NameRefused(f"no month is called {month}")
    try:
        date = datetime(2000 + int(year), MONTHS.index(month) + 1, int(day), tzinfo=UTC)
    except ValueError:
        raise NameRefused(f"there is no day {text}") from None
    expiry_ns = int(date.timestamp()) * 10**9 + EXPIRY_OF_DAY_NS
    if expiry_name(expiry_ns) != text:
        raise NameRefused(f"the day is written {expiry_name(expiry_ns)}, not {text}")
    return expiry_ns


def coin_named(name: str) -> str:
    """A name that an underlying can have in contracts. Raises `NameRefused`."""
    if _COIN.fullmatch(name) is None:
        raise NameRefused(
            f"{name!r} is no coin's name: 1 to 12 capital letters and digits, such as BTC"
        )
    if name == "USDC":
        raise NameRefused("USDC is what prices are in: its own is market.stable_price")
    return name


def contract_of(name: str) -> Contract:
    """The contract of a name. Raises `NameRefused` with the reason."""
    found = _CONTRACT.fullmatch(name)
    if found is None:
        raise NameRefused(
            f"{name!r} is no contract's name, such as BTC_USDC-PERPETUAL, BTC-27MAR26 or "
            "BTC_USDC-27MAR26-90000-C"
        )
    kind = LINEAR if found["linear"] else INVERSE
    expiry_ns = NEVER_NS if found["perpetual"] else expiry_ns_of(found["expiry"])
    strike_e8 = 0
    if found["strike"]:
        kind = _OPTION_KINDS[kind, found["type"]]
        whole, _, part = found["strike"].partition("d")
        strike_e8 = int(whole) * E8 + int(part.ljust(8, "0") or 0)
        if not 0 < strike_e8 <= limits.INDEX_E8_MAX:
            most = decimal_name(limits.INDEX_E8_MAX)
            raise NameRefused(f"{name}: the strike must be above 0 and at most {most}")
        if decimal_name(strike_e8) != found["strike"]:
            raise NameRefused(f"{name}: the strike is written {decimal_name(strike_e8)}")
    return Contract(name, found["coin"], kind, expiry_ns, strike_e8)


def coin_and_expiry(text: str) -> tuple[str, int]:
    """The underlying and the expiry that a text such as BTC-27MAR26 names. Raises `NameRefused`."""
    found = _EXPIRY.fullmatch(text)
    if found is None:
        raise NameRefused(f"{text!r} is no underlying and expiry, such as BTC-27MAR26")
    return found["coin"], expiry_ns_of(found["expiry"])
