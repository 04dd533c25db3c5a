"""The page of `uncross compare-margin --plot`: what each model did, cycle by cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PANELS = (
    ("index", "index of the first underlying, USD"),
    ("long", "initial margin of one coin of each long, part of value"),
    ("straddle", "initial margin of a short straddle of each, part of value"),
    ("initial", "initial margin of all accounts, USDC"),
    ("fund", "insurance fund, USDC"),
    ("called", "margin calls open"),
)
PANEL_PIXELS = 300
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")


def write_plot(path: Path, report: dict[str, Any]) -> None:
    """Write one page that needs no other file. OSError if it cannot be written."""
    path.write_text(plot_html(report), "utf-8")


def plot_html(report: dict[str, Any]) -> str:
    """The text of `write_plot`'s file: means over seeds."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    figure = make_subplots(
        rows=len(PANELS), cols=1, shared_xaxes=True, vertical_spacing=0.03,
        subplot_titles=[title for _, title in PANELS],
    )  # fmt: skip
    for number, (name, entry) in enumerate(report["models"].items()):
        colour = COLOURS[number % len(COLOURS)]
        for row, (key, _) in enumerate(PANELS, start=1):
            if key == "index" and number:
                continue  # the path is the same under every model
            values = entry["course"][key]
            figure.add_trace(
                go.Scatter(
                    x=list(range(len(values))), y=values, mode="lines", legendgroup=name,
                    name="index" if key == "index" else name, showlegend=key in ("index", "long"),
                    line={"color": "#333333" if key == "index" else colour, "width": 1.5},
                ),
                row=row, col=1,
            )  # fmt: skip
    said = report["conditions"]
    figure.update_xaxes(title_text="cycle", row=len(PANELS), col=1)
    figure.update_layout(
        title=f"{said['title']}: {said['seeds']} seeds, {said['cycles']} cycles, means",
        height=PANEL_PIXELS * len(PANELS), template="plotly_white", hovermode="x unified",
    )  # fmt: skip
    html: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return html
