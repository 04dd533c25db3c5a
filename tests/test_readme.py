"""Everything that README.md tells a reader to type works, and its links lead somewhere."""

from __future__ import annotations

import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.core.engine import Engine
from exchange.core.reject_reason import RejectReason
from exchange.storage.recovery import recover
from exchange.surface.ssvi import total_variance
from exchange.surface.surface import Slice, Surface, parameters, volatilities
from margin.models.venue_models import venue_model_names
from margin.reasons.explain_formula import model_names

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
MARGIN_TEXT = (ROOT / "margin" / "README.md").read_text("utf-8")
CLI_TEXT = (ROOT / "exchange" / "cli" / "README.md").read_text("utf-8")
VENUES_TEXT = (ROOT / "exchange" / "venues" / "README.md").read_text("utf-8")
SURFACE_TEXT = (ROOT / "exchange" / "README.md").read_text("utf-8")
PAGES = sorted(
    page for page in ROOT.glob("**/README.md")
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)  # fmt: skip
PRICE_FILE = "BTC-USD.csv"
LOBSTER_FILE = "AAPL_2012-06-21_34200000_37800000_message_50.csv"
SECONDS_MAX = 240

# The environment that runs this test stands for the one that these lines make.
SETUP = re.compile(r"^(python3 -m venv|\.venv/bin/pip |\.venv/bin/pytest$)")
# What takes a minute is run shorter; options that the reader types stay.
SHORTER = {
    "uncross demo": "--fast --cycles 3",
    "uncross demo --": "--in-process",  # the first command goes over sockets
    "uncross bench": "black76 --quick",
    "uncross compare-margin": "--models ps-1 --seeds 1 --cycles 2 --workers 1",
}


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    return [part.strip() for line in lines for part in line.split("&&")]


TYPED = [command for command in commands() if not SETUP.match(command)]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        arguments, cwd=folder, env=environment(), capture_output=True, text=True,
        timeout=SECONDS_MAX,
    )  # fmt: skip
    assert done.returncode == 0, f"{arguments}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def uncross(arguments: list[str]) -> str:
    """The command line in this process, whose kernels are loaded once."""
    done = CliRunner().invoke(main, arguments, prog_name="uncross", catch_exceptions=False)
    assert done.exit_code == 0, f"uncross {arguments}: {done.output[-2000:]}"
    return done.output


def shortened(command: str) -> str:
    command = command.replace(".venv/bin/", "")
    more = [shorter for start, shorter in SHORTER.items() if command.startswith(start)]
    if more:
        command = " ".join([re.sub(r" --cycles \d+| --fast", "", command), *more])
    return re.sub(r"(uncross show .*--cycle) \d+", r"\1 3", command)


def made_up_session() -> str:
    """A few minutes of a LOBSTER file: quotes on both sides, some executed, some deleted."""
    lines = []
    for number in range(600):
        second, order = 34_200 + number // 4, 10 * number
        buy = number % 2 == 0
        price = 5_859_400 - 100 * (number % 7) if buy else 5_859_500 + 100 * (number % 5)
        rest = f"100,{price},{1 if buy else -1}"
        lines.append(f"{second}.{number % 4}1,1,{order},{rest}")
        if number % 3 == 0:
            lines.append(f"{second}.{number % 4}2,4,{order},{rest}")
        elif number % 3 == 1:
            lines.append(f"{second}.{number % 4}3,3,{order},{rest}")
    return "\n".join(lines) + "\n"


def made_up_prices() -> str:
    """Two years of daily closes."""
    chance, price, rows = random.Random(3), 50_000.0, ["Date,Close"]
    for day in range(730):
        price *= 1 + chance.gauss(0, 0.03)
        rows.append(f"{date(2024, 1, 1) + timedelta(day)},{price:.2f}")
    return "\n".join(rows).replace("Close", "close") + "\n"


def test_the_readers_first_two_commands_are_setup_demo_and_tests() -> None:
    first, second = blocks("sh")[:2]
    for line in (first, second):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -q ")
        assert len(line.splitlines()) == 1
    assert first.rstrip().endswith(".venv/bin/uncross demo")
    assert second.rstrip().endswith(".venv/bin/pytest")


def test_every_command_runs_when_typed_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("replays/stories/2025-10-10.toml", "exchange/venues/demo.toml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / LOBSTER_FILE).write_text(made_up_session(), "utf-8")
    (tmp_path / PRICE_FILE).write_text(made_up_prices(), "utf-8")
    told: dict[str, str] = {}
    ran: set[str] = set()  # some are the same command once they are shortened
    for typed in TYPED:
        short = shortened(typed)
        if short in ran:
            continue
        ran.add(short)
        short, _, written = short.partition(" > ")
        program, *arguments = shlex.split(short)
        if program == "uncross":
            told[typed] = uncross(arguments)
        elif program == "python":
            told[typed] = run([sys.executable, *arguments], tmp_path)
        else:
            assert program == "cp", f"who runs {typed!r}?"
            told[typed] = run([program, *arguments], tmp_path)
        if written:
            (tmp_path / written).write_text(told[typed], "utf-8")
    assert told[".venv/bin/uncross verify night.journal"].startswith("equal")
    assert "cycle 3" in told[".venv/bin/uncross show night.journal --cycle 33"]
    for name in ("seed-11.json", "figures.json", "night.json"):
        assert "state_hash" in (tmp_path / name).read_text("utf-8"), name
    for name in ("scenarios.html", "btc.html"):
        assert "plotly" in (tmp_path / name).read_text("utf-8"), name
    (said,) = blocks("text")
    assert told[".venv/bin/uncross margin portfolio.json"].startswith(said), "the example's figures"
    called = told[".venv/bin/uncross margin portfolio.json --what-if BTC:spot=-5%,cash:+1000"]
    for figure in ("25,443.95", "28,290.37"):
        assert figure in called, figure
        assert figure in TEXT, figure


def test_bots_connect_to_a_served_market_as_typed(tmp_path: Path, unused_tcp_port: int) -> None:
    """The lines of two terminals: the first stays, the others run beside it."""
    url = f"127.0.0.1:{unused_tcp_port}"
    typed = [line for block in blocks("console") for line in block.splitlines()]
    (code,) = [block for block in blocks("python") if "clients" in block]
    assert "left = venue.instruments[NAME], 20" in code
    code = code.replace("venue.instruments[NAME], 20", "venue.instruments[NAME], 3")
    (tmp_path / "bot.py").write_text(code.replace("127.0.0.1:8080", url), "utf-8")
    serve, maker, bot = (line.replace("127.0.0.1:8080", url) for line in typed)
    keys = dict(pair.split("=") for pair in shlex.split(maker)[:2])
    assert shlex.split(bot)[:2] == shlex.split(maker)[:2]
    arguments = shlex.split(serve)
    assert arguments[:2] == [".venv/bin/uncross", "serve"]
    arguments[arguments.index("--crowd") + 1] = "8"
    log = (tmp_path / "log").open("w+")
    serving = subprocess.Popen(
        [sys.executable, "-m", "exchange", *arguments[1:], "--port", str(unused_tcp_port)],
        cwd=tmp_path, env=environment(), stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        wait_for(lambda: "listening" in (tmp_path / "log").read_text("utf-8"))
        with (tmp_path / "made").open("w") as made:
            making = subprocess.Popen(
                [sys.executable, "-u", *shlex.split(maker)[3:]], cwd=tmp_path, stdout=made,
                env={**environment(), **keys}, stderr=subprocess.STDOUT,
            )  # fmt: skip
            wait_for(lambda: (tmp_path / "made").read_text("utf-8").count("Account(cash=") >= 2)
            making.kill()
            making.wait()
        told = subprocess.run(
            [sys.executable, "bot.py"], cwd=tmp_path, env={**environment(), **keys},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        assert len(told.stdout.splitlines()) == 3, "the bot had its turns"
    finally:
        serving.terminate()
        serving.wait(timeout=30)
        log.close()
    assert serving.returncode == 0, (tmp_path / "log").read_text("utf-8")


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_margin_that_the_reader_asks_for_is_the_one_printed(tmp_path: Path) -> None:
    (code,) = blocks("python", MARGIN_TEXT)
    (answer,) = blocks("text", MARGIN_TEXT)
    (tmp_path / "ask.py").write_text(code, "utf-8")
    assert run([sys.executable, "ask.py"], tmp_path) == answer


def test_the_portfolio_file_that_is_shown_is_one(tmp_path: Path) -> None:
    (text,) = blocks("json", CLI_TEXT)
    path = tmp_path / "portfolio.json"
    path.write_text(text, "utf-8")
    told = json.loads(uncross(["margin", str(path), "--json"]))
    assert told["model"] == "ps-1"


def test_the_stressed_bitcoin_is_the_one_computed(tmp_path: Path) -> None:
    (answer,) = blocks("text", CLI_TEXT)
    portfolio = {
        "market": {"time": "2026-02-25T08:00:00Z", "index": {"BTC": 100000}},
        "collateral": {"USDC": 20000},
        "positions": [{"instrument": "BTC_USDC-PERPETUAL", "quantity": 1}],
    }
    path = tmp_path / "portfolio.json"
    path.write_text(json.dumps(portfolio), "utf-8")
    assert uncross(["stress", str(path)]).startswith(answer)


def test_as_many_how_tos_as_the_heading_says() -> None:
    numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight"]
    (heading,) = re.findall(r"^## (\w+) how-tos$", TEXT, re.MULTILINE)
    titles = re.findall(r"^### (\d)\. ", TEXT, re.MULTILINE)
    assert titles == [str(n + 1) for n in range(numbers.index(heading.lower()) + 1)]


def test_an_account_class_is_charged_as_typed(tmp_path: Path, unused_tcp_port: int) -> None:
    """The tables of the page on a venue that ships; the account of its command is of the class."""
    (added,) = blocks("toml", VENUES_TEXT)
    (typed,) = blocks("console", VENUES_TEXT)
    tiny = (ROOT / "exchange" / "venues" / "tiny.toml").read_text("utf-8")
    (tmp_path / "venue.toml").write_text(f"{tiny}\n{added}", "utf-8")
    program, *arguments = shlex.split(typed)
    assert program == ".venv/bin/uncross"
    arguments += ["--port", str(unused_tcp_port)]
    log = (tmp_path / "log").open("w+")
    serving = subprocess.Popen(
        [sys.executable, "-m", "exchange", *arguments],
        cwd=tmp_path, env=environment(), stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        wait_for(lambda: "listening" in (tmp_path / "log").read_text("utf-8"))
    finally:
        serving.terminate()
        serving.wait(timeout=30)
        log.close()
    assert serving.returncode == 0, (tmp_path / "log").read_text("utf-8")
    found = recover(tmp_path / "desk.journal", Engine)
    found.journal.close()
    found.watermark.close()
    state = found.engine.state
    model = state.accounts.model_of[state.accounts.pool_of[state.accounts.number_of["desk"]]]
    assert state.venue.presets()[model].name == "derive-pmrm2"


def test_as_many_models_as_the_page_says() -> None:
    chargeable = {name for name in venue_model_names() if "+" not in name}
    names = {*(name for name in model_names() if "+" not in name), *chargeable}
    assert (len(names), len(chargeable)) == (16, 12)
    assert "Sixteen models ship, twelve of which a venue can margin by" in TEXT
    assert "one portfolio under sixteen models" in TEXT
    assert "a venue margins by [twelve others]" in TEXT
    for name in sorted(names):
        assert f"`{name}`" in MARGIN_TEXT, name


def anchors(page: Path) -> set[str]:
    """What a heading is called in an address: its words in lower case, joined by dashes."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text("utf-8")):
        if target.startswith("http"):
            continue
        there = page.parent / target if target else page
        assert there.is_file(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_tables_are_whole(page: Path) -> None:
    """A row that begins a table is its heading: after a blank line rows are shown as text."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    lines = ["", *text.splitlines(), ""]
    columns = 0
    for before, row, after in zip(lines, lines[1:], lines[2:], strict=False):
        if not row.startswith("|"):
            continue
        if not before.startswith("|"):
            assert re.fullmatch(r"\|(\s*:?-+:?\s*\|)+", after), f"no heading: {row}"
            columns = after.count("|")
        assert len(re.findall(r"(?<!\\)\|", row)) == columns, row


def test_the_core_page_lists_every_reason_of_refusal() -> None:
    text = (ROOT / "exchange" / "core" / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \| \S", text, re.MULTILINE)
    reasons = [(str(int(r)), r.name) for r in RejectReason if r is not RejectReason.NONE]
    assert listed == sorted(reasons)


def test_the_worked_surface_is_the_one_computed() -> None:
    """60 % at the money, 30 days, rho -0.3, eta 1, gamma 0.4; a strike at 0.9 of the forward."""
    expiry_ns = 30 * 86_400 * 10**9
    surface = Surface((Slice(expiry_ns, 600_000_000, -300_000_000),), 10**9, 400_000_000)
    at, k = parameters(surface, 0), np.log(np.array([0.9]))
    variance = total_variance(k, at.theta[0], at.rho[0], at.phi[0])[0]
    example = SURFACE_TEXT.split("**Example.**")[1].split("\n\n")[0]
    for figure in (
        f"theta {at.theta[0]:.6f}",
        f"phi {at.phi[0]:.4f}",
        f"w {variance:.6f}",
        f"{100 * volatilities(surface, 0, expiry_ns, k)[0]:.2f} %",
    ):
        assert figure in " ".join(example.split()), figure


def test_every_package_has_a_page() -> None:
    named = {page.parent.relative_to(ROOT).as_posix() for page in PAGES}
    packages = {"margin", "exchange", "exchange/core", "exchange/storage", "clients", "replays"}
    assert named >= packages
