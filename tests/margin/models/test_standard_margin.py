"""The standard model: worked figures, its twin, and the laws a requirement keeps."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from margin.invariant import InvariantBroken
from margin.models.standard import (
    Feeds,
    StandardTable,
    loss_multiple,
    pool_margins,
    standard_table,
    trusted_feeds,
)
from margin.models.standard_constants import CoinCollateral, Standard, load_standard
from margin.portfolio import (
    INVERSE_CALL,
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    Instruments,
    Marks,
    Positions,
)
from tests.reference.random_model_portfolios import (
    EXPONENTS,
    HAIRCUTS_PPB,
    as_positions,
    pool_of,
    random_listing,
    random_pools,
)
from tests.reference.random_portfolios import column
from tests.reference.reference_models import StandardTwin

ROOT = Path(__file__).parents[3]
USDC = 10**6
SHIPPED = load_standard()
SCALED = msgspec.structs.replace(SHIPPED, coin=CoinCollateral(initial_scale_ppb=900_000_000))

# BTC at 100,000; one lot of everything is one coin.
PERPETUAL, CALL_100, CALL_120, PUT_100, PUT_80 = range(5)
PREMIUMS = (0, 4_000, 1_000, 4_500, 800)
INSTRUMENTS = Instruments(
    kind=column([LINEAR, LINEAR_CALL, LINEAR_CALL, LINEAR_PUT, LINEAR_PUT]),
    unit=column([0] * 5),
    expiry_ns=column([NEVER_NS, 10, 10, 10, 10]),
    strike_e8=column([0] + [k * 10**11 for k in (100, 120, 100, 80)]),
    lot_e8=column([10**8] * 5),
    strike_group=column([-1, 0, 1, 0, 2]),
)
INDEX = column([100_000 * 10**8])
MARKS = Marks(
    now_ns=0,
    index_e8=INDEX,
    mark_e8=column([100_500 * 10**8] + [premium * 10**8 for premium in PREMIUMS[1:]]),
    forward_e8=column([101_000 * 10**8] * 5),
    volatility_e9=column([0] * 5),
    rate_e9=column([0] * 5),
)
TRUSTED = trusted_feeds(INSTRUMENTS, MARKS)


def worked(
    lots: dict[int, int],
    feeds: Feeds = TRUSTED,
    coin: int = 0,
    instruments: Instruments = INSTRUMENTS,
    marks: Marks = MARKS,
) -> tuple[float, float]:
    """(initial, maintenance) in USDC of a pool in BTC at 100,000."""
    table = standard_table(SHIPPED, instruments, marks, feeds, column([50_000_000]), column([2]))
    positions = as_positions(instruments, [lots])
    positions.coin_minor[0, 0] = coin
    positions.validate(instruments)
    margins = pool_margins(table, positions)
    return int(margins.initial_minor[0]) / USDC, int(margins.maintenance_minor[0]) / USDC


def test_a_perpetual_needs_a_part_of_its_value_at_the_mark() -> None:
    assert worked({PERPETUAL: -2}) == (20_100, 13_065)


def test_a_long_option_needs_what_it_is_worth() -> None:
    assert worked({CALL_100: 1}) == (4_000, 4_000)


def test_a_short_call_needs_less_the_farther_it_is_out_of_the_money_down_to_a_floor() -> None:
    assert worked({CALL_100: -1}) == (15_000, 9_000)
    assert worked({CALL_120: -1}) == (13_000, 9_000)


def test_a_short_put_needs_a_part_of_the_index() -> None:
    assert worked({PUT_100: -1}) == (15_000, 9_000)


def test_a_short_put_deep_in_the_money_needs_a_part_of_its_mark() -> None:
    """Strike 250,000, worth 150,000: 9 % of that; initially 5 % of everything on top."""
    strike_e8 = INSTRUMENTS.strike_e8.copy()
    strike_e8[PUT_100] = 250_000 * 10**8
    mark_e8 = MARKS.mark_e8.copy()
    mark_e8[PUT_100] = 150_000 * 10**8
    instruments = msgspec.structs.replace(
        INSTRUMENTS, strike_e8=strike_e8, strike_group=column([-1, 0, 1, 3, 2])
    )
    marks = msgspec.structs.replace(MARKS, mark_e8=mark_e8)
    initial, maintenance = worked({PUT_100: -1}, instruments=instruments, marks=marks)
    assert maintenance == 13_500
    assert initial == pytest.approx(1.05 * 163_500 - 150_000)


def test_a_spread_needs_its_largest_loss_from_the_mark() -> None:
    """Short the 100 call and long the 120: worth -3,000, loses at most 20,000 less that."""
    assert worked({CALL_100: -1, CALL_120: 1})[0] == min(1_000 + 15_000, -3_000 + 20_000)
    long_spread = worked({CALL_100: 1, CALL_120: -1})
    assert long_spread == (3_000, 3_000)  # what was paid: the largest loss is 0


def test_marks_that_allow_arbitrage_never_make_a_requirement_negative() -> None:
    """A spread that can only gain and is worth -2,000: less than nothing is needed, so nothing."""
    mark_e8 = MARKS.mark_e8.copy()
    mark_e8[CALL_120] = 6_000 * 10**8
    marks = msgspec.structs.replace(MARKS, mark_e8=mark_e8)
    assert worked({CALL_100: 1, CALL_120: -1}, marks=marks) == (0, 0)


def test_unpaired_short_calls_are_charged_on_the_forward() -> None:
    """One call covers one of two: alone 2 x 9,000 + 1,000, at the end far more."""
    covered = worked({CALL_100: -1, CALL_120: 1, PUT_80: 1})
    assert covered[1] == min(1_000 + 800 + 9_000, -3_000 + 800 + 20_000)
    bare = worked({CALL_100: -2, PUT_80: 40})  # long puts do not cover calls
    alone, at_end = 2 * 9_000 + 40 * 800, -8_000 + 40 * 800 + 40_000 + 1.1 * 2 * 101_000
    assert bare[1] == min(alone, at_end)


def test_doubt_and_depeg_raise_initial_margin_only() -> None:
    doubtful = msgspec.structs.replace(TRUSTED, index_confidence_ppb=column([250_000_000]))
    plain, charged = worked({CALL_100: -1, PERPETUAL: 1}), 0.75 * 0.4 * 100_000
    initial, maintenance = worked({CALL_100: -1, PERPETUAL: 1}, doubtful)
    assert maintenance == plain[1]
    assert initial == plain[0] + 2 * charged
    depegged = msgspec.structs.replace(TRUSTED, stable_e9=930_000_000)
    initial, maintenance = worked({CALL_100: -1, CALL_120: 1, PERPETUAL: 1}, depegged)
    calm = worked({CALL_100: -1, CALL_120: 1, PERPETUAL: 1})
    assert initial - calm[0] == pytest.approx(2 * 0.05 * 1.2 * 100_000)  # the long call is not
    assert maintenance == calm[1]


def test_the_least_confidence_of_an_expiry_counts_for_all_of_it() -> None:
    sure = TRUSTED.confidence_ppb.copy()
    sure[PUT_80] = 100_000_000
    feeds = msgspec.structs.replace(TRUSTED, confidence_ppb=sure)
    extra = 0.9 * 0.4 * 100_000
    assert worked({CALL_100: -1}, feeds)[0] == pytest.approx(15_000 + extra)
    assert worked({PERPETUAL: 1}, feeds) == worked({PERPETUAL: 1})


def test_coin_in_doubt_is_charged_initially() -> None:
    doubtful = msgspec.structs.replace(TRUSTED, index_confidence_ppb=column([250_000_000]))
    assert worked({}, doubtful, coin=10**8) == (30_000, 0)
    assert worked({}, doubtful, coin=-(10**8)) == (0, 0)


Listing = tuple[Instruments, Marks, Feeds]


def table_of(listing: Listing, standard: Standard = SCALED) -> StandardTable:
    return standard_table(standard, *listing, column(list(HAIRCUTS_PPB)), column(list(EXPONENTS)))


def agree(seed: int, pools: int) -> None:
    listing = random_listing(seed)
    positions = random_pools(listing[0], pools, seed + 1)
    got = pool_margins(table_of(listing), positions)
    settings = (SCALED, *listing, list(HAIRCUTS_PPB), list(EXPONENTS))
    twin, exact = StandardTwin(*settings), StandardTwin(*settings, exact=True)
    for p in range(pools):
        lots, coin = pool_of(positions, p)
        initial, maintenance = int(got.initial_minor[p]), int(got.maintenance_minor[p])
        assert (initial, maintenance) == twin.margins(lots, coin), f"pool {p} of seed {seed}"
        for rounded, unrounded in zip(
            (initial, maintenance), exact.margins(lots, coin) if p < 50 else (), strict=False
        ):
            assert abs(rounded - unrounded) <= 10**5 + unrounded // 10**7


@pytest.mark.parametrize("seed", [1, 2])
def test_the_kernel_is_the_formula_to_the_minor_unit(seed: int) -> None:
    agree(seed, 500)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 118))
def test_the_kernel_is_the_formula_to_the_minor_unit_for_long(seed: int) -> None:
    agree(seed, 500)


@pytest.fixture(scope="module")
def listing() -> Listing:
    return random_listing(7)


def test_requirements_are_never_negative_and_initial_is_never_less(listing: Listing) -> None:
    margins = pool_margins(table_of(listing), random_pools(listing[0], 2_000, 8))
    assert (margins.maintenance_minor >= 0).all()
    assert (margins.initial_minor >= margins.maintenance_minor).all()


def test_shrinking_a_pool_of_one_instrument_never_raises_its_margin(listing: Listing) -> None:
    count = len(listing[0])
    for side in (1, -1):
        pools = [{i: side * q} for i in range(count) for q in (1, 2, 3, 50, 999)]
        margins = np.stack(pool_margins(table_of(listing), as_positions(listing[0], pools)))
        assert (np.diff(margins.reshape(2, count, 5)) >= 0).all()


def test_what_is_bought_and_sold_again_leaves_nothing(listing: Listing) -> None:
    positions = random_pools(listing[0], 300, 9, most_rows=6)
    plain, passed_through = [], []
    for p in range(300):
        lots, _ = pool_of(positions, p)
        plain.append(lots)
        passed_through.append({**dict.fromkeys(range(p % 60, p % 60 + 8), 0), **lots})
    table = table_of(listing)
    once = pool_margins(table, as_positions(listing[0], plain))
    again = pool_margins(table, as_positions(listing[0], passed_through))
    np.testing.assert_array_equal(once, again)


def test_buying_an_option_at_its_mark_never_costs_more_than_the_premium(listing: Listing) -> None:
    instruments, marks, _ = listing
    options = np.flatnonzero(instruments.is_option()).tolist()
    positions, random = random_pools(instruments, 300, 10), np.random.default_rng(10)
    before, after, worth = [], [], []
    for p in range(300):
        lots, _ = pool_of(positions, p)
        held = [i for i in lots if i in options]
        bought = int(random.choice(held if held and p % 2 else options))
        size = int(random.integers(1, 500))
        before.append(lots)
        after.append({**lots, bought: lots.get(bought, 0) + size})
        value = size * int(instruments.lot_e8[bought]) * int(marks.mark_e8[bought])
        worth.append(-(-value // 10**10) + size + 3)  # a quantum a lot at most, a unit a level
    table = table_of(listing)
    old = np.stack(pool_margins(table, as_positions(instruments, before)))
    new = np.stack(pool_margins(table, as_positions(instruments, after)))
    assert (new <= old + np.array(worth)).all()


@pytest.mark.parametrize("column_name", ["index_confidence_ppb", "confidence_ppb"])
def test_less_confidence_never_lowers_initial_margin(listing: Listing, column_name: str) -> None:
    instruments, marks, feeds = listing
    positions = random_pools(instruments, 500, 11)
    lower = {column_name: getattr(feeds, column_name) // 2, "stable_e9": feeds.stable_e9 - 10**7}
    worse = msgspec.structs.replace(feeds, **lower)
    before = pool_margins(table_of(listing), positions)
    after = pool_margins(table_of((instruments, marks, worse)), positions)
    assert (after.initial_minor >= before.initial_minor).all()
    np.testing.assert_array_equal(after.maintenance_minor, before.maintenance_minor)


def test_an_empty_venue_needs_nothing() -> None:
    none = column([])
    instruments = Instruments(none, none, none, none, none, none)
    marks = Marks(0, INDEX, none, none, none, none)
    feeds = trusted_feeds(instruments, marks)
    table = standard_table(SHIPPED, instruments, marks, feeds, column([0]), column([2]))
    cash_only = Positions(column([0, 0]), none, none, column([10**8]).reshape(1, 1))
    assert [int(level[0]) for level in pool_margins(table, cash_only)] == [0, 0]


def test_feeds_of_another_listing_are_refused(listing: Listing) -> None:
    instruments, marks, feeds = listing
    short = msgspec.structs.replace(feeds, confidence_ppb=feeds.confidence_ppb[1:])
    with pytest.raises(InvariantBroken, match="one confidence an instrument"):
        table_of((instruments, marks, short))


def test_options_settled_in_coin_are_refused(listing: Listing) -> None:
    instruments, marks, feeds = listing
    kind = instruments.kind.copy()
    kind[kind == LINEAR_CALL] = INVERSE_CALL
    coin_settled = msgspec.structs.replace(instruments, kind=kind)
    with pytest.raises(InvariantBroken, match="settled in coin"):
        table_of((coin_settled, marks, feeds))


def test_the_loss_multiple_bounds_every_position(listing: Listing) -> None:
    """Size x strike, x index and x forward at most one notional: margin is within the multiple."""
    instruments, marks, _ = listing
    count = len(instruments)
    margins = pool_margins(
        table_of(listing), as_positions(instruments, [{i: -100} for i in range(count)])
    )
    index = marks.index_e8[instruments.unit]
    price = np.maximum(np.maximum(index, instruments.strike_e8), marks.forward_e8)
    dollars = np.where(instruments.kind == 1, 10**8, price)
    notional = [100 * int(lot) * int(p) // 10**10
                for lot, p in zip(instruments.lot_e8, dollars, strict=True)]  # fmt: skip
    assert loss_multiple(SHIPPED) == 6
    assert (margins.initial_minor <= loss_multiple(SHIPPED) * np.array(notional) + 10**6).all()


def digest() -> str:
    """Margins of pools of three seeds, hashed."""
    total = hashlib.sha256()
    for seed in (21, 22, 23):
        found = random_listing(seed)
        margins = pool_margins(table_of(found), random_pools(found[0], 60, seed))
        total.update(np.stack(margins).tobytes())
    return total.hexdigest()


def test_compiled_and_interpreted_kernels_give_the_same_bits() -> None:
    program = "from tests.margin.models.test_standard_margin import digest; print(digest())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert result.stdout.strip() == digest()
