"""A portfolio and its market as a JSON file, read strictly: the input of `uncross margin`.

    {"model": "ps-1",
     "market": {"time": "2026-02-25T08:00:00Z", "index": {"BTC": 100000},
                "marks": {"BTC_USDC-PERPETUAL": 100010}, "forwards": {"BTC-27MAR26": 100400},
                "rates": {"BTC-27MAR26": 0.04}, "volatilities": {"BTC_USDC-27MAR26-90000-P": 0.5},
                "confidences": {"BTC": 1}, "stable_price": 1,
                "daily_volume": {"BTC": 3e10}, "forecasts": {"BTC": 0.5},
                "funding": {"BTC_USDC-PERPETUAL": 0.0001}, "interval": 5},
     "model_inputs": {"lognormal-es": {"volatility": {"BTC": 0.6}}},
     "collateral": {"USDC": 14000, "BTC": 0.25},
     "positions": [{"instrument": "BTC_USDC-PERPETUAL", "quantity": 1}]}

Prices are USD or USDC a coin, volatilities and rates annual fractions, quantities coins (USD of
inverse contracts), negative when short; collateral is cash after all profit and loss. Optional:
`model`; `marks` (a future without one stands at its index); `forwards` (the mark of the linear
future of that expiry, else the index); `rates` (0); `confidences`, of an index or of a contract's
own prices (1); `stable_price`, USD a USDC (1); `model_inputs`, by model, a number or one for each
underlying (`margin.reasons.explain_formula.INPUTS`). `volatilities` are needed for options that are
held, one of call and put is enough. Add-ons are charged where `daily_volume` (USDC a day) and
`forecasts` (annual volatilities) name every underlying; with them go `funding` (per eight hours, of
perpetuals; 0) and `interval` (seconds between batches; 5). Without a `market` the opening marks of
a venue stand in. Errors name the place: `positions[3].quantity: ...`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from importlib import resources
from typing import Any, NamedTuple

import msgspec

from exchange.contract_names import Contract, NameRefused, coin_and_expiry, coin_named, contract_of
from exchange.core import limits
from exchange.core.venue import Venue
from exchange.portfolios.text import PortfolioError as PortfolioError
from exchange.portfolios.text import keys, name_of, numbers, parsed, scaled, shown, table_of
from margin.portfolio import NEVER_NS
from margin.reasons.explain_formula import INPUTS, Overrides

EXAMPLE = "example-portfolio.json"
E6, E8, E9 = 10**6, 10**8, 10**9
QUANTITY_E8_MAX = 2**62
TIME_NS_MAX = 2**62

INTERVAL_S = 5
_ACTIVITY = ("daily_volume", "forecasts", "funding", "interval")

Strike = tuple[str, int, int]
Expiry = tuple[str, int]


class Activity(msgspec.Struct, frozen=True):
    """What add-ons read: by underlying, funding by perpetual; see `margin.book.Conditions`."""

    volume_minor: dict[str, int]
    forecast_e9: dict[str, int]
    funding_e9: dict[str, int]
    interval_ns: int


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
    activity: Activity | None = None
    venue: Venue | None = None


class Holding(NamedTuple):
    """A quantity (10^-8 coin or USD) of a contract, and where it was asked for.

    `is_change`: in the text of a change, else at a row of the file.
    """

    where: str
    contract: Contract
    quantity_e8: int
    is_change: bool = False

    def place(self, key: str) -> str:
        """The beginning of an error about `instrument` or `quantity`."""
        if self.is_change:
            return f"{self.where}: the quantity" if key == "quantity" else f"{self.where}:"
        return f"{self.where}.{key}:"


class Portfolio(msgspec.Struct, frozen=True):
    """What a file says: a model's name or none, the market, cash by currency, positions.

    `model_inputs`: by model, what stands in for its constants.
    """

    model: str | None
    model_inputs: dict[str, Overrides]
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
        return _portfolio(parsed(text), venue)
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
        activity=Activity(
            {unit.name: unit.daily_volume_minor or limits.DAILY_VOLUME_MINOR_MAX
             for unit in coins.values()},
            {unit.name: unit.opening_volatility_e9 for unit in coins.values()},
            {}, venue.interval_ns,
        ),
        venue=venue,
    )  # fmt: skip


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
        raise PortfolioError(
            f"{where}: {value} is out of bounds: must be between the years 1970 and 2116"
        )
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


# By table of a market, how the coin of its keys is found.
_COINS: dict[str, Callable[[str], str]] = {
    "marks": lambda name: contract_of(name).coin,
    "forwards": lambda name: coin_and_expiry(name)[0],
    "rates": lambda name: coin_and_expiry(name)[0],
    "volatilities": lambda name: contract_of(name).coin,
    "confidences": lambda name: contract_of(name).coin,
    "funding": lambda name: contract_of(name).coin,
}


def _market(value: object, where: str) -> Market:
    table = keys(
        value, where, ("time", "index"),
        ("marks", "forwards", "rates", "volatilities", "confidences", "stable_price", *_ACTIVITY),
    )  # fmt: skip
    most = limits.INDEX_E8_MAX

    def priced(name: str) -> str:
        return name if name in index else contract_of(name).name

    def read(key: str, parse: Callable[[str], Any], *bounds: int) -> dict[Any, int]:
        return numbers(table.get(key, {}), f"{where}.{key}", parse, *bounds)

    index = read("index", coin_named, E8, 1, most)
    if not index:
        raise PortfolioError(f"{where}.index: names no underlying")
    for key, parse in _COINS.items():
        for name in table_of(table.get(key, {}), f"{where}.{key}"):
            at = f"{where}.{key}.{name}"
            if name not in index and (coin := name_of(at, parse, name)) not in index:
                raise PortfolioError(f"{at}: there is no {coin} in {where}.index")
    volatilities: dict[Strike, int] = {}
    for name, value_e9 in read("volatilities", str, E9, 1, limits.VOLATILITY_E9_MAX).items():
        at = f"{where}.volatilities.{name}"
        if volatilities.setdefault(name_of(at, _strike, name), value_e9) != value_e9:
            raise PortfolioError(f"{at}: call and put of one strike have one volatility")
    rate = limits.RATE_E9_MAX
    return Market(
        time_ns=_time_ns(table["time"], f"{where}.time"),
        index_e8=index,
        mark_e8=read("marks", _future, E8, 1, most),
        forward_e8=read("forwards", coin_and_expiry, E8, 1, most),
        rate_e9=read("rates", coin_and_expiry, E9, -rate, rate),
        volatility_e9=volatilities,
        confidence_ppb=read("confidences", priced, E9, 0, E9),
        stable_price_e8=scaled(table["stable_price"], f"{where}.stable_price", E8, 1, 2 * E8)
        if "stable_price" in table
        else E8,
        activity=_activity(table, where, index),
    )


def _perpetual(name: str) -> str:
    if contract_of(name).expiry_ns != NEVER_NS:
        raise NameRefused(f"{name} is no perpetual")
    return name


def _activity(table: dict[str, Any], where: str, index: dict[str, int]) -> Activity | None:
    if not any(key in table for key in _ACTIVITY):
        return None

    def of_all(key: str, scale: int, most: int) -> dict[str, int]:
        given = keys(table.get(key, {}), f"{where}.{key}", tuple(index), ())
        return numbers(given, f"{where}.{key}", str, scale, 0, most)

    funding, interval = table.get("funding", {}), table.get("interval", Decimal(INTERVAL_S))
    return Activity(
        of_all("daily_volume", E6, limits.DAILY_VOLUME_MINOR_MAX),
        of_all("forecasts", E9, limits.VOLATILITY_E9_MAX),
        numbers(funding, f"{where}.funding", _perpetual, E9, -E9 // 100, E9 // 100),
        scaled(interval, f"{where}.interval", E9, 1, 86_400 * E9),
    )


def _inputs(value: object, where: str, market: Market) -> dict[str, Overrides]:
    """By model and input: a number for all underlyings, or a table of them."""
    found: dict[str, Overrides] = {}
    for model, given in keys(value, where, (), tuple(INPUTS)).items():
        known, at = INPUTS[model], f"{where}.{model}"
        found[model] = {}
        for name, amount in keys(given, at, (), tuple(known)).items():
            _, scale, *bounds = known[name]
            if not isinstance(amount, dict):
                amount = dict.fromkeys(market.index_e8, amount)
            table = keys(amount, f"{at}.{name}", (), tuple(market.index_e8))
            found[model][name] = numbers(table, f"{at}.{name}", str, scale, *bounds)
    return found


def _holdings(value: object, where: str) -> tuple[Holding, ...]:
    if not isinstance(value, list):
        raise PortfolioError(f"{where}: must be a list, not {shown(value)}")
    found: dict[str, Holding] = {}
    for number, row in enumerate(value):
        at = f"{where}[{number}]"
        table = keys(row, at, ("instrument", "quantity"), ())
        contract = name_of(f"{at}.instrument", contract_of, table["instrument"])
        if contract.name in found:
            raise PortfolioError(f"{at}.instrument: {contract.name} comes twice")
        bound = QUANTITY_E8_MAX
        quantity_e8 = scaled(table["quantity"], f"{at}.quantity", E8, -bound, bound)
        found[contract.name] = Holding(at, contract, quantity_e8)
    return tuple(found.values())


def _cash(value: object, where: str, market: Market) -> dict[str, int]:
    found = {}
    for currency, amount in table_of(value, where).items():
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
    table = keys(value, "", ("positions",), ("model", "market", "collateral", "model_inputs"))
    if venue is not None and "market" in table:
        raise PortfolioError(f"market: is that of venue {venue.name} already; leave one of the two")
    if venue is None and "market" not in table:
        raise PortfolioError("market: is missing (or take a venue's opening with --venue)")
    market = _market(table["market"], "market") if venue is None else opening_market(venue)
    model = table.get("model")
    if model is not None and (not isinstance(model, str) or not model):
        raise PortfolioError(f"model: must be text, not {shown(model)}")
    return Portfolio(
        model=model,
        model_inputs=_inputs(table.get("model_inputs", {}), "model_inputs", market),
        market=market,
        cash_minor=_cash(table.get("collateral", {}), "collateral", market),
        holdings=_holdings(table["positions"], "positions"),
    )
