"""Figures of a run: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import click

from exchange.cli.tables import page_width

MINOR_PER_USDC = 10**6
LABEL = 30  # columns of a figure's name


def write_summary(path: Path, figures: dict[str, Any]) -> None:
    """Write figures as indented JSON."""
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def shown(key: str, value: Any) -> str:
    """A figure for people: money in USDC, thousands separated."""
    if isinstance(value, dict):
        end = "_minor" if key.endswith("_minor") else ""
        return ", ".join(f"{k} {shown(k + end, v)}" for k, v in value.items()) or "none"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if key.endswith("_minor"):
        return f"{value / MINOR_PER_USDC:,.2f} USDC"
    return f"{value:,}"


def print_table(title: str, figures: dict[str, Any]) -> None:
    """Figures as a two-column table; `caveat` is left to the caller.

    A long list goes on below; a word too long for its column, such as a hash, has its own line.
    """
    width = page_width()
    click.echo(f"\n{title}")
    for key, value in figures.items():
        if key == "caveat":
            continue
        label, text = key.removesuffix("_minor").replace("_", " "), shown(key, value)
        room = width - LABEL - 3
        if len(text) <= room:
            click.echo(f"  {label:<{LABEL}} {text}")
        elif " " not in text:
            click.echo(f"  {label}\n    {text}")
        else:
            first, *rest = textwrap.wrap(text, max(1, room))
            click.echo(f"  {label:<{LABEL}} {first}")
            for line in rest:
                click.echo(f"  {'':<{LABEL}} {line}")
