"""The key file: for its owner's eyes only, whole at every moment, read again when it changes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.gateway.keys import (
    Key,
    KeyRing,
    KeysRefused,
    add_key,
    new_key,
    read_keys,
    remove_key,
    write_keys,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys"


def test_the_file_is_its_owners_alone_from_its_first_byte(path: Path) -> None:
    add_key(path, new_key("ann"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o600)
    add_key(path, new_key("bob"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [key.account for key in read_keys(path).values()] == ["ann", "bob"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_touch_is_refused(path: Path, mode: int) -> None:
    add_key(path, new_key("ann"))
    path.chmod(mode)
    with pytest.raises(KeysRefused, match="chmod 600"):
        KeyRing(path)


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"keys":[{"id":"a"}]}', '{"keys":[{"id":"a","secret":"s","account":"x y"}]}',
     '{"keys":[{"id":"a","secret":"s","account":"x","scopes":["admin"]}]}',
     '{"keys":[{"id":"a","secret":"s","account":"x"},{"id":"a","secret":"t","account":"y"}]}'],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused_without_its_secrets(path: Path, text: str) -> None:
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(KeysRefused) as caught:
        KeyRing(path)
    assert '"s"' not in str(caught.value)


def test_random_keys_are_long_and_differ() -> None:
    first, second = new_key("ann"), new_key("ann")
    assert first.id != second.id
    assert first.secret != second.secret
    assert len(first.secret) >= 43
    assert first.secret not in repr(first)


def test_an_identifier_is_given_once(path: Path) -> None:
    add_key(path, Key("one", "s", "ann"))
    with pytest.raises(KeysRefused, match="already"):
        add_key(path, Key("one", "t", "bob"))
    ring = KeyRing(path)
    with pytest.raises(KeysRefused, match="already"):
        ring.add(Key("one", "t", "bob"))
    with pytest.raises(KeysRefused, match="no key"):
        remove_key(path, "two")


def test_a_change_of_the_file_counts_at_once(path: Path) -> None:
    ring = KeyRing(path)
    assert ring.find("one") is None
    add_key(path, Key("one", "s", "ann"))
    assert ring.find("one") == Key("one", "s", "ann")
    assert ring.accounts() == ["ann"]
    remove_key(path, "one")
    assert ring.find("one") is None
    path.unlink()
    ring.add(Key("two", "s", "bob"))
    assert ring.accounts() == ["bob"]


def test_a_file_that_becomes_readable_to_others_opens_nothing_more(path: Path) -> None:
    add_key(path, Key("one", "s", "ann"))
    ring = KeyRing(path)
    assert ring.find("one") is not None
    path.chmod(0o644)
    assert ring.find("one") is None
    assert "chmod 600" in ring.refusal
    path.chmod(0o600)
    assert ring.find("one") is not None


def test_nothing_is_left_behind_by_a_write_that_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_keys(path, {"one": Key("one", "s", "ann")})

    def failing(descriptor: int) -> None:
        raise OSError("no room")

    monkeypatch.setattr("exchange.gateway.keys.sync_file", failing)
    with pytest.raises(OSError, match="no room"):
        write_keys(path, {})
    assert list(read_keys(path)) == ["one"]
    assert [found.name for found in path.parent.iterdir()] == ["keys"]


def test_the_command_shows_a_secret_once(path: Path) -> None:
    run = CliRunner().invoke
    added = run(main, ["keys", "add", str(path), "ann", "--id", "mine"])
    assert added.exit_code == 0, added.output
    secret = read_keys(path)["mine"].secret
    assert secret in added.output
    run(main, ["keys", "add", str(path), "bob", "--read-only"])
    listed = run(main, ["keys", "list", str(path)])
    assert "mine  ann  read trade" in listed.output
    assert listed.output.count("\n") == 2
    assert all(key.secret not in listed.output for key in read_keys(path).values())
    removed = run(main, ["keys", "remove", str(path), "mine"])
    assert (removed.exit_code, "mine" in read_keys(path)) == (0, False)
    refused = run(main, ["keys", "remove", str(path), "mine"])
    assert refused.exit_code == 1
    assert "there is no key 'mine'" in refused.output
