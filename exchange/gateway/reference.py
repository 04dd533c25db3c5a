"""The written reference of methods and channels, made from the table."""

from __future__ import annotations

import msgspec

from exchange.gateway.methods import CHANNELS, METHODS
from exchange.gateway.parameters import Parameters

BEGIN = "<!-- reference begins: made by exchange.gateway.reference.reference_markdown -->"
END = "<!-- reference ends -->"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _parameters(kind: type[Parameters]) -> str:
    names = []
    for field in msgspec.structs.fields(kind):
        default = "" if field.default is msgspec.NODEFAULT else "?"
        names.append(f"`{field.name}`{default}")
    return ", ".join(names) or "–"


def reference_markdown() -> str:
    """The tables of methods and channels; a question mark marks what may be left out."""
    lines = [_row("method", "needs", "parameters", "what it does", "result"), _row(*["---"] * 5)]
    lines += [
        _row(f"`{m.name}`", m.permission.value, _parameters(m.parameters), m.description, m.result)
        for m in METHODS
    ]
    lines += ["", _row("channel", "needs", "what it tells", "payload"), _row(*["---"] * 4)]
    lines += [_row(f"`{c.name}`", c.permission.value, c.description, c.payload) for c in CHANNELS]
    return "\n".join(lines)
