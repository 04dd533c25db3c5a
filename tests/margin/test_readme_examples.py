"""Every example and constant in margin/README.md, computed."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from margin import black76
from margin.fixed_point import COIN_SCALE, PRICE_SCALE, mul_div_ceil, mul_div_floor, quantise
from margin.invariant import Int64Array
from margin.liquidation import (
    ContractForm,
    LiquidationTerms,
    Position,
    allot_equity,
    fillable_spread_minor,
    share_pro_rata,
    slice_prices,
)
from margin.margin_call import CallOutcome, Health, advance_call, health
from margin.portfolio import INVERSE, LINEAR, LINEAR_PUT, NEVER_NS, Instruments, Marks, Positions
from margin.presets import load_preset
from margin.requirement import OpenOrders, equity, pool_requirements, requirement_with_orders
from margin.risk_table import risk_table
from margin.scenarios import loss_multiple, risk_exponent, scenario_matrix, scenarios_of
from margin.valuation import option_marks
from margin.waterfall import Candidate, deleverage, deleveraging_score, haircut_gains, pay_layers
from tests.reference.reference_margin import shocked_volatility

TEXT = (Path(__file__).parents[2] / "margin" / "README.md").read_text("utf-8")
PS_1 = load_preset("ps-1")
DAY_NS = 86_400 * 10**9
USDC = 10**6
INDEX = 100_000
SAID = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
SECTIONS = dict(SAID.findall(TEXT))


def said(section: str, *values: str) -> None:
    """Each value stands, as a whole number or word, in the example of a section of the README."""
    example = " ".join(SECTIONS[section].split("**Example.**")[1].split())
    for value in values:
        assert re.search(rf"(?<![\d,.]){re.escape(value)}(?![\d]|[.,]\d)", example), value


def usdc(amount_minor: int) -> str:
    return f"{amount_minor / USDC:,.2f}"


def column(*values: int) -> Int64Array:
    return np.array(values, dtype=np.int64)


# A perpetual of 0.001 BTC, a put of 0.01 BTC, an inverse perpetual of 10 USD, all on one index.
INSTRUMENTS = Instruments(
    kind=column(LINEAR, LINEAR_PUT, INVERSE),
    unit=column(0, 0, 0),
    expiry_ns=column(NEVER_NS, 30 * DAY_NS, NEVER_NS),
    strike_e8=column(0, 90_000 * PRICE_SCALE, 0),
    lot_e8=column(10**5, 10**6, 10 * PRICE_SCALE),
    strike_group=column(-1, 0, -1),
)
PUT, PERPETUAL, INVERSE_PERPETUAL = (1, 100), (0, 1000), (2, 10_000)  # slot and lots of 1 coin
EXPONENT = risk_exponent(2**48, 256, loss_multiple(scenarios_of(PS_1, "BTC")))


def _marks() -> Marks:
    price = INDEX * PRICE_SCALE
    marks = Marks(0, column(price), column(price, 0, price), column(price, price, price),
                  column(0, 5 * 10**8, 0), column(0, 0, 0))  # fmt: skip
    marks.mark_e8[1] = option_marks(INSTRUMENTS, marks)[1]
    return marks


MATRIX = scenario_matrix(PS_1, [scenarios_of(PS_1, "BTC")], INSTRUMENTS, _marks(), column(EXPONENT))
TABLE = risk_table(PS_1, INSTRUMENTS, MATRIX)


def margins(*held: tuple[int, int], coin: int = 0) -> tuple[int, int, int, int]:
    """Worst loss, IM, MM and worst scenario of positions (slot, lots) in margin order."""
    positions = Positions(
        column(0, len(held)), column(*(h[0] for h in held)), column(*(h[1] for h in held)),
        column(coin).reshape(1, 1),
    )  # fmt: skip
    positions.validate(INSTRUMENTS)
    needed = pool_requirements(TABLE, positions)
    return (
        int(needed.worst_minor[0]), int(needed.initial_minor[0]), int(needed.maintenance_minor[0]),
        int(needed.worst_scenario[0, 0]),
    )  # fmt: skip


def initial_with_orders(held_lots: int, *orders: tuple[int, int]) -> int:
    """IM with a position in the perpetual and orders (side, limit) for one coin each."""
    quanta = [(INDEX - limit) * 1000 * 2**EXPONENT for _, limit in orders]  # per lot of 0.001
    rows = OpenOrders(
        column(*(0 for _ in orders)), column(*(side for side, _ in orders)),
        column(*(1000 for _ in orders)), column(*quanta), column(*(0 for _ in orders)),
    )  # fmt: skip
    held = (column(0), column(held_lots)) if held_lots else (column(), column())
    return requirement_with_orders(TABLE, *held, column(0), rows)[0]


def short(of: tuple[int, int]) -> tuple[int, int]:
    return of[0], -of[1]


def integers() -> None:
    section = "Integers and floats"
    said(section, str(mul_div_floor(7, 5, 2)), str(mul_div_ceil(7, 5, 2)))
    said(section, f"2.5 to {quantise(2.5)}", f"3.5 to {quantise(3.5)}")


def black() -> None:
    terms = (100_000.0, 110_000.0)
    value, delta, _, vega, theta = black76.price_and_greeks(*terms, 0.5, 30 / 365, 1.0, True)
    said("Black-76", f"{value:,.2f}", f"{delta:.4f}", f"{vega:,.2f}", f"{theta:,.2f}")
    implied = black76.implied_volatility(2000.0, *terms, 30 / 365, 1.0, True)
    said("Black-76", f"{implied:.4f}")


def scenario() -> None:
    btc = scenarios_of(PS_1, "BTC")
    weight = int(btc.weight_e9[btc.spot_move_e9.tolist().index(-330_000_000)])
    said("Scenarios", f"{weight / 1e9:.4f}", f"{33 * weight / 1e9:.2f} %")
    for days in (30, 1):
        for side in (-1, 1):
            said("Scenarios", f"{shocked_volatility(PS_1, 0.5, days / 365, side):.3f}")


def lots() -> None:
    section = "One lot in one scenario"
    for held in ((), (short(INVERSE_PERPETUAL),), (INVERSE_PERPETUAL,)):
        said(section, usdc(margins(*held, coin=COIN_SCALE)[0]))


def exponent() -> None:
    said("Risk exponent", f"e = {EXPONENT}")
    assert "PS-1 has g = 3" in SECTIONS["Risk exponent"]
    assert {loss_multiple(scenarios_of(PS_1, name)) for name in ("BTC", "ETH", "SOL")} == {3}


def requirement() -> None:
    section = "Requirement"
    for held in ((PERPETUAL,), (short(PUT),), (short(PUT), PERPETUAL)):
        worst, initial, maintenance, _ = margins(*held)
        said(section, usdc(worst), usdc(initial), usdc(maintenance))
    alone = margins(PERPETUAL)
    hedged = margins(short(PUT), short(PERPETUAL))
    said(section, usdc(hedged[1]))
    assert hedged[1] < alone[1]
    btc = scenarios_of(PS_1, "BTC")
    assert btc.spot_move_e9[margins(short(PUT))[3]] == -660_000_000
    both = margins(short(PUT), PERPETUAL)[3]
    assert (btc.spot_move_e9[both], btc.volatility_side[both]) == (-160_000_000, 1)


def orders() -> None:
    section = "Open orders"
    bid = (1, 101_000)
    said(section, usdc(initial_with_orders(0, bid)), usdc(initial_with_orders(0, (1, 99_000))))
    assert initial_with_orders(0, bid, (-1, 99_000)) == initial_with_orders(0, bid)
    said(section, usdc(initial_with_orders(1000, (-1, INDEX))))
    assert initial_with_orders(1000, (-1, INDEX)) == margins(PERPETUAL)[1]


def equities() -> None:
    index, haircut = column(PRICE_SCALE, INDEX * PRICE_SCALE), column(0, PS_1.haircut_ppb("BTC"))
    for coin in (10**7, -(10**7)):
        cash = column(1000 * USDC, coin).reshape(1, 2)
        said("Equity", usdc(int(equity(cash, np.zeros_like(cash), index, haircut)[0])))


def calls() -> None:
    section, needs = "Margin calls", (18_000 * USDC, 14_300 * USDC)
    issued, outcome = advance_call(None, 15_000 * USDC, *needs, 10, 3)
    assert outcome is CallOutcome.ISSUED
    assert issued is not None
    said(section, f"{issued.amount_minor // USDC:,}", f"due in cycle {issued.deadline_cycle}")
    standing, outcome = advance_call(issued, 16_500 * USDC, *needs, 11, 3)
    assert outcome is CallOutcome.STANDING
    assert standing is not None
    said(section, f"it stands, for {standing.amount_minor // USDC:,}")
    assert advance_call(standing, 18_000 * USDC, *needs, 12, 3)[1] is CallOutcome.CURED
    assert advance_call(standing, 16_500 * USDC, *needs, 13, 3)[1] is CallOutcome.EXPIRED
    assert advance_call(standing, 14_299 * USDC, *needs, 12, 3)[1] is CallOutcome.BREACHED
    line = -(-2 * needs[1] // 3)  # the least equity that is not below two thirds
    assert health(line, needs[0], *needs) is Health.LIQUIDATE
    assert health(line - 1, needs[0], *needs) is Health.BACKSTOP
    said(section, usdc(line - 1))


def liquidation() -> None:
    section = "Liquidation"
    spread = fillable_spread_minor(200 * USDC, 300 * USDC, 150 * USDC, LiquidationTerms())
    share = allot_equity(200 * USDC, [150 * USDC, 150 * USDC], [1, 1])[0]
    said(section, usdc(spread), usdc(share))
    position = Position(0, 100, ContractForm.LINEAR, 30_000 * PRICE_SCALE, PRICE_SCALE, 10**5,
                        10**10, 3_000 * USDC)  # fmt: skip
    prices = slice_prices(position, share, spread)
    said(section, f"{prices.fillable_ticks:,}", f"{prices.bankruptcy_ticks:,}")


def waterfall() -> None:
    section = "Default waterfall"
    paid = pay_layers(700, [("first", 500), ("second", 150), ("third", 1000)])
    said(section, ", ".join(str(amount) for _, amount in paid))
    gains = [80, 2000, 6000]
    cuts = haircut_gains(2580, gains)
    said(section, f"{cuts[0]}, {cuts[1]} and {cuts[2]:,}")
    cuts = share_pro_rata(2580, gains, rest_to_last=True)
    said(section, f"{cuts[0]}, {cuts[1]} and {cuts[2]:,}")
    pools = [Candidate(n, -10, profit, 1000, 500) for n, profit in ((1, 300), (2, 100))]
    scores = [Fraction(*deleveraging_score(pool)) for pool in pools]
    said(section, *(f"{float(score):.2f}" for score in scores))
    taken = deleverage(12, pools)
    said(section, f"first takes {taken[0].quantity_lots} and the second {taken[1].quantity_lots}")


EXAMPLES: dict[str, Callable[[], None]] = {
    "Integers and floats": integers,
    "Black-76": black,
    "Scenarios": scenario,
    "One lot in one scenario": lots,
    "Risk exponent": exponent,
    "Requirement": requirement,
    "Open orders": orders,
    "Equity": equities,
    "Margin calls": calls,
    "Liquidation": liquidation,
    "Default waterfall": waterfall,
}


@pytest.mark.parametrize("section", EXAMPLES)
def test_the_example_of_a_section_is_what_the_code_computes(section: str) -> None:
    EXAMPLES[section]()


def test_every_example_is_computed() -> None:
    given = [name for name, text in SECTIONS.items() if "**Example.**" in text]
    assert given == list(EXAMPLES)


def test_the_constants_named_are_those_of_the_preset() -> None:
    def percent(part_e9: int) -> str:
        return f"{Fraction(part_e9, 10**7).limit_denominator(1000).__float__():g}"

    ranges = ", ".join(f"{c} {percent(PS_1.spot_range_e9(c))} %" for c in ("BTC", "ETH"))
    flat = " ".join(TEXT.split())
    assert f"{ranges}, others {percent(PS_1.spot_range_e9('SOL'))} %" in flat
    tails = [f"{move // 10**7:+d}" for move in PS_1.tails.move_e9]
    assert f"{', '.join(tails[:-1])} and {tails[-1]} %" in flat
    charge = PS_1.contingency
    assert (
        f"C_mm = {percent(charge.delta_one_maintenance_ppb)} % of gross delta-one size + "
        f"{percent(charge.naked_option_maintenance_ppb)} % of naked short options, "
        f"C_im = {percent(charge.delta_one_initial_extra_ppb)} % + "
        f"{percent(charge.naked_option_initial_extra_ppb)} %"
    ) in flat
    haircuts = [f"{c} {percent(PS_1.haircut_ppb(c))}" for c in ("USDC", "BTC", "ETH", "SOL")]
    assert f"Haircuts: {', '.join(haircuts)} %; {percent(PS_1.haircut_ppb('XYZ'))} %" in flat
    assert f"MM = ceil({PS_1.factor.maintenance_ppb / 1e9:g} worst)" in flat
