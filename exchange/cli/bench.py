"""`uncross bench`: the figures of this machine, by the benchmarks of a checkout."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

BENCHMARKS = Path(__file__).resolve().parents[2] / "tests" / "benchmarks"
PREFIX = "bench_"
# What a name stands for besides its own file, as far as a checkout has it.
TOGETHER = {"margin": ("black76", "surface")}


def benchmark_names() -> list[str]:
    """Names of the benchmarks beside this source; empty where there is no checkout."""
    return sorted(path.stem.removeprefix(PREFIX) for path in BENCHMARKS.glob(f"{PREFIX}*.py"))


def with_companions(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names, each followed by those that `TOGETHER` adds to it, none twice."""
    wanted = [part for name in names for part in (name, *TOGETHER.get(name, ()))]
    return [name for name in dict.fromkeys(wanted) if name in known]


@click.command("bench")
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Smaller inputs, seconds instead of minutes.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def command(names: tuple[str, ...], quick: bool, as_json: bool) -> None:
    """Run benchmarks (all of them, or NAMES) and print each against its baseline.

    `margin` stands for everything that margin is made of, option pricing and surfaces included.

    They live in `tests/benchmarks` of a checkout; an installed package has none. Both sides of a
    ratio are measured in the same run: ratios carry over to another machine, figures do not.
    """
    known = benchmark_names()
    if not known:
        raise click.ClickException(
            f"there are no benchmarks at {BENCHMARKS}: they run from a checkout of the source"
        )
    unknown = [name for name in names if name not in known]
    if unknown:
        raise click.BadParameter(f"no benchmark {unknown[0]!r}; known: {', '.join(known)}")
    rows: list[dict[str, Any]] = []
    for name in with_companions(names, known) if names else known:
        click.echo(f"{name} ...", err=True)
        rows += [{"benchmark": name, **row} for row in run_benchmark(name, quick)]
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=float))
    else:
        print_rows(rows)


def run_benchmark(name: str, quick: bool) -> list[dict[str, Any]]:
    """The rows of one benchmark. One that lacks a package is told, not hidden."""
    root = str(BENCHMARKS.parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)  # benchmarks import `tests.reference` and the like
    path = BENCHMARKS / f"{PREFIX}{name}.py"
    spec = importlib.util.spec_from_file_location(f"tests.benchmarks.{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # what pickles or inspects its classes looks there
    try:
        spec.loader.exec_module(module)
    except ModuleNotFoundError as error:
        del sys.modules[spec.name]
        raise click.ClickException(
            f"benchmark {name} needs {error.name}: install the test extra, `pip install -e .[test]`"
        ) from None
    return list(module.run(quick))


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The rows as a table, their conditions below it."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{platform.machine()}, Python {platform.python_version()}")
    for heading in ("benchmark", "ours", "baseline", "unit", "ratio", "against"):
        is_figure = heading in ("ours", "baseline", "ratio")
        table.add_column(heading, justify="right" if is_figure else "left", overflow="fold")
    for row in rows:
        table.add_row(
            str(row["name"]), figure(row.get("ours")), figure(row.get("baseline")),
            str(row.get("unit", "")), figure(row.get("ratio")), str(row.get("baseline_name", "")),
        )  # fmt: skip
    console = Console()
    console.print(table)
    for row in rows:
        console.print(f"{row['name']}: {row.get('conditions', '')}", highlight=False)


def figure(value: object) -> str:
    """A number in three figures, or a dash."""
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
