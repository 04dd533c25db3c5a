"""Compile every kernel, or load it from the disk cache, before a market opens."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

import click

# Every module with kernels, those that others build on first.
KERNELS = (
    "margin.valuation",
    "margin.black76",
    "margin.scenarios",
    "margin.requirement",
    "exchange.core.ledger",
    "exchange.core.positions",
    "exchange.core.orders",
    "exchange.core.order_columns",
    "exchange.core.uncross",
    "exchange.core.revalue",
    "exchange.core.risk",
)

Progress = Callable[[int, int, str], None]  # done, of how many, what comes next


def warm_up(progress: Progress | None = None) -> None:
    """Call `warm_up()` of every module with kernels."""
    for number, name in enumerate(KERNELS):
        if progress is not None:
            progress(number, len(KERNELS), name)
        importlib.import_module(name).warm_up()
    if progress is not None:
        progress(len(KERNELS), len(KERNELS), "")


def warm_up_with_line() -> None:
    """Warm up with one line on the terminal that shows how far it is; silent elsewhere."""
    shown = sys.stderr.isatty()

    def line(done: int, of: int, name: str) -> None:
        text = f"kernels {done}/{of} {name}" if name else f"kernels {of}/{of} ready"
        click.echo(f"\r\033[K{text}", nl=not name, err=True)

    warm_up(line if shown else None)
