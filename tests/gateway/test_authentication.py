"""Who gets in: keys, signatures, tokens, scopes; over the socket and over HTTP."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from yarl import URL

from exchange.gateway.authentication import Authenticator, Identity, narrowed
from exchange.gateway.errors import WireError
from exchange.gateway.keys import Key, KeyRing
from tests.gateway.served_market import Client, ServedMarket, header, hmac_hex, now_ms, served
from tests.gateway.small_market import PERPETUAL

SUMMARY = "private/get_account_summary"
SUMMARY_URI = f"/api/v2/{SUMMARY}?currency=USDC"
NS = 10**9


class Wall:
    """A wall clock that a test moves."""

    def __init__(self) -> None:
        self.time_ns = 1_800_000_000 * NS

    def now_ns(self) -> int:
        return self.time_ns

    async def sleep_until(self, time_ns: int) -> None:
        raise AssertionError("nobody sleeps here")


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def gate(wall: Wall) -> Authenticator:
    keys = KeyRing()
    keys.add(Key("ann-key", "ann-secret", "ann"))
    keys.add(Key("bob-key", "bob-secret", "bob", ("read",)))
    return Authenticator(keys, wall)


def code_of(error: pytest.ExceptionInfo[WireError]) -> int:
    return error.value.code


async def by_signature(client: Client, *, secret: str = "ann-secret", ts: int | None = None,
                       nonce: str = "abc", **more: object) -> object:  # fmt: skip
    stamp = now_ms() if ts is None else ts
    signature = hmac_hex(secret, f"{stamp}\n{nonce}\n")
    return await client.answer(
        "public/auth", grant_type="client_signature", client_id="ann-key", timestamp=stamp,
        nonce=nonce, signature=signature, data="", **more,
    )  # fmt: skip


# The header of a request


@pytest.mark.parametrize("order", ["id,ts,sig,nonce", "id,ts,nonce,sig", "sig,nonce,ts,id"])
@pytest.mark.parametrize("separator", [",", ", "])
async def test_a_signed_request_is_its_signers_whatever_the_order_of_the_fields(
    order: str, separator: str
) -> None:
    async with served() as market:
        signed = header("GET", SUMMARY_URI, order=order, separator=separator)
        status, answer = await market.get(SUMMARY, signed, currency="USDC")
        assert status == 200
        assert answer["result"]["equity"] == 1_000_000


async def test_the_address_is_signed_as_it_was_sent() -> None:
    async with served() as market:
        query = f"instrument_name={quote(PERPETUAL)}&amount=0.01&price=99000%2E5"
        uri = f"/api/v2/private/buy?{query}"
        url = market.server.url + uri
        async with market.http.get(URL(url, encoded=True), headers=header("GET", uri)) as got:
            assert (await got.json())["result"]["order"]["price"] == 99_000.5


async def test_the_body_of_a_post_is_signed() -> None:
    async with served() as market:
        params = {"currency": "USDC"}
        body = json.dumps({"jsonrpc": "2.0", "id": 5, "method": SUMMARY, "params": params})
        signed = header("POST", "/api/v2", body)
        status, answer = await market.post(body, headers=signed)
        assert (status, answer["id"]) == (200, 5)
        status, answer = await market.post(body.replace("USDC", "BTC"), headers=signed)
        assert (status, answer["error"]["code"]) == (400, 13004)


@pytest.mark.parametrize(
    "change",
    [{"secret": "wrong"}, {"key": "nobody-key"}, {"ts": 0}, {"ts": now_ms() - 120_000},
     {"ts": now_ms() + 3_600_000}],
    ids=["wrong secret", "unknown key", "no time", "two minutes ago", "in an hour"],
)  # fmt: skip
async def test_a_wrong_signature_key_or_time_is_13004(change: dict[str, object]) -> None:
    async with served() as market:
        signed = header("GET", SUMMARY_URI, **change)  # type: ignore[arg-type]
        status, answer = await market.get(SUMMARY, signed, currency="USDC")
        assert (status, answer["error"]["code"]) == (400, 13004)
        assert answer["error"]["message"] == "invalid_credentials"


@pytest.mark.parametrize(
    "text",
    ["", "deri-hmac-sha256", "deri-hmac-sha256 id=a,ts=1", "deri-hmac-sha256 id=a,id=b,ts=1,sig=c",
     "deri-hmac-sha256 id=a,ts=1,sig=2,nonce=3,more=4", "deri-hmac-sha256 garbage", "Basic YTpi",
     "deri-hmac-sha256 id=ann-key,ts=NaN,sig=\u00ff,nonce=\u00e9"],
)  # fmt: skip
async def test_a_malformed_header_is_refused(text: str) -> None:
    async with served() as market:
        _, answer = await market.get("public/test", {"Authorization": text})
        assert answer["error"]["code"] == 13004
        assert (await market.get("public/test"))[0] == 200


async def test_the_same_nonce_twice_is_taken_within_the_window_only(
    gate: Authenticator, wall: Wall
) -> None:
    """ccxt's nonce is its millisecond clock: two calls in one millisecond are equal."""
    ts = wall.time_ns // 10**6
    value = header("GET", "/x", ts=ts)["Authorization"]
    for _ in range(2):
        assert gate.by_header(value, "GET", "/x", b"").account == "ann"
    wall.time_ns += (gate.window_ms + 1) * 10**6
    with pytest.raises(WireError) as caught:
        gate.by_header(value, "GET", "/x", b"")
    assert code_of(caught) == 13004


def test_an_unknown_key_and_a_wrong_secret_cannot_be_told_apart(gate: Authenticator) -> None:
    errors = []
    for key in ("ann-key", "nobody-key", "nobody"):
        with pytest.raises(WireError) as caught:
            gate.by_credentials(key, "guess")
        errors.append((caught.value.code, caught.value.message, caught.value.data))
        with pytest.raises(WireError) as caught:
            gate.by_signature(key, "1", b"text", "00")
        errors.append((caught.value.code, caught.value.message, caught.value.data))
    assert all(error == errors[0] for error in errors)
    with pytest.raises(WireError):
        gate.by_credentials("nobody", "a secret that opens nothing")


# public/auth


async def test_after_a_login_the_connection_stays_authenticated() -> None:
    async with served() as market:
        client = await market.connect()
        assert (await client.refusal(SUMMARY, currency="USDC"))["code"] == 13009
        granted = await client.log_in()
        assert granted["token_type"] == "bearer"
        assert granted["expires_in"] > 0
        assert (await client.ask(SUMMARY, currency="USDC"))["equity"] == 1_000_000


async def test_a_signature_logs_in_and_names_its_session() -> None:
    async with served() as market:
        client = await market.connect()
        answer = await by_signature(client, scope="session:nautilus-data")
        assert answer["result"]["scope"].startswith("session:nautilus-data ")  # type: ignore[index]
        assert await client.ask("private/get_open_orders") == []


@pytest.mark.parametrize("wrong", [{"secret": "wrong"}, {"ts": 1}], ids=str)
async def test_a_failed_signature_is_answered_and_then_ends_the_connection(
    wrong: dict[str, object],
) -> None:
    """ccxt.pro would wait for ever; the end of its socket is what it notices."""
    async with served() as market:
        client = await market.connect()
        answer = await by_signature(client, **wrong)  # type: ignore[arg-type]
        assert answer["error"]["code"] == 13004  # type: ignore[index]
        assert await client.ended() == 1008


async def test_failed_credentials_are_only_answered() -> None:
    async with served() as market:
        client = await market.connect()
        wrong = await client.refusal("public/auth", grant_type="client_credentials",
                                     client_id="ann-key", client_secret="x")  # fmt: skip
        assert wrong["code"] == 13004
        missing = await client.refusal("public/auth", grant_type="client_credentials")
        assert (missing["code"], missing["data"]["param"]) == (-32602, "client_id")
        assert await client.log_in()


async def test_a_token_opens_http_and_an_open_socket() -> None:
    async with served() as market:
        _, answer = await market.get(
            "public/auth", grant_type="client_credentials", client_id="ann-key",
            client_secret="ann-secret",
        )  # fmt: skip
        token = answer["result"]["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert (await market.get(SUMMARY, bearer, currency="USDC"))[0] == 200
        assert (await market.get(SUMMARY, currency="USDC", access_token=token))[0] == 200
        client = await market.connect()
        assert await client.ask("private/get_open_orders", access_token=token) == []
        bob = await market.connect("bob")
        assert (await bob.refusal("private/get_open_orders", access_token=token))["code"] == 13009
        wrong = {"Authorization": "Bearer nonsense"}
        _, answer = await market.get(SUMMARY, wrong, currency="USDC")
        assert answer["error"]["code"] == 13009


async def test_a_refresh_token_works_once_and_is_no_access_token() -> None:
    async with served() as market:
        client = await market.connect()
        first = await client.log_in()
        refresh = first["refresh_token"]
        other = await market.connect()
        again = await other.ask("public/auth", grant_type="refresh_token", refresh_token=refresh)
        assert again["access_token"] != first["access_token"]
        assert await other.ask("private/get_open_orders") == []
        spent = await other.refusal("public/auth", grant_type="refresh_token",
                                    refresh_token=refresh)  # fmt: skip
        assert spent["code"] == 13009
        wrong = await client.refusal("private/get_open_orders", access_token=again["refresh_token"])
        assert wrong["code"] == 13009


def test_tokens_end_with_their_time_their_key_and_their_revocation(
    gate: Authenticator, wall: Wall
) -> None:
    ann = gate.by_credentials("ann-key", "ann-secret")
    tokens = [str(gate.grant(ann)["access_token"]) for _ in range(3)]
    assert gate.by_token(tokens[0]) == ann
    gate.revoke("bob-key")
    assert gate.by_token(tokens[0]) == ann
    gate.revoke("ann-key")
    late = str(gate.grant(ann)["access_token"])
    wall.time_ns += gate.token_s * NS - 1
    assert gate.by_token(late) == ann
    wall.time_ns += 1
    for token in (*tokens, late):
        with pytest.raises(WireError) as caught:
            gate.by_token(token)
        assert code_of(caught) == 13009
    fresh = str(gate.grant(ann)["access_token"])
    del gate.keys.own["ann-key"]
    with pytest.raises(WireError):
        gate.by_token(fresh)


def test_the_memory_of_tokens_is_bounded(gate: Authenticator) -> None:
    ann = gate.by_credentials("ann-key", "ann-secret")
    first = str(gate.grant(ann)["access_token"])
    for _ in range(2_000):
        gate.grant(ann)
    assert len(gate._tokens) == 2_000
    with pytest.raises(WireError):
        gate.by_token(first)


# Scopes


async def test_a_key_that_may_read_cannot_trade() -> None:
    async with served() as market:
        reader = await market.connect("reader")
        assert (await reader.ask(SUMMARY, currency="USDC"))["equity"] == 1_000_000
        before = market.engine.state_hash()
        order: dict[str, object] = {"instrument_name": PERPETUAL, "amount": 0.01, "price": 99_000}
        cases: list[tuple[str, dict[str, object]]] = [
            ("private/buy", order),
            ("private/cancel_all", {}),
            ("private/withdraw", {"currency": "USDC", "amount": 1}),
            ("private/enable_cancel_on_disconnect", {"scope": "account"}),
        ]
        for method, params in cases:
            assert (await reader.refusal(method, **params))["code"] == 13021, method
        assert market.engine.state_hash() == before


async def test_a_session_may_ask_for_less_than_its_key_has() -> None:
    async with served() as market:
        client = await market.connect()
        granted = await client.ask(
            "public/auth", grant_type="client_credentials", client_id="ann-key",
            client_secret="ann-secret", scope="account:read trade:read", state="mine",
        )  # fmt: skip
        assert granted["scope"] == "connection account:read trade:read"
        assert granted["state"] == "mine"
        assert (await client.refusal("private/cancel_all"))["code"] == 13021
        refreshed = await client.ask(
            "public/auth", grant_type="refresh_token", refresh_token=granted["refresh_token"]
        )
        assert refreshed["scope"] == "connection account:read trade:read"


@pytest.mark.parametrize(
    ("asked", "left"),
    [("", {"read", "trade"}), ("session:x", {"read", "trade"}),
     ("trade:read_write", {"read", "trade"}), ("trade:read", {"read"}),
     ("account:read,trade:read_write", {"read", "trade"}),
     ("wallet:none", {"read", "trade"}), ("trade:none", {"read"})],
)  # fmt: skip
def test_scopes_in_deribits_words(asked: str, left: set[str]) -> None:
    assert narrowed(frozenset({"read", "trade"}), asked) == left
    assert narrowed(frozenset({"read"}), asked) == {"read"}


# Secrets


async def test_logout_spends_the_tokens_unless_asked_not_to() -> None:
    async with served() as market:
        for invalidate in (False, True):
            client = await market.connect()
            token = (await client.log_in())["access_token"]
            await client.ask("private/logout", invalidate_token=invalidate)
            assert await client.ended() == 1000
            headers = {"Authorization": f"Bearer {token}"}
            status, _ = await market.get(SUMMARY, headers, currency="USDC")
            assert status == (400 if invalidate else 200)


async def test_a_key_of_an_account_that_is_not_open_is_told_so() -> None:
    market: ServedMarket
    async with served() as market:
        market.keys.add(Key("new-key", "new-secret", "new"))
        client = await market.connect()
        wrong = await client.refusal("public/auth", grant_type="client_credentials",
                                     client_id="new-key", client_secret="new-secret")  # fmt: skip
        assert wrong["code"] == 13007


def test_nothing_printed_shows_a_secret(gate: Authenticator) -> None:
    key = gate.keys.find("ann-key")
    identity = gate.by_credentials("ann-key", "ann-secret")
    assert isinstance(identity, Identity)
    for thing in (key, identity, gate.keys.own, gate.grant):
        assert "ann-secret" not in repr(thing)
