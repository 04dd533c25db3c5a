"""One short demo of the crash, run once, whose files the tests of its readers share."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from exchange.cli import main
from replays.story import load_story

SHORT_CYCLES = 38  # from the opening past the low of the crash


WIDE = 200  # columns: no table is split


def uncross(*arguments: object, columns: int = WIDE) -> Result:
    """Run a command as a user of a terminal so wide would; an unexpected exception is raised."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], env={"COLUMNS": str(columns)})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def traces(html: str) -> list[dict[str, Any]]:
    """The data of a page's figure, as it stands there."""
    start = html.rindex("Plotly.newPlot(")
    data, _ = json.JSONDecoder().raw_decode(html, html.index("[", start))
    return list(data)


def write_short_story(folder: Path) -> Path:
    """The story that ships with a quarter of its crowd, so that a test can afford it."""
    shipped = Path(load_story.__code__.co_filename).parent / "stories" / "2025-10-10.toml"
    text = shipped.read_text("utf-8")
    for whole, part in (
        ("market_makers = 12", "market_makers = 6"),
        ("noise_traders = 36", "noise_traders = 6"),
        ("trend_followers = 104", "trend_followers = 30"),
        ("arbitrageurs = 6", "arbitrageurs = 2"),
        ("option_sellers = 4", "option_sellers = 2"),
        ("insurance = 150000", "insurance = 60000"),
    ):
        assert whole in text
        text = text.replace(whole, part)
    path = folder / "short.toml"
    path.write_text(text, "utf-8")
    return path


class Demo(NamedTuple):
    """A demo that has run: its journal, its summary, what it printed."""

    folder: Path
    story: Path
    journal: Path
    summary: dict[str, Any]
    output: str


def run_demo(folder: Path, story: Path, name: str, seed: int) -> Demo:
    """Run the short story with `--fast`; `name` names its journal."""
    journal, summary = folder / f"{name}.journal", folder / f"{name}.json"
    result = uncross(
        "demo", "--story", story, "--fast", "--in-process", "--seed", seed,
        "--cycles", SHORT_CYCLES, "--summary", summary, "--journal", journal,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return Demo(folder, story, journal, json.loads(summary.read_text("utf-8")), result.output)


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    """The short story with seed 7."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    yield run_demo(folder, write_short_story(folder), "first", 7)
    shutil.rmtree(folder)
