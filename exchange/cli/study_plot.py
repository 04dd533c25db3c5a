"""The page of `uncross study procyclicality --plot`: what calm costs, one point a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from replays.procyclicality import Row

HEIGHT = 900
NEAR = 0.06  # of an axis: numbers of points nearer than that would touch
POSITIONS = ("top center", "bottom center", "middle left", "middle right", "top left",
             "bottom right", "top right", "bottom left")  # fmt: skip
# How a model's name tells where it belongs, and its colour.
FAMILIES = (("shipped", "#2ca02c"), (" + ", "#d62728"), ("", "#1f77b4"))


def write_plot(path: Path, rows: Sequence[Row]) -> None:
    """Write one page that needs no other file. OSError if it cannot be written."""
    figure(rows).write_html(path, include_plotlyjs=True)


def figure(rows: Sequence[Row]) -> Any:
    """Numbered points; the legend below says what each number is."""
    import plotly.graph_objects as go

    points = [(100 * row.mean_margin, row.peak_to_trough) for row in rows]
    places = text_positions(points)
    found = go.Figure()
    for number, (row, (x, y), place) in enumerate(zip(rows, points, places, strict=True), 1):
        found.add_scatter(
            x=[x], y=[y], mode="markers+text", text=[str(number)], textposition=place,
            name=f"{number}  {row.name}", cliponaxis=False, marker={"size": 8, "color": next(
                colour for words, colour in FAMILIES if words in row.name)},
            hovertemplate="margin %{x:.2f} %, peak over trough %{y:.2f}",
        )  # fmt: skip
    found.update_layout(
        title="What calm costs: procyclicality against margin,<br>at one breach rate",
        xaxis_title="mean margin, % of notional",
        yaxis_title="peak over trough of a fixed position's margin (median path)",
        template="plotly_white", height=HEIGHT,
        legend={"orientation": "h", "yanchor": "top", "y": -0.12},
    )  # fmt: skip
    return found


def text_positions(points: Sequence[tuple[float, float]]) -> list[str]:
    """Where the number of each point stands: not where one stands of a point close by."""
    spans = [max(axis) - min(axis) or 1.0 for axis in zip(*points, strict=True)]
    found: list[str] = []
    for at, point in enumerate(points):
        taken = {
            found[other]
            for other in range(at)
            if all(
                abs(here - there) < NEAR * span
                for here, there, span in zip(point, points[other], spans, strict=True)
            )
        }
        found.append(next((place for place in POSITIONS if place not in taken), POSITIONS[0]))
    return found
