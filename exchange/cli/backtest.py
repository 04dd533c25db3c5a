"""`uncross backtest`: margin models against a history of prices."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.arguments import READ_FILE, FiniteRange, require_writable
from margin.fixed_point import NS_PER_DAY

if TYPE_CHECKING:
    from replays.backtest import Run
    from replays.forecast import Terms
    from replays.price_file import PriceSeries

MODELS = "fhs,ewma-0.94,ewma-0.97,ewma-0.99,flat"
REJECTED = 0.05  # p-values below are marked
HEADINGS = ("model", "periods", "breaches", "rate", "Kupiec LR", "p", "indep. p", "cond. p",
            "ES Z2", "margin", "peak/trough")  # fmt: skip
BLOCKS = (range(1, 6), (6, 7), range(8, 11))
NS_PER_HOUR = 3600 * 10**9
WORST = "worst"
TITLES = {
    "long": "one coin long",
    "short": "one coin short",
    "straddle": "30-day at-the-money straddle short, rolled every period",
}
OWN_MARKS = (
    "The file has no column iv: straddles are marked at each model's own forecast volatility, so "
    "that their losses differ by model."
)
FILE_MARKS = "Straddles are marked at the column iv of the file."


@click.command("backtest")
@click.argument("prices", type=READ_FILE)
@click.option("--column", help="Price column; else the first of close, Adj_Close, Value.")
@click.option("--confidence", type=FiniteRange(0.9, 0.9999), default=0.99, show_default=True,
              help="Part of all periods that a margin should cover, to four places.")  # fmt: skip
@click.option("--models", default=MODELS, show_default=True,
              help="Comma-separated: fhs, fhs-DECAY, ewma-DECAY, flat.")  # fmt: skip
@click.option("--window", type=click.IntRange(100, 100_000), default=500, show_default=True,
              help="Returns that are scenarios of fhs and flat.")  # fmt: skip
@click.option("--horizon", "horizon_days", type=FiniteRange(0, 28, min_open=True),
              help="Days that a margin covers: whole periods of the file (one).")  # fmt: skip
@click.option("--floor", "floor_share", type=FiniteRange(0, 2), default=0, show_default=True,
              help="Of fhs: the least volatility that returns are brought to, as a share of that "
              "of all returns so far.")  # fmt: skip
@click.option("--stress-weight", type=FiniteRange(0, 0.95), default=0, show_default=True,
              help="Of fhs: the weight of a stressed period's returns, as they happened, to two "
              "places.")  # fmt: skip
@click.option("--stressed", metavar="FROM..TO|worst",
              help="That period: two dates (UTC), counted once it is over, or the 60 returns so "
              "far that moved most (worst).")  # fmt: skip
@click.option("--allow-gaps", is_flag=True,
              help="Take what follows a missing period as its next return.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path),
              help="Write margins, losses and breaches to this HTML file.")  # fmt: skip
def command(
    prices: Path, column: str | None, confidence: float, models: str, window: int,
    horizon_days: float | None, floor_share: float, stress_weight: float, stressed: str | None,
    allow_gaps: bool, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    """Test margin models against the file PRICES (.csv, .csv.gz or .parquet), out of sample.

    The margin of every period comes from the prices before it and meets what happened next: one
    coin long, one short, and a short straddle of 30 days. Tests: number of breaches (Kupiec),
    their independence (Christoffersen), depth beyond the margin (Acerbi and Szekely).
    """
    from exchange.cli.progress import record_progress
    from replays.backtest import run_backtest
    from replays.forecast import ModelError
    from replays.price_file import PriceFileError, read_prices

    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    require_writable(plot, "--plot", prices)
    if not names:
        raise click.BadParameter("name at least one model", param_hint="--models")
    try:
        series = read_prices(prices, column, allow_gaps)
        terms = terms_of(series, horizon_days, floor_share, stress_weight, stressed)
        with record_progress("models") as advance:
            runs = run_backtest(series, names, confidence, window, advance, terms)
    except PriceFileError as error:
        raise click.ClickException(str(error)) from None
    except ModelError as error:
        raise click.ClickException(f"{prices.name}: {error}") from None
    notes = conditions(prices.name, series, confidence, window, runs[0])
    notes |= {
        "horizon_hours": terms.horizon * series.step_ns / NS_PER_HOUR,
        "floor_share": floor_share,
        "stress_weight": terms.stress_weight,
        "stressed": (stressed or WORST) if terms.stress_weight else None,
    }
    if as_json:
        import json

        click.echo(json.dumps({**notes, "runs": [finite(run.figures()) for run in runs]}, indent=2))
    else:
        print_report(notes, runs)
    if plot is not None:
        from exchange.cli.backtest_plot import write_plot

        write_plot(plot, f"{prices.name}, {confidence:.2%}", runs)
        click.echo(f"wrote {plot}", err=True)


def terms_of(
    series: PriceSeries, horizon_days: float | None, floor_share: float, stress_weight: float,
    stressed: str | None,
) -> Terms:  # fmt: skip
    """What the options ask of the models. `click.BadParameter` says which of them cannot be."""
    from replays.forecast import Terms

    horizon = 1
    if horizon_days is not None:
        periods = horizon_days * NS_PER_DAY / series.step_ns
        horizon = round(periods)
        if horizon < 1 or abs(periods - horizon) > 1e-9 * horizon:
            raise click.BadParameter(
                f"{horizon_days:g} days are no whole number of the file's periods of "
                f"{series.step_ns / NS_PER_HOUR:g} h", param_hint="--horizon",
            )  # fmt: skip
    if round(stress_weight, 2) != stress_weight:
        raise click.BadParameter(
            f"{stress_weight} has more than two places", param_hint="--stress-weight"
        )
    if stressed is not None and not stress_weight:
        raise click.BadParameter("needs --stress-weight above 0", param_hint="--stressed")
    rows = None
    if stressed not in (None, WORST):
        rows = stressed_rows(series, stressed, horizon)
    return Terms(horizon, floor_share, stress_weight, rows)


def stressed_rows(series: PriceSeries, text: str, horizon: int) -> tuple[int, int]:
    """The returns of FROM..TO, both days inside: first, and past the last."""
    import numpy as np

    first, dots, last = text.partition("..")
    try:
        days = [datetime.date.fromisoformat(part.strip()) for part in (first, last)]
    except ValueError:
        days = []
    if not dots or not days or days[0] > days[1]:
        raise click.BadParameter(
            f"{text!r} is neither {WORST} nor two dates, such as 2020-03-01..2020-04-30",
            param_hint="--stressed",
        )
    epoch = datetime.date(1970, 1, 1)
    begins, ends = (days[0] - epoch).days, (days[1] - epoch).days + 1
    ended = series.time_ns[1:] // NS_PER_DAY  # return t ends at price t + 1
    inside = np.flatnonzero((ended >= begins) & (ended < ends))
    if len(inside) == 0 or int(inside[0]) < horizon - 1:
        raise click.BadParameter(
            f"{text}: the file has no such returns, with what a horizon needs before them",
            param_hint="--stressed",
        )
    return int(inside[0]), int(inside[-1]) + 1


def terms_line(notes: dict[str, Any]) -> str:
    """What differs from the plain models, in words; "" where nothing does."""
    told = []
    if notes["horizon_hours"] != notes["period_hours"]:
        told.append(f"margins cover {notes['horizon_hours'] / 24:g} days and are tested as often")
    if notes["floor_share"]:
        told.append(f"fhs: volatility at least {notes['floor_share']:.0%} of that so far")
    if notes["stress_weight"]:
        period = notes["stressed"]
        told.append(
            f"fhs: {notes['stress_weight']:.0%} of the weight on "
            + ("the 60 worst returns so far" if period == WORST else f"{period}, once it is over")
        )
    return "; ".join(told)


def conditions(
    name: str, series: PriceSeries, confidence: float, window: int, run: Run
) -> dict[str, Any]:
    """What the figures are about."""
    import numpy as np

    first, last = run.time_ns[[0, -1]].astype("datetime64[ns]")
    return {
        "file": name,
        "column": series.column,
        "prices": len(series.price_e8),
        "period_hours": series.step_ns / NS_PER_HOUR,
        "gaps": series.gaps,
        "first_tested": str(np.datetime_as_string(first, unit="s")),
        "last_tested": str(np.datetime_as_string(last, unit="s")),
        "confidence": confidence,
        "window": window,
        "straddle_marks": "model" if series.volatility_e9 is None else "iv",
    }


def finite(figures: dict[str, Any]) -> dict[str, Any]:
    """Figures as JSON can say them: an infinite ratio becomes null."""
    return {k: None if v == float("inf") else v for k, v in figures.items()}


def print_report(notes: dict[str, Any], runs: list[Run]) -> None:
    """Tables of every portfolio, conditions above and explanations below."""
    from functools import partial

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from exchange.cli.tables import rich_tables

    console = Console(highlight=False)
    console.print(
        f"{notes['file']}, column {notes['column']}: {notes['prices']:,} prices every "
        f"{notes['period_hours']:g} h; margins at {notes['confidence']:.2%} tested from "
        f"{notes['first_tested']} to {notes['last_tested']} (UTC)",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    if terms_line(notes):
        console.print(terms_line(notes), soft_wrap=True, markup=False)
    for portfolio, title in TITLES.items():
        blank = partial(Table, title=title, title_justify="left", box=SIMPLE_HEAD,
                        padding=(0, 1, 0, 0))  # fmt: skip
        figures = [run.figures() for run in runs if run.portfolio == portfolio]
        for table in rich_tables(HEADINGS, [cells(row) for row in figures], BLOCKS, blank):
            console.print(table)
    expected = 1 - notes["confidence"]
    console.print(
        f"rate should be {expected:.2%}. p: Kupiec (number of breaches), indep. and cond.: "
        f"Christoffersen (independence; number and independence); below {REJECTED:g} the model is "
        f"rejected. ES Z2 should be 0, rejected above {figures[0]['shortfall_critical_95']:.2f}. "
        "margin: average, of the price. peak/trough: largest over smallest margin.",
        soft_wrap=True,
    )
    console.print(OWN_MARKS if notes["straddle_marks"] == "model" else FILE_MARKS, soft_wrap=True)


def cells(row: dict[str, Any]) -> list[str]:
    """A row of a table; what is rejected is red."""

    def p_value(key: str) -> str:
        text = f"{row[key]:.3f}"
        return f"[red]{text}[/red]" if row[key] < REJECTED else text

    depth = f"{row['shortfall_z2']:+.2f}"
    if row["shortfall_z2"] > row["shortfall_critical_95"]:
        depth = f"[red]{depth}[/red]"
    return [
        row["model"], f"{row['observations']:,}", f"{row['breaches']:,}",
        f"{row['breach_rate']:.2%}", f"{row['kupiec_lr']:.2f}", p_value("kupiec_p"),
        p_value("independence_p"), p_value("conditional_coverage_p"), depth,
        f"{row['average_margin']:.2%}", f"{row['peak_to_trough']:.1f}",
    ]  # fmt: skip
