"""A small deterministic engine, and a store filled by it, for the tests of storage."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Self

from exchange.storage.journal import Journal
from exchange.storage.recovery import STATE_HASH_KIND, create_store, encode_state_hash
from exchange.storage.snapshot import Snapshot, snapshots_path, write_snapshot
from exchange.storage.watermark import Watermark

_STATE = struct.Struct(">qqq32s")
Row = tuple[int, str, bytes]


class ToyEngine:
    """Mixes every number it is given into one; `Close` ends a cycle."""

    def __init__(self) -> None:
        self.total = 0
        self.applied = 0
        self.cycle = 0
        self.last_state_hash = bytes(32)

    def apply(self, command: tuple[str, int]) -> list[str]:
        kind, amount = command
        self.applied += 1
        if kind == "Close":
            self.cycle += 1
            self.last_state_hash = self.state_hash()
        else:
            self.total = (self.total * 31 + amount) % (2**61 - 1)
        return [kind]

    def snapshot(self) -> bytes:
        return _STATE.pack(self.total, self.applied, self.cycle, self.last_state_hash)

    @classmethod
    def restore(cls, data: bytes) -> Self:
        engine = cls()
        engine.total, engine.applied, engine.cycle, engine.last_state_hash = _STATE.unpack(data)
        return engine

    def state_hash(self) -> bytes:
        return sha256(struct.pack(">qqq", self.total, self.applied, self.cycle)).digest()


def decode_toy(kind: str, payload: bytes) -> tuple[str, int]:
    if kind not in ("Add", "Close") or len(payload) < 8:
        raise ValueError(f"not a toy command: {kind!r} with {len(payload)} bytes")
    return kind, int.from_bytes(payload[:8], "big")


class ToyStory:
    """Writes batches of random commands the way a sequencer does: journal first, then apply."""

    def __init__(
        self, journal: Journal, watermark: Watermark, engine: ToyEngine, seed: int
    ) -> None:
        self.journal, self.watermark, self.engine = journal, watermark, engine
        self.chance = random.Random(seed)
        self.note_due = False

    def batch(self, closes: bool, payload_bytes: int = 40) -> int:
        """One durable batch, applied; returns the head."""
        rows: list[Row] = []
        if self.note_due:
            note = encode_state_hash(self.engine.cycle, self.engine.last_state_hash)
            rows.append((self.engine.applied, STATE_HASH_KIND, note))
        for _ in range(self.chance.randint(1, 6)):
            rows.append((self.engine.applied, "Add", self.chance.randbytes(payload_bytes)))
        if closes:
            rows.append((self.engine.applied, "Close", bytes(8)))
        head = self.journal.append(rows)
        self.note_due = closes
        for _, kind, payload in rows:
            if kind != STATE_HASH_KIND:
                self.engine.apply(decode_toy(kind, payload))
        return head

    def mark(self) -> None:
        self.watermark.write(*self.journal.head)

    def snapshot(self) -> None:
        head, engine = self.journal.head, self.engine
        write_snapshot(
            snapshots_path(self.journal.path),
            Snapshot(head.sequence, head.chain, engine.state_hash(), engine.snapshot()),
        )


def filled_store(
    path: Path,
    batches: int = 12,
    seed: int = 7,
    at_batch: Callable[[ToyStory, int], None] = lambda story, number: None,
) -> ToyStory:
    """A new store with that many batches, a cycle every third; the story is still open."""
    journal, watermark = create_store(path)
    story = ToyStory(journal, watermark, ToyEngine(), seed)
    for number in range(1, batches + 1):
        story.batch(closes=number % 3 == 0)
        at_batch(story, number)
    return story


def finished_store(path: Path, batches: int = 12, seed: int = 7) -> ToyStory:
    """A store closed in good order: marked at the head, one self-contained file."""
    story = filled_store(path, batches, seed)
    story.mark()
    story.journal.close()
    story.watermark.close()
    return story
