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

from margin.presets.strict_toml import shipped_names, shipped_text, structure_of, table_of
from margin.stresses.stress import Stress


class StressError(ValueError):
    """A stress that cannot be used: names the file and the key."""


def stress_names() -> tuple[str, ...]:
    """Names that `load_stress` accepts, sorted."""
    return shipped_names(__name__)


def load_stress(name: str) -> Stress:
    """The shipped stress `name`. `StressError` if there is none, or its file is not valid."""
    if name not in stress_names():
        raise StressError(f"no stress {name!r}; there are {', '.join(stress_names())}")
    stress = parse_stress(shipped_text(__name__, name), source=f"{name}.toml")
    if stress.name != name:
        raise StressError(f"{name}.toml: name: says {stress.name!r}")
    return stress


def parse_stress(text: str, *, source: str) -> Stress:
    """A stress from TOML text; `source` is the name used in errors.

    `StressError` names the first key that is unknown, missing, of the wrong type, not a whole
    number of 10^-9, or out of its range: moves lie in -0.99 .. 5, volatility's in -1 .. 20.
    """
    of_one = False
    try:
        table = table_of(text)
        of_one = "volatility" in table and not isinstance(table["volatility"], list)
        if of_one:  # one number for every tenor
            table["volatility"] = [{"days": 0, "move": table["volatility"]}]
        stress: Stress = structure_of(Stress, table)
        return stress
    except ValueError as error:  # TOML syntax, a key, or a range
        message = str(error).replace("volatility[0].move", "volatility") if of_one else error
        raise StressError(f"{source}: {message}") from error
