"""The table of all constants of the presets, as margin/README.md shows it."""

from __future__ import annotations

import tomllib
from decimal import Decimal
from importlib import resources
from typing import Any

PRESETS = ("ps-1", "derive-pmrm2", "derive-pmrm1", "deribit", "paradex", "span-16")
# What each builds on, and the sections in which it differs.
BUILT_ON = {
    "ps-1-linear-liquidity": ("ps-1", ("liquidity",)),
    "ps-1-dynamic": ("ps-1", ("dynamic", "cross_unit", "predictive")),
    "ps-1-dynamic-garch": ("ps-1-dynamic", ("dynamic",)),
    "ps-1-dynamic-har": ("ps-1-dynamic", ("dynamic",)),
}
# What the sections say in words, or what is no constant.
LEFT_OUT = ("name", "numeraire", "scenario", "grid", "collateral_size")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_shown(part) for part in value)
    if isinstance(value, dict):
        rates = [f"{'others' if k == 'default' else k} {_shown(v)}" for k, v in value.items()]
        return _shown(value["default"]) if list(value) == ["default"] else ", ".join(rates)
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return str(value)


def _rows(preset: str) -> dict[str, str]:
    text = resources.files("margin.presets").joinpath(f"{preset}.toml").read_text("utf-8")
    rows = {}
    for section, table in tomllib.loads(text, parse_float=Decimal).items():
        if section in LEFT_OUT:
            continue
        if section in ("spot_range", "haircut"):
            rows[section] = _shown(table)
            continue
        rows |= {f"{section}.{key}": _shown(value) for key, value in table.items()}
    return rows


def constants_table() -> str:
    """Markdown: a row for every key of a preset's file, a column for every preset."""
    columns = [_rows(preset) for preset in PRESETS]
    keys = list(dict.fromkeys(key for rows in columns for key in rows))
    sections = list(dict.fromkeys(key.split(".")[0] for key in keys))
    keys.sort(key=lambda key: sections.index(key.split(".")[0]))
    lines = [f"| key | {' | '.join(PRESETS)} |", "|---" * (1 + len(PRESETS)) + "|"]
    for key in keys:
        cells = [rows.get(key, "-") for rows in columns]
        lines.append(f"| `{key}` | {' | '.join(cells)} |")
    return "\n".join(lines)
