"""Constants of the standard model: the strict reader of their data file."""

from __future__ import annotations

from margin.presets import PresetError
from margin.presets.standard_sections import (
    CoinCollateral,
    Levels,
    ShortOption,
    Standard,
    Threshold,
)
from margin.presets.strict_toml import shipped_text, structure_of, table_of

__all__ = [
    "CoinCollateral",
    "Levels",
    "ShortOption",
    "Standard",
    "Threshold",
    "load_standard",
    "parse_standard",
]


def load_standard() -> Standard:
    """The constants that ship with the package; `PresetError` if their file is not valid."""
    return parse_standard(shipped_text("margin.models", "standard"), source="standard.toml")


def parse_standard(text: str, *, source: str) -> Standard:
    """Constants from TOML text; `source` is the name used in errors.

    Fractions are decimal numbers and keys go without their scale, as in `margin.presets`. Every
    key must be there and no other: `PresetError` names the first that is not right.
    """
    try:
        standard: Standard = structure_of(Standard, table_of(text))
        return standard
    except ValueError as error:  # TOML syntax, a key of ours, or a range check of a section
        raise PresetError(f"{source}: {error}") from error
