"""Laws of attested collateral under random commands, and that replays and restores agree."""

from __future__ import annotations

from itertools import pairwise

import pytest

from exchange.core import clearing_cycle
from exchange.core.commands import Attest, Command, decode_command, encode_command
from exchange.core.default.liquidation import margin_calls
from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.engine import Engine
from exchange.core.events import CallChanged, Event, LiquidationStep, Rejected
from exchange.core.outside_venue import OutsideVenue
from exchange.core.risk.pool_risk import Risk
from exchange.core.stored.attestations import CreditStage
from exchange.core.stored.ledger import HOUSE_POOLS
from exchange.core.stored.state import State
from margin.attested import keeps_alive
from margin.default.margin_call import CallOutcome
from tests.core.attested_market import outside
from tests.core.market import SECOND, Market, every
from tests.core.random_story import Story, story_venue

COMMANDS = 3_000
CREDITED = 4  # accounts whose feeds speak often


def outsides() -> tuple[OutsideVenue, ...]:
    return (
        outside(net_positions=True, transfer_delay_ns=SECOND),
        outside("quay", credit_cap_minor=3_000 * 10**6, fresh_ns=0, age_limit_ns=600 * SECOND),
    )


class AttestingStory(Story):
    """A random story in which outside venues speak now and then, some of it nonsense."""

    def pick(self) -> Command:
        accounts = len(self.market.state.accounts.names)
        if accounts and self.chance.random() < 0.06:
            return self.attestation(self.chance.randrange(min(accounts, CREDITED)))
        return super().pick()

    def attestation(self, account: int) -> Attest:
        chance, state, now = self.chance, self.market.state, self.market.now
        number = chance.randrange(2)
        known = state.attestations.latest(account, number)
        sequence = (known.sequence if known else 0) + chance.choice([1, 1, 1, 1, 0])
        balances = [(0, int(20_000 * 10**6 * (chance.random() - 0.1)))]
        if chance.random() < 0.5:
            balances.append((1, int(10**7 * (chance.random() - 0.3))))
        slots = sorted({self._live_slot() for _ in range(chance.randrange(3))})
        positions = [(slot, chance.choice([-1, 1]) * self._lots(slot)) for slot in slots]
        observed = now - chance.choice([0, 0, SECOND, 30 * SECOND, -SECOND])
        name = state.venue.outside_venues[number].name
        return Attest(now, name, account, sequence, observed, tuple(balances), tuple(positions),
                      b"d" * 32, b"s" * 64)  # fmt: skip


def held_before(market: Market) -> dict[int, tuple[int, ...]]:
    """Cash of every pool: an attestation must not move any."""
    return {pool: tuple(row) for pool, row in enumerate(market.state.ledger.cash.tolist())}


def readings_agree(market: Market) -> None:
    """Decay never helps; what may be withdrawn holds no credit; the gate reads the same."""
    backing, risk = market.engine.risk.backing, market.engine.risk
    for pool in sorted(backing.credit):
        found = {reading: backing.standing(pool, reading) for reading in Reading}
        net = {r: s.credit_minor - s.initial_minor for r, s in found.items()}
        account = market.state.accounts.owner_of[pool]
        if all(
            backing.outside.stage(*each) != CreditStage.EXPIRED
            for each in market.state.attestations.of(account)
        ):
            assert net[Reading.BARE] <= net[Reading.NOW] <= net[Reading.STANDING]
        assert found[Reading.BARE].credit_minor <= 0
        assert backing.of(pool) <= max(int(risk.equity[pool]), 0) + max(0, backing.credit[pool])


def nobody_is_liquidated_on_age(state: State, risk: Risk) -> list[Event]:
    """Step 7, and of every case it opens on an attested pool: no reading would have saved it."""
    events = margin_calls(state, risk)
    opened = {e.pool for e in every(events, LiquidationStep) if e.step == "opened"}
    outcome = {e.pool: e.outcome for e in every(events, CallChanged)}
    for pool in sorted(opened & set(risk.backing.credit)):
        equity = int(risk.equity[pool])
        standing, last = (risk.backing.standing(pool, r) for r in (Reading.STANDING, Reading.LAST))
        if outcome[pool] == CallOutcome.EXPIRED:
            assert equity < 0 or equity + standing.credit_minor < standing.initial_minor
        else:
            assert outcome[pool] == CallOutcome.BREACHED
            assert not keeps_alive(equity, standing)
            assert not keeps_alive(equity, last)
    return events


@pytest.mark.parametrize("seed", [11, 12])
def test_laws_hold_whatever_is_attested(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clearing_cycle, "margin_calls", nobody_is_liquidated_on_age)
    market = Market(story_venue(outside_venues=outsides()), seed=seed)
    story = AttestingStory(market, seed)
    taken = refused = cases = 0
    since = 0
    for _ in range(COMMANDS):
        if story.needs_listing():
            market.apply(story.listing())
        command = story.pick()
        if isinstance(command, Attest):
            before = held_before(market)
            events = market.apply(command)
            taken += not isinstance(events[0], Rejected)
            refused += isinstance(events[0], Rejected)
            assert held_before(market) == before, "a word moves no money"
        else:
            market.apply(command)
        since += 1
        if since >= story.chance.randrange(5, 60):
            since = 0
            events = market.cycle(after_ns=story.move())
            market.state.validate()
            readings_agree(market)
            cases += len([e for e in every(events, LiquidationStep) if e.pool >= HOUSE_POOLS])
            story.remember()
    assert taken > 50
    assert refused > 20
    assert cases > 20
    replayed = Engine()
    for command in market.log:
        replayed.apply(decode_command(*encode_command(command)))
    assert replayed.state_hash() == market.engine.state_hash()
    restored = Engine.restore(market.engine.snapshot())
    assert restored.state_hash() == market.engine.state_hash()
    assert restored.risk.backing.credit == market.engine.risk.backing.credit


@pytest.mark.parametrize("seed", [3, 4])
def test_credit_less_requirement_never_rises_with_age(seed: int) -> None:
    """Whatever a pool holds: silence only ever takes from what it may rely on."""
    market = Market(story_venue(outside_venues=outsides()), seed=seed)
    story = AttestingStory(market, seed)
    for number in range(900):
        market.apply(story.pick())
        if number % 30 == 29:
            market.cycle(after_ns=SECOND)
    backing = market.engine.risk.backing
    shifted = 0
    for pool in sorted(backing.credit):
        account = market.state.accounts.owner_of[pool]
        for _, known in market.state.attestations.of(account):
            known.observed_ns = market.state.marks.time_ns
        seen = []
        for age in range(0, 700, 7):
            for _, known in market.state.attestations.of(account):
                known.observed_ns = market.state.marks.time_ns - age * SECOND
            credit = backing.outside.credit(account, Reading.NOW)
            shift = backing.shift(pool, Reading.NOW, credit=credit)
            seen.append((credit.total_minor - shift.initial_minor,
                         credit.total_minor - shift.maintenance_minor))  # fmt: skip
            shifted += shift != (0, 0)
        for one, two in pairwise(seen):
            assert two[0] <= one[0] + 2, "two roundings of a minor unit"
            assert two[1] <= one[1] + 2
    assert shifted
