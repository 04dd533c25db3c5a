"""The worked examples of margin/README.md on prices, PS-1, published models, parts of the pools."""

from __future__ import annotations

import numpy as np

from margin import black76
from margin.fixed_point import COIN_SCALE, PRICE_SCALE, mul_div_ceil, mul_div_floor, quantise
from margin.pools.changed_pools import renew_requirements
from margin.pools.drift_bound import LotValues
from margin.pools.drift_screen import DriftScreen, PoolCash
from margin.pools.requirement import (
    OpenOrders,
    equity,
    pool_requirements,
    requirement_with_orders,
    unit_profits,
)
from margin.pools.risk_table import risk_table
from margin.portfolio import LINEAR, LINEAR_CALL, Instruments, Marks, Positions
from margin.presets import load_preset
from margin.reasons.pair_vector import delta_shock_coin, offset_gains
from margin.scenarios.grid import loss_multiple, scenario_matrix, scenarios_of
from tests.margin.example_book import (
    COIN_CALL,
    COIN_PUT,
    DAY_NS,
    INDEX,
    INVERSE_PERPETUAL,
    PERPETUAL,
    PS_1,
    PUT,
    TABLE,
    charged_coin,
    exponent_of,
    held,
    margins,
    marks_at,
    short,
    table_of,
)
from tests.margin.readme_page import SECTIONS, USDC, Examples, Page, column, usdc
from tests.reference.reference_margin import shocked_volatility

BTC = scenarios_of(PS_1, "BTC")
PMRM_2, PMRM_1 = load_preset("derive-pmrm2"), load_preset("derive-pmrm1")
DERIBIT, PARADEX, SPAN = (load_preset(name) for name in ("deribit", "paradex", "span-16"))


def integers(page: Page) -> None:
    page.given("2.5", "3.5")
    page.says(str(mul_div_floor(7, 5, 2)), str(mul_div_ceil(7, 5, 2)))
    page.says(f"to {quantise(2.5)}", f"to {quantise(3.5)}")


def black(page: Page) -> None:
    page.given("100,000", "110,000", "0.50", "2,000")
    terms = (100_000.0, 110_000.0)
    value, delta, _, vega, theta = black76.price_and_greeks(*terms, 0.5, 30 / 365, 1.0, True)
    page.says(f"{value:,.2f}", f"{delta:.4f}", f"{vega:,.2f}", f"{theta:,.2f}")
    page.says(f"{black76.implied_volatility(2000.0, *terms, 30 / 365, 1.0, True):.4f}")


def scenario(page: Page) -> None:
    page.given("0.75", "0.50")
    weight = int(BTC.weight_e9[BTC.spot_move_e9.tolist().index(-330_000_000)])
    page.says(f"{weight / 1e9:.4f}", f"{33 * weight / 1e9:.2f} %")
    for days in (30, 1):
        for side in (-1, 1):
            page.says(f"{shocked_volatility(PS_1, 0.5, days / 365, side):.3f}")


def lots(page: Page) -> None:
    page.given("100,000")
    for positions in ((), (short(INVERSE_PERPETUAL),), (INVERSE_PERPETUAL,)):
        page.says(usdc(margins(*positions, coins=1).worst))


def _worst_and_unmoved(
    expiry_ns: int, now_ns: int, *rows: tuple[int, int, int, int]
) -> tuple[int, int]:
    """Worst loss, and profit with nothing moved, of (kind, expiry, strike in dollars, coins)."""
    kind, expiry, strike, coins = (column(*(row[k] for row in rows)) for k in range(4))
    group = column(*(k if row[2] else -1 for k, row in enumerate(rows)))
    instruments = Instruments(
        kind, kind * 0, expiry, strike * PRICE_SCALE, kind * 0 + COIN_SCALE, group
    )
    price = kind * 0 + INDEX * PRICE_SCALE
    marks = Marks(now_ns, price[:1], price, price, kind * 0, kind * 0)
    table = risk_table(
        PS_1, instruments, scenario_matrix(PS_1, [BTC], instruments, marks, column(0))
    )
    slots = np.arange(len(rows), dtype=np.int64)
    positions = Positions(column(0, len(rows)), slots, coins, column(0).reshape(1, 1))
    positions.validate(instruments)
    profits = unit_profits(table, slots, coins, column(0))[0]
    unmoved = BTC.spot_move_e9.tolist().index(0) + 1
    return int(pool_requirements(table, positions).worst_minor[0]), int(profits[unmoved])


def expiries(page: Page) -> None:
    page.given("100,000", "90,000", "10,000", "95,000", "5,000", "4,500", "0.9", "2.5")
    call, sold = (LINEAR_CALL, DAY_NS, 90_000, 1), (LINEAR_CALL, DAY_NS, 95_000, -1)
    page.says(usdc(-_worst_and_unmoved(DAY_NS, DAY_NS, call)[1]))
    page.says(usdc(-_worst_and_unmoved(DAY_NS, DAY_NS, call, sold)[1]))
    spread = (LINEAR, 73 * DAY_NS, 0, 1), (LINEAR, 365 * DAY_NS, 0, -1)
    page.says(usdc(_worst_and_unmoved(DAY_NS, 0, *spread)[0]))
    future = LINEAR, DAY_NS, 0, 3
    for left_ns in (600 * 10**9, DAY_NS):
        page.says(usdc(_worst_and_unmoved(DAY_NS, DAY_NS - left_ns, future)[0]))


def doubts(page: Page) -> None:
    page.given("0.40", "60,000", "0.95", "1.06")
    sure = margins(PERPETUAL)
    doubtful = margins(
        PERPETUAL, table=table_of(PS_1, marks_at(index_confidence_ppb=column(400_000_000)))
    )
    cheap = margins(PERPETUAL, table=table_of(PS_1, marks_at(stable_e9=950_000_000)))
    assert sure.maintenance == doubtful.maintenance == cheap.maintenance
    page.says(*(usdc(found.initial) for found in (sure, doubtful, cheap)), usdc(sure.maintenance))


def exponent(page: Page) -> None:
    page.says(f"e = {exponent_of(PS_1)}")
    assert "PS-1 has g = 3" in SECTIONS["Risk exponent"]
    assert {loss_multiple(scenarios_of(PS_1, name), PS_1) for name in ("BTC", "ETH", "SOL")} == {3}


def requirement(page: Page) -> None:
    page.given("100,000", "0.8", "16,000", "1,500", "90,000", "0.50")
    for positions in ((PERPETUAL,), (short(PUT),), (short(PUT), PERPETUAL)):
        found = margins(*positions)
        page.says(usdc(found.worst), usdc(found.initial), usdc(found.maintenance))
    hedged = margins(short(PUT), short(PERPETUAL))
    page.says(usdc(hedged.initial))
    assert hedged.initial < margins(PERPETUAL).initial
    assert BTC.spot_move_e9[margins(short(PUT)).scenario] == -660_000_000
    both = margins(short(PUT), PERPETUAL).scenario
    assert (BTC.spot_move_e9[both], BTC.volatility_side[both]) == (-160_000_000, 1)


def coin_settled(page: Page) -> None:
    page.given("110,000", "0.50")
    assert margins(short(COIN_PUT))[:3] == margins(short(PUT))[:3]
    covered = margins(short(COIN_CALL), coins=1)
    page.says(usdc(margins(short(COIN_PUT)).initial), usdc(margins(coins=1).initial))
    page.says(usdc(covered.worst), usdc(covered.initial), usdc(margins(short(COIN_CALL)).initial))


def _initial_with_orders(held_lots: int, *orders: tuple[int, int]) -> int:
    """IM with a position in the perpetual and orders (side, limit) for one coin each."""
    quanta = [(INDEX - limit) * 1000 * 2 ** exponent_of(PS_1) for _, limit in orders]  # per lot
    rows = OpenOrders(
        column(*(0 for _ in orders)), column(*(side for side, _ in orders)),
        column(*(1000 for _ in orders)), column(*quanta), column(*(0 for _ in orders)),
    )  # fmt: skip
    position = (column(0), column(held_lots)) if held_lots else (column(), column())
    return requirement_with_orders(TABLE, *position, column(0), rows)[0]


def orders(page: Page) -> None:
    page.given("101,000", "100,000", "16,000", "1,000", "2,000", "99,000")
    bid = (1, 101_000)
    page.says(usdc(_initial_with_orders(0, bid)), usdc(_initial_with_orders(0, (1, 99_000))))
    assert _initial_with_orders(0, bid, (-1, 99_000)) == _initial_with_orders(0, bid)
    page.says(usdc(_initial_with_orders(1000, (-1, INDEX))))
    assert _initial_with_orders(1000, (-1, INDEX)) == margins(PERPETUAL).initial


def equities(page: Page) -> None:
    page.given("100,000", "1,000", "0.1", "0.95", "10,000")
    index, haircut = column(PRICE_SCALE, INDEX * PRICE_SCALE), column(0, PS_1.haircut_ppb("BTC"))
    for coin in (10**7, -(10**7)):
        cash = column(1000 * USDC, coin).reshape(1, 2)
        page.says(usdc(equity(cash, np.zeros_like(cash), index, haircut)[0]))


def pmrm_2(page: Page) -> None:
    page.given("100,000", "90,000", "0.50", "0.8", "18,000", "25,000", "5,000")
    table = table_of(PMRM_2)
    for positions in ((PERPETUAL,), (short(PUT),)):
        found = margins(*positions, table=table)
        page.says(usdc(found.worst), usdc(found.maintenance), usdc(found.initial))
    move = scenarios_of(PMRM_2, "BTC").spot_move_e9[margins(short(PUT), table=table).scenario]
    page.says(f"{move / 1e7:.0f} %")
    coin = margins(coins=1, table=table_of(PMRM_2, coins=charged_coin(PMRM_2)))
    page.says(usdc(coin.worst), usdc(coin.maintenance), usdc(coin.initial))


def pmrm_1(page: Page) -> None:
    page.given("100,000", "15,000", "2,000", "1.3", "17,000")
    for positions in ((PERPETUAL,), (short(PUT),)):
        found = margins(*positions, table=table_of(PMRM_1))
        page.says(usdc(found.worst), usdc(found.maintenance), usdc(found.initial))


def deribit(page: Page) -> None:
    page.given("100,000", "16,000", "0.84", "1,000", "1.16", "0.00005")
    table = table_of(DERIBIT)
    for position, price in ((PERPETUAL, 84), (short(INVERSE_PERPETUAL), 116)):
        found = margins(position, table=table)
        page.says(f"{1_600_000 / price:,.2f}", usdc(found.initial), usdc(found.maintenance))
        page.says(usdc(found.worst))
    page.says(usdc(margins(coins=1, table=table).initial))
    shock = delta_shock_coin(500 * COIN_SCALE, INDEX * PRICE_SCALE, 20_000_000, 50_000, 10**8)
    page.says(f"{shock / COIN_SCALE:g} coins")
    assert DERIBIT.pair is not None
    assert offset_gains([1000, -1000], DERIBIT.pair.offset_ppb) == [600, -1000]


def paradex(page: Page) -> None:
    page.given("100,000", "0.01", "200,000")
    table = table_of(PARADEX)
    long = margins(PERPETUAL, table=table)
    floored = margins(PERPETUAL, short(INVERSE_PERPETUAL), table=table)
    put = margins(short(PUT), table=table)
    for found in (long, floored, put):
        assert found.worst == found.initial
        page.says(usdc(found.initial), usdc(found.maintenance))


def span(page: Page) -> None:
    page.given("100,000")
    for positions in ((PERPETUAL,), (short(PUT),)):
        found = margins(*positions, table=table_of(SPAN))
        page.says(usdc(found.worst), usdc(found.maintenance), usdc(found.initial))
    put = margins(short(PUT), table=table_of(SPAN)).scenario
    assert scenarios_of(SPAN, "BTC").spot_move_e9[put] == -480_000_000


def changed(page: Page) -> None:
    page.given("100,000")

    def pools(*lots_of: int) -> Positions:
        rows = [(n, q) for n, q in enumerate(lots_of) if q]
        start = np.cumsum([0, *(1 if q else 0 for q in lots_of)]).astype(np.int64)
        quantity = column(*(q for _, q in rows))
        return Positions(start, quantity * 0, quantity, np.zeros((len(lots_of), 1), np.int64))

    found = pool_requirements(TABLE, pools(1000, 0, -1000))
    renew_requirements(TABLE, pools(500, 500, -1000), column(0, 1), found)
    first, second, third = found.initial_minor.tolist()
    assert first == second
    page.says(usdc(first), usdc(third))


def drift(page: Page) -> None:
    page.given("100,000", "100,500", "18,050.00", "20,000.00")
    before, after = TABLE, table_of(PS_1, marks_at(100_500))
    positions, none = held(PERPETUAL), column()
    slots = TABLE.terms.shape[0]
    values = LotValues(np.zeros(slots, np.int64), np.zeros(slots, np.int64))

    def cash(amount: int) -> PoolCash:
        return PoolCash(column(amount).reshape(1, 1), column(PRICE_SCALE), column(0))

    def update(equity_minor: int) -> tuple[int, list[int]]:
        screen = DriftScreen()
        base = screen.update(before, positions, none, values, cash(equity_minor))
        page.says(usdc(base.initial_minor[0]))
        found = screen.update(after, positions, none, values, cash(equity_minor))
        return int(found.initial_minor[0]), found.scanned.tolist()

    bound, scanned = update(20_000 * USDC)
    assert scanned == []
    assert update(18_050 * USDC)[1] == [0]
    exact = margins(PERPETUAL, table=after).initial
    assert usdc(bound) == usdc(exact)
    page.says(usdc(bound))


EXAMPLES: Examples = {
    "Integers and floats": integers,
    "Black-76": black,
    "Scenarios": scenario,
    "One lot in one scenario": lots,
    "Expiries that count on their own": expiries,
    "Doubtful prices and pegs": doubts,
    "Requirement": requirement,
    "Coin-settled options": coin_settled,
    "Open orders": orders,
    "Equity": equities,
    "Risk exponent": exponent,
    "derive-pmrm2": pmrm_2,
    "derive-pmrm1": pmrm_1,
    "deribit": deribit,
    "paradex": paradex,
    "span-16": span,
    "Changed pools": changed,
    "Drift screen": drift,
}
