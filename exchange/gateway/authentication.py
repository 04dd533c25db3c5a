"""Who a client is: keys, signatures and tokens, the way Deribit's API v2 asks for them.

Signatures carry the client's own wall-clock time, so they are compared with the machine's clock and
never with the market's, which may be simulated. A nonce may come twice: some clients use their
millisecond clock, and two requests in one millisecond are equal to the letter. What limits a
replay is the window; what keeps an order from entering twice is its client order id.

Whatever is wrong with a key, its secret or a signature gives the same error after the same work.
"""

from __future__ import annotations

import hmac
import secrets
from collections import deque
from hashlib import sha256
from typing import Literal

import msgspec

from exchange.clock import Clock
from exchange.gateway.errors import WireError
from exchange.gateway.keys import Key, KeyRing
from margin.fixed_point import NS_PER_SECOND

WINDOW_MS = 60_000
TOKEN_S = 3_600
REFRESH_S = 86_400
TOKENS_OF_A_KEY = 2_000
SCHEME = "deri-hmac-sha256"
_FIELDS = {"id", "ts", "sig", "nonce"}
_NOBODY = Key("nobody", "a secret that opens nothing", "nobody", ())

Use = Literal["access", "refresh"]


class Identity(msgspec.Struct, frozen=True):
    """Who was recognised: the key, its account by name, and what the session may do."""

    key_id: str
    account: str
    scopes: frozenset[str]

    def narrowed_to(self, asked: str) -> Identity:
        """The same with less, where a client asked for less."""
        return Identity(self.key_id, self.account, narrowed(self.scopes, asked))


class _Token(msgspec.Struct, frozen=True):
    identity: Identity
    use: Use
    ends_ns: int


def invalid_credentials(reason: str = "the key, its secret or the signature is wrong") -> WireError:
    """13004: nobody was recognised."""
    return WireError(13004, "invalid_credentials", {"reason": reason})


def invalid_token() -> WireError:
    """13009: the token was never given, has expired or was revoked."""
    return WireError(13009, "unauthorized", {"reason": "invalid_token"})


def signature_of(secret: str, text: bytes) -> str:
    """HMAC-SHA256 in hex."""
    return hmac.new(secret.encode(), text, sha256).hexdigest()


def session_text(timestamp: str, nonce: str, data: str) -> bytes:
    """What the grant `client_signature` signs."""
    return f"{timestamp}\n{nonce}\n{data}".encode()


def request_text(timestamp: str, nonce: str, method: str, address: str, body: bytes) -> bytes:
    """What the header of a request signs; `address` is the raw path with its query."""
    return f"{timestamp}\n{nonce}\n{method}\n{address}\n".encode() + body + b"\n"


def narrowed(scopes: frozenset[str], asked: str) -> frozenset[str]:
    """What is left of a key's scopes when a client asks for less.

    `asked` is Deribit's list (`trade:read session:name ...`): access levels count, the rest (names
    of sessions, lifetimes, wallets) changes nothing.
    """
    levels = [word.partition(":")[2] for word in asked.replace(",", " ").split()
              if word.partition(":")[0] in ("account", "trade")]  # fmt: skip
    if levels and "read_write" not in levels:
        return scopes & {"read"}
    return scopes


def scope_text(scopes: frozenset[str], asked: str = "") -> str:
    """Scopes in Deribit's words, with the session's name if it was given one."""
    named = [word for word in asked.replace(",", " ").split() if word.startswith("session:")]
    level = "read_write" if "trade" in scopes else "read"
    return " ".join([*(named[:1] or ["connection"]), "account:read", f"trade:{level}"])


class Authenticator:
    """Recognises keys and tokens. `clock` must be the wall clock."""

    def __init__(self, keys: KeyRing, clock: Clock, *, window_ms: int = WINDOW_MS,
                 token_s: int = TOKEN_S, refresh_s: int = REFRESH_S) -> None:  # fmt: skip
        self.keys, self.clock = keys, clock
        self.window_ms, self.token_s, self.refresh_s = window_ms, token_s, refresh_s
        self._tokens: dict[bytes, _Token] = {}
        self._of_key: dict[str, deque[bytes]] = {}

    # Recognising

    def by_credentials(self, key_id: str, secret: str) -> Identity:
        """The holder of a key and its secret. Raises `WireError` 13004."""
        key = self.keys.find(key_id) or _NOBODY
        expected, given = (sha256(text.encode()).digest() for text in (key.secret, secret))
        if not hmac.compare_digest(expected, given) or key is _NOBODY:
            raise invalid_credentials()
        return _identity(key)

    def by_signature(self, key_id: str, timestamp_ms: str, text: bytes, signature: str) -> Identity:
        """The signer of a text that holds this time. Raises `WireError` 13004."""
        key = self.keys.find(key_id) or _NOBODY
        expected = signature_of(key.secret, text).encode()
        given = signature.lower().encode(errors="replace")
        if not hmac.compare_digest(expected, given) or key is _NOBODY:
            raise invalid_credentials()
        # Told apart only for who knows the secret: a clock that is wrong is hard to find otherwise.
        digits = timestamp_ms.isascii() and timestamp_ms.isdigit() and len(timestamp_ms) <= 16
        now_ms = self.clock.now_ns() // 10**6
        if not digits or abs(int(timestamp_ms) - now_ms) > self.window_ms:
            raise invalid_credentials(
                f"the timestamp is more than {self.window_ms // 1000} s from the venue's {now_ms}"
            )
        return _identity(key)

    def by_header(self, value: str, method: str, address: str, body: bytes) -> Identity:
        """The sender of a request with an `Authorization` header, signed or with a token.

        Raises `WireError` 13004 or 13009.
        """
        scheme, _, rest = value.strip().partition(" ")
        if scheme.lower() == "bearer":
            return self.by_token(rest.strip())
        if scheme.lower() != SCHEME:
            raise invalid_credentials(f"the authorization is neither Bearer nor {SCHEME}")
        fields = {}
        for pair in rest.split(","):
            name, equals, text = pair.strip().partition("=")
            if not equals or name in fields or name not in _FIELDS:
                raise invalid_credentials("the header needs id, ts, sig and nonce, once each")
            fields[name] = text.strip()
        if fields.keys() != _FIELDS:
            raise invalid_credentials("the header needs id, ts, sig and nonce, once each")
        text_signed = request_text(fields["ts"], fields["nonce"], method, address, body)
        return self.by_signature(fields["id"], fields["ts"], text_signed, fields["sig"])

    def by_token(self, token: str, use: Use = "access") -> Identity:
        """The holder of a token. Raises `WireError` 13009."""
        found = self._tokens.get(_digest(token))
        if found is None or found.use != use or found.ends_ns <= self.clock.now_ns():
            raise invalid_token()
        if self.keys.find(found.identity.key_id) is None:
            raise invalid_token()
        return found.identity

    # Tokens

    def grant(self, identity: Identity, asked: str = "") -> dict[str, object]:
        """Tokens for an identity, as `public/auth` answers them. The oldest ones make room."""
        return {
            "access_token": self._token(identity, "access", self.token_s),
            "refresh_token": self._token(identity, "refresh", self.refresh_s),
            "expires_in": self.token_s,
            "scope": scope_text(identity.scopes, asked),
            "token_type": "bearer",
            "enabled_features": [],
        }

    def exchange(self, refresh_token: str) -> Identity:
        """The holder of a refresh token, which works once. Raises `WireError` 13009."""
        identity = self.by_token(refresh_token, "refresh")
        del self._tokens[_digest(refresh_token)]
        return identity

    def revoke(self, key_id: str) -> None:
        """Forget all tokens of a key."""
        for digest in self._of_key.pop(key_id, ()):
            self._tokens.pop(digest, None)

    def _token(self, identity: Identity, use: Use, life_s: int) -> str:
        token = secrets.token_urlsafe(32)
        digest = _digest(token)
        kept = self._of_key.setdefault(identity.key_id, deque())
        if len(kept) >= TOKENS_OF_A_KEY:
            self._tokens.pop(kept.popleft(), None)
        kept.append(digest)
        ends_ns = self.clock.now_ns() + life_s * NS_PER_SECOND
        self._tokens[digest] = _Token(identity, use, ends_ns)
        return token


def _identity(key: Key) -> Identity:
    return Identity(key.id, key.account, frozenset(key.scopes))


def _digest(token: str) -> bytes:
    """Tokens are kept by their digest, so looking one up tells nothing by its time."""
    return sha256(token.encode(errors="replace")).digest()
