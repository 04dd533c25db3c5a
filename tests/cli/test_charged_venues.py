"""What-ifs on a venue that is charged by rules or by dates: the venue's own model, unless told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from exchange.venues import load_venue
from tests.cli.conftest import uncross

USDC = 10**6


@pytest.fixture
def files(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path]:
    """A portfolio of two perpetuals, and the demo's venue under the model of the test."""
    shipped = Path(load_venue.__code__.co_filename).parent / "demo.toml"
    venue, portfolio = tmp_path / "own.toml", tmp_path / "portfolio.json"
    text = shipped.read_text("utf-8")
    venue.write_text(text.replace('preset = "ps-1"', f'preset = "{request.param}"'), "utf-8")
    held = [{"instrument": "BTC_USDC-PERPETUAL", "quantity": 1},
            {"instrument": "ETH_USDC-PERPETUAL", "quantity": -5}]  # fmt: skip
    portfolio.write_text(json.dumps({"collateral": {"USDC": 14_000}, "positions": held}), "utf-8")
    return portfolio, venue


@pytest.mark.parametrize("files", ["fhs-es"], indirect=True)
def test_a_shortfall_is_taken_apart_by_position(files: tuple[Path, Path]) -> None:
    portfolio, venue = files
    found = json.loads(uncross("margin", portfolio, "--venue", venue, "--json").stdout)
    assert found["model"] == "fhs-es"
    parts = {p["name"]: p["profit_minor"] for u in found["units"] for p in u["positions"]}
    assert parts["BTC_USDC-PERPETUAL"] < 0 < parts["ETH_USDC-PERPETUAL"], "a hedge gains"
    assert -sum(parts.values()) == found["worst_minor"]
    assert found["scenario_maintenance_minor"] == -(-found["worst_minor"] * 8 // 10)
    told = uncross("stress", portfolio, "--venue", venue, "--json").stdout
    first = json.loads(told)["outcomes"][0]
    assert abs(first["initial_minor"] - found["initial_minor"]) < USDC // 100


@pytest.mark.parametrize("files", ["standard"], indirect=True)
def test_rules_are_told_by_contract(files: tuple[Path, Path]) -> None:
    portfolio, venue = files
    found = json.loads(uncross("margin", portfolio, "--venue", venue, "--json").stdout)
    charges = {row["name"]: row["maintenance_minor"] for row in found["charges"]}
    assert charges == {"BTC_USDC-PERPETUAL": 7_605 * USDC, "ETH_USDC-PERPETUAL": 1_332_500_000}


@pytest.mark.parametrize("files", ["ps-1-dynamic+floor"], indirect=True)
def test_a_floor_is_asked_about_by_the_name_that_the_venue_has(files: tuple[Path, Path]) -> None:
    portfolio, venue = files
    found = json.loads(uncross("margin", portfolio, "--venue", venue, "--json").stdout)
    assert found["model"] == "ps-1-dynamic+floor"
