"""The page of `uncross stress --plot`: losses by stress, and amounts along moves of spot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exchange.cli.stress_view import PERCENT_E9, move_text
from exchange.market_stress import MarketStress
from exchange.portfolio_stress import Moved, PortfolioStress
from margin.fixed_point import USDC_SCALE

PANEL_PIXELS = 440


def write_plot(path: Path, found: PortfolioStress | MarketStress) -> None:
    """Write one page that needs no other file. OSError if it cannot be written."""
    path.write_text(plot_html(found), "utf-8")


def plot_html(found: PortfolioStress | MarketStress) -> str:
    """The text of `write_plot`'s file."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    if isinstance(found, MarketStress):
        title = f"{found.venue}, cycle {found.cycle}: stress of the market, USDC"
        below = "burden of the insurance fund"
    else:
        title, below = f"{found.model}: stress of the portfolio, USDC", "equity"
    figure = make_subplots(
        rows=2, cols=1, vertical_spacing=0.14,
        subplot_titles=["by stress", f"{below} after a move of spot"],
    )  # fmt: skip
    for bars in _bars(go, found):
        figure.add_trace(bars, row=1, col=1)
    for line in _lines(go, found):
        figure.add_trace(line, row=2, col=1)
    figure.update_xaxes(type="category", row=1, col=1)
    figure.update_xaxes(ticksuffix=" %", row=2, col=1)
    figure.update_layout(title=title, height=2 * PANEL_PIXELS, template="plotly_white",
                         barmode="group")  # fmt: skip
    html: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return html


def _usdc(amounts: list[int]) -> list[float]:
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
    return [go.Bar(x=names, y=_usdc(amounts), name=name) for name, amounts in columns.items()]


def _lines(go: Any, found: PortfolioStress | MarketStress) -> list[Any]:
    """A line a direction, its name with the moves that break most."""
    moves = [row.move_e9 / PERCENT_E9 for row in found.grid]
    lines: list[tuple[str, str, Moved, list[int]]]
    if isinstance(found, MarketStress):
        lines = [
            (one.direction, "exhausted", one.exhausted, [r.burden_minor[at] for r in found.grid])
            for at, one in enumerate(found.reverse)
        ]
    else:
        lines = [
            (one.direction, "below zero", one.zero, [r.equity_minor[at] for r in found.grid])
            for at, one in enumerate(found.reverse)
        ]
    return [
        go.Scatter(
            x=moves, y=_usdc(amounts), mode="lines+markers",
            name=f"{name} ({word}: {move_text(at.fall_e9)}, {move_text(at.rise_e9)})",
        )
        for name, word, at, amounts in lines
    ]  # fmt: skip
