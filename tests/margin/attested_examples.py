"""The worked examples of margin/README.md on collateral and positions at outside venues."""

from __future__ import annotations

from margin.attested import (
    Standing,
    advance_backed_call,
    credit_minor,
    decay_ppb,
    delay_term_ppb,
    value_minor,
)
from margin.default.margin_call import CallOutcome, MarginCall
from tests.core.attested_market import AttestedMarket, buy_one, long_one_coin, outside
from tests.core.market import LINEAR_BTC
from tests.margin.readme_page import USDC, Examples, Page, usdc

MINUTE_NS = 60 * 10**9
VENUE_PPB, BTC_PPB = 10**8, 5 * 10**7


def decay(minutes: float) -> int:
    return decay_ppb(int(minutes * MINUTE_NS), 3 * MINUTE_NS, 30 * MINUTE_NS)


def collateral(page: Page) -> None:
    page.given("20,000", "0.5", "100,000", "0.50", "16.5")
    term = delay_term_ppb(500_000_000, 10 * MINUTE_NS, 3 * 10**9)
    page.says(f"{term / 10**9:.6f}")
    worth = value_minor(50_000_000, 100_000 * 10**8, is_usdc=False)

    def counted(minutes: float) -> tuple[int, int]:
        kept = decay(minutes)
        dollars = credit_minor(20_000 * USDC, 0, VENUE_PPB, kept, 0)
        return dollars, credit_minor(worth, BTC_PPB, VENUE_PPB, kept, term)

    for minutes in (0, 3):
        dollars, coins = counted(minutes)
        page.says(usdc(dollars), usdc(coins), usdc(dollars + coins))
    page.says(*map(usdc, counted(16.5)))
    assert counted(30) == (0, 0)


def positions(page: Page) -> None:
    market = AttestedMarket(outside(net_positions=True))
    ann, bob = long_one_coin(market, 60_000)
    buy_one(market, ann, bob)
    page.says(usdc(market.initial(ann)))
    market.attest(ann, positions=[(LINEAR_BTC, -1_000)])
    page.says(usdc(market.initial(ann)))
    market.wait(35)  # fresh for 10 s, worth nothing from 60 s on
    page.says(usdc(market.initial(ann)))
    market.wait(25)
    page.says(usdc(market.initial(ann)))
    market.attest(ann, positions=[(LINEAR_BTC, 1_000)])
    page.says(usdc(market.initial(ann)))
    market.wait(70)
    page.says(usdc(market.initial(ann)))


def calls(page: Page) -> None:
    page.given("18,000", "14,300", "10,500")
    full = 18_000 * USDC
    call: MarginCall | None = None
    told: dict[int, tuple[CallOutcome, int]] = {}

    def reading(credit: int) -> Standing:
        return Standing(credit, 18_000 * USDC, 14_300 * USDC)

    def advanced(
        before: MarginCall | None, equity: int, minute: int, seen: int = 0
    ) -> tuple[MarginCall | None, CallOutcome]:
        age = minute - seen
        now = full * decay(age) // 10**9
        standing, last = full if age < 30 else 0, full if age < 33 else 0
        readings = (reading(credit) for credit in (now, standing, last))
        return advance_backed_call(before, equity * USDC, *readings, minute, 3)

    for minute in range(31):
        call, outcome = advanced(call, 10_500, minute)
        told[minute] = outcome, 0 if call is None else call.amount_minor
        if minute == 28:
            assert advanced(call, 10_500, 29, seen=28) == (None, CallOutcome.CURED)
    page.says(usdc(full * decay(18) // 10**9), usdc(full * decay(19) // 10**9))
    assert {told[minute][0] for minute in range(19)} == {CallOutcome.NONE}
    assert told[19][0] == CallOutcome.ISSUED
    assert {told[minute][0] for minute in range(20, 30)} == {CallOutcome.STANDING}
    assert told[30][0] == CallOutcome.EXPIRED
    page.says(usdc(told[19][1]), usdc(told[25][1]))
    owing, outcome = advanced(None, -100, 2)
    assert outcome == CallOutcome.ISSUED
    assert owing is not None
    page.says(usdc(owing.amount_minor))


EXAMPLES: Examples = {
    "Collateral elsewhere": collateral,
    "Positions and coin elsewhere": positions,
    "Calls and default on credit": calls,
}
