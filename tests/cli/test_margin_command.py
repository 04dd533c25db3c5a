"""`uncross margin`: the example's figures, changes, refusals, JSON and the drawn scenarios."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.contract_names import NameRefused, coin_and_expiry, contract_of
from exchange.portfolios.file import example_text
from exchange.venues import load_venue, venue_names
from margin.presets import preset_names
from tests.cli.conftest import traces, uncross
from tests.cli.portfolio_files import E6, EXAMPLE, PERPETUAL, PUT, explained, written


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "portfolio.json"
    path.write_text(uncross("margin", "--example").output, "utf-8")
    return path


# The example


def test_the_example_says_what_the_documentation_says(example: Path) -> None:
    output = uncross("margin", example).output
    for line in (
        "ps-1 at 25 Feb 2026 08:00:00 UTC, in USDC",
        "equity              30,772.31",
        "initial margin      27,899.34  90.7 %",
        "maintenance margin  22,099.47  71.8 %",
        "standing: ok",
        "to a margin call 2,872.97: BTC -2.18 %",
        "to liquidation 8,672.84: BTC -6.46 %",
        "worst 24,999.34 x 0.8 and x 1    19,999.47  24,999.34",
        "naked short options, BTC            300.00     500.00",
        "delta-one size, ETH                 300.00     400.00",
        "ETH              5              0  4,000.00  20,000.00      7 %  1,400.00  18,600.00",
        "BTC at 100,000.00: loses 24,999.34; spot -16 %, volatility up",
        "BTC_USDC-27MAR26-90000-P        -1    1,827.69              -8,999.34",
        "BTC_USDC-PERPETUAL               1  100,000.00             -16,000.00",
        "-16 %           -21,643.53             -22,706.95      -24,999.34*",
        "spot -66 %, volatility up        0.1818      -21,849.51",
        "linear skew of volatility        1.0000          -89.57",
        "absolute skew of volatility      1.0000          -90.63",
        "the worse basis of every expiry  1.0000         -776.17",
    ):
        assert line in output, line


def test_what_a_haircut_is_for_size_has_a_column_where_there_is_any(tmp_path: Path) -> None:
    assert (
        "for size" not in uncross("margin", written(tmp_path / "a", "collateral", "BTC", 99)).output
    )
    path = written(tmp_path / "b", "collateral", "BTC", 300)
    output = uncross("margin", path, "--model", "ps-1").output
    assert "for size, of it" in output
    row = "30,000,000.00      5 %  2,125,000.00  27,875,000.00       625,000.00"
    assert row in output
    (coin,) = [part for part in explained(path)["collateral"] if part["currency"] == "BTC"]
    assert (coin["haircut_minor"], coin["size_minor"]) == (2_125_000 * E6, 625_000 * E6)
    assert "for size" not in uncross("margin", path, "--model", "span-16").output


def test_a_narrow_page_has_the_haircuts_in_a_table_of_their_own(tmp_path: Path) -> None:
    path = written(tmp_path / "b", "collateral", "BTC", 300)
    output = uncross("margin", path, "--model", "ps-1", columns=80).output
    assert max(map(len, output.splitlines())) <= 80
    words = [line.split() for line in output.splitlines()]
    assert ["collateral", "cash", "options", "index", "value"] in words
    assert ["BTC", "300", "0", "100,000.00", "30,000,000.00"] in words
    assert "BTC             5 %  2,125,000.00  27,875,000.00       625,000.00" in output
    assert len(words) > len(uncross("margin", path, "--model", "ps-1").output.splitlines())


def test_json_holds_the_numbers_of_the_table(example: Path) -> None:
    output, found = uncross("margin", example).output, explained(example)
    assert found["model"] == "ps-1"
    for key in ("equity_minor", "initial_minor", "maintenance_minor", "worst_minor",
                "call_distance_minor", "liquidation_distance_minor"):  # fmt: skip
        assert f"{found[key] / E6:,.2f}" in output, key
    for unit in found["units"]:
        for row in unit["scenarios"]:
            assert f"{abs(row['profit_minor']) / E6:,.2f}" in output, row
        for part in unit["positions"]:
            assert part["name"] in output
            assert f"{abs(part['profit_minor']) / E6:,.2f}" in output, part
    for charge in found["charges"]:
        assert f"{charge['name']}, {charge['unit']}" in output
        assert f"{charge['maintenance_minor'] / E6:,.2f}" in output
    for part in found["collateral"]:
        assert f"{part['haircut_minor'] / E6:,.2f}" in output


def test_a_portfolio_may_come_by_standard_input() -> None:
    result = CliRunner().invoke(main, ["margin", "-", "--json"], input=example_text())
    assert json.loads(result.output)["initial_minor"] == 27_899_339_230
    refused = CliRunner().invoke(main, ["margin", "-"], input="[]")
    assert refused.output == "Error: standard input: the file: must be an object, not []\n"


@pytest.mark.parametrize("model", preset_names())
def test_every_model_that_ships_explains_the_example(example: Path, model: str) -> None:
    found = explained(example, "--model", model)
    assert found["model"] == model
    assert found["initial_minor"] >= found["maintenance_minor"] > 0
    assert f"{model} at " in uncross("margin", example, "--model", model).output


def test_the_option_goes_before_the_file_and_a_model_is_one_that_ships(example: Path) -> None:
    written(example, "model", "none")
    assert "no model 'none'" in uncross("margin", example).output
    assert explained(example, "--model", "ps-1")["model"] == "ps-1"
    assert "no model 'other'" in uncross("margin", example, "--model", "other").output


@pytest.mark.parametrize("model", ["fhs-es", "ps-1-dynamic+floor"])
def test_a_portfolio_is_asked_about_under_every_model_of_a_venue(
    example: Path, tmp_path: Path, model: str
) -> None:
    found = explained(example, "--model", model)
    assert found["model"] == model
    assert found["initial_minor"] >= found["maintenance_minor"] > 0
    named = written(tmp_path / "named.json", "model", model)
    assert explained(named) == found, "the file may name it, too"
    stress = uncross("stress", example, "--model", model, "--json")
    first = json.loads(stress.output)["outcomes"][0]
    assert (first["initial_minor"], first["maintenance_minor"]) == (
        found["call_initial_minor"], found["maintenance_minor"],
    )  # fmt: skip


def test_a_floor_of_what_forecasts_nothing_is_refused_in_words(example: Path) -> None:
    for command in ("margin", "stress"):
        result = uncross(command, example, "--model", "fhs-es+floor")
        assert result.exit_code == 1
        assert "fhs-es: forecasts nothing that could be a floor" in result.output
        assert "no model 'x'; there are" in uncross(command, example, "--model", "x").output


def test_dates_name_their_weight_and_what_a_position_takes_to_close(
    example: Path, tmp_path: Path
) -> None:
    """200,000 in BTC against a tenth of 1.5 M a day: two days; of ETH 20,000 in one."""
    calm = explained(example, "--model", "fhs-es")
    market = {**EXAMPLE["market"], "daily_volume": {"BTC": 1.5e6, "ETH": 1e9},
              "forecasts": {"BTC": 0.6, "ETH": 0.75}}  # fmt: skip
    path = written(tmp_path / "thin.json", "market", market)
    thin = explained(path, "--model", "fhs-es")
    assert [u["horizon_days"] for u in calm["simulated"]["units"]] == [1, 1]
    assert [u["horizon_days"] for u in thin["simulated"]["units"]] == [2, 1]
    assert thin["worst_minor"] > 1.2 * calm["worst_minor"]
    output = uncross("margin", path, "--model", "fhs-es").output
    for line in (
        "mean loss of the worst 2.5 % of 398 dates and 40 stressed ones, which weigh 25 %",
        "underlying    notional  days to close  a day moves    floor  stressed",
        "BTC         200,000.00              2       3.14 %  2.512 %    4.71 %",
    ):
        assert line in output, line
    assert explained(example)["simulated"] is None, "scenarios have no dates"


def test_a_quick_look_by_delta_and_gamma_stands_beside_the_dates(example: Path) -> None:
    unit = explained(example, "--model", "fhs-es")["simulated"]["units"][0]
    assert unit["screen_is_valid"]
    assert unit["gamma_e8"] < 0 < unit["delta_e8"]
    output = uncross("margin", example, "--model", "fhs-es").output
    assert "by delta and gamma (a screen, never charged) and in full" in output
    assert f"{unit['screen_minor'] / 1e6:,.2f}" in output
    for changes, asked in (("cash:+30000", False), ("BTC_USDC-PERPETUAL:+1,cash:+30000", True)):
        answer = uncross("margin", example, "--model", "fhs-es", "--what-if", changes)
        words = "asks for a full reprice" if asked else "would let the margin before stand"
        assert f"delta-gamma screen: {words}" in answer.output
        found = explained(example, "--model", "fhs-es", "--what-if", changes)
        assert found["screen_asks_for_reprice"] is asked
    assert "screen_asks_for_reprice" not in explained(example, "--what-if", "cash:+1")
    sold = written(example, "positions", 0, "quantity", 0.01)
    assert "not valid" in uncross("margin", sold, "--model", "fhs-es").output


def test_finer_quantities_are_margined_alike(tmp_path: Path) -> None:
    """The lot follows the quantities; a thousandth of a coin more changes what it should."""
    more = explained(written(tmp_path / "more.json", "positions", 0, "quantity", 1.00000001))
    whole = explained(written(tmp_path / "whole.json", "positions", 0, "quantity", 1))
    assert 0 < more["initial_minor"] - whole["initial_minor"] < 2_000


# Changes


@pytest.mark.parametrize("change", [f"{PERPETUAL}:+2", f"{PUT}:-3", "cash:-1000", "ETH:+0.25"])
def test_a_change_and_its_opposite_change_nothing(example: Path, change: str) -> None:
    name, _, amount = change.partition(":")
    back = f"{name}:{'-' if amount[0] == '+' else '+'}{amount[1:]}"
    found = explained(example, "--what-if", f"{change},{back}")
    assert found["before"] == found["after"] == explained(example)
    assert explained(example, "--what-if", change)["after"] != found["before"]


def test_what_if_stands_beside_what_is(example: Path) -> None:
    changes = f"{PERPETUAL}:-1,USDC:-500,BTC:spot=-10%,BTC:vol=+20%"
    output = uncross("margin", example, "--what-if", changes).output
    found = explained(example, "--what-if", changes)
    assert found["changes"] == changes
    assert output.startswith(f"what if {changes}\n")
    before, after = found["before"], found["after"]
    assert before == explained(example)
    for key in ("initial_minor", "equity_minor", "maintenance_minor"):
        row = f"{before[key] / E6:,.2f}  {after[key] / E6:,.2f}"
        assert row in re.sub(r" +", "  ", output), key
    assert after["units"][0]["index_e8"] == 90_000 * 10**8
    assert "after the changes" in output


def test_the_changes_of_the_documentation_end_in_a_call(example: Path) -> None:
    output = uncross("margin", example, "--what-if", "BTC:spot=-5%,cash:+1000").output
    for line in (
        "equity                30,772.31  25,443.95  -5,328.35",
        "initial margin        27,899.34  28,290.37     391.03",
        "standing                     ok       call",
    ):
        assert line in output, line


def test_changes_are_made_from_left_to_right(example: Path) -> None:
    first = explained(example, "--what-if", f"{PERPETUAL}:+1,BTC:spot=-10%")["after"]
    last = explained(example, "--what-if", f"BTC:spot=-10%,{PERPETUAL}:+1")["after"]
    assert last["equity_minor"] - first["equity_minor"] == 10_000 * E6, "who held it lost"
    assert last["initial_minor"] == first["initial_minor"]


def test_a_contract_that_is_not_held_may_be_traded(example: Path) -> None:
    found = explained(example, "--what-if", "BTC_USDC-27MAR26-90000-C:-1")
    options = [part["option_value_minor"] for part in
               (found["before"]["collateral"][0], found["after"]["collateral"][0])]  # fmt: skip
    assert options[1] < options[0]
    assert found["after"]["equity_minor"] == found["before"]["equity_minor"], "at its mark"
    assert found["after"]["initial_minor"] < found["before"]["initial_minor"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("BTC", "what-if 'BTC': a change is INSTRUMENT:+1"),
        ("BTC:spot=-10", "what-if 'BTC:spot=-10': a move is a percentage, such as -10%"),
        ("BTC:spot=-100%", "what-if 'BTC:spot=-100%': -100 is out of bounds: must be from"),
        ("BTC:spot=+501%", "+501%': 501 is out of bounds: must be from -99.9999999 to 500"),
        ("", "what-if '': a change is INSTRUMENT:+1"),
        ("ETH:+5000000", "what-if 'ETH:+5000000': after it, collateral.ETH: too large"),
        (f"{PERPETUAL}:1e4,ETH:+4e7", "what-if 'ETH:+4e7': after it, collateral.ETH: too large"),
        ("SOL-PERPETUAL:1", "what-if 'SOL-PERPETUAL:1': SOL-PERPETUAL is on SOL: there is no SOL"),
        ("BTC-27MAR25:1", "what-if 'BTC-27MAR25:1': BTC-27MAR25 has expired"),
        (f"{PERPETUAL}:1e9", f"what-if '{PERPETUAL}:1e9': the quantity is worth more than"),
        ("DOGE:spot=1%", "what-if 'DOGE:spot=1%': there is no underlying DOGE"),
        ("BTC:rate=1%", "what-if 'BTC:rate=1%': 'rate' is neither spot nor vol"),
        ("cash:much", "what-if 'cash:much': 'much' is no number"),
        ("cash:nan", "what-if 'cash:nan': 'nan' is no number"),
        ("cash:0.0000001", "what-if 'cash:0.0000001': 1E-7 is finer than 10^-6"),
        ("BTC-27MAR26-91000-P:1", "has no volatility in market.volatilities"),
        ("BTC_USDC-27MAR26-95000-P:1", "has no volatility in market.volatilities"),
        (f"{PERPETUAL}:1e9", "is worth more than 4,503,599,627 USDC"),
        ("BTC:spot=+500%," * 20 + "cash:1", "its bounds: it may be at most 11258999"),
        ("cash:1," * 100 + "cash:1", "more than 100 changes"),
    ],
)
def test_a_wrong_change_is_one_line_that_names_it(
    example: Path, changes: str, message: str
) -> None:
    result = uncross("margin", example, "--what-if", changes)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1


# Files


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("colour", 1),
            "colour: unknown key; allowed: positions, model, market, collateral, model_inputs",
        ),
        (("model", 1), "model: must be text, not 1"),
        (("model", ""), 'model: must be text, not ""'),
        (("positions", {}), "positions: must be a list, not {}"),
        (("positions", 1, 7), "positions[1]: must be an object, not 7"),
        (("positions", 1, {"instrument": PUT}), "positions[1].quantity: is missing"),
        (("positions", 1, "side", "buy"), "positions[1].side: unknown key"),
        (("positions", 1, "quantity", "1"), 'positions[1].quantity: must be a number, not "1"'),
        (("positions", 1, "quantity", True), "positions[1].quantity: must be a number, not true"),
        (("positions", 1, "quantity", 1e-9), "positions[1].quantity: 1E-9 is finer than 10^-8"),
        (("positions", 1, "quantity", 1e30), "positions[1].quantity: 1E+30 is out of bounds"),
        (("positions", 1, "quantity", 1e8), "positions[1].quantity: is worth more than"),
        (("positions", 1, "instrument", PERPETUAL), f"positions[1].instrument: {PERPETUAL} comes"),
        (("positions", 1, "instrument", 3), "positions[1].instrument: must be text, not 3"),
        (("positions", 1, "instrument", "BTC"), "positions[1].instrument: 'BTC' is no contract's"),
        (("positions", 1, "instrument", "BTC_USDC-31FEB26"), "there is no day 31FEB26"),
        (("positions", 1, "instrument", "BTC_USDC-03MAR26"), "the day is written 3MAR26"),
        (("positions", 1, "instrument", "BTC_USDC-24FEB26"), "has expired at the market's time"),
        (("positions", 1, "instrument", "SOL_USDC-PERPETUAL"), "there is no SOL in market.index"),
        (("positions", 1, "instrument", "BTC_USDC-27MAR26-1-P"), "has no volatility in market"),
        (("collateral", "SOL", 1), "collateral.SOL: no such currency; there are USDC, BTC, ETH"),
        (("collateral", "USDC", None), "collateral.USDC: must be a number, not null"),
        (("collateral", []), "collateral: must be an object, not []"),
        (("market", "time", "2026-02-25"), "market.time: must be a date and time with an offset"),
        (("market", "time", 5), "market.time: must be a date and time with an offset"),
        (("market", "index", {}), "market.index: names no underlying"),
        (("market", "index", "BTC", 0), "BTC: 0 is out of bounds: must be from 0.00000001"),
        (("market", "index", "USDC", 1), "market.index.USDC: USDC is what prices are in"),
        (("market", "index", "", 1), "market.index.: '' is no coin's name"),
        (("market", "index", "Bitcoin", 1), "market.index.Bitcoin: 'Bitcoin' is no coin's name"),
        (("market", "index", "BTC_USDC", 1), "'BTC_USDC' is no coin's name"),
        (("market", "index", "BTC", -1), "market.index.BTC: -1 is out of bounds"),
        (("market", "marks", PUT, 5), f"market.marks.{PUT}: an option has no mark of its own"),
        (("market", "volatilities", PUT, 50), f"{PUT}: 50 is out of bounds: must be from 0.0"),
        (("market", "marks", "SOL-PERPETUAL", 5), "market.marks.SOL-PERPETUAL: there is no SOL"),
        (("market", "forwards", "SOL-27MAR26", 5), "forwards.SOL-27MAR26: there is no SOL in"),
        (("market", "rates", "SOL-27MAR26", 0), "rates.SOL-27MAR26: there is no SOL in market"),
        (("market", "confidences", "SOL-PERPETUAL", 1), "there is no SOL in market.index"),
        (("collateral", "ETH", 1e8), "collateral.ETH: too large to be added exactly"),
        (("collateral", "USDC", 1e12), " is out of bounds: must be from -36028797018"),
        (("market", "volatilities", PERPETUAL, 1), f"{PERPETUAL} is no option"),
        (("market", "volatilities", PUT[:-1] + "C", 0.6), "one strike have one volatility"),
        (("market", "forwards", "BTC", 1), "market.forwards.BTC: 'BTC' is no underlying and exp"),
        (("market", "rates", "BTC-27MAR26", 9), "market.rates.BTC-27MAR26: 9 is out of bounds"),
        (("market", "confidences", "BTC", 2), "market.confidences.BTC: 2 is out of bounds"),
        (("market", "stable_price", 0), "price: 0 is out of bounds: must be from 0.00000001 to 2"),
        (("market", "spot", 1), "market.spot: unknown key; allowed: time, index"),
        (("market", "confidences", "XRP", 1), "market.confidences.XRP: 'XRP' is no contract's na"),
        (("market", "interval", 5), "market.daily_volume.BTC: is missing"),
        (("market", "daily_volume", {"BTC": 1}), "market.daily_volume.ETH: is missing"),
        (("market", "daily_volume", {"XRP": 1}), "market.daily_volume.XRP: unknown key"),
        (("model_inputs", {"ps-1": {}}), "model_inputs.ps-1: unknown key; allowed: standard"),
        (("model_inputs", {"paradex-cross": {"base": 1}}), "model_inputs.paradex-cross.base: unk"),
        (("model_inputs", {"paradex-cross": {"imf_base": 2}}), "imf_base.BTC: 2 is out of bounds"),
    ],
)
def test_a_wrong_portfolio_is_one_line_that_names_the_place(
    tmp_path: Path, change: tuple[object, ...], message: str
) -> None:
    path = written(tmp_path / "mine.json", *change)
    result = uncross("margin", path)
    assert result.exit_code == 1
    assert f"{path}: " in result.output
    assert message in result.output
    assert result.output.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes in line 1, column 2"),
        ('{"positions": [], "positions": []}', "the key 'positions' comes twice"),
        ('{"positions": NaN}', "NaN is no JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"positions": []}', "market: is missing (or take a venue's opening with --venue)"),
        (" " * 2_000_000, "longer than 1048576 characters"),
        ('{"market": {}, "positions": 1' + "0" * 5_000 + "}", "market.time: is missing"),
    ],
)
def test_what_is_no_portfolio_at_all_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text, "utf-8")
    result = uncross("margin", path)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.count("\n") == 1


def test_a_file_is_needed_and_must_be_there(tmp_path: Path) -> None:
    assert uncross("margin").exit_code == 2
    missing = uncross("margin", tmp_path / "missing.json")
    assert missing.exit_code == 2
    assert "missing.json" in missing.output
    binary = tmp_path / "binary.json"
    binary.write_bytes(b"\xff\xfe")
    assert uncross("margin", binary).output.endswith("is no UTF-8 text\n")


# A venue's opening instead of a market


def venue_portfolio(path: Path, quantity: object, name: str = PERPETUAL) -> Path:
    portfolio = {"collateral": {"USDC": 50_000, "BTC": 0.1},
                 "positions": [{"instrument": name, "quantity": quantity}]}  # fmt: skip
    path.write_text(json.dumps(portfolio), "utf-8")
    return path


def test_a_venue_gives_contracts_lots_and_opening_marks(tmp_path: Path) -> None:
    path = venue_portfolio(tmp_path / "mine.json", -0.5)
    found = explained(path, "--venue", "demo")
    (btc,) = found["units"]
    assert btc["index_e8"] == 117_000 * 10**8
    assert btc["positions"][0]["lot_e8"] == 10**5
    assert found["time_ns"] == load_venue("demo").opening_time_ns
    # 0.4 coins short after the collateral: 16 %, and 2 % of 0.5 coins
    assert found["initial_minor"] == int(117_000 * (0.4 * 0.16 + 0.5 * 0.02) * E6)
    option = next(s.name for s in load_venue("demo").instruments if s.strike_e8)
    assert explained(venue_portfolio(path, 1, option), "--venue", "demo")["units"]


@pytest.mark.parametrize(
    ("quantity", "name", "message"),
    [
        (0.0005, PERPETUAL, "positions[0].quantity: is no multiple of the lot of 0.001"),
        (1e3, PERPETUAL, "positions[0].quantity: is above the largest position at demo"),
        (1, PUT, f"positions[0].instrument: {PUT} is not listed at demo"),
    ],
)
def test_a_venue_refuses_what_it_would_not_hold(
    tmp_path: Path, quantity: float, name: str, message: str
) -> None:
    result = uncross(
        "margin", venue_portfolio(tmp_path / "mine.json", quantity, name), "--venue", "demo"
    )
    assert result.exit_code == 1
    assert message in result.output


def test_there_is_one_market(example: Path) -> None:
    assert "leave one of the two" in uncross("margin", example, "--venue", "demo").output
    assert "no venue 'nowhere'" in uncross("margin", example, "--venue", "nowhere").output


# Names


def test_every_contract_that_a_venue_lists_is_read_back_from_its_name() -> None:
    for venue in map(load_venue, venue_names()):
        for spec in venue.instruments:
            found = contract_of(spec.name)
            assert (found.kind, found.expiry_ns, found.strike_e8, found.coin) == (
                spec.kind, spec.expiry_ns, spec.strike_e8, venue.underlyings[spec.underlying].name,
            )  # fmt: skip


def test_strikes_may_have_a_point() -> None:
    assert contract_of("XRP_USDC-27MAR26-0d5-C").strike_e8 == 5 * 10**7
    for name in ("XRP_USDC-27MAR26-0d50-C", "XRP_USDC-27MAR26-00-C", "XRP_USDC-27MAR26-01-C"):
        with pytest.raises(NameRefused):
            contract_of(name)
    assert coin_and_expiry("BTC-27MAR26") == ("BTC", 1_774_598_400 * 10**9)


# The drawing


def test_the_page_holds_the_numbers_of_the_grid_and_needs_no_network(
    example: Path, tmp_path: Path
) -> None:
    page = tmp_path / "plot.html"
    result = uncross("margin", example, "--plot", page)
    assert f"scenarios drawn in {page}" in result.output
    html = page.read_text("utf-8")
    assert not re.search(r"<(script|link)[^>]+(src|href)=", html), "nothing is fetched"
    found, (heat, bars, *_) = explained(example), traces(html)
    rows = found["units"][0]["scenarios"]
    grid = {(r["cell"]["spot_move_e9"], r["cell"]["volatility"]): r["profit_minor"] / E6
            for r in rows if r["cell"]["kind"] == "grid"}  # fmt: skip
    moves = sorted({move for move, _ in grid})
    assert heat["z"] == [[grid[m, side] for m in moves] for side in ("down", "unchanged", "up")]
    assert heat["x"][0] == "-16 %"
    assert "worst" in heat["text"][2][0]
    others = [r["profit_minor"] / E6 for r in rows if r["cell"]["kind"] != "grid"]
    assert bars["x"] == others
    assert bars["orientation"] == "h", "names of scenarios have lines of their own"
    assert "profit or loss, USDC" in html
    assert len(traces(html)) == 2, "nothing moves the hedged ETH"
    assert "ETH: nothing moves it (0.00 in every scenario)" in html
    both = tmp_path / "both.html"
    uncross("margin", example, "--what-if", "BTC:spot=-5%", "--plot", both)
    assert len(traces(both.read_text("utf-8"))) == 2 * len(traces(html))
    empty = written(tmp_path / "empty.json", "positions", [])
    written(empty, "collateral", {})
    empty.write_text(json.dumps({**EXAMPLE, "positions": [], "collateral": {}}), "utf-8")
    assert f"nothing at risk drawn in {page}" in uncross("margin", empty, "--plot", page).output
    assert "Nothing is at risk" in page.read_text("utf-8")


def test_a_loss_that_shows_as_nothing_is_said_to_be_nothing(tmp_path: Path) -> None:
    """All but a ten-millionth of a coin is hedged."""
    path = tmp_path / "hedged.json"
    path.write_text(json.dumps({
        "market": {"time": "2026-02-25T08:00:00Z", "index": {"ETH": 4_000}},
        "collateral": {"ETH": 5.0000001},
        "positions": [{"instrument": "ETH-PERPETUAL", "quantity": -20_000}],
    }))  # fmt: skip
    (unit,) = json.loads(uncross("margin", path, "--json").output)["units"]
    assert 0 < unit["loss_minor"] < 5_000
    output = uncross("margin", path).output
    assert "ETH at 4,000.00: loses 0.00; no scenario loses half a cent\n" in output
    assert "*" not in output
    exact = path.read_text().replace("5.0000001", "5")
    path.write_text(exact)
    assert "loses 0.00; no scenario loses\n" in uncross("margin", path).output
