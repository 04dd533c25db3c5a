"""`uncross study window`: real days in place of the dates of `fhs-es`, as a preset of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.arguments import FiniteRange, Words

if TYPE_CHECKING:
    from replays.price_file import PriceSeries


@click.command("window", short_help="Make a preset on the base of fhs-es from price files.")
@click.argument("prices", nargs=-1, required=True, metavar="COIN=FILE...")
@click.option("--volatility", "surfaces", multiple=True, metavar="COIN=FILE",
              help="Implied volatilities of 30 days; without any they stand still.")  # fmt: skip
@click.option("--dates", type=click.IntRange(50, 2_000), default=500, show_default=True,
              help="How many of the latest days count.")  # fmt: skip
@click.option("--stressed", "stressed_dates", type=click.IntRange(5, 500), default=40,
              show_default=True,
              help="How many successive ones of them, the wildest, count once more.")  # fmt: skip
@click.option("--decay", type=FiniteRange(0, 1, min_open=True, max_open=True), default=0.97,
              show_default=True, help="Of the forecast that returns are measured by.")  # fmt: skip
@click.option("--name", type=Words(), default="fhs-days", show_default=True,
              help="What the preset is called.")  # fmt: skip
@click.option("--column", help="Price column; else the first of close, Adj_Close, Value.")
def window(
    prices: tuple[str, ...], surfaces: tuple[str, ...], dates: int, stressed_dates: int,
    decay: float, name: str, column: str | None,
) -> None:  # fmt: skip
    """Print a preset whose dates are those of daily price files (.csv, .csv.gz or .parquet).

    Filtered historical simulation: a row is what all coins did on one day, each over the volatility
    that was forecast for it. Save it as mine.toml, and `uncross margin`, `stress`, `compare-margin`
    and a venue's file take it.
    """
    from margin.presets import PresetError, parse_preset
    from margin.reasons.explain_formula import model_names
    from replays.price_window import WindowError, price_window

    if name in model_names():
        told = f"{name!r} is the name of a model that ships"
        raise click.BadParameter(told, param_hint="--name")
    spot = _histories(prices, column, "COIN=FILE")
    volatility = _histories(surfaces, None, "--volatility")
    try:
        found = price_window(spot, volatility, dates, stressed_dates, decay)
        text = found.toml(name)
        parse_preset(text, source=name)
    except (WindowError, PresetError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(text, nl=False)
    told = f"{dates} days from {found.first} to {found.last}, {found.cut} residuals cut at 6"
    click.echo(told if volatility else f"{told}; volatilities stand still on all of them", err=True)


def _histories(named: tuple[str, ...], column: str | None, hint: str) -> dict[str, PriceSeries]:
    """Price files by coin; wrong usage where one is not named so or cannot be read."""
    from replays.price_file import PriceFileError, read_prices

    found: dict[str, PriceSeries] = {}
    for each in named:
        coin, equals, file = each.partition("=")
        if not (coin.isidentifier() and equals and Path(file).is_file()):
            raise click.BadParameter(f"{each!r} is no COIN=FILE of a file", param_hint=hint)
        if coin in found or coin == "default":
            raise click.BadParameter(f"{coin} is named twice, or no coin", param_hint=hint)
        try:
            found[coin] = read_prices(Path(file), column)
        except PriceFileError as error:
            raise click.ClickException(str(error)) from None
    return found
