"""Haircuts that grow with size: slices, limits, and an owner's pools taken together."""

from __future__ import annotations

from importlib import resources

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from margin.invariant import Int64Array
from margin.pools.collateral import Haircuts, haircuts_of, pool_equity
from margin.pools.equity import equity
from margin.presets import PresetError, load_preset, parse_preset
from margin.presets.collateral_sections import CollateralSize
from tests.reference import reference_collateral
from tests.reference.random_portfolios import column

USDC, BTC, E9 = 10**6, 10**8, 10**9
INDEX_E8 = column([10**8, 60_000 * 10**8])
Tiers = list[tuple[int, int]]


def haircuts(base_ppb: list[int], tiers: list[Tiers]) -> Haircuts:
    """`tiers[c]` of currency c: above (minor units) and haircut."""
    first = np.cumsum([0, *(len(rows) for rows in tiers)])
    flat = [row for rows in tiers for row in rows]
    return Haircuts(column(base_ppb), column(first.tolist()), column([a for a, _ in flat]),
                    column([rate for _, rate in flat]))  # fmt: skip


def steps(*rows: tuple[int, float]) -> Tiers:
    """Tiers above so many USDC."""
    return [(above * USDC, round(rate * E9)) for above, rate in rows]


BTC_TIERS = steps((120_000, 0.10), (240_000, 0.20), (360_000, 1))
SIZED = haircuts([0, 50_000_000], [[], BTC_TIERS])


def counted(coins: list[float], owner: list[int] | None = None, sized: Haircuts = SIZED,
            usdc: list[float] | None = None) -> list[int]:  # fmt: skip
    """Equity of pools with so many BTC at 60,000 (and USDC)."""
    cash = np.zeros((len(coins), 2), np.int64)
    cash[:, 1] = [round(amount * BTC) for amount in coins]
    if usdc is not None:
        cash[:, 0] = [round(amount * USDC) for amount in usdc]
    of = None if owner is None else column(owner)
    return pool_equity(cash, cash * 0, INDEX_E8, sized, of).tolist()


@pytest.mark.parametrize(
    ("coins", "usdc"),
    [
        (1, 57_000),  # 60,000 less 5 %
        (2, 114_000),  # up to the first tier
        (3, 114_000 + 54_000),  # the third coin's slice at 10 %
        (5, 114_000 + 108_000 + 48_000),
        (6, 114_000 + 108_000 + 96_000),
        (7, 318_000),  # beyond the limit nothing
        (1_000, 318_000),
        (-1, -60_000),  # what is owed is owed whole
    ],
)
def test_every_slice_has_the_haircut_of_its_tier(coins: float, usdc: int) -> None:
    assert counted([coins]) == [usdc * USDC]


def test_pools_of_one_owner_share_the_credit_of_what_they_have_together() -> None:
    assert counted([4, 2], [0, 0]) == [212_000 * USDC, 106_000 * USDC]
    assert counted([4, 2], [0, 1]) == [270_000 * USDC - 48_000 * USDC, 114_000 * USDC]


def test_cash_and_options_in_a_coin_are_one_size() -> None:
    cash, options = np.array([[0, 4 * BTC]], np.int64), np.array([[0, -BTC]], np.int64)
    assert pool_equity(cash, options, INDEX_E8, SIZED).tolist() == [168_000 * USDC]


def test_without_sizes_nothing_changes() -> None:
    plain = haircuts([0, 50_000_000], [[], []])
    assert not plain.grow
    assert counted([100], sized=plain) == [5_700_000 * USDC]
    rates = column([0, 50_000_000])
    cash = np.array([[7, 5 * BTC]], np.int64)
    expected = equity(cash, cash * 0, INDEX_E8, rates).tolist()
    assert pool_equity(cash, cash * 0, INDEX_E8, rates).tolist() == expected


def random_case(seed: int) -> tuple[Int64Array, list[int], list[int], list[Tiers], list[int]]:
    """Amounts [P,3], indices, base haircuts, tiers, owners."""
    random = np.random.default_rng(seed)
    pools = int(random.integers(1, 12))
    index = [10**8, int(random.integers(10**9, 10**13)), int(random.integers(10**6, 10**11))]
    amounts = random.integers(-(10**9), 10 ** int(random.integers(8, 13)), (pools, 3))
    base = [0, int(random.integers(0, E9 // 2)), int(random.integers(0, E9 // 2))]
    tiers: list[Tiers] = [[]]
    for c in (1, 2):
        count = int(random.integers(0, 4))
        above = np.sort(random.choice(10**11, count, replace=False) + 1).tolist()
        rates = np.sort(random.integers(base[c], E9 + 1, count)).tolist()
        tiers.append(list(zip(above, rates, strict=True)))
    owner = random.integers(0, 3, pools).tolist()
    return amounts.astype(np.int64), index, base, tiers, owner


@pytest.mark.parametrize("seed", range(60))
def test_equity_equals_the_twin_to_the_minor_unit(seed: int) -> None:
    amounts, index, base, tiers, owner = random_case(seed)
    got = pool_equity(amounts, amounts * 0, column(index), haircuts(base, tiers), column(owner))
    assert got.tolist() == reference_collateral.equities(
        amounts.tolist(), index, base, tiers, owner
    )


coin = st.integers(-(10**9), 4 * 10**9)


def total(amounts: list[int], sized: Haircuts = SIZED) -> int:
    """Credit of one owner whose pools have these amounts (10^-8 BTC)."""
    cash = np.zeros((len(amounts), 2), np.int64)
    cash[:, 1] = amounts
    none = np.zeros(len(amounts), np.int64)
    return int(pool_equity(cash, cash * 0, INDEX_E8, sized, none).sum())


@given(st.lists(coin, min_size=1, max_size=6), st.data())
def test_more_collateral_is_never_less_credit(amounts: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(amounts) - 1))
    more = data.draw(st.one_of(st.integers(0, 50), coin.map(abs)))
    richer = [amount + more * (place == at) for place, amount in enumerate(amounts)]
    assert total(richer) >= total(amounts)


@given(st.lists(coin, min_size=2, max_size=6))
def test_dividing_a_balance_among_pools_is_never_more_credit(amounts: list[int]) -> None:
    assert total(amounts) <= total([sum(amounts)])
    assert total(amounts) <= total([amounts[0] + amounts[1], *amounts[2:]])


@given(st.lists(coin, min_size=1, max_size=4), st.integers(0, 3), st.integers(1, E9))
def test_a_higher_haircut_is_never_more_credit(amounts: list[int], at: int, more: int) -> None:
    rates = [50_000_000, *(rate for _, rate in BTC_TIERS)]
    raised = [min(E9, rate + more) if place >= at else rate for place, rate in enumerate(rates)]
    tiers = [(above, rate) for (above, _), rate in zip(BTC_TIERS, raised[1:], strict=True)]
    assert total(amounts, haircuts([0, raised[0]], [[], tiers])) <= total(amounts)


@given(st.lists(coin, min_size=1, max_size=5), st.integers(1, 10**13), st.integers(1, 10**13))
def test_a_higher_index_is_never_less_credit(amounts: list[int], one: int, other: int) -> None:
    cash = np.zeros((len(amounts), 2), np.int64)
    cash[:, 1] = np.abs(amounts)
    none = np.zeros(len(amounts), np.int64)
    low, high = (
        int(pool_equity(cash, cash * 0, column([10**8, price]), SIZED, none).sum())
        for price in sorted((one, other))
    )
    assert low <= high


def test_more_pools_than_a_sum_has_room_for_are_refused() -> None:
    """Each counts up to 2^52 minor units."""
    assert total([2**52] * 511) == 318_000 * USDC
    with pytest.raises(OverflowError, match="an owner's coins exceed"):
        total([2**52] * 512)


def test_a_pool_far_above_every_limit_neither_wraps_nor_gains() -> None:
    assert total([2**52] * 200) == 318_000 * USDC
    open_ended = haircuts([0, 0], [[], steps((1, 0.5))])
    assert total([2**52] * 200, open_ended) == 100 * 2**52 + USDC // 2, "4.5e9 USDC a pool"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("haircut = 0.10 }", "haircut = 0.06 }", "tiers.haircut: must not fall from tier to tier"),
        ("haircut = 0.075 }", "haircut = 0.04 }", "must not be below the coin's own haircut"),
        ("haircut = 0.35 }", "haircut = 0.2 }", "must not be below the coin's own haircut"),
        ("haircut = 0.075 }", "haircut = 1.01 }", "tiers.haircut: must lie in 0 .. 1"),
        ("above_usdc = 10_000_000", "above_usdc = 25_000_000", "must rise from tier to tier"),
        ("above_usdc = 10_000_000", "above_usdc = 0", "above_usdc: must lie in 1 .. "),
        ("above_usdc = 10_000_000", "above_usdc = 0.5", "above_usdc: must be a whole number"),
        ("limit_usdc = 100_000_000", "limit_usdc = 50_000_000", "must lie above the last tier"),
        ("limit_usdc = 100_000_000", "limit_usdc = 5_000_000_000", "must lie above the last tier"),
        ('currency = "ETH"', 'currency = "BTC"', "currency: a coin has one entry"),
        ('currency = "ETH"', 'currency = "USDC"', "currency: USDC is the unit of account"),
        ("limit_usdc = 100_000_000", "limit = 1", "collateral_size[0].limit: unknown key"),
    ],
)
def test_a_faulty_size_is_refused_and_the_key_named(old: str, new: str, message: str) -> None:
    text = (resources.files("margin.presets") / "ps-1.toml").read_text("utf-8")
    assert old in text
    with pytest.raises(PresetError) as refusal:
        parse_preset(text.replace(old, new, 1), source="x.toml")
    assert message in str(refusal.value)
    assert "collateral_size" in str(refusal.value)


def test_a_size_without_tiers_or_limit_and_a_limit_alone() -> None:
    with pytest.raises(ValueError, match="needs tiers or a limit"):
        CollateralSize(currency="BTC")
    alone = CollateralSize(currency="default", limit_usdc=100)
    preset = msgspec.structs.replace(load_preset("ps-1"), collateral_size=(alone,))
    found = haircuts_of(preset, ("USDC", "BTC", "ETH"))
    assert found.first.tolist() == [0, 0, 1, 2], "every coin, and not USDC"
    assert found.tier_ppb.tolist() == [E9, E9]


def test_ps_1_counts_ordinary_sizes_as_ever() -> None:
    names = ("USDC", "BTC", "ETH", "SOL")
    found = haircuts_of(load_preset("ps-1"), names)
    assert found.grow
    assert found.base_ppb.tolist() == [0, 50_000_000, 70_000_000, 150_000_000]
    cash = np.array([[0, 99 * BTC, 1_200 * BTC, 4_900 * BTC]], np.int64)
    index = column([10**8, 100_000 * 10**8, 4_000 * 10**8, 200 * 10**8])
    assert (
        pool_equity(cash, cash * 0, index, found).tolist()
        == equity(cash, cash * 0, index, found.base_ppb).tolist()
    )
    assert not haircuts_of(load_preset("span-16"), names).grow
