"""A crowd as a TOML file: how many bots of each kind, and what each of them brings."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from decimal import Decimal
from pathlib import Path
from typing import Any

from clients.crowd import KINDS, Mix

KEYS = tuple(field.name for field in fields(Mix))
BOTS_MAX = 10_000
MONEY_MAX = 10**12
EACH_AT_LEAST = 2  # market makers: one of them alone may quote options only


class CrowdError(ValueError):
    """A crowd that cannot be built; says which key is wrong and what is allowed."""


def read_mix(path: Path) -> Mix:
    """The mix of a crowd file. Kinds that it does not name have no bots.

    Its keys stand at the top, or in the table `crowd` of a story, whose other tables are not read.
    Raises `CrowdError`, or `OSError` where there is no such file.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"), parse_float=Decimal)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CrowdError(f"{path}: not TOML: {error}") from None
    if isinstance(table.get("crowd"), dict):
        table = table["crowd"]
    try:
        return _mix(table)
    except CrowdError as error:
        raise CrowdError(f"{path}: {error}") from None


def _mix(table: dict[str, Any]) -> Mix:
    unknown = [key for key in table if key not in KEYS]
    if unknown:
        raise CrowdError(f"unknown key {unknown[0]}; allowed: {', '.join(KEYS)}")
    values: dict[str, Any] = dict.fromkeys(KINDS, 0)
    for key, value in table.items():
        is_count = key in KINDS
        kind = int if is_count else int | Decimal
        number = isinstance(value, kind) and not isinstance(value, bool)
        if not number or not Decimal(value).is_finite() or not 0 <= value < MONEY_MAX:
            raise CrowdError(f"{key} must be {'a count' if is_count else 'USDC'}, not {value!r}")
        values[key] = value if is_count else Decimal(value)
    mix = Mix(**values)
    if not 0 < mix.bots <= BOTS_MAX:
        raise CrowdError(f"{mix.bots} bots: there must be 1 to {BOTS_MAX}")
    return mix


def mix_of(bots: int) -> Mix:
    """The default mix in proportion, for so many bots: what is left over trades noise.

    Two of them at least make a market.
    """
    if not 0 < bots <= BOTS_MAX:
        raise CrowdError(f"{bots} bots: there must be 1 to {BOTS_MAX}")
    whole = Mix()
    counts = {kind: getattr(whole, kind) * bots // whole.bots for kind in KINDS}
    counts["market_makers"] = max(counts["market_makers"], min(EACH_AT_LEAST, bots))
    counts["noise_traders"] = 0
    counts["noise_traders"] = bots - sum(counts.values())
    return Mix(**counts)
