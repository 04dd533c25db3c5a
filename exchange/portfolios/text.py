"""JSON read strictly, every error naming the place: the language of portfolio files."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, NoReturn

from exchange.contract_names import NameRefused
from exchange.core.venue_ranges import decimal_text

TEXT_BYTES_MAX = 2**20
_DIGITS_MAX = 18
_PLACES_MAX = 40


class PortfolioError(ValueError):
    """A portfolio that cannot be read: names the file and the place in it."""


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise PortfolioError(f"the key {key[:64]!r} comes twice")
        found[key] = value
    return found


def _constant(text: str) -> NoReturn:
    raise PortfolioError(f"{text} is no JSON number")


def parsed(text: str) -> object:
    """What a JSON text says, numbers as decimals, every key once. Raises `PortfolioError`."""
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
    except InvalidOperation:
        raise PortfolioError("a number has too many digits in its exponent") from None
    except RecursionError:
        raise PortfolioError("nested too deeply") from None


def table_of(value: object, where: str) -> dict[str, Any]:
    """An object. Raises `PortfolioError`."""
    if not isinstance(value, dict):
        raise PortfolioError(f"{where}: must be an object, not {shown(value)}")
    return value


def keys(
    value: object, where: str, required: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, Any]:
    """An object with these keys and no others. Raises `PortfolioError`, which names the key."""
    table = table_of(value, where or "the file")
    prefix = f"{where}." if where else ""
    for key in table:
        if key not in required + optional:
            allowed = ", ".join(required + optional)
            raise PortfolioError(f"{prefix}{key}: unknown key; allowed: {allowed}")
    for key in required:
        if key not in table:
            raise PortfolioError(f"{prefix}{key}: is missing")
    return table


def shown(value: object) -> str:
    """A value as the file says it, shortened, for errors."""
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= 40 else text[:37] + "..."


def scaled(value: object, where: str, scale: int, low: int, high: int) -> int:
    """A JSON number in 1/scale, exactly, from `low` to `high` of those. Raises `PortfolioError`."""
    if not isinstance(value, Decimal):
        raise PortfolioError(f"{where}: must be a number, not {shown(value)}")
    if value == 0:
        exact = Fraction(0)
    elif value.adjusted() > _DIGITS_MAX:
        exact = Fraction(high + 1)
    else:
        places = value.as_tuple().exponent
        tiny = not isinstance(places, int) or places < -_PLACES_MAX
        exact = Fraction(1, 2) if tiny else Fraction(value) * scale
    if exact.denominator != 1:
        raise PortfolioError(f"{where}: {shown(value)} is finer than 10^-{len(str(scale)) - 1}")
    if not low <= exact <= high:
        least, most = decimal_text(low, scale), decimal_text(high, scale)
        raise PortfolioError(
            f"{where}: {shown(value)} is out of bounds: must be from {least} to {most}"
        )
    return int(exact)


def name_of(where: str, parse: Callable[[str], Any], text: object) -> Any:
    """What `parse` makes of a text. Raises `PortfolioError`, also where it refuses the name."""
    if not isinstance(text, str):
        raise PortfolioError(f"{where}: must be text, not {shown(text)}")
    try:
        return parse(text)
    except NameRefused as error:
        raise PortfolioError(f"{where}: {error}") from None


def numbers(
    table: Any, where: str, parse: Callable[[str], Any], scale: int, low: int, high: int
) -> dict[Any, int]:
    """A table of numbers by name; `parse` turns a name into its key."""
    return {
        name_of(f"{where}.{key}", parse, key): scaled(value, f"{where}.{key}", scale, low, high)
        for key, value in table_of(table, where).items()
    }
