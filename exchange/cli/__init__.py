"""The command line: `uncross COMMAND`, and the composition of everything else.

Commands are imported when they are asked for, so that `uncross --help` compiles and loads nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

INTERRUPTED = 130

# Command -> the line about it in `uncross --help`. Each lives in a module of its name.
COMMANDS = {
    "demo": "Run a story: a live market, a crash, margin calls, liquidations, a summary.",
    "serve": "Serve a market over WebSockets and HTTP.",
    "keys": "Make, list and remove the keys that programs log in with.",
    "bots": "Let a crowd of bots trade at any venue.",
    "replay": "Run recorded order flow through the auctions.",
    "verify": "Prove a journal bit for bit by replaying it.",
    "show": "Show what happened in a cycle of a journal.",
    "margin": "Explain what a portfolio needs, and what a change would do.",
    "stress": "Price a portfolio or a market again in days of the past, and find what breaks it.",
    "backtest": "Test margin models against what prices did next.",
    "venue": "Print a venue as the engine gets it, and what its margin covers.",
    "compare-margin": "Play one story under several margin models, side by side.",
    "study": "Experiments on margin models: procyclicality, calibration, GARCH.",
    "bench": "Measure the engine on this machine (from a checkout).",
}


def refusals() -> tuple[type[Exception], ...]:
    """What a user's input or machine can cause: told in one line, without a traceback."""
    from clients.crowd_file import CrowdError
    from clients.errors import ClientError
    from exchange.cli.demo_crowd import CrowdFailed
    from exchange.core.commands import CommandError
    from exchange.core.venue import VenueError
    from exchange.feed import FeedError
    from exchange.gateway.keys import KeysRefused
    from exchange.portfolios.file import PortfolioError
    from exchange.storage.faults import StorageFailed, StorageRefused
    from margin.presets import PresetError
    from margin.stresses import StressError
    from replays.journal_state import JournalDiffers
    from replays.lobster import LobsterError
    from replays.story import StoryError

    return (VenueError, FeedError, StorageFailed, StorageRefused, PresetError, LobsterError,
            StoryError, CommandError, CrowdError, CrowdFailed, ClientError, KeysRefused,
            PortfolioError, StressError, JournalDiffers, OSError)  # fmt: skip


class CommandTable(click.Group):
    """A group that imports a command's module only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order in which a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name: `command` in its module, whose name has `_` for `-`."""
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"exchange.cli.{cmd_name.replace('-', '_')}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; refused input and an interrupt end with one line and a code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise click.ClickException(f"{error.filename}: {error.strerror}") from None
            if isinstance(error, refusals()):
                raise click.ClickException(str(error)) from None
            raise


@click.group(cls=CommandTable)
@click.version_option(package_name="uncross")
def main() -> None:
    """An exchange and a clearing house in one process: batch auctions, margin, default waterfall.

    Start with `uncross demo`.
    """
