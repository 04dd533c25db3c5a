"""What commands share: types of their arguments, and where they may write."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

SEED = click.IntRange(0, 2**62)
# Files that are read: what is a directory, missing or not readable is wrong usage everywhere.
READ_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
READ_FILE_OR_DASH = click.Path(exists=True, dir_okay=False, path_type=Path, allow_dash=True)
PLOT_END = ".html"


class FiniteRange(click.FloatRange):
    """A float in a range, which `nan` is not."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:  # fmt: skip
        """The number; a usage error where it is none, or outside."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not in the range {self._describe_range()}.", param, ctx)
        return number


class Words(click.ParamType[str]):
    """Text that is not empty: an option that says nothing is not one that is left out."""

    name = "text"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:  # fmt: skip
        """The text as it is."""
        text = str(value)
        if not text.strip():
            self.fail("must not be empty", param, ctx)
        return text


class NameOrFile(Words):
    """The name of something that ships, or a file, which must be readable.

    `names` tells what ships; it is asked only where a file or directory has the name as well.
    """

    def __init__(self, names: Callable[[], list[str]]) -> None:
        self.names = names

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:  # fmt: skip
        """The text as it is; a usage error where it is a directory or cannot be read."""
        text = super().convert(value, param, ctx)
        if os.path.lexists(text) and text not in self.names():
            READ_FILE.convert(text, param, ctx)
        return text


class StressFile(Words):
    """The name of a stress that ships, or a file, whose name ends in .toml."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> str:  # fmt: skip
        """The text as it is; a usage error where a file cannot be read."""
        text = super().convert(value, param, ctx)
        if text.endswith(".toml"):
            READ_FILE.convert(text, param, ctx)
        return text


def _venues() -> list[str]:
    from exchange.venues import venue_names

    return venue_names()


def _stories() -> list[str]:
    from replays.story import story_names

    return story_names()


VENUE, STORY = NameOrFile(_venues), NameOrFile(_stories)


def require_writable(path: Path | None, option: str, *inputs: Path | str | None) -> None:
    """Refuse a file that cannot be written, or that is one of the command's own, before any work.

    `inputs`: files of the command; names that are no files do not count. What `--plot` writes ends
    in `.html`. `BadParameter` names the `option`.
    """
    if path is None:
        return

    def refuse(why: str) -> None:
        raise click.BadParameter(f"{path}: {why}", param_hint=option)

    if option == "--plot" and path.suffix.lower() != PLOT_END:
        refuse(f"a plot is a page: its name ends in {PLOT_END}")
    for given in inputs:
        if given is not None and _is_same(path, Path(given)):
            refuse("is a file of this command's own, and would be overwritten")
    try:
        if not path.parent.is_dir():
            refuse(f"there is no folder {path.parent}")
        if path.is_dir():
            refuse("is a directory")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            refuse("cannot be written")
    except OSError as error:
        refuse(str(error.strerror))


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.resolve() == other.resolve() or one.samefile(other)
    except (OSError, ValueError):
        return False
