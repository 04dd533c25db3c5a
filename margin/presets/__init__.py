"""Margin models that ship with the package: one TOML file each, read strictly.

A file says what `margin.preset.Preset` says, with fractions written as decimal numbers and keys
without the scale: `up = 0.5` becomes `up_e9 = 500000000`. Decimals are never turned into floats.
"""

from __future__ import annotations

from margin.preset import Preset
from margin.strict_toml import shipped_names, shipped_text, structure_of, table_of


class PresetError(ValueError):
    """A preset that cannot be used: names the file and the key."""


def preset_names() -> tuple[str, ...]:
    """Names that `load_preset` accepts, sorted."""
    return shipped_names(__name__)


def load_preset(name: str) -> Preset:
    """The shipped preset `name`. `PresetError` if there is none, or its file is not valid."""
    if name not in preset_names():
        raise PresetError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    preset = parse_preset(shipped_text(__name__, name), source=f"{name}.toml")
    if preset.name != name:
        raise PresetError(f"{name}.toml: name: says {preset.name!r}")
    return preset


def parse_preset(text: str, *, source: str) -> Preset:
    """A preset from TOML text; `source` is the name used in errors.

    Every key of every section must be there and no other. `PresetError` names the first key that
    is unknown, missing, of the wrong type, not a whole number of 10^-9, or out of its range.
    """
    try:
        preset: Preset = structure_of(Preset, table_of(text))
        return preset
    except ValueError as error:  # TOML syntax, a key, or a range check of a section
        raise PresetError(f"{source}: {error}") from error
