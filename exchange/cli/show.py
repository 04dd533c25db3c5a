"""`uncross show`: what a journal holds, told by running it again."""

from __future__ import annotations

from pathlib import Path

import click

from exchange.cli.arguments import READ_FILE


@click.command("show")
@click.argument("journal", type=READ_FILE)
@click.option("--cycle", type=click.IntRange(min=0), help="Tell this cycle in full.")
def command(journal: Path, cycle: int | None) -> None:
    """Tell what happened in JOURNAL: an overview, or with --cycle all of one cycle.

    The journal is run again up to the cycle, so that what is shown is what the engine did. The
    files are opened for reading only.
    """
    from exchange.cli.show_run import cycle_text, overview_text
    from exchange.cli.warm_up import warm_up_with_line

    warm_up_with_line()
    lines = overview_text(journal) if cycle is None else cycle_text(journal, cycle)
    for line in lines:
        click.echo(line)
