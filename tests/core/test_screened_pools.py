"""The drift screen in the engine: bounds where nothing is decided, exact figures for who asks.

Stories run with every pool screened, however few there are, and their journals are applied again by
an engine that passes over all pools in every cycle: state by state the two must be one.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import pytest

from exchange.core.commands import Deposit, OpenAccount, decode_command, encode_command
from exchange.core.default.waterfall import Waterfall
from exchange.core.engine import Engine
from exchange.core.events import CycleClosed
from exchange.core.risk import pool_risk
from exchange.core.risk.screened import SCREENED_POOLS
from exchange.core.stored.ledger import HOUSE_POOLS, House
from exchange.core.venue import AccountClass, Venue
from exchange.moved_risk import MovedRisk
from margin.models.venue_models import venue_model
from margin.presets import load_preset
from tests.core.attested_market import AttestedMarket, outside
from tests.core.market import BUY, CALL, LINEAR_BTC, PUT, SECOND, SELL, Market, every, small
from tests.core.random_story import Story, story_venue
from tests.properties.test_attestation_properties import AttestingStory


@pytest.fixture(autouse=True)
def _screened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_risk, "SCREENED_POOLS", 0)


def plain() -> Venue:
    return story_venue()


def in_classes() -> Venue:
    """Every third account under Derive's margin, every third under the standard one."""
    classes = (
        AccountClass("desk", load_preset("derive-pmrm2")),
        AccountClass("pit", venue_model("standard")),
    )
    return story_venue(account_classes=classes)


def attested() -> Venue:
    return story_venue(outside_venues=(outside(net_positions=True), outside("quay")))


class ClassedStory(Story):
    """A random story whose accounts are of all classes, in turn."""

    def _open(self, number: int) -> OpenAccount:
        command = super()._open(number)
        names = ["", *(known.name for known in self.market.venue.account_classes)]
        return OpenAccount(command.time_ns, command.name, names[number % len(names)])


def needs(engine: Engine) -> list[tuple[int, ...]]:
    """What every margined pool needs, pool by pool, and its equity."""
    risk, pools = engine.risk, engine.state.accounts.pools
    margined = [int(House.INSURANCE), *range(HOUSE_POOLS, pools)]
    return [(*risk.need(pool), int(risk.equity[pool])) for pool in margined]


@pytest.mark.parametrize(
    ("venue", "story_of", "seed"),
    [(plain, Story, 5), (plain, Story, 6), (in_classes, ClassedStory, 7),
     (attested, AttestingStory, 8)],
)  # fmt: skip
def test_every_decision_of_a_screened_story_is_that_of_full_passes(
    venue: Callable[[], Venue], story_of: type[Story], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = Market(venue(), seed=seed)
    story = story_of(market, seed)
    bounds, cycles = 0, []
    while len(cycles) < 90:
        if story.needs_listing():
            market.apply(story.listing())
        for _ in range(40):
            market.apply(story.pick())
        market.cycle(after_ns=story.move())
        risk = market.engine.risk
        bounds += sum(risk.is_bound(pool) for pool in range(market.state.accounts.pools))
        asked = needs(market.engine) if len(cycles) % 3 == 0 else None
        cycles.append((market.state.last_hash, asked))
        story.remember()
    assert bounds > 150, "the screen passed over pools"

    monkeypatch.setattr(pool_risk, "SCREENED_POOLS", 10**9)
    twin, at = Engine(), -1  # the market's opening closes a cycle of its own
    for command in market.log:
        events = twin.apply(decode_command(*encode_command(command)))
        for closed in every(events, CycleClosed):
            if at >= 0:
                wanted, asked = cycles[at]
                assert closed.state_hash == wanted, f"seed {seed}, cycle {at}"
                assert asked is None or needs(twin) == asked, f"seed {seed}, cycle {at}"
            at += 1
    assert at == len(cycles)


def two_rich_pools(options: bool = True) -> tuple[Market, int, int]:
    """A rich buyer and a rich seller of futures and options, some cycles after the base.

    The others hold nothing: with so few pools that hold, the house's alone would be too many. A
    million USDC a day are traded, so that closing the position costs something.
    """
    venue = small()
    units = [msgspec.structs.replace(u, daily_volume_minor=10**12) for u in venue.underlyings]
    market = Market(msgspec.structs.replace(venue, underlyings=tuple(units)))
    for number in range(60):
        market.account(f"idle-{number}", 1)
    buyer, seller = market.account("ann", 900_000), market.account("bob", 900_000)
    market.trade(buyer, seller, 1000, 200_000, LINEAR_BTC)
    for slot in (CALL, PUT) if options else ():
        ticks = int(market.state.marks.mark_e8[slot]) // market.state.contracts.specs[slot].tick_e8
        market.trade(buyer, seller, 300, max(1, ticks), slot)
    market.cycle(100_010)
    market.cycle(100_020)
    return market, market.pool(buyer), market.pool(seller)


def test_a_pool_in_no_doubt_has_a_bound_until_somebody_asks() -> None:
    market, buyer, seller = two_rich_pools()
    risk = market.engine.risk
    for pool in (buyer, seller):
        assert risk.is_bound(pool)
        most = int(risk.initial_most[pool]), int(risk.maintenance_most[pool])
        need = risk.need(pool)
        assert not risk.is_bound(pool)
        assert 0 < need.initial_minor <= most[0] <= int(risk.equity[pool])
        assert 0 < need.maintenance_minor <= most[1]
    assert int(risk.initial_most[seller]) == risk.need(seller).initial_minor


def test_asking_for_one_pool_leaves_the_others_and_asking_for_all_leaves_none() -> None:
    market, buyer, seller = two_rich_pools()
    risk = market.engine.risk
    one = risk.need(buyer)
    assert risk.is_bound(seller)
    assert int(risk.initial[buyer]) == one.initial_minor
    assert not risk.is_bound(seller)
    fresh = Engine.restore(market.engine.snapshot()).risk
    for ours, theirs in zip(risk.worst, fresh.worst, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(risk.add_on_minor, fresh.add_on_minor)


def test_a_pool_near_its_requirement_is_exact_without_being_asked() -> None:
    """Near it with its add-ons: it has more than the scenarios alone could ask."""
    market, buyer, seller = two_rich_pools()
    risk, account = market.engine.risk, market.state.accounts.owner_of[seller]
    need = risk.need(seller)
    market.withdraw(account, (int(risk.equity[seller]) - need.initial_minor) // 10**6 - 1)
    market.cycle()
    assert need.add_on_minor > 100 * 10**6
    assert risk.equity[seller] - 100 * 10**6 > need.initial_minor - need.add_on_minor
    assert not risk.is_bound(seller)
    assert risk.is_bound(buyer)


def test_lots_that_change_in_place_are_seen() -> None:
    """A trade in contracts that both hold leaves every row where it was."""
    market, buyer, seller = two_rich_pools(options=False)
    risk, accounts = market.engine.risk, market.state.accounts
    before = risk.need(seller).initial_minor
    market.cycle()
    rows = market.state.positions.table
    market.trade(accounts.owner_of[buyer], accounts.owner_of[seller], 1000, 200_000, LINEAR_BTC)
    assert market.state.positions.table is rows
    assert risk.is_bound(seller)
    assert risk.initial_most[seller] >= risk.need(seller).initial_minor > 1.2 * before


def test_credit_of_one_pool_survives_that_its_owners_other_is_asked_for() -> None:
    """Figures of an owner's pools are computed together; what is elsewhere counts in one."""
    market = AttestedMarket(outside(net_positions=True))
    ann = market.account("ann", 300_000)
    bob = market.account("bob", 900_000)
    market.do(OpenAccount, "ann-2", "", ann)
    other = len(market.state.accounts.names) - 1
    market.do(Deposit, other, 0, 600_000 * 10**6)
    for number in range(60):
        market.account(f"idle-{number}", 1)
    market.trade(ann, bob, 1000, 200_000, LINEAR_BTC)
    market.trade(other, bob, 1000, 200_000, LINEAR_BTC)
    risk, pool = market.engine.risk, market.pool(ann)
    market.withdraw(ann, (market.equity(ann) - market.initial(ann)) // 10**6 - 1)
    market.attest(ann, 50_000, positions=[(LINEAR_BTC, -500)])
    market.cycle(99_990)  # short by itself, so that the screen scans it
    shifted = risk.need(pool)
    assert risk.is_bound(market.pool(other))
    assert risk.need(market.pool(other)).initial_minor > shifted.initial_minor
    assert risk.need(pool) == shifted


def test_an_order_that_the_bound_would_refuse_is_admitted_by_the_exact_figures() -> None:
    """The room above the bound is too small for it, the room above the margin is not."""
    market, _, seller = two_rich_pools()
    engine, account = market.engine, market.state.accounts.owner_of[seller]
    risk, gate = engine.risk, engine.gate
    assert risk.is_bound(seller)
    room = gate.headroom[seller]
    exact = int(risk.equity[seller]) - Engine.restore(engine.snapshot()).risk.need(seller)[0]
    assert room < exact
    gate.reserved[seller] = room  # what the bound leaves is spoken for
    market.place(account, BUY, 1, 200_000, LINEAR_BTC)
    assert gate.headroom[seller] == exact, "the pool is known exactly from here on"
    assert not risk.is_bound(seller)
    gate.reserved[seller] = exact
    assert gate._exceeds(seller, 1)


def test_orders_stay_that_only_the_bound_would_drop() -> None:
    market, _, seller = two_rich_pools()
    engine, account = market.engine, market.state.accounts.owner_of[seller]
    order = market.place(account, SELL, 1, 400_000, LINEAR_BTC)
    assert engine.risk.is_bound(seller)
    engine.gate.reserved[seller] = engine.gate.headroom[seller] + 1
    market.seal()
    assert market.open_lots(order) == 1
    assert not engine.risk.is_bound(seller)


def test_accounts_that_open_join_the_screen() -> None:
    market, buyer, _ = two_rich_pools()
    newcomer = market.account("cid", 500_000)
    assert market.engine.risk.need(market.pool(newcomer))[:2] == (0, 0)
    seller = market.state.accounts.owner_of[buyer]
    market.trade(newcomer, seller, 10, 200_000, LINEAR_BTC)
    market.cycle(100_025)
    risk = market.engine.risk
    assert risk.is_bound(market.pool(newcomer))
    assert risk.is_bound(buyer), "no full pass for somebody new"
    assert risk.need(market.pool(newcomer)).initial_minor > 0


def test_a_default_finds_every_holder_known_before_anything_changes_hands(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Holders are ranked by their margin at the revaluation, not after what they took over."""
    market, buyer, _ = two_rich_pools()
    loser, other = market.account("cid", 20_000), market.state.accounts.owner_of[buyer]
    market.trade(loser, other, 1000, 200_000, LINEAR_BTC)
    market.cycle(100_010)
    seen = []

    def noted(self: Waterfall, pool: int) -> None:
        seen.append([each for each in range(len(self.risk.equity)) if self.risk.is_bound(each)])
        work_out(self, pool)

    work_out = Waterfall._work_out
    monkeypatch.setattr(Waterfall, "_work_out", noted)
    market.cycle(70_000)
    assert seen == [[]]
    market.cycle(70_010)
    assert market.engine.risk.is_bound(buyer), "rich enough to be passed over"


def test_a_stress_of_a_screened_venue_breaches_whom_exact_figures_breach() -> None:
    market, buyer, _ = two_rich_pools()
    account = market.state.accounts.owner_of[buyer]
    room = int(market.engine.risk.equity[buyer]) - market.engine.risk.need(buyer).initial_minor
    market.withdraw(account, room // 10**6 - 100)
    market.cycle(after_ns=SECOND)
    moved = MovedRisk(market.engine)
    cash = market.state.ledger.cash.copy()
    cash[buyer, 0] -= 15_000 * 10**6
    pools = np.array([buyer], np.int64)
    for _ in range(2):  # the second time by the screen
        risk = moved.stand(pools=pools, cash_minor=cash[pools])
        found = np.flatnonzero(moved.breached())
        exact = np.flatnonzero(risk.equity < risk.maintenance)
        assert found.tolist() == exact.tolist()
        assert found[found >= HOUSE_POOLS].tolist() == [buyer]


def test_few_pools_are_not_screened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_risk, "SCREENED_POOLS", SCREENED_POOLS)
    market, buyer, _ = two_rich_pools()
    market.cycle(after_ns=SECOND)
    assert not market.engine.risk.is_bound(buyer)
