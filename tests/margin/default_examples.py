"""The worked examples of margin/README.md on explanations, calls, liquidation, waterfall."""

from __future__ import annotations

from fractions import Fraction

from margin.book import Book
from margin.default.liquidation import (
    ContractForm,
    LiquidationTerms,
    Position,
    allot_equity,
    fillable_spread_minor,
    share_pro_rata,
    slice_prices,
)
from margin.default.margin_call import CallOutcome, Health, advance_call, health
from margin.default.waterfall import (
    Candidate,
    deleverage,
    deleveraging_score,
    haircut_gains,
    pay_layers,
)
from margin.fixed_point import PRICE_SCALE
from margin.reasons.explain import explain
from tests.margin.example_book import INSTRUMENTS, MARKS, PERPETUAL, PS_1
from tests.margin.readme_page import USDC, Examples, Page, column, usdc


def explanation(page: Page) -> None:
    page.given(
        "0.01", "100,000", "20,000", "18,000", "2,000", "82,000", "14,300", "5,700", "85,700"
    )
    book = Book(
        tuple("abcde"), ("BTC",), ("BTC",), ("USDC", "BTC"), (1,), INSTRUMENTS, MARKS,
        column(PERPETUAL[1], 0, 0, 0, 0), column(20_000 * USDC, 0),
    )  # fmt: skip
    found = explain(PS_1, book)
    assert (found.initial_minor, found.maintenance_minor) == (18_000 * USDC, 14_300 * USDC)
    distance = found.units[0].distance
    assert distance is not None
    for move, exact in (
        (distance.call_down_e9, -2_000 / 82_000),
        (distance.liquidation_down_e9, -5_700 / 85_700),
    ):
        assert move is not None
        assert 0 <= exact * 1e9 - move <= 10**5
        page.says(f"{move / 1e7:.2f} %", f"{100 * exact:.3f} %")


def calls(page: Page) -> None:
    page.given("18,000", "14,300", "15,000", "16,500", "14,299")
    needs = (18_000 * USDC, 14_300 * USDC)
    issued, outcome = advance_call(None, 15_000 * USDC, *needs, 10, 3)
    assert outcome is CallOutcome.ISSUED
    assert issued is not None
    page.says(f"{issued.amount_minor // USDC:,}", f"due in cycle {issued.deadline_cycle}")
    standing, outcome = advance_call(issued, 16_500 * USDC, *needs, 11, 3)
    assert outcome is CallOutcome.STANDING
    assert standing is not None
    page.says(f"{standing.amount_minor // USDC:,}")
    assert advance_call(standing, 18_000 * USDC, *needs, 12, 3)[1] is CallOutcome.CURED
    assert advance_call(standing, 16_500 * USDC, *needs, 13, 3)[1] is CallOutcome.EXPIRED
    assert advance_call(standing, 14_299 * USDC, *needs, 12, 3)[1] is CallOutcome.BREACHED
    line = -(-2 * needs[1] // 3)  # the least equity that is not below two thirds
    assert health(line, needs[0], *needs) is Health.LIQUIDATE
    assert health(line - 1, needs[0], *needs) is Health.BACKSTOP
    page.says(usdc(line - 1))


def liquidation(page: Page) -> None:
    page.given("0.1", "30,000")
    spread = fillable_spread_minor(200 * USDC, 300 * USDC, 150 * USDC, LiquidationTerms())
    share = allot_equity(200 * USDC, [150 * USDC, 150 * USDC], [1, 1])[0]
    page.says(usdc(spread), usdc(share))
    position = Position(0, 100, ContractForm.LINEAR, 30_000 * PRICE_SCALE, PRICE_SCALE, 10**5,
                        10**10, 3_000 * USDC)  # fmt: skip
    prices = slice_prices(position, share, spread)
    page.says(f"{prices.fillable_ticks:,}", f"{prices.bankruptcy_ticks:,}")


def waterfall(page: Page) -> None:
    page.given("2,580", "2,000", "6,000", "1,000")
    paid = pay_layers(700, [("first", 500), ("second", 150), ("third", 1000)])
    page.says(", ".join(str(amount) for _, amount in paid))
    gains = [80, 2000, 6000]
    cuts = haircut_gains(2580, gains)
    page.says(f"{cuts[0]}, {cuts[1]} and {cuts[2]:,}")
    cuts = share_pro_rata(2580, gains, rest_to_last=True)
    page.says(f"{cuts[0]}, {cuts[1]} and {cuts[2]:,}")
    pools = [Candidate(n, -10, profit, 1000, 500) for n, profit in ((1, 300), (2, 100))]
    scores = [Fraction(*deleveraging_score(pool)) for pool in pools]
    page.says(*(f"{float(score):.2f}" for score in scores))
    taken = deleverage(12, pools)
    page.says(f"first takes {taken[0].quantity_lots} and the second {taken[1].quantity_lots}")


EXAMPLES: Examples = {
    "Explanation": explanation,
    "Margin calls": calls,
    "Liquidation": liquidation,
    "Default waterfall": waterfall,
}
