"""`uncross study calibration`: how often pools are called when the venue says how likely it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from exchange.cli.arguments import READ_FILE, SEED, FiniteRange, require_writable

if TYPE_CHECKING:
    from rich.table import Table

    from replays.calibration import Study
    from replays.watched_pools import Setting

HEADINGS = ("forecast", "count", "mean forecast", "observed")


@click.command("calibration", short_help="Forecast chances of a margin call against what happened.")
@click.argument("prices", nargs=-1, type=READ_FILE)
@click.option("--column", help="Price column; else the first of close, Adj_Close, Value.")
@click.option("--paths", default=200, show_default=True, type=click.IntRange(1, 10_000),
              help="Simulated, if no PRICES are named.")  # fmt: skip
@click.option("--seed", type=SEED, default=7, show_default=True, help="Of the simulated paths.")
@click.option("--cycles", default=24, show_default=True, type=click.IntRange(1, 1000),
              help="Of a horizon, one a period of the prices.")  # fmt: skip
@click.option("--decay", default=0.97, show_default=True,
              type=FiniteRange(0, 1, min_open=True, max_open=True),
              help="Of the EWMA forecast, per period.")  # fmt: skip
@click.option("--garch", metavar="ALPHA,BETA,ANNUAL",
              help="A GARCH forecast instead, e.g. 0.08,0.91,0.57 (see study garch).")  # fmt: skip
@click.option("--allow-gaps", is_flag=True,
              help="Take what follows a missing period as its next return.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
              help="Observed frequency against forecast.")  # fmt: skip
def calibration(
    prices: tuple[Path, ...], column: str | None, paths: int, seed: int, cycles: int, decay: float,
    garch: str | None, allow_gaps: bool, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    """Forecast probabilities of a margin call against what happened.

    On simulated hourly GARCH paths with fat tails, or on recorded PRICES (.csv, .csv.gz, .parquet;
    a cycle a row). Pools long, short and short a straddle (recorded prices: futures only), each
    with cushions of 0.5 % to 9 % over initial margin under ps-1-dynamic, are watched by the engine;
    what its early warning says at the beginning of a horizon meets what happens within it. Brier
    score: mean square of forecast less outcome, against that of the base rate said every time.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from exchange.cli.progress import record_progress
    from replays.calibration import study_paths, study_prices
    from replays.price_file import PriceFileError, read_prices

    require_writable(plot, "--plot", *prices)
    if prices:
        _refuse_of_simulation()
    setting = _setting(cycles, decay, garch)
    studies: list[Study] = []
    try:
        with record_progress("watched") as advance:
            if not prices:
                studies.append(study_paths(paths, seed, setting, advance))
            for path in prices:
                series = read_prices(path, column, allow_gaps)
                studies.append(study_prices(path.name, series, setting, advance))
    except PriceFileError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps([asdict(study) for study in studies], indent=2))
    else:
        console = Console(highlight=False)
        for study in studies:
            console.print(_table(study))
            console.print(_scores(study), soft_wrap=True)
    if plot is not None:
        _plot(studies, plot)
        click.echo(f"wrote {plot}", err=True)


def _refuse_of_simulation() -> None:
    """Refuse options about simulated paths beside recorded prices."""
    context = click.get_current_context()
    for name in ("paths", "seed"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(f"--{name} is about simulated paths: leave it, or the PRICES")


def _setting(cycles: int, decay: float, garch: str | None) -> Setting:
    from replays.watched_pools import Setting

    terms = None
    if garch is not None:
        try:
            alpha, beta, annual = (round(float(part) * 10**9) for part in garch.split(","))
        except ValueError:
            raise click.BadParameter(
                "three numbers: ALPHA,BETA,ANNUAL", param_hint="--garch"
            ) from None
        if min(alpha, beta) < 0 or alpha + beta >= 10**9 or not 0 < annual <= 20 * 10**9:
            raise click.BadParameter(
                "needs alpha + beta below 1 and a volatility of 0 to 20", param_hint="--garch"
            )
        terms = (alpha, beta, annual)
    return Setting(
        cycles=cycles, decay_ppb=min(10**9 - 1, max(1, round(decay * 10**9))), garch=terms
    )


def _table(study: Study) -> Table:
    from rich.table import Table

    table = Table(
        title=f"{study.source}: called within {study.cycles} cycles of {study.period_s} s"
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="right")
    for row in study.whole.bins:
        table.add_row(
            f"{100 * row.low:g} to {100 * row.high:g} %", f"{row.count:,}",
            f"{100 * row.mean_forecast:.2f} %", f"{100 * row.observed:.2f} %",
        )  # fmt: skip
    return table


def _scores(study: Study) -> str:
    whole = study.whole
    parts = [
        f"{study.horizons:,} horizons, {whole.count:,} forecasts: mean "
        f"{100 * whole.mean_forecast:.2f} %, observed {100 * whole.observed:.2f} %",
        f"Brier {whole.brier:.4f}, base rate {whole.base_brier:.4f}",
        f"skill {100 * whole.skill:.1f} %",
        f"base rate of each position and cushion {study.cell_brier:.4f}",
    ]
    parts += [
        f"{name}: Brier {found.brier:.4f} of {found.base_brier:.4f}"
        for name, found in study.by_position.items()
    ]
    return "; ".join(parts)


def _plot(studies: list[Study], path: Path) -> None:
    import plotly.graph_objects as go

    figure = go.Figure(
        go.Scatter(x=[0, 100], y=[0, 100], mode="lines", name="perfect", line={"dash": "dot"})
    )
    for study in studies:
        figure.add_scatter(
            x=[100 * row.mean_forecast for row in study.whole.bins],
            y=[100 * row.observed for row in study.whole.bins],
            text=[f"{row.count:,} forecasts" for row in study.whole.bins],
            mode="markers+lines", name=study.source,
        )  # fmt: skip
    figure.update_layout(
        title="Margin calls: how often they came when they were said to be so likely",
        xaxis_title="forecast probability, %", yaxis_title="observed frequency, %",
        template="plotly_white",
    )  # fmt: skip
    figure.write_html(path, include_plotlyjs=True)
