"""The worked example and the table of margin/README.md on haircuts that grow with size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from margin.fixed_point import COIN_SCALE, PRICE_SCALE
from margin.pools.collateral import haircuts_of, pool_equity
from margin.presets.collateral_sections import CollateralSize
from tests.margin.example_book import INDEX, PS_1
from tests.margin.readme_page import Examples, Page, column, usdc


def counted(*coins: int) -> list[str]:
    """What pools of one owner count for that hold so many BTC."""
    cash = np.zeros((len(coins), 2), np.int64)
    cash[:, 1] = [coin * COIN_SCALE for coin in coins]
    index = column(PRICE_SCALE, INDEX * PRICE_SCALE)
    one_owner = np.zeros(len(coins), np.int64)
    haircuts = haircuts_of(PS_1, ("USDC", "BTC"))
    found = pool_equity(cash, np.zeros_like(cash), index, haircuts, one_owner)
    return [usdc(minor) for minor in found.tolist()]


def sizes(page: Page) -> None:
    page.given("100,000", "9,500,000", "13,875,000", "4,500,000", "2,000", "1,000")
    assert 9_500_000 + 13_875_000 + 4_500_000 == 27_875_000
    assert counted(2_000) == counted(1_000)
    page.says(*counted(300), *counted(200, 100), *counted(2_000), *counted(100))


def percent(part_e9: int) -> str:
    return f"{float(Fraction(part_e9, 10**7)):g} %"


def _row(size: CollateralSize) -> str:
    base = percent(PS_1.haircut_ppb(size.currency))
    tiers = ", ".join(
        f"{percent(tier.haircut_ppb)} above {tier.above_usdc:,}" for tier in size.tiers
    )
    name = "others" if size.currency == "default" else size.currency
    return f"| {name} | {base} | {tiers} | {size.limit_usdc:,} |"


def sizes_table() -> str:
    """Markdown: a row for every coin of PS-1."""
    head = "| coin | haircut | of what lies above, USDC | nothing above, USDC |\n|---|---|---|---|"
    return "\n".join([head, *map(_row, PS_1.collateral_size)])


EXAMPLES: Examples = {"Collateral by size": sizes}
