from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import msgspec
import numba
import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, NEVER_NS, Instruments, Marks, Positions
from margin.preset import CollateralCharges, Factors, NamedRate
from margin.presets import load_preset
from margin.requirement import (
    OpenOrders,
    RiskTable,
    equity,
    pool_requirements,
    requirement_with_orders,
    risk_table,
)
from margin.scenarios import scenario_matrix, scenarios_of
from tests.reference import reference_margin
from tests.reference.random_portfolios import (
    EXPONENTS,
    Venue,
    column,
    random_positions,
    random_venue,
)

PS_1 = load_preset("ps-1")
# Grid, tails and contingencies alone, for figures worked by hand.
GRID_ONLY = msgspec.structs.replace(PS_1, skew=None, discount=None, basis=None, averaging=None)
USDC = 10**6
BTC = 10**8
NO_ORDERS = OpenOrders(*(column([]) for _ in range(5)))


@pytest.fixture(scope="module")
def venue() -> Venue:
    return random_venue(PS_1, 11)


@pytest.fixture(scope="module")
def table(venue: Venue) -> RiskTable:
    return risk_table(PS_1, venue.instruments, venue.matrix)


def _pool(positions: Positions, p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = slice(int(positions.pool_start[p]), int(positions.pool_start[p + 1]))
    return positions.instrument[rows], positions.quantity_lots[rows], positions.coin_minor[p]


def _only(instrument: list[int], lots: list[int], coin_minor: list[int]) -> Positions:
    start = column([0, len(instrument)])
    return Positions(start, column(instrument), column(lots), np.array([coin_minor], np.int64))


def _worst(table: RiskTable, instrument: list[int], lots: list[int], coin: list[int]) -> int:
    return int(pool_requirements(table, _only(instrument, lots, coin)).worst_minor[0])


# Worked by hand: BTC at 100,000, futures at the index.
PERPETUAL, INVERSE_PERPETUAL, CALL = 0, 1, 2


@pytest.fixture(scope="module")
def worked() -> RiskTable:
    instruments = Instruments(
        kind=column([LINEAR, INVERSE, LINEAR_CALL]),
        unit=column([0, 0, 0]),
        expiry_ns=column([NEVER_NS, NEVER_NS, 1]),
        strike_e8=column([0, 0, 110_000 * 10**8]),
        lot_e8=column([10**5, 10 * 10**8, 10**8]),  # 0.001 BTC, 10 USD, 1 BTC
        strike_group=column([-1, -1, 4]),
    )
    spot = 100_000 * 10**8
    # an option at expiry: intrinsic value now and in every scenario
    everywhere = column([spot] * 3)
    volatility = column([0, 0, 10**9])
    marks = Marks(1, column([spot]), everywhere, everywhere, volatility, column([0, 0, 0]))
    scenarios = [scenarios_of(GRID_ONLY, "BTC")]
    matrix = scenario_matrix(GRID_ONLY, scenarios, instruments, marks, column([5]))
    return risk_table(GRID_ONLY, instruments, matrix)


def test_worked_example_linear_perpetual(worked: RiskTable) -> None:
    """Long 2 BTC: 200,000 x 16 % = 32,000; MM .8 x 32,000 + 1.5 %; IM 32,000 + 1.5 % + .5 %."""
    result = pool_requirements(worked, _only([PERPETUAL], [2_000], [0]))
    assert result.worst_minor[0] == 32_000 * USDC
    assert result.worst_scenario[0, 0] == 0
    assert result.maintenance_minor[0] == (25_600 + 3_000) * USDC
    assert result.initial_minor[0] == (32_000 + 3_000 + 1_000) * USDC


def test_worked_example_inverse_perpetual_with_coin_collateral(worked: RiskTable) -> None:
    """Short 100,000 USD against 1 BTC is flat in dollars: only the contingency on size stays."""
    hedged = pool_requirements(worked, _only([INVERSE_PERPETUAL], [-10_000], [BTC]))
    assert hedged.worst_minor[0] == 0
    assert hedged.worst_scenario[0, 0] == -1
    assert hedged.maintenance_minor[0] == 1_500 * USDC
    assert hedged.initial_minor[0] == 2_000 * USDC
    # Long against 1 BTC: both lose 16,000 when the coin falls.
    wrong_way = pool_requirements(worked, _only([INVERSE_PERPETUAL], [10_000], [BTC]))
    assert wrong_way.worst_minor[0] == 32_000 * USDC
    # A debt of half a coin is a short.
    assert _worst(worked, [], [], [-BTC // 2]) == 8_000 * USDC


def test_worked_example_short_call(worked: RiskTable) -> None:
    """3 short calls struck at 110,000, at expiry: worst is +50 % weighted .24, 40,000 x .24.

    Naked: .3 % and .2 % of 300,000.
    """
    result = pool_requirements(worked, _only([CALL], [-3], [0]))
    # +16 %: 6,000; +50 %: 9,600; +100 %: 90,000 x .12; +200 %: 190,000 x .06;
    # +300 %: 290,000 x .04; +400 %: 390,000 x .03; +500 %: 490,000 x .024 = 11,760, the largest
    assert result.worst_minor[0] == 3 * 11_760 * USDC
    assert result.worst_scenario[0, 0] == 34
    assert result.maintenance_minor[0] == (28_224 + 900) * USDC
    assert result.initial_minor[0] == (35_280 + 900 + 600) * USDC
    # bought back within the strike: nothing is naked
    assert pool_requirements(worked, _only([CALL], [3], [0])).initial_minor[0] == 0


def test_worked_example_orders(worked: RiskTable) -> None:
    """Buy 1 BTC at 101,000 while flat: 1,000 lost at once, 16,000 in the worst scenario."""
    loss = (100_000 - 101_000) * USDC * 2**5 // 1_000
    buy = OpenOrders(column([PERPETUAL]), column([1]), column([1_000]), column([loss]), column([0]))
    empty = column([])
    initial, maintenance = requirement_with_orders(worked, empty, empty, column([0]), buy)
    assert initial == (17_000 + 2_000) * USDC
    assert maintenance == (13_600 + 1_500) * USDC


def test_worked_example_inverse_order(worked: RiskTable) -> None:
    """Sell 100,000 USD at 80,000, mark 100,000: .25 coin lost at once, worth .25 x S (1 + m)."""
    loss_coin_e6 = 10 * (1 / 80_000 - 1 / 100_000) * 1e8 * 1e6
    sell = OpenOrders(
        column([INVERSE_PERPETUAL]), column([-1]), column([10_000]), column([0]),
        column([round(loss_coin_e6)]),
    )  # fmt: skip
    empty = column([])
    initial, _ = requirement_with_orders(worked, empty, empty, column([0]), sell)
    # +16 %: 25,000 x 1.16 + 16,000
    assert initial == (29_000 + 16_000 + 2_000) * USDC


REVERSED = msgspec.structs.replace(
    PS_1, discount=msgspec.structs.replace(PS_1.discount, long_base_e9=1_300_000_000)
)
CHARGED = msgspec.structs.replace(
    PS_1,
    factor=Factors(maintenance_ppb=10**9, initial_ppb=1_300_000_000, scales_contingency=True),
    collateral=CollateralCharges(
        maintenance=(NamedRate(name="default", rate_e9=30_000_000),),
        initial_extra=(NamedRate(name="default", rate_e9=7_000_000),),
    ),
)
MODELS = {
    "ps-1": PS_1,
    "grid only": GRID_ONLY,
    "reversed": REVERSED,
    "charged": CHARGED,
    **{
        name: load_preset(name)
        for name in ("derive-pmrm1", "derive-pmrm2", "deribit", "paradex", "span-16")
    },
}


def _check_against_twin(model: str, seed: int, pools: int, doubtful: bool = False) -> None:
    preset = MODELS[model]
    venue = random_venue(preset, seed, doubtful)
    positions = random_positions(venue, pools, seed)
    result = pool_requirements(risk_table(preset, venue.instruments, venue.matrix), positions)
    for p in range(positions.pool_count):
        held, lots, coin = _pool(positions, p)
        want = reference_margin.requirement(
            preset, venue.instruments, venue.matrix,
            dict(zip(held.tolist(), lots.tolist(), strict=True)), coin.tolist(),
        )  # fmt: skip
        got = {
            "worst": int(result.worst_minor[p]),
            "maintenance": int(result.maintenance_minor[p]),
            "initial": int(result.initial_minor[p]),
            "scenario": result.worst_scenario[p].tolist(),
        }
        assert got == want, (model, seed, p)
    assert (result.worst_minor > 0).mean() > 0.8


@pytest.mark.parametrize(("model", "pools"), [(model, 120) for model in MODELS])
def test_requirements_equal_the_twin_to_the_minor_unit(model: str, pools: int) -> None:
    _check_against_twin(model, 21, pools)


@pytest.mark.parametrize("model", MODELS)
def test_tokens_doubtful_prices_and_a_broken_peg_equal_the_twin(model: str) -> None:
    _check_against_twin(model, 22, 60, doubtful=True)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_ten_thousand_requirements_equal_the_twin(seed: int) -> None:
    _check_against_twin("ps-1", 100 + seed, 1_000)


def _random_orders(venue: Venue, seed: int) -> list[tuple[int, int, int, int, int]]:
    random = np.random.default_rng(seed)
    orders = []
    for _ in range(int(random.integers(1, 9))):
        i = int(random.integers(len(venue.instruments)))
        inverse = int(venue.instruments.kind[i]) == INVERSE
        reach = 5 * 2 ** EXPONENTS[int(venue.instruments.unit[i])]
        loss = 0 if inverse else int(random.integers(-(10**4), 10**4)) * reach
        loss_coin = int(random.integers(-(10**9), 10**9)) if inverse else 0
        side, lots = int(random.choice([-1, 1])), int(random.integers(1, 10**4))
        orders.append((i, side, lots, loss, loss_coin))
    return orders


@pytest.mark.parametrize("model", MODELS)
def test_requirements_with_orders_equal_the_twin(model: str) -> None:
    preset = MODELS[model]
    venue = random_venue(preset, 31)
    table = risk_table(preset, venue.instruments, venue.matrix)
    positions = random_positions(venue, 40, 31)
    for p in range(positions.pool_count):
        held, lots, coin = _pool(positions, p)
        orders = _random_orders(venue, p)
        want = reference_margin.requirement(
            preset, venue.instruments, venue.matrix,
            dict(zip(held.tolist(), lots.tolist(), strict=True)), coin.tolist(), orders,
        )  # fmt: skip
        columns = OpenOrders(*(column([order[c] for order in orders]) for c in range(5)))
        initial, maintenance = requirement_with_orders(table, held, lots, coin, columns)
        assert (initial, maintenance) == (want["initial"], want["maintenance"]), p


def test_without_orders_the_requirement_is_that_of_the_pool(venue: Venue, table: RiskTable) -> None:
    positions = random_positions(venue, 200, 5)
    result = pool_requirements(table, positions)
    for p in range(positions.pool_count):
        got = requirement_with_orders(table, *_pool(positions, p), NO_ORDERS)
        assert got == (result.initial_minor[p], result.maintenance_minor[p])


def test_an_order_never_lowers_the_requirement(venue: Venue, table: RiskTable) -> None:
    positions = random_positions(venue, 200, 6)
    for p in range(positions.pool_count):
        orders = _random_orders(venue, 1_000 + p)
        columns = OpenOrders(*(column([order[c] for order in orders]) for c in range(5)))
        alone = requirement_with_orders(table, *_pool(positions, p), NO_ORDERS)
        both = requirement_with_orders(table, *_pool(positions, p), columns)
        assert both[0] >= alone[0]
        assert both[1] >= alone[1]


def test_a_reducing_order_at_the_mark_never_raises_the_requirement(
    venue: Venue, table: RiskTable
) -> None:
    random = np.random.default_rng(7)
    for i in range(len(venue.instruments)):
        for side in (-1, 1):
            lots = int(random.integers(1, 10**5))
            size = int(random.integers(1, lots + 1))
            order = OpenOrders(*(column([x]) for x in (i, -side, size, 0, 0)))
            pool = column([i]), column([side * lots]), column([0, 0, 0])
            alone = requirement_with_orders(table, *pool, NO_ORDERS)
            assert requirement_with_orders(table, *pool, order) == alone


def test_the_requirement_covers_any_subset_of_fills_at_the_mark(
    venue: Venue, table: RiskTable
) -> None:
    random = np.random.default_rng(8)
    rank = np.argsort(np.lexsort((venue.instruments.strike_e8, venue.instruments.expiry_ns,
                                  venue.instruments.unit)))  # fmt: skip
    positions = random_positions(venue, 200, 8)
    for p in range(positions.pool_count):
        held, lots, coin = _pool(positions, p)
        orders = [(i, side, size, 0, 0) for i, side, size, _, _ in _random_orders(venue, 50 + p)]
        columns = OpenOrders(*(column([order[c] for order in orders]) for c in range(5)))
        initial, maintenance = requirement_with_orders(table, held, lots, coin, columns)
        book = dict(zip(held.tolist(), lots.tolist(), strict=True))
        for i, side, size, _, _ in orders:
            if random.integers(2):
                book[i] = book.get(i, 0) + side * int(random.integers(1, size + 1))
        slots = sorted(book, key=lambda i: int(rank[i]))
        after = pool_requirements(table, _only(slots, [book[i] for i in slots], coin.tolist()))
        assert after.initial_minor[0] <= initial
        assert after.maintenance_minor[0] <= maintenance


def test_requirements_are_never_negative_and_maintenance_is_within_initial(
    venue: Venue, table: RiskTable
) -> None:
    result = pool_requirements(table, random_positions(venue, 500, 2))
    assert (result.worst_minor >= 0).all()
    assert (result.maintenance_minor >= 0).all()
    assert (result.initial_minor >= result.maintenance_minor).all()


def test_a_pool_that_holds_nothing_needs_nothing(table: RiskTable) -> None:
    result = pool_requirements(table, _only([], [], [0, 0, 0]))
    assert result.worst_minor.tolist() == result.initial_minor.tolist() == [0]
    assert result.maintenance_minor.tolist() == [0]
    assert result.worst_scenario.tolist() == [[-1, -1, -1]]


def test_a_position_and_its_opposite_need_nothing(venue: Venue, table: RiskTable) -> None:
    for i in range(len(venue.instruments)):
        rows = _only([i, i], [12_345, -12_345], [0, 0, 0])
        assert pool_requirements(table, rows).worst_minor[0] == 0
        nothing = pool_requirements(table, _only([i], [0], [0, 0, 0]))
        assert nothing.initial_minor[0] == 0


def test_shrinking_a_pool_of_one_instrument_never_raises_it(venue: Venue, table: RiskTable) -> None:
    random = np.random.default_rng(13)
    for i in range(len(venue.instruments)):
        for sign in (-1, 1):
            sizes = np.sort(random.integers(0, 10**5, 12)).tolist()
            pools = len(sizes)
            positions = Positions(
                np.arange(pools + 1, dtype=np.int64), column([i] * pools),
                column([sign * size for size in sizes]), np.zeros((pools, 3), np.int64),
            )  # fmt: skip
            result = pool_requirements(table, positions)
            assert (np.diff(result.initial_minor) >= 0).all()
            assert (np.diff(result.maintenance_minor) >= 0).all()


def test_splitting_a_pool_never_lowers_the_sum_of_worst_losses(
    venue: Venue, table: RiskTable
) -> None:
    random = np.random.default_rng(14)
    positions = random_positions(venue, 300, 14)
    for p in range(positions.pool_count):
        held, lots, coin = (part.tolist() for part in _pool(positions, p))
        part = [int(random.integers(-(10**5), 10**5)) for _ in lots]
        rest = [whole - some for whole, some in zip(lots, part, strict=True)]
        nothing = [0, 0, 0]
        whole = _worst(table, held, lots, coin)
        split = _worst(table, held, part, nothing) + _worst(table, held, rest, coin)
        assert split >= whole


def test_one_and_two_threads_agree(venue: Venue, table: RiskTable) -> None:
    positions = random_positions(venue, 1_500, 15)
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        one = pool_requirements(table, positions)
    finally:
        numba.set_num_threads(before)
    two = pool_requirements(table, positions)
    for first, second in zip(one, two, strict=True):
        assert (first == second).all()


def test_coin_cash_of_other_units_breaks(table: RiskTable) -> None:
    with pytest.raises(InvariantBroken, match="other risk units"):
        pool_requirements(table, _only([], [], [0, 0]))


INDEX_E8 = column([10**8, 60_000 * 10**8 + 1, 12_345])
HAIRCUT_PPB = column([0, 50_000_000, 250_000_000])


def requirement_digest() -> str:
    """Digest of requirements, with and without orders, and of equity."""
    venue = random_venue(PS_1, 17)
    table = risk_table(PS_1, venue.instruments, venue.matrix)
    positions = random_positions(venue, 20, 17)
    digest = hashlib.sha256()
    for part in pool_requirements(table, positions):
        digest.update(part.tobytes())
    for p in range(5):
        orders = _random_orders(venue, p)
        columns = OpenOrders(*(column([order[c] for order in orders]) for c in range(5)))
        pair = requirement_with_orders(table, *_pool(positions, p), columns)
        digest.update(repr(pair).encode())
    cash = positions.coin_minor
    digest.update(equity(cash, cash, INDEX_E8, HAIRCUT_PPB).tobytes())
    return digest.hexdigest()


def test_compiled_and_interpreted_requirements_are_the_same() -> None:
    code = "from tests.margin.test_requirement import requirement_digest as d; print(d())"
    interpreted = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert interpreted.stdout.strip() == requirement_digest(), interpreted.stderr
