"""A market's files: its journal with watermark and snapshots, new or recovered."""

from __future__ import annotations

from pathlib import Path

from exchange.core.engine import Engine
from exchange.storage.recovery import close_new_store, create_store, recover
from exchange.storage.snapshot import Snapshot, snapshots_path, write_snapshot

SNAPSHOT_CYCLES = 100


class MarketStore:
    """The engine with the files that it is journaled to.

    `replayed` counts the commands that were applied on top of a snapshot, `resumed` tells whether
    the journal held a market already.
    """

    def __init__(self, path: Path) -> None:
        """Create the journal, or recover what it holds. Raises StorageRefused or StorageFailed."""
        self.replayed = 0
        self._is_new = not path.exists()
        if not self._is_new:
            recovered = recover(path, Engine)
            self.engine, self.replayed = recovered.engine, recovered.replayed
            self.journal, self.watermark = recovered.journal, recovered.watermark
        else:
            self.engine = Engine()
            self.journal, self.watermark = create_store(path)
        self.resumed = self.journal.head.sequence > 0

    def secure(self) -> None:
        """After a cycle: the watermark, the log's folding, now and then a snapshot."""
        self.watermark.write(*self.journal.head)
        self.journal.checkpoint()
        if self.engine.cycle % SNAPSHOT_CYCLES == 0:
            self.write_snapshot()

    def write_snapshot(self) -> None:
        """Save the engine as it stands, so that recovery replays only what follows."""
        head, engine = self.journal.head, self.engine
        snapshot = Snapshot(head.sequence, head.chain, engine.state_hash(), engine.snapshot())
        write_snapshot(snapshots_path(self.journal.path), snapshot)

    def close(self) -> None:
        """Close the files; new ones without a record are removed. Closing twice is allowed."""
        if self._is_new:
            close_new_store(self.journal, self.watermark)
            return
        self.watermark.close()
        self.journal.close()
