"""The data file of the standard model: what it says, and what it may not say."""

from __future__ import annotations

from importlib import resources

import msgspec
import pytest

from margin.models.standard_constants import Standard, load_standard, parse_standard
from margin.presets import PresetError

TEXT = resources.files("margin.models").joinpath("standard.toml").read_text(encoding="utf-8")


def test_the_file_holds_the_published_constants_as_integers() -> None:
    standard = load_standard()
    assert standard.name == "standard"
    assert standard.perpetual.initial_ppb == 100_000_000
    rates = standard.short_option
    assert (rates.initial_most_ppb, rates.initial_least_ppb) == (150_000_000, 130_000_000)
    assert standard.unpaired_call.maintenance_ppb == 1_100_000_000
    assert standard.depeg.threshold_e9 == 980_000_000
    assert [standard.haircut_ppb(coin) // 10**7 for coin in ("USDC", "BTC", "DOGE")] == [0, 5, 25]


def test_the_constants_encode_canonically_and_come_back_equal() -> None:
    standard = load_standard()
    encoded = msgspec.msgpack.encode(standard)
    assert msgspec.msgpack.decode(encoded, type=Standard) == standard


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("put_maintenance = 0.09\n", "", "short_option.put_maintenance: missing"),
        ("[coin]", "[coin]\nmore = 1", "coin.more: unknown key"),
        ("initial = 1.2", "initial = 1.0", "needs 0 <= maintenance <= initial"),
        ("initial_most = 0.15", "initial_most = 0.10", "initial_least: is above initial_most"),
        ("call_maintenance = 0.09", "call_maintenance = 0.14", "is above initial_least"),
        ("over_maintenance = 1.05", "over_maintenance = 0.95", "is below 1"),
        ("over_maintenance = 1.05", "over_maintenance = 11", "not in 0 .. 10"),
        ("threshold = 0.4", "threshold = 1.4", "threshold: must lie in 0 .. 1"),
        ("factor = 0.4", "factor = -1", "factor: must lie in 0 .. 10"),
        ("initial_scale = 1", "initial_scale = 2", "coin.initial_scale: must lie in 0 .. 1"),
        ("default = 0.25", "", "haircut: needs a default"),
        ("BTC = 0.05", "BTC = 1", "haircut: must lie in 0 .. 1"),
        ("factor = 0.4", "factor = 0.40000000001", "oracle.factor: must be a whole number"),
        ("factor = 0.4", "factor = inf", "oracle.factor: must be finite"),
        ("factor = 0.4", "factor = true", "oracle.factor: must be a number"),
        ('name = "standard"', "name = 3", "name: must be text"),
        ("[coin]\ninitial_scale = 1", "", "coin: missing"),
        ('name = "standard"', "name =", "x.toml: "),
        ('name = "standard"', 'name = "standard"\ncoin = 1', "x.toml: "),
    ],
)
def test_what_is_wrong_is_named(old: str, new: str, message: str) -> None:
    changed = TEXT.replace(old, new, 1)
    assert changed != TEXT
    with pytest.raises(PresetError, match=r"x\.toml: ") as caught:
        parse_standard(changed, source="x.toml")
    assert message in str(caught.value)


def test_a_section_must_be_a_table() -> None:
    start = TEXT.index("[haircut]")
    with pytest.raises(PresetError, match="haircut: must be a table"):
        parse_standard("haircut = 3\n" + TEXT[:start], source="x.toml")
    start, stop = TEXT.index("[coin]"), TEXT.index("# Deducted")
    with pytest.raises(PresetError, match="coin: must be a table"):
        parse_standard("coin = 3\n" + TEXT[:start] + TEXT[stop:], source="x.toml")
