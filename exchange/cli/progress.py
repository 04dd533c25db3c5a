"""Progress bars of the commands: on a terminal only, and on its error stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def terminal_progress() -> Progress:
    """A progress display on the error stream; silent where that is no terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


@contextmanager
def record_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar that is told (records done, records in all)."""
    with terminal_progress() as progress:
        task = progress.add_task(what, total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


@contextmanager
def row_progress(what: str, total: int) -> Iterator[Callable[[int], None] | None]:
    """A bar that is told how many rows more are done; None where nobody would see it.

    The bar moves in hundredths, so that showing it does not slow down what it shows.
    """
    with terminal_progress() as progress:
        if progress.disable:
            yield None
            return
        task = progress.add_task(what, total=total)
        waiting = 0

        def advance(rows: int) -> None:
            nonlocal waiting
            waiting += rows
            if waiting * 100 >= total:
                progress.advance(task, waiting)
                waiting = 0

        yield advance
