"""Scenarios drawn: one heat map a risk unit, and a bar for every scenario outside the grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exchange.cli.margin_view import usdc
from margin.explanation import Explanation, UnitPart
from margin.fixed_point import USDC_SCALE
from margin.pool_model import percent_text

SIDES = ("down", "unchanged", "up")
HEIGHT_OF_UNIT = 480
WORST = "worst"


def write_plot(path: Path, found: list[Explanation], changes: str | None) -> None:
    """Write the scenarios of one explanation, or of two (before and after), into an HTML file.

    Plotly's script is part of the file, so it opens without a network. Profit and loss in USDC.
    """
    path.write_text(plot_html(found, changes), "utf-8")


def plot_html(found: list[Explanation], changes: str | None) -> str:
    """The text of `write_plot`'s file."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = ("",) if len(found) == 1 else ("before: ", "after: ")
    panels = [
        (title, unit)
        for title, one in zip(titles, found, strict=True)
        for unit in one.units
        if unit.scenarios
    ]
    if not panels:
        told = "This model has no scenarios" if found[-1].units else "Nothing is at risk"
        return f"<!doctype html><title>Uncross</title><p>{told}.</p>\n"
    figure = make_subplots(
        rows=2 * len(panels), cols=1, row_heights=[3, 2] * len(panels),
        vertical_spacing=0.36 / (2 * len(panels)),
        subplot_titles=[text for title, unit in panels for text in _titles(title, unit)],
    )  # fmt: skip
    largest = max(
        [1.0, *(abs(_usdc(row.profit_minor)) for _, unit in panels for row in unit.scenarios)]
    )
    for number, (_, unit) in enumerate(panels):
        figure.add_trace(_heat_map(go, unit, largest, number == 0), row=2 * number + 1, col=1)
        figure.add_trace(_bars(go, unit), row=2 * number + 2, col=1)
        figure.update_xaxes(tickangle=0, row=2 * number + 2, col=1)
        figure.update_yaxes(range=_range(unit), row=2 * number + 2, col=1)
    heading = f"{found[0].model}: profit and loss by scenario, USDC"
    if changes:
        heading += f" (what if {changes})"
    figure.update_layout(
        title=heading, height=HEIGHT_OF_UNIT * len(panels) + 120, showlegend=False,
        template="plotly_white",
    )  # fmt: skip
    html: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return html


def _usdc(amount_minor: int) -> float:
    return amount_minor / USDC_SCALE


def _titles(title: str, unit: UnitPart) -> tuple[str, str]:
    worst = f"{WORST}: {unit.worst.name}, {usdc(-unit.loss_minor)}" if unit.worst else ""
    return f"{title}{unit.unit}, spot move x volatility. {worst}", f"{title}{unit.unit}, others"


def _is_worst(unit: UnitPart, scenario: int) -> bool:
    return unit.worst is not None and unit.worst.scenario == scenario


def _heat_map(go: Any, unit: UnitPart, largest: float, scale: bool) -> Any:
    grid = [row for row in unit.scenarios if row.cell.kind == "grid"]
    moves = sorted({row.cell.spot_move_e9 for row in grid})
    cells = {(row.cell.spot_move_e9, row.cell.volatility): row for row in grid}
    values: list[list[float | None]] = []
    texts: list[list[str]] = []
    for side in SIDES:
        rows = [cells.get((move, side)) for move in moves]
        values.append([None if row is None else _usdc(row.profit_minor) for row in rows])
        texts.append([
            "" if row is None else usdc(row.profit_minor)
            + (f"<br>{WORST}" if _is_worst(unit, row.cell.scenario) else "")
            for row in rows
        ])  # fmt: skip
    return go.Heatmap(
        x=[percent_text(move) for move in moves], y=[f"volatility {side}" for side in SIDES],
        z=values, text=texts, texttemplate="%{text}", zmin=-largest, zmax=largest,
        colorscale="RdBu", showscale=scale, colorbar={"title": "USDC"},
        hovertemplate="spot %{x}, %{y}: %{z:,.2f}<extra></extra>",
    )  # fmt: skip


def _range(unit: UnitPart) -> list[float]:
    """A little more than the bars, and never so little that rounding looks like a loss."""
    others = [_usdc(row.profit_minor) for row in unit.scenarios if row.cell.kind != "grid"]
    return [1.1 * min([-1.0, *others]), 1.1 * max([1.0, *others])]


def _bars(go: Any, unit: UnitPart) -> Any:
    others = [row for row in unit.scenarios if row.cell.kind != "grid"]
    return go.Bar(
        x=[row.cell.name.replace(", ", "<br>") for row in others],
        y=[_usdc(row.profit_minor) for row in others],
        text=[
            usdc(row.profit_minor)
            + (f"<br>{WORST}" if _is_worst(unit, row.cell.scenario) else "")
            for row in others
        ],
        marker={"color": ["#b2182b" if row.profit_minor < 0 else "#2166ac" for row in others]},
        hovertemplate="%{x}: %{y:,.2f}<extra></extra>",
    )  # fmt: skip
