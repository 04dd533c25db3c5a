"""Margin models that ship with the package: one TOML file each, read strictly.

A file says what `margin.preset.Preset` says, with fractions written as decimal numbers and keys
without the scale: `up = 0.5` becomes `up_e9 = 500000000`. Decimals are never turned into floats.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from margin.preset import ONE_E9, NamedRate, Preset

_SCALED_ENDINGS = ("_e9", "_ppb")


class PresetError(ValueError):
    """A preset that cannot be used: names the file and the key."""


def preset_names() -> tuple[str, ...]:
    """Names that `load_preset` accepts, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load_preset(name: str) -> Preset:
    """The shipped preset `name`. `PresetError` if there is none, or its file is not valid."""
    if name not in preset_names():
        raise PresetError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    text = resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    preset = parse_preset(text, source=f"{name}.toml")
    if preset.name != name:
        raise PresetError(f"{name}.toml: name: says {preset.name!r}")
    return preset


def parse_preset(text: str, *, source: str) -> Preset:
    """A preset from TOML text; `source` is the name used in errors.

    Every key of every section must be there and no other. `PresetError` names the first key that
    is unknown, missing, of the wrong type, not a whole number of 10^-9, or out of its range.
    """
    try:
        table = tomllib.loads(text, parse_float=Decimal)
        preset: Preset = _section(Preset, table, "")
        return preset
    except PresetError as error:
        raise PresetError(f"{source}: {error}") from None
    except ValueError as error:  # TOML syntax, or a range check of a section
        raise PresetError(f"{source}: {error}") from error


def _key_of(field: str) -> str:
    for ending in _SCALED_ENDINGS:
        field = field.removesuffix(ending)
    return field


def _section(kind: Any, table: Any, path: str) -> Any:
    if not isinstance(table, dict):
        raise PresetError(f"{path}: must be a table")
    prefix = f"{path}." if path else ""
    hints = get_type_hints(kind)
    fields = {_key_of(field.name): field for field in msgspec.structs.fields(kind)}
    for key in table:
        if key not in fields:
            raise PresetError(f"{prefix}{key}: unknown key")
    values = {}
    for key, field in fields.items():
        if key in table:
            scaled = field.name.endswith(_SCALED_ENDINGS)
            values[field.name] = _value(hints[field.name], table[key], f"{prefix}{key}", scaled)
        elif field.required:
            raise PresetError(f"{prefix}{key}: missing")
    return kind(**values)


def _value(hint: Any, value: Any, path: str, scaled: bool) -> Any:
    inner = get_args(hint)
    if type(None) in inner:  # a section that older files lack
        return _value(inner[0], value, path, scaled)
    if get_origin(hint) is tuple and inner[0] is NamedRate:
        if not isinstance(value, dict):
            raise PresetError(f"{path}: must be a table")
        return tuple(
            NamedRate(name=name, rate_e9=_integer(value[name], f"{path}.{name}", True))
            for name in sorted(value)
        )
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise PresetError(f"{path}: must be a list")
        if isinstance(inner[0], type) and issubclass(inner[0], msgspec.Struct):
            return tuple(_section(inner[0], item, f"{path}[{at}]") for at, item in enumerate(value))
        return tuple(_value(inner[0], item, path, scaled) for item in value)
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _section(hint, value, path)
    if hint is bool:
        if not isinstance(value, bool):
            raise PresetError(f"{path}: must be true or false")
        return value
    if hint is str:
        if not isinstance(value, str):
            raise PresetError(f"{path}: must be text")
        return value
    return _integer(value, path, scaled)


def _integer(value: Any, path: str, scaled: bool) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise PresetError(f"{path}: must be a number")
    if isinstance(value, Decimal) and not value.is_finite():
        raise PresetError(f"{path}: must be finite")
    exact = Fraction(value) * (ONE_E9 if scaled else 1)
    if exact.denominator != 1:
        raise PresetError(f"{path}: must be a whole {'number of 10^-9' if scaled else 'number'}")
    return exact.numerator
