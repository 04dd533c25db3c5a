"""Reading structures of integers from TOML: every key is known, every fraction exact.

A key of the file is a field without its scale: `up = 0.5` is `up_e9 = 500000000`. Decimals are
never turned into floats. Errors are `ValueError`s that name the key by its path.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from typing import Any, Final, get_args, get_origin, get_type_hints

import msgspec

from margin.fixed_point import RATE_SCALE
from margin.presets.sections import NamedRate

_SCALED_ENDINGS: Final = ("_e9", "_ppb")


def shipped_names(package: str) -> tuple[str, ...]:
    """Names of the TOML files of a package, sorted."""
    files = resources.files(package).iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def shipped_text(package: str, name: str) -> str:
    """Text of one of them."""
    return resources.files(package).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def table_of(text: str) -> dict[str, Any]:
    """The table of a TOML text, its numbers exact."""
    return tomllib.loads(text, parse_float=Decimal)


def laid_on(base: dict[str, Any], table: dict[str, Any]) -> dict[str, Any]:
    """`base` with `table` on it: tables are merged key by key, any other value replaces."""
    merged = dict(base)
    for key, value in table.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = laid_on(below, value)
        merged[key] = value
    return merged


def left_out(table: dict[str, Any], path: str, at: str, told: str) -> dict[str, Any]:
    """`table` without the key of a dotted path; `at` and `told` name list and table in errors."""
    key, dot, rest = path.partition(".")
    below = table.get(key)
    if key in table and not dot:
        return {name: value for name, value in table.items() if name != key}
    if isinstance(below, dict):
        return {**table, key: left_out(below, rest, at, f"{told}.{key}")}
    raise ValueError(f"{at}: {told} has no {path}; it has {', '.join(table)}")


def structure_of(kind: Any, table: Any, path: str = "", beside: tuple[str, ...] = ()) -> Any:
    """A msgspec structure from a table; `path` is what errors call the table.

    `beside` are keys that the caller reads itself: named among those that are allowed.

    Fields may be structures, optional ones, tuples, names with a rate each (a table), text, true or
    false, and numbers: scaled by 10^9 where the field's name ends so, whole elsewhere.
    """
    if not isinstance(table, dict):
        raise ValueError(f"{path}: must be a table")
    prefix = f"{path}." if path else ""
    hints = get_type_hints(kind)
    fields = {_key_of(field.name): field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            allowed = ", ".join((*beside, *fields))
            raise ValueError(f"{prefix}{key}: unknown key; allowed: {allowed}")
    values = {}
    for key, field in fields.items():
        if key in table:
            scaled = field.name.endswith(_SCALED_ENDINGS)
            values[field.name] = _value(hints[field.name], table[key], f"{prefix}{key}", scaled)
        elif field.required:
            raise ValueError(f"{prefix}{key}: missing")
    return kind(**values)


def _key_of(field: str) -> str:
    for ending in _SCALED_ENDINGS:
        field = field.removesuffix(ending)
    return field


def _value(hint: Any, value: Any, path: str, scaled: bool) -> Any:
    inner = get_args(hint)
    if type(None) in inner:  # a section that older files lack
        return _value(inner[0], value, path, scaled)
    if get_origin(hint) is tuple and inner[0] is NamedRate:
        if not isinstance(value, dict):
            raise ValueError(f"{path}: must be a table")
        return tuple(
            NamedRate(name=name, rate_e9=_integer(value[name], f"{path}.{name}", True))
            for name in sorted(value)
        )
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{path}: must be a list")
        if isinstance(inner[0], type) and issubclass(inner[0], msgspec.Struct):
            return tuple(
                structure_of(inner[0], item, f"{path}[{at}]") for at, item in enumerate(value)
            )
        return tuple(_value(inner[0], item, path, scaled) for item in value)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return structure_of(hint, value, path)
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{path}: must be true or false")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise ValueError(f"{path}: must be text")
        return value
    return _integer(value, path, scaled)


def _integer(value: Any, path: str, scaled: bool) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError(f"{path}: must be a number")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"{path}: must be finite")
    exact = Fraction(value) * (RATE_SCALE if scaled else 1)
    if exact.denominator != 1:
        raise ValueError(f"{path}: must be a whole {'number of 10^-9' if scaled else 'number'}")
    return exact.numerator
