"""An explanation drawn: a heat map and bars of every risk unit, or the charges of a model without
scenarios."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from exchange.cli.margin_view import requirement_rows, usdc
from margin.fixed_point import USDC_SCALE
from margin.reasons.explanation import Explanation, UnitPart
from margin.reasons.pool_model import percent_text

SIDES = ("down", "unchanged", "up")
WORST = "worst"
SCENARIOS, CHARGES, NOTHING = "scenarios", "charges", "nothing at risk"
HEAT_PIXELS, BAR_PIXELS, GAP_PIXELS = 230, 30, 110
LEAST_MOVE_MINOR = USDC_SCALE // 200  # half a cent: what is less is shown as 0.00
ROOM = 0.28  # beside the longest bar, for its figure
LOSS, GAIN = "#b2182b", "#2166ac"
LEVELS = (("maintenance margin", "#92c5de"), ("initial margin", "#2166ac"))


class _Panel(NamedTuple):
    """One plot of the page, its heading and its height in pixels."""

    title: str
    pixels: int
    traces: list[Any]
    x_title: str
    x_range: list[float] | None = None
    is_bars: bool = True


def write_plot(path: Path, found: list[Explanation], changes: str | None) -> str:
    """Write one explanation, or two (before and after), into an HTML file; says what is drawn.

    Plotly's script is part of the file, so it opens without a network. Amounts in USDC.
    """
    drawn, html = plot_html(found, changes)
    path.write_text(html, "utf-8")
    return drawn


def plot_html(found: list[Explanation], changes: str | None) -> tuple[str, str]:
    """What is drawn, and the text of `write_plot`'s file."""
    titles = ("",) if len(found) == 1 else ("before: ", "after: ")
    named = list(zip(titles, found, strict=True))
    units = [(title, unit) for title, one in named for unit in one.units if unit.scenarios]
    moving = [(title, unit) for title, unit in units if _moves(unit)]
    still = [f"{title}{unit.unit}: nothing moves it" for title, unit in units
             if not _moves(unit)]  # fmt: skip
    if moving:
        drawn, heading, panels = SCENARIOS, "profit and loss by scenario", _scenarios(moving)
    else:
        drawn, heading, panels = CHARGES, "margin by charge", _charges(named)
    if not panels:
        return NOTHING, "<!doctype html><title>Uncross</title><p>Nothing is at risk.</p>\n"
    heading = f"{found[0].model}: {heading}, USDC"
    if changes:
        heading += f"<br><sub>what if {changes}</sub>"
    if still:
        heading += f"<br><sub>{'; '.join(still)} (0.00 in every scenario)</sub>"
    return drawn, _page(panels, heading)


def _page(panels: list[_Panel], heading: str) -> str:
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    pixels = sum(panel.pixels for panel in panels) + GAP_PIXELS * (len(panels) - 1)
    figure = make_subplots(
        rows=len(panels), cols=1, row_heights=[panel.pixels for panel in panels],
        vertical_spacing=GAP_PIXELS / pixels, subplot_titles=[panel.title for panel in panels],
    )  # fmt: skip
    for row, panel in enumerate(panels, start=1):
        for trace in panel.traces:
            figure.add_trace(trace, row=row, col=1)
        figure.update_xaxes(title_text=panel.x_title, range=panel.x_range, row=row, col=1)
        figure.update_yaxes(automargin=True, row=row, col=1)
        if panel.is_bars:
            figure.update_xaxes(tickformat=",", row=row, col=1)
            figure.update_yaxes(autorange="reversed", row=row, col=1)
    figure.update_annotations(font_size=14)
    figure.update_layout(
        title=heading, height=pixels + 220, margin={"t": 140, "b": 80}, template="plotly_white",
        barmode="group", showlegend=any(isinstance(trace, go.Bar) and trace.showlegend
                                        for panel in panels for trace in panel.traces),
    )  # fmt: skip
    html: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return html


def _usdc(amount_minor: int) -> float:
    return amount_minor / USDC_SCALE


def _moves(unit: UnitPart) -> bool:
    return any(abs(row.profit_minor) >= LEAST_MOVE_MINOR for row in unit.scenarios)


def _range(values: list[float]) -> list[float]:
    """A little more than the bars, with room for their figures at the end."""
    low, high = min(0.0, *values), max(0.0, *values)
    room = ROOM * ((high - low) or 1.0)
    return [low - room if low < 0 else 0.0, high + room if high > 0 else 0.0]


# Scenarios


def _scenarios(units: list[tuple[str, UnitPart]]) -> list[_Panel]:
    """A heat map a unit, and a bar for every scenario outside its grid."""
    # far scenarios are bars: in the colours of theirs a grid would be white
    grids = [row for _, unit in units for row in unit.scenarios if row.cell.kind == "grid"]
    largest = max((abs(_usdc(row.profit_minor)) for row in grids), default=1.0)
    panels = []
    for number, (title, unit) in enumerate(units):
        worst = f"<br>{WORST}: {unit.worst.name}, {usdc(-unit.loss_minor)}" if unit.worst else ""
        heat = _heat_map(unit, largest, number == 0)
        panels.append(_Panel(f"{title}{unit.unit}, volatility by spot move{worst}", HEAT_PIXELS,
                             [heat], "spot move", is_bars=False))  # fmt: skip
        others = [row for row in unit.scenarios if row.cell.kind != "grid"]
        if others:
            panels.append(_Panel(
                f"{title}{unit.unit}, other scenarios", BAR_PIXELS * (len(others) + 1),
                [_bars(unit)], "profit or loss, USDC",
                _range([_usdc(row.profit_minor) for row in others]),
            ))  # fmt: skip
    return panels


def _is_worst(unit: UnitPart, scenario: int) -> bool:
    return unit.worst is not None and unit.worst.scenario == scenario


def _heat_map(unit: UnitPart, largest: float, scale: bool) -> Any:
    import plotly.graph_objects as go

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
        x=[percent_text(move) for move in moves], y=list(SIDES),
        z=values, text=texts, texttemplate="%{text}", zmin=-largest, zmax=largest,
        colorscale="RdBu", showscale=scale,
        colorbar={"title": "USDC", "lenmode": "pixels", "len": HEAT_PIXELS, "y": 1,
                  "yanchor": "top", "thickness": 14},
        hovertemplate="spot %{x}, volatility %{y}: %{z:,.2f}<extra></extra>",
    )  # fmt: skip


def _bars(unit: UnitPart) -> Any:
    import plotly.graph_objects as go

    others = [row for row in unit.scenarios if row.cell.kind != "grid"]
    return go.Bar(
        orientation="h", y=[row.cell.name.replace(", weight", ",<br>weight") for row in others],
        x=[_usdc(row.profit_minor) for row in others],
        text=[
            usdc(row.profit_minor) + (f" {WORST}" if _is_worst(unit, row.cell.scenario) else "")
            for row in others
        ],
        textposition="outside", cliponaxis=False, showlegend=False,
        marker={"color": [LOSS if row.profit_minor < 0 else GAIN for row in others]},
        hovertemplate="%{y}: %{x:,.2f}<extra></extra>",
    )  # fmt: skip


# Charges


def _charges(named: list[tuple[str, Explanation]]) -> list[_Panel]:
    """Maintenance and initial margin of every charge; no panel where nothing is charged."""
    import plotly.graph_objects as go

    panels: list[_Panel] = []
    for title, one in named:
        rows = requirement_rows(one)
        if not any(both for _, *both in rows if any(both)):
            continue
        traces = [
            go.Bar(
                orientation="h", y=[row[0].replace(", ", ",<br>") for row in rows],
                x=[_usdc(row[level]) for row in rows], text=[usdc(row[level]) for row in rows],
                textposition="outside", cliponaxis=False, name=name, marker={"color": colour},
                showlegend=not panels, legendgroup=name,
                hovertemplate="%{y}: %{x:,.2f}<extra></extra>",
            )
            for level, (name, colour) in enumerate(LEVELS, start=1)
        ]  # fmt: skip
        sums = f"sum: maintenance {usdc(one.maintenance_minor)}, initial {usdc(one.initial_minor)}"
        panels.append(_Panel(
            f"{title}{sums}", 2 * BAR_PIXELS * (len(rows) + 1), traces, "charge, USDC",
            _range([_usdc(amount) for _, *both in rows for amount in both]),
        ))  # fmt: skip
    return panels
