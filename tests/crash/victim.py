"""A journaling process to be killed: prints the head after every durable batch.

Arguments: journal path, seed, number of batches (0: until killed), bytes of each payload. Prints
`head <sequence>` only after the commit returned, and `refused <what>` when storage stops it.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

for heavy in ("pandas", "numpy"):  # optional to sqlite-utils, and slow to import twenty times
    sys.modules[heavy] = None  # type: ignore[assignment]

from exchange.storage.faults import StorageFailed  # noqa: E402
from exchange.storage.recovery import create_store, recover  # noqa: E402
from tests.storage.toy_engine import ToyEngine, ToyStory, decode_toy  # noqa: E402


def main(path: Path, seed: int, batches: int, payload_bytes: int) -> None:
    if path.exists():
        found = recover(path, ToyEngine, decode_toy)
        story = ToyStory(found.journal, found.watermark, found.engine, seed)
    else:
        story = ToyStory(*create_store(path), ToyEngine(), seed)
    print("head", story.journal.head.sequence, flush=True)
    for number in range(1, batches + 1) if batches else itertools.count(1):
        try:
            head = story.batch(closes=number % 4 == 0, payload_bytes=payload_bytes)
            print("head", head, flush=True)
            if number % 4 == 0:
                story.mark()
                story.journal.checkpoint()
            if number % 16 == 0:
                story.snapshot()
        except (StorageFailed, OSError) as failure:
            print("refused", type(failure).__name__, failure, flush=True)
            refuses_everything(story)
            os._exit(3)


def refuses_everything(story: ToyStory) -> None:
    """After a failed commit the journal takes nothing more."""
    try:
        story.journal.append([(0, "Add", bytes(8))])
    except StorageFailed:
        print("still refused", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
