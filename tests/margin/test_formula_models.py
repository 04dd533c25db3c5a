"""Explanations under the formula models: charges that add up, their inputs, what they refuse."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.book import Book, moved
from margin.models.standard_constants import load_standard
from margin.models.venue_models import venue_model_names
from margin.portfolio import INVERSE_PUT, LINEAR, LINEAR_CALL, NEVER_NS
from margin.presets import preset_names
from margin.reasons.explain_formula import (
    CREDIT,
    INPUTS,
    STANDARD,
    FormulaModel,
    FormulaRefused,
    explain_formula,
    model_names,
    prepared,
    refusal_of_name,
)
from margin.reasons.explanation import Charge, Explanation, MarketLevels
from tests.margin.small_books import DAY_NS, E8, USDC, check_sums, random_book, small_book
from tests.reference.random_portfolios import column

LINEAR_MODELS = [name for name in INPUTS if name != STANDARD]


def levels(found: Explanation) -> tuple[float, float]:
    return found.initial_minor / USDC, found.maintenance_minor / USDC


def without_options(book: Book, kinds: tuple[int, ...] = ()) -> Book:
    """The book without options, or without options of some kinds alone."""
    of = book.instruments
    out = np.isin(of.kind, kinds) if kinds else of.is_option()
    return msgspec.structs.replace(book, quantity_lots=np.where(out, 0, book.quantity_lots))


def test_models_are_presets_formulas_and_whatever_charges_a_venue() -> None:
    assert {*model_names()} == {*preset_names(), *INPUTS, *venue_model_names()}
    assert len(set(model_names())) == len(model_names())
    assert {refusal_of_name(name) for name in model_names()} == {""}


@pytest.mark.parametrize("name", ["ps-1+floor", "fhs-es+floor", "lognormal-es+floor"])
def test_a_floor_of_what_forecasts_nothing_is_refused_with_the_reason(name: str) -> None:
    assert refusal_of_name(name) == f"{name[:-6]}: forecasts nothing that could be a floor"
    assert refusal_of_name("other+floor").startswith("no model 'other+floor'; there are ")


@pytest.mark.parametrize("name", LINEAR_MODELS)
@pytest.mark.parametrize("seed", range(4))
def test_charges_of_instruments_make_up_the_requirement(name: str, seed: int) -> None:
    book = without_options(random_book(seed))
    book.quantity_lots[~book.instruments.is_option()] += 3  # so that futures are held
    found = explain_formula(FormulaModel(name), book, distances=False)
    check_sums(found)
    held = {book.instrument_names[row] for row in np.flatnonzero(book.quantity_lots).tolist()}
    assert {charge.name for charge in found.charges} == held
    assert found.initial_minor >= found.maintenance_minor > 0
    assert all(unit.scenarios == () for unit in found.units)


@pytest.mark.parametrize("seed", range(6))
def test_the_standard_model_adds_expiries_up(seed: int) -> None:
    book = without_options(random_book(seed, doubtful=seed % 2 == 1), (4, 5))
    check_sums(explain_formula(FormulaModel(STANDARD), book, distances=False))


def test_standard_margin_by_hand() -> None:
    """One put short at 100,000: 13 % and 9 % of the index; a coin long: 10 % and 6.5 %."""
    found = explain_formula(FormulaModel(STANDARD), small_book(1, -1, usdc=30_000))
    assert levels(found) == (23_000, 15_500)
    assert [(c.name, c.maintenance_minor, c.initial_minor) for c in found.charges] == [
        ("put", 9_000 * USDC, 4_000 * USDC),
        ("perpetual", 6_500 * USDC, 3_500 * USDC),
    ]


def test_an_expiry_that_needs_less_than_nothing_is_a_credit() -> None:
    """A call at 1,000 against the dearer one above it at 3,000: 2,000 less for the coin beside."""
    book = small_book(1, 1, -1, usdc=30_000)
    marks = msgspec.structs.replace(
        book.marks, mark_e8=column([100_000 * E8, 1_000 * E8, 3_000 * E8])
    )
    calls = msgspec.structs.replace(
        book.instruments, kind=column([LINEAR, LINEAR_CALL, LINEAR_CALL]),
        expiry_ns=column([NEVER_NS, 30 * DAY_NS, 30 * DAY_NS]),
        strike_e8=column([0, 100_000 * E8, 110_000 * E8]), strike_group=column([-1, 0, 1]),
        lot_e8=column([E8, E8, E8]),
    )  # fmt: skip
    arbitrage = msgspec.structs.replace(book, instruments=calls, marks=marks)
    found = explain_formula(FormulaModel(STANDARD), arbitrage, distances=False)
    check_sums(found)
    assert levels(found) == (8_000, 4_500)
    assert found.charges[-1] == Charge(CREDIT, "", -2_000 * USDC, 0)


def test_standard_margin_reads_confidences_and_the_stable_coin() -> None:
    """At confidence 0.25 and 0.93 USD a USDC: (0.75 x 0.4 + 0.05 x 1.2) of 100,000 more."""
    book = small_book(1, usdc=30_000)
    doubt = msgspec.structs.replace(
        book.marks, index_confidence_ppb=column([25 * 10**7]), stable_e9=930_000_000
    )
    plain = explain_formula(FormulaModel(STANDARD), book, distances=False)
    found = explain_formula(
        FormulaModel(STANDARD), msgspec.structs.replace(book, marks=doubt), distances=False
    )
    assert found.initial_minor - plain.initial_minor == 36_000 * USDC
    assert found.maintenance_minor == plain.maintenance_minor


@pytest.mark.parametrize(
    ("name", "initial", "maintenance"),
    [
        ("paradex-cross", 2_000, 1_000),
        ("open-interest", 5_000, 2_500),
        ("vega-levels", 12_120, 10_100),
    ],
)
def test_constants_without_inputs(name: str, initial: float, maintenance: float) -> None:
    found = explain_formula(FormulaModel(name), small_book(1, usdc=30_000), distances=False)
    assert levels(found) == (initial, maintenance)


def test_inputs_take_the_place_of_constants() -> None:
    """Open interest half-way between the caps: 5 % + half of 95 %."""
    crowded = FormulaModel(
        "open-interest", {"open_interest": {"BTC": 37_500_000 * USDC}, "base": {"ETH": 900_000}}
    )
    found = explain_formula(crowded, small_book(1, usdc=99_000), distances=False)
    assert levels(found) == (52_500, 2_500)
    calm, wild = (
        explain_formula(
            FormulaModel("lognormal-es", {"volatility": {"BTC": v}}),
            small_book(-1),
            distances=False,
        )
        for v in (4 * 10**8, 16 * 10**8)
    )
    assert 3 < wild.maintenance_minor / calm.maintenance_minor < 5
    with pytest.raises(FormulaRefused, match="upper_cap"):
        explain_formula(FormulaModel("open-interest", {"lower_cap": {"BTC": 2**52}}), small_book(1))


@pytest.mark.parametrize("name", LINEAR_MODELS)
def test_options_are_refused_by_models_of_futures(name: str) -> None:
    with pytest.raises(FormulaRefused, match="futures and perpetuals only, not put"):
        explain_formula(FormulaModel(name), small_book(1, 1))
    assert explain_formula(FormulaModel(name), small_book(1, 0), distances=False).initial_minor > 0


def test_options_settled_in_coin_need_what_those_worth_the_same_dollars_need() -> None:
    """The put's mark in coin is its mark in dollars over the index."""
    book = small_book(0, -1)
    kind, mark_e8 = book.instruments.kind.copy(), book.marks.mark_e8.copy()
    kind[1] = INVERSE_PUT
    mark_e8[1] = int(mark_e8[1]) * 10**8 // int(book.marks.index_e8[0])
    coin = msgspec.structs.replace(
        book, instruments=msgspec.structs.replace(book.instruments, kind=kind),
        marks=msgspec.structs.replace(book.marks, mark_e8=mark_e8),
    )  # fmt: skip
    dollars, coins = (
        explain_formula(FormulaModel(STANDARD), each, distances=False) for each in (book, coin)
    )
    assert coins.initial_minor == dollars.initial_minor > 0
    assert coins.maintenance_minor == dollars.maintenance_minor


def test_large_lots_are_divided_and_change_nothing() -> None:
    """A lot of a hundred coins is ten million dollars: more than a charge per lot may be on."""
    book = small_book(200, -100, usdc=10**7)
    large = msgspec.structs.replace(
        book, quantity_lots=book.quantity_lots // 100,
        instruments=msgspec.structs.replace(
            book.instruments, lot_e8=book.instruments.lot_e8 * column([100, 100, 1])
        ),
    )  # fmt: skip
    model = FormulaModel(STANDARD)
    small, same = prepared(model, book), prepared(model, large)
    assert small.quantity_lots.tolist() == same.quantity_lots.tolist()
    assert small.instruments.lot_e8.tolist() == same.instruments.lot_e8.tolist()
    assert levels(explain_formula(model, large, distances=False)) == levels(
        explain_formula(model, book, distances=False)
    )


def test_distances_are_looked_for_under_formulas_too() -> None:
    """5,000 + 100,000 x meets 2 % of 100,000 (1 + x), and 1 %."""
    model, book = FormulaModel("paradex-cross"), small_book(1, usdc=5_000)
    distance = explain_formula(model, book).units[0].distance
    assert distance is not None
    assert distance.call_down_e9 == pytest.approx(-3_000 / 98_000 * 1e9, abs=10**5)
    assert distance.liquidation_down_e9 == pytest.approx(-4_000 / 99_000 * 1e9, abs=10**5)
    there = moved(book, 0, distance.call_down_e9 or 0)
    assert explain_formula(model, there, distances=False).standing == "call"


def test_haircuts_are_those_of_the_standard_model() -> None:
    found = explain_formula(FormulaModel("vega-levels"), small_book(1, coin=1), distances=False)
    coin = next(part for part in found.collateral if part.currency == "BTC")
    assert coin.haircut_ppb == load_standard().haircut_ppb("BTC")


def vega_levels(book: Book, **inputs: int) -> tuple[MarketLevels, ...]:
    overrides = {name: {"BTC": value} for name, value in inputs.items()}
    return explain_formula(FormulaModel("vega-levels", overrides), book, distances=False).levels


def test_vega_tells_the_levels_of_every_market() -> None:
    """A coin at 100,000: 0.101 of it, times 1.1, 1.2 and 1.4; nothing else was asked."""
    perpetual, inverse = vega_levels(small_book(1, 0, -50))
    assert perpetual == MarketLevels(
        "perpetual", 10_100 * USDC, 11_110 * USDC, 12_120 * USDC, 14_140 * USDC, 101_000_000,
        None, None,
    )  # fmt: skip
    assert (inverse.market, inverse.maintenance_minor) == ("inverse", 5_050 * USDC)
    assert (
        explain_formula(FormulaModel("lognormal-es"), small_book(1), distances=False).levels == ()
    )


def test_an_isolated_position_sets_its_factor_of_the_mark_aside() -> None:
    isolated = [row.isolated_minor for row in vega_levels(small_book(-2, 0, 30),
                                                          isolated_factor=200_000_000)]  # fmt: skip
    assert isolated == [40_000 * USDC, 6_000 * USDC]
    with pytest.raises(FormulaRefused, match="perpetual: vega: isolated factor must be above risk"):
        vega_levels(small_book(1), isolated_factor=101_000_000)


def test_a_capped_future_is_collateralised_in_full() -> None:
    """Between 0 and 250,000, at 100,000: a long loses the mark at most, a short 150,000."""
    cap = 250_000 * 10**8
    assert [row.capped_minor for row in vega_levels(small_book(1, 0, 5), cap=cap)] == [
        100_000 * USDC, None
    ]  # fmt: skip
    assert vega_levels(small_book(-1), cap=cap)[0].capped_minor == 150_000 * USDC
    with pytest.raises(FormulaRefused, match="the mark of a capped future lies in 0"):
        vega_levels(small_book(1), cap=99_999 * 10**8)
