"""`uncross margin --model`: formula models and their inputs; what a file says beside prices."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from exchange.portfolios.file import example_text
from margin.reasons.explain_formula import INPUTS
from tests.cli.conftest import uncross
from tests.cli.portfolio_files import E6, EXAMPLE, PERPETUAL, PUT, explained, written


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "portfolio.json"
    path.write_text(example_text(), "utf-8")
    return path


@pytest.mark.parametrize("model", INPUTS)
def test_every_formula_model_explains_futures(tmp_path: Path, model: str) -> None:
    path = written(tmp_path / "futures.json", "positions", [EXAMPLE["positions"][0]])
    found = explained(path, "--model", model)
    assert found["model"] == model
    assert found["initial_minor"] >= found["maintenance_minor"] > 0
    output = uncross("margin", path, "--model", model).output
    assert "x 0.8" not in output
    assert f"{PERPETUAL}, BTC" in output
    page = tmp_path / "page.html"
    result = uncross("margin", path, "--model", model, "--plot", page)
    assert f"charges drawn in {page}" in result.output
    html = page.read_text("utf-8")
    for words in (f"{PERPETUAL},\\u003cbr\\u003eBTC", "charge, USDC", "maintenance margin",
                  f"initial {found['initial_minor'] / E6:,.2f}"):  # fmt: skip
        assert words in html, words


def test_standard_margin_of_the_example_says_what_the_documentation_says(example: Path) -> None:
    output = uncross("margin", example, "--model", "standard").output
    for line in (
        "initial margin      25,000.00  81.2 %",
        "BTC_USDC-27MAR26-90000-P, BTC     9,000.00  13,000.00",
        "BTC_USDC-PERPETUAL, BTC           6,500.00  10,000.00",
        "to a margin call 5,772.31: BTC -5.54 %",
    ):
        assert line in output, line


@pytest.mark.parametrize(
    ("model", "maintenance", "initial"),
    [
        ("ps-1", 22_099.47, 27_899.34),
        ("span-16", 24_321.53, 30_676.91),
        ("derive-pmrm2", 24_969.15, 31_511.43),
        ("derive-pmrm1", 26_985.88, 35_081.65),
        ("deribit", 27_297.51, 34_121.89),
        ("paradex", 12_465.66, 24_931.33),
        ("standard", 16_800, 25_000),
    ],
)
def test_the_example_under_every_model_is_what_the_documentation_says(
    example: Path, model: str, maintenance: float, initial: float
) -> None:
    found = explained(example, "--model", model)
    assert found["maintenance_minor"] / E6 == pytest.approx(maintenance, abs=0.005)
    assert found["initial_minor"] / E6 == pytest.approx(initial, abs=0.005)


def test_a_model_of_futures_refuses_the_example_in_one_line(example: Path) -> None:
    result = uncross("margin", example, "--model", "lognormal-es")
    assert result.exit_code == 1
    assert f"lognormal-es margins futures and perpetuals only, not {PUT}" in result.output
    assert result.output.count("\n") == 1


def test_model_inputs_stand_in_for_constants(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    written(path, "positions", [EXAMPLE["positions"][0]])
    plain = explained(path, "--model", "paradex-cross")
    assert plain["initial_minor"] == 2_000 * E6
    for value in (0.04, {"BTC": 0.04}):
        portfolio = {**json.loads(path.read_text("utf-8")), "model_inputs": {
            "paradex-cross": {"imf_base": value}}}  # fmt: skip
        other = tmp_path / "other.json"
        other.write_text(json.dumps(portfolio), "utf-8")
        assert explained(other, "--model", "paradex-cross")["initial_minor"] == 4_000 * E6


def test_doubtful_prices_and_a_cheap_stable_coin_raise_the_initial_margin(
    tmp_path: Path, example: Path
) -> None:
    plain = explained(example)
    doubt = explained(written(tmp_path / "doubt.json", "market", "confidences", "BTC", 0.5))
    charge = next(c for c in doubt["charges"] if c["name"] == "doubtful prices")
    assert charge["initial_minor"] == 100_000 * E6, "half of two coins' notional"
    assert doubt["initial_minor"] - plain["initial_minor"] == 100_000 * E6
    of_put = explained(written(tmp_path / "put.json", "market", "confidences", PUT, 0.5))
    assert of_put["initial_minor"] - plain["initial_minor"] == 50_000 * E6
    cheap = explained(written(tmp_path / "cheap.json", "market", "stable_price", 0.93))
    assert cheap["initial_factor_ppb"] == 1_100_000_000
    assert "x 0.8 and x 1.1" in uncross("margin", tmp_path / "cheap.json").output


def test_add_ons_are_charged_where_the_file_knows_the_market(tmp_path: Path) -> None:
    market = {**EXAMPLE["market"], "daily_volume": {"BTC": 10**6, "ETH": 10**9},
              "forecasts": {"BTC": 0.6, "ETH": 0.6}, "interval": 5,
              "funding": {PERPETUAL: 0.0001}}  # fmt: skip
    path = written(tmp_path / "mine.json", "market", market)
    found = explained(path)
    assert [part["name"] for part in found["add_ons"]] == ["liquidity", "gamma", "funding"]
    assert found["add_ons"][2]["maintenance_minor"] == 10 * E6
    plain = explained(written(tmp_path / "plain.json", "collateral", EXAMPLE["collateral"]))
    assert plain["add_ons"] == []
    added = sum(part["maintenance_minor"] for part in found["add_ons"])
    assert found["maintenance_minor"] - plain["maintenance_minor"] == added
    assert found["initial_minor"] - plain["initial_minor"] == added
    output = uncross("margin", path).output
    for line in (
        "initial margin      28,881.55  93.9 %",
        "liquidity                           970.61     970.61",
        "gamma                                 1.60       1.60",
        "funding                              10.00      10.00",
    ):
        assert line in output, line


def test_deribit_tells_what_a_pair_counts_towards_others(example: Path) -> None:
    """Two underlyings: the vectors are shown, at the worst volatility of each move."""
    output = uncross("margin", example, "--model", "deribit").output
    assert "net delta 0 ETH: delta shock 0 ETH (told, not charged)" in output
    assert "spot move, worst volatility  towards other pairs, ETH" in output
    assert "+18 %                                     -0.76271187" in output
    alone = written(example, "positions", [EXAMPLE["positions"][0]])
    alone.write_text(json.dumps(json.loads(alone.read_text()) | {"collateral": {"USDC": 30_000}}))
    output = uncross("margin", alone, "--model", "deribit").output
    assert "net delta" in output
    assert "towards other pairs" not in output, "there is no other"
    found = explained(alone, "--model", "deribit")
    assert len(found["pairs"][0]["counted_e8"]) == len(found["units"][0]["scenarios"])


def test_vega_s_levels_are_shown_with_what_was_asked_besides(tmp_path: Path) -> None:
    path = written(tmp_path / "futures.json", "positions", [EXAMPLE["positions"][0]])
    output = uncross("margin", path, "--model", "vega-levels").output
    assert f"{PERPETUAL}    10,100.00  11,110.00  12,120.00  14,140.00" in output
    assert "capped" not in output
    asked = {"vega-levels": {"isolated_factor": 0.2, "cap": {"BTC": 250_000}}}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_inputs": asked}))
    output = uncross("margin", path, "--model", "vega-levels").output
    assert "10.1 %  20,000.00  100,000.00" in output


def test_the_colours_of_the_grid_are_not_those_of_far_scenarios(
    example: Path, tmp_path: Path
) -> None:
    """Under Deribit's model a tail of +500 % is worth millions, the grid at most 29,761.12."""
    page = tmp_path / "page.html"
    uncross("margin", example, "--model", "deribit", "--plot", page)
    highest = [float(value) for value in re.findall(r'"zmax":([0-9.]+)', page.read_text("utf-8"))]
    assert highest == pytest.approx([29_761.12] * 2, abs=0.01), "one scale for both underlyings"
