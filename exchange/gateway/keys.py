"""API keys: who may act for which account, in a file of mode 600 that is no part of the journal.

The secret of a key signs requests, so the venue must hold it as it is; what protects it is the mode
of the file, which is refused when others can read it. A secret is never logged, journaled or
listed: it is shown once, when the key is made.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from exchange.storage.disk import sync_directory, sync_file

MODE = 0o600
SECRET_BYTES = 32
Scope = Literal["read", "trade"]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[!-~]+$")]
Secret = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Stamp = tuple[int, int, int]


class KeysRefused(ValueError):
    """A key file that cannot be used, or a key that cannot be made; says why."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key of an account: its public identifier, its secret, what it may do."""

    id: Text
    secret: Secret
    account: Text
    scopes: tuple[Scope, ...] = ("read", "trade")

    def __repr__(self) -> str:
        """Without the secret: keys end up in tracebacks."""
        return f"Key({self.id!r}, account={self.account!r}, scopes={self.scopes})"


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file holds."""

    keys: list[Key]


def new_key(account: str, scopes: tuple[Scope, ...] = ("read", "trade"), key_id: str = "") -> Key:
    """A key with a random secret, and a random identifier unless one is given."""
    key = Key(key_id or secrets.token_hex(8), secrets.token_urlsafe(SECRET_BYTES), account, scopes)
    return checked_key(key)


def checked_key(key: Key) -> Key:
    """The key, if its fields are within bounds. Raises `KeysRefused`."""
    try:
        return msgspec.convert(msgspec.to_builtins(key), Key)
    except msgspec.ValidationError as error:
        raise KeysRefused(f"a key's names are 1 to 64 printed characters: {error}") from None


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file, by identifier. Raises `KeysRefused`, FileNotFoundError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise KeysRefused(f"{path}: not a file")
        if status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            raise KeysRefused(f"{path}: others can read it (mode {mode:o}); chmod 600 {path}")
        data = file.read()
    try:
        found = msgspec.json.decode(data, type=KeyFile).keys
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysRefused(f"{path}: not a file of keys: {error}") from None
    keys = {key.id: key for key in found}
    if len(keys) != len(found):
        raise KeysRefused(f"{path}: an identifier comes twice")
    return keys


def write_keys(path: Path, keys: dict[str, Key]) -> None:
    """Let the file hold these keys, whole and durable, readable by its owner only."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, MODE)
            data = msgspec.json.encode(KeyFile(list(keys.values())))
            file.write(msgspec.json.format(data, indent=1) + b"\n")
            file.flush()
            sync_file(descriptor)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


@contextmanager
def _changing(path: Path) -> Iterator[dict[str, Key]]:
    """The keys of a file to change, one process at a time; written back unless it raises."""
    lock = path.with_name(path.name + ".lock")
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        keys = read_keys(path) if path.exists() else {}
        yield keys
        write_keys(path, keys)
    finally:
        os.close(descriptor)


def add_key(path: Path, key: Key) -> None:
    """Add a key to a file, which is made if need be. Raises `KeysRefused` where it exists."""
    checked_key(key)
    with _changing(path) as keys:
        if key.id in keys:
            raise KeysRefused(f"{path}: there is a key {key.id!r} already")
        keys[key.id] = key


def remove_key(path: Path, key_id: str) -> Key:
    """Take a key out of a file. Raises `KeysRefused` where there is none."""
    if not path.exists():
        raise KeysRefused(f"{path}: there is no such file")
    with _changing(path) as keys:
        if key_id not in keys:
            raise KeysRefused(f"{path}: there is no key {key_id!r}")
        return keys.pop(key_id)


class KeyRing:
    """The keys that a venue knows: those of a file, which may change meanwhile, and its own.

    The file is looked at again at every question, so a key that was added works at once and one
    that was removed opens nothing more. A file that cannot be used after a change opens nothing
    either; `refusal` then says why.
    """

    def __init__(self, path: Path | None = None) -> None:
        """Read the file, if it is there. Raises `KeysRefused`."""
        self.path = path
        self.own: dict[str, Key] = {}
        self.refusal = ""
        self._stamp: _Stamp | None = None
        self._of_file: dict[str, Key] = {}
        self._refresh()
        if self.refusal:
            raise KeysRefused(self.refusal)

    def add(self, key: Key) -> None:
        """Know a key of this process only. Raises `KeysRefused` where there is one of its name."""
        checked_key(key)
        if self.find(key.id) is not None:
            raise KeysRefused(f"there is a key {key.id!r} already")
        self.own[key.id] = key

    def find(self, key_id: str) -> Key | None:
        """The key of an identifier."""
        self._refresh()
        return self.own.get(key_id) or self._of_file.get(key_id)

    def accounts(self) -> list[str]:
        """The accounts that have a key, own keys first."""
        self._refresh()
        keys = [*self.own.values(), *self._of_file.values()]
        return list(dict.fromkeys(key.account for key in keys))

    def _refresh(self) -> None:
        if self.path is None:
            return
        try:
            status = os.stat(self.path)
        except FileNotFoundError:
            self._stamp, self._of_file, self.refusal = None, {}, ""
            return
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._of_file, self.refusal = read_keys(self.path), ""
        except (KeysRefused, OSError) as error:
            self._of_file, self.refusal = {}, str(error)
