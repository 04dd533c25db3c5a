"""The add-ons of pools: equal to the twin to the minor unit, and the laws they obey."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from itertools import pairwise

import msgspec
import numba
import numpy as np
import pytest

from margin.add_ons.charges import (
    PARALLEL_POOLS,
    AddOnCharges,
    AddOns,
    AddOnTable,
    Funding,
    Gamma,
    Liquidity,
    add_on_table,
    add_ons,
)
from margin.add_ons.concentration import MOST_SLOPE_E9
from margin.invariant import Int64Array, InvariantBroken
from margin.pools.requirement import pool_requirements
from margin.pools.risk_table import risk_table
from margin.portfolio import (
    INVERSE,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Positions,
    margin_order,
)
from margin.presets import load_preset
from margin.scenarios.grid import scenario_matrix, scenarios_of
from tests.reference import reference_add_ons as twin
from tests.reference.reference_add_ons import COINS, EXPONENTS, Market, column, random_market

PS_1 = load_preset("ps-1")
SCENARIOS = [scenarios_of(PS_1, coin) for coin in COINS]
COUNT = len(SCENARIOS[0])
EXPONENT = column(list(EXPONENTS))
SECTIONS = AddOns(
    liquidity=Liquidity(
        form="square-root", coefficient_e9=10**9, free_share_e9=50_000_000, depth_days_e9=10**9
    ),
    gamma=Gamma(
        quantile_e9=4 * 10**9, least_gap_e9=80_000_000, near_days=7, half_spread_e9=500_000
    ),
    funding=Funding(horizon_hours=8),
)
LINEAR_FORM = msgspec.structs.replace(
    SECTIONS,
    liquidity=Liquidity(
        form="linear", coefficient_e9=5 * 10**8, free_share_e9=0, depth_days_e9=2 * 10**9
    ),
)


@pytest.fixture(scope="module")
def market() -> Market:
    return random_market(17)


def table_of(market: Market, sections: AddOns = SECTIONS, **changed: object) -> AddOnTable:
    """The table of a market, with some of its conditions changed."""
    conditions = msgspec.structs.replace(market.conditions, **changed)
    return add_on_table(sections, market.instruments, market.marks, conditions, SCENARIOS, EXPONENT)


def random_worst(pools: int, seed: int) -> Int64Array:
    """Scenarios from -1, none, to one beyond the grid."""
    return np.random.default_rng(seed).integers(-1, COUNT + 1, (pools, 3)).astype(np.int64)


def none_worst(positions: Positions) -> Int64Array:
    return np.full((positions.pool_count, 3), -1, np.int64)


def held(market: Market, *pools: dict[int, int]) -> Positions:
    """Pools with some lots of some instruments, in margin order."""
    rank = np.argsort(margin_order(market.instruments))
    rows = [sorted(pool.items(), key=lambda row: int(rank[row[0]])) for pool in pools]
    start = np.cumsum([0, *(len(pool) for pool in rows)]).astype(np.int64)
    slots = column([slot for pool in rows for slot, _ in pool])
    lots = column([size for pool in rows for _, size in pool])
    return Positions(start, slots, lots, np.zeros((len(pools), 3), np.int64))


def charge(
    market: Market, *pools: dict[int, int], sections: AddOns = SECTIONS, **changed: object
) -> AddOnCharges:
    """Add-ons of pools that one owner holds, without a worst scenario."""
    positions = held(market, *pools)
    table = table_of(market, sections, **changed)
    return add_ons(table, positions, column([0] * len(pools)), none_worst(positions))


def slots(market: Market, kind: int, days: int, unit: int = 0) -> list[int]:
    """Slots of a kind in a unit; `days` to expiry, or -1 for a perpetual."""
    expiry = NEVER_NS if days < 0 else days * twin.DAY_NS
    rows = market.instruments
    of = (rows.kind == kind) & (rows.unit == unit) & (rows.expiry_ns == expiry)
    return np.flatnonzero(of).tolist()


def compared_with_the_twin(pools: int, seed: int, sections: AddOns) -> None:
    market = random_market(seed)
    table = table_of(market, sections)
    positions = twin.random_pools(market, pools, seed, most_lots=10**8)
    owners = np.random.default_rng(seed).integers(0, pools // 3 + 1, pools).astype(np.int64)
    worst = random_worst(pools, seed)
    found = add_ons(table, positions, owners, worst)
    expected = twin.charges(table, positions, owners.tolist(), worst)
    rows = zip(
        found.liquidity_minor.tolist(), found.gamma_minor.tolist(), found.funding_minor.tolist(),
        strict=True,
    )  # fmt: skip
    assert list(rows) == expected
    assert found.total_minor.tolist() == [sum(row) for row in expected]
    assert min(min(row) for row in expected) == 0
    for part in zip(*expected, strict=True):  # the comparison met every add-on
        assert sum(amount > 0 for amount in part) > pools // 20


@pytest.mark.parametrize("sections", [SECTIONS, LINEAR_FORM])
def test_no_market_is_so_wild_that_closing_costs_more_than_the_position(
    market: Market, sections: AddOns
) -> None:
    """At ten times the risk of the wildest that there may be the price of size is at its bound."""
    assert sections.liquidity is not None
    steep = msgspec.structs.replace(sections.liquidity, coefficient_e9=10 * 10**9)
    wild = column([20 * 10**9] * 3)
    given = {"volatility_e9": wild, "spot_range_e9": wild // 4}
    table = table_of(market, AddOns(liquidity=steep), **given)
    assert table.slope_e9.tolist() == [MOST_SLOPE_E9] * 3
    (slot,) = slots(market, LINEAR, -1)
    lots = 10**8
    notional = lots * int(market.marks.index_e8[0]) * int(market.instruments.lot_e8[slot])
    found = charge(market, {slot: lots}, sections=AddOns(liquidity=steep), **given)
    assert 0 < int(found.liquidity_minor[0]) <= notional // 10**10 + 1


@pytest.mark.parametrize("sections", [SECTIONS, LINEAR_FORM])
@pytest.mark.parametrize("seed", [101, 102])
def test_random_pools_equal_the_twin_to_the_minor_unit(seed: int, sections: AddOns) -> None:
    compared_with_the_twin(500, seed, sections)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(201, 206))
def test_many_random_pools_equal_the_twin_to_the_minor_unit(seed: int) -> None:
    compared_with_the_twin(10_000, seed, SECTIONS)
    compared_with_the_twin(10_000, seed, LINEAR_FORM)


def test_an_absent_section_charges_nothing(market: Market) -> None:
    positions = twin.random_pools(market, 200, 1, most_lots=10**8)
    owners, worst = np.arange(200, dtype=np.int64), random_worst(200, 1)

    def of(sections: AddOns) -> AddOnCharges:
        return add_ons(table_of(market, sections), positions, owners, worst)

    assert not of(AddOns()).total_minor.any()
    alone = of(AddOns(liquidity=SECTIONS.liquidity))
    assert alone.liquidity_minor.any()
    assert (alone.total_minor == alone.liquidity_minor).all()
    assert (of(AddOns(funding=SECTIONS.funding)).total_minor == of(SECTIONS).funding_minor).all()
    # without the section on liquidity, hedging again has a spread but no impact
    assert (of(AddOns(gamma=SECTIONS.gamma)).gamma_minor <= of(SECTIONS).gamma_minor).all()


def test_opposite_positions_of_the_same_size_change_no_charge(market: Market) -> None:
    call, future = slots(market, LINEAR_CALL, 12)[0], slots(market, LINEAR, 40)[0]
    perpetual = slots(market, LINEAR, -1)[0]
    alone = charge(market, {perpetual: 10**9, call: -(10**6)})
    hedged = charge(market, {perpetual: 10**9 + 7, future: -7, call: -(10**6)})
    assert alone.liquidity_minor[0] > 0
    assert alone.liquidity_minor.tolist() == hedged.liquidity_minor.tolist()
    flat = charge(market, {perpetual: 10**9, future: -(10**9)})
    assert flat.liquidity_minor.tolist() == [0]


def test_hedged_gamma_and_long_gamma_cost_nothing() -> None:
    market = random_market(18)
    call = slots(market, LINEAR_CALL, 12)[0]
    strike = market.instruments.strike_group[call]
    put = next(
        s for s in slots(market, LINEAR_PUT, 12) if market.instruments.strike_group[s] == strike
    )
    market.marks.rate_e9[put] = market.marks.rate_e9[call]
    assert charge(market, {call: 10**4}).gamma_minor.tolist() == [0]
    assert charge(market, {call: -(10**4)}).gamma_minor[0] > 0
    # a call and a put of one strike bend alike: one hedges the other's gamma
    assert charge(market, {call: -(10**4), put: 10**4}).gamma_minor.tolist() == [0]
    assert not charge(market, {slots(market, INVERSE, -1)[0]: -(10**6)}).gamma_minor.any()


def test_long_gamma_of_a_later_expiry_does_not_pay_for_an_early_one(market: Market) -> None:
    early, next_early, late, latest = (slots(market, LINEAR_CALL, d)[0] for d in (2, 5, 12, 90))
    short = charge(market, {early: -(10**4)}).gamma_minor[0]
    assert short > 0
    for other in (next_early, late, latest):
        assert charge(market, {early: -(10**4), other: 10**7}).gamma_minor[0] == short
    assert charge(market, {latest: -(10**3)}).gamma_minor[0] > 0
    assert charge(market, {latest: -(10**3), late: 10**7}).gamma_minor[0] == 0


def test_convexity_in_the_worst_scenario_is_not_charged_twice(market: Market) -> None:
    call = slots(market, LINEAR_CALL, 12)[0]
    positions = held(market, {call: -(10**4)})
    table, owner = table_of(market), column([0])
    by_scenario = [
        int(add_ons(table, positions, owner, np.full((1, 3), s, np.int64)).gamma_minor[0])
        for s in range(-1, COUNT + 1)
    ]
    unmoved = (np.abs(SCENARIOS[0].spot_move_e9) == 0).nonzero()[0].tolist()
    wide = (np.abs(SCENARIOS[0].spot_move_e9) == 160_000_000).nonzero()[0].tolist()
    full, hedging = by_scenario[0], min(by_scenario)
    assert by_scenario[-1] == full  # a candidate outside the grid
    assert all(by_scenario[s + 1] == full for s in unmoved)
    # a move of 16 % bends more than the gap of 8 %: only the cost of hedging again is left
    assert all(by_scenario[s + 1] == hedging for s in wide)
    assert 0 < hedging < full


def test_charges_rise_with_size(market: Market) -> None:
    random = np.random.default_rng(8)
    table = table_of(market)
    positions = twin.random_pools(market, 60, 8, most_lots=10**6)
    owners, worst = np.arange(60, dtype=np.int64), random_worst(60, 8)
    before = add_ons(table, positions, owners, worst)
    for scale in sorted(random.integers(2, 300, 6).tolist()):
        larger = msgspec.structs.replace(positions, quantity_lots=positions.quantity_lots * scale)
        after = add_ons(table, larger, owners, worst)
        for low, high in zip(before, after, strict=True):
            assert (low <= high).all()
        before = after


def test_charges_rise_with_volatility_and_interval_and_fall_with_volume(market: Market) -> None:
    short = {slot: -(10**5) for days in (2, 5, 12, 90) for slot in slots(market, LINEAR_CALL, days)}
    short[slots(market, LINEAR, -1)[0]] = -(10**8)

    def rising(paid: list[AddOnCharges]) -> bool:
        totals = [(int(c.liquidity_minor[0]), int(c.gamma_minor[0])) for c in paid]
        return all(a[0] <= b[0] and a[1] <= b[1] for a, b in pairwise(totals))

    ones = np.ones(3, np.int64)
    calm = msgspec.structs.replace(
        SECTIONS, gamma=msgspec.structs.replace(SECTIONS.gamma, least_gap_e9=1_000_000)
    )
    assert rising(
        [charge(market, short, volatility_e9=ones * v * 10**7) for v in range(10, 400, 9)]
    )
    assert rising(
        [charge(market, short, sections=calm, interval_ns=s * 10**9) for s in range(0, 90_000, 999)]
    )
    assert rising(
        [charge(market, short, daily_volume_minor=ones * 10**17 // d) for d in range(1, 500, 11)]
    )
    gaps = [
        msgspec.structs.replace(SECTIONS.gamma, least_gap_e9=h * 10**6) for h in range(0, 1000, 9)
    ]
    assert rising(
        [charge(market, short, sections=msgspec.structs.replace(SECTIONS, gamma=g)) for g in gaps]
    )


def test_funding_is_what_is_paid_and_never_what_is_received(market: Market) -> None:
    perpetual, inverse = slots(market, LINEAR, -1)[0], slots(market, INVERSE, -1)[0]
    rate = np.zeros(len(market.instruments), np.int64)
    rate[perpetual], rate[inverse] = 100_000, -300_000
    size = {perpetual: 10**6, inverse: -(10**4)}

    def paid(pool: dict[int, int]) -> int:
        return int(charge(market, pool, funding_rate_e9=rate).funding_minor[0])

    both = paid(size)
    assert both == paid({perpetual: 10**6}) + paid({inverse: -(10**4)})
    assert paid({perpetual: -(10**6), inverse: 10**4}) == 0
    assert paid({perpetual: 10**6, inverse: 10**4}) == paid({perpetual: 10**6}) > 0


def test_dividing_a_book_among_pools_does_not_lower_the_owner_s_liquidity(market: Market) -> None:
    perpetual = slots(market, LINEAR, -1)[0]
    whole = int(charge(market, {perpetual: 10**9}).liquidity_minor[0])
    assert whole > 0
    for parts in ([5 * 10**8] * 2, [10**8] * 10, [3 * 10**9, -(2 * 10**9)], [10**9 - 1, 1]):
        divided = charge(market, *({perpetual: part} for part in parts)).liquidity_minor
        assert int(divided.sum()) >= whole
        if min(parts) > 0:
            assert int(divided.sum()) == whole


def test_the_worst_scenarios_of_the_requirement_are_the_ones_it_reads(market: Market) -> None:
    matrix = scenario_matrix(PS_1, SCENARIOS, market.instruments, market.marks, EXPONENT)
    positions = twin.random_pools(market, 300, 4)
    needed = pool_requirements(risk_table(PS_1, market.instruments, matrix), positions)
    owners = np.arange(300, dtype=np.int64)
    found = add_ons(table_of(market), positions, owners, needed.worst_scenario)
    without = add_ons(table_of(market), positions, owners, none_worst(positions))
    assert (found.gamma_minor <= without.gamma_minor).all()
    assert (found.gamma_minor < without.gamma_minor).any()


def _digest() -> str:
    market = random_market(23)
    positions = twin.random_pools(market, 300, 23, most_lots=10**8)
    owners = np.arange(300, dtype=np.int64) // 2
    found = add_ons(table_of(market), positions, owners, random_worst(300, 23))
    return hashlib.sha256(np.stack(found).tobytes()).hexdigest()


def test_compiled_and_interpreted_give_the_same_bits() -> None:
    code = "from tests.margin.test_add_ons import _digest; print(_digest())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == _digest()


def test_the_number_of_threads_changes_nothing(market: Market) -> None:
    pools = PARALLEL_POOLS + 300
    few = twin.random_pools(market, 500, 6, most_lots=10**8)
    times = pools // 500 + 1
    rows = int(few.pool_start[-1])
    start = np.concatenate(
        [few.pool_start[:-1] + rows * k for k in range(times)] + [[rows * times]]
    )
    many = Positions(
        start.astype(np.int64), np.tile(few.instrument, times), np.tile(few.quantity_lots, times),
        np.tile(few.coin_minor, (times, 1)),
    )  # fmt: skip
    worst = np.tile(random_worst(500, 6), (times, 1))
    table, owners = table_of(market), np.arange(500 * times, dtype=np.int64)
    expected = add_ons(table, few, owners[:500], worst[:500])
    before = numba.get_num_threads()
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            found = add_ons(table, many, owners, worst)
            assert (found.total_minor == np.tile(expected.total_minor, times)).all()
    finally:
        numba.set_num_threads(before)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (Liquidity, {"form": "cube"}, "liquidity.form"),
        (Liquidity, {"coefficient_e9": -1}, "liquidity.coefficient: must lie in 0 .. 10"),
        (Liquidity, {"free_share_e9": 2 * 10**9}, "liquidity.free_share: must lie in 0 .. 1"),
        (Liquidity, {"depth_days_e9": 10**7}, "liquidity.depth_days: must lie in free_share .. 30"),
        (Gamma, {"quantile_e9": 10**8}, "gamma.quantile: must lie in 1 .. 20"),
        (Gamma, {"least_gap_e9": 10**10}, "gamma.least_gap: must lie in 0 .. 1"),
        (Gamma, {"near_days": -1}, "gamma.near_days: must lie in 0 .. 365"),
        (Gamma, {"half_spread_e9": -1}, "gamma.half_spread: must lie in 0 .. 1"),
        (Funding, {"horizon_hours": 200}, "funding.horizon_hours: must lie in 0 .. 168"),
    ],
)
def test_constants_out_of_range_are_refused_by_name(
    section: type[msgspec.Struct], values: dict[str, object], message: str
) -> None:
    whole = {Liquidity: SECTIONS.liquidity, Gamma: SECTIONS.gamma, Funding: SECTIONS.funding}
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(whole[section], **values)


def test_arrays_of_other_pools_stop_the_engine(market: Market) -> None:
    positions = twin.random_pools(market, 3, 1)
    with pytest.raises(InvariantBroken, match="owner"):
        add_ons(table_of(market), positions, column([0]), none_worst(positions))
    with pytest.raises(InvariantBroken, match="worst"):
        add_ons(table_of(market), positions, column([0] * 3), random_worst(2, 1))
