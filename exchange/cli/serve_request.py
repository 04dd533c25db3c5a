"""What `uncross serve` is asked for; nothing heavy is imported to say it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class LocalAccount:
    """A key for local use, the account of its name, what it opens with (10^-6 USDC), its class."""

    key: str
    secret: str = field(repr=False)
    usdc_minor: int = 0
    account_class: str = ""


@dataclass(frozen=True)
class ServeRequest:
    """The options of the command; `None` leaves the choice to the venue."""

    venue: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    journal: Path | None = None
    keys: Path | None = None
    accounts: tuple[LocalAccount, ...] = ()
    crowd: int = 0
    story: str | None = None
    index: Path | None = None
    interval_s: int | None = None
    seed: int = 7
    origins: frozenset[str] = frozenset()
    rate_limit: bool = False
