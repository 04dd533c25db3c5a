from __future__ import annotations

from importlib import resources

import msgspec
import pytest

from margin.presets import PresetError, load_preset, parse_preset, preset_names
from margin.presets.preset import Preset

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
        (
            "reference_days = 30",
            "reference_days = 30.5",
            "volatility.reference_days: must be a whole",
        ),
        ("maintenance = 0.8", "maintenance = 1.8", "factor: needs 0 < maintenance <= initial"),
        ("default = 0.25", "", "haircut: needs a default"),
        ("[-0.66,", "[-1,", "tails.move: must be above -1"),
        ("least_reach = 0.01", "least_reach = 0", "skew.least_reach: must be above 0"),
        ("short_base = 1.04", "short_base = 11", "discount.short_base: must lie in 0 .. 10"),
        ("down = -0.045", "down = 0.045", "basis: needs -1 < down < 0 < up <= 10"),
        ("window_s = 1800", "window_s = 0", "averaging.window_s: must lie in 1 .. 86400"),
        ("threshold = 0.55", "threshold = 2", "oracle.threshold: must lie in 0 .. 1"),
        ("[grid]", "[grid]\nvolatility = ['sideways']", "grid.volatility: down, unchanged or up"),
        ("maintenance = { default = 0 }", "maintenance = { BTC = 0 }", "needs a default"),
        ('name = "ps-1"', "name = 1", "name: must be text"),
        ('name = "ps-1"', "name = ", "x.toml: "),
    ],
)
def test_a_faulty_file_is_refused_and_the_key_named(old: str, new: str, message: str) -> None:
    assert old in PS_1
    with pytest.raises(PresetError, match=r"^x\.toml: ") as refusal:
        parse_preset(PS_1.replace(old, new), source="x.toml")
    assert message in str(refusal.value)


def test_every_shipped_preset_loads_and_comes_back_from_its_encoding() -> None:
    assert {"derive-pmrm1", "derive-pmrm2", "deribit", "paradex", "ps-1", "span-16"} <= set(
        preset_names()
    )
    for name in preset_names():
        preset = load_preset(name)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(preset), type=Preset) == preset


LIST = 'name = "x"\nscenario = [{ move = 0.1, volatility = "up", weight = 1 }]\n'
REST = PS_1[PS_1.index("[volatility]") : PS_1.index("[skew]")]
REST += PS_1[PS_1.index("[factor]") : PS_1.index("[oracle]")]
REST += "[haircut]\ndefault = 0\n[spot_range]\ndefault = 0.1\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LIST.replace("0.1", "-1"), "scenario.move: must lie above -1"),
        (LIST.replace('"up"', '"linear"').replace("0.1", "0"), "skew: is needed by a listed"),
        (LIST.replace('"up"', '"linear"'), "scenario.move: must be 0 in a skew scenario"),
        (LIST.replace('"up"', '"away"'), "scenario.volatility: must be one of down"),
        (LIST.replace(", weight = 1", ""), "scenario[0].weight: missing"),
        (LIST + "[grid]\nfraction = [0]\n", "grid: needs either a grid or a list"),
        ('name = "x"\n', "grid: needs either a grid or a list"),
        (LIST + "[tails]\nmove = [1]\nweight = 1\n", "scenario: a list of scenarios stands"),
        ('numeraire = "shells"\n' + LIST, "numeraire: must be usd or coin"),
        (LIST + "[option]\ndiscounted = 1\n", "option.discounted: must be true or false"),
        (LIST + "[delta_floor]\nhedged = 0.5\nunhedged = 0.2\n", "delta_floor: needs 0 <="),
    ],
)
def test_a_faulty_list_of_scenarios_is_refused(text: str, message: str) -> None:
    parse_preset(LIST + REST, source="x.toml")
    with pytest.raises(PresetError) as refusal:
        parse_preset(text + REST, source="x.toml")
    assert message in str(refusal.value)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(PresetError, match=r"no preset 'ps-9'; there are .*ps-1"):
        load_preset("ps-9")
