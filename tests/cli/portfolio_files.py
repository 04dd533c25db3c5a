"""The example portfolio with changes, and what `uncross margin --json` says of a file."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

from exchange.portfolios.file import example_text
from tests.cli.conftest import uncross

E6 = 10**6
PERPETUAL, PUT = "BTC_USDC-PERPETUAL", "BTC_USDC-27MAR26-90000-P"
EXAMPLE: dict[str, Any] = json.loads(example_text())


def explained(path: Path, *options: object) -> dict[str, Any]:
    result = uncross("margin", path, "--json", *options)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def written(path: Path, *change: object) -> Path:
    """The example with one value replaced: keys and indices of the way, then the value."""
    *way, last, value = change
    portfolio = deepcopy(EXAMPLE)
    at: Any = portfolio
    for step in way:
        at = at[step]
    at[last] = value
    path.write_text(json.dumps(portfolio), "utf-8")
    return path
