"""`uncross serve`: a venue behind sockets, on the machine's clock, until it is told to stop."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path

import click

from exchange.cli.arguments import READ_FILE, SEED, STORY, VENUE
from exchange.cli.serve_request import LocalAccount, ServeRequest

FILE = click.Path(dir_okay=False, path_type=Path)


class AccountOption(click.ParamType[LocalAccount]):
    """`key=K,secret=S,usdc=N,class=C`: an account of the key's name, its money and its class."""

    name = "key=K,secret=S,usdc=N,class=C"

    def convert(self, value: object, param: click.Parameter | None,
                ctx: click.Context | None) -> LocalAccount:  # fmt: skip
        """The account; a usage error that does not repeat the secret."""
        if isinstance(value, LocalAccount):
            return value
        fields: dict[str, str] = {}
        for pair in str(value).split(","):
            name, equals, text = pair.partition("=")
            if not equals or name in fields or name not in ("key", "secret", "usdc", "class"):
                self.fail("must be key=K,secret=S,usdc=N,class=C, each once", param, ctx)
            fields[name] = text
        if not fields.get("key") or not fields.get("secret"):
            self.fail("needs a key and a secret", param, ctx)
        try:
            usdc = Decimal(fields.get("usdc", "0"))
            minor = int(usdc * 10**6)
            if usdc < 0 or minor != usdc * 10**6 or minor >= 2**53:
                raise InvalidOperation
        except (InvalidOperation, ValueError, OverflowError):
            self.fail(f"usdc={fields['usdc']} is no amount of money", param, ctx)
        return LocalAccount(fields["key"], fields["secret"], minor, fields.get("class", ""))


@click.command("serve")
@click.option("--venue", "venue_name", type=VENUE, metavar="NAME|FILE",
              help="A venue that ships, or a TOML file; the story's, else demo.")  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="0 takes any that is free.")  # fmt: skip
@click.option("--journal", type=FILE,
              help="Made if it is not there, else resumed; temporary if not given.")  # fmt: skip
@click.option("--keys", "keys_file", type=FILE,
              help="The key file; JOURNAL.keys if not given. See `uncross keys`.")  # fmt: skip
@click.option("--account", "accounts", type=AccountOption(), multiple=True,
              help="For local use: a key, its secret and an account of its name.")  # fmt: skip
@click.option("--crowd", type=click.IntRange(min=0), default=0, show_default=True,
              help="So many bots, in a second process.")  # fmt: skip
@click.option("--story", "story_name", type=STORY, metavar="NAME|FILE",
              help="The index follows a story, batch by batch; then a random walk.")  # fmt: skip
@click.option("--index", "index_file", type=READ_FILE, metavar="FILE",
              help="The index follows a CSV file (time,NAME,...); row 1 is now.")  # fmt: skip
@click.option("--interval", "interval_s", type=click.IntRange(1, 86_400),
              help="Seconds of a batch; the venue's if not given.")  # fmt: skip
@click.option("--seed", type=SEED, default=7, show_default=True,
              help="Chance: the walk of the index, the bots, the lottery.")  # fmt: skip
@click.option("--origin", "origins", multiple=True,
              help="Web pages of this origin may connect; programs always may.")  # fmt: skip
@click.option("--rate-limit", is_flag=True, help="Limit requests by credits, as Deribit does.")
def command(
    venue_name: str | None, host: str, port: int, journal: Path | None, keys_file: Path | None,
    accounts: tuple[LocalAccount, ...], crowd: int, story_name: str | None,
    index_file: Path | None, interval_s: int | None, seed: int, origins: tuple[str, ...],
    rate_limit: bool,
) -> None:  # fmt: skip
    """Serve a market over WebSockets and HTTP in Deribit's dialect.

    Batches end at whole intervals of the machine's clock. Without --story and --index the index is
    a seeded random walk. SIGTERM or ^C end it in order: the running batch is cleared, a snapshot
    written, and the same command resumes the journal.
    """
    from exchange.cli.serve_run import run_serve

    if story_name is not None and index_file is not None:
        raise click.UsageError("the index follows a story or a file, not both")
    run_serve(ServeRequest(
        venue_name, host, port, journal, keys_file, accounts, crowd, story_name, index_file,
        interval_s, seed, frozenset(origins), rate_limit,
    ))  # fmt: skip
