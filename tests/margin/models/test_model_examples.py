"""The worked examples of the formula models, as they are stated in the documentation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from margin.fixed_point import NS_PER_YEAR
from margin.models import open_interest, paradex_cross, vega
from margin.models.linear import ModelMargins
from margin.models.linear import pool_margins as linear_margins
from margin.models.lognormal import RiskModel, lot_charges, risk_factors_ppb, tail_risk
from margin.models.standard import Feeds, pool_margins, standard_table, trusted_feeds
from margin.models.standard_constants import load_standard
from margin.portfolio import LINEAR, LINEAR_CALL, NEVER_NS, Instruments, Marks
from tests.reference.random_model_portfolios import as_positions
from tests.reference.random_portfolios import column

USDC, E8, E9 = 10**6, 10**8, 10**9

# A perpetual, the 100,000 call and the 120,000 call, one coin a lot; the index is 100,000.
INSTRUMENTS = Instruments(
    kind=column([LINEAR, LINEAR_CALL, LINEAR_CALL]),
    unit=column([0, 0, 0]),
    expiry_ns=column([NEVER_NS, 1, 1]),
    strike_e8=column([0, 100_000 * E8, 120_000 * E8]),
    lot_e8=column([E8] * 3),
    strike_group=column([-1, 0, 1]),
)
MARKS = Marks(
    now_ns=0,
    index_e8=column([100_000 * E8]),
    mark_e8=column([100_500 * E8, 4_000 * E8, 1_000 * E8]),
    forward_e8=column([101_000 * E8] * 3),
    volatility_e9=column([0] * 3),
    rate_e9=column([0] * 3),
)
PERPETUAL = Instruments(*(getattr(INSTRUMENTS, key)[:1] for key in INSTRUMENTS.__struct_fields__))
PERPETUAL_MARKS = Marks(0, *(getattr(MARKS, key)[:1] for key in MARKS.__struct_fields__[1:6]))


def usdc(amount_minor: int) -> str:
    return f"{int(amount_minor) / USDC:,.2f}"


def stated(margins: ModelMargins) -> list[str]:
    return [usdc(margins.initial_minor[0]), usdc(margins.maintenance_minor[0])]


def standard() -> list[str]:
    sure = trusted_feeds(INSTRUMENTS, MARKS)
    doubtful = Feeds(sure.stable_e9, column([250_000_000]), sure.confidence_ppb)

    def margins(lots: dict[int, int], feeds: Feeds = sure) -> list[str]:
        table = standard_table(
            load_standard(), INSTRUMENTS, MARKS, feeds, column([50_000_000]), column([2])
        )
        return stated(pool_margins(table, as_positions(INSTRUMENTS, [lots])))

    spread = {1: -1, 2: 1}
    return [
        *margins({1: -1}),
        *margins(spread),
        *margins({1: 1, 2: -1}),
        *margins({**spread, 0: -1}),
        margins(spread, doubtful)[0],
    ]


def vega_levels() -> list[str]:
    factors = vega.RiskFactors(long_ppb=E9 // 10, short_ppb=E9 // 10, linear_slippage_ppb=E9 // 4)
    found = vega.margin_levels(
        vega.Exposure(position_lots=-10, sell_lots=8), 15_900 * 100, E8, factors,
        vega.LevelScaling(),
    )  # fmt: skip
    return [
        f"{level:,}"
        for level in (found.maintenance_minor, found.search_minor, found.initial_minor,
                      found.release_minor)
    ]  # fmt: skip


def lognormal() -> list[str]:
    risk = tail_risk(0.0, 0.1, 0.05)
    model = RiskModel(tail_ppb=E9 // 100, horizon_ns=NS_PER_YEAR // 365)
    long, short = risk_factors_ppb(model, [800_000_000])[0].tolist()
    charges = lot_charges(PERPETUAL, PERPETUAL_MARKS, column([2]), model, column([800_000_000]))
    margins = linear_margins(charges, as_positions(PERPETUAL, [{0: 1}, {0: -1}]))
    return [
        f"{risk.value_at_risk:.4f}", f"{risk.expected_shortfall:.4f}",
        f"{long / 1e7:.3f} %", f"{short / 1e7:.3f} %",
        *(usdc(amount) for amount in margins.maintenance_minor),
    ]  # fmt: skip


def paradex() -> list[str]:
    model = paradex_cross.CrossMargin(imf_base_ppb=20_000_000, mmf_factor_ppb=500_000_000)
    needs = paradex_cross.cross_margin_minor(-5, 7_788_884_000_000, 10_000, model)
    return [f"{amount / USDC:.6f}" for amount in needs]


def crowded() -> list[str]:
    tier = open_interest.LiquidityTier(
        base_ppm=200_000, lower_cap_minor=1_000_000 * USDC, upper_cap_minor=2_000_000 * USDC
    )
    margins = []
    for interest in (900_000, 1_500_000, 2_100_000):
        charges = open_interest.lot_charges(
            PERPETUAL, PERPETUAL_MARKS, column([2]), [tier], np.array([interest * USDC])
        )
        margins.append(stated(linear_margins(charges, as_positions(PERPETUAL, [{0: 1}]))))
    return [*(initial for initial, _ in margins), margins[0][1], margins[2][1]]


EXAMPLES: dict[str, tuple[Callable[[], list[str]], list[str]]] = {
    "Standard margin": (
        standard,
        [
            "15,000.00",
            "9,000.00",
            "16,000.00",
            "10,000.00",
            "3,000.00",
            "3,000.00",
            "26,050.00",
            "16,532.50",
            "46,000.00",
        ],
    ),
    "Vega margin levels": (vega_levels, ["68,370", "75,207", "82,044", "95,718"]),
    "Lognormal risk": (
        lognormal,
        ["-0.8483", "-0.8142", "10.631 %", "11.718 %", "10,684.07", "11,777.05"],
    ),
    "Cross margin of perpetuals": (paradex, ["0.778889", "0.389445"]),
    "Margin by open interest": (
        crowded,
        ["20,100.00", "60,300.00", "100,500.00", "10,050.00", "10,050.00"],
    ),
}


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_example_is_what_the_code_computes(section: str) -> None:
    computed, said = EXAMPLES[section]
    assert computed() == said
