"""A journaling market to be killed: starts again from its files and goes on.

As a program it loads everything once, then forks a market for each line `SEED` on its standard
input and prints the child's process number. A market writes `head SEQUENCE` to the file of
acknowledgements after each durable, applied commit. Arguments: journal, acknowledgements.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from exchange.core.engine import Engine
from exchange.storage.journal import Journal
from exchange.storage.recovery import create_store, recover
from exchange.storage.snapshot import Snapshot, snapshots_path, write_snapshot
from exchange.storage.watermark import Watermark
from tests.core.random_story import Story
from tests.simulation.short_story import DrivenMarket, play_short_story

SEED_OF_THE_INDEX = 5


def opened(path: Path, engine: Engine, journal: Journal) -> DrivenMarket:
    """The market on this journal, its cycle complete: opened, or resumed where it stopped."""
    market = DrivenMarket(journal, engine, SEED_OF_THE_INDEX)
    if journal.head.sequence == 0:
        market.driver.open(market.venue, SEED_OF_THE_INDEX)
    else:
        market.driver.resume()
    return market


def run(path: Path, acknowledgements: Path, seed: int) -> None:
    """Trade until killed."""
    journal: Journal
    watermark: Watermark
    if path.exists():
        found = recover(path, Engine)
        engine, journal, watermark = found.engine, found.journal, found.watermark
    else:
        engine = Engine()
        journal, watermark = create_store(path)
    said = os.open(acknowledgements, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    market = opened(path, engine, journal)
    story, chance = Story(market, seed), random.Random(seed)  # type: ignore[arg-type]
    story.listings = seed  # names that no life before this one gave
    story.remember()

    def acknowledge() -> None:
        os.write(said, b"head %d\n" % journal.head.sequence)
        if chance.random() < 0.05:
            watermark.write(*journal.head)
            journal.checkpoint()
        if chance.random() < 0.02:
            head = journal.head
            kept = Snapshot(head.sequence, head.chain, engine.state_hash(), engine.snapshot())
            write_snapshot(snapshots_path(path), kept)

    acknowledge()
    market.play(story, 10**9, acknowledge)


def main(path: Path, acknowledgements: Path) -> None:
    """Fork a market for each seed that is asked for."""
    play_short_story(1, 3)
    print("ready", flush=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                run(path, acknowledgements, int(line))
            finally:
                os._exit(70)
        print(child, flush=True)
        _, status = os.waitpid(child, 0)
        print("gone", os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
