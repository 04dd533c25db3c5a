"""The worked examples of the models by formula in margin/README.md, computed."""

from __future__ import annotations

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
from tests.margin.readme_page import Examples, Page, compute
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


def standard(page: Page) -> None:
    page.given("100,000", "101,000", "4,000", "120,000", "1,000", "20,000", "3,000")
    page.given("100,500", "0.25")
    sure = trusted_feeds(INSTRUMENTS, MARKS)
    doubtful = Feeds(sure.stable_e9, column([250_000_000]), sure.confidence_ppb)

    def margins(lots: dict[int, int], feeds: Feeds = sure) -> list[str]:
        table = standard_table(
            load_standard(), INSTRUMENTS, MARKS, feeds, column([50_000_000]), column([2])
        )
        return stated(pool_margins(table, as_positions(INSTRUMENTS, [lots])))

    spread = {1: -1, 2: 1}
    page.says(
        *margins({1: -1}),
        *margins(spread),
        *margins({1: 1, 2: -1}),
        *margins({**spread, 0: -1}),
        margins(spread, doubtful)[0],
    )


def vega_levels(page: Page) -> None:
    page.given("15,900", "0.1", "0.25")
    factors = vega.RiskFactors(long_ppb=E9 // 10, short_ppb=E9 // 10, linear_slippage_ppb=E9 // 4)
    found = vega.margin_levels(
        vega.Exposure(position_lots=-10, sell_lots=8), 15_900 * 100, E8, factors,
        vega.LevelScaling(),
    )  # fmt: skip
    page.says(f"maintenance {found.maintenance_minor:,}", f"search {found.search_minor:,}")
    page.says(f"initial {found.initial_minor:,}", f"release {found.release_minor:,}")


def lognormal(page: Page) -> None:
    page.given("0.1", "0.80", "100,500")
    risk = tail_risk(0.0, 0.1, 0.05)
    model = RiskModel(tail_ppb=E9 // 100, horizon_ns=NS_PER_YEAR // 365)
    long, short = risk_factors_ppb(model, [800_000_000])[0].tolist()
    charges = lot_charges(PERPETUAL, PERPETUAL_MARKS, column([2]), model, column([800_000_000]))
    margins = linear_margins(charges, as_positions(PERPETUAL, [{0: 1}, {0: -1}]))
    page.says(f"VaR {risk.value_at_risk:.4f}", f"ES {risk.expected_shortfall:.4f}")
    page.says(f"{long / 1e7:.3f} % long", f"{short / 1e7:.3f} % short")
    page.says(*(usdc(amount) for amount in margins.maintenance_minor))


def paradex(page: Page) -> None:
    page.given("0.0005", "77,888.84", "0.5")
    model = paradex_cross.CrossMargin(imf_base_ppb=20_000_000, mmf_factor_ppb=500_000_000)
    needs = paradex_cross.cross_margin_minor(-5, 7_788_884_000_000, 10_000, model)
    page.says(*(f"{amount / USDC:.6f}" for amount in needs))


def crowded(page: Page) -> None:
    page.given("100,500", "900,000", "1,500,000", "2,100,000")
    tier = open_interest.LiquidityTier(
        base_ppm=200_000, lower_cap_minor=1_000_000 * USDC, upper_cap_minor=2_000_000 * USDC
    )
    margins = []
    for interest in (900_000, 1_500_000, 2_100_000):
        charges = open_interest.lot_charges(
            PERPETUAL, PERPETUAL_MARKS, column([2]), [tier], np.array([interest * USDC])
        )
        margins.append(stated(linear_margins(charges, as_positions(PERPETUAL, [{0: 1}]))))
    assert len({maintenance for _, maintenance in margins}) == 1
    page.says(*(initial for initial, _ in margins), margins[0][1])


EXAMPLES: Examples = {
    "Standard margin": standard,
    "Vega margin levels": vega_levels,
    "Lognormal risk": lognormal,
    "Cross margin of perpetuals": paradex,
    "Margin by open interest": crowded,
}


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_example_is_what_the_code_computes(section: str) -> None:
    compute(section, EXAMPLES[section])
