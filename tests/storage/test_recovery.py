"""Recovery reaches the durable state from any good snapshot, or refuses with the place."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from exchange.storage.faults import (
    JournalCorrupt,
    JournalRefused,
    ReplayDiverged,
    StorageRefused,
    WatermarkMissing,
    WatermarkRefused,
)
from exchange.storage.journal import Journal
from exchange.storage.recovery import (
    STATE_HASH_KIND,
    Recovered,
    close_new_store,
    create_store,
    encode_state_hash,
    recover,
)
from exchange.storage.snapshot import snapshot_files, snapshots_path
from exchange.storage.watermark import read_mark, watermark_path
from tests.storage.toy_engine import ToyEngine, ToyStory, decode_toy, filled_store, finished_store


def recovered(path: Path, **options: bool) -> Recovered[ToyEngine]:
    """Recover and close the files again."""
    found = recover(path, ToyEngine, decode_toy, **options)
    found.journal.close()
    found.watermark.close()
    return found


def closed(story: ToyStory) -> Path:
    story.journal.close()
    story.watermark.close()
    return story.journal.path


def edit(path: Path, sql: str, *values: int) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(sql, values)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and not file.name.endswith("-shm")
    }


def test_replay_reaches_the_same_state_hash(tmp_path: Path) -> None:
    story = finished_store(tmp_path / "journal")
    found = recovered(tmp_path / "journal")
    assert found.engine.state_hash() == story.engine.state_hash()
    assert found.engine.cycle == 4
    assert found.snapshot_sequence == 0
    assert found.replayed > 30


def test_new_store_recovers_to_a_new_engine(tmp_path: Path) -> None:
    journal, watermark = create_store(tmp_path / "journal")
    journal.close()
    watermark.close()
    found = recovered(tmp_path / "journal")
    assert found.replayed == 0
    assert found.engine.state_hash() == ToyEngine().state_hash()


def test_snapshot_and_tail_equal_replay_from_the_first_record_at_every_batch(
    tmp_path: Path,
) -> None:
    states: list[int] = []

    def keep(story: ToyStory, number: int) -> None:
        folder = tmp_path / str(number)
        story.snapshot()
        shutil.copytree(snapshots_path(story.journal.path), folder)
        states.append(number)

    story = filled_store(tmp_path / "journal", batches=12, at_batch=keep)
    story.mark()
    head = story.journal.head.sequence
    path = closed(story)
    for number in states:
        shutil.rmtree(snapshots_path(path))
        shutil.copytree(tmp_path / str(number), snapshots_path(path))
        for whole_chain in (True, False):
            found = recovered(path, whole_chain=whole_chain)
            assert found.engine.state_hash() == story.engine.state_hash()
            assert found.snapshot_sequence > 0
            assert found.snapshot_sequence + found.replayed == head


def test_recovered_journal_goes_on_where_it_stopped(tmp_path: Path) -> None:
    finished_store(tmp_path / "journal")
    found = recover(tmp_path / "journal", ToyEngine, decode_toy)
    story = ToyStory(found.journal, found.watermark, found.engine, seed=3)
    story.batch(closes=True)
    story.batch(closes=False)
    story.mark()
    closed(story)
    again = recovered(tmp_path / "journal")
    assert again.engine.state_hash() == story.engine.state_hash()


def test_recovery_folds_the_log_and_moves_the_watermark_to_the_head(tmp_path: Path) -> None:
    story = filled_store(tmp_path / "journal")
    head = story.journal.head
    story.journal.abandon()
    assert read_mark(watermark_path(tmp_path / "journal")).sequence == 0
    found = recover(tmp_path / "journal", ToyEngine, decode_toy)
    assert found.watermark.read() == head
    found.journal.abandon()
    (tmp_path / "journal-wal").unlink(missing_ok=True)
    assert recovered(tmp_path / "journal").replayed == head.sequence


def test_bad_snapshots_are_passed_over_and_named(tmp_path: Path) -> None:
    story = filled_store(tmp_path / "journal", at_batch=lambda story, number: story.snapshot())
    story.mark()
    path = closed(story)
    newest, older = snapshot_files(snapshots_path(path))
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    found = recovered(path)
    assert found.engine.state_hash() == story.engine.state_hash()
    assert f"after-{found.snapshot_sequence:020}" in older.name
    assert len(found.refused_snapshots) == 1
    older.write_bytes(b"")
    found = recovered(path)
    assert found.engine.state_hash() == story.engine.state_hash()
    assert found.snapshot_sequence == 0
    assert len(found.refused_snapshots) == 2


class ForgetfulEngine(ToyEngine):
    """Loses part of its state in a snapshot."""

    @classmethod
    def restore(cls, data: bytes) -> ForgetfulEngine:
        engine = super().restore(data)
        engine.total = 0
        return engine


class BrittleEngine(ToyEngine):
    """Cannot read the snapshot at all."""

    @classmethod
    def restore(cls, data: bytes) -> BrittleEngine:
        raise KeyError("an older layout")


@pytest.mark.parametrize("engine_type", [ForgetfulEngine, BrittleEngine])
def test_snapshot_that_does_not_restore_to_its_hash_is_not_used(
    tmp_path: Path, engine_type: type[ToyEngine]
) -> None:
    story = filled_store(tmp_path / "journal", at_batch=lambda story, number: story.snapshot())
    closed(story)
    found = recover(tmp_path / "journal", engine_type, decode_toy)
    found.journal.close()
    assert found.snapshot_sequence == 0
    assert found.engine.state_hash() == story.engine.state_hash()
    assert len(found.refused_snapshots) == 2


def test_snapshot_of_another_journal_is_not_used(tmp_path: Path) -> None:
    other = filled_store(
        tmp_path / "other", seed=1, at_batch=lambda story, number: story.snapshot()
    )
    story = finished_store(tmp_path / "journal", batches=20, seed=2)
    shutil.copytree(snapshots_path(closed(other)), snapshots_path(tmp_path / "journal"))
    found = recovered(tmp_path / "journal")
    assert found.snapshot_sequence == 0
    assert "not the journal's" in found.refused_snapshots[0]
    assert found.engine.state_hash() == story.engine.state_hash()


# --- refusals -----------------------------------------------------------------------------------


def refusal_of(path: Path, **options: bool) -> StorageRefused:
    """The refusal of a recovery, which must change no file and hold no lock."""
    before = contents(path.parent)
    with pytest.raises(StorageRefused) as refusal:
        recover(path, ToyEngine, decode_toy, **options)
    after = contents(path.parent)
    assert {name: data for name, data in after.items() if data or name in before} == before
    return refusal.value


def test_journal_that_ends_before_the_watermark_is_refused_with_what_is_missing(
    tmp_path: Path,
) -> None:
    path = finished_store(tmp_path / "journal").journal.path
    last = read_mark(watermark_path(path)).sequence
    edit(path, "DELETE FROM records WHERE sequence > ?", last - 3)
    refusal = refusal_of(path)
    assert isinstance(refusal, JournalCorrupt)
    assert refusal.sequence == last - 2
    assert f"records {last - 2} to {last} were durable" in str(refusal)


def test_journal_with_another_history_than_the_watermark_is_refused(tmp_path: Path) -> None:
    path = finished_store(tmp_path / "journal", seed=1).journal.path
    finished_store(tmp_path / "other", batches=30, seed=2)
    path.write_bytes((tmp_path / "other").read_bytes())
    refusal = refusal_of(path)
    assert isinstance(refusal, JournalCorrupt)
    assert refusal.sequence == read_mark(watermark_path(path)).sequence


def test_missing_watermark_is_refused_unless_allowed(tmp_path: Path) -> None:
    story = finished_store(tmp_path / "journal")
    path = story.journal.path
    watermark_path(path).unlink()
    assert isinstance(refusal_of(path), WatermarkMissing)
    found = recovered(path, allow_missing_watermark=True)
    assert found.engine.state_hash() == story.engine.state_hash()
    assert read_mark(watermark_path(path)).sequence == found.replayed, "it is made anew"


def test_damaged_watermark_is_refused_even_if_a_missing_one_is_allowed(tmp_path: Path) -> None:
    path = finished_store(tmp_path / "journal").journal.path
    watermark_path(path).write_bytes(bytes(8192))
    assert isinstance(refusal_of(path, allow_missing_watermark=True), WatermarkRefused)


def test_snapshot_beyond_the_head_proves_that_records_are_missing(tmp_path: Path) -> None:
    story = filled_store(tmp_path / "journal", at_batch=lambda story, number: story.snapshot())
    path = closed(story)
    edit(path, "DELETE FROM records WHERE sequence > 20")
    refusal = refusal_of(path)
    assert isinstance(refusal, JournalCorrupt)
    assert refusal.sequence == 21


@pytest.mark.parametrize("whole_chain", [True, False])
def test_damage_before_the_snapshot_is_found_if_the_whole_chain_is_read(
    tmp_path: Path, whole_chain: bool
) -> None:
    story = filled_store(tmp_path / "journal", at_batch=lambda story, number: story.snapshot())
    path = closed(story)
    edit(path, "UPDATE records SET kind = 'Sub' WHERE sequence = 2")
    if whole_chain:
        refusal = refusal_of(path)
        assert isinstance(refusal, JournalCorrupt)
        assert refusal.sequence == 2
    else:
        found = recovered(path, whole_chain=False)
        assert found.engine.state_hash() == story.engine.state_hash()


class DriftingEngine(ToyEngine):
    """Computes otherwise than the engine that wrote the journal, from the second cycle on."""

    def apply(self, command: tuple[str, int]) -> list[str]:
        kind, amount = command
        return super().apply((kind, amount + (self.cycle >= 1)))


def test_replay_that_reaches_another_hash_is_refused_at_its_cycle(tmp_path: Path) -> None:
    story = finished_store(tmp_path / "journal")
    with pytest.raises(ReplayDiverged, match="cycle 2") as refusal:
        recover(story.journal.path, DriftingEngine, decode_toy)
    assert refusal.value.cycle == 2
    assert refusal.value.expected != refusal.value.got
    assert not (tmp_path / "journal.lock").exists()


def noted_store(path: Path, note: bytes) -> Path:
    journal, watermark = create_store(path)
    journal.append([(0, "Add", bytes(8)), (0, "Close", bytes(8))])
    journal.append([(0, STATE_HASH_KIND, note)])
    journal.close()
    watermark.close()
    return path


def test_note_of_a_cycle_that_did_not_end_there_is_refused(tmp_path: Path) -> None:
    engine = ToyEngine()
    for command in (("Add", 0), ("Close", 0)):
        engine.apply(command)
    right, wrong = (encode_state_hash(cycle, engine.last_state_hash) for cycle in (1, 2))
    assert recovered(noted_store(tmp_path / "right", right)).engine.cycle == 1
    with pytest.raises(ReplayDiverged, match="last cycle that the replay finished is 1"):
        recovered(noted_store(tmp_path / "wrong", wrong))
    with pytest.raises(JournalCorrupt, match="40 bytes"):
        recovered(noted_store(tmp_path / "short", right[:-1]))


def test_state_hash_note_is_cycle_then_hash_big_endian() -> None:
    assert encode_state_hash(258, b"h" * 32) == bytes([0, 0, 0, 0, 0, 0, 1, 2]) + b"h" * 32
    with pytest.raises(ValueError, match="32 bytes"):
        encode_state_hash(1, b"h")


def test_record_that_cannot_be_decoded_is_refused_at_its_number(tmp_path: Path) -> None:
    story = filled_store(tmp_path / "journal")
    head = story.journal.append([(0, "Dance", b"")])
    path = closed(story)
    refusal = refusal_of(path)
    assert isinstance(refusal, JournalCorrupt)
    assert refusal.sequence == head
    assert "Dance cannot be decoded" in str(refusal)


class FaultyEngine(ToyEngine):
    def apply(self, command: tuple[str, int]) -> list[str]:
        raise ArithmeticError("trial balance")


def test_exception_of_the_engine_passes_through_and_names_the_record(tmp_path: Path) -> None:
    path = finished_store(tmp_path / "journal").journal.path
    with pytest.raises(ArithmeticError) as error:
        recover(path, FaultyEngine, decode_toy)
    assert "journal record 1 (Add)" in error.value.__notes__[0]
    with Journal.open(path):
        pass  # the lock was released


# --- creation -----------------------------------------------------------------------------------


def test_new_store_is_not_made_over_the_remains_of_another(tmp_path: Path) -> None:
    story = filled_store(tmp_path / "journal", at_batch=lambda story, number: story.snapshot())
    story.mark()
    path = closed(story)
    with pytest.raises(JournalRefused, match="already"):
        create_store(path)
    path.unlink()
    with pytest.raises(JournalRefused, match="a snapshot of a journal that is not there"):
        create_store(path)
    shutil.rmtree(snapshots_path(path))
    with pytest.raises(JournalRefused, match="the watermark of a journal that is not there"):
        create_store(path)
    watermark_path(path).unlink()
    journal, watermark = create_store(path)
    assert journal.head.sequence == watermark.read().sequence == 0
    journal.close()
    watermark.close()
    assert sorted(os.listdir(tmp_path)) == ["journal", "journal.watermark"]


def test_new_files_without_a_record_are_removed_when_they_are_closed(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    for _ in range(2):
        close_new_store(*create_store(path))
        assert os.listdir(tmp_path) == []
    journal, watermark = create_store(path)
    journal.append([(1, "Add", b"x")])
    watermark.write(*journal.head)
    close_new_store(journal, watermark)
    close_new_store(journal, watermark)
    assert sorted(os.listdir(tmp_path)) == ["journal", "journal.watermark"]
