"""`uncross stress`: figures by hand, the market of a journal, refusals, JSON and the drawing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.cli.stress_view import CREDITED, LEGEND, move_text
from exchange.core.commands import Revalue, SwitchMode, decode_command
from exchange.core.engine import Engine
from exchange.core.stored.ledger import HOUSE_POOLS
from exchange.core.venue import AccountClass
from exchange.market_stress import stressed_market
from exchange.storage.journal import Journal
from exchange.storage.recovery import STATE_HASH_KIND
from margin.models.venue_models import venue_model_names
from margin.presets import load_preset
from margin.reasons.explain_formula import model_names
from margin.stresses import stress_names
from tests.cli.conftest import uncross
from tests.core.journal_of import write_journal
from tests.core.market import LINEAR_BTC, Market, small
from tests.core.pools import isolated
from tests.test_moved_risk import equal_to_the_engine

USDC = 10**6
FUND = 10_000 * USDC
OWN = 'name = "own"\nvolatility = 0\n[spot]\ndefault = -0.3\n'


def portfolio(path: Path, usdc: float, *positions: tuple[str, float]) -> Path:
    text = {
        "market": {"time": "2026-02-25T08:00:00Z", "index": {"BTC": 100_000, "ETH": 4_000}},
        "collateral": {"USDC": usdc},
        "positions": [{"instrument": name, "quantity": size} for name, size in positions],
    }
    path.write_text(json.dumps(text), "utf-8")
    return path


@pytest.fixture
def long(tmp_path: Path) -> Path:
    """One bitcoin at 100,000 on 20,000."""
    return portfolio(tmp_path / "long.json", 20_000, ("BTC_USDC-PERPETUAL", 1))


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cycle 1: ann buys a bitcoin of seller at 100,000 and has 20,000. Cycle 2: at 95,000."""
    market = Market(small(collar={"band_ppb": 0}, default={"fund_minor": FUND}))
    ann, seller = market.account("ann", 20_000), market.account("seller", 1_000_000)
    market.trade(ann, seller, 1000, 200_000)
    market.cycle(95_000)
    return write_journal(market, tmp_path_factory.mktemp("market") / "short.journal")


def found(*arguments: object) -> dict[str, Any]:
    result = uncross("stress", *arguments, "--json")
    assert result.exit_code == 0, result.output
    decoded: dict[str, Any] = json.loads(result.output)
    return decoded


def shown(amount_minor: int) -> str:
    return f"{amount_minor / USDC:,.2f}"


# A portfolio


def test_a_future_loses_what_the_days_of_the_past_say(long: Path) -> None:
    # 2020: 49.75 % of spot and 12 % of what is left; all others spot alone
    output = uncross("stress", long).output
    for line in (
        "as it stands                20,000.00  18,000.00    14,300.00        ok",
        "2020-03-12    55,780.00    -35,780.00   8,080.20     6,413.91  bankrupt",
        "2021-05-19    31,600.00    -11,600.00 ",
        "2022-11-08    24,640.00     -4,640.00 ",
        "2025-10-10    17,130.00      2,870.00  14,916.60    11,850.41  backstop",
    ):
        assert line in output, output


def test_the_moves_that_break_it_are_those_of_the_hand(long: Path) -> None:
    # maintenance 0.8 x 16 % + 1.5 % and initial 16 % + 2 % of what the bitcoin is then worth
    (reverse,) = found(long)["reverse"]
    assert reverse["direction"] == "BTC"
    for level, part in (("call", 0.18), ("liquidation", 0.143), ("zero", 0.0)):
        exact = (20_000 - 100_000 * part) / (100_000 - 100_000 * part)
        assert -reverse[level]["fall_e9"] / 1e9 == pytest.approx(exact, abs=1e-8), level
        assert reverse[level]["rise_e9"] is None
    output = uncross("stress", long).output
    assert "margin call           BTC   -2.44 %     -\n" in output
    assert "liquidation           BTC   -6.66 %     -\n" in output
    assert f"below zero            BTC  -20.01 %     -\n{LEGEND}\n" in output, "at -20 % it has 0"


def test_several_underlyings_break_alone_and_together(tmp_path: Path) -> None:
    path = portfolio(tmp_path / "two.json", 40_000,
                     ("BTC_USDC-PERPETUAL", 1), ("ETH_USDC-PERPETUAL", 25))  # fmt: skip
    reverse = {row["direction"]: row for row in found(path)["reverse"]}
    assert list(reverse) == ["BTC", "ETH", "all together"]
    assert reverse["BTC"]["zero"]["fall_e9"] == reverse["ETH"]["zero"]["fall_e9"] == -400_000_001
    assert reverse["all together"]["zero"]["fall_e9"] == -200_000_001
    short = portfolio(tmp_path / "short.json", 40_000, ("BTC_USDC-PERPETUAL", -1))
    (row,) = found(short)["reverse"]
    assert row["zero"] == {"fall_e9": None, "rise_e9": 400_000_001}


def test_a_portfolio_of_money_alone_loses_nothing_and_says_none(tmp_path: Path) -> None:
    path = portfolio(tmp_path / "flat.json", 100)
    told = found(path)
    assert [row["loss_minor"] for row in told["outcomes"]] == [0] * 5
    assert {row["equity_minor"] for row in told["outcomes"]} == {100 * USDC}
    assert told["reverse"] == []
    output = uncross("stress", path).output
    assert output.endswith("\n\nno underlying is held, so no move of spot breaks it\n")


def test_moves_agree_with_the_distances_of_margin(tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_text(uncross("margin", "--example").output, "utf-8")
    for model in ("ps-1", "standard"):
        explained = json.loads(uncross("margin", path, "--json", "--model", model).output)
        distance = {unit["unit"]: unit["distance"] for unit in explained["units"]}
        told = found(path, "--model", model)
        assert told["model"] == model
        assert told["outcomes"][0]["equity_minor"] == explained["equity_minor"]
        for row in told["reverse"]:
            if row["direction"] not in distance:
                continue
            for level in ("call", "liquidation"):
                for side, way in (("fall", "down"), ("rise", "up")):
                    near = distance[row["direction"]][f"{level}_{way}_e9"]
                    exact = row[level][f"{side}_e9"]
                    assert (near is None) == (exact is None), (row, level)
                    assert near is None or abs(near - exact) <= 110_000, "margin's 0.01 %"


def test_the_move_that_is_named_breaks_the_portfolio(tmp_path: Path) -> None:
    path = tmp_path / "example.json"
    path.write_text(uncross("margin", "--example").output, "utf-8")
    told = uncross("stress", path).output
    assert "margin call                BTC   -2.18 % " in told
    assert "liquidation                BTC   -6.46 % " in told
    explained = uncross("margin", path).output
    assert "margin call where the index moves -2.18 %" in explained
    assert "liquidation where the index moves -6.46 %" in explained
    for move, standing in (("-2.17", "ok"), ("-2.18", "call"), ("-6.45", "call"),
                           ("-6.46", "liquidate")):  # fmt: skip
        changed = uncross("margin", path, "--what-if", f"BTC:spot={move}%", "--json").output
        assert json.loads(changed)["after"]["standing"] == standing
    assert [move_text(e9) for e9 in (-1, 1, -217_400_000, 217_400_000, -10**9 // 10)] == [
        "-0.01 %", "+0.01 %", "-21.74 %", "+21.74 %", "-10.00 %",
    ]  # fmt: skip


def test_a_coin_hedged_by_an_inverse_short_has_no_distance_to_liquidation(tmp_path: Path) -> None:
    path = portfolio(tmp_path / "hedged.json", 0, ("ETH-PERPETUAL", -20_000))
    text = json.loads(path.read_text())
    text["collateral"] = {"ETH": 5}
    path.write_text(json.dumps(text))
    (row,) = found(path)["reverse"]
    assert row["liquidation"] == row["zero"] == {"fall_e9": None, "rise_e9": None}
    assert row["call"] == {"fall_e9": None, "rise_e9": None}


def test_json_holds_the_numbers_of_the_table(long: Path, journal: Path) -> None:
    output, told = uncross("stress", long).output, found(long)
    for row in told["outcomes"]:
        amounts = (row["equity_minor"], row["initial_minor"], row["maintenance_minor"])
        assert all(shown(amount) in output for amount in amounts), row
        assert row["standing"] in output
    for row in told["grid"]:
        assert all(shown(amount) in output for amount in row["equity_minor"]), row
    output, told = uncross("stress", "--journal", journal).output, found("--journal", journal)
    for row in told["outcomes"]:
        lines = [text for text in output.splitlines() if text.startswith(f"{row['name']} ")]
        cells = [line.removeprefix(row["name"]).split() for line in lines]
        assert cells == [
            [shown(row["losses_minor"]), shown(row["burden_minor"]), shown(row["fund_minor"])],
            [str(row[f"{whose}_below_{what}"]) for what in ("maintenance", "zero")
             for whose in ("accounts", "pools")],
        ]  # fmt: skip
        for worst in row["worst"]:
            line = next(text for text in output.splitlines() if text.startswith(worst["pool"])
                        and shown(worst["equity_minor"]) in text)  # fmt: skip
            assert line.split()[1:] == [shown(worst["loss_minor"]), shown(worst["equity_minor"])]
    for row in told["grid"]:
        assert all(shown(amount) in output for amount in row["burden_minor"]), row


# A market


def test_the_market_of_a_journal_is_that_of_its_last_cycle_or_of_the_one_asked(
    journal: Path,
) -> None:
    last, before = found("--journal", journal), found("--journal", journal, "--cycle", 1)
    assert (last["cycle"], before["cycle"]) == (2, 1)
    assert last["accounts"] == before["accounts"] == 2
    # her 20,000 less a fee of 30, and 10,000 of the fund; at 95,000 she has lost 5,000
    for one, index, has in ((before, 100_000, 29_970), (last, 95_000, 24_970)):
        assert one["fund_minor"] == FUND
        fall_e9 = one["reverse"][0]["exhausted"]["fall_e9"]
        assert -fall_e9 / 1e9 == pytest.approx(has / index, abs=2e-9)
    output = uncross("stress", "--journal", journal, "--cycle", 1, "--stress", "2022-11-08").output
    assert output.startswith("venue small, cycle 1, closed ")
    assert "worst in 2022-11-08       loss  equity after\nann " in output


def test_another_model_judges_all_accounts(journal: Path) -> None:
    told = found("--journal", journal, "--model", "deribit")
    assert told["models"] == ["deribit"]
    own = found("--journal", journal)
    assert own["models"] != told["models"]
    for one, other in zip(own["outcomes"], told["outcomes"], strict=True):
        assert one["burden_minor"] == other["burden_minor"], "what is owed is no model's"


def test_pools_that_an_account_walls_off_are_in_it(tmp_path: Path) -> None:
    market = Market(small(collar={"band_ppb": 0}, default={"fund_minor": FUND}))
    alice, seller = market.account("alice", 60_000), market.account("seller", 1_000_000)
    market.trade(alice, seller, 1000, 200_000)
    pool = isolated(market, alice, usdc=25_000)
    market.do(SwitchMode, alice, LINEAR_BTC, pool)
    market.cycle()
    path = write_journal(market, tmp_path / "walled.journal")
    output = uncross("stress", "--journal", path, "--stress", "2020-03-12").output
    assert "2 accounts, 3 pools, ps-1, in USDC" in output
    assert "alice (isolated BTC_USDC-PERPETUAL)  55,780.00    -30,780.00\n" in output
    assert "2020-03-12                              1      1                     1      1" in output
    told = found("--journal", path, "--stress", "2020-03-12")
    (worst,) = told["outcomes"][1]["worst"]
    assert worst["account"] == "alice"
    assert told["outcomes"][1]["burden_minor"] == 30_780 * USDC
    # 25,000 in the pool and 10,000 of the fund
    assert told["reverse"][0]["exhausted"]["fall_e9"] == -350_000_001


def test_as_it_stands_is_what_the_engine_says_all_through_an_outage(tmp_path: Path) -> None:
    path = tmp_path / "out.journal"
    ran = uncross("demo", "--story", "venue-outage", "--fast", "--in-process", "--cycles", 40,
                  "--journal", path)  # fmt: skip
    assert ran.exit_code == 0, ran.output
    engine, own_short = Engine(), 0
    with Journal.open(path, read_only=True) as file:
        for record in file.records():
            if record.kind == STATE_HASH_KIND:
                continue
            command = decode_command(record.kind, record.payload)
            engine.apply(command)
            if isinstance(command, Revalue):
                equal_to_the_engine(engine)
                (now,) = stressed_market(engine, []).outcomes
                assert now.credit_minor == sum(engine.risk.backing.credit.values())
                if engine.cycle == 12:
                    risk = engine.risk
                    own_short = int((risk.equity < risk.maintenance)[HOUSE_POOLS:].sum())
                    assert not engine.state.accounts.calls
                    assert not engine.state.accounts.cases
    assert own_short > 0, "without what is elsewhere some would be below maintenance"
    output = uncross("stress", "--journal", path, "--cycle", 12, "--stress", "2025-10-10").output
    assert (
        "as it stands                            0      0                     0      0\n" in output
    )
    assert CREDITED in output


def test_all_models_that_can_judge_are_taken_and_told(long: Path, journal: Path) -> None:
    for name in ("standard", "fhs-es", "ps-1-dynamic", "ps-1-dynamic+floor"):
        assert found("--journal", journal, "--model", name, "--stress", "2022-11-08")["models"] == (
            [name]
        )
    refused = uncross("stress", "--journal", journal, "--model", "nope")
    assert refused.exit_code == 1
    known = ", ".join(dict.fromkeys(["ps-1", *venue_model_names()]))
    assert refused.output.endswith(
        f"Error: no model 'nope'; there are {known}, and files that end in .toml\n"
    )
    assert "no model" in uncross("stress", "--journal", journal, "--model", "vega-levels").output
    missing = uncross("stress", "--journal", journal, "--model", "missing.toml")
    assert (missing.exit_code, "missing.toml" in missing.output) == (1, True)
    refused = uncross("stress", long, "--model", "nope")
    assert refused.output == f"Error: no model 'nope'; there are {', '.join(model_names())}\n"
    for name in ("fhs-es", "standard", "lognormal-es", "ps-1-dynamic+floor"):
        assert name in model_names()
        assert found(long, "--model", name, "--stress", "2022-11-08")["model"] == name


def test_a_venue_s_own_model_is_taken_by_its_name(tmp_path: Path) -> None:
    dear = msgspec.structs.replace(load_preset("span-16"), name="dear")
    market = Market(small(collar={"band_ppb": 0}, account_classes=(AccountClass("desk", dear),)))
    market.account("ann")
    market.cycle()
    path = write_journal(market, tmp_path / "own.journal")
    assert found("--journal", path)["models"] == ["ps-1", "dear"]
    assert found("--journal", path, "--model", "dear")["models"] == ["dear"]


def test_a_journal_that_does_not_verify_says_where(journal: Path, tmp_path: Path) -> None:
    import shutil
    import sqlite3

    copy = tmp_path / "copy.journal"
    shutil.copy(journal, copy)
    shutil.copy(f"{journal}.watermark", f"{copy}.watermark")
    connection = sqlite3.connect(copy)
    connection.execute("UPDATE records SET time_ns = time_ns + 1 WHERE sequence = 4")
    connection.commit()
    connection.close()
    result = uncross("stress", "--journal", copy)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {copy}: does not verify: ")
    assert "record 4" in result.output
    assert "cycle 7 is not in it; the last is 2" in (
        uncross("stress", "--journal", journal, "--cycle", 7).output
    )


# Stresses and refusals


def test_stresses_are_chosen_by_name_and_by_file(long: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(OWN, "utf-8")
    told = found(long, "--stress", own, "--stress", "2022-11-08")
    rows = [(row["name"], row["loss_minor"]) for row in told["outcomes"]]
    assert rows == [("as it stands", 0), ("own", 30_000 * USDC), ("2022-11-08", 24_640 * USDC)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (OWN.replace("-0.3", "-1"), "spot.default: must lie in -0.99 .. 5"),
        (OWN.replace("volatility", "vol"), "vol: unknown key"),
        (OWN.replace("own", "2020-03-12"), "name: there are two stresses '2020-03-12'"),
        ("[", "Invalid"),
    ],
)
def test_a_stress_file_that_cannot_be_used_names_file_and_key(
    long: Path, tmp_path: Path, text: str, message: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text, "utf-8")
    result = uncross("stress", long, "--stress", "2020-03-12", "--stress", own)
    assert result.exit_code == 1
    assert str(own) in result.output
    assert message in result.output


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("as it stands", "name: 'as it stands' is the row of no stress at all"),
        ("two\\nlines", "name: must be one line of characters that print"),
    ],
)
def test_a_name_that_would_break_a_table_is_refused(
    long: Path, tmp_path: Path, name: str, message: str
) -> None:
    own = tmp_path / "own.toml"
    own.write_text(OWN.replace('"own"', f'"{name}"'), "utf-8")
    result = uncross("stress", long, "--stress", own)
    assert result.exit_code == 1
    assert result.output == f"Error: {own}: {message}\n"


def test_a_file_of_another_ending_is_told_how_files_end(long: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text(OWN, "utf-8")
    output = uncross("stress", long, "--stress", own).output
    assert output.endswith("; a file's name ends in .toml\n")


def test_every_line_fits_in_80_columns(tmp_path: Path, journal: Path) -> None:
    coins = ("BTC", "ETH", "SOL", "XRP", "DOGE")
    path = tmp_path / "wide.json"
    path.write_text(json.dumps({
        "market": {"time": "2026-02-25T08:00:00Z", "index": dict.fromkeys(coins, 100_000)},
        "collateral": {"USDC": 234_567_890.12},
        "positions": [{"instrument": f"{coin}_USDC-PERPETUAL", "quantity": 1_200}
                      for coin in coins],
    }))  # fmt: skip
    for output in (uncross("stress", path).output, uncross("stress", "--journal", journal).output):
        assert max(map(len, output.splitlines())) <= 80, output
        assert output.count(LEGEND) == 1
    output = uncross("stress", path).output
    assert "as it stands                234,567,890" in output, (
        "whole USDC where cents are too wide"
    )
    assert output.count("\nmove ") == 2, "four directions beside each other"


def test_refusals_are_one_line(long: Path, journal: Path, tmp_path: Path) -> None:
    unknown = uncross("stress", long, "--stress", "2019-01-01")
    assert unknown.exit_code == 1
    assert unknown.output == (
        f"Error: no stress '2019-01-01'; there are {', '.join(stress_names())}; "
        "a file's name ends in .toml\n"
    )
    large = portfolio(tmp_path / "large.json", 0, ("BTC_USDC-PERPETUAL", 40_000),
                      ("ETH_USDC-PERPETUAL", 1_000_000))  # fmt: skip
    assert "positions: too large to be added exactly" in uncross("stress", large).output
    for arguments in ((), (long, "--journal", journal), (long, "--cycle", 1),
                      ("--journal", journal, "--venue", "demo")):  # fmt: skip
        assert uncross("stress", *arguments).exit_code == 2, arguments
    refused = CliRunner().invoke(main, ["stress", "-"], input="[]")
    assert refused.output == "Error: standard input: the file: must be an object, not []\n"


def test_what_is_drawn_needs_no_other_file(long: Path, journal: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert f"drawn in {page}" in uncross("stress", long, "--plot", page).output
    text = page.read_text("utf-8")
    assert "ps-1: stress of the portfolio, USDC" in text
    falls = {"margin call": "-2.44", "liquidation": "-6.66", "below zero": "-20.01"}
    for level, fall in falls.items():
        assert f"<td>{level}</td><td>BTC</td><td>{fall} %</td><td>-</td>" in text
        assert f'"name":"{level}"' in text, "marked on the line"
    assert "Plotly.newPlot" in text
    uncross("stress", "--journal", journal, "--plot", page)
    text = page.read_text("utf-8")
    assert "small, cycle 2: stress of the market, USDC" in text
    assert "<td>exhaust the fund</td><td>all together</td><td>-26.29 %</td>" in text
    for title in ("stress", "USDC", "move of spot", "burden of the fund, USDC"):
        assert f'"title":{{"text":"{title}"}}' in text
    # every direction under the one before it, thinner each time: none hides another
    drawn = [(name, text.index(f'"name":"{name}"')) for name in ("all together", "ETH", "BTC")]
    assert drawn == sorted(drawn, key=lambda row: row[1])
    assert text.count('"legend":"legend2"') >= len(drawn)
