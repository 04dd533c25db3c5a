"""Every section of a model shows in an explanation under its own name."""

from __future__ import annotations

import math

import msgspec
import pytest

from margin.book import option_value_minor
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, NEVER_NS
from margin.presets import load_preset
from margin.reasons.explain import (
    COIN_COLLATERAL,
    DAMPENER,
    DELTA_ONE,
    DOUBTFUL_PRICES,
    OTHER_POOLS,
    ROLL,
    explain,
)
from margin.reasons.pool_model import BASIS, FLOOR, GRID, SKEW, TAIL
from margin.valuation import option_marks
from tests.margin.small_books import DAY_NS, E8, PS_1, USDC, check_sums, small_book, with_conditions
from tests.reference.random_portfolios import column


def test_what_a_static_discount_takes_is_the_position_s() -> None:
    """One long call: flat in a year at 5 % a year, its value counts 0.95 exp(-(0.05 + 0.08))."""
    book = small_book(0, 1, usdc=100_000)
    later = msgspec.structs.replace(
        book.instruments, expiry_ns=column([NEVER_NS, 365 * DAY_NS, NEVER_NS])
    )
    marks = msgspec.structs.replace(book.marks, rate_e9=column([0, 5 * 10**7, 0]))
    marks.mark_e8[1] = option_marks(later, marks)[1]
    found = explain(PS_1, msgspec.structs.replace(book, instruments=later, marks=marks))
    (unit,) = found.units
    still = next(r for r in unit.scenarios if r.cell.name == "spot 0 %, volatility unchanged")
    value = option_value_minor(msgspec.structs.replace(book, instruments=later, marks=marks))[0]
    factor = 0.95 * math.exp(-0.13)
    assert still.profit_minor == pytest.approx(-int(value) * (1 - factor), abs=2)


def test_what_the_model_asks_beside_scenarios_has_its_name() -> None:
    """Doubt: (1 - 0.4) of notional. Coin collateral and roll: what the files say."""
    book = small_book(1, usdc=30_000, coin=0.5)
    sure = explain(PS_1, book, distances=False)
    marks = msgspec.structs.replace(book.marks, index_confidence_ppb=column([4 * 10**8]))
    doubt = explain(PS_1, msgspec.structs.replace(book, marks=marks), distances=False)
    charges = {c.name: (c.maintenance_minor, c.initial_minor) for c in doubt.charges}
    assert charges == {
        DELTA_ONE: (1_500 * USDC, 500 * USDC),
        DOUBTFUL_PRICES: (0, 90_000 * USDC),
    }
    assert doubt.initial_minor - sure.initial_minor == 90_000 * USDC
    pmrm = explain(load_preset("derive-pmrm2"), book, distances=False)
    charges = {c.name: (c.maintenance_minor, c.initial_minor) for c in pmrm.charges}
    assert charges[COIN_COLLATERAL] == (12_500 * USDC, 2_500 * USDC)
    rolled = explain(load_preset("deribit"), small_book(1, usdc=30_000), distances=False)
    charges = {c.name: (c.maintenance_minor, c.initial_minor) for c in rolled.charges}
    assert charges == {ROLL: (800 * USDC, 200 * USDC)}


def test_a_stable_coin_below_its_peg_raises_the_initial_factor() -> None:
    """At 0.95 PS-1 multiplies the worst loss by 1 + (0.98 - 0.95) x 2."""
    book = small_book(1, usdc=30_000)
    marks = msgspec.structs.replace(book.marks, stable_e9=950_000_000)
    found = explain(PS_1, msgspec.structs.replace(book, marks=marks), distances=False)
    assert found.initial_factor_ppb == 1_060_000_000
    assert found.initial_minor == (16_960 + 2_000) * USDC


def test_cells_outside_the_grid_say_what_moves() -> None:
    (unit,) = explain(PS_1, small_book(1, -1, usdc=30_000), distances=False).units
    kinds = [row.cell.kind for row in unit.scenarios]
    assert [kinds.count(kind) for kind in (GRID, TAIL, SKEW, BASIS)] == [27, 8, 2, 1]
    assert [row.cell.name for row in unit.scenarios[-3:]] == [
        "linear skew of volatility", "absolute skew of volatility",
        "the worse basis of every expiry",
    ]  # fmt: skip
    floor = explain(load_preset("paradex"), small_book(1, usdc=30_000), distances=False)
    cells = [row.cell for row in floor.units[0].scenarios]
    assert [cell.kind for cell in cells].count(GRID) == 16
    assert (cells[-1].kind, cells[-1].name) == (FLOOR, "floor on delta")


def test_the_floor_on_delta_is_the_positions_whose_delta_it_is() -> None:
    """A coin long against a coin of dollars short: 1 % of 2 x 100,000 / 2 hedged, on both."""
    found = explain(load_preset("paradex"), small_book(1, 0, -100, usdc=30_000))
    (unit,) = found.units
    assert unit.worst is not None
    assert unit.worst.kind == FLOOR
    assert unit.loss_minor == 1_000 * USDC
    assert sum(part.profit_minor for part in unit.positions) == -1_000 * USDC


def test_a_dampener_s_part_is_told() -> None:
    """A thousand calls short far above the index: the worst is a tail, a part of it forgiven."""
    preset, book = load_preset("deribit"), small_book(0, -1_000, usdc=100_000)
    calls = msgspec.structs.replace(
        book.instruments, kind=column([LINEAR, LINEAR_CALL, INVERSE]),
        strike_e8=column([0, 250_000 * E8, 0]),
    )  # fmt: skip
    found = explain(preset, msgspec.structs.replace(book, instruments=calls), distances=False)
    check_sums(found)
    (unit,) = found.units
    assert unit.worst is not None
    assert unit.worst.kind == TAIL
    forgiven = [part for part in unit.positions if part.name == DAMPENER]
    assert len(forgiven) == 1
    assert forgiven[0].profit_minor > 0


def test_add_ons_are_charged_where_the_market_is_known() -> None:
    """2,000 coins are 200 million: 2,457,867.10 as in the documentation; funding 0.01 %."""
    book = small_book(2_000, usdc=60_000_000)
    plain = explain(PS_1, book, distances=False)
    assert plain.add_ons == ()
    rates = column([100_000, 0, 0])
    found = explain(PS_1, with_conditions(book, funding_rate_e9=rates))
    check_sums(found)
    charged = {charge.name: charge.maintenance_minor for charge in found.add_ons}
    assert charged == {"liquidity": 2_457_867_100_000, "funding": 20_000 * USDC}
    added = sum(charged.values())
    assert found.initial_minor - plain.initial_minor == added
    assert found.maintenance_minor - plain.maintenance_minor == added
    assert explain(load_preset("span-16"), with_conditions(book), distances=False).add_ons == ()


def test_short_gamma_is_an_add_on() -> None:
    found = explain(PS_1, with_conditions(small_book(0, -1, usdc=30_000)), distances=False)
    (gamma,) = found.add_ons
    assert gamma.name == "gamma"
    assert gamma.maintenance_minor > 0
    assert explain(PS_1, with_conditions(small_book(0, 1, usdc=30_000))).add_ons == ()


def test_what_an_owner_s_other_pools_add_is_told() -> None:
    book = with_conditions(small_book(1, usdc=20_000))
    plain = explain(PS_1, book, distances=False)
    found = explain(PS_1, book, other_pools_minor=7, distances=False,
                    venue_initial_minor=plain.initial_minor)  # fmt: skip
    check_sums(found)
    assert [(c.name, c.maintenance_minor) for c in found.add_ons] == [(OTHER_POOLS, 7)]
    assert found.initial_minor == plain.initial_minor + 7
