"""A second witness of how far the journal reached, kept in a file of its own.

SQLite cannot tell rot in its write-ahead log from a torn tail: one flipped bit in the middle drops
every later transaction without a word. So the sequence and the chain at some durable record are
also written here, and recovery refuses a journal that does not reach them.
"""

from __future__ import annotations

import os
import struct
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from exchange.storage.disk import sync_file, write_whole
from exchange.storage.faults import WatermarkFailed, WatermarkMissing, WatermarkRefused

_MAGIC = b"UNCXWM01"
_BODY = struct.Struct(">8sq32s")  # magic, sequence, chain
_SLOT_BYTES = 4096  # a slot of its own page each: a torn write of one cannot touch the other
_FILE_BYTES = 2 * _SLOT_BYTES


class Mark(NamedTuple):
    """The journal is known to have held record `sequence` with this `chain` (32 bytes)."""

    sequence: int
    chain: bytes


def watermark_path(journal_path: Path) -> Path:
    """Where the watermark of a journal lies."""
    return journal_path.with_name(journal_path.name + ".watermark")


def read_mark(path: Path) -> Mark:
    """The newest valid slot of the watermark file, opened for reading only.

    Raises WatermarkMissing if there is no file, WatermarkRefused if no slot is valid.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise WatermarkMissing(
            f"{path}: the watermark is missing; without it records lost at the end of the journal "
            "cannot be noticed"
        ) from None
    return _newest(path, data)[1]


def _encode(mark: Mark) -> bytes:
    body = _BODY.pack(_MAGIC, mark.sequence, mark.chain)
    return body + sha256(body).digest()


def _decode(slot: bytes) -> Mark | None:
    body, checksum = slot[: _BODY.size], slot[_BODY.size : _BODY.size + 32]
    if len(body) != _BODY.size or sha256(body).digest() != checksum:
        return None
    magic, sequence, chain = _BODY.unpack(body)
    return Mark(sequence, chain) if magic == _MAGIC and sequence >= 0 else None


def _newest(path: Path, data: bytes) -> tuple[int, Mark]:
    """Number of the newest valid slot, and its mark."""
    slots = [_decode(data[start : start + _SLOT_BYTES]) for start in (0, _SLOT_BYTES)]
    valid = [(mark.sequence, number) for number, mark in enumerate(slots) if mark is not None]
    if not valid:
        raise WatermarkRefused(f"{path}: both slots of the watermark are damaged")
    number = max(valid)[1]
    mark = slots[number]
    if mark is None:
        raise WatermarkRefused(f"{path}: slot {number} is damaged")
    return number, mark


class Watermark:
    """The watermark file, open for writing by the one process that writes the journal."""

    def __init__(self, path: Path, descriptor: int, slot: int, mark: Mark) -> None:
        self.path = path
        self._descriptor = descriptor
        self._slot = slot
        self._mark = mark
        self._failed: str | None = None

    @classmethod
    def create(cls, path: Path, mark: Mark) -> Watermark:
        """A new file that holds `mark`. Raises FileExistsError if there is one already.

        The file appears under its name only when it is whole and durable.
        """
        if path.exists():
            raise FileExistsError(f"{path}: a watermark exists already")
        write_whole(path, _encode(mark).ljust(_FILE_BYTES, b"\0"))
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> Watermark:
        """Open for writing. Raises WatermarkMissing or WatermarkRefused like `read_mark`."""
        read_mark(path)
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            slot, mark = _newest(path, os.pread(descriptor, _FILE_BYTES, 0))
        except BaseException:
            os.close(descriptor)
            raise
        return cls(path, descriptor, slot, mark)

    def read(self) -> Mark:
        """The newest mark, read from the file again. Raises WatermarkRefused if none is valid."""
        self._require_usable()
        return _newest(self.path, os.pread(self._descriptor, _FILE_BYTES, 0))[1]

    def write(self, sequence: int, chain: bytes) -> None:
        """Record that the journal holds `sequence` durably, with this chain of 32 bytes.

        The older slot is overwritten, so that a torn write leaves the newer one. Call it only
        after the record's commit returned. Raises ValueError if the mark would go back (or be
        another chain for the same sequence), WatermarkFailed on a disk error; then it is unusable.
        """
        self._require_usable()
        if len(chain) != 32:
            raise ValueError(f"a chain has 32 bytes, not {len(chain)}")
        if sequence == self._mark.sequence and chain == self._mark.chain:
            return
        if sequence <= self._mark.sequence:
            raise ValueError(f"the watermark cannot go back: {sequence} <= {self._mark.sequence}")
        mark, slot = Mark(sequence, chain), 1 - self._slot
        data = _encode(mark)
        try:
            written = os.pwrite(self._descriptor, data, slot * _SLOT_BYTES)
            if written != len(data):
                raise OSError(f"short write: {written} of {len(data)} bytes")
            sync_file(self._descriptor)
        except BaseException as error:
            self._failed = f"writing it at record {sequence} failed: {error!r}"
            if not isinstance(error, Exception):
                raise
            raise WatermarkFailed(f"{self.path}: {self._failed}") from error
        self._mark, self._slot = mark, slot

    def close(self) -> None:
        """Close the file; nothing is written. Closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _require_usable(self) -> None:
        if self._failed is not None:
            raise WatermarkFailed(f"{self.path}: refused, because {self._failed}")
        if self._descriptor < 0:
            raise WatermarkFailed(f"{self.path}: the watermark is closed")
