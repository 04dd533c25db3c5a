"""Venue files are read strictly: a wrong key or figure is named with its place."""

from __future__ import annotations

import re
from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest

from exchange.core.venue import VenueError, validate
from exchange.venues import load_venue, parse_venue, scaled, venue_names

TINY = resources.files("exchange.venues").joinpath("tiny.toml").read_text("utf-8")


def broken(old: str, new: str) -> str:
    """The words of the error when one line of `tiny` is another."""
    assert old in TINY
    with pytest.raises(VenueError) as caught:
        parse_venue(TINY.replace(old, new, 1), "my.toml")
    return str(caught.value)


def test_the_venues_that_ship_are_sound() -> None:
    assert venue_names() == ["demo", "march-2020", "tiny", "venue-outage"]
    for name in venue_names():
        venue = load_venue(name)
        validate(venue)
        assert venue.name == name


def test_fractions_become_integers_without_floats() -> None:
    venue = load_venue("tiny")
    assert venue.interval_ns == 10**9
    assert venue.fees.future_ppb == 300_000
    assert venue.collar.widen_ppb == 2 * 10**9
    assert venue.default.fund_minor == 10**12
    assert venue.instruments[0].tick_e8 == 50_000_000
    assert venue.opening_time_ns == 1_767_225_600 * 10**9


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("interval_s = 1", "interval_seconds = 1", "unknown key venue.interval_seconds"),
        ("interval_s = 1", "", "key venue.interval_s is missing"),
        ("[collar]", "[collar]\ncolour = 1", "unknown key collar.colour"),
        ("floor_ticks = 10", "", "key collar.floor_ticks is missing"),
        ('name = "BTC"', 'name = "BTC"\nkind = 1', r"unknown key underlying[0].kind"),
        ("tick = 0.5, lot", "tick = 0.5, size = 1, lot", "unknown key underlying[0].linear.size"),
        ("future = 0.0003", 'future = "0.0003"', "fees.future must be a number"),
        ("future = 0.0003", "future = true", "fees.future must be a number"),
        ("future = 0.0003", "future = 0.00000000001", "finer than"),
        ("future = 0.0003", "future = nan", "fees.future = NaN: is no finite number"),
        ("future = 0.0003", "future = 0.2", "fees.future = 0.2: must be from 0 to 0.099999999"),
        ("risk_gate = true", "risk_gate = 1", "risk_gate must be true or false"),
        ("collateral = false", 'collateral = "no"', "collateral must be true or false"),
        ("opening = 2026-01-01T00:00:00Z", 'opening = "soon"', "opening must be a date"),
        ("opening = 2026-01-01T00:00:00Z", "opening = 2026-01-01T00:00:00", "offset"),
        ('disclosure = "outstanding"', 'disclosure = "all"', "disclosure is opaque or"),
        ('preset = "ps-1"', 'preset = "ps-9"', "ps-9"),
        ("lot = 0.001", "lot = 0", "tick and lot must be positive"),
        ("lot = 0.001", "lot = 0.0000000001", "finer than"),
        ("lot = 0.001", "lot = 0.00000001", "whole number of minor units"),
        ("dead_after_s = 60", "dead_after_s = 1", "stale before it is dead"),
        ("deadline_cycles = 5", "deadline_cycles = 0", "calls.deadline_cycles = 0: must be"),
        ("opening_index = 100000", "opening_index = 2000000", "index = 2000000: must be from"),
        ("widen = 2", "widen = 0.5", "collar.widen = 0.5: must be from 1 to 10"),
        ("[collar]", "[collar", "not TOML"),
        (
            "linear =",
            "inverse = { tick = 0.5, lot = 10 }\nlinear =",
            "underlying[0].inverse settles in BTC: collateral must be true",
        ),
        (
            "linear =",
            "inverse_option = { tick = 0.0001, lot = 0.01 }\nlinear =",
            "underlying[0].inverse_option settles in BTC: collateral must be true",
        ),
        (
            "linear =",
            "inverse_option = { tick = 0.0001 }\nlinear =",
            "key underlying[0].inverse_option.lot is missing",
        ),
    ],
)
def test_a_wrong_line_is_named(old: str, new: str, words: str) -> None:
    message = broken(old, new)
    assert message.startswith("my.toml: ")
    assert words in message


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("interval_s", "1e400", "venue.interval_s = 1E+400: must be from -4611686018.427387904"),
        ("interval_s", "1e999999", "venue.interval_s = 1E+999999: must be from"),
        ("interval_s", "1e99999999999999999999", "too many digits in its exponent"),
        ("interval_s", "1e-999999", "venue.interval_s = 1E-999999: finer than"),
        ("interval_s", f"1.{'1' * 5000}", "finer than"),
        ("interval_s", f"0x{'f' * 5000}", "must be from"),
        ("interval_s", "86401", "venue.interval_s = 86401: must be from 0.000000001 to 86400"),
        ("opening_volatility", "1e400", "underlying[0].opening_volatility = 1E+400: must be from"),
        ("opening_volatility", "0", "underlying BTC.opening_volatility = 0: must be from"),
        ("opening_volatility", "20.1", "opening_volatility = 20.1: must be from 0.000000001 to 20"),
        ("deadline_cycles", "1e400", "calls.deadline_cycles = 1E+400: must be from"),
        ("deadline_cycles", "inf", "calls.deadline_cycles = Infinity: is no finite number"),
        ("private_cycles", "1e400", "default.private_cycles = 1E+400: must be from"),
        ("public_cycles", "1e400", "default.public_cycles = 1E+400: must be from"),
        ("coverage_min", "1e400", "default.coverage_min = 1E+400: must be from"),
        ("option_cap", "1e30", "fees.option_cap = 1E+30: must be from"),
        ("cap", "1e30", "funding.cap = 1E+30: must be from"),
        ("extensions", "1e30", "collar.extensions = 1E+30: must be from"),
        ("large_first_fraction", "1e30", "default.large_first_fraction = 1E+30: must be from"),
        ("large_first_fraction", "-1", "default.large_first_fraction = -1: must be from"),
        ("client_order_id_cycles", "1e30", "venue.client_order_id_cycles = 1E+30: must be from"),
        ("takeover_fee", "2", "default.takeover_fee = 2: must be from 0 to 1"),
        ("fund", "1e30", "default.fund = 1E+30: must be from"),
        ("fund", "5e9", "default.fund = 5000000000: must be from 0 to 4503599627.370496"),
        ("name", "[]", "venue.name must be a text, not []"),
        ("name", '""', "venue.name must be a text, not ''"),
        ("preset", "7", "venue.preset must be a text, not 7"),
        ("disclosure", "{}", "venue.disclosure must be a text, not {}"),
        ("risk_class", "{}", "underlying[0].risk_class must be a text, not {}"),
        ("opening", "9999-01-01T00:00:00Z", "opening must be between the years 1970 and 2116"),
    ],
)
def test_a_figure_out_of_range_is_named_with_its_bounds(key: str, value: str, words: str) -> None:
    text, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", TINY, count=1)
    assert count == 1
    with pytest.raises(VenueError) as caught:
        parse_venue(text, "my.toml")
    message = str(caught.value)
    assert message.startswith("my.toml: ")
    assert words in message
    assert len(message) < 200
    assert "\n" not in message


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('expiries = [{ kind = "future", every_days = 1, count = 1e9 }]', "expiries.count"),
        ('expiries = [{ kind = "future", every_days = 1e9, count = 1 }]', "expiries.every_days"),
        ("expiries = 5", "underlying[0].expiries must be a list of tables"),
        ("strikes = { step = 1, each_side = 1e9 }", "strikes.each_side"),
    ],
)
def test_what_would_list_contracts_without_end_is_refused(lines: str, words: str) -> None:
    assert words in broken("linear =", f"{lines}\nlinear =")


def test_a_file_that_is_no_text_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(VenueError, match=r"mine\.toml: not UTF-8 text"):
        load_venue(str(path))


def test_inverse_options_share_their_lot_with_the_linear_ones() -> None:
    coin = TINY.replace("collateral = false", "collateral = true")
    forms = "option = { tick = 5, lot = 0.01 }\ninverse_option = { tick = 0.0001, lot = 0.1 }\n"
    with pytest.raises(VenueError, match=r"underlying\[0\].inverse_option.lot must be that of"):
        parse_venue(coin.replace("linear =", f"{forms}linear ="), "my.toml")
    alone = forms.splitlines()[1]
    listed = 'expiries = [{ kind = "option", every_days = 1, count = 2 }]\n'
    listed += "strikes = { step = 1000, each_side = 1 }\n"
    venue = parse_venue(coin.replace("linear =", f"{alone}\n{listed}linear ="), "my.toml")
    names = [spec.name for spec in venue.instruments if spec.strike_e8]
    assert names[:2] == ["BTC-1JAN26-99000-C", "BTC-1JAN26-99000-P"]
    assert len(names) == 2 * 3 * 2
    assert {venue.settlement_currency(spec) for spec in venue.instruments if spec.strike_e8} == {1}


def test_a_preset_that_does_not_cover_the_horizon_is_refused_unless_allowed() -> None:
    """(5 + 0 + 5) cycles of an hour: 16 % is few standard deviations of ten hours."""
    hourly = TINY.replace("interval_s = 1", "interval_s = 86400")
    with pytest.raises(VenueError, match="cover"):
        parse_venue(hourly, "my.toml")
    allowed = hourly.replace("allow_uncovered = false", "allow_uncovered = true")
    assert parse_venue(allowed, "my.toml").default.allow_uncovered


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(VenueError, match=r"neither a file nor one of demo, march-2020, tiny"):
        load_venue("nowhere")


def test_a_file_is_read_and_top_keys_may_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TINY.replace('name = "tiny"', 'name = "mine"'), "utf-8")
    assert load_venue(str(path)).name == "mine"
    assert load_venue(str(path), interval_s=5).interval_ns == 5 * 10**9
    with pytest.raises(VenueError, match="unknown key"):
        load_venue(str(path), pace=5)


def test_a_decimal_is_scaled_exactly_or_refused() -> None:
    assert scaled(3, 10**8, "x") == 3 * 10**8
    for text, scale, value in (
        ("4.5e18", 1, 45 * 10**17), ("-4.5e18", 1, -45 * 10**17), ("0e99999", 10**8, 0),
        ("-0", 10**8, 0), ("0.25e1", 10**8, 25 * 10**7), ("1.00e-8", 10**8, 1),
    ):  # fmt: skip
        assert scaled(Decimal(text), scale, "x") == value
    with pytest.raises(VenueError, match=r"x = 0.1: finer"):
        scaled(Decimal("0.1"), 1, "x")
    with pytest.raises(VenueError, match=r"finer"):
        scaled(Decimal(f"1.{'0' * 40}1"), 10**8, "x")


HARBOUR = """
[[outside_venue]]
name = "harbour"
public_key = "{key}"
haircut = 0.1
transfer_delay_s = 120
fresh_s = 60
age_limit_s = 600
"""


def test_outside_venues_are_read_into_integers() -> None:
    text = TINY + HARBOUR.format(key="ab" * 32)
    (harbour,) = parse_venue(text, "my.toml").outside_venues
    assert (harbour.name, harbour.public_key) == ("harbour", "ab" * 32)
    assert (harbour.haircut_ppb, harbour.transfer_delay_ns) == (10**8, 120 * 10**9)
    assert (harbour.fresh_ns, harbour.age_limit_ns) == (60 * 10**9, 600 * 10**9)
    assert harbour.delay_quantile_e9 == 3 * 10**9
    assert not harbour.net_positions
    more = "delay_quantile = 2.5\ncredit_cap = 1000\nnet_positions = true\n"
    (harbour,) = parse_venue(text + more, "my.toml").outside_venues
    assert (harbour.delay_quantile_e9, harbour.credit_cap_minor) == (2_500_000_000, 10**9)
    assert harbour.net_positions


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("haircut = 0.1", "", "key outside_venue[0].haircut is missing"),
        ("haircut = 0.1", "haircut = 1.5", "outside_venue harbour: haircut"),
        ("haircut = 0.1", "haircut = 0.1\ncolour = 1", "unknown key outside_venue[0].colour"),
        ("fresh_s = 60", "fresh_s = 600", "fresh_s must be below age_limit_s"),
        ("fresh_s = 60", 'fresh_s = "60"', "outside_venue[0].fresh_s must be a number"),
        ("abab", "xyzt", "public_key must be 64 hexadecimal digits"),
        ('name = "harbour"', "name = 7", "outside_venue[0].name must be a text"),
        ("fresh_s = 60", "fresh_s = 60\nnet_positions = 1", "net_positions must be true or false"),
        ("[[outside_venue]]", "[outside_venue]", "outside_venue must be a list of tables"),
    ],
)
def test_what_is_wrong_with_an_outside_venue_is_named(old: str, new: str, words: str) -> None:
    text = HARBOUR.format(key="ab" * 32)
    assert old in text
    with pytest.raises(VenueError) as caught:
        parse_venue(TINY + text.replace(old, new, 1), "my.toml")
    assert words in str(caught.value)
