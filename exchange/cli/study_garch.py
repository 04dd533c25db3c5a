"""`uncross study garch`: a GARCH(1,1) fitted to prices, in the words of a preset."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("garch")
@click.argument("prices", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--column", help="Price column; else the first of close, Adj_Close, Value.")
@click.option("--allow-gaps", is_flag=True,
              help="Take what follows a missing period as its next return.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def garch(prices: Path, column: str | None, allow_gaps: bool, as_json: bool) -> None:
    """Fit GARCH(1,1) to the file PRICES (.csv, .csv.gz or .parquet) for a preset's [dynamic].

    Prints the lines for a preset of your own: a file with base = "ps-1-dynamic" and without =
    ["dynamic.ewma"], whose other decays are of the same period. Needs the extra `arch`.
    """
    import json
    from dataclasses import asdict

    from replays.garch_fit import FitError, fit_garch
    from replays.price_file import PriceFileError, read_prices

    try:
        fit = fit_garch(read_prices(prices, column, allow_gaps))
    except (PriceFileError, FitError) as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        click.echo(json.dumps({"file": prices.name, **asdict(fit), "toml": fit.toml()}, indent=2))
        return
    click.echo(
        f"# {prices.name}: {fit.returns:,} returns of {fit.period_s} s, log likelihood "
        f"{fit.log_likelihood:,.1f}\n"
        f"# the engine's integers: alpha {fit.alpha_ppb}, beta {fit.beta_ppb} ppb, long run "
        f"{fit.long_run_e9} x 10^-9 a year;\n"
        f"# their volatility is at most {fit.worst_difference:.2e} of itself away from arch's, on "
        f"average {fit.mean_difference:.2e}"
    )
    click.echo(fit.toml(), nl=False)
