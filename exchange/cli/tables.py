"""Tables that fit the page: columns that would not go side by side go below each other."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

NARROW = 24  # a first column is never folded to less
GAP = 2  # blanks between the columns of plain text


def page_width() -> int:
    """Columns of the terminal, or what COLUMNS says; 80 where nobody does."""
    from rich.console import Console

    return Console().width


def column_sets(
    blocks: Iterable[Sequence[int]], fits: Callable[[Sequence[int]], bool]
) -> list[list[int]]:
    """Which columns stand side by side, in order; column 0 leads every set.

    A block stays together while the page is wide enough for it alone.
    """
    sets: list[list[int]] = []
    held = [0]
    for block in blocks:
        if len(held) > 1 and not fits([*held, *block]):
            sets.append(held)
            held = [0]
        for column in block:
            if len(held) > 1 and not fits([*held, column]):
                sets.append(held)
                held = [0]
            held.append(column)
    return [*sets, held]


# Plain text


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def table_lines(rows: list[list[str]], indent: str = "  ") -> list[str]:
    """Rows of cells in columns: the first to the left, all others to the right."""
    widths = _widths(rows)
    return [
        (indent + (" " * GAP).join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )).rstrip()
        for row in rows
    ]  # fmt: skip


def fitted_lines(
    rows: list[list[str]], blocks: Iterable[Sequence[int]], indent: str = "  "
) -> list[str]:
    """`table_lines` within the page: in several tables of the same first column, a blank line
    between them, where one is too wide."""
    room, widths = page_width() - len(indent), _widths(rows)

    def fits(columns: Sequence[int]) -> bool:
        return sum(widths[at] for at in columns) + GAP * (len(columns) - 1) <= room

    lines: list[str] = []
    for columns in column_sets(blocks, fits):
        lines += [""] if lines else []
        lines += table_lines([[row[at] for at in columns] for row in rows], indent)
    return lines


def folded_lines(rows: list[list[str]], indent: str = "  ") -> list[str]:
    """`table_lines` within the page: a first cell too long goes on several lines, the figures
    stand on the last of them."""
    others = sum(width + GAP for width in _widths(rows)[1:])
    room = max(NARROW, page_width() - len(indent) - others)
    folded = []
    for first, *rest in rows:
        *above, last = textwrap.wrap(
            first, room, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        ) or [""]
        folded += [[line, *("" for _ in rest)] for line in above]
        folded.append([last, *rest])
    return table_lines(folded, indent)


# Rich


def rich_tables(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    blocks: Iterable[Sequence[int]],
    blank: Callable[[], Table],
) -> list[Table]:
    """One table, or several of the same first column where one is too wide for the page.

    `blank` makes a table without columns; the title stands above the first one only.
    """
    from rich.console import Console

    console = Console()
    unbounded = console.options.update(width=10_000)

    def table(columns: Sequence[int]) -> Table:
        found = blank()
        for at in columns:
            found.add_column(headings[at], justify="right" if at else "left", no_wrap=True)
        for row in rows:
            found.add_row(*(row[at] for at in columns))
        return found

    def fits(columns: Sequence[int]) -> bool:
        return console.measure(table(columns), options=unbounded).maximum <= console.width

    found = [table(columns) for columns in column_sets(blocks, fits)]
    for below in found[1:]:
        below.title = None
    return found
