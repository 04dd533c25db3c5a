"""`uncross verify`: replay a journal and compare every state hash in it."""

from __future__ import annotations

from pathlib import Path

import click

from exchange.cli.arguments import READ_FILE


@click.command("verify")
@click.argument("journal", type=READ_FILE)
@click.option("--allow-missing-watermark", is_flag=True,
              help="Verify a journal without the file that witnesses its end.")  # fmt: skip
def command(journal: Path, allow_missing_watermark: bool) -> None:
    """Replay JOURNAL from its first record and compare the state hash of every cycle.

    Says "equal" and ends with 0, or says where it differs and ends with 1. Changes nothing.
    """
    from exchange.cli.progress import record_progress
    from exchange.cli.warm_up import warm_up_with_line
    from exchange.core.engine import Engine
    from replays.verify import verify

    warm_up_with_line()
    with record_progress("verifying") as advance:
        found = verify(
            journal, Engine, progress=advance, allow_missing_watermark=allow_missing_watermark
        )
    if not found.equal:
        at = f"record {found.sequence}, cycle {found.cycle}: " if found.sequence else ""
        raise click.ClickException(f"{journal}: not equal: {at}{found.what}")
    click.echo(f"equal: {found.cycles} cycles, {found.records} records, last cycle {found.cycle}")
