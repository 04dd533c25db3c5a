"""`uncross stress`: what a portfolio or a market loses in stresses, and which move breaks it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exchange.cli.arguments import (
    READ_FILE,
    READ_FILE_OR_DASH,
    VENUE,
    StressFile,
    Words,
    require_writable,
)

if TYPE_CHECKING:
    from exchange.core.venue import Venue
    from exchange.market_stress import MarketStress
    from exchange.portfolios.file import Portfolio
    from exchange.portfolios.stress import Needs, PortfolioStress
    from margin.book import Book
    from margin.pools.collateral import AnyHaircuts
    from margin.presets.preset import Preset
    from margin.stresses.stress import Stress

DEFAULT_MODEL = "ps-1"


@click.command("stress")
@click.argument("portfolio", required=False, type=READ_FILE_OR_DASH)
@click.option("--journal", type=READ_FILE,
              help="Stress the market of this journal in place of a portfolio.")  # fmt: skip
@click.option("--cycle", type=click.IntRange(min=0),
              help="The market at the end of this cycle (the journal's end).")  # fmt: skip
@click.option("--stress", "wanted", type=StressFile(), multiple=True, metavar="NAME|FILE.toml",
              help="A stress that ships, or a file of your own; may be given again (all that "
              "ship).")  # fmt: skip
@click.option("--model", type=Words(), help="Margin model in place of the file's or the venue's: "
              "a name, or a preset of your own, a file that ends in .toml.")  # fmt: skip
@click.option("--venue", type=VENUE,
              help="Take contracts, lots and opening marks of this venue or venue file "
              "in place of the portfolio's market.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False),
              help="Draw it in this HTML file.")  # fmt: skip
def command(
    portfolio: Path | None, journal: Path | None, cycle: int | None, wanted: tuple[str, ...],
    model: str | None, venue: str | None, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    """Price PORTFOLIO, a JSON file (- reads standard input), again in days of the past.

    Prints loss, equity and standing in every stress, and the smallest fall and rise of each
    underlying, and of all together, that end in a margin call, in liquidation and below zero.

    With --journal the same of a market: what accounts would owe beyond their equity, who, what the
    insurance fund would have left, and the smallest move that exhausts it.

    Begin with `uncross margin --example > portfolio.json`.
    """
    if (portfolio is None) == (journal is None):
        raise click.UsageError("name a portfolio file, or a journal with --journal")
    if journal is None and cycle is not None:
        raise click.UsageError("--cycle is about a --journal")
    if journal is not None and venue is not None:
        raise click.UsageError("--venue is about a portfolio: a journal has a venue of its own")
    require_writable(plot, "--plot", portfolio, journal, venue, *wanted)
    stresses = read_stresses(wanted)
    found: PortfolioStress | MarketStress
    if journal is not None:
        found = market_stress(journal, cycle, model, stresses)
    else:
        assert portfolio is not None
        found = portfolio_stress(portfolio, model, venue, stresses)
    if plot is not None:
        from exchange.cli.stress_plot import write_plot

        write_plot(plot, found)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    from exchange.cli.stress_view import stress_lines

    click.echo("\n".join(stress_lines(found)))
    if plot is not None:
        click.echo(f"\ndrawn in {plot}")


def read_stresses(wanted: tuple[str, ...]) -> list[Stress]:
    """Stresses by name or from files, in the order given; all that ship if none is.

    What ends in .toml is a file. Raises `StressError`, which names the file and the key, and
    `OSError`.
    """
    from exchange.portfolios.stress import AS_IT_STANDS
    from margin.stresses import StressError, load_stress, parse_stress, stress_names

    found: dict[str, Stress] = {}
    for text in wanted or stress_names():
        if text.endswith(".toml"):
            try:
                stress = parse_stress(Path(text).read_text("utf-8"), source=text)
            except UnicodeDecodeError:
                raise StressError(f"{text}: is no UTF-8 text") from None
        else:
            try:
                stress = load_stress(text)
            except StressError as error:
                raise StressError(f"{error}; a file's name ends in .toml") from None
        if stress.name == AS_IT_STANDS:
            raise StressError(f"{text}: name: {AS_IT_STANDS!r} is the row of no stress at all")
        if found.setdefault(stress.name, stress) is not stress:
            raise StressError(f"{text}: name: there are two stresses {stress.name!r}")
    return list(found.values())


def market_stress(
    journal: Path, cycle: int | None, model: str | None, stresses: list[Stress]
) -> MarketStress:
    """The market of a journal under stress.

    Raises `JournalDiffers`, `PresetError` and `VenueError`.
    """
    from exchange.cli.progress import record_progress
    from exchange.cli.warm_up import warm_up_with_line
    from exchange.market_stress import stressed_market
    from margin.models.venue_models import venue_model
    from margin.presets import is_file_name
    from replays.journal_state import engine_after

    file = venue_model(model) if model is not None and is_file_name(model) else None
    warm_up_with_line()
    with record_progress("reading the journal") as advance:
        engine = engine_after(journal, cycle, advance)
    preset = file
    if model is not None and file is None:  # the venue's own has to be known first
        preset = judging_model(engine.state.venue, model)
    return stressed_market(engine, stresses, preset)


def judging_model(venue: Venue, name: str) -> Preset:
    """The model of a name that can judge a venue: one of its own, or one that can charge any.

    `PresetError` says what there is instead.
    """
    from margin.models.venue_models import FLOOR, venue_model, venue_model_names
    from margin.presets import PresetError

    own, others = {preset.name: preset for preset in reversed(venue.presets())}, venue_model_names()
    if name in own:
        return own[name]
    if name.removesuffix(FLOOR) not in others:
        known = ", ".join(dict.fromkeys([*own, *others]))
        raise PresetError(f"no model {name!r}; there are {known}, and files that end in .toml")
    return venue_model(name)


def portfolio_stress(
    path: Path, model: str | None, venue_name: str | None, stresses: list[Stress]
) -> PortfolioStress:
    """A file's portfolio under stress. Raises `PortfolioError`, `VenueError` and `PresetError`."""
    from exchange.portfolios.book import build_book
    from exchange.portfolios.file import PortfolioError, read_portfolio
    from exchange.portfolios.stress import stressed_portfolio
    from exchange.venues import load_venue
    from margin.invariant import InvariantBroken

    venue = None if venue_name is None else load_venue(venue_name)
    source = "standard input" if str(path) == "-" else str(path)
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except UnicodeDecodeError:
        raise PortfolioError(f"{source}: is no UTF-8 text") from None
    portfolio = read_portfolio(text, source, venue)
    try:
        book = build_book(portfolio)
        return stressed_portfolio(book, *model_of(portfolio, book, model), stresses)
    except (PortfolioError, InvariantBroken, OverflowError) as error:
        if isinstance(error, PortfolioError):
            raise PortfolioError(f"{source}: {error}") from None
        raise PortfolioError(f"{source}: positions: too large to be added exactly") from None


def model_of(portfolio: Portfolio, book: Book, model: str | None) -> tuple[str, Needs, AnyHaircuts]:
    """The model that is asked for (the option's, the file's, the venue's): its name, what it needs
    of a book, and its haircuts by currency. What the option names and ends in .toml is a file.
    Raises `PresetError` where there is no such model.
    """
    import numpy as np

    from exchange.portfolios.file import PortfolioError
    from margin.book import book_haircuts
    from margin.models.standard_constants import load_standard
    from margin.models.venue_models import venue_model
    from margin.presets import PresetError, is_file_name
    from margin.reasons.explain_formula import (
        INPUTS,
        FormulaModel,
        FormulaRefused,
        explain_formula,
        refusal_of_name,
    )

    venue = portfolio.market.venue
    presets = () if venue is None else venue.presets()
    own = {preset.name: preset for preset in reversed(presets)}
    name = model or portfolio.model or (presets[0].name if presets else DEFAULT_MODEL)
    if name not in INPUTS:
        preset = own.get(name)
        if preset is None:
            refusal = "" if model is not None and is_file_name(model) else refusal_of_name(name)
            if refusal:
                raise PresetError(refusal)
            preset = venue_model(name)
        return preset.name, preset_needs(preset, book), book_haircuts(preset, book)
    formula, constants = FormulaModel(name, portfolio.model_inputs.get(name, {})), load_standard()

    def by_formula(there: Book) -> tuple[int, int]:
        try:
            found = explain_formula(formula, there, distances=False)
        except FormulaRefused as error:
            raise PortfolioError(str(error)) from None
        return found.initial_minor, found.maintenance_minor

    rates = [constants.haircut_ppb(currency) for currency in book.currency_names]
    return name, by_formula, np.array(rates, np.int64)


def preset_needs(preset: Preset, book: Book) -> Needs:
    """What a preset needs of books of the same instruments, with its add-ons where they apply."""
    from exchange.cli.margin import opening_growth
    from margin.reasons.explain import margins_of
    from margin.reasons.pool_model import PoolModel, finest_exponent

    models: dict[int, PoolModel] = {}

    def by_model(there: Book) -> tuple[int, int]:
        exponent = finest_exponent(preset, there)
        if exponent not in models:
            models[exponent] = PoolModel(preset, book, exponent)
        found = models[exponent].requirements(there)
        return int(found.initial_minor[0]), int(found.maintenance_minor[0])

    def anew(there: Book) -> tuple[int, int]:
        return margins_of(preset, there, growth_ppb=opening_growth(preset, there))

    has_add_ons = any((preset.liquidity, preset.gamma, preset.funding))
    explained = has_add_ons and book.conditions is not None
    floor = preset.predictive is not None and preset.predictive.floor
    other = explained or floor or preset.history is not None or preset.standard is not None
    return anew if other else by_model
