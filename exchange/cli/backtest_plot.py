"""The page of `uncross backtest --plot`: margins against losses, one panel a portfolio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from replays.backtest import Run

PANEL_PIXELS = 420
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#17becf")
RING, WIDER = 6, 4  # pixels: of the first model's rings, and of each later one
LOSS_COLOUR = "rgba(120, 120, 120, 0.55)"


def write_plot(path: Path, title: str, runs: list[Run]) -> None:
    """Write one page that needs no other file: losses, margin of every model, breaches as rings.

    A click on a model in the legend hides it in all panels. OSError if the file cannot be written.
    """
    from plotly.subplots import make_subplots

    portfolios = list(dict.fromkeys(run.portfolio for run in runs))
    figure = make_subplots(
        rows=len(portfolios), cols=1, shared_xaxes=True, vertical_spacing=0.05,
        subplot_titles=portfolios,
    )  # fmt: skip
    models = list(dict.fromkeys(run.model for run in runs))
    for run in runs:
        panel = portfolios.index(run.portfolio) + 1
        is_first = panel == 1
        time = run.time_ns.astype("datetime64[ns]")
        colour = COLOURS[models.index(run.model) % len(COLOURS)]
        if run.model == models[0]:
            figure.add_trace(loss_trace(run, time, is_first), row=panel, col=1)
        ring = RING + WIDER * models.index(run.model)
        for trace in margin_traces(run, time, colour, is_first, ring):
            figure.add_trace(trace, row=panel, col=1)
    figure.update_yaxes(tickformat=".0%")
    figure.update_layout(
        title=f"Margins against losses: {title}<br><sub>a ring is a breach</sub>",
        height=PANEL_PIXELS * len(portfolios), hovermode="x unified", template="plotly_white",
    )  # fmt: skip
    figure.write_html(path, include_plotlyjs=True)


def loss_trace(run: Run, time: Any, is_first: bool) -> Any:
    """Losses as a thin line; of the first model where they differ by model."""
    from plotly.graph_objects import Scattergl

    return Scattergl(
        x=time, y=run.loss, name="loss", legendgroup="loss", showlegend=is_first, mode="lines",
        line={"color": LOSS_COLOUR, "width": 1},
    )  # fmt: skip


def margin_traces(run: Run, time: Any, colour: str, is_first: bool, ring: int) -> tuple[Any, Any]:
    """The margin as a line, and rings at the losses above it.

    Models breach on the same days at the same height: rings of another size leave each other to be
    seen.
    """
    from plotly.graph_objects import Scattergl

    breached = np.flatnonzero(run.loss > run.margin)
    margin = Scattergl(
        x=time, y=run.margin, name=run.model, legendgroup=run.model, showlegend=is_first,
        mode="lines", line={"color": colour, "width": 1.5},
    )  # fmt: skip
    breaches = Scattergl(
        x=time[breached], y=run.loss[breached], name=f"breach of {run.model}",
        legendgroup=run.model, showlegend=False, mode="markers",
        marker={"color": colour, "symbol": "circle-open", "size": ring, "line": {"width": 1.5}},
    )  # fmt: skip
    return margin, breaches
