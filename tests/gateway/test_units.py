"""Decimal numbers and integers agree exactly, in both directions."""

from __future__ import annotations

import random
from decimal import Decimal
from fractions import Fraction

import msgspec
import pytest

from exchange.core.venue import InstrumentSpec
from exchange.gateway import units
from exchange.gateway.errors import WireError
from exchange.gateway.parameters import OrderParameters
from exchange.venues import load_venue
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL

TENTH = InstrumentSpec(name="X", kind=LINEAR, underlying=0, tick_e8=10**7, lot_e8=10**7)
DEMO = {spec.name: spec for spec in load_venue("demo").instruments}


def decoded(text: str) -> Decimal:
    return msgspec.json.decode(
        b'{"instrument_name":"X","amount":%b}' % text.encode(), type=OrderParameters
    ).amount


@pytest.mark.parametrize(
    ("text", "ticks"),
    [("0.1", 1), ("0.3", 3), ("0.7", 7), ("1.1", 11), ("64000.1", 640001), ("1e-1", 1),
     ("0.10000", 1), ("3E2", 3000), ('"0.3"', 3)],
)  # fmt: skip
def test_a_tenth_is_a_tenth_whatever_its_binary_fraction(text: str, ticks: int) -> None:
    assert units.ticks_of(TENTH, decoded(text)) == ticks
    assert units.lots_of(TENTH, decoded(text)) == ticks


def test_every_multiple_of_a_tenth_is_on_the_grid() -> None:
    for ticks in range(1, 5000):
        assert units.ticks_of(TENTH, decoded(f"{ticks // 10}.{ticks % 10}")) == ticks


@pytest.mark.parametrize(
    "text",
    ["0.15", "0.1000000000000000055511151231257827", "0.30000000000000004", "100000.05",
     "0.1" + "0" * 100 + "1", "1e-9", "1e-400"],
)  # fmt: skip
def test_a_price_off_the_grid_is_refused_however_near(text: str) -> None:
    with pytest.raises(WireError) as refused:
        units.ticks_of(TENTH, decoded(text))
    assert refused.value.code == 10043
    with pytest.raises(WireError) as refused:
        units.lots_of(TENTH, decoded(text))
    assert refused.value.code == 10021


@pytest.mark.parametrize("text", ["0", "-0.1", "-1e30", "0e9"])
def test_nothing_and_less_than_nothing_are_refused(text: str) -> None:
    with pytest.raises(WireError) as refused:
        units.ticks_of(TENTH, decoded(text))
    assert refused.value.code == 10023
    with pytest.raises(WireError) as refused:
        units.lots_of(TENTH, decoded(text))
    assert refused.value.code == 10002


@pytest.mark.parametrize("text", ['"NaN"', '"Infinity"', '"-Infinity"', '"sNaN"'])
def test_what_is_no_number_is_refused(text: str) -> None:
    for read in (units.ticks_of, units.lots_of):
        with pytest.raises(WireError) as refused:
            read(TENTH, decoded(text))
        assert refused.value.code == -32602
    with pytest.raises(WireError) as refused:
        units.minor_of(0, decoded(text))
    assert refused.value.code == -32602


@pytest.mark.parametrize("text", ["1e400", "1e999999999", "9" * 300])
def test_a_huge_number_stays_small_in_memory(text: str) -> None:
    assert units.ticks_of(TENTH, decoded(text)) == units.TOO_LARGE
    assert units.lots_of(TENTH, decoded(text)) == units.TOO_LARGE
    assert units.minor_of(0, decoded(text)) == units.MONEY_TOO_LARGE


def test_an_amount_is_coin_for_linear_and_options_and_dollars_for_inverse() -> None:
    linear, inverse = DEMO["BTC_USDC-PERPETUAL"], DEMO["BTC-PERPETUAL"]
    option = next(spec for spec in DEMO.values() if spec.kind == LINEAR_CALL)
    assert inverse.kind == INVERSE
    assert units.lots_of(linear, Decimal("1.5")) == 1500  # lots of 0.001 BTC
    assert units.lots_of(inverse, Decimal(50)) == 5  # lots of 10 USD
    assert units.lots_of(option, Decimal("0.25")) == 25  # lots of 0.01 BTC
    assert units.amount_number(inverse, 5) == 50.0
    with pytest.raises(WireError):
        units.lots_of(inverse, Decimal(15))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_numbers_go_out_as_the_decimals_that_were_meant(seed: int) -> None:
    chance = random.Random(seed)
    for spec in DEMO.values():
        ticks = chance.randrange(1, 10**6)
        text = msgspec.json.encode(units.price_number(spec, ticks))
        assert Fraction(text.decode()) == Fraction(ticks * spec.tick_e8, 10**8)
        assert units.ticks_of(spec, msgspec.json.decode(text, type=Decimal)) == ticks
    for currency, digits in ((0, 6), (1, 8)):
        minor = chance.randrange(-(10**14), 10**14)
        text = msgspec.json.encode(units.money(currency, minor))
        assert Fraction(text.decode()) == Fraction(minor, 10**digits)


def test_money_finer_than_its_minor_unit_is_refused() -> None:
    assert units.minor_of(0, Decimal("0.000001")) == 1
    assert units.minor_of(1, Decimal("0.00000001")) == 1
    for currency, text in ((0, "0.0000001"), (1, "1e-9")):
        with pytest.raises(WireError) as refused:
            units.minor_of(currency, Decimal(text))
        assert refused.value.code == 11029


def test_order_identifiers_can_be_read_back() -> None:
    for order_id in (1, (3 << 40) | 17, (4095 << 40) | (2**40 - 1)):
        assert units.order_id_of(units.order_id_text(order_id)) == order_id


@pytest.mark.parametrize("text", ["", "0", "-1", "01", "1.0", "x", "٣", "9" * 30, "9" * 19, " 1"])
def test_a_text_that_no_order_could_have_is_not_found(text: str) -> None:
    with pytest.raises(WireError) as refused:
        units.order_id_of(text)
    assert refused.value.code == 10004
