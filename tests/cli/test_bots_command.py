"""`uncross bots` against a served venue: by file and seed, with one key a bot."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from exchange.cli.bots import BotsRequest, keys_of_file, play, read_crowd, report_figures
from exchange.gateway.keys import Key, new_key, write_keys
from tests.cli.conftest import uncross
from tests.clients.test_ccxt_market_maker import ServedMarket


def keys_for(market: ServedMarket, names: list[str], path: Path) -> None:
    """Accounts with a key each, in the market and in a file."""
    for name in names:
        market.open_account(name)
    write_keys(path, {name: Key(name, f"secret of {name}", name) for name in names})


NAMES = ["mm-01", "mm-02", "trend-001", "noise-001", "noise-002"]


async def test_a_crowd_of_a_number_plays_so_many_batches(tmp_path: Path) -> None:
    market, keys = ServedMarket(tmp_path, 20), tmp_path / "keys"
    keys_for(market, NAMES, keys)
    sequencing = asyncio.create_task(market.sequencer.run())
    await market.server.start()
    request = BotsRequest(
        market.server.websocket_url, read_crowd("5"), 3, keys_of_file(keys), batches=4
    )
    playing = asyncio.create_task(play(request))
    readiness = market.server.dispatcher.readiness
    for _ in range(4):
        async with asyncio.timeout(20):
            while len(readiness.registered) < 5 or not readiness.complete:
                assert not playing.done(), playing.result()
                await asyncio.sleep(0.001)
        await market.close_batch()
    figures = report_figures(await asyncio.wait_for(playing, 20))
    assert (figures["bots"], figures["turns"], figures["interrupted"]) == (5, 20, 0)
    assert json.dumps(figures)
    await market.server.stop()
    sequencing.cancel()
    await asyncio.gather(sequencing, return_exceptions=True)


def test_a_venue_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    write_keys(keys, {"k": new_key("mm-01")})
    result = uncross(
        "bots", "--url", "ws://127.0.0.1:1/", "--keys", keys, "--crowd", 2, "--patience", 0
    )
    assert result.exit_code == 1
    assert "no connection to ws://127.0.0.1:1/" in result.output
    assert "Traceback" not in result.output


def test_keys_that_only_read_are_left_out(tmp_path: Path) -> None:
    trades, reads = new_key("a"), new_key("b", ("read",))
    write_keys(tmp_path / "keys", {trades.id: trades, reads.id: reads})
    assert keys_of_file(tmp_path / "keys") == {"a": (trades.id, trades.secret)}


def test_a_crowd_file_that_is_wrong_is_one_line(tmp_path: Path) -> None:
    keys, crowd = tmp_path / "keys", tmp_path / "crowd.toml"
    write_keys(keys, {"k": new_key("mm-01")})
    crowd.write_text("traders = 1")
    result = uncross("bots", "--keys", keys, "--crowd", crowd)
    assert result.exit_code == 1
    assert "unknown key traders" in result.output
