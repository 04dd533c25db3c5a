"""The journal of a market that was driven command by command, as a sequencer would have kept it."""

from __future__ import annotations

from pathlib import Path

from exchange.core.commands import Revalue, encode_command
from exchange.core.engine import Engine
from exchange.storage.recovery import STATE_HASH_KIND, create_store, encode_state_hash
from tests.core.market import Market


def write_journal(market: Market, path: Path) -> Path:
    """All commands of a market, and after each cycle the note of its state hash."""
    journal, watermark = create_store(path)
    engine = Engine()
    for command in market.log:
        engine.apply(command)
        journal.append([(command.time_ns, *encode_command(command))])
        if isinstance(command, Revalue):
            note = encode_state_hash(engine.cycle, engine.last_state_hash)
            journal.append([(command.time_ns, STATE_HASH_KIND, note)])
    journal.checkpoint()
    watermark.write(*journal.head)
    watermark.close()
    journal.close()
    return path
