"""A preset of a user's own: as an option, in a venue's file, in a comparison, and in a journal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exchange.core.commands import decode_command, encode_command
from exchange.core.venue import VenueError
from exchange.portfolios.file import example_text
from exchange.venues import load_venue
from margin.presets import load_preset, load_preset_file
from tests.cli.conftest import uncross, write_short_story
from tests.core.market import Market
from tests.margin.readme_page import FLAT, SECTIONS

FILE = SECTIONS["A preset of your own"].split("```toml\n")[1].split("```")[0]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the example portfolio and the file that the page shows."""
    (tmp_path / "portfolio.json").write_text(example_text(), "utf-8")
    (tmp_path / "mine.toml").write_text(FILE, "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shipped_venue(name: str) -> str:
    return (Path(load_venue.__code__.co_filename).parent / f"{name}.toml").read_text("utf-8")


def venue_file(folder: Path, preset: str, more: str = "", name: str = "tiny") -> Path:
    """A venue of its own folder, whose preset is another."""
    path = folder / "venues" / "own.toml"
    path.parent.mkdir(exist_ok=True)
    text = shipped_venue(name)
    assert 'preset = "ps-1"\n' in text
    path.write_text(text.replace('preset = "ps-1"', f'preset = "{preset}"') + more, "utf-8")
    return path


def refused(*arguments: object, code: int = 1) -> str:
    result = uncross(*arguments)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result.output


# Questions about a portfolio


def test_margin_is_explained_under_the_file_on_the_page(folder: Path) -> None:
    output = uncross("margin", "portfolio.json", "--model", "mine.toml").output
    assert output.startswith("mine at 25 Feb 2026")
    assert "initial margin      34,409.27" in output
    assert "needs an initial margin of 34,409.27 where `ps-1` asks 27,899.34" in FLAT
    assert "loses 31,509.27; spot -20 %, volatility up" in output
    assert "linear skew" not in output
    assert "initial margin      27,899.34" in uncross("margin", "portfolio.json").output


def test_stress_asks_the_file(folder: Path) -> None:
    told = uncross("stress", "portfolio.json", "--model", "mine.toml", "--json")
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["model"] == "mine"
    own = json.loads(uncross("margin", "portfolio.json", "--model", "mine.toml", "--json").stdout)
    assert found["outcomes"][0]["initial_minor"] == own["initial_minor"]


def test_a_file_goes_before_the_model_of_the_portfolio_which_names_no_file(folder: Path) -> None:
    portfolio = {**json.loads(example_text()), "model": "span-16"}
    (folder / "portfolio.json").write_text(json.dumps(portfolio), "utf-8")
    assert "mine at" in uncross("margin", "portfolio.json", "--model", "mine.toml").output
    portfolio["model"] = "mine.toml"
    (folder / "portfolio.json").write_text(json.dumps(portfolio), "utf-8")
    output = refused("margin", "portfolio.json")
    assert "no model 'mine.toml'; there are deribit, " in output
    assert "--model takes a file that ends in .toml as well" in output


def test_a_file_may_charge_by_rules_or_by_dates(folder: Path) -> None:
    """What it is decides, not its name: rules without scenarios ask what `standard` asks."""
    import margin.models
    from margin.presets.strict_toml import table_of

    rules = (Path(margin.models.__file__).parent / "standard.toml").read_text("utf-8")
    table = table_of(rules)
    lines = ['name = "rules"', "scenario = [{ move = 0, volatility = 'unchanged', weight = 1 }]",
             "[spot_range]", "default = 0.1", "[volatility]", "up = 0", "down = 0",
             "reference_days = 30", "floor_days = 1", "short_power = 0", "long_power = 0",
             "least_up = 0", "[factor]", "maintenance = 1", "initial = 1", "[contingency]",
             "delta_one_maintenance = 0", "delta_one_initial_extra = 0",
             "naked_option_maintenance = 0", "naked_option_initial_extra = 0",
             "[haircut]", *(f"{k} = {v}" for k, v in table["haircut"].items())]  # fmt: skip
    text = "\n".join(lines) + "\n" + standard_sections(table)
    (folder / "rules.toml").write_text(text, "utf-8")
    (folder / "dates.toml").write_text('name = "dates"\nbase = "fhs-es"\n', "utf-8")
    by_rules = asked("--model", "rules.toml")
    assert by_rules["initial_minor"] == asked("--model", "standard")["initial_minor"]
    stress = json.loads(
        uncross("stress", "portfolio.json", "--model", "rules.toml", "--json").stdout
    )
    assert stress["outcomes"][0]["initial_minor"] == by_rules["initial_minor"]
    assert asked("--model", "dates.toml")["worst_minor"] > 0


def standard_sections(table: dict[str, Any]) -> str:
    """The rules of standard margin as tables below `[standard]`."""
    lines = ["[standard]"]
    flat = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines += [f"{key} = {toml(value)}" for key, value in flat.items()]
    for key, value in table.items():
        if isinstance(value, dict):
            lines.append(f"[standard.{key}]")
            lines += [f"{name} = {toml(inner)}" for name, inner in value.items()]
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(one) for one in value) + "]"
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def asked(*options: object) -> dict[str, Any]:
    result = uncross("margin", "portfolio.json", "--json", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("command", ["margin", "stress"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no preset file 'mine.toml'; presets that ship are deribit, "),
        (FILE.replace("BTC = 0.2", "BTC = 2"), "mine.toml: spot_range: must lie in 0 .. 1"),
        (FILE.replace("ps-1-dynamic", "ps-2"), "mine.toml: base: no preset 'ps-2'; there are "),
        (FILE.replace("period_s", "period"), "mine.toml: dynamic.period: unknown key; allowed: "),
        (
            FILE.replace('"skew"', '"smile"'),
            "mine.toml: without: ps-1-dynamic has no smile; it has",
        ),
        (FILE.replace('"mine"', '"ps-1"'), "mine.toml: name: 'ps-1' is that of a model that ships"),
    ],
)
def test_a_faulty_file_ends_a_command_with_one_line(
    folder: Path, command: str, text: str | None, message: str
) -> None:
    if text is None:
        (folder / "mine.toml").unlink()
    else:
        (folder / "mine.toml").write_text(text, "utf-8")
    output = refused(command, "portfolio.json", "--model", "mine.toml")
    assert output.startswith(f"Error: {message}")
    assert output.count("\n") == 1


# Venues


def test_a_venue_s_preset_is_a_file_beside_it(folder: Path) -> None:
    own = venue_file(
        folder, "../mine.toml", '[[account_class]]\nname = "desk"\npreset = "desk.toml"\n'
    )
    (folder / "venues" / "desk.toml").write_text('name = "of-desk"\nbase = "span-16"\n', "utf-8")
    venue = load_venue(str(own))
    assert venue.preset == load_preset_file(folder / "mine.toml")
    assert [preset.name for preset in venue.presets()] == ["mine", "of-desk"]
    assert load_venue("venues/own.toml") == venue, "whatever the working directory"
    output = uncross("venue", own)
    assert output.exit_code == 0, output.output
    assert 'name = "mine"' in output.output


def test_a_change_of_the_preset_is_relative_to_the_working_directory(folder: Path) -> None:
    own = venue_file(folder, "ps-1")
    assert load_venue(str(own), preset="mine.toml").preset.name == "mine"
    with pytest.raises(VenueError, match=r"own\.toml: no preset file '\.\./mine\.toml'"):
        load_venue(str(own), preset="../mine.toml")


def test_a_venue_says_which_preset_file_is_faulty(folder: Path) -> None:
    missing = refused("venue", venue_file(folder, "mine.toml"))
    assert "own.toml: no preset file " in missing
    assert "venues/mine.toml'; presets that ship are " in missing
    unknown = refused("venue", venue_file(folder, "ps-2"))
    assert "own.toml: no preset 'ps-2'; there are " in unknown
    assert "and files that end in .toml" in unknown
    (folder / "venues" / "mine.toml").write_text(FILE.replace("= 0.2", '= "far"'), "utf-8")
    assert "mine.toml: spot_range.BTC: must be a number" in refused(
        "venue", venue_file(folder, "mine.toml")
    )
    more = '[[account_class]]\nname = "desk"\npreset = "none.toml"\n'
    assert "none.toml" in refused("venue", venue_file(folder, "ps-1", more))


def test_a_portfolio_at_the_venue_is_asked_by_the_venue_s_own_file(folder: Path) -> None:
    own = venue_file(folder, "../mine.toml")
    held = [{"instrument": "BTC_USDC-PERPETUAL", "quantity": 1}]
    (folder / "portfolio.json").write_text(
        json.dumps({"collateral": {}, "positions": held}), "utf-8"
    )
    found = asked("--venue", own)
    assert found["model"] == "mine"
    assert found["initial_minor"] == 22_000 * 10**6
    assert asked("--venue", own, "--model", "ps-1")["initial_minor"] == 18_000 * 10**6


def test_the_journal_needs_the_file_no_more(folder: Path) -> None:
    venue = load_venue(str(venue_file(folder, "../mine.toml")))
    expected = load_preset_file(folder / "mine.toml")
    genesis = Market(venue, opened=False).log[0]
    kind, data = encode_command(genesis)
    (folder / "mine.toml").unlink()
    assert decode_command(kind, data).venue.preset == expected


def test_a_market_under_an_own_file_is_verified_without_it(folder: Path) -> None:
    story = write_short_story(folder)
    own = venue_file(folder, "../mine.toml", name="demo")
    ran = uncross("demo", "--story", story, "--venue", own, "--fast", "--in-process",
                  "--cycles", 3, "--journal", "night.journal")  # fmt: skip
    assert ran.exit_code == 0, ran.output
    (folder / "mine.toml").unlink()
    own.unlink()
    verified = uncross("verify", "night.journal")
    assert verified.exit_code == 0, verified.output
    (folder / "other.toml").write_text('name = "other"\nbase = "ps-1"\n', "utf-8")
    stressed = uncross("stress", "--journal", "night.journal", "--model", "other.toml", "--json")
    assert stressed.exit_code == 0, stressed.output
    assert "no preset file 'none.toml'" in refused(
        "stress", "--journal", "night.journal", "--model", "none.toml"
    )


# Comparisons


def test_models_side_by_side_may_be_files(folder: Path) -> None:
    (folder / "a[b].toml").write_text('name = "a"\nbase = "ps-1"\n', "utf-8")
    story = write_short_story(folder)
    arguments = ("compare-margin", story, "--models", "ps-1,a[b].toml", "--seeds", 1,
                 "--cycles", 2, "--workers", 1)  # fmt: skip
    result = uncross(*arguments)
    assert result.exit_code == 0, result.output
    assert "a[b].toml" in result.output
    rows = [line.split() for line in result.output.splitlines()]
    figures = {row[0]: row[1:] for row in rows if row and row[0] in ("ps-1", "a[b].toml")}
    assert figures["ps-1"] == figures["a[b].toml"], "the same constants, the same market"


def test_a_faulty_file_is_refused_before_anything_runs(folder: Path) -> None:
    output = refused("compare-margin", "2025-10-10", "--models", "ps-1,none.toml", code=2)
    assert "no preset file 'none.toml'" in output
    assert "files that end in .toml" in refused(
        "compare-margin", "2025-10-10", "--models", "ps-2", code=2
    ).replace("\n", " ")


def test_presets_that_ship_and_build_on_others_charge_a_venue() -> None:
    for name in ("ps-1-linear-liquidity", "ps-1-dynamic-garch", "ps-1-dynamic-har"):
        assert load_venue("demo", preset=name).preset == load_preset(name)
