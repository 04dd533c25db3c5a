"""How far requirements can have moved: the bound is never below what they did move."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from margin.invariant import Int64Array, InvariantBroken
from margin.pools.drift_bound import UNBOUNDED, Drift, LotValues, mark_and_bound, requirement_drift
from margin.pools.requirement import RiskTable, pool_requirements
from margin.pools.risk_table import (
    BETTER_ROW,
    GROSS_CHARGE,
    GROSS_EXTRA_CHARGE,
    GROUP,
    NAKED_CHARGE,
    NAKED_EXTRA_CHARGE,
)
from margin.portfolio import LINEAR, Positions
from tests.reference.moving_marks import (
    CURRENCIES,
    MODELS,
    PS_1,
    lot_values,
    table_at,
    values_by_hand,
    with_rows,
)
from tests.reference.random_portfolios import CLASSES, column, random_positions, random_venue

USDC = 10**6
CHARGES = [NAKED_CHARGE, NAKED_EXTRA_CHARGE, GROSS_CHARGE, GROSS_EXTRA_CHARGE]


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_the_bound_holds_for_tables_that_have_nothing_in_common(seed: int) -> None:
    """Rows, charges and coin columns drawn afresh: an increase is never above its bound."""
    random = np.random.default_rng(seed)
    venue = random_venue(PS_1, seed)
    before = table_at(venue, venue.marks)

    def scattered(array: Int64Array, share: float) -> Int64Array:
        noise = random.integers(-(10**6), 10**6, array.shape)
        return (array + noise * (random.random(array.shape) < share)).astype(np.int64)

    terms = before.terms.copy()
    terms[:, CHARGES] = np.abs(scattered(terms[:, CHARGES], 0.3))
    for g, slot in enumerate(before.group_terms[:, 1].tolist()):  # one charge a strike
        for charge in (NAKED_CHARGE, NAKED_EXTRA_CHARGE):
            terms[terms[:, GROUP] == g, charge] = terms[slot, charge]
    coin_terms = before.coin_terms.copy()
    coin_terms[:, 1:] = random.integers(0, 10**5, coin_terms[:, 1:].shape)
    after = msgspec.structs.replace(
        with_rows(before, scattered(before.rows, 0.2), terms),
        coin=scattered(before.coin, 0.5),
        coin_terms=coin_terms,
    )
    positions = random_positions(venue, 800, seed)
    coins = positions.coin_minor + random.integers(-(10**9), 10**9, positions.coin_minor.shape)
    later = Positions(positions.pool_start, positions.instrument, positions.quantity_lots, coins)
    drift = requirement_drift(before, after)
    assert drift is not None
    value = np.empty((800, CURRENCIES), np.int64)
    increase = np.empty(800, np.int64)
    values = lot_values(venue, venue.marks)
    mark_and_bound(later, positions.coin_minor, values, drift, value, increase)
    then, now = pool_requirements(before, positions), pool_requirements(after, later)
    for was, is_ in ((then.initial_minor, now.initial_minor),
                     (then.maintenance_minor, now.maintenance_minor)):  # fmt: skip
        assert (is_ - was <= increase).all()
    assert (now.initial_minor > then.initial_minor).any()


def test_the_bound_holds_where_only_the_gross_part_of_a_delta_floor_has_moved() -> None:
    venue = random_venue(PS_1, 14)
    floored = [
        name for name in MODELS if len(table_at(venue, venue.marks, MODELS[name]).gross_floor)
    ]
    assert floored
    for name in floored:
        before = table_at(venue, venue.marks, MODELS[name])
        after = msgspec.structs.replace(before, gross_floor=before.gross_floor * 20)
        positions = random_positions(venue, 800, 14)
        drift = requirement_drift(before, after)
        assert drift is not None
        value, increase = np.empty((800, CURRENCIES), np.int64), np.empty(800, np.int64)
        values = lot_values(venue, venue.marks)
        mark_and_bound(positions, positions.coin_minor, values, drift, value, increase)
        then, now = (pool_requirements(table, positions) for table in (before, after))
        rise = now.initial_minor - then.initial_minor
        assert (rise <= increase).all(), name
        assert (rise > drift.rounding_minor).any(), name


def test_one_position_is_bounded_by_its_own_move() -> None:
    """100 lots whose row fell by 3 USDC somewhere need at most 300 USDC and rounding more."""
    venue = random_venue(PS_1, 4)
    whole = table_at(venue, venue.marks)
    slot = int(np.flatnonzero(venue.instruments.kind == LINEAR)[0])
    exponent = int(whole.risk_exponent[venue.instruments.unit[slot]])

    def table(loss_minor: int) -> RiskTable:
        rows, terms = np.zeros_like(whole.rows), whole.terms.copy()
        terms[:, CHARGES] = 0
        width = whole.rows.shape[1] // 2
        rows[slot, [2, width + 2]] = -loss_minor << exponent
        return with_rows(whole, rows, terms)

    none = np.zeros((1, len(CLASSES)), np.int64)
    positions = Positions(column([0, 1]), column([slot]), column([100]), none)
    drift = requirement_drift(table(5 * USDC), table(8 * USDC))
    assert drift is not None
    assert drift.rounding_minor == 4
    value, increase = np.empty((1, 1), np.int64), np.empty(1, np.int64)
    values = LotValues(column([2_509_999]).repeat(len(whole.rows)), 0 * whole.terms[:, 0])
    mark_and_bound(positions, positions.coin_minor, values, drift, value, increase)
    assert value[0, 0] == 250
    assert increase[0] == 300 * USDC + 4
    needed = [int(pool_requirements(table(x * USDC), positions).initial_minor[0]) for x in (5, 8)]
    assert needed == [500 * USDC, 800 * USDC]


def test_values_are_rounded_down_position_by_position() -> None:
    venue = random_venue(PS_1, 5)
    positions = random_positions(venue, 500, 5)
    values = lot_values(venue, venue.marks)
    nothing = np.zeros(len(venue.instruments), np.int64)
    units = np.zeros(len(CLASSES), np.int64)
    value, increase = np.empty((500, CURRENCIES), np.int64), np.empty(500, np.int64)
    drift = Drift(nothing, units, units, 0)
    mark_and_bound(positions, positions.coin_minor, values, drift, value, increase)
    assert (value == values_by_hand(positions, values)).all()
    assert (value[:, 0] % 2 == 1).any()
    assert (increase == 0).all()


@pytest.mark.parametrize("seed", [1, 2])
def test_positions_of_any_size_are_marked_and_bounded_exactly(seed: int) -> None:
    """From one lot to 2^40, and pools of more positions than a small one has."""
    random = np.random.default_rng(seed)
    listed, pools = 400, 60
    sizes = [300 if p == 0 else 12 for p in range(pools)]
    start = column([0, *np.cumsum(sizes).tolist()])
    instrument = np.concatenate([np.sort(random.permutation(listed)[:n]) for n in sizes])
    reach = 2 ** random.integers(1, 41, pools)
    reach[0] = 8  # small, but many
    lots = random.integers(-reach.repeat(sizes), reach.repeat(sizes))
    positions = Positions(start, instrument, lots, np.zeros((pools, 1), np.int64))
    values = LotValues(random.integers(0, 2**20, listed), np.zeros(listed, np.int64))
    none = column([0])
    drift = Drift(random.integers(0, 2**14, listed), none, none, 3)
    value, increase = np.empty((pools, 1), np.int64), np.empty(pools, np.int64)
    mark_and_bound(positions, positions.coin_minor, values, drift, value, increase)
    for p in range(pools):
        rows = range(int(start[p]), int(start[p + 1]))
        held = [(int(instrument[k]), int(lots[k])) for k in rows]
        assert value[p, 0] == sum(q * int(values.value_e6[i]) // 10**6 for i, q in held)
        assert increase[p] == -(-sum(abs(q) * int(drift.lot[i]) for i, q in held) // 256) + 3


@pytest.mark.parametrize("lots", [2**41, -(2**41)])
@pytest.mark.parametrize("drift_per_lot", [2**21, 2**60, UNBOUNDED])
def test_numbers_too_large_for_a_bound_are_scanned(lots: int, drift_per_lot: int) -> None:
    positions = Positions(column([0, 1]), column([0]), column([lots]), np.zeros((1, 1), np.int64))
    value, increase = np.empty((1, 1), np.int64), np.empty(1, np.int64)
    none = column([0])
    drift = Drift(column([drift_per_lot]), none, none, 4)
    values = LotValues(column([999_999]), none)
    mark_and_bound(positions, positions.coin_minor, values, drift, value, increase)
    assert value[0, 0] == lots * 999_999 // 10**6
    assert increase[0] == UNBOUNDED


def test_coin_cash_too_large_for_a_bound_is_scanned() -> None:
    coin = np.full((1, 1), 2**60)
    positions = Positions(column([0, 0]), column([]), column([]), coin)
    value, increase = np.empty((1, 1), np.int64), np.empty(1, np.int64)
    drift = Drift(column([0]), column([2**40]), column([0]), 4)
    values = LotValues(column([1]), column([0]))
    mark_and_bound(positions, coin, values, drift, value, increase)
    assert increase[0] == UNBOUNDED


def test_other_factors_exponents_or_listings_have_no_drift() -> None:
    venue = random_venue(PS_1, 6)
    table = table_at(venue, venue.marks)
    assert requirement_drift(table, table) is not None
    better = table.terms.copy()
    better[:, BETTER_ROW] = 1
    for change in (
        {"factors_ppb": table.factors_ppb + 1},
        {"risk_exponent": table.risk_exponent + 1},
        {"rows": table.rows[:-1]},
        {"terms": better},
        {"shape": table.shape._replace(skews=0)},
        {"start": table.start - 1},
        {"gross_floor": column([0]).repeat(len(table.terms))},
    ):
        assert requirement_drift(table, msgspec.structs.replace(table, **change)) is None, change


def test_every_part_of_a_risk_table_is_compared_or_bounded() -> None:
    """A part that is new here needs a place in `requirement_drift` and in these lists."""
    compared = {"shape", "expiries", "start", "risk_exponent", "factors_ppb"}
    bounded = {"rows", "terms", "group_terms", "gross_floor", "coin", "coin_value", "coin_terms"}
    follows_from_rows = {"lone"}
    assert set(RiskTable.__struct_fields__) == compared | bounded | follows_from_rows


@pytest.mark.parametrize("model", ["ps-1", "better rows", "grid only"])
def test_what_a_lone_position_adds_follows_from_its_rows(model: str) -> None:
    venue = random_venue(MODELS[model], 1)
    table = table_at(venue, venue.marks, MODELS[model])
    assert np.array_equal(table.lone, with_rows(table, table.rows, table.terms).lone)
    assert table.lone.any() == (table.shape.halves == 2)
    assert table.terms[:, BETTER_ROW].any() == (model == "better rows")


def test_columns_of_other_shapes_break() -> None:
    venue = random_venue(PS_1, 8)
    table, values = table_at(venue, venue.marks), lot_values(venue, venue.marks)
    positions = random_positions(venue, 10, 8)
    drift = requirement_drift(table, table)
    assert drift is not None
    value, increase = np.zeros((10, CURRENCIES), np.int64), np.zeros(10, np.int64)
    with pytest.raises(InvariantBroken, match="other pools"):
        mark_and_bound(positions, positions.coin_minor, values, drift, value, increase[:9])
    with pytest.raises(InvariantBroken, match="no column"):
        mark_and_bound(positions, positions.coin_minor, values, drift, value[:, :2], increase)
    with pytest.raises(InvariantBroken, match="coin cash"):
        mark_and_bound(positions, positions.coin_minor[:9], values, drift, value, increase)
    short = LotValues(values.value_e6[:-1], values.currency[:-1])
    with pytest.raises(InvariantBroken, match="one value per instrument"):
        mark_and_bound(positions, positions.coin_minor, short, drift, value, increase)
