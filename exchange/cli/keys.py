"""`uncross keys`: make, list and remove the API keys of a key file."""

from __future__ import annotations

from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.group("keys")
def command() -> None:
    """Keys are what programs log in with. A venue reads the file that `uncross serve --keys` names
    (JOURNAL.keys if it names none) again whenever it changes.
    """


@command.command("add")
@click.argument("file", type=FILE)
@click.argument("account")
@click.option("--read-only", is_flag=True, help="The key may look, but not trade.")
@click.option("--id", "key_id", default="", help="The key's identifier; random if not given.")
def add(file: Path, account: str, read_only: bool, key_id: str) -> None:
    """Make a key for ACCOUNT and write it to FILE, which is made if need be.

    The secret is shown now and never again.
    """
    from exchange.gateway.keys import add_key, new_key

    key = new_key(account, ("read",) if read_only else ("read", "trade"), key_id)
    add_key(file, key)
    click.echo(f"account  {key.account}")
    click.echo(f"scopes   {' '.join(key.scopes)}")
    click.echo(f"key      {key.id}")
    click.echo(f"secret   {key.secret}")
    click.echo("The secret is not shown again.", err=True)


@command.command("list")
@click.argument("file", type=FILE)
def list_keys(file: Path) -> None:
    """List the keys of FILE, without their secrets."""
    from exchange.gateway.keys import read_keys

    for key in read_keys(file).values():
        click.echo(f"{key.id}  {key.account}  {' '.join(key.scopes)}")


@command.command("remove")
@click.argument("file", type=FILE)
@click.argument("key_id", metavar="KEY")
def remove(file: Path, key_id: str) -> None:
    """Take KEY out of FILE: it opens nothing more. Connections that it opened stay."""
    from exchange.gateway.keys import remove_key

    key = remove_key(file, key_id)
    click.echo(f"removed {key.id} of {key.account}")
