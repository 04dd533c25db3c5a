"""One run of `uncross serve`: from the request to the end, with the bots beside it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from clients.crowd import build_crowd
from clients.crowd_file import mix_of
from exchange.cli.demo_crowd import start_bots, write_mix
from exchange.cli.serve_market import ServedMarket
from exchange.cli.serve_request import ServeRequest
from exchange.cli.warm_up import warm_up_with_line
from exchange.coverage import slow_outside_lines
from exchange.gateway.keys import Key, new_key, write_keys

BOTS_LEAVE_S = 1.0
CROWD_REPORT = "the bots ended"


def run_serve(request: ServeRequest) -> None:
    """Serve until SIGTERM or an interrupt. Raises what refuses the request or stops the venue."""
    warm_up_with_line()
    journal = request.journal
    if journal is None:
        journal = Path(tempfile.mkdtemp(prefix="uncross-")) / "market.journal"
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(request, journal))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's event loop where it is installed, else asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(request: ServeRequest, journal: Path) -> None:
    market = ServedMarket(request, journal)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, market.stop)
    crowd: CrowdProcess | None = None
    try:
        if request.crowd:
            crowd = CrowdProcess(market, request.crowd, request.seed)
        await market.server.start(request.host, request.port)
        _announce(market, journal)
        if crowd is not None:
            crowd.start()
        await market.run()
    finally:
        if crowd is not None:
            await asyncio.to_thread(crowd.end)
        market.close()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    state = market.engine.state
    click.echo(f"stopped after cycle {state.cycle}, state {state.last_hash.hex()[:16]}")


def _announce(market: ServedMarket, journal: Path) -> None:
    """Where the market listens, and how to get in."""
    server, store, venue = market.server, market.store, market.venue
    how = f"resumed at cycle {market.engine.cycle}" if store.resumed else "new"
    lines = [
        f"venue {venue.name}, a batch every {venue.interval_ns / 1e9:g} s, index: {market.index}",
        *slow_outside_lines(venue),
        f"journal {journal} ({how}), keys {market.keys.path}",
        f"listening at {server.websocket_url} and {server.url}/api/v2",
        "",
        f"ccxt:  ccxt.deribit({{'urls': {{'api': {{'rest': '{server.url}', "
        f"'ws': '{server.websocket_url}'}}}}, 'apiKey': KEY, 'secret': SECRET}})",
        f"try:   curl '{server.url}/api/v2/public/get_batch'",
        f"keys:  uncross keys add {market.keys.path} ACCOUNT",
    ]
    click.echo("\n".join(lines))


class CrowdProcess:
    """Bots in a second process, with keys that only this run knows."""

    def __init__(self, market: ServedMarket, bots: int, seed: int) -> None:
        """Open the bots' accounts and write their keys, for the owner's eyes only."""
        self.market, self.seed = market, seed
        self._files = tempfile.TemporaryDirectory(prefix="uncross-crowd-")
        self._folder = Path(self._files.name)
        self._process: subprocess.Popen[str] | None = None
        self._ended = False
        mix, venue = mix_of(bots), market.venue
        names = build_crowd(mix, seed, tuple(spec.name for spec in venue.underlyings)).names
        market.open_accounts(names)
        keys: dict[str, Key] = {}
        for name in names:
            key = new_key(name)
            market.keys.add(key)
            keys[key.id] = key
        write_keys(self._folder / "keys.json", keys)
        write_mix(self._folder / "crowd.toml", mix)

    def start(self) -> None:
        """Start the process, once the market listens."""
        url = self.market.server.websocket_url
        self._process = start_bots(url, self._folder, self.seed)
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, self._watch)

    def _watch(self) -> None:
        """Say what the bots said last, should they end before the market."""
        assert self._process is not None
        _, words = self._process.communicate()
        if not self._ended:
            last = words.strip().splitlines()[-1:] or [f"code {self._process.returncode}"]
            click.echo(f"{CROWD_REPORT}: {last[0]}", err=True)

    def end(self) -> None:
        """End the process and forget its keys."""
        self._ended = True
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(BOTS_LEAVE_S)
            process.kill()
        self._files.cleanup()
