"""Margin models as TOML files, read strictly: those that ship, and files of a user's own.

A file says what `margin.presets.preset.Preset` says, with fractions written as decimal numbers and
keys without the scale: `up = 0.5` becomes `up_e9 = 500000000`. Decimals are never turned into
floats. A file may build on another and say only what differs:

    name = "wider"
    base = "ps-1"              # a model that ships, or a file beside this one ("mine.toml")
    without = ["skew"]         # optional: what the base has and this model has not
    [spot_range]
    BTC = 0.2                  # tables are merged key by key; any other value replaces the base's
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from margin.presets.preset import Preset
from margin.presets.strict_toml import (
    laid_on,
    left_out,
    shipped_names,
    shipped_text,
    structure_of,
    table_of,
)

FILE_ENDING: Final = ".toml"
FLOOR: Final = "+floor"
OTHER_MODELS: Final = (
    "fhs-es", "lognormal-es", "open-interest", "paradex-cross", "standard", "vega-levels",
)  # fmt: skip
"""Models that ship and are no presets here; a file may not take their names either."""

_FHS_ES: Final = "fhs-es"
_BASE, _WITHOUT = "base", "without"


class PresetError(ValueError):
    """A preset that cannot be used: names the file and the key."""


def preset_names() -> tuple[str, ...]:
    """Names that `load_preset` accepts, sorted."""
    return shipped_names(__name__)


def load_preset(name: str) -> Preset:
    """The shipped preset `name`. `PresetError` if there is none, or its file is not valid."""
    if name not in preset_names():
        raise PresetError(f"no preset {name!r}; there are {', '.join(preset_names())}")
    preset = load_shipped(name)
    if preset.name != name:
        raise PresetError(f"{name}.toml: name: says {preset.name!r}")
    return preset


def load_shipped(name: str) -> Preset:
    """A model that ships as a file and that others may build on: a preset, or fhs-es."""
    return _shipped(name, ())[0]


def load_preset_file(path: Path) -> Preset:
    """The preset of a user's own file, whose name is not that of a model that ships.

    `PresetError` names the file, the key, and what there may be; `OSError` where it cannot be read.
    """
    preset, _ = _of_file(path, (), "")
    taken = (*preset_names(), *OTHER_MODELS)
    if preset.name.removesuffix(FLOOR) in taken:
        raise PresetError(
            f"{path}: name: {preset.name!r} is that of a model that ships; "
            f"these are taken: {', '.join(taken)}"
        )
    return preset


def find_preset(name_or_file: str, folder: Path | None = None) -> Preset:
    """A shipped preset by name, or the file that ends in .toml, relative to `folder`."""
    if not is_file_name(name_or_file):
        return load_preset(name_or_file)
    return load_preset_file((folder or Path()) / name_or_file)


def is_file_name(name: str) -> bool:
    """Whether what names a model is a file."""
    return name.endswith(FILE_ENDING)


def parse_preset(text: str, *, source: str, folder: Path | None = None) -> Preset:
    """A preset from TOML text; `source` is the name used in errors, `folder` where bases lie.

    Every key of every section must be there, in the text or in what it builds on, and no other.
    `PresetError` names the first key that is unknown, missing, of the wrong type, not a whole
    number of 10^-9, or out of its range.
    """
    return _resolved(text, source, folder or Path(), ())[0]


Chain = tuple[tuple[str, str], ...]
"""What builds on what, outermost first: what a file is known by, and what errors call it."""


def _resolved(text: str, source: str, folder: Path, chain: Chain) -> tuple[Preset, dict[str, Any]]:
    """The preset of a text, and its table with all that it builds on."""
    try:
        table = table_of(text)
        base, without = table.pop(_BASE, None), table.pop(_WITHOUT, None)
        if base is not None:
            table = laid_on(_base_table(base, without, source, folder, chain), table)
        elif without is not None:
            raise ValueError(f"{_WITHOUT}: leaves out parts of a {_BASE}, and there is none")
        preset: Preset = structure_of(Preset, table, beside=(_BASE, _WITHOUT))
        if not preset.name:
            raise ValueError("name: must not be empty")
        return preset, table
    except PresetError:  # of a base, which it names
        raise
    except ValueError as error:  # TOML syntax, a key, or a range check of a section
        raise PresetError(f"{source}: {error}") from error


def _base_table(
    base: object, without: object, source: str, folder: Path, chain: Chain
) -> dict[str, Any]:
    """What a file builds on, less its name and what is left out. The base is a preset itself."""
    if not isinstance(base, str):
        raise ValueError(f"{_BASE}: must be text, a preset's name or a file that ends in .toml")
    if is_file_name(base):
        _, table = _of_file(folder / base, chain, f"{source}: {_BASE}: ")
    elif base in (known := (*preset_names(), _FHS_ES)):
        _, table = _shipped(base, chain)
    else:
        raise ValueError(
            f"{_BASE}: no preset {base!r}; there are {', '.join(known)}, and files that end in "
            f"{FILE_ENDING}"
        )
    table.pop("name")
    listed = [] if without is None else without
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise ValueError(f'{_WITHOUT}: must be a list of keys, such as ["tails", "dynamic.ewma"]')
    for path in listed:
        table = left_out(table, path, _WITHOUT, base)
    return table


def _shipped(name: str, chain: Chain) -> tuple[Preset, dict[str, Any]]:
    text = shipped_text("margin.models" if name == _FHS_ES else __name__, name)
    label = f"{name}{FILE_ENDING}"
    return _resolved(text, label, Path(), _longer(chain, name, label))


def _of_file(path: Path, chain: Chain, at: str) -> tuple[Preset, dict[str, Any]]:
    """The preset of a file and its table; `at` is what an error about the path begins with."""
    if not path.is_file():
        names = ", ".join(preset_names())
        raise PresetError(f"{at}no preset file {str(path)!r}; presets that ship are {names}")
    chain = _longer(chain, str(path.resolve()), str(path))
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        raise PresetError(f"{path}: is no UTF-8 text") from None
    return _resolved(text, str(path), path.parent, chain)


def _longer(chain: Chain, known_by: str, label: str) -> Chain:
    """The chain with one more; `PresetError` where it would be a circle."""
    if known_by in (before for before, _ in chain):
        circle = " -> ".join((*(told for _, told in chain), label))
        raise PresetError(f"{chain[-1][1]}: {_BASE}: a preset cannot build on itself: {circle}")
    return (*chain, (known_by, label))
