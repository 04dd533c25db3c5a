"""`uncross demo`: a story on a live market, from the first batch to the summary."""

from __future__ import annotations

from pathlib import Path

import click

from exchange.cli.arguments import READ_FILE, SEED, STORY, VENUE, require_writable


@click.command("demo")
@click.option("--story", "story_name", type=STORY, default="2025-10-10", show_default=True,
              help="A story that ships, or a TOML file.")  # fmt: skip
@click.option("--seed", type=SEED, default=7, show_default=True,
              help="Chance: the crowd, the way between the knots, the lottery.")  # fmt: skip
@click.option(
    "--cycles", type=click.IntRange(min=1), help="How many batches; the story's if not given."
)
@click.option("--fast", is_flag=True, help="Do not wait between batches.")
@click.option("--in-process", is_flag=True,
              help="Bots in this process, not over sockets: repeatable bit for bit.")  # fmt: skip
@click.option(
    "--venue",
    "venue_name",
    type=VENUE,
    help="A venue that ships, or a TOML file, instead of the story's.",
)
@click.option(
    "--index", type=READ_FILE,
    help="A CSV file of index values (time,BTC,ETH,SOL) instead of the story's path.",
)  # fmt: skip
@click.option("--summary", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the figures to this JSON file.")  # fmt: skip
@click.option("--journal", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the journal to this new file; a temporary one if not given.")  # fmt: skip
def command(
    story_name: str, seed: int, cycles: int | None, fast: bool, in_process: bool,
    venue_name: str | None, index: Path | None, summary: Path | None, journal: Path | None,
) -> None:  # fmt: skip
    """Open a market, let a crowd of bots trade through a story, and sum it up.

    The bots are WebSocket clients in a second process. With --in-process they are not, and the same
    story, venue, seed and cycles always give the same state hash. Without --fast about two batches
    a second are shown live in the terminal.
    """
    require_writable(summary, "--summary", story_name, venue_name, index, journal)
    from exchange.cli.demo_run import DemoRequest, run_demo

    run_demo(
        DemoRequest(story_name, seed, cycles, fast, in_process, venue_name, index, summary, journal)
    )
