"""`uncross replay`: recorded order flow through the whole engine."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import click

from exchange.cli.arguments import READ_FILE, SEED, require_writable
from exchange.cli.summary import print_table, write_summary
from margin.fixed_point import NS_PER_SECOND

CAVEAT = (
    "Historical orders were chosen for another rule. A batch replay is a mechanical counterfactual "
    "(book and liquidation engineering), not a forecast of equilibrium behaviour."
)
SHALLOW = "many unknown ids: a file cut to few levels lacks deletions and overstates the volume"


class Seconds(click.ParamType):
    """A positive number of seconds, exact to the nanosecond; becomes nanoseconds."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:  # fmt: skip
        """Seconds as text to whole nanoseconds."""
        if isinstance(value, int):
            return value
        try:
            nanoseconds = Decimal(str(value)) * NS_PER_SECOND
        except ArithmeticError:
            self.fail(f"{value!r} is no number of seconds", param, ctx)
        if not nanoseconds.is_finite() or nanoseconds != nanoseconds.to_integral_value():
            self.fail(f"{value!r} is no whole number of nanoseconds", param, ctx)
        if not NS_PER_SECOND // 1000 <= nanoseconds <= 86_400 * NS_PER_SECOND:
            self.fail(f"{value!r}: from 0.001 to 86400 seconds", param, ctx)
        return int(nanoseconds)


@click.group("replay")
def command() -> None:
    """Run recorded order flow through the auctions, the ledger and the margin engine."""


@command.command("lobster")
@click.argument("file", type=READ_FILE)
@click.option("--interval", "interval_ns", type=Seconds(), default="1", show_default=True,
              help="Batch interval in seconds.")  # fmt: skip
@click.option("--seed", type=SEED, default=7, show_default=True,
              help="Which account sends which order, and the lottery.")  # fmt: skip
@click.option("--summary", type=click.Path(dir_okay=False, path_type=Path),
              help="Write the figures to this JSON file.")  # fmt: skip
def lobster(file: Path, interval_ns: int, seed: int, summary: Path | None) -> None:
    """Replay a LOBSTER message FILE (.csv or .csv.gz) in batches.

    Executions are turned back into the marketable orders behind them; nothing else is invented.
    Files of many levels replay well; one of few levels lacks deletions and overstates the volume.
    """
    require_writable(summary, "--summary", file)
    figures = replay_lobster(file, interval_ns, seed)
    print_table(f"{file.name} in batches of {interval_ns / NS_PER_SECOND:g} s", figures)
    reductions = figures["unknown_ids"] + figures["unknown_executions"]
    if reductions * 20 > figures["messages"]:
        click.echo(f"Note: {SHALLOW}")
    click.echo(CAVEAT)
    if summary is not None:
        write_summary(summary, figures)


def replay_lobster(file: Path, interval_ns: int, seed: int) -> dict[str, Any]:
    """Read, map and replay a LOBSTER file; returns the summary.

    Raises `LobsterError` with the line where the file is wrong.
    """
    from exchange.cli.progress import row_progress
    from exchange.cli.warm_up import warm_up_with_line
    from replays import lobster as reader
    from replays.flow import build_flow
    from replays.historical import HistoricalReplay, share_venue
    from replays.story import StoryError

    warm_up_with_line()
    reader.warm_up()
    messages = reader.read_messages(file)
    if not len(messages):
        raise StoryError(f"{file}: no messages")
    flow = build_flow(messages, interval_ns)
    # The file has no date; midnight of the epoch's first day stands for its day.
    name = file.name.split("_")[0].split(".")[0] or "SHARE"
    opening_ns = flow.start_ns + flow.first_batch * interval_ns
    venue = share_venue(name, interval_ns, flow.tick_e4, opening_ns, messages.price_e4)
    replay = HistoricalReplay(flow, venue, seed)
    with row_progress("replaying", len(flow)) as advance:
        run = replay.execute(advance)
    totals = flow.totals
    share = run.auction_volume / totals.visible_volume if totals.visible_volume else 0.0
    return {
        "messages": totals.messages,
        "used": totals.used,
        "hidden": totals.hidden,
        "crosses": totals.crosses,
        "halts": totals.halts,
        "orders": run.orders,
        "takers": totals.takers,
        "fills": run.fills,
        "batches": run.batches,
        "prints": run.prints,
        "auction_volume": run.auction_volume,
        "visible_volume": totals.visible_volume,
        "auction_over_visible_volume": round(share, 6),
        "late_cancels": run.late_cancels,
        "unknown_ids": totals.unknown_ids,
        "unknown_executions": totals.unknown_executions,
        "interval_s": interval_ns / NS_PER_SECOND,
        "seconds": round(run.seconds, 3),
        "messages_per_second": round(totals.messages / run.seconds) if run.seconds else 0,
        "microseconds_per_cycle": round(run.seconds * 1e6 / run.batches, 1) if run.batches else 0,
        "seed": seed,
        "caveat": CAVEAT,
        "state_hash": run.state_hash,
    }
