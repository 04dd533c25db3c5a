"""What outside venues last said of each account: balances, positions, and when that was true.

Part of the hashed state, and of a venue that declares outside venues only. What it counts for is
derived (`outside_credit`), since it falls with every revaluation.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import msgspec

from exchange.core.commands import Attest
from exchange.core.outside_venue import OutsideVenue
from exchange.core.venue import Venue

_encode = msgspec.msgpack.Encoder().encode


class CreditStage(IntEnum):
    """How far an attestation has aged."""

    FRESH = 0
    DECAYING = 1
    EXPIRED = 2


class Attestation(msgspec.Struct):
    """The latest word of one outside venue on one account; fields as in `Attest`.

    `stage`: what its owner was last told of its age.
    """

    sequence: int
    observed_ns: int
    balances: tuple[tuple[int, int], ...]
    positions: tuple[tuple[int, int], ...]
    digest: bytes
    stage: int = CreditStage.FRESH


class Attestations:
    """Attestations by account and outside venue."""

    def __init__(self, venue: Venue) -> None:
        self.outside_venues = venue.outside_venues
        self.of_account: dict[int, dict[int, Attestation]] = {}
        self._bytes: bytes | None = None

    def __bool__(self) -> bool:
        """Whether anything was ever attested."""
        return bool(self.of_account)

    def of(self, account: int) -> list[tuple[OutsideVenue, Attestation]]:
        """An account's attestations with the venues that they are from, by the venues' number."""
        known = self.of_account.get(account, {})
        return [(self.outside_venues[number], known[number]) for number in sorted(known)]

    def latest(self, account: int, number: int) -> Attestation | None:
        """The latest word of an outside venue on an account."""
        return self.of_account.get(account, {}).get(number)

    def outside_lots(self, account: int, instrument: int, but: int) -> int:
        """Lots of a contract at all outside venues `but` one, long and short added up in size."""
        return sum(
            abs(lots)
            for number, known in sorted(self.of_account.get(account, {}).items())
            if number != but
            for slot, lots in known.positions
            if slot == instrument
        )

    def take(self, number: int, command: Attest) -> None:
        """Replace what the outside venue said before."""
        before = self.latest(command.account, number)
        taken = Attestation(
            command.sequence, command.observed_ns, command.balances, command.positions,
            command.digest, CreditStage.FRESH if before is None else before.stage,
        )  # fmt: skip
        self.of_account.setdefault(command.account, {})[number] = taken
        self._bytes = None

    def tell(self, attestation: Attestation, stage: CreditStage) -> None:
        """Remember that the owner was told how far an attestation has aged."""
        attestation.stage = stage
        self._bytes = None

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes, by account and outside venue; nothing where there are none."""
        if not self.outside_venues:
            return
        if self._bytes is None:
            self._bytes = _encode(
                [
                    (account, number, known[number])
                    for account, known in sorted(self.of_account.items())
                    for number in sorted(known)
                ]
            )
        yield "attestations", self._bytes

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        if not self.outside_venues:
            return
        rows = list[tuple[int, int, Attestation]]
        for account, number, known in msgspec.msgpack.decode(parts["attestations"], type=rows):
            self.of_account.setdefault(account, {})[number] = known
        self._bytes = None
