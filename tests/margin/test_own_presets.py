"""Presets that build on others, and a user's own files: what is laid on what, what is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from margin.add_ons.concentration import LINEAR_SHARE, impact_minor
from margin.fixed_point import RATE_SCALE
from margin.forecasts.forecast import Garch, Har
from margin.forecasts.ranges import forecaster_of
from margin.models.venue_models import FHS_ES, STANDARD, venue_model, venue_model_names
from margin.presets import (
    OTHER_MODELS,
    PresetError,
    find_preset,
    load_preset,
    load_preset_file,
    parse_preset,
    preset_names,
)
from margin.presets.add_on_sections import LINEAR
from margin.presets.preset import (
    Preset,
)
from margin.reasons.explain_formula import INPUTS
from replays.residual_window import draw_window, window_text
from tests.margin.readme_page import FLAT, SECTIONS

PS_1, DYNAMIC = load_preset("ps-1"), load_preset("ps-1-dynamic")
NAMED = 'name = "mine"\n'


def written(folder: Path, text: str, name: str = "mine.toml") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def parsed(text: str) -> Preset:
    return parse_preset(NAMED + text, source="mine.toml")


# What is laid on a base


def test_a_file_that_says_nothing_more_is_its_base_under_another_name() -> None:
    for name in (*preset_names(), FHS_ES):
        plain = msgspec.structs.replace(parsed(f'base = "{name}"'), name=name)
        assert plain == venue_model(name)


def test_tables_are_merged_key_by_key_and_other_values_replace() -> None:
    found = parsed(
        'base = "ps-1-dynamic"\n'
        "[spot_range]\nBTC = 0.2\nDOGE = 0.4\n"
        "[tails]\nmove = [-0.5, 1]\n"
        "[dynamic]\nstressed = { BTC = 2 }\n"
        "[[collateral_size]]\ncurrency = 'BTC'\ntiers = []\nlimit_usdc = 5_000_000\n"
    )
    coins = ("BTC", "DOGE", "ETH", "SOL")
    assert [found.spot_range_e9(coin) // 10**7 for coin in coins] == [20, 40, 18, 27]
    assert found.tails is not None
    assert PS_1.tails is not None
    assert found.tails.move_e9 == (-RATE_SCALE // 2, RATE_SCALE)
    assert found.tails.weight_e9 == PS_1.tails.weight_e9
    assert found.dynamic is not None
    assert {row.name: row.rate_e9 // 10**8 for row in found.dynamic.stressed} == {
        "BTC": 20, "ETH": 18, "default": 25,
    }  # fmt: skip
    assert [size.currency for size in found.collateral_size] == ["BTC"]
    same = ("spot_range", "tails", "dynamic", "collateral_size", "name")
    others = {key: getattr(DYNAMIC, key) for key in same}
    assert msgspec.structs.replace(found, **others) == DYNAMIC


def test_what_is_left_out_of_a_base_is_gone_and_may_be_said_anew() -> None:
    found = parsed(
        'base = "ps-1-dynamic"\nwithout = ["skew", "spot_range.ETH", "dynamic.stressed"]\n'
        "[dynamic]\nstressed = { default = 2 }\n"
    )
    assert found.skew is None
    assert [row.name for row in found.spot_range] == ["BTC", "default"]
    assert found.dynamic is not None
    assert [row.name for row in found.dynamic.stressed] == ["default"]


def test_a_base_is_read_the_same_whoever_builds_on_it() -> None:
    """What one file leaves out or changes is not missing from the base afterwards."""
    parsed('base = "ps-1-dynamic"\nwithout = ["dynamic.implied"]\n[spot_range]\nBTC = 0.2\n')
    assert load_preset("ps-1-dynamic") == DYNAMIC
    assert load_preset("ps-1") == PS_1


def test_a_chain_of_files_is_relative_to_each_file_s_folder(tmp_path: Path) -> None:
    written(
        tmp_path, 'name = "far"\nbase = "ps-1"\n[spot_range]\nBTC = 0.3\nETH = 0.3\n', "far.toml"
    )
    near = 'name = "near"\nbase = "../far.toml"\n[spot_range]\nETH = 0.4\n'
    written(tmp_path / "deep", near, "near.toml")
    path = written(tmp_path, NAMED + 'base = "deep/near.toml"\nwithout = ["funding"]\n')
    found = load_preset_file(path)
    assert [found.spot_range_e9(coin) // 10**8 for coin in ("BTC", "ETH")] == [3, 4]
    assert (found.name, found.funding, found.gamma) == ("mine", None, PS_1.gamma)
    assert parse_preset(path.read_text("utf-8"), source="x", folder=tmp_path) == found


def test_a_file_may_stand_alone(tmp_path: Path) -> None:
    import margin.presets

    shipped = Path(margin.presets.__file__).parent / "span-16.toml"
    text = shipped.read_text("utf-8").replace('"span-16"', '"own-span"')
    found = load_preset_file(written(tmp_path, text))
    assert found == msgspec.structs.replace(load_preset("span-16"), name="own-span")


def test_a_model_is_found_by_name_or_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, NAMED + 'base = "ps-1"\n')
    for find in (find_preset, venue_model):
        assert find("ps-1") == PS_1
        assert find("mine.toml", tmp_path).name == "mine"
        assert find(str(tmp_path / "mine.toml"), Path("elsewhere")).name == "mine"
    monkeypatch.chdir(tmp_path)
    assert (
        find_preset("mine.toml") == venue_model("mine.toml") == load_preset_file(Path("mine.toml"))
    )


def test_the_floor_of_a_forecast_is_a_key_of_an_own_file() -> None:
    found = parsed('base = "ps-1-dynamic"\n[predictive]\nfloor = true\n')
    assert msgspec.structs.replace(found, name="ps-1-dynamic+floor") == venue_model(
        "ps-1-dynamic+floor"
    )


# What is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('base = "ps-9"', "mine.toml: base: no preset 'ps-9'; there are deribit, .*ps-1, .*fhs-es, "
                          "and files that end in .toml"),
        ('base = "standard"', "mine.toml: base: no preset 'standard'; there are"),
        ("base = 1", "mine.toml: base: must be text"),
        ('base = "none.toml"', "mine.toml: base: no preset file '.*none.toml'; presets that ship"),
        ('base = "ps-1"\n[volatility]\nsideways = 1',
         "mine.toml: volatility.sideways: unknown key; allowed: up, down, reference_days"),
        ('bse = "ps-1"', "mine.toml: bse: unknown key; allowed: base, without, name, spot_range"),
        ('base = "ps-1"\n[volatility]\nup = 11', r"mine.toml: volatility.up: must lie in 0 .. 10"),
        ('base = "ps-1"\nskew = 1', "mine.toml: skew: must be a table"),
        ('base = "ps-1"\nwithout = ["volatility.up"]', "mine.toml: volatility.up: missing"),
        ('base = "ps-1"\nwithout = "skew"', "mine.toml: without: must be a list of keys"),
        ('base = "ps-1"\nwithout = [1]', "mine.toml: without: must be a list of keys"),
        ('base = "ps-1"\nwithout = ["skews"]',
         "mine.toml: without: ps-1 has no skews; it has spot_range, grid, tails"),
        ('base = "ps-1"\nwithout = ["skew.fast"]',
         "mine.toml: without: ps-1.skew has no fast; it has linear_cap"),
        ('base = "ps-1"\nwithout = ["skew.width.more"]', "without: ps-1.skew has no width.more"),
        ('base = "ps-1"\nwithout = ["name"]', "mine.toml: without: ps-1 has no name"),
        ('without = ["skew"]', "mine.toml: without: leaves out parts of a base, and there is none"),
        ('base = "ps-1-dynamic"\n[dynamic]\nhar = { long_run = { default = 1 }, day = 0.5, '
         "week = 0.2, month = 0.2 }", "mine.toml: dynamic: needs one of ewma, garch, har"),
    ],
)  # fmt: skip
def test_a_faulty_file_is_refused_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PresetError, match=message):
        load_preset_file(written(tmp_path, NAMED + text + "\n"))


def test_a_name_of_its_own_is_needed(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"mine\.toml: name: missing"):
        load_preset_file(written(tmp_path, 'base = "ps-1"\n'))
    with pytest.raises(PresetError, match=r"mine\.toml: name: must not be empty"):
        load_preset_file(written(tmp_path, 'name = ""\nbase = "ps-1"\n'))


@pytest.mark.parametrize("name", venue_model_names())
def test_the_name_of_a_model_that_ships_is_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        PresetError, match="is that of a model that ships; these are taken: deribit"
    ):
        load_preset_file(written(tmp_path, f'name = "{name}"\nbase = "ps-1"\n'))


def test_every_model_that_is_no_preset_has_its_name_taken() -> None:
    assert set(OTHER_MODELS) == {*INPUTS, STANDARD, FHS_ES}


def test_an_error_in_a_base_names_the_base(tmp_path: Path) -> None:
    written(tmp_path, 'name = "b"\nbase = "ps-1"\n[volatility]\nup = 11\n', "b.toml")
    path = written(tmp_path, NAMED + 'base = "b.toml"\n[volatility]\nup = 1\n')
    with pytest.raises(PresetError, match=r"^.*b\.toml: volatility\.up: must lie in"):
        load_preset_file(path)


def test_a_base_that_comes_round_to_itself_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, NAMED + 'base = "b.toml"\n')
    written(tmp_path, 'name = "b"\nbase = "sub/../mine.toml"\n', "b.toml")
    (tmp_path / "sub").mkdir()
    message = (
        r"b\.toml: base: a preset cannot build on itself: .*mine.toml -> .*b.toml -> .*mine.toml$"
    )
    with pytest.raises(PresetError, match=message):
        load_preset_file(path)
    alone = written(tmp_path, 'name = "c"\nbase = "c.toml"\n', "c.toml")
    with pytest.raises(PresetError, match=r"c\.toml: base: a preset cannot build on itself"):
        load_preset_file(alone)


def test_a_shipped_base_that_comes_round_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "margin.presets.shipped_text", lambda _, name: f'name = "{name}"\nbase = "ps-1"'
    )
    with pytest.raises(PresetError, match=r"build on itself: ps-1\.toml -> ps-1\.toml"):
        load_preset("ps-1")


def test_a_file_that_is_not_there_or_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PresetError, match=r"^no preset file '.*x\.toml'; presets that ship are"):
        load_preset_file(tmp_path / "x.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(PresetError, match="no preset file"):
        load_preset_file(tmp_path / "folder.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PresetError, match=r"bytes\.toml: is no UTF-8 text"):
        load_preset_file(tmp_path / "bytes.toml")
    with pytest.raises(PresetError, match=r"mine\.toml: Invalid value"):
        load_preset_file(written(tmp_path, "name = "))


@pytest.mark.parametrize(
    ("base", "text", "message"),
    [
        ("ps-1", "[tails]\nmove = [10.5]", "tails.move: must be above -1, at most 10"),
        ("ps-1", "[volatility]\nreference_days = 36501", "reference_days: must lie in 1 .. 36500"),
        ("ps-1", "[volatility]\nfloor_days = 36501", "floor_days: must be above 0, at most 36500"),
        ("deribit", "[spot_range]\nBTC = 0.009", "spot_range: must be at least 0.01"),
    ],
)
def test_a_constant_that_the_arithmetic_cannot_hold_is_refused(
    base: str, text: str, message: str
) -> None:
    with pytest.raises(PresetError, match=message):
        parsed(f'base = "{base}"\n{text}\n')


# Those that ship, and the page


def test_linear_liquidity_is_eurex_s_form_without_a_free_part() -> None:
    section = load_preset("ps-1-linear-liquidity").liquidity
    assert section is not None
    assert (section.form, section.free_share_e9) == (LINEAR, 0)
    day, size = 10**15, 2 * 10**14  # a fifth of a day's volume
    slope = section.coefficient_e9 * PS_1.spot_range_e9("BTC") // RATE_SCALE
    charged = impact_minor(LINEAR_SHARE, size, day * section.depth_days_e9 // RATE_SCALE, 0, slope)
    assert charged / size == pytest.approx(0.016, rel=1e-6)
    assert f"a = {section.coefficient_e9 / 1e9:g}, no free part and d = 1" in FLAT


def test_the_forecasters_that_ship_are_those_that_the_page_names() -> None:
    garch, har = (load_preset(f"ps-1-dynamic-{kind}").dynamic for kind in ("garch", "har"))
    assert garch is not None
    assert garch.garch is not None
    assert har is not None
    assert har.har is not None
    assert isinstance(forecaster_of(garch, "BTC"), Garch)
    assert isinstance(forecaster_of(har, "BTC"), Har)

    def runs(section: object) -> str:
        rates = {row.name: f"{row.rate_e9 / 1e9:g}" for row in section.long_run}  # type: ignore[attr-defined]
        return f"long run BTC {rates['BTC']}, ETH {rates['ETH']}, others {rates['default']}"

    rule = garch.garch
    said = f"GARCH: alpha {rule.alpha_ppb / 1e9:g}, beta {rule.beta_ppb / 1e9:g}; {runs(rule)}"
    assert said in FLAT
    parts = (har.har.day_ppb, har.har.week_ppb, har.har.month_ppb)
    weights = ", ".join(f"{part / 1e9:g}" for part in parts)
    assert f"HAR: weights {weights} of the last hour, 5 hours and 22 hours; {runs(har.har)}" in FLAT
    for section in (garch, har):
        assert section.period_s == 3_600
        assert section.implied is not None
        decays = section.long_run_decay_ppb / 1e9, section.implied.decay_ppb / 1e9
        assert f"decays of {decays[0]:g} and {decays[1]:g}" in FLAT
        assert DYNAMIC.dynamic is not None
        assert DYNAMIC.dynamic.implied is not None
        of_minutes = DYNAMIC.dynamic.long_run_decay_ppb, DYNAMIC.dynamic.implied.decay_ppb
        assert [(d / 1e9) ** 60 for d in of_minutes] == pytest.approx(decays, abs=1e-3)


def test_the_file_on_the_page_is_a_preset() -> None:
    text = SECTIONS["A preset of your own"].split("```toml\n")[1].split("```")[0]
    found = parse_preset(text, source="mine.toml")
    assert (found.name, found.skew) == ("mine", None)
    assert found.spot_range_e9("BTC") == 200_000_000
    assert found.spot_range_e9("ETH") == 180_000_000
    assert found.dynamic is not None
    assert found.dynamic.garch is not None
    assert found.dynamic.garch.alpha_ppb == 85_407_380
    assert found.dynamic.multiple_e9 == DYNAMIC.dynamic.multiple_e9  # type: ignore[union-attr]


def test_a_window_of_dates_of_one_s_own_builds_on_the_one_that_ships() -> None:
    shipped = venue_model(FHS_ES)
    found = parsed('base = "fhs-es"\n' + window_text(draw_window(seed=5)))
    assert found.history is not None
    assert shipped.history is not None
    assert found.history.spot != shipped.history.spot
    assert found.history.volatility != shipped.history.volatility
    windowless = {"spot": shipped.history.spot, "volatility": shipped.history.volatility}
    assert msgspec.structs.replace(found.history, **windowless) == shipped.history
