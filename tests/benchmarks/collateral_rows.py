"""Row of the margin benchmark for collateral whose haircuts grow with an owner's size."""

from __future__ import annotations

from typing import Any

import numpy as np

from margin.fixed_point import COIN_SCALE, PRICE_SCALE, RATE_SCALE, USDC_SCALE
from margin.invariant import Int64Array, check
from margin.pools import collateral
from margin.pools.collateral import Haircuts, pool_equity
from tests.benchmarks.conditions import in_turn, machine
from tests.benchmarks.margin_book import UNITS

POOLS_OF_OWNER = 4
MOST_VALUE_USDC = 300_000
# Of every coin: a tenth up to 250,000 USDC, a fifth up to 1,000,000, two fifths up to 3,000,000.
BASE_PPB = 100_000_000
TIERS = ((250_000, 200_000_000), (1_000_000, 400_000_000), (3_000_000, RATE_SCALE))


def _sizes() -> Haircuts:
    coins = len(UNITS)
    above = [usdc * USDC_SCALE for usdc, _ in TIERS] * coins
    rates = [rate for _, rate in TIERS] * coins
    base = [0] + [BASE_PPB] * coins
    first = [0, *range(0, len(TIERS) * coins + 1, len(TIERS))]
    columns = (np.array(column, np.int64) for column in (base, first, above, rates))
    return Haircuts(*columns)


def _balances(pools: int, index_e8: Int64Array) -> Int64Array:
    """USDC and coins of every pool: of each up to 300,000 USDC, mostly little."""
    random = np.random.default_rng(10)
    usdc = (random.random((pools, len(index_e8))) ** 8 * MOST_VALUE_USDC).astype(np.int64)
    found: Int64Array = usdc * COIN_SCALE // (index_e8 // PRICE_SCALE)
    found[:, 0] = usdc[:, 0] * USDC_SCALE
    return found


def rows(pools: int, rounds: int) -> list[dict[str, Any]]:
    """Equity of every pool with tiers over all its owner's pools, against one rate a coin."""
    sizes = _sizes()
    index_e8 = np.array([PRICE_SCALE, *(index for _, index, _ in UNITS)], np.int64)
    cash_minor = _balances(pools, index_e8)
    options_minor = np.zeros_like(cash_minor)
    owner_of = np.arange(pools, dtype=np.int64) // POOLS_OF_OWNER
    collateral.warm_up()
    ours, theirs = in_turn(
        rounds,
        lambda: pool_equity(cash_minor, options_minor, index_e8, sizes, owner_of),
        lambda: pool_equity(cash_minor, options_minor, index_e8, sizes.base_ppb),
    )
    cut: Int64Array = theirs.result - ours.result
    check((cut > -len(UNITS)).all(), "benchmark: size adds credit")
    large = (cut > len(UNITS)).mean()
    check(0.05 < large < 0.95, f"benchmark: {large:.0%} of the pools are of large owners")
    return [{
        "name": "equity by size",
        "ours": ours.best * 1e3,
        "baseline": theirs.best * 1e3,
        "unit": "ms",
        "ratio": ours.best / theirs.best,
        "baseline_name": "one haircut a coin",
        "conditions": f"{pools:,} pools of {pools // POOLS_OF_OWNER:,} owners, USDC and "
        f"{len(UNITS)} coins, three tiers each, reached by the owners of {large:.0%} of the pools; "
        f"best (median) {ours.milliseconds()} against {theirs.milliseconds()}; {machine()}",
    }]  # fmt: skip
