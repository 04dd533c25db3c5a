"""The worked examples of stresses, reverse stress and add-ons, computed."""

from __future__ import annotations

import numpy as np

from margin.add_ons import (
    AddOns,
    Funding,
    Gamma,
    Liquidity,
    MarketConditions,
    add_on_table,
    add_ons,
)
from margin.concentration import LINEAR_SHARE, SQUARE_ROOT, impact_minor, owner_charges
from margin.gamma import DAY_NS, deviation_e9, price_gap
from margin.portfolio import LINEAR, LINEAR_CALL, NEVER_NS, Instruments, Marks, Positions
from margin.presets import load_preset
from margin.reverse_stress import along_unit, breaking_moves
from margin.scenarios import scenarios_of
from margin.stress import stress_losses
from margin.stresses import load_stress, stress_names
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


def test_a_stress_prices_everything_again() -> None:
    stresses = [load_stress(name) for name in stress_names()]

    def lost(lots: dict[int, int]) -> list[str]:
        held = book((lots, 0, 0)).positions
        losses = stress_losses(INSTRUMENTS, MARKS, held, stresses, ("BTC", "ETH"))
        return [usdc(loss) for loss in losses[0]]

    assert lost({BTC: 1000}) == ["55,780.00", "31,600.00", "24,640.00", "17,130.00"]
    assert lost({PUT_90: -1000}) == ["38,726.90", "20,988.18", "16,377.55", "8,160.79"]
    assert lost({INVERSE_BTC: 10_000})[0] == "63,386.37"


def test_a_reverse_stress_finds_the_nearest_break() -> None:
    pools = book(({BTC: 1000}, 30_000, 0), ({PUT_90: -1000}, 15_000, 0))

    def falls(*found: object) -> list[str]:
        return [str(one.describe()).split(";")[0] for one in found]  # type: ignore[attr-defined]

    assert falls(*breaking_moves(pools, FALL_OF_BTC))[0] == "fall: -30.0000001 %"
    assert falls(*breaking_moves(pools, FALL_OF_BTC, maintenance_at)) == [
        "fall: -18.3197200 %",
        "fall: -10.8447839 %",
    ]
    wild = breaking_moves(pools, along_unit(0, 2, fall_e9=4 * E9), maintenance_at)
    assert falls(*wild)[1] == "fall: -7.8027252 %"


def test_a_large_position_pays_for_its_market() -> None:
    slope = deviation_e9(VOLATILITY, DAY_NS)
    assert slope == 31_405_436
    free = VOLUME // 20
    paid = [
        usdc(impact_minor(SQUARE_ROOT, size * MILLION, VOLUME, free, slope))
        for size in (50, 60, 200)
    ]
    assert paid == ["0.00", "110,440.56", "2,457,867.10"]
    pools = column([150, 50]).reshape(2, 1) * MILLION
    shares = owner_charges(
        SQUARE_ROOT, pools, column([0, 0]), column([VOLUME]), column([free]), column([slope])
    )
    assert [usdc(share) for share in shares] == ["1,843,400.33", "614,466.78"]
    linear = impact_minor(LINEAR_SHARE, 200 * MILLION, VOLUME, 0, 80_000_000)
    assert usdc(linear) == "3,200,000.20"


# A call and a perpetual, 0.001 BTC a lot, at 100,000.
PAIR = Instruments(
    kind=column([LINEAR_CALL, LINEAR]),
    unit=column([0, 0]),
    expiry_ns=column([5 * DAY_NS, NEVER_NS]),
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


def test_short_gamma_pays_for_the_gap_once() -> None:
    moves = scenarios_of(load_preset("ps-1"), "BTC").spot_move_e9.tolist()
    assert price_gap(VOLATILITY, 5 * E9, 4 * E9, 80_000_000) == (80_000_000, 15_957_692)
    assert price_gap(VOLATILITY, DAY_NS, 4 * E9, 80_000_000)[0] == 125_621_744
    _, _, _, gap_loss, hedge, _, _, _ = (1000 * TABLE.terms[0]).tolist()
    assert usdc(gap_loss // 4) == "1,816.79"
    assert usdc(hedge // 4) == "9,059.89"
    wide = moves.index(-160_000_000)
    assert usdc(1000 * int(TABLE.convexity[0, wide]) // 4) == "5,436.70"
    assert charged(0, -1000, moves.index(0)) == ("0.00", "1,821.32", "0.00")
    assert charged(0, -1000, wide) == ("0.00", "4.53", "0.00")
    assert charged(0, 1000) == ("0.00", "0.00", "0.00")


def test_the_side_that_pays_funding_provides_for_it() -> None:
    assert charged(1, 1000) == ("0.00", "0.00", "10.00")
    assert charged(1, -1000) == ("0.00", "0.00", "0.00")
