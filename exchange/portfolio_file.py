"""A portfolio and its market as a JSON file, read strictly: the input of `uncross margin`.

    {"model": "ps-1",
     "market": {"time": "2026-02-25T08:00:00Z", "index": {"BTC": 100000},
                "marks": {"BTC_USDC-PERPETUAL": 100010}, "forwards": {"BTC-27MAR26": 100400},
                "rates": {"BTC-27MAR26": 0.04}, "volatilities": {"BTC_USDC-27MAR26-90000-P": 0.5},
                "confidences": {"BTC": 1}, "stable_price": 1},
     "collateral": {"USDC": 14000, "BTC": 0.25},
     "positions": [{"instrument": "BTC_USDC-PERPETUAL", "quantity": 1}]}

Prices are USD or USDC a coin, volatilities and rates annual fractions, quantities coins (USD of
inverse contracts), negative when short; collateral is cash after all profit and loss. Optional:
`model`; `marks` (a future without one stands at its index); `forwards` (the mark of the linear
future of that expiry, else the index); `rates` (0); `confidences` (1); `stable_price` (1);
`volatilities` are needed for options that are held, one of call and put is enough. Without a
`market` the opening marks of a venue stand in. Errors name the place: `positions[3].quantity: ...`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from typing import Any, NamedTuple, NoReturn

import msgspec

from exchange.contract_names import Contract, NameRefused, coin_and_expiry, contract_of
from exchange.core import limits
from exchange.core.venue import Venue

EXAMPLE = "example-portfolio.json"
E6, E8, E9 = 10**6, 10**8, 10**9
TEXT_BYTES_MAX = 2**20
QUANTITY_E8_MAX = 2**62
TIME_NS_MAX = 2**62
_DIGITS_MAX = 18
_PLACES_MAX = 40

Strike = tuple[str, int, int]
Expiry = tuple[str, int]


class PortfolioError(ValueError):
    """A portfolio that cannot be read: names the file and the place in it."""


class Market(msgspec.Struct, frozen=True):
    """Prices by name; `venue` whose opening they are and whose contracts alone go, or None."""

    time_ns: int
    index_e8: dict[str, int]
    mark_e8: dict[str, int]
    forward_e8: dict[Expiry, int]
    rate_e9: dict[Expiry, int]
    volatility_e9: dict[Strike, int]
    confidence_ppb: dict[str, int]
    stable_price_e8: int
    venue: Venue | None = None


class Holding(NamedTuple):
    """A quantity (10^-8 coin or USD) of a contract, and where it was asked for."""

    where: str
    contract: Contract
    quantity_e8: int


class Portfolio(msgspec.Struct, frozen=True):
    """What a file says: a model's name or none, the market, cash by currency, positions."""

    model: str | None
    market: Market
    cash_minor: dict[str, int]
    holdings: tuple[Holding, ...]


def example_text() -> str:
    """The portfolio that ships as an example."""
    return resources.files("exchange.venues").joinpath(EXAMPLE).read_text("utf-8")


def read_portfolio(text: str, source: str, venue: Venue | None = None) -> Portfolio:
    """The portfolio of a JSON text; `source` names it in errors.

    With a `venue` the market is its opening and the contracts are those that it lists then, and the
    file must have no `market` of its own. Raises `PortfolioError`.
    """
    try:
        return _portfolio(_parsed(text), venue)
    except PortfolioError as error:
        raise PortfolioError(f"{source}: {error}") from None


def opening_market(venue: Venue) -> Market:
    """A venue's marks before its first batch: all prices at the index, one volatility each."""
    coins = {number: unit for number, unit in enumerate(venue.underlyings)}
    return Market(
        time_ns=venue.opening_time_ns,
        index_e8={unit.name: unit.opening_index_e8 for unit in coins.values()},
        mark_e8={},
        forward_e8={},
        rate_e9={},
        volatility_e9={
            (coins[spec.underlying].name, spec.expiry_ns, spec.strike_e8): coins[
                spec.underlying
            ].opening_volatility_e9
            for spec in venue.instruments
            if spec.strike_e8
        },
        confidence_ppb={},
        stable_price_e8=E8,
        venue=venue,
    )


# The text


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise PortfolioError(f"the key {key[:64]!r} comes twice")
        found[key] = value
    return found


def _constant(text: str) -> NoReturn:
    raise PortfolioError(f"{text} is no JSON number")


def _parsed(text: str) -> object:
    if len(text) > TEXT_BYTES_MAX:
        raise PortfolioError(f"longer than {TEXT_BYTES_MAX} characters")
    try:
        return json.loads(
            text, parse_float=Decimal, parse_int=Decimal, parse_constant=_constant,
            object_pairs_hook=_pairs,
        )  # fmt: skip
    except json.JSONDecodeError as error:
        raise PortfolioError(
            f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise PortfolioError("nested too deeply") from None


# Its parts


def _table(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PortfolioError(f"{where}: must be an object, not {_shown(value)}")
    return value


def _keys(
    value: object, where: str, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    table = _table(value, where or "the file")
    prefix = f"{where}." if where else ""
    for key in table:
        if key not in required + optional:
            allowed = ", ".join(required + optional)
            raise PortfolioError(f"{prefix}{key}: unknown key; allowed: {allowed}")
    for key in required:
        if key not in table:
            raise PortfolioError(f"{prefix}{key}: is missing")
    return table


def _shown(value: object) -> str:
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def scaled(value: object, where: str, scale: int, low: int, high: int) -> int:
    """A JSON number in 1/scale, exactly, from `low` to `high` of those. Raises `PortfolioError`."""
    if not isinstance(value, Decimal):
        raise PortfolioError(f"{where}: must be a number, not {_shown(value)}")
    if value == 0:
        exact = Fraction(0)
    elif value.adjusted() > _DIGITS_MAX:
        exact = Fraction(high + 1)
    else:
        places = value.as_tuple().exponent
        tiny = not isinstance(places, int) or places < -_PLACES_MAX
        exact = Fraction(1, 2) if tiny else Fraction(value) * scale
    if exact.denominator != 1:
        raise PortfolioError(f"{where}: {_shown(value)} is finer than 10^-{len(str(scale)) - 1}")
    if not low <= exact <= high:
        raise PortfolioError(f"{where}: {_shown(value)} is out of bounds")
    return int(exact)


def _name(where: str, parse: Callable[[str], Any], text: object) -> Any:
    if not isinstance(text, str):
        raise PortfolioError(f"{where}: must be text, not {_shown(text)}")
    try:
        return parse(text)
    except NameRefused as error:
        raise PortfolioError(f"{where}: {error}") from None


def _numbers(
    table: Any, where: str, parse: Callable[[str], Any], scale: int, low: int, high: int
) -> dict[Any, int]:
    """A table of numbers by name; `parse` turns a name into its key."""
    return {
        _name(f"{where}.{key}", parse, key): scaled(value, f"{where}.{key}", scale, low, high)
        for key, value in _table(table, where).items()
    }


def _time_ns(value: object, where: str) -> int:
    try:
        when = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        when = None
    if when is None or when.tzinfo is None:
        raise PortfolioError(
            f"{where}: must be a date and time with an offset, such as 2026-02-25T08:00:00Z"
        )
    time_ns = int(when.timestamp()) * E9 + when.microsecond * 1000
    if not 0 <= time_ns < TIME_NS_MAX:
        raise PortfolioError(f"{where}: {value} is out of bounds")
    return time_ns


def _future(name: str) -> str:
    if contract_of(name).is_option:
        raise NameRefused("an option has no mark of its own: it is valued from its volatility")
    return name


def _strike(name: str) -> Strike:
    contract = contract_of(name)
    if not contract.is_option:
        raise NameRefused(f"{name} is no option")
    return contract.coin, contract.expiry_ns, contract.strike_e8


def _market(value: object, where: str) -> Market:
    table = _keys(
        value, where, ("time", "index"),
        ("marks", "forwards", "rates", "volatilities", "confidences", "stable_price"),
    )  # fmt: skip
    most = limits.INDEX_E8_MAX

    def numbers(key: str, parse: Callable[[str], Any], *bounds: int) -> dict[Any, int]:
        return _numbers(table.get(key, {}), f"{where}.{key}", parse, *bounds)

    index = numbers("index", str, E8, 1, most)
    if not index:
        raise PortfolioError(f"{where}.index: names no underlying")
    volatilities: dict[Strike, int] = {}
    for name, value_e9 in numbers("volatilities", str, E9, 1, limits.VOLATILITY_E9_MAX).items():
        at = f"{where}.volatilities.{name}"
        if volatilities.setdefault(_name(at, _strike, name), value_e9) != value_e9:
            raise PortfolioError(f"{at}: call and put of one strike have one volatility")
    rate = limits.RATE_E9_MAX
    return Market(
        time_ns=_time_ns(table["time"], f"{where}.time"),
        index_e8=index,
        mark_e8=numbers("marks", _future, E8, 1, most),
        forward_e8=numbers("forwards", coin_and_expiry, E8, 1, most),
        rate_e9=numbers("rates", coin_and_expiry, E9, -rate, rate),
        volatility_e9=volatilities,
        confidence_ppb=numbers("confidences", str, E9, 0, E9),
        stable_price_e8=scaled(table["stable_price"], f"{where}.stable_price", E8, 1, 2 * E8)
        if "stable_price" in table
        else E8,
    )


def _holdings(value: object, where: str) -> tuple[Holding, ...]:
    if not isinstance(value, list):
        raise PortfolioError(f"{where}: must be a list, not {_shown(value)}")
    found: dict[str, Holding] = {}
    for number, row in enumerate(value):
        at = f"{where}[{number}]"
        table = _keys(row, at, ("instrument", "quantity"), ())
        contract = _name(f"{at}.instrument", contract_of, table["instrument"])
        if contract.name in found:
            raise PortfolioError(f"{at}.instrument: {contract.name} comes twice")
        bound = QUANTITY_E8_MAX
        quantity_e8 = scaled(table["quantity"], f"{at}.quantity", E8, -bound, bound)
        found[contract.name] = Holding(at, contract, quantity_e8)
    return tuple(found.values())


def _cash(value: object, where: str, market: Market) -> dict[str, int]:
    found = {}
    for currency, amount in _table(value, where).items():
        at, most = f"{where}.{currency}", limits.BALANCE_MINOR_MAX
        known = currencies_of(market)
        if currency not in known:
            raise PortfolioError(f"{at}: no such currency; there are {', '.join(known)}")
        found[currency] = scaled(amount, at, E6 if currency == "USDC" else E8, -most, most)
    return found


def currencies_of(market: Market) -> tuple[str, ...]:
    """What can be held: USDC and every underlying's coin; a venue's collateral currencies."""
    if market.venue is not None:
        return market.venue.currencies()
    return ("USDC", *market.index_e8)


def _portfolio(value: object, venue: Venue | None) -> Portfolio:
    table = _keys(value, "", ("positions",), ("model", "market", "collateral"))
    if venue is not None and "market" in table:
        raise PortfolioError(f"market: is that of venue {venue.name} already; leave one of the two")
    if venue is None and "market" not in table:
        raise PortfolioError("market: is missing (or take a venue's opening with --venue)")
    market = _market(table["market"], "market") if venue is None else opening_market(venue)
    model = table.get("model")
    if model is not None and not isinstance(model, str):
        raise PortfolioError(f"model: must be text, not {_shown(model)}")
    return Portfolio(
        model=model,
        market=market,
        cash_minor=_cash(table.get("collateral", {}), "collateral", market),
        holdings=_holdings(table["positions"], "positions"),
    )
