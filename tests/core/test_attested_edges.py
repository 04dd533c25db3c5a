"""Attested collateral at its edges: where it ends, its bounds, settled contracts, lost offsets."""

from __future__ import annotations

from typing import Any

import msgspec

from exchange.core.commands import MoveMargin
from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.events import CreditAged, LiquidationStep
from exchange.core.limits import CREDIT_MINOR_MAX
from exchange.core.stored.attestations import CreditStage
from exchange.core.stored.layers import PoolKind
from margin.presets import load_preset
from margin.presets.preset import Preset
from tests.core.attested_market import MINOR, AttestedMarket, buy_one, long_one_coin, outside
from tests.core.market import BUY, FUTURE, LINEAR_BTC, LINEAR_ETH, SECOND, USDC, every
from tests.core.pools import opened

BTC = 1


def test_a_word_has_ended_in_the_cycle_in_which_it_reaches_its_age_limit() -> None:
    """Credit is 0 from 60 s on, and that is when its owner is told."""
    market = AttestedMarket()
    ann = market.account("ann")
    market.attest(ann, 1_000)
    told = [
        (age, event.stage) for age in range(1, 63) for event in every(market.cycle(), CreditAged)
    ]
    assert told == [(11, CreditStage.DECAYING), (60, CreditStage.EXPIRED)]


def test_credit_of_all_outside_venues_together_is_bounded() -> None:
    market = AttestedMarket(*(outside(name, haircut_ppb=0) for name in ("harbour", "quay")))
    ann = market.account("ann")
    most = CREDIT_MINOR_MAX // MINOR + 1
    for name in ("harbour", "quay"):
        market.attest(ann, most, venue=name)
        assert CREDIT_MINOR_MAX - 2 <= market.credit(ann) <= CREDIT_MINOR_MAX


def test_coin_elsewhere_is_counted_up_to_a_whole_unit_of_it() -> None:
    """A unit of 10^-8 is credited at 855 millionths of a dollar, so 0.855 of it stand there."""
    market = AttestedMarket()
    ann = market.account("ann")
    market.attest(ann, coins=[(BTC, 1)])
    credit = market.engine.risk.backing.outside.credit(ann, Reading.NOW)
    assert (credit.total_minor, credit.coin_minor) == (855, {0: 1})


def test_coin_owed_elsewhere_beyond_all_reason_is_margined_within_bounds() -> None:
    market = AttestedMarket()
    ann, bob = market.account("ann"), market.account("bob")
    market.attest(ann, coins=[(BTC, -(2**52))])
    market.attest(bob, coins=[(BTC, -(CREDIT_MINOR_MAX // 1_000))])  # worth the bound
    owed = market.engine.risk.backing.outside.credit(ann, Reading.NOW).owed_minor
    assert owed == {0: CREDIT_MINOR_MAX // 1_000}
    assert 0 < market.initial(ann) == market.initial(bob) < CREDIT_MINOR_MAX


def test_a_settled_contract_counts_nowhere() -> None:
    """Held short elsewhere, it hedges until it expires; a word that names it later says nothing."""
    market = AttestedMarket(outside(net_positions=True), expiry_after_s=1_900)
    ann, bob = long_one_coin(market, 30_000)
    buy_one(market, ann, bob)
    alone = market.initial(ann)
    word: dict[str, Any] = {"positions": [(FUTURE, -1_000)]}
    market.attest(ann, **word)
    assert market.initial(ann) < alone
    market.cycle(after_ns=1_900 * SECOND)
    market.attest(ann, **word)
    market.cycle()
    assert market.initial(ann) == alone
    assert market.engine.risk.backing.outside.lots(ann, Reading.NOW) == ({}, [])


def offsetting(preset: Preset) -> tuple[AttestedMarket, int]:
    """`ann` long one bitcoin and short as much ether here."""
    market = AttestedMarket(outside(haircut_ppb=0), preset=preset)
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 1_000, 200_000, LINEAR_BTC)
    market.trade(bob, ann, 2_500, 80_000, LINEAR_ETH)
    return market, ann


def test_an_offset_between_coins_ends_where_something_elsewhere_counts() -> None:
    """Then a pool needs what it needs under the same model without offsets; a unit for rounding."""
    offset = load_preset("ps-1-dynamic")
    plain = msgspec.structs.replace(offset, cross_unit=None)
    (market, ann), (whole, _) = offsetting(offset), offsetting(plain)
    relief = int(market.engine.risk.relief_minor[market.pool(ann)])
    assert relief > 0
    assert market.initial(ann) == whole.initial(ann) - relief
    assert market.maintenance(ann) < whole.maintenance(ann)
    for each in (market, whole):
        each.attest(ann, coins=[(BTC, 10**7)])
        each.cycle()
    assert market.engine.risk.relief_minor[market.pool(ann)] == 0
    assert market.initial(ann) == whole.initial(ann)
    assert 0 <= market.maintenance(ann) - whole.maintenance(ann) <= 3


def test_a_pool_that_moves_takes_no_credit_of_its_account() -> None:
    """Between revaluations, too: only the cross pool is credited."""
    market = AttestedMarket()
    ann = market.account("ann", usdc=1_000)
    market.attest(ann, 100_000)
    desk = opened(market, ann, PoolKind.PORTFOLIO, name="desk", usdc=100)
    market.do(MoveMargin, ann, market.pool(ann), desk, USDC, MINOR)
    assert list(market.engine.risk.backing.credit) == [market.pool(ann)]
    assert market.engine.gate.room(desk) == 101 * MINOR
    market.place(ann, BUY, 1_000, 200_000)


def offered_lots(market: AttestedMarket, index: int) -> int:
    """Lots of the first slice of a liquidation that this index opens."""
    steps = every(market.cycle(index), LiquidationStep)
    assert [step.step for step in steps] == ["opened", "offered"]
    return steps[1].quantity_lots


def test_a_liquidation_closes_no_more_because_a_word_has_aged() -> None:
    """A slice restores maintenance as if the word were fresh: 6,000 of money, or a fifth hedged."""
    word: dict[str, Any]
    for usdc, index, terms, word in (
        (19_000, 87_000, {"haircut_ppb": 0}, {"usdc": 6_000}),
        (16_000, 94_000, {"net_positions": True}, {"positions": [(LINEAR_BTC, -200)]}),
    ):
        found = []
        for age_s in (0, 34):  # half of it counts then
            market = AttestedMarket(outside(**terms))
            ann, bob = long_one_coin(market, usdc)
            market.attest(ann, **word)
            buy_one(market, ann, bob)
            market.wait(age_s)
            found.append(offered_lots(market, index))
        assert -1_000 < found[0] == found[1] < 0, word
