"""An outside venue: signs what it holds for an account, for another venue to count as margin.

A real one would sign with a key of its own and tell the public half. `simulated` makes one whose
key follows from its name, so that demos and tests are the same everywhere: whoever reads this can
sign as it, so no market with real money may name its key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PURPOSE = "uncross attestation 1"
METHOD = "public/submit_attestation"


class OutsideVenue:
    """A venue of this name that signs with this key; each word on an account has the next number.

    `sequences`: the last number of each (venue, account) that was signed; a venue that starts again
    must go on from there.
    """

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self.name, self._key = name, key
        self.sequences: dict[tuple[str, str], int] = {}

    @property
    def public_key(self) -> str:
        """The public half of the key, 64 hexadecimal digits: `public_key` of the venue file."""
        return self._key.public_key().public_bytes_raw().hex()

    def attest(
        self, venue: str, account: str, timestamp_ms: int,
        balances: Mapping[str, Decimal | int | str],
        positions: Mapping[str, Decimal | int | str] | None = None,
    ) -> dict[str, object]:  # fmt: skip
        """The parameters of `public/submit_attestation` for `venue`: the text and its signature.

        `balances` by currency, negative where the account owes; `positions` by contract of that
        venue, sized as there. `timestamp_ms`: when it was true, by that venue's clock.
        """
        sequence = self.sequences.get((venue, account), 0) + 1
        self.sequences[venue, account] = sequence
        text = json.dumps({
            "purpose": PURPOSE,
            "venue": venue,
            "outside_venue": self.name,
            "account": account,
            "sequence": sequence,
            "timestamp": timestamp_ms,
            "balances": {name: str(amount) for name, amount in balances.items()},
            "positions": {name: str(size) for name, size in (positions or {}).items()},
        })  # fmt: skip
        return {"attestation": text, "signature": self.sign(text)}

    def sign(self, text: str) -> str:
        """The Ed25519 signature over a text's UTF-8 bytes, in hexadecimal."""
        return self._key.sign(text.encode()).hex()


def outside_venue(name: str, private_key: bytes) -> OutsideVenue:
    """An outside venue with a private key of 32 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return OutsideVenue(name, Ed25519PrivateKey.from_private_bytes(private_key))


def simulated(name: str) -> OutsideVenue:
    """An outside venue whose key is SHA-256 of its name: everybody's, for play."""
    return outside_venue(name, hashlib.sha256(f"simulated outside venue {name}".encode()).digest())
