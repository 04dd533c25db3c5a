"""What every command refuses alike: files it cannot read or write, and numbers that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import uncross

TAKEN = "is a file of this command's own, and would be overwritten"
PRICES = "Date,Adj_Close,Volume,Volume\n" + "\n".join(
    f"2024-01-{day:02d},100,1,1" for day in range(1, 29)
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of each kind, in which the command runs."""
    (tmp_path / "dir").mkdir()
    for name, text in (
        ("x.html", PRICES), ("x.csv", PRICES), ("x.toml", 'name = "x"'), ("x.json", "{}"),
    ):  # fmt: skip
        (tmp_path / name).write_text(text, "utf-8")
    (tmp_path / "link.html").symlink_to(tmp_path / "x.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "words"),
    [
        # a file that is written is none that is read, and a page has the name of one
        ("margin x.html --plot x.html", TAKEN),
        ("margin x.json --venue x.toml --plot x.toml", "its name ends in .html"),
        ("margin x.json --venue x.html --plot x.html", TAKEN),
        ("margin x.json --plot x.json", "a plot is a page: its name ends in .html"),
        ("stress x.html --plot ./x.html", TAKEN),
        ("stress --journal x.html --plot x.html", TAKEN),
        ("backtest x.csv --plot link.html", TAKEN),
        ("backtest x.csv --plot x.csv", "its name ends in .html"),
        ("study calibration x.csv x.html --plot dir/../x.html", TAKEN),
        ("compare-margin x.html --plot x.html", TAKEN),
        ("demo --story x.toml --summary x.toml", TAKEN),
        ("demo --venue x.toml --summary x.toml", TAKEN),
        ("demo --index x.csv --summary x.csv", TAKEN),
        ("demo --journal new --summary new", TAKEN),
        ("replay lobster x.csv --summary x.csv", TAKEN),
        # what cannot be written is found before the work
        ("margin x.json --plot nowhere/x.html", "nowhere/x.html: there is no folder nowhere"),
        ("backtest x.csv --plot nowhere/x.html", "nowhere/x.html: there is no folder nowhere"),
        ("study procyclicality --plot nowhere/x.html", "there is no folder nowhere"),
        ("study calibration --plot nowhere/x.html", "there is no folder nowhere"),
        ("stress x.json --plot nowhere/x.html", "there is no folder nowhere"),
        ("demo --summary nowhere/x.json", "nowhere/x.json: there is no folder nowhere"),
        ("demo --summary x.json/y.json", "there is no folder x.json"),
        ("demo --summary dir", "is a directory"),
        (f"demo --summary {'x' * 300}", "File name too long"),
        ("replay lobster x.csv --summary nowhere/x.json", "there is no folder nowhere"),
        # a file that cannot be read
        ("margin dir", "File 'dir' is a directory."),
        ("margin gone", "File 'gone' does not exist."),
        ("margin x.json --venue dir", "File 'dir' is a directory."),
        ("stress dir", "File 'dir' is a directory."),
        ("stress gone", "File 'gone' does not exist."),
        ("stress x.json --stress gone.toml", "File 'gone.toml' does not exist."),
        ("backtest dir", "File 'dir' is a directory."),
        ("study garch dir", "File 'dir' is a directory."),
        ("study calibration dir", "File 'dir' is a directory."),
        ("replay lobster dir", "File 'dir' is a directory."),
        ("venue dir", "File 'dir' is a directory."),
        ("demo --venue dir", "File 'dir' is a directory."),
        ("demo --story dir", "File 'dir' is a directory."),
        ("serve --index gone", "File 'gone' does not exist."),
        # numbers
        ("backtest x.csv --confidence nan", "nan is not in the range 0.9<=x<=0.9999"),
        ("backtest x.csv --horizon nan", "nan is not in the range 0<x<=28"),
        ("backtest x.csv --floor nan", "nan is not in the range 0<=x<=2"),
        ("backtest x.csv --stress-weight nan", "nan is not in the range 0<=x<=0.95"),
        ("study calibration --decay nan", "nan is not in the range 0<x<1"),
        ("study procyclicality --breach-rate nan", "nan is not in the range 0.001<=x<=0.2"),
        ("bots --url ws://x --patience inf", "inf is not in the range x>=0"),
        ("study calibration --seed -1", "-1 is not in the range 0<=x<="),
        ("study procyclicality --seed -1", "-1 is not in the range 0<=x<="),
        # what says nothing, or says two things
        ("margin x.json --model=", "'--model': must not be empty"),
        ("stress x.json --model=", "'--model': must not be empty"),
        ("demo --venue=", "'--venue': must not be empty"),
        ("study calibration x.csv --paths 5", "--paths is about simulated paths"),
        ("study calibration x.csv --seed 7", "--seed is about simulated paths"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_done(here: Path, command: str, words: str) -> None:
    before = {path: path.read_bytes() for path in here.iterdir() if path.is_file()}
    result = uncross(*command.split())
    assert result.exit_code == 2, result.output
    assert words in result.output
    assert {path: path.read_bytes() for path in here.iterdir() if path.is_file()} == before


def test_what_ships_goes_before_a_directory_of_its_name(here: Path) -> None:
    (here / "demo").mkdir()
    assert uncross("venue", "demo").exit_code == 0


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("backtest x.csv", "x.csv: 28 prices: 563 are needed"),
        ("backtest x.csv --models nope", "x.csv: no model 'nope'"),
        ("backtest x.csv --column Volume", "x.csv: 2 columns are called 'Volume'"),
    ],
)
def test_a_price_file_is_named_where_it_is_wrong(here: Path, command: str, words: str) -> None:
    result = uncross(*command.split())
    assert result.exit_code == 1
    assert words in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("rows", "words"),
    [(20, "19 returns; at least 250 are needed"), (300, "the price never moves")],
)
def test_a_history_without_garch_is_refused_by_name(here: Path, rows: int, words: str) -> None:
    pytest.importorskip("arch", reason="the extra `arch` is not installed")
    lines = ["unix,close", *(f"{1_700_000_000 + 3600 * hour},100" for hour in range(rows))]
    (here / "still.csv").write_text("\n".join(lines), "utf-8")
    result = uncross("study", "garch", "still.csv")
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: still.csv: {words}")
    assert result.output.count("\n") == 1
