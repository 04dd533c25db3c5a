from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from exchange.cli import COMMANDS, INTERRUPTED, CommandTable, main
from tests.cli.conftest import uncross

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("numpy", "numba", "scipy", "aiohttp", "sqlite_utils", "rich")


def test_help_loads_nothing_heavy_and_answers_at_once() -> None:
    code = (
        "import sys, exchange.cli\n"
        "try: exchange.cli.main(['--help'], prog_name='uncross')\n"
        f"finally: print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    begun = time.perf_counter()
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert time.perf_counter() - begun < 2, "half a second on an idle machine"
    assert run.returncode == 0, run.stderr
    assert run.stdout.endswith("[]\n")
    assert all(name in run.stdout for name in COMMANDS)


def test_python_m_exchange_is_the_command() -> None:
    command = [sys.executable, "-m", "exchange", "--help"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.startswith("Usage: uncross ")


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_explains_itself_and_its_options(name: str) -> None:
    result = uncross(name, "--help")
    assert result.exit_code == 0
    table = main
    assert isinstance(table, CommandTable)
    command = table.commands.get(name) or table.get_command(None, name)  # type: ignore[arg-type]
    assert command is not None
    assert command.help, "a command has a docstring"
    undocumented = [
        option.name for option in command.params
        if option.param_type_name == "option" and not getattr(option, "help", None)
    ]  # fmt: skip
    assert undocumented == []


def test_an_unknown_command_is_wrong_usage() -> None:
    result = uncross("fly")
    assert result.exit_code == 2
    assert "No such command 'fly'" in result.output


def test_an_interrupt_ends_with_its_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("exchange.venues.load_venue", interrupted)
    result = uncross("venue", "demo")
    assert result.exit_code == INTERRUPTED
    assert "interrupted" in result.output


def test_an_error_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> object:
        raise AssertionError("a defect")

    monkeypatch.setattr("exchange.venues.load_venue", broken)
    with pytest.raises(AssertionError, match="a defect"):
        uncross("venue", "demo")
