"""The worked examples of stresses, reverse stress and add-ons in margin/README.md, computed."""

from __future__ import annotations

import numpy as np
import pytest

from margin.add_ons.charges import (
    AddOns,
    Funding,
    Gamma,
    Liquidity,
    MarketConditions,
    add_on_table,
    add_ons,
)
from margin.add_ons.concentration import LINEAR_SHARE, SQUARE_ROOT, impact_minor, owner_charges
from margin.add_ons.gamma import (
    deviation_e9,
    price_gap,
)
from margin.fixed_point import NS_PER_DAY
from margin.portfolio import LINEAR, LINEAR_CALL, NEVER_NS, Instruments, Marks, Positions
from margin.presets import load_preset
from margin.scenarios.grid import scenarios_of
from margin.stresses import load_stress, stress_names
from margin.stresses.reverse_stress import along_unit, breaking_moves
from margin.stresses.stress import stress_losses
from tests.margin.readme_page import Examples, Page, compute
from tests.reference.reference_add_ons import column
from tests.reference.stress_book import (
    BTC,
    INSTRUMENTS,
    INVERSE_BTC,
    MARKS,
    PUT_90,
    book,
    maintenance_at,
)

USDC = 10**6
E9 = 10**9
FALL_OF_BTC = along_unit(0, 2)
SECTIONS = AddOns(  # the constants of PS-1
    liquidity=Liquidity(
        form="square-root", coefficient_e9=E9, free_share_e9=50_000_000, depth_days_e9=E9
    ),
    gamma=Gamma(quantile_e9=4 * E9, least_gap_e9=80_000_000, near_days=7, half_spread_e9=500_000),
    funding=Funding(horizon_hours=8),
)
VOLATILITY, VOLUME, MILLION = 600_000_000, 1_000_000_000 * USDC, 1_000_000 * USDC


def usdc(amount_minor: int) -> str:
    """Up to the next cent, as a charge is read."""
    return f"{-(-int(amount_minor) // 10_000) / 100:,.2f}"


def stresses(page: Page) -> None:
    page.given("100,000", "90,000", "0.50")
    shipped = [load_stress(name) for name in stress_names()]

    def lost(lots: dict[int, int]) -> list[str]:
        held = book((lots, 0, 0)).positions
        losses = stress_losses(INSTRUMENTS, MARKS, held, shipped, ("BTC", "ETH"))
        return [usdc(loss) for loss in losses[0]]

    for lots in ({BTC: 1000}, {PUT_90: -1000}):
        first, second, third, fourth = lost(lots)
        page.says(f"{first}, {second}, {third} and {fourth}")
    page.says(lost({INVERSE_BTC: 10_000})[0])


def reverse_stress(page: Page) -> None:
    page.given("100,000", "30,000", "14,300", "15,000")
    pools = book(({BTC: 1000}, 30_000, 0), ({PUT_90: -1000}, 15_000, 0))

    def falls(*found: object) -> list[str]:
        told = [str(one.describe()).split(";")[0] for one in found]  # type: ignore[attr-defined]
        return [words.removeprefix("fall: ") for words in told]

    page.says(falls(*breaking_moves(pools, FALL_OF_BTC))[0])
    page.says(*falls(*breaking_moves(pools, FALL_OF_BTC, maintenance_at)))
    wild = breaking_moves(pools, along_unit(0, 2, fall_e9=4 * E9), maintenance_at)
    page.says(falls(*wild)[1])


def concentration(page: Page) -> None:
    page.given("1,000", "0.5")
    slope = deviation_e9(VOLATILITY, NS_PER_DAY)
    page.says(f"sigma = {slope / 1e7:.7f} %")
    free = VOLUME // 20
    paid = [
        usdc(impact_minor(SQUARE_ROOT, size * MILLION, VOLUME, free, slope))
        for size in (50, 60, 200)
    ]
    page.says(*paid, f"{float(paid[2].replace(',', '')) / 2_000_000:.1f} %")
    pools = column([150, 50]).reshape(2, 1) * MILLION
    shares = owner_charges(
        SQUARE_ROOT, pools, column([0, 0]), column([VOLUME]), column([free]), column([slope])
    )
    page.says(*(usdc(share) for share in shares))
    linear = impact_minor(LINEAR_SHARE, 200 * MILLION, VOLUME, 0, 80_000_000)
    page.says(usdc(linear))


# A call and a perpetual, 0.001 BTC a lot, at 100,000.
PAIR = Instruments(
    kind=column([LINEAR_CALL, LINEAR]),
    unit=column([0, 0]),
    expiry_ns=column([5 * NS_PER_DAY, NEVER_NS]),
    strike_e8=column([100_000 * 10**8, 0]),
    lot_e8=column([10**5, 10**5]),
    strike_group=column([0, -1]),
)
PRICE = 100_000 * 10**8
TABLE = add_on_table(
    SECTIONS,
    PAIR,
    Marks(0, column([PRICE]), column([0, PRICE]), column([PRICE] * 2), column([VOLATILITY, 0]),
          column([0, 0])),
    MarketConditions(column([VOLATILITY]), column([VOLUME]), column([160_000_000]), 5 * E9,
                     column([0, 100_000])),
    [scenarios_of(load_preset("ps-1"), "BTC")],
    column([2]),
)  # fmt: skip


def charged(slot: int, lots: int, worst: int = -1) -> tuple[str, str, str]:
    """Liquidity, gamma and funding of one position."""
    held = Positions(column([0, 1]), column([slot]), column([lots]), np.zeros((1, 1), np.int64))
    found = add_ons(TABLE, held, column([0]), column([worst]).reshape(1, 1))
    return (
        usdc(found.liquidity_minor[0]), usdc(found.gamma_minor[0]), usdc(found.funding_minor[0]),
    )  # fmt: skip


def gamma(page: Page) -> None:
    page.given("100,000", "0.05")
    moves = scenarios_of(load_preset("ps-1"), "BTC").spot_move_e9.tolist()
    gap, mean = price_gap(VOLATILITY, 5 * E9, 4 * E9, 80_000_000)
    page.says(f"h = {gap / 1e7:g} %", f"E|m| = {mean / 1e7:.7f} %")
    page.says(f"h = {price_gap(VOLATILITY, NS_PER_DAY, 4 * E9, 80_000_000)[0] / 1e7:.7f} %")
    _, _, _, gap_loss, hedge, _, _, _ = (1000 * TABLE.terms[0]).tolist()
    page.says(f"GM {usdc(gap_loss // 4)}", f"T = {usdc(hedge // 4)}")
    wide = moves.index(-160_000_000)
    page.says(usdc(1000 * int(TABLE.convexity[0, wide]) // 4))
    unmoved, moved = charged(0, -1000, moves.index(0)), charged(0, -1000, wide)
    assert (unmoved[0], unmoved[2], moved[0], moved[2]) == ("0.00",) * 4
    page.says(unmoved[1], moved[1])
    assert charged(0, 1000) == ("0.00", "0.00", "0.00")


def funding(page: Page) -> None:
    page.given("0.01", "100,000")
    long, short = charged(1, 1000), charged(1, -1000)
    assert long[:2] == short[:2] == ("0.00", "0.00")
    page.says(long[2], short[2])


EXAMPLES: Examples = {
    "Liquidity and concentration": concentration,
    "Gamma margin": gamma,
    "Funding provision": funding,
    "Stresses": stresses,
    "Reverse stress": reverse_stress,
}


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_example_is_what_the_code_computes(section: str) -> None:
    compute(section, EXAMPLES[section])
