"""A market whose venue takes the word of outside venues, for tests; unsigned, as in the core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from exchange.core.commands import Attest
from exchange.core.events import Event
from exchange.core.outside_venue import OutsideVenue
from exchange.core.stored.attestations import Attestation
from exchange.core.venue import Venue
from tests.core.market import BUY, SECOND, SELL, Market, small

MINOR = 10**6
COIN = 10**8
HARBOUR = "harbour"
KEY = "ab" * 32


def outside(name: str = HARBOUR, **terms: Any) -> OutsideVenue:
    """An outside venue: haircut 10 %, fresh for 10 s, worth nothing from 60 s on, no delay."""
    given = {
        "haircut_ppb": 10**8, "transfer_delay_ns": 0, "fresh_ns": 10 * SECOND,
        "age_limit_ns": 60 * SECOND,
    }  # fmt: skip
    return OutsideVenue(name=name, public_key=KEY, **{**given, **terms})


def connected(*outsides: OutsideVenue, **parts: Any) -> Venue:
    """The `small` venue with outside venues; margin calls last three cycles of a second."""
    calls = {"deadline_cycles": 3}
    named = outsides or (outside(),)
    return small(**{"calls": calls, "outside_venues": named, **parts})


class AttestedMarket(Market):
    """A `Market` with words of outside venues in it."""

    def __init__(self, *outsides: OutsideVenue, **parts: Any) -> None:
        super().__init__(connected(*outsides, **parts))
        self.sequences: dict[tuple[str, int], int] = {}

    def word(
        self, account: int, usdc: int = 0, *, coins: Sequence[tuple[int, int]] = (),
        positions: Sequence[tuple[int, int]] = (), venue: str = HARBOUR, age_s: int = 0,
    ) -> tuple[Any, ...]:  # fmt: skip
        """The fields of the next attestation, whole USDC and minor units of coins by number."""
        sequence = self.sequences.get((venue, account), 0) + 1
        balances = (*([(0, usdc * MINOR)] if usdc else []), *coins)
        observed = self.now - age_s * SECOND
        return venue, account, sequence, observed, balances, tuple(positions), b"d" * 32, b"s" * 64

    def attest(self, account: int, usdc: int = 0, **named: Any) -> list[Event]:
        """Take an attestation."""
        fields = self.word(account, usdc, **named)
        self.sequences[fields[0], account] = fields[2]
        return self.do(Attest, *fields)

    def credit(self, account: int) -> int:
        return self.engine.risk.backing.credit.get(self.pool(account), 0)

    def known(self, account: int, number: int = 0) -> Attestation:
        found = self.state.attestations.latest(account, number)
        assert found is not None
        return found

    def wait(self, seconds: int, *index: int) -> list[Event]:
        """Cycles of one second each, at these indices."""
        events: list[Event] = []
        for _ in range(seconds):
            events += self.cycle(*index)
        return events


def long_one_coin(market: AttestedMarket, usdc: int) -> tuple[int, int]:
    """`ann` with so much USDC and one bitcoin long at 100,000; `bob` on the other side."""
    ann, bob = market.account("ann", usdc=usdc), market.account("bob")
    return ann, bob


def buy_one(market: AttestedMarket, ann: int, bob: int) -> None:
    """`ann` buys one bitcoin of `bob` at the mark."""
    market.place(ann, BUY, 1_000, 200_000)
    market.place(bob, SELL, 1_000, 200_000)
    market.cycle()
    assert market.lots(ann) == 1_000
