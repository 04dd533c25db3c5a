"""`uncross margin`: what a portfolio needs under a margin model, and why."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.arguments import READ_FILE_OR_DASH, VENUE, Words, require_writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from exchange.core.venue import Venue
    from exchange.portfolios.file import Portfolio
    from margin.book import Book
    from margin.presets.preset import Preset
    from margin.reasons.explanation import Explanation

DEFAULT_MODEL = "ps-1"
INTERVAL_NS = 5 * 10**9  # between batches, where a portfolio's market does not say


@click.command("margin")
@click.argument("portfolio", required=False, type=READ_FILE_OR_DASH)
@click.option("--model", type=Words(),
              help="Margin model instead of the file's or the venue's (ps-1): a preset, "
              "fhs-es, a name that forecasts with +floor, one given by formulas, such as standard "
              "or lognormal-es, or a preset of your own, a file that ends in .toml.")  # fmt: skip
@click.option("--venue", type=VENUE,
              help="Take contracts, lots and opening marks of this venue or venue file "
              "in place of the portfolio's market.")  # fmt: skip
@click.option("--what-if", "changes",
              help="Changes by comma, left to right: BTC_USDC-PERPETUAL:+2 (trade at the mark), "
              "USDC:-1000 (money in or out), BTC:spot=-10%, BTC:vol=+25%.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the explanation as JSON.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False),
              help="Draw the scenarios, or the charges where there are none, in this HTML "
              "file.")  # fmt: skip
@click.option("--example", is_flag=True, help="Print a portfolio to begin with, and end.")
def command(
    portfolio: Path | None, model: str | None, venue: str | None, changes: str | None,
    as_json: bool, plot: Path | None, example: bool,
) -> None:  # fmt: skip
    """Explain the margin of PORTFOLIO, a JSON file (- reads standard input).

    Prints initial and maintenance margin, equity, the worst scenario and all others of every
    underlying, each position's part, each charge and haircut, and how far a margin call and a
    liquidation are. With --what-if the figures before and after stand side by side.

    Begin with `uncross margin --example > portfolio.json`.
    """
    from exchange.portfolios.file import example_text

    if example:
        click.echo(example_text(), nl=False)
        return
    if portfolio is None:
        raise click.UsageError("name a portfolio file, or print one with --example")
    require_writable(plot, "--plot", portfolio, venue)
    found = explanations(portfolio, model, venue, changes)
    drawn = ""
    if plot is not None:
        from exchange.cli.margin_plot import write_plot

        drawn = write_plot(plot, found, changes)
    if as_json:
        click.echo(json_text(found, changes))
        return
    from exchange.cli.margin_view import comparison_lines, explanation_lines

    lines = explanation_lines(found[-1]) if len(found) == 1 else []
    if len(found) == 2:
        lines = [*comparison_lines(changes or "", found[0], found[1]), "", "after the changes", "",
                 *explanation_lines(found[1])]  # fmt: skip
    click.echo("\n".join(lines))
    if plot is not None:
        click.echo(f"\n{drawn} drawn in {plot}")


def explanations(
    path: Path, model: str | None, venue_name: str | None, changes_text: str | None
) -> list[Explanation]:
    """The explanation of a file, and of what changes make of it (if there are any).

    Raises `PortfolioError`, `VenueError` and `PresetError`.
    """
    from exchange.cli.warm_up import explaining_modules, warm_up_with_line
    from exchange.portfolios.book import build_book
    from exchange.portfolios.file import PortfolioError, read_portfolio
    from exchange.portfolios.what_if import explained_after, read_changes, traded_in
    from exchange.venues import load_venue

    venue = None if venue_name is None else load_venue(venue_name)
    source = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except UnicodeDecodeError:
        raise PortfolioError(f"{source}: is no UTF-8 text") from None
    portfolio = read_portfolio(text, source, venue)
    explained = explainer(portfolio, venue, model)
    if sys.stderr.isatty():  # elsewhere nobody watches, and each kernel compiles when it is called
        warm_up_with_line(explaining_modules())
    try:
        changes = read_changes(changes_text, portfolio) if changes_text is not None else ()
        book = build_book(portfolio, traded_in(changes))
        found = [explained(book)]
        if changes:
            found.append(explained_after(book, changes, explained))
        return found
    except PortfolioError as error:
        raise PortfolioError(f"{source}: {error}") from None


def explainer(
    portfolio: Portfolio, venue: Venue | None, model: str | None
) -> Callable[[Book], Explanation]:
    """What explains books under the model that is asked for: the option's, the file's, the venue's.

    What the option names and ends in .toml is a file. Raises `PresetError` where there is no such
    model.
    """
    from exchange.portfolios.book import exponent_of, largest_part
    from exchange.portfolios.file import PortfolioError
    from margin.invariant import InvariantBroken
    from margin.models.venue_models import venue_model
    from margin.presets import PresetError, is_file_name
    from margin.reasons.explain import explain
    from margin.reasons.explain_formula import (
        INPUTS,
        FormulaModel,
        FormulaRefused,
        explain_formula,
        refusal_of_name,
    )

    name = model or portfolio.model
    if venue is not None and name is None:
        name = venue.preset.name
    name = name or DEFAULT_MODEL
    own = venue is not None and name == venue.preset.name
    if not own and not (model is not None and is_file_name(model)):
        refusal = refusal_of_name(name)
        if refusal:
            raise PresetError(f"{refusal}; --model takes a file that ends in .toml as well")

    def by_formula(book: Book) -> Explanation:
        formula = FormulaModel(name, portfolio.model_inputs.get(name, {}))
        try:
            return explain_formula(formula, book)
        except FormulaRefused as error:
            raise PortfolioError(str(error)) from None
        except InvariantBroken:
            raise PortfolioError(f"{largest_part(book)}: too large to be added exactly") from None

    if name in INPUTS:
        return by_formula
    preset = venue.preset if venue is not None and own else venue_model(name)

    def by_preset(book: Book) -> Explanation:
        exponent = exponent_of(preset, book, venue)
        try:
            return explain(preset, book, exponent=exponent, growth_ppb=opening_growth(preset, book))
        except InvariantBroken:  # dates add the profits of all underlyings: less room
            raise PortfolioError(f"{largest_part(book)}: too large to be added exactly") from None

    return by_preset


def opening_growth(preset: Preset, book: Book) -> int:
    """Growth of ranges that the floor of a forecast charges a portfolio, which has no past."""
    from margin.forecasts.opening import opening_growth_ppb

    interval_ns = INTERVAL_NS if book.conditions is None else book.conditions.interval_ns
    return opening_growth_ppb(preset, book.risk_classes, book.marks.now_ns, interval_ns)


def json_text(found: list[Explanation], changes: str | None) -> str:
    """One explanation as it is; two as `changes`, `before`, `after` and what a screen says."""
    import msgspec

    from margin.reasons.explain_dates import screen_asks_for_reprice

    value: object = found[0]
    if len(found) == 2:
        asked = screen_asks_for_reprice(*found)
        value = {"changes": changes, "before": found[0], "after": found[1]}
        value |= {} if asked is None else {"screen_asks_for_reprice": asked}
    return msgspec.json.format(msgspec.json.encode(value)).decode()
