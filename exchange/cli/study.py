"""`uncross study`: experiments on margin models, from simulated markets to a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.arguments import SEED, FiniteRange, require_writable
from exchange.cli.study_calibration import calibration
from exchange.cli.study_garch import garch
from exchange.cli.study_window import window

if TYPE_CHECKING:
    from rich.table import Table

    from replays.procyclicality import Row

HEADINGS = (
    "model", "factor", "breach %", "Kupiec\npass", "peak/trough", "1/5/20/30 d\nrise %",
    "after\n1/5/20/60 d", "mean\nmargin %", "shortfall %", "cost %", "effect %",
)  # fmt: skip
BLOCKS = (range(1, 5), (5, 6), range(7, 11))


@click.group("study")
def command() -> None:
    """Experiments on margin models."""


command.add_command(calibration)
command.add_command(garch)
command.add_command(window)


@command.command(
    "procyclicality", short_help="How much margin rises when markets fall, model by model."
)
@click.option("--seed", type=SEED, default=7, show_default=True, help="Of the simulated paths.")
@click.option("--breach-rate", default=0.01, show_default=True,
              type=FiniteRange(0.001, 0.2), help="What every model is scaled to.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
              help="Peak to trough against mean margin, one point a model.")  # fmt: skip
def procyclicality(seed: int, breach_rate: float, as_json: bool, plot: Path | None) -> None:
    """How much margin models rise when markets fall, all at the same breach rate.

    200 simulated paths of 2,500 days (GARCH with fat tails); EWMA filters of three memories,
    historical simulation, each tool against procyclicality on EWMA .97 in full and as ps-1-dynamic
    ships it (buffer, stressed weight, floor, caps on rises, bounds), and a flat margin that has
    seen the whole path. Median over the paths of peak to trough and of the largest rises over 1, 5,
    20 and 30 days; margin over its undisturbed level so many days after the market's volatility
    doubled; cost and effect: mean margin and peak to trough against plain EWMA .97.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from replays.procyclicality import study

    require_writable(plot, "--plot")
    rows = study(seed, breach_share=breach_rate)
    if as_json:
        click.echo(json.dumps({"seed": seed, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        console = Console()
        for table in _tables(rows):
            console.print(table)
    if plot is not None:
        from exchange.cli.study_plot import write_plot

        write_plot(plot, rows)
        click.echo(f"plot: {plot}", err=as_json)


def _tables(rows: list[Row]) -> list[Table]:
    from functools import partial

    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from exchange.cli.tables import rich_tables
    from replays.procyclicality import PLAIN

    plain = next(row for row in rows if row.name == PLAIN)
    cells = [
        [
            row.name, f"{row.multiple:.2f}", f"{100 * row.breach_share:.2f}",
            f"{row.kupiec_pass_share:.2f}", f"{row.peak_to_trough:.2f}",
            " ".join(f"{100 * x:.0f}" for x in row.rises),
            " ".join(f"{x:.2f}" for x in row.response), f"{100 * row.mean_margin:.2f}",
            f"{100 * row.mean_shortfall:.2f}",
            f"{100 * (row.mean_margin / plain.mean_margin - 1):+.1f}",
            f"{100 * (row.peak_to_trough / plain.peak_to_trough - 1):+.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    blank = partial(Table, title="margin models at one breach rate", title_justify="left",
                    box=SIMPLE_HEAD, padding=(0, 1, 0, 0))  # fmt: skip
    return rich_tables(HEADINGS, cells, BLOCKS, blank)
