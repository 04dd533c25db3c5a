"""Attestations in the core: what is refused, what is remembered, and that a replay agrees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exchange.core.commands import Attest, decode_command, encode_command
from exchange.core.engine import Engine
from exchange.core.events import Attested, CreditAged
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.attestations import CreditStage
from exchange.core.venue import VenueError, validate
from exchange.storage.recovery import recover
from tests.core.attested_market import (
    COIN,
    HARBOUR,
    KEY,
    MINOR,
    AttestedMarket,
    buy_one,
    connected,
    long_one_coin,
    outside,
)
from tests.core.journal_of import write_journal
from tests.core.market import CALL, LINEAR_BTC, SECOND, Market, changed, every, only, small

R = RejectReason


def refused(market: AttestedMarket, who: int, reason: RejectReason, **changes: Any) -> None:
    """An attestation that differs from a good one in these fields is refused for this reason."""
    names = Attest.__struct_fields__[1:]
    good = dict(zip(names, market.word(who, 1_000), strict=True))
    assert market.refused(Attest, **{**good, **changes}) == reason


def test_what_an_outside_venue_says_is_remembered_and_counted() -> None:
    market = AttestedMarket()
    ann = market.account("ann")
    event = only(market.attest(ann, 1_000, positions=[(LINEAR_BTC, -5)]), Attested)
    assert (event.account, event.outside_venue, event.sequence) == (ann, HARBOUR, 1)
    assert event.credit_minor == 900 * MINOR == market.credit(ann)
    assert market.known(ann).positions == ((LINEAR_BTC, -5),)
    market.attest(ann, 500)
    assert market.known(ann).balances == ((0, 500 * MINOR),)
    assert market.known(ann).positions == (), "a word replaces the one before, whole"


def test_a_word_of_an_unknown_outside_venue_or_account_is_refused() -> None:
    market = AttestedMarket()
    ann = market.account("ann")
    refused(market, ann, R.OUTSIDE_VENUE_UNKNOWN, outside_venue="elsewhere")
    refused(market, ann, R.ACCOUNT_UNKNOWN, account=99)
    refused(market, ann, R.ACCOUNT_UNKNOWN, account=-1)
    plain = Market(small())
    reason = plain.refused(Attest, *market.word(plain.account("ann"), 1))
    assert reason == R.OUTSIDE_VENUE_UNKNOWN


def test_a_replayed_or_overtaken_word_is_refused() -> None:
    market = AttestedMarket()
    ann, bob = market.account("ann"), market.account("bob")
    word = market.word(ann, 1_000)
    market.attest(ann, 1_000)
    assert market.refused(Attest, *word) == R.ATTESTATION_OUT_OF_ORDER, "replayed"
    market.attest(ann, 2_000)
    refused(market, ann, R.ATTESTATION_OUT_OF_ORDER, sequence=1)
    refused(market, ann, R.ATTESTATION_OUT_OF_ORDER, sequence=2)
    refused(market, ann, R.ATTESTATION_OUT_OF_ORDER, observed_ns=market.now - 1)
    market.attest(bob, 1_000)  # sequences are an account's own
    assert market.credit(ann) == 1_800 * MINOR


def test_a_time_that_has_not_come_is_refused() -> None:
    market = AttestedMarket()
    ann = market.account("ann")
    refused(market, ann, R.ATTESTATION_IN_FUTURE, observed_ns=market.now + 1)
    refused(market, ann, R.ATTESTATION_INVALID, observed_ns=-1)
    refused(market, ann, R.ATTESTATION_INVALID, sequence=-1)
    refused(market, ann, R.ATTESTATION_INVALID, sequence=2**60)


def test_contents_that_nobody_can_hold_are_refused() -> None:
    market = AttestedMarket(outside(), outside("quay"))
    ann = market.account("ann")
    refused(market, ann, R.CURRENCY_UNKNOWN, balances=((9, 1),))
    refused(market, ann, R.CURRENCY_UNKNOWN, balances=((-1, 1),))
    refused(market, ann, R.ATTESTATION_INVALID, balances=((1, 1), (0, 1)))
    refused(market, ann, R.ATTESTATION_INVALID, positions=((1, 1), (1, 1)))
    refused(market, ann, R.AMOUNT_TOO_LARGE, balances=((0, -(2**53)),))
    refused(market, ann, R.INSTRUMENT_UNKNOWN, positions=((99, 1),))
    most = market.state.contracts.lots_max[LINEAR_BTC]
    refused(market, ann, R.POSITION_LIMIT, positions=((LINEAR_BTC, -most - 1),))
    market.attest(ann, positions=[(LINEAR_BTC, most)], venue="quay")
    refused(market, ann, R.POSITION_LIMIT, positions=((LINEAR_BTC, -1),))


def test_a_command_comes_back_from_its_bytes() -> None:
    market = AttestedMarket()
    ann = market.account("ann")
    command = Attest(market.now, *market.word(ann, 5, coins=[(1, -3)], positions=[(CALL, 2)]))
    assert decode_command(*encode_command(command)) == command


def test_each_step_of_ageing_is_told_once() -> None:
    market = AttestedMarket()
    ann = market.account("ann")
    market.attest(ann, 1_000)
    aged = every(market.wait(70), CreditAged)
    assert [event.stage for event in aged] == [CreditStage.DECAYING, CreditStage.EXPIRED]
    assert [event.credit_minor for event in aged] == [882 * MINOR, 0]
    assert [event.full_minor for event in aged] == [900 * MINOR, 0]
    market.attest(ann, 1_000)
    assert [event.stage for event in every(market.wait(2), CreditAged)] == [CreditStage.FRESH]


def played() -> AttestedMarket:
    """A market in which attestations came, aged, called and came back."""
    market = AttestedMarket(outside(net_positions=True), outside("quay", credit_cap_minor=10**9))
    ann, bob = long_one_coin(market, 10_000)
    market.attest(ann, 15_000, coins=[(1, COIN // 10)], positions=[(LINEAR_BTC, -100)])
    market.attest(ann, 2_000, venue="quay")
    buy_one(market, ann, bob)
    market.wait(50)
    market.wait(3, 98_000)
    market.attest(ann, 16_000, positions=[(CALL, 10)], age_s=1)
    market.wait(2)
    return market


def test_attestations_are_part_of_the_hashed_state() -> None:
    market, other = AttestedMarket(), AttestedMarket()
    for each in (market, other):
        each.account("ann")
    assert market.engine.state_hash() == other.engine.state_hash()
    market.attest(0, 1)
    assert market.engine.state_hash() != other.engine.state_hash()


def test_a_snapshot_restores_attestations_and_what_they_count_for() -> None:
    market = played()
    engine = Engine.restore(market.engine.snapshot())
    assert engine.state_hash() == market.engine.state_hash()
    ours, theirs = market.engine.risk, engine.risk
    assert theirs.backing.credit == ours.backing.credit
    assert theirs.initial.tolist() == ours.initial.tolist()
    assert theirs.maintenance.tolist() == ours.maintenance.tolist()
    assert engine.gate.headroom == market.engine.gate.headroom
    market.log = []
    market.cycle(97_000)
    for command in market.log:
        engine.apply(command)
    assert engine.last_state_hash == market.engine.last_state_hash


def test_a_journal_with_attestations_recovers_to_the_same_state(tmp_path: Path) -> None:
    market = played()
    recovered = recover(write_journal(market, tmp_path / "attested.journal"), Engine)
    recovered.journal.close()
    assert recovered.engine.state_hash() == market.engine.state_hash()
    assert recovered.engine.risk.backing.credit == market.engine.risk.backing.credit


@pytest.mark.parametrize("part", range(1, 8))
def test_wherever_it_is_stopped_and_restored_it_ends_in_the_same_state(part: int) -> None:
    market = played()
    stop = len(market.log) * part // 8
    engine = Engine()
    for command in market.log[:stop]:
        engine.apply(command)
    engine = Engine.restore(engine.snapshot())
    for command in market.log[stop:]:
        engine.apply(command)
    assert engine.state_hash() == market.engine.state_hash()


def test_a_debt_beyond_all_reason_is_counted_within_bounds() -> None:
    market = AttestedMarket()
    ann = market.account("ann")
    market.attest(ann, coins=[(1, -(2**52))])
    market.cycle()
    assert market.credit(ann) == -(2**55)
    market.attest(ann, coins=[(1, 2**52)])
    market.cycle()
    assert market.credit(ann) <= 2**48


def test_a_replay_needs_no_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    market = played()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    engine = Engine()
    for command in market.log:
        engine.apply(command)
    assert engine.state_hash() == market.engine.state_hash()


def test_a_venue_without_outside_venues_has_no_such_part() -> None:
    market = Market(small())
    assert not [name for name, _ in market.state.parts() if name == "attestations"]


@pytest.mark.parametrize(
    ("terms", "problem"),
    [
        ({"name": ""}, "a name has 1 to"),
        ({"public_key": KEY[:-1]}, "public_key must be"),
        ({"public_key": KEY.upper()}, "public_key must be"),
        ({"haircut_ppb": 10**9 + 1}, "haircut"),
        ({"fresh_ns": 60 * SECOND}, "fresh_s must be below age_limit_s"),
        ({"transfer_delay_ns": -1}, "transfer_delay_s"),
        ({"credit_cap_minor": -1}, "credit_cap"),
        ({"delay_quantile_e9": 11 * 10**9}, "delay_quantile"),
    ],
)
def test_a_venue_s_outside_venues_are_checked(terms: dict[str, Any], problem: str) -> None:
    import msgspec

    with pytest.raises(VenueError, match=problem):
        validate(connected(msgspec.structs.replace(outside(), **terms)))


def test_outside_venues_have_different_names_and_are_few() -> None:
    with pytest.raises(VenueError, match="different names"):
        validate(connected(outside(), outside()))
    many = tuple(outside(f"quay {number}") for number in range(17))
    with pytest.raises(VenueError, match="at most 16"):
        validate(changed(connected(), outside_venues=many))
