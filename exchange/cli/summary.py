"""Figures of a run: as a table for people, as JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

MINOR_PER_USDC = 10**6


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
    """Figures as a two-column table; `caveat` is left to the caller."""
    click.echo(f"\n{title}")
    for key, value in figures.items():
        if key != "caveat":
            label = key.removesuffix("_minor").replace("_", " ")
            click.echo(f"  {label:<30} {shown(key, value)}")
