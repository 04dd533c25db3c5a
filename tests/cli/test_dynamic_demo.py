"""A short crash under moving ranges: calls happen, the books balance, the journal replays."""

from __future__ import annotations

import json
from pathlib import Path

from exchange.core.engine import Engine
from exchange.storage.recovery import recover
from exchange.venues import load_venue
from margin.presets import load_preset
from tests.cli.conftest import uncross, write_short_story

CYCLES = 60


def dynamic_venue(folder: Path) -> Path:
    """The demo's venue under `ps-1-dynamic`."""
    shipped = Path(load_venue.__code__.co_filename).parent / "demo.toml"
    text = shipped.read_text("utf-8")
    assert 'preset = "ps-1"' in text
    path = folder / "dynamic.toml"
    path.write_text(text.replace('preset = "ps-1"', 'preset = "ps-1-dynamic"'), "utf-8")
    return path


def test_the_crash_under_moving_ranges(tmp_path: Path) -> None:
    journal, summary = tmp_path / "demo.journal", tmp_path / "demo.json"
    result = uncross(
        "demo", "--story", write_short_story(tmp_path), "--venue", dynamic_venue(tmp_path),
        "--fast", "--in-process", "--seed", 7, "--cycles", CYCLES, "--summary", summary,
        "--journal", journal,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    figures = json.loads(summary.read_text("utf-8"))
    assert figures["cycles"] == CYCLES
    assert figures["margin_calls"] > 0
    assert figures["trial_balance"] == 0
    assert figures["positions_sum"] == 0
    recovered = recover(journal, Engine)
    recovered.journal.close()
    engine = recovered.engine
    assert engine.last_state_hash.hex() == figures["state_hash"]
    memory = engine.state.forecasts.memories[0].ranges
    assert memory is not None
    static = load_preset("ps-1")
    wider = memory.range_e9.tolist()
    assert wider[0] > static.spot_range_e9("BTC"), "the crash has widened the range"
    assert engine.risk.models[0].preset.spot_range_e9("BTC") == wider[0]
