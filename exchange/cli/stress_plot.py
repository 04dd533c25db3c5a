"""The page of `uncross stress --plot`: losses by stress, and amounts along moves of spot.

Below the drawing stands a table of all moves that break something; those inside the drawing are
marked on its lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from exchange.cli.stress_view import LEGEND, NOWHERE, PERCENT_E9, REVERSE, moved_text
from exchange.market_stress import MarketStress
from exchange.portfolios.stress import Moved, PortfolioStress
from margin.fixed_point import USDC_SCALE

UPPER, LOWER = (0.66, 1.0), (0.0, 0.44)  # of the height, what is left holds titles and a legend
THIN, THICK = 2.5, 9.5  # pixels: lines that run together show as stripes in each other
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
TOGETHER_COLOUR = "#b8b8b8"
SYMBOLS = ("triangle-down", "diamond", "x")
PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
html {{ overflow-y: scroll; }}
body {{ font-family: "Open Sans", verdana, arial, sans-serif; color: #2a3f5f; margin: 0 12px; }}
.plot {{ height: 72vh; min-height: 560px; }}
table {{ border-collapse: collapse; margin: 4px 0 4px 60px; font-size: 13px; }}
th, td {{ padding: 2px 18px 2px 0; text-align: right; }}
th:nth-child(-n+2), td:nth-child(-n+2) {{ text-align: left; }}
p {{ margin: 0 0 16px 60px; font-size: 12px; }}
</style></head><body><div class="plot">{plot}</div>{table}</body></html>
"""

Line = tuple[str, list[float], Sequence[Moved]]
"""A direction, what is left or owed along it in USDC, and what breaks by level."""


def write_plot(path: Path, found: PortfolioStress | MarketStress) -> None:
    """Write one page that needs no other file. OSError if it cannot be written."""
    path.write_text(plot_html(found), "utf-8")


def plot_html(found: PortfolioStress | MarketStress) -> str:
    """The text of `write_plot`'s file."""
    import plotly.graph_objects as go

    if isinstance(found, MarketStress):
        title = f"{found.venue}, cycle {found.cycle}: stress of the market, USDC"
        below, levels = "burden of the fund, USDC", ("exhaust the fund",)
    else:
        title, below, levels = (
            f"{found.model}: stress of the portfolio, USDC",
            "equity, USDC",
            REVERSE,
        )
    lines, moves = _lines(found), [row.move_e9 / PERCENT_E9 for row in found.grid]
    traces = [*_bars(go, found), *_curves(go, lines, moves), *_marks(go, lines, moves, levels)]
    figure = go.Figure(traces)
    legend = {"orientation": "h", "x": 0, "xanchor": "left", "yanchor": "bottom"}
    figure.update_layout(
        title={"text": title, "x": 0, "xref": "paper", "y": 0.98, "yanchor": "top"},
        template="plotly_white", barmode="group", autosize=True, hovermode="x unified",
        margin={"l": 80, "r": 20, "t": 70, "b": 50},
        legend={**legend, "y": UPPER[1]}, legend2={**legend, "y": LOWER[1]},
        xaxis={"type": "category", "title": "stress", "anchor": "y", "automargin": True},
        yaxis={"domain": UPPER, "title": "USDC", "anchor": "x", "automargin": True},
        xaxis2={"ticksuffix": " %", "title": "move of spot", "anchor": "y2"},
        yaxis2={"domain": LOWER, "title": below, "anchor": "x2", "automargin": True},
    )  # fmt: skip
    plot = figure.to_html(include_plotlyjs=True, full_html=False, default_height="100%",
                          config={"responsive": True})  # fmt: skip
    return PAGE.format(title=escape(title), plot=plot, table=_table(lines, levels))


def _usdc(amounts: Sequence[int]) -> list[float]:
    return [amount / USDC_SCALE for amount in amounts]


def _bars(go: Any, found: PortfolioStress | MarketStress) -> list[Any]:
    names = [one.name for one in found.outcomes]
    if isinstance(found, MarketStress):
        columns = {
            "owed beyond equity": [one.burden_minor for one in found.outcomes],
            "fund after": [one.fund_minor for one in found.outcomes],
        }
    else:
        columns = {
            "loss": [one.loss_minor for one in found.outcomes],
            "equity after": [one.equity_minor for one in found.outcomes],
            "maintenance margin": [one.maintenance_minor for one in found.outcomes],
        }
    colours = dict(zip(columns, ("#d62728", "#1f77b4", "#b8b8b8"), strict=False))
    return [
        go.Bar(x=names, y=_usdc(amounts), name=name, marker_color=colours[name])
        for name, amounts in columns.items()
    ]


def _lines(found: PortfolioStress | MarketStress) -> list[Line]:
    """Every direction with its amounts and its breaks."""
    if isinstance(found, MarketStress):
        return [
            (one.direction, _usdc([row.burden_minor[at] for row in found.grid]), (one.exhausted,))
            for at, one in enumerate(found.reverse)
        ]
    return [
        (one.direction, _usdc([row.equity_minor[at] for row in found.grid]),
         (one.call, one.liquidation, one.zero))
        for at, one in enumerate(found.reverse)
    ]  # fmt: skip


def _curves(go: Any, lines: Sequence[Line], moves: list[float]) -> list[Any]:
    """The lines, the last the widest and undermost: "all together" where there is one."""
    drawn, step = [], (THICK - THIN) / max(1, len(lines) - 1)
    for at, (name, amounts, _) in reversed(list(enumerate(lines))):
        last = at == len(lines) - 1 and at > 0
        colour = TOGETHER_COLOUR if last else COLOURS[at % len(COLOURS)]
        drawn.append(go.Scatter(
            x=moves, y=amounts, mode="lines", name=name, xaxis="x2", yaxis="y2", legend="legend2",
            legendrank=at + 1, line={"color": colour, "width": THIN + at * step},
        ))  # fmt: skip
    return drawn


def _marks(go: Any, lines: Sequence[Line], moves: list[float], levels: Sequence[str]) -> list[Any]:
    """What breaks inside the drawing, a sign for each level."""
    drawn = []
    for at, (level, symbol) in enumerate(zip(levels, SYMBOLS, strict=False)):
        found = [
            (move_e9 / PERCENT_E9, name, amounts, text)
            for name, amounts, breaks in lines
            for move_e9, text in zip(_both(breaks[at]), moved_text(breaks[at]), strict=True)
            if move_e9 is not None and moves[0] <= move_e9 / PERCENT_E9 <= moves[-1]
        ]
        if not found:
            continue
        drawn.append(go.Scatter(
            x=[move for move, *_ in found],
            y=[float(np.interp(move, moves, amounts)) for move, _, amounts, _ in found],
            text=[f"{name} {text}" for _, name, _, text in found],
            mode="markers", name=level, xaxis="x2", yaxis="y2", legend="legend2",
            legendrank=100 + at, hovertemplate="%{text}",
            marker={"symbol": symbol, "size": 11, "color": "#222222",
                    "line": {"color": "white", "width": 1}},
        ))  # fmt: skip
    return drawn


def _both(found: Moved) -> tuple[int | None, int | None]:
    return found.fall_e9, found.rise_e9


def _table(lines: Sequence[Line], levels: Sequence[str]) -> str:
    """All moves that break, as a table of the page."""
    if not lines:
        return ""
    rows = [
        (level, name, *moved_text(breaks[at]))
        for at, level in enumerate(levels)
        for name, _, breaks in lines
    ]
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    head = "<tr><th>smallest move to</th><th>spot of</th><th>fall</th><th>rise</th></tr>"
    said = f"<p>{escape(LEGEND)}</p>" if any(NOWHERE in row for row in rows) else ""
    return f"<table>{head}{body}</table>{said}"
