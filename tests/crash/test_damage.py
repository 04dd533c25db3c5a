"""Files cut or rotten anywhere: whole batches and not behind the watermark, or a refusal."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from exchange.storage.faults import StorageRefused
from exchange.storage.journal import Journal
from exchange.storage.recovery import recover
from exchange.storage.snapshot import snapshot_files, snapshots_path
from replays.verify import verify
from tests.storage.toy_engine import ToyEngine, ToyStory, decode_toy, filled_store

CUTS = 500
FLIPS = 200


@dataclass
class Wreck:
    """The files of a store whose process died: part folded, part in the log."""

    folder: Path
    files: dict[str, bytes]
    hash_at: dict[int, bytes]  # state hash after each batch, by the head then
    marked: int

    def outcome(self, **changed: bytes) -> int:
        """Lay out the files with some changed and recover: the head reached, -1 if refused.

        Whatever is recovered must be the state after a whole batch, at the watermark or later.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        laid_out = {**self.files, **changed}
        for name, data in laid_out.items():
            (self.folder / name).write_bytes(data)
        try:
            found = recover(self.folder / "journal", ToyEngine, decode_toy)
        except StorageRefused:
            left = {name: (self.folder / name).read_bytes() for name in laid_out}
            assert left == laid_out, "what is refused stays as it is: it is evidence"
            return -1
        head = found.journal.head.sequence
        found.journal.abandon()
        found.watermark.close()
        assert head >= self.marked, "records the watermark knows of are lost"
        assert found.engine.state_hash() == self.hash_at[head], "not a whole batch"
        return head


@pytest.fixture(scope="module")
def wreck() -> Iterator[Wreck]:
    """30 batches: the first 6 folded into the main file, the watermark at 18, the rest beyond."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        source = Path(name) / "source"
        source.mkdir()
        hash_at = {0: ToyEngine().state_hash()}

        def after_batch(story: ToyStory, number: int) -> None:
            hash_at[story.journal.head.sequence] = story.engine.state_hash()
            if number == 6:
                story.journal.checkpoint()
            if number == 18:
                story.mark()

        story = filled_store(source / "journal", batches=30, seed=5, at_batch=after_batch)
        marked = story.watermark.read().sequence
        names = ("journal", "journal-wal", "journal.watermark")
        files = {name: (source / name).read_bytes() for name in names}
        story.journal.abandon()
        story.watermark.close()
        yield Wreck(Path(name) / "wreck", files, hash_at, marked)


def test_log_cut_at_any_byte_gives_a_prefix_of_whole_batches_or_a_refusal(wreck: Wreck) -> None:
    chance = random.Random(11)
    log = wreck.files["journal-wal"]
    cuts = [*sorted(chance.randrange(len(log)) for _ in range(CUTS)), len(log)]
    heads = [wreck.outcome(**{"journal-wal": log[:cut]}) for cut in cuts]
    assert heads == sorted(heads), "a longer log never gives less"
    assert heads[0] == -1
    assert set(heads) == {-1, *(head for head in wreck.hash_at if head >= wreck.marked)}
    assert heads[-1] == max(wreck.hash_at)


def test_flipped_bit_in_the_log_never_costs_a_record_under_the_watermark(wreck: Wreck) -> None:
    chance = random.Random(12)
    heads = []
    for _ in range(FLIPS):
        log = bytearray(wreck.files["journal-wal"])
        log[chance.randrange(len(log))] ^= 1 << chance.randrange(8)
        heads.append(wreck.outcome(**{"journal-wal": bytes(log)}))
    assert -1 in heads, "SQLite drops the rest without a word; the watermark notices"
    assert max(heads) > wreck.marked


def test_main_file_cut_or_flipped_is_refused_or_harmless(wreck: Wreck) -> None:
    chance = random.Random(13)
    good = wreck.files["journal"]
    for _ in range(FLIPS // 2):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        wreck.outcome(journal=bytes(data))
        wreck.outcome(journal=good[: chance.randrange(len(good))])


def test_folded_journal_cut_anywhere_is_refused(wreck: Wreck) -> None:
    assert wreck.outcome() == max(wreck.hash_at)
    path = wreck.folder / "journal"
    Journal.open(path).close()
    assert not (wreck.folder / "journal-wal").exists()
    good = path.read_bytes()
    for cut in random.Random(14).sample(range(len(good)), 100):
        path.write_bytes(good[:cut])
        assert not verify(path, ToyEngine, decode_toy).equal


def test_flipped_bit_in_the_watermark_leaves_the_older_mark_or_is_refused(wreck: Wreck) -> None:
    chance = random.Random(15)
    for _ in range(FLIPS // 4):
        data = bytearray(wreck.files["journal.watermark"])
        data[chance.choice((0, 4096)) + chance.randrange(80)] ^= 1 << chance.randrange(8)
        assert wreck.outcome(**{"journal.watermark": bytes(data)}) == max(wreck.hash_at)


def test_flipped_bit_in_a_snapshot_leads_to_the_same_state_without_it(tmp_path: Path) -> None:
    def after_batch(story: ToyStory, number: int) -> None:
        if number in (4, 8):
            story.snapshot()

    story = filled_store(tmp_path / "journal", at_batch=after_batch)
    story.mark()
    story.journal.close()
    story.watermark.close()
    newest = snapshot_files(snapshots_path(story.journal.path))[0]
    good, chance = newest.read_bytes(), random.Random(16)
    for _ in range(FLIPS // 10):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        newest.write_bytes(data)
        found = recover(story.journal.path, ToyEngine, decode_toy)
        found.journal.close()
        found.watermark.close()
        assert f"{found.snapshot_sequence:020}" not in newest.name
        assert found.engine.state_hash() == story.engine.state_hash()
