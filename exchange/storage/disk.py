"""Durable files and names, and the lock that keeps a second writer out."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from exchange.storage.faults import JournalRefused

_FULL_SYNC = getattr(fcntl, "F_FULLFSYNC", None)  # Apple's fsync stops at the drive's cache


def sync_file(descriptor: int) -> None:
    """Return once the file's bytes are on the disk, or raise OSError."""
    if _FULL_SYNC is not None:
        fcntl.fcntl(descriptor, _FULL_SYNC)
    else:
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make names created, renamed or removed in `directory` durable, or raise OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, data: bytes) -> None:
    """Let a file of exactly `data` appear at `path`, durable, or leave what was there.

    Raises OSError; the name then still leads to the old file, or to none.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            sync_file(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


class WriterLock:
    """An exclusive lock on `<journal>.lock`, released by the system if the process ends.

    The file holds the process number of the owner, for the message to the second comer.
    """

    def __init__(self, journal_path: Path) -> None:
        """Take the lock. Raises JournalRefused if another writer holds it or it cannot be made."""
        self._path = journal_path.with_name(journal_path.name + ".lock")
        self._descriptor = -1
        try:
            while self._descriptor < 0:
                self._descriptor = self._taken()
            os.truncate(self._descriptor, 0)
            os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        except OSError as error:
            self.release()
            raise JournalRefused(f"{self._path}: cannot lock the journal ({error})") from error

    def _taken(self) -> int:
        """A descriptor that holds the lock, or -1 if the file was removed meanwhile."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(self._path)):
                return descriptor
        except BlockingIOError:
            owner = os.pread(descriptor, 20, 0).decode(errors="replace") or "unknown"
            os.close(descriptor)
            raise JournalRefused(
                f"{self._path}: the journal is in use by another writer, process {owner}"
            ) from None
        except FileNotFoundError:
            pass
        os.close(descriptor)
        return -1

    def release(self) -> None:
        """Remove the file and let others in. Releasing twice is allowed."""
        if self._descriptor >= 0:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
        self._descriptor = -1
