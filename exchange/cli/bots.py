"""`uncross bots`: a seeded crowd of sample bots against whatever venue answers at a URL."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from clients.crowd import Crowd, CrowdReport, Mix, build_crowd, run
from clients.crowd_file import CrowdError, mix_of, read_mix
from clients.records import BatchNotice, Instrument, record_of, records_of
from clients.websocket import LOCAL, PATIENCE_S, WebSocketTransport
from exchange.cli import event_loop
from exchange.cli.arguments import READ_FILE, SEED, FiniteRange


@dataclass(frozen=True)
class BotsRequest:
    """Whom to send where, and for how long; `keys` are (key, secret) by account name."""

    url: str
    mix: Mix
    seed: int
    keys: dict[str, tuple[str, str]]
    batches: int | None = None
    patience_s: float = PATIENCE_S


def read_crowd(text: str) -> Mix:
    """A number of bots, or the path of a crowd file."""
    return mix_of(int(text)) if text.isascii() and text.isdigit() else read_mix(Path(text))


def keys_of_file(path: Path) -> dict[str, tuple[str, str]]:
    """(key, secret) by account, of a file that `uncross keys` wrote; only keys that may trade."""
    from exchange.gateway.keys import read_keys

    return {
        key.account: (key.id, key.secret)
        for key in read_keys(path).values()
        if "trade" in key.scopes
    }


async def crowd_for(request: BotsRequest) -> tuple[Crowd, int | None]:
    """The crowd for the currencies that the venue lists, and the last batch that it plays.

    Raises `CrowdError` where a bot has no key.
    """
    async with WebSocketTransport(request.url, "", "", patience_s=request.patience_s) as public:
        answer = await public.request("public/get_instruments", {"currency": "any"})
        listed = records_of(Instrument, answer)
        now = record_of(BatchNotice, await public.request("public/get_batch", {}))
    currencies = tuple(dict.fromkeys(row.base_currency for row in listed))
    # A new session each time, so that no order of an earlier run is taken for one of this.
    crowd = build_crowd(request.mix, request.seed, currencies, secrets.token_hex(4))
    missing = [name for name in crowd.names if name not in request.keys]
    if missing:
        raise CrowdError(f"no key for {len(missing)} of {len(crowd.names)} bots: {missing[0]} ...")
    return crowd, None if request.batches is None else now.batch + request.batches - 1


async def play(request: BotsRequest) -> CrowdReport:
    """Connect every bot and let them trade until the venue is gone or `batches` are over."""
    crowd, last_batch = await crowd_for(request)
    transports: list[WebSocketTransport] = []

    async def connect(name: str) -> WebSocketTransport:
        key, secret = request.keys[name]
        transport = WebSocketTransport(request.url, key, secret, patience_s=request.patience_s)
        transports.append(transport)
        return transport

    try:
        return await run(crowd, connect, last_batch)
    finally:
        await asyncio.gather(*(transport.close() for transport in transports))


def report_figures(report: CrowdReport) -> dict[str, Any]:
    """A report in a few numbers."""
    return {
        "bots": len(report.turns),
        "turns": sum(report.turns.values()),
        "trades": sum(report.trades.values()),
        "deposited": str(sum(report.deposited.values())),
        "refusals": {str(code): count for code, count in sorted(report.refusals.items())},
        "unanswered": report.unanswered,
        "interrupted": len(report.interrupted),
    }


@click.command("bots")
@click.option("--url", default=LOCAL, show_default=True, help="The venue's WebSocket.")
@click.option("--crowd", "crowd", default="40", show_default=True, metavar="N|FILE",
              help="How many bots, or a TOML file of counts and money per kind.")  # fmt: skip
@click.option("--seed", type=SEED, default=7, show_default=True,
              help="Decides every bot's character and chances.")  # fmt: skip
@click.option("--keys", required=True, type=READ_FILE,
              help="The key file; each bot trades in the account of its name.")  # fmt: skip
@click.option("--batches", type=click.IntRange(min=1), help="Stop after so many batches.")
@click.option("--patience", type=FiniteRange(min=0), default=PATIENCE_S, show_default=True,
              help="Seconds without a connection after which to give up.")  # fmt: skip
def command(
    url: str, crowd: str, seed: int, keys: Path, batches: int | None, patience: float
) -> None:
    """Let a crowd of sample bots trade over WebSockets until stopped, and say what it did.

    The same crowd and seed are the same characters at every venue. Accounts are called mm-01,
    noise-001 and so on; they must be open, and pay in for themselves where they are empty.
    """
    request = BotsRequest(url, read_crowd(crowd), seed, keys_of_file(keys), batches, patience)
    try:
        report = event_loop.run(play(request))
    except ExceptionGroup as group:  # the first bot that failed stopped the others
        raise group.exceptions[0] from None
    click.echo(json.dumps(report_figures(report)))
