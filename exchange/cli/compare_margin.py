"""`uncross compare-margin`: one story under several margin models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from exchange.cli.arguments import STORY, require_writable

if TYPE_CHECKING:
    from exchange.cli.compare_run import RunRecord, RunRequest
    from replays.story import Story

MODELS = "ps-1,standard,deribit,fhs-es,ps-1-dynamic,ps-1-dynamic+floor"
SHORT_NAMES = {"fhs": "fhs-es", "predictive": "ps-1-dynamic+floor"}
SEEDS_MOST = 1000


@click.command("compare-margin")
@click.argument("story", type=STORY)
@click.option("--models", default=MODELS, show_default=True,
              help="Comma-separated presets, standard, fhs-es, or files of your own that end in "
              ".toml; a name that forecasts may end in +floor. fhs is fhs-es, predictive is "
              "ps-1-dynamic+floor.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, SEEDS_MOST), default=2, show_default=True,
              help="How many crowds and paths, the same for every model.")  # fmt: skip
@click.option("--first-seed", type=click.IntRange(0, 2**62 - SEEDS_MOST), default=7,
              show_default=True, help="The first of them; the rest follow.")  # fmt: skip
@click.option("--cycles", type=click.IntRange(min=1),
              help="How many batches; the story's if not given.")  # fmt: skip
@click.option("--workers", type=click.IntRange(1, 256),
              help="Processes; one a core if not given.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE.html",
              help="Write margins, calls and the fund over time to this file.")  # fmt: skip
def command(
    story: str, models: str, seeds: int, first_seed: int, cycles: int | None,
    workers: int | None, as_json: bool, plot: Path | None,
) -> None:  # fmt: skip
    """Play STORY (a name that ships, or a TOML file) under several margin models.

    Each model charges the venue in turn, with the same story, crowd and seeds; what differs is
    whom it calls and when. Reports margin over time, calls, cures, breaches, liquidations, use of
    the insurance fund, open interest per margin, and how far margin rises when prices fall. Every
    run is repeatable bit for bit. Ends with 1 if a run failed; the others are still reported.
    """
    import json
    import os

    from exchange.cli.compare_report import report_of
    from exchange.cli.compare_run import RunRequest, refuse_before_running
    from exchange.cli.warm_up import warm_up_with_line
    from replays.story import load_story

    require_writable(plot, "--plot", story)
    names, told = named_models(models), load_story(story)
    count = cycles or told.cycles
    if count > told.cycles_max:
        raise click.BadParameter(
            f"story {told.name} reaches {told.cycles_max} cycles, not {count}",
            param_hint="--cycles",
        )
    refuse_before_running(told, names)
    warm_up_with_line()
    requests = [
        RunRequest(story, name, seed, count)
        for seed in range(first_seed, first_seed + seeds)
        for name in names
    ]
    workers = min(workers or os.cpu_count() or 1, len(requests))
    records, failures, seconds = _run(requests, workers)
    report = report_of(
        _conditions(told, count, seeds, first_seed, workers, seconds), names, records, failures
    )
    if as_json:
        click.echo(json.dumps(report, indent=1))
    else:
        _print(report)
    if plot is not None and records:
        from exchange.cli.compare_plot import write_plot

        write_plot(plot, report)
        click.echo(f"wrote {plot}", err=True)
    for failure in failures:
        click.echo(f"failed: {failure['model']}, seed {failure['seed']}: {failure['failure']}",
                   err=True)  # fmt: skip
    if failures:
        raise SystemExit(1)


def named_models(text: str) -> list[str]:
    """Model names of a comma-separated list, each once; `BadParameter` names those there are.

    What ends in .toml is a file, and must be a preset.
    """
    from margin.models.venue_models import venue_model_names
    from margin.presets import PresetError, find_preset, is_file_name

    names = [SHORT_NAMES.get(name.strip(), name.strip()) for name in text.split(",")]
    names = [name for name in dict.fromkeys(names) if name]
    known = venue_model_names()
    if not names:
        raise click.BadParameter("name at least one model", param_hint="--models")
    for name in names:
        if is_file_name(name):
            try:
                find_preset(name)
            except PresetError as error:
                raise click.BadParameter(str(error), param_hint="--models") from None
        elif name not in known:
            raise click.BadParameter(
                f"no model {name!r}; there are {', '.join((*known, *SHORT_NAMES))}, and files "
                "that end in .toml",
                param_hint="--models",
            )
    return names


def _run(
    requests: list[RunRequest], workers: int
) -> tuple[list[RunRecord], list[dict[str, Any]], float]:
    """All runs with a line of progress; records, failures, and seconds."""
    import time

    from exchange.cli.compare_run import RunRecord, RunRequest, run_story
    from exchange.cli.progress import terminal_progress
    from exchange.cli.run_pool import run_all

    began = time.perf_counter()
    records: list[RunRecord] = []
    failures: list[dict[str, Any]] = []
    with terminal_progress() as progress:
        bar = progress.add_task("runs", total=len(requests))
        for outcome in run_all(run_story, requests, workers):
            progress.advance(bar)
            request = outcome.request
            assert isinstance(request, RunRequest)
            if isinstance(outcome.record, RunRecord):
                records.append(outcome.record)
            else:
                failures.append({"model": request.model, "seed": request.seed,
                                 "failure": outcome.failure})  # fmt: skip
            if progress.disable:
                done = len(records) + len(failures)
                click.echo(f"run {done} of {len(requests)}: {request.model}, seed {request.seed}",
                           err=True)  # fmt: skip
    return records, failures, round(time.perf_counter() - began, 1)


def _conditions(
    story: Story, cycles: int, seeds: int, first_seed: int, workers: int, seconds: float
) -> dict[str, Any]:
    """What the figures are about."""
    import os
    import platform

    return {
        "story": story.name,
        "title": story.title,
        "venue": story.venue,
        "cycles": cycles,
        "interval_s": story.interval_s,
        "seeds": seeds,
        "first_seed": first_seed,
        "workers": workers,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "seconds": seconds,
    }


def _print(report: dict[str, Any]) -> None:
    from functools import partial

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from exchange.cli.compare_report import BLOCKS, EXPLAINED, counted, headings, rows_of
    from exchange.cli.tables import rich_tables

    console = Console(highlight=False)
    said = report["conditions"]
    first, last = said["first_seed"], said["first_seed"] + said["seeds"] - 1
    seeds = f"seed {first}" if first == last else f"seeds {first} to {last}"
    console.print(
        f"{said['title']}: {counted(said['cycles'], 'cycle')} of {said['interval_s']} s, {seeds}, "
        f"{said['seconds']} s on {counted(said['workers'], 'process', 'processes')}",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    blank = partial(Table, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    rows = [list(map(escape, row)) for row in rows_of(report)]  # a file's name may have brackets
    for table in rich_tables(headings(), rows, BLOCKS, blank):
        console.print(table)
    console.print(EXPLAINED, soft_wrap=True)
