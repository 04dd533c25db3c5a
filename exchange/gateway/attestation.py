"""The text that an outside venue signs: read strictly, after its signature was verified.

What is signed is the text itself, character by character, so nobody has to agree on how to write
JSON. The engine gets what it says with the signature beside it, and never looks at the latter.
"""

from __future__ import annotations

import hashlib
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from exchange.core import limits
from exchange.core.reject_reason import RejectReason
from exchange.core.stored.state import State
from exchange.core.venue import Venue
from exchange.gateway.account_view import currency_of
from exchange.gateway.errors import invalid_params, refused
from exchange.gateway.instrument_view import slot_of
from exchange.gateway.parameters import AttestationParameters, Name
from exchange.gateway.strict_json import JsonRefused, check_json
from exchange.gateway.units import NS_PER_MS, decimal_text, minor_of, multiple_of

PARAM = "attestation"


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What is signed. `venue` is who may use it: a word for another venue is worth nothing here.

    `timestamp`: when it was true, milliseconds. `balances`: by currency, what could be withdrawn
    there with the positions closed at the mark; negative where the account owes. `positions`: by
    the names of contracts here, sized as in private/get_positions.
    """

    purpose: Literal["uncross attestation 1"]
    venue: Name
    outside_venue: Name
    account: Name
    sequence: int
    timestamp: int
    balances: dict[Name, Decimal]
    positions: dict[Name, Decimal] = {}


class Verified(NamedTuple):
    """A document whose signature holds, the SHA-256 of its text, and the signature's bytes."""

    document: Document
    digest: bytes
    signature: bytes


_decode = msgspec.json.Decoder(Document).decode


def verified(venue: Venue, params: AttestationParameters) -> Verified:
    """Read a text and verify its signature by the key of the outside venue that it names.

    Raises `WireError`: -32602 where it is no such document, 701 for an outside venue that the venue
    does not have, 704 for a signature that is not its own, 705 for a word meant for another venue.
    """
    try:
        check_json(params.attestation)
        document = _decode(params.attestation)
    except (JsonRefused, msgspec.DecodeError, RecursionError) as error:
        raise invalid_params(f"{PARAM}: {error}", PARAM) from None
    number = venue.outside_number(document.outside_venue)
    if number < 0:
        raise refused(RejectReason.OUTSIDE_VENUE_UNKNOWN, param=PARAM)
    text = params.attestation.encode()
    signature = _signature(params.signature)
    if not is_signed(venue.outside_venues[number].public_key, text, signature):
        raise refused(RejectReason.ATTESTATION_FORGED, param="signature")
    if document.venue != venue.name:
        reason = f"it is meant for the venue {document.venue!r}"
        raise refused(RejectReason.ATTESTATION_INVALID, reason, PARAM)
    return Verified(document, hashlib.sha256(text).digest(), signature)


def _signature(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise invalid_params("signature must be hexadecimal digits", "signature") from None


def is_signed(public_key: str, text: bytes, signature: bytes) -> bool:
    """Whether an Ed25519 signature over a text is that of a public key (hexadecimal)."""
    # Loaded by venues with outside venues only.
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, text)
    except (InvalidSignature, ValueError):
        return False
    return True


def command_fields(state: State, found: Verified) -> tuple[object, ...]:
    """The fields of the `Attest` command that a verified document stands for, in their order.

    Raises `WireError` for unknown names and for amounts that are no whole minor units or lots.
    """
    document = found.document
    account = state.accounts.number_of.get(document.account)
    if account is None:
        raise refused(RejectReason.ACCOUNT_UNKNOWN, param=PARAM)
    bounds = document.sequence, document.timestamp
    if not all(0 <= number <= limits.ATTESTATION_SEQUENCE_MAX for number in bounds):
        reason = "sequence and timestamp are from 0 to 2^53"
        raise refused(RejectReason.ATTESTATION_INVALID, reason, PARAM)
    balances: dict[int, int] = {}
    for name, amount in document.balances.items():
        currency = currency_of(state, name)
        if currency in balances:
            reason = f"{name} comes twice"
            raise refused(RejectReason.ATTESTATION_INVALID, reason, PARAM)
        balances[currency] = minor_of(currency, amount)
    positions = {slot_of(state, name, PARAM): _lots(state, name, size)
                 for name, size in document.positions.items()}  # fmt: skip
    return (
        document.outside_venue, account, document.sequence, document.timestamp * NS_PER_MS,
        tuple(sorted(balances.items())), tuple(sorted(positions.items())),
        found.digest, found.signature,
    )  # fmt: skip


def _lots(state: State, name: str, size: Decimal) -> int:
    spec = state.contracts.specs[slot_of(state, name)]
    lots = multiple_of(size, spec.lot_e8) if size.is_finite() else None
    if lots is None:
        reason = f"{name}: the size must be a multiple of {decimal_text(spec.lot_e8)}"
        raise refused(RejectReason.ATTESTATION_INVALID, reason, PARAM)
    return lots
