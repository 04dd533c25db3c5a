"""`uncross serve` as a process: it opens, trades, stops in order, is killed, and goes on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from click.testing import CliRunner

from exchange.cli import main
from exchange.cli.live_venue import live_feed, live_venue, story_of
from exchange.cli.market_store import MarketStore
from exchange.cli.serve_market import ServedMarket
from exchange.cli.serve_request import LocalAccount, ServeRequest
from exchange.clock import SimulatedClock
from exchange.core.commands import OpenAccount
from exchange.core.engine import Engine
from exchange.core.stored.attestations import Attestation
from exchange.core.venue import VenueError
from exchange.gateway.keys import Key, KeysRefused, add_key
from exchange.sequencer import SequencerStopped
from exchange.storage.faults import JournalFailed
from exchange.storage.recovery import recover
from replays.verify import verify
from tests.gateway.served_market import Client

ROOT = Path(__file__).parents[2]
PERPETUAL = "BTC_USDC-PERPETUAL"
STOP_S = 5.0
SUMMARY: tuple[str, dict[str, object]] = ("private/get_account_summary", {"currency": "USDC"})
ANN = "key=ann,secret=hush-hush,usdc=100000"


class Serving:
    """A serving process; `url` is where it said that it listens."""

    def __init__(self, journal: Path, *options: str) -> None:
        self.errors = journal.with_name("errors.txt")
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "exchange", "serve", "--venue", "tiny", "--port", "0",
                 "--journal", str(journal), "--account", ANN, *options],
                cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )  # fmt: skip
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if line.startswith("keys:"):
                break
        found = re.search(r"and (http://\S+)/api/v2", self.said)
        assert found, (self.said, self.errors.read_text())
        self.url = found[1]

    def end(self, number: int = signal.SIGTERM) -> float:
        """Send a signal and wait for the end; how long that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.said += self.process.communicate(timeout=30)[0]
        return time.monotonic() - began


@pytest.fixture
def serving() -> Iterator[list[Serving]]:
    """Processes that a test starts; whatever still runs is ended."""
    started: list[Serving] = []
    yield started
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
        one.process.communicate()


def asked(url: str, *requests: tuple[str, dict[str, object]]) -> list[Any]:
    """The results of requests of `ann` over one socket."""

    async def run() -> list[Any]:
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(f"{url}/ws/api/v2")
            client = Client(socket)
            await client.ask("public/auth", grant_type="client_credentials", client_id="ann",
                             client_secret="hush-hush")  # fmt: skip
            results = [await client.ask(method, **params) for method, params in requests]
            await socket.close()
            return results

    return asyncio.run(run())


def buy(number: int) -> tuple[str, dict[str, object]]:
    return "private/buy", {
        "instrument_name": PERPETUAL,
        "amount": 0.001,
        "price": 90_000 + number,
        "client_order_id": f"mine-{number}",
    }


def test_it_opens_stops_in_order_is_killed_and_goes_on(
    tmp_path: Path, serving: list[Serving]
) -> None:
    journal = tmp_path / "m.journal"
    first = Serving(journal)
    serving.append(first)
    assert "ws://127.0.0.1:" in first.said
    assert "hush-hush" not in first.said
    order, summary = asked(first.url, buy(1), SUMMARY)
    assert order["order"]["order_state"] == "open"
    assert summary["balance"] == 100_000
    assert first.end() < STOP_S
    assert first.process.returncode == 0
    assert "stopped after cycle" in first.said
    assert list(tmp_path.glob("m.journal.snapshots/*")), "a snapshot is left"

    second = Serving(journal)
    serving.append(second)
    assert "resumed at cycle" in second.said
    again, new, summary = asked(second.url, buy(1), buy(2), SUMMARY)
    assert again["order"]["order_id"] == order["order"]["order_id"], "sent again, entered once"
    assert new["order"]["order_id"] != order["order"]["order_id"]
    assert summary["balance"] == 100_000, "an account is funded once"
    second.end(signal.SIGKILL)

    third = Serving(journal)
    serving.append(third)
    (open_orders,) = asked(third.url, ("private/get_open_orders", {}))
    assert [row["price"] for row in open_orders] == [90_001, 90_002], "what was answered is there"
    assert third.end(signal.SIGINT) < STOP_S
    assert third.process.returncode == 0
    assert verify(journal, Engine).equal
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert b"hush-hush" not in file.read_bytes(), file


def test_a_crowd_trades_from_a_second_process(tmp_path: Path, serving: list[Serving]) -> None:
    market = Serving(tmp_path / "m.journal", "--crowd", "6")
    serving.append(market)
    deadline = time.monotonic() + 60
    orders = 0
    while time.monotonic() < deadline and not orders:
        (batch,) = asked(market.url, ("public/get_batch", {}))
        orders = batch["orders"]
        time.sleep(0.5)
    assert orders > 0, market.errors.read_text()
    assert market.end() < STOP_S
    assert market.process.returncode == 0
    assert "Traceback" not in market.errors.read_text()


HOLDER = "key=outside-ann,secret=hush-hush,usdc=10000"


def attested(journal: Path) -> Attestation:
    """The last word on the holder's collateral elsewhere that a journal is proof of."""
    recovered = recover(journal, Engine)
    recovered.journal.close()
    state = recovered.engine.state
    known = state.attestations.latest(state.accounts.number_of["outside-ann"], 0)
    assert known is not None
    return known


def test_words_of_an_outside_venue_outlive_a_kill_and_go_on(
    tmp_path: Path, serving: list[Serving]
) -> None:
    """Killed while the outside venue of a story speaks once a batch; then resumed.

    Batches are long enough for a slow machine to be back before the story has the venue silent.
    """
    journal = tmp_path / "m.journal"
    options = ("--venue", "venue-outage", "--story", "venue-outage", "--interval", "3",
               "--account", HOLDER)  # fmt: skip
    heard = []
    for _ in range(2):
        market = Serving(journal, *options)
        serving.append(market)
        (batch,) = asked(market.url, ("public/get_batch", {}))
        while asked(market.url, ("public/get_batch", {}))[0]["batch"] < batch["batch"] + 2:
            time.sleep(0.2)
        market.end(signal.SIGKILL)
        assert "refused" not in market.errors.read_text()
        assert "outside venue harbour: its credit is always 0" in market.said
        heard.append(attested(journal))
    assert 2 <= heard[0].sequence < heard[1].sequence
    assert heard[0].observed_ns < heard[1].observed_ns
    assert dict(heard[1].balances) == {0: 14_000 * 10**6, 1: 5 * 10**6}
    assert verify(journal, Engine).equal


# In this process, on simulated time


def served(tmp_path: Path, **options: Any) -> ServedMarket:
    clock = SimulatedClock(1_800_000_000 * 10**9 + 123)
    request = ServeRequest(**{"venue": "tiny", "port": 0, **options})
    return ServedMarket(request, tmp_path / "m.journal", clock)


async def run_until_stopped(market: ServedMarket) -> None:
    running = asyncio.create_task(market.run())
    for _ in range(20):
        await asyncio.sleep(0)
    market.stop()
    await asyncio.wait_for(running, 10)


async def test_batches_end_at_whole_intervals_and_a_stop_clears_the_last(tmp_path: Path) -> None:
    market = served(tmp_path)
    try:
        assert market.venue.opening_time_ns == 1_800_000_000 * 10**9
        await market.server.start(port=0)
        await run_until_stopped(market)
        assert market.engine.cycle >= 2
    finally:
        market.close()
    store = MarketStore(tmp_path / "m.journal")
    try:
        assert store.resumed
        assert store.replayed == 0, "the snapshot of the end holds everything"
        assert store.engine.cycle == market.engine.cycle
    finally:
        store.close()


async def test_keys_of_the_file_get_their_accounts_also_later(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add_key(path, Key("one", "s", "early"))
    market = served(tmp_path, keys=path)
    try:
        assert market.dispatcher.account_of("early") is not None
        add_key(path, Key("two", "s", "late"))
        market.close_batch()
        assert market.dispatcher.account_of("late") is not None
    finally:
        market.close()


async def test_a_key_of_the_command_line_must_not_be_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    add_key(path, Key("ann", "s", "ann"))
    with pytest.raises(KeysRefused, match="already"):
        served(tmp_path, keys=path, accounts=(LocalAccount("ann", "s", 0),))


async def test_a_disk_that_fails_stops_the_venue_and_answers_nothing_as_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = served(tmp_path, accounts=(LocalAccount("ann", "s", 10**9),))
    market.clock = SimulatedClock(0)
    try:
        await market.server.start(port=0)
        monkeypatch.setattr(market, "_cycles", lambda: asyncio.sleep(3600))
        running = asyncio.create_task(market.run())

        def failing(rows: object) -> int:
            raise JournalFailed("the disk is gone")

        monkeypatch.setattr(market.store.journal, "append", failing)
        async with aiohttp.ClientSession() as session:
            socket = await session.ws_connect(market.server.websocket_url)
            client = Client(socket)
            await client.ask("public/auth", grant_type="client_credentials", client_id="ann",
                             client_secret="s")  # fmt: skip
            order = {"instrument_name": PERPETUAL, "amount": 0.001, "price": 90_000}
            assert (await client.refusal("private/buy", **order))["code"] == 11094  # type: ignore[arg-type]
            await client.ended()
            await socket.close()
        with pytest.raises(JournalFailed):
            await asyncio.wait_for(running, 10)
    finally:
        market.close()


async def test_what_waits_for_a_cycle_that_fails_is_not_left_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = served(tmp_path)
    try:
        sequencer, state = market.sequencer, market.engine.state
        sequencer.seal_and_uncross()
        waiting = sequencer.submit(OpenAccount, "late")
        marks = market.driver.marker.revalue(state, [], sequencer.now_ns())

        def failing(rows: object) -> int:
            raise JournalFailed("the disk is gone")

        monkeypatch.setattr(market.store.journal, "append", failing)
        with pytest.raises(JournalFailed):
            sequencer.revalue(marks)
        with pytest.raises(SequencerStopped):
            await asyncio.wait_for(waiting, 1)
    finally:
        market.close()


# The index


def test_a_story_begins_now_and_its_batches_are_the_venues() -> None:
    request = ServeRequest(story="2025-10-10", seed=3)
    story = story_of(request)
    assert story is not None
    now_ns = 1_800_000_000 * 10**9 + 1
    venue = live_venue(request, story, now_ns)
    feed, where = live_feed(request, story, venue, None)
    assert "2025-10-10" in where
    batch_ns = venue.interval_ns
    for path, reading in zip(story.paths, feed.read(0, venue.opening_time_ns), strict=True):
        assert reading.price_e8 == path.knots[0][1]
    # The low of BTC is 82.x minutes after the opening: that many batches of the story.
    time_ns, low_e8 = min(story.paths[0].knots, key=lambda knot: knot[1])
    batches = (time_ns - story.opening_ns) / (story.interval_s * 10**9)
    at = venue.opening_time_ns + int(batches * batch_ns)
    assert feed.read(at - batch_ns, at)[0].price_e8 == low_e8
    end = feed.paths[0][-1][0]
    reading = feed.read(end, end + 100 * batch_ns)[0]
    assert reading.age_ns == 0
    assert len(reading.observations) > 50, "it walks on"


def test_silences_of_a_story_move_with_its_prices() -> None:
    """Batches of the story last a minute, those of the venue 5 s: minute 16 begins after 80 s."""
    story = story_of(ServeRequest(story="venue-outage"))
    assert story is not None
    opening_ns, batch_ns = 1_800_000_000 * 10**9, 5 * 10**9

    def speaks_after(seconds: int) -> bool:
        told_ns = story.time_ns(opening_ns + seconds * 10**9, opening_ns, batch_ns)
        return story.outside[0].speaks_at(told_ns)

    assert [speaks_after(seconds) for seconds in (0, 79, 80, 209, 210)] == [
        True, True, False, False, True,
    ]  # fmt: skip


def test_a_story_whose_outside_venue_is_not_the_venues_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VenueError, match="venue march-2020 has no outside venue 'harbour'"):
        served(tmp_path, venue="march-2020", story="venue-outage")
    assert not list(tmp_path.iterdir())


def test_a_file_begins_now_and_goes_stale_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_text("time,BTC\n1600000000000,50000\n1600000010000,51000\n")
    request = ServeRequest(venue="tiny", index=path)
    venue = live_venue(request, None, 1_800_000_000 * 10**9)
    assert venue.underlyings[0].opening_index_e8 == 50_000 * 10**8
    feed, _ = live_feed(request, None, venue, None)
    opening = venue.opening_time_ns
    assert feed.read(opening, opening + 10 * 10**9)[0].price_e8 == 51_000 * 10**8
    assert feed.read(opening, opening + 60 * 10**9)[0].age_ns == 50 * 10**9


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [(["--account", "key=k"], 2, "needs a key and a secret"),
     (["--account", "key=k,secret=topsecret,usdc=x"], 2, "no amount of money"),
     (["--account", "key=k,secret=topsecret,usd=1"], 2, "key=K,secret=S,usdc=N"),
     (["--story", "x", "--index", __file__], 2, "not both"),
     (["--port", "70000"], 2, "70000"), (["--venue", "no-such"], 1, "no venue"),
     (["--story", "no-such"], 1, "no story"), (["--index", "/no/such/file"], 2, "no/such")],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_wrong_options_end_in_one_line(
    tmp_path: Path, options: list[str], code: int, words: str
) -> None:
    journal = tmp_path / "m.journal"
    result = CliRunner().invoke(main, ["serve", "--journal", str(journal), *options])
    assert result.exit_code == code, result.output
    assert words in result.output
    assert "topsecret" not in result.output
    assert not journal.exists()
