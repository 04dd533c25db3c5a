from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import msgspec
import numba
import numpy as np
import pytest

from margin.invariant import Int64Array, InvariantBroken
from margin.pools.requirement import (
    OpenOrders,
    RiskTable,
    equity,
    pool_requirements,
    requirement_with_orders,
    risk_table,
)
from margin.pools.risk_table import EXPIRY
from margin.portfolio import INVERSE, LINEAR_PUT, Instruments, Marks, Positions, margin_order
from margin.presets import load_preset
from margin.presets.preset import CollateralCharges, Factors, NamedRate
from margin.scenarios.grid import scenario_matrix, scenarios_of
from tests.reference import reference_margin
from tests.reference.moving_marks import REVERSED
from tests.reference.random_portfolios import (
    DAY_NS,
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
    venue = random_venue(MODELS[model], seed, doubtful)
    worst = _check_pools(model, venue, random_positions(venue, pools, seed))
    assert (worst > 0).mean() > 0.8


def _check_pools(model: str, venue: Venue, positions: Positions) -> Int64Array:
    """Compare every pool with the twin; returns their worst losses."""
    preset = MODELS[model]
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
        assert got == want, (model, p, held, lots)
    return result.worst_minor


@pytest.mark.parametrize(("model", "pools"), [(model, 120) for model in MODELS])
def test_requirements_equal_the_twin_to_the_minor_unit(model: str, pools: int) -> None:
    _check_against_twin(model, 21, pools)


@pytest.mark.parametrize("model", ["ps-1", "reversed", "derive-pmrm2"])
def test_an_expiry_counts_however_many_positions_it_has(model: str) -> None:
    """Pools of 1 to 8 positions of one expiry, three of each: seed 23."""
    random = np.random.default_rng(23)
    venue = random_venue(MODELS[model], 23)
    table = risk_table(MODELS[model], venue.instruments, venue.matrix)
    slots = margin_order(venue.instruments)
    slots = slots[table.terms[slots, EXPIRY] == table.terms[slots[0], EXPIRY]]
    sizes = np.repeat(np.arange(1, 9), 3)
    assert len(slots) >= sizes.max()
    held = [np.sort(random.choice(len(slots), size, replace=False)) for size in sizes]
    rows = slots[np.concatenate(held)]
    lots = random.integers(1, 50, len(rows)) * random.choice([-1, 1], len(rows))
    start = np.concatenate(([0], np.cumsum(sizes)))
    coins = np.zeros((len(sizes), venue.matrix.coin.shape[0]), np.int64)
    assert (_check_pools(model, venue, Positions(start, rows, lots, coins)) > 0).mean() > 0.3


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


@pytest.mark.parametrize("model", ["ps-1 without skews", "grid only", "derive-pmrm1", "paradex"])
def test_splitting_a_pool_never_lowers_the_sum_of_worst_losses(model: str) -> None:
    """Skews aside: minus a magnitude of discounted sums is not concave."""
    preset = MODELS.get(model, msgspec.structs.replace(PS_1, skew=None))
    venue = random_venue(preset, 11)
    table = risk_table(preset, venue.instruments, venue.matrix)
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


def test_a_dampener_forgives_every_pool_once_so_splitting_pays() -> None:
    """100 puts on BTC struck at 60,000 sold from one pool, and 25 from each of four (README)."""
    price = column([100_000 * 10**8])
    instruments = Instruments(
        *(column([x]) for x in (LINEAR_PUT, 0, 30 * DAY_NS, 60_000 * 10**8, 10**8, 0))
    )
    marks = Marks(0, price, price, price, column([5 * 10**8]), column([0]))
    preset = load_preset("deribit")
    matrix = scenario_matrix(
        preset, [scenarios_of(preset, "BTC")], instruments, marks, column([0])
    )  # fmt: skip
    table = risk_table(preset, instruments, matrix)
    dollars = [_worst(table, [0], [-lots], [0]) // 10**6 for lots in (100, 25)]
    assert dollars == [378_679, 11_402]


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
