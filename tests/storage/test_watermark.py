"""The watermark survives a torn write in one slot, and refuses to guess when both are bad."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from exchange.storage.faults import WatermarkFailed, WatermarkMissing, WatermarkRefused
from exchange.storage.watermark import Mark, Watermark, read_mark

SLOTS = (0, 4096)


def chain(number: int) -> bytes:
    return bytes([number]) * 32


@pytest.fixture
def watermark(tmp_path: Path) -> Any:
    created = Watermark.create(tmp_path / "mark", Mark(0, chain(0)))
    yield created
    created.close()


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_newest_write_is_read_back(watermark: Watermark) -> None:
    for number in (1, 2, 30):
        watermark.write(number, chain(number))
        assert watermark.read() == read_mark(watermark.path) == (number, chain(number))
    watermark.close()
    reopened = Watermark.open(watermark.path)
    reopened.write(31, chain(31))
    assert reopened.read() == (31, chain(31))
    reopened.close()


def test_slots_are_written_alternately(watermark: Watermark) -> None:
    changed: list[int] = []
    before = watermark.path.read_bytes()
    for number in range(1, 5):
        watermark.write(number, chain(number))
        after = watermark.path.read_bytes()
        changed += [
            slot for slot, at in enumerate(SLOTS) if before[at : at + 80] != after[at : at + 80]
        ]
        before = after
    assert changed == [1, 0, 1, 0]


@pytest.mark.parametrize("offset", range(80))
def test_one_damaged_slot_leaves_the_other_one(watermark: Watermark, offset: int) -> None:
    watermark.write(1, chain(1))
    watermark.write(2, chain(2))
    flip(watermark.path, SLOTS[0] + offset, bit=offset % 8)
    assert read_mark(watermark.path) == (1, chain(1))


def test_damaged_slot_is_the_next_to_be_written(watermark: Watermark) -> None:
    watermark.write(1, chain(1))
    watermark.write(2, chain(2))
    watermark.close()
    flip(watermark.path, SLOTS[0])
    reopened = Watermark.open(watermark.path)
    reopened.write(3, chain(3))
    reopened.close()
    flip(watermark.path, SLOTS[0])
    assert read_mark(watermark.path) == (1, chain(1)), "the good slot was not overwritten"


def test_both_slots_damaged_is_refused(watermark: Watermark) -> None:
    watermark.write(1, chain(1))
    for slot in SLOTS:
        flip(watermark.path, slot + 20)
    with pytest.raises(WatermarkRefused, match="both slots"):
        read_mark(watermark.path)
    with pytest.raises(WatermarkRefused, match="both slots"):
        Watermark.open(watermark.path)


@pytest.mark.parametrize("size", [0, 1, 79])
def test_truncated_file_is_refused(watermark: Watermark, size: int) -> None:
    os.truncate(watermark.path, size)
    with pytest.raises(WatermarkRefused):
        read_mark(watermark.path)


def test_missing_file_is_told_apart_from_a_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(WatermarkMissing, match="missing"):
        read_mark(tmp_path / "none")


def test_existing_watermark_is_not_created_anew(watermark: Watermark) -> None:
    watermark.write(9, chain(9))
    with pytest.raises(FileExistsError):
        Watermark.create(watermark.path, Mark(0, chain(0)))
    assert watermark.read() == (9, chain(9))


def test_watermark_never_goes_back(watermark: Watermark) -> None:
    watermark.write(5, chain(5))
    watermark.write(5, chain(5))
    with pytest.raises(ValueError, match="cannot go back"):
        watermark.write(4, chain(4))
    with pytest.raises(ValueError, match="cannot go back"):
        watermark.write(5, chain(6))
    with pytest.raises(ValueError, match="32 bytes"):
        watermark.write(6, b"short")
    assert watermark.read() == (5, chain(5))


def test_every_write_is_synced_before_it_returns(
    watermark: Watermark, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr("exchange.storage.watermark.sync_file", synced.append)
    watermark.write(1, chain(1))
    watermark.write(2, chain(2))
    assert len(synced) == 2


def test_failed_write_stops_the_watermark(
    watermark: Watermark, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "no disk")

    watermark.write(1, chain(1))
    with monkeypatch.context() as patched:
        patched.setattr("exchange.storage.watermark.sync_file", fail)
        with pytest.raises(WatermarkFailed, match="no disk"):
            watermark.write(2, chain(2))
    with pytest.raises(WatermarkFailed, match="refused, because"):
        watermark.write(2, chain(2))
    assert read_mark(watermark.path).sequence in (1, 2)


def test_short_write_stops_the_watermark(
    watermark: Watermark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: len(data) - 1)
    with pytest.raises(WatermarkFailed, match="short write"):
        watermark.write(1, chain(1))


def test_closed_watermark_refuses_calls(watermark: Watermark) -> None:
    watermark.close()
    watermark.close()
    with pytest.raises(WatermarkFailed, match="closed"):
        watermark.write(1, chain(1))
