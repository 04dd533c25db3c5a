"""One run of the demo: from the request to the summary on the screen."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from exchange.cli import event_loop
from exchange.cli.demo_market import DemoMarket, story_venue
from exchange.cli.demo_view import DemoView
from exchange.cli.progress import terminal_progress
from exchange.cli.summary import print_table, write_summary
from exchange.cli.warm_up import warm_up_with_line
from exchange.coverage import coverage_lines
from exchange.feed import read_feed
from replays.story import Story, load_story

CYCLE_S = 0.5  # wall time of a batch in the live view
REPORT_CYCLES = 25


@dataclass(frozen=True)
class DemoRequest:
    """What the user asked for."""

    story: str
    seed: int
    cycles: int | None
    fast: bool
    in_process: bool
    venue: str | None
    index: Path | None
    summary: Path | None
    journal: Path | None


def run_demo(request: DemoRequest) -> dict[str, Any]:
    """Run the demo and print its summary, which is also returned.

    Raises what `load_story`, `story_venue` and the journal refuse.
    """
    story = load_story(request.story)
    cycles = request.cycles or story.cycles
    if cycles > story.cycles_max:
        raise click.BadParameter(
            f"story {story.name} reaches {story.cycles_max} cycles, not {cycles}",
            param_hint="--cycles",
        )
    venue = story_venue(story, request.venue)
    click.echo(story.title)
    for line in coverage_lines(venue):
        click.echo(f"  {line}")
    warm_up_with_line()
    journal = request.journal or new_journal()
    began = time.perf_counter()
    names = [spec.name for spec in venue.underlyings]
    feed = read_feed(request.index, names) if request.index else None
    market = DemoMarket(story, venue, request.seed, journal, feed, in_process=request.in_process)
    try:
        # In process everything is repeatable, also the order in which a loop wakes its tasks.
        run = asyncio.run if request.in_process else event_loop.run
        run(_play(market, story, cycles, fast=request.fast))
    except KeyboardInterrupt:
        click.echo(f"stopped after cycle {market.engine.cycle}; journal {journal}", err=True)
        raise
    finally:
        market.close()
    figures = {
        "story": story.name,
        "venue": venue.name,
        "seed": request.seed,
        **market.tally.summary(),
        "journal": str(journal),
        "seconds": round(time.perf_counter() - began, 3),
    }
    print_table(story.title, figures)
    click.echo(f"\nNext:\n  uncross verify {journal}")
    click.echo(f"  uncross show {journal} --cycle {market.worst_cycle}")
    if request.summary is not None:
        write_summary(request.summary, figures)
    return figures


def new_journal() -> Path:
    """The path of a journal in a new temporary directory, which stays."""
    return Path(tempfile.mkdtemp(prefix="uncross-")) / "demo.journal"


async def _play(market: DemoMarket, story: Story, cycles: int, *, fast: bool) -> None:
    console = Console()
    if console.is_terminal and not fast:
        await _play_live(market, story, cycles, console)
        return
    with terminal_progress() as progress:
        bar = progress.add_task(f"story {story.name}", total=cycles)
        quiet = progress.disable
        ends = time.perf_counter()

        async def after_cycle() -> None:
            nonlocal ends
            progress.advance(bar)
            cycle = market.engine.cycle
            if quiet and cycle % REPORT_CYCLES == 0:
                click.echo(f"cycle {cycle} of {cycles}", err=True)
            ends = await _pace(ends, fast=fast)

        await market.play(cycles, after_cycle)


async def _play_live(market: DemoMarket, story: Story, cycles: int, console: Console) -> None:
    view = DemoView(story.title, market.engine, market.tally, cycles)
    market.sequencer.listeners.append(view.take)
    view.sample()
    with Live(view.render(), console=console, screen=True, auto_refresh=False) as live:
        ends = time.perf_counter()

        async def after_cycle() -> None:
            nonlocal ends
            view.sample()
            live.update(view.render(), refresh=True)
            ends = await _pace(ends, fast=False)

        await market.play(cycles, after_cycle)


async def _pace(last_end: float, *, fast: bool) -> float:
    """Wait until the batch has had its share of wall time; returns when it ended."""
    if fast:
        return last_end
    now = time.perf_counter()
    await asyncio.sleep(max(0.0, CYCLE_S - (now - last_end)))
    return max(now, last_end + CYCLE_S)
