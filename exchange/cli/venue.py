"""`uncross venue`: a venue file as the engine gets it."""

from __future__ import annotations

import click

from exchange.cli.arguments import VENUE


@click.command("venue")
@click.argument("name_or_file", type=VENUE)
@click.option("--interval", "interval_s", type=click.IntRange(min=1),
              help="Batch interval in seconds instead of the file's.")  # fmt: skip
def command(name_or_file: str, interval_s: int | None) -> None:
    """Print the venue NAME_OR_FILE resolved, and what its margin covers over the horizon.

    Values are the engine's integers: prices and lots of 10^-8, fractions of 10^-9, money of 10^-6
    USDC, times in nanoseconds. Ends with 1 where the coverage is below the venue's own minimum.
    """
    from exchange.coverage import coverage_lines, require_coverage, slow_outside_lines
    from exchange.venues import load_venue

    changes = {} if interval_s is None else {"interval_s": interval_s}
    venue = load_venue(name_or_file, **changes)
    click.echo(venue_text(venue))
    click.echo("\n# coverage")
    for line in [*coverage_lines(venue), *slow_outside_lines(venue)]:
        click.echo(f"# {line}")
    require_coverage(venue)


def venue_text(venue: object) -> str:
    """Every field of a venue, in the layout of its file."""
    import msgspec

    lines: list[str] = []
    tables: list[tuple[str, object]] = []
    plain = msgspec.to_builtins(venue)
    for key, value in plain.items():
        if key == "instruments":
            lines.append(f"instruments = {len(value)}")
        elif isinstance(value, dict | list | tuple) and value:
            tables.append((key, value))
        else:
            lines.append(f"{key} = {_shown(value)}")
    for key, value in tables:
        lines += _table(key, value)
    lines.append("\n# instruments: name, tick_e8, lot_e8")
    lines += [
        f"# {row['name']:<32} {row['tick_e8']:>12} {row['lot_e8']:>12}"
        for row in plain["instruments"]
    ]
    return "\n".join(lines)


def _table(key: str, value: object) -> list[str]:
    if isinstance(value, dict):
        lines = [f"\n[{key}]"]
        for name, inner in value.items():
            lines.append(f"{name} = {_shown(inner)}")
        return lines
    assert isinstance(value, list | tuple)
    if not all(isinstance(row, dict) for row in value):
        return [f"{key} = {_shown(value)}"]
    return [line for row in value for line in [f"\n[[{key}]]", *_table("", row)[1:]]]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(row) for row in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_shown(v)}" for k, v in value.items()) + " }"
    return str(value)
