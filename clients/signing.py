"""Logging in without sending the secret: `public/auth` with the grant `client_signature`."""

from __future__ import annotations

import hashlib
import hmac
import secrets

GRANT = "client_signature"
NONCE_BYTES = 8


def new_nonce() -> str:
    """A text that makes a signature differ from the one before."""
    return secrets.token_hex(NONCE_BYTES)


def client_signature(secret: str, timestamp_ms: int, nonce: str, data: str = "") -> str:
    """HMAC-SHA256 over `timestamp \\n nonce \\n data`, keyed by the secret, in hex.

    Source: Deribit API v2, public/auth. Without `data` the text ends in a newline.
    """
    text = f"{timestamp_ms}\n{nonce}\n{data}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def login(
    key: str, secret: str, timestamp_ms: int, nonce: str | None = None, data: str = ""
) -> dict[str, object]:
    """The parameters of `public/auth`; `timestamp_ms` is the wall clock's, whatever the market's.

    The secret is not among them.
    """
    nonce = nonce or new_nonce()
    return {
        "grant_type": GRANT,
        "client_id": key,
        "timestamp": timestamp_ms,
        "nonce": nonce,
        "data": data,
        "signature": client_signature(secret, timestamp_ms, nonce, data),
    }
