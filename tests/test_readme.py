"""Everything that README.md tells a reader to type works, and its links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.core.reject_reason import RejectReason

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text("utf-8")
PAGES = sorted(
    page for page in ROOT.glob("**/README.md")
    if not any(part.startswith(".") for part in page.relative_to(ROOT).parts)
)  # fmt: skip
LOBSTER_FILE = "AAPL_2012-06-21_34200000_37800000_message_50.csv"
SECONDS_MAX = 240

# The environment that runs this test stands for the one that these lines make.
SETUP = re.compile(r"^(python3 -m venv|\.venv/bin/pip |\.venv/bin/pytest$)")
# What takes a minute is run shorter; options that the reader types stay.
SHORTER = {
    "uncross demo": "--fast --cycles 5",
    "uncross bench": "black76 --quick",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


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
    for start, more in SHORTER.items():
        if command.startswith(start):
            command = re.sub(r" --cycles \d+| --fast", "", command) + f" {more}"
    return re.sub(r"(uncross show .*--cycle) \d+", r"\1 5", command)


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
    told: dict[str, str] = {}
    ran: set[str] = set()  # some are the same command once they are shortened
    for typed in TYPED:
        short = shortened(typed)
        if short in ran:
            continue
        ran.add(short)
        program, *arguments = shlex.split(short)
        if program == "uncross":
            told[typed] = uncross(arguments)
        elif program == "python":
            told[typed] = run([sys.executable, *arguments], tmp_path)
        else:
            assert program == "cp", f"who runs {typed!r}?"
            told[typed] = run([program, *arguments], tmp_path)
    assert told[".venv/bin/uncross verify night.journal"].startswith("equal")
    assert "cycle 5" in told[".venv/bin/uncross show night.journal --cycle 33"]
    for name in ("seed-11.json", "figures.json", "night.json"):
        assert "state_hash" in (tmp_path / name).read_text("utf-8"), name


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
    (code,) = [block for block in blocks("python") if "pool_requirements" in block]
    (answer,) = blocks("text")
    (tmp_path / "ask.py").write_text(code, "utf-8")
    assert run([sys.executable, "ask.py"], tmp_path) == answer


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        assert (page.parent / target).is_file(), target


def test_the_core_page_lists_every_reason_of_refusal() -> None:
    text = (ROOT / "exchange" / "core" / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| (\d+) \| `([A-Z_]+)` \| \S", text, re.MULTILINE)
    reasons = [(str(int(r)), r.name) for r in RejectReason if r is not RejectReason.NONE]
    assert listed == sorted(reasons)


def test_every_package_has_a_page() -> None:
    named = {page.parent.relative_to(ROOT).as_posix() for page in PAGES}
    packages = {"margin", "exchange", "exchange/core", "exchange/storage", "clients", "replays"}
    assert named >= packages
