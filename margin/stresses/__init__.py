"""Named stresses: one TOML file each, read strictly; a file of your own has the same form.

    name = "2020-03-12"
    volatility = 1.75           # one relative move, or rows of [[volatility]] days = .. move = ..
    [spot]                      # relative, by coin; `default` is for every other coin
    BTC = -0.4975
    default = -0.5208
    [basis]                     # optional, as is each of its keys
    perpetual = -0.12
    dated = 0

Fractions are decimals that must be whole numbers of 10^-9; they are never turned into floats.
"""

from __future__ import annotations

import tomllib
from decimal import Decimal
from fractions import Fraction
from importlib import resources
from typing import Any, Final

from margin.preset import ONE_E9, NamedRate
from margin.stress import Basis, Stress, TenorMove

_KEYS: Final = ("name", "spot", "volatility", "basis")
_BASIS_KEYS: Final = ("perpetual", "dated")
_TENOR_KEYS: Final = ("days", "move")


class StressError(ValueError):
    """A stress that cannot be used: names the file and the key."""


def stress_names() -> tuple[str, ...]:
    """Names that `load_stress` accepts, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load_stress(name: str) -> Stress:
    """The shipped stress `name`. `StressError` if there is none, or its file is not valid."""
    if name not in stress_names():
        raise StressError(f"no stress {name!r}; there are {', '.join(stress_names())}")
    text = resources.files(__name__).joinpath(f"{name}.toml").read_text(encoding="utf-8")
    stress = parse_stress(text, source=f"{name}.toml")
    if stress.name != name:
        raise StressError(f"{name}.toml: name: says {stress.name!r}")
    return stress


def parse_stress(text: str, *, source: str) -> Stress:
    """A stress from TOML text; `source` is the name used in errors.

    `StressError` names the first key that is unknown, missing, of the wrong type, not a whole
    number of 10^-9, or out of its range: moves lie in -0.99 .. 5, volatility's in -1 .. 20.
    """
    try:
        table = tomllib.loads(text, parse_float=Decimal)
        _known(table, "", _KEYS)
        name = _needed(table, "", "name")
        if not isinstance(name, str):
            raise ValueError("name: must be text")
        return Stress(
            name=name,
            spot=_spot(_needed(table, "", "spot")),
            volatility=_volatility(_needed(table, "", "volatility")),
            basis=_basis(table.get("basis", {})),
        )
    except ValueError as error:  # of this module, of TOML's syntax, or of a range
        raise StressError(f"{source}: {error}") from error


def _known(table: Any, path: str, keys: tuple[str, ...]) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{path.rstrip('.')}: must be a table")
    for key in table:
        if key not in keys:
            raise ValueError(f"{path}{key}: unknown key")


def _needed(table: dict[str, Any], path: str, key: str) -> Any:
    if key not in table:
        raise ValueError(f"{path}{key}: missing")
    return table[key]


def _spot(table: Any) -> tuple[NamedRate, ...]:
    if not isinstance(table, dict):
        raise ValueError("spot: must be a table")
    return tuple(
        NamedRate(name=coin, rate_e9=_scaled(table[coin], f"spot.{coin}")) for coin in sorted(table)
    )


def _volatility(value: Any) -> tuple[TenorMove, ...]:
    if not isinstance(value, list):
        return (TenorMove(days=0, move_e9=_scaled(value, "volatility")),)
    rows = []
    for number, row in enumerate(value):
        path = f"volatility[{number}]."
        _known(row, path, _TENOR_KEYS)
        days = _needed(row, path, "days")
        if isinstance(days, bool) or not isinstance(days, int):
            raise ValueError(f"{path}days: must be a whole number")
        move_e9 = _scaled(_needed(row, path, "move"), f"{path}move")
        rows.append(TenorMove(days=days, move_e9=move_e9))
    return tuple(rows)


def _basis(table: Any) -> Basis:
    _known(table, "basis.", _BASIS_KEYS)
    perpetual, dated = (_scaled(table.get(key, 0), f"basis.{key}") for key in _BASIS_KEYS)
    return Basis(perpetual_e9=perpetual, dated_e9=dated)


def _scaled(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise ValueError(f"{path}: must be a number")
    if isinstance(value, Decimal) and not value.is_finite():
        raise ValueError(f"{path}: must be finite")
    exact = Fraction(value) * ONE_E9
    if exact.denominator != 1:
        raise ValueError(f"{path}: must be a whole number of 10^-9")
    return exact.numerator
