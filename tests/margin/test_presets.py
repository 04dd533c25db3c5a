from __future__ import annotations

from importlib import resources

import msgspec
import pytest

from margin.preset import Preset
from margin.presets import PresetError, load_preset, parse_preset, preset_names

PS_1 = resources.files("margin.presets").joinpath("ps-1.toml").read_text(encoding="utf-8")


def test_ps_1_holds_the_published_constants_as_integers() -> None:
    preset = load_preset("ps-1")
    assert "ps-1" in preset_names()
    assert [preset.spot_range_e9(c) for c in ("BTC", "ETH", "SOL")] == [
        160_000_000,
        180_000_000,
        270_000_000,
    ]
    assert preset.tails.move_e9[0] == -660_000_000
    assert preset.volatility.least_up_e9 == 450_000_000
    assert preset.factor.maintenance_ppb == 800_000_000
    haircuts = [preset.haircut_ppb(c) // 10**7 for c in ("USDC", "BTC", "ETH", "SOL", "DOGE")]
    assert haircuts == [0, 5, 7, 15, 25]


def test_a_preset_encodes_canonically_and_comes_back_equal() -> None:
    preset = load_preset("ps-1")
    encoded = msgspec.msgpack.encode(preset)
    again = msgspec.msgpack.decode(encoded, type=Preset)
    assert again == preset
    assert msgspec.msgpack.encode(again) == encoded
    assert hash(again) == hash(preset)


def test_the_order_of_names_in_the_file_does_not_matter() -> None:
    swapped = PS_1.replace("BTC = 0.16\nETH = 0.18\n", "ETH = 0.18\nBTC = 0.16\n")
    assert swapped != PS_1
    assert parse_preset(swapped, source="x") == load_preset("ps-1")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("least_up = 0.45", "", "volatility.least_up: missing"),
        ("least_up = 0.45", "least_up = 0.45\nmost_up = 2", "volatility.most_up: unknown key"),
        ("[factor]\nmaintenance = 0.8\ninitial = 1", "", "factor: missing"),
        ("weight = 0.75", "weight = 0.75000000001", "tails.weight: must be a whole number of 10"),
        ("weight = 0.75", 'weight = "much"', "tails.weight: must be a number"),
        ("weight = 0.75", "weight = nan", "tails.weight: must be finite"),
        ("floor_days = 1\n", "floor_days = 1.5\n", "volatility.floor_days: must be a whole number"),
        ("maintenance = 0.8", "maintenance = 1.8", "factor: needs 0 < maintenance <= initial"),
        ("default = 0.25", "", "haircut: needs a default"),
        ("[-0.66,", "[-1,", "tails.move: must be above -1"),
        ('name = "ps-1"', "name = 1", "name: must be text"),
        ('name = "ps-1"', "name = ", "x.toml: "),
    ],
)
def test_a_faulty_file_is_refused_and_the_key_named(old: str, new: str, message: str) -> None:
    assert old in PS_1
    with pytest.raises(PresetError, match=r"^x\.toml: ") as refusal:
        parse_preset(PS_1.replace(old, new), source="x.toml")
    assert message in str(refusal.value)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PresetError, match=r"no preset 'ps-9'; there are .*ps-1"):
        load_preset("ps-9")
