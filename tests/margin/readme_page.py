"""margin/README.md as tests read it: sections, and what their worked examples say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from margin.invariant import Int64Array

TEXT = (Path(__file__).parents[2] / "margin" / "README.md").read_text("utf-8")
FLAT = " ".join(TEXT.split())
_SECTION = re.compile(r"^#{2,3} (.+?)\n(.*?)(?=^#{2,3} |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS: dict[str, str] = dict(_SECTION.findall(TEXT))
EXAMPLE = "**Example.**"
USDC = 10**6
# What a reader takes for a result or an exact input: decimals, and thousands with their commas.
_FIGURE = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+")


def _exactly(value: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\d,.]){re.escape(value)}(?![\d]|[.,]\d)")


class Page:
    """The example of one section: every figure is computed (`says`) or an input (`given`)."""

    def __init__(self, section: str) -> None:
        self.section = section
        self.text = " ".join(SECTIONS[section].split(EXAMPLE)[1].split())
        self.rest = self.text

    def says(self, *values: str) -> None:
        """Each value was computed, and stands in the example as it is."""
        for value in values:
            assert _exactly(value).search(self.text), f"{self.section} does not say {value}"
            self.rest = _exactly(value).sub("", self.rest)

    def given(self, *values: str) -> None:
        """Each value is an input that the example names."""
        self.says(*values)

    def figures_left(self) -> list[str]:
        """Figures that nothing computes and nobody gave."""
        return _FIGURE.findall(self.rest)


Examples = dict[str, Callable[[Page], None]]


def compute(section: str, example: Callable[[Page], None]) -> None:
    """Run an example: what it computes must be said, and whatever is said must be accounted for."""
    page = Page(section)
    example(page)
    assert page.figures_left() == [], f"{section}: nobody computes these"


def usdc(amount_minor: int) -> str:
    """Minor units as dollars and cents, to the nearest cent."""
    return f"{int(amount_minor) / USDC:,.2f}"


def column(*values: int) -> Int64Array:
    """An int64 array of the values."""
    return np.array(values, dtype=np.int64)
