"""`uncross study`: experiments on margin models, from simulated markets to a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.arguments import SEED, FiniteRange, require_writable
from exchange.cli.study_calibration import calibration
from exchange.cli.study_garch import garch

if TYPE_CHECKING:
    from rich.table import Table

    from replays.procyclicality import Row

HEADINGS = (
    "model", "factor", "breach %", "Kupiec pass", "peak/trough", "1/5/20/30 d rise %",
    "after 1/5/20/60 d", "mean margin %", "shortfall %", "cost %", "effect %",
)  # fmt: skip


@click.group("study")
def command() -> None:
    """Experiments on margin models."""


command.add_command(calibration)
command.add_command(garch)


@command.command("procyclicality")
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
        Console(width=170).print(_table(rows))
    if plot is not None:
        _plot(rows, plot)
        click.echo(f"plot: {plot}", err=as_json)


def _table(rows: list[Row]) -> Table:
    from rich.table import Table

    from replays.procyclicality import PLAIN

    plain = next(row for row in rows if row.name == PLAIN)
    table = Table(title="margin models at one breach rate")
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "model" else "right")
    for row in rows:
        table.add_row(
            row.name, f"{row.multiple:.2f}", f"{100 * row.breach_share:.2f}",
            f"{row.kupiec_pass_share:.2f}", f"{row.peak_to_trough:.2f}",
            " ".join(f"{100 * x:.0f}" for x in row.rises),
            " ".join(f"{x:.2f}" for x in row.response), f"{100 * row.mean_margin:.2f}",
            f"{100 * row.mean_shortfall:.2f}",
            f"{100 * (row.mean_margin / plain.mean_margin - 1):+.1f}",
            f"{100 * (row.peak_to_trough / plain.peak_to_trough - 1):+.0f}",
        )  # fmt: skip
    return table


def _plot(rows: list[Row], path: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Scatter(
            x=[100 * row.mean_margin for row in rows],
            y=[row.peak_to_trough for row in rows],
            text=[row.name for row in rows],
            mode="markers+text",
            textposition="top center",
        )
    )
    figure.update_layout(
        title="What calm costs: procyclicality against margin, at one breach rate",
        xaxis_title="mean margin, % of notional",
        yaxis_title="peak over trough of a fixed position's margin (median path)",
        template="plotly_white",
    )
    figure.write_html(path, include_plotlyjs=True)
