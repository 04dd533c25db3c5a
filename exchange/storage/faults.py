"""What can go wrong with files: refused when reading, failed when writing."""

from __future__ import annotations


class StorageRefused(Exception):
    """What is on disk cannot be trusted or is not ours; nothing is served from it."""


class StorageFailed(Exception):
    """A write did not certainly reach the disk. The object refuses every further call.

    The write may or may not be found by the next recovery. Never retry, never answer the request:
    end the process and recover; the log decides.
    """


class JournalRefused(StorageRefused):
    """The file cannot be opened as a journal: missing, not ours, another version, in use."""


class JournalCorrupt(StorageRefused):
    """A record is damaged, missing or out of place. `sequence` says where, `what` says how."""

    def __init__(self, sequence: int, what: str) -> None:
        super().__init__(f"journal record {sequence}: {what}")
        self.sequence = sequence
        self.what = what


class JournalFailed(StorageFailed):
    """A commit or checkpoint failed; whether its batch is durable is decided by recovery."""


class WatermarkRefused(StorageRefused):
    """The watermark file cannot be read."""


class WatermarkMissing(WatermarkRefused):
    """There is no watermark file beside the journal."""


class WatermarkFailed(StorageFailed):
    """Writing the watermark failed; the journal itself is not affected."""


class SnapshotRefused(StorageRefused):
    """A snapshot is damaged, or does not belong to this journal or engine."""


class ReplayDiverged(StorageRefused):
    """The replayed engine's hash of a cycle is not the one that the journal holds.

    `expected` is the journal's hash, `got` the engine's; `sequence` is the record of the note.
    """

    def __init__(self, cycle: int, expected: bytes, got: bytes, sequence: int, what: str) -> None:
        super().__init__(f"cycle {cycle} (journal record {sequence}): {what}")
        self.cycle = cycle
        self.expected = expected
        self.got = got
        self.sequence = sequence
        self.what = what
