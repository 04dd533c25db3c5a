"""The page of `uncross compare-margin --plot`: what each model did, cycle by cycle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from exchange.cli.compare_report import counted

PANELS = (
    ("index", "index of the first underlying, USD"),
    ("long", "initial margin of one coin of each long, part of value"),
    ("straddle", "initial margin of a short straddle of each, part of value"),
    ("initial", "initial margin of all accounts, USDC"),
    ("fund", "insurance fund, USDC"),
    ("called", "margin calls open"),
)
PANEL_PIXELS = 300
MONEY = ",.2~f"  # digits as needed, none of them a k
TICKS = {"index": MONEY, "initial": MONEY, "fund": MONEY, "long": ".3~%", "straddle": ".3~%"}
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")


def write_plot(path: Path, report: dict[str, Any]) -> None:
    """Write one page that needs no other file. OSError if it cannot be written."""
    path.write_text(plot_html(report), "utf-8")


def plot_html(report: dict[str, Any]) -> str:
    """The text of `write_plot`'s file: means over seeds; no panel of what no run has."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    courses = [entry["course"] for entry in report["models"].values()]
    panels = [
        (key, title)
        for key, title in PANELS
        if any(value is not None for course in courses for value in course[key])
    ]
    figure = make_subplots(
        rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.03,
        subplot_titles=[title for _, title in panels],
    )  # fmt: skip
    for number, (name, entry) in enumerate(report["models"].items()):
        colour = COLOURS[number % len(COLOURS)]
        for row, (key, _) in enumerate(panels, start=1):
            if key == "index" and number:
                continue  # the path is the same under every model
            values = entry["course"][key]
            figure.add_trace(
                go.Scatter(
                    x=list(range(len(values))), y=values, mode="lines", legendgroup=name,
                    name="index" if key == "index" else name,
                    showlegend=key in ("index", "initial"),
                    line={"color": "#333333" if key == "index" else colour, "width": 1.5},
                ),
                row=row, col=1,
            )  # fmt: skip
    said = report["conditions"]
    for row, (key, _) in enumerate(panels, start=1):
        figure.update_yaxes(tickformat=TICKS.get(key), row=row, col=1)
    figure.update_xaxes(title_text="cycle", row=len(panels), col=1)
    figure.update_layout(
        title=f"{said['title']}: {counted(said['seeds'], 'seed')}, "
        f"{counted(said['cycles'], 'cycle')}, means",
        height=PANEL_PIXELS * len(panels), template="plotly_white", hovermode="x unified",
    )  # fmt: skip
    html: str = figure.to_html(include_plotlyjs=True, full_html=True)
    return html
