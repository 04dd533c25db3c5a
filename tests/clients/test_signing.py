"""The signature of a log-in, against values made by openssl."""

from __future__ import annotations

from clients.signing import client_signature, login, new_nonce

# printf '1700000000000\nabcd\n' | openssl dgst -sha256 -hmac 'a secret', and with `more` as data
OF_NOTHING = "15d62d0444850a4ba7a808978b034e80cc20b674fdfa3294f69b8267f04f62f8"
OF_DATA = "13314baf65de3d9252c8cc09d8b814574f310bd5950f09b6ab97a5843fd16a62"


def test_signature_is_that_of_time_nonce_and_data_on_three_lines() -> None:
    assert client_signature("a secret", 1_700_000_000_000, "abcd") == OF_NOTHING
    assert client_signature("a secret", 1_700_000_000_000, "abcd", "more") == OF_DATA


def test_login_sends_key_and_signature_but_never_the_secret() -> None:
    assert login("a key", "a secret", 1_700_000_000_000, "abcd") == {
        "grant_type": "client_signature",
        "client_id": "a key",
        "timestamp": 1_700_000_000_000,
        "nonce": "abcd",
        "data": "",
        "signature": OF_NOTHING,
    }
    assert "a secret" not in str(login("a key", "a secret", 1))


def test_two_logins_of_one_millisecond_differ() -> None:
    assert new_nonce() != new_nonce()
    assert login("k", "s", 1)["signature"] != login("k", "s", 1)["signature"]
