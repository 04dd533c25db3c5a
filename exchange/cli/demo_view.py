"""The demo's live view in a terminal: clock, indices, prints, calls, liquidations, layers, fund."""

from __future__ import annotations

from collections import deque

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from exchange.cli.narration import clock_text, narrate, print_lines, usdc
from exchange.cli.tally import Tally
from exchange.core.commands import Command, Uncross
from exchange.core.engine import Engine
from exchange.core.events import Event, Printed
from exchange.core.stored.state import Phase

SPARKS = "▁▂▃▄▅▆▇█"
HISTORY = 60
LINES = 24
COLOURS = {
    "margin calls": "yellow",
    "liquidations": "red",
    "deleveraging": "magenta",
    "layers": "bold red",
    "shortfalls": "bold red",
    "expiries": "cyan",
    "funding": "cyan",
    "listings": "cyan",
}
PHASES = {Phase.COLLECTING: "collecting", Phase.SEALED: "sealed", Phase.UNCROSSED: "uncrossed"}


def sparkline(values: list[int]) -> str:
    """Values as a row of bars between their lowest and highest."""
    low, high = min(values), max(values)
    span = max(1, high - low)
    return "".join(SPARKS[(value - low) * (len(SPARKS) - 1) // span] for value in values)


class DemoView:
    """Collects what happens, and renders it on demand."""

    def __init__(self, title: str, engine: Engine, tally: Tally, cycles: int) -> None:
        self.title, self.engine, self.tally, self.cycles = title, engine, tally, cycles
        self.prints: list[str] = []
        self.news: deque[tuple[str, str, str]] = deque(maxlen=LINES)
        self.calls: deque[tuple[str, str, str]] = deque(maxlen=LINES)
        self.indices: list[deque[int]] = []

    def take(self, command: Command, events: list[Event]) -> None:
        """Note what one command brought; a listener of the sequencer."""
        state = self.engine.state
        if isinstance(command, Uncross):
            self.prints = [
                line for e in events if isinstance(e, Printed) for line in print_lines(state, e)
            ]
        moment = clock_text(command.time_ns)[-8:]
        for event in events:
            told = narrate(state, event)
            if told is None or told[0] == "transfers":
                continue
            heading, line = told
            where = self.calls if heading == "margin calls" else self.news
            where.append((moment, line, COLOURS.get(heading, "")))

    def sample(self) -> None:
        """Add this cycle's indices to the sparklines."""
        prices = self.engine.state.marks.index_e8.tolist()
        if not self.indices:
            self.indices = [deque(maxlen=HISTORY) for _ in prices]
        for history, price in zip(self.indices, prices, strict=True):
            history.append(price)

    def render(self) -> RenderableType:
        """The whole view."""
        layout = Layout()
        layout.split_column(
            Layout(self._header(), size=4), Layout(name="middle"), Layout(self._fund(), size=6)
        )
        layout["middle"].split_row(Layout(name="left"), Layout(name="right"))
        layout["left"].split_column(
            Layout(self._indices(), size=3 + len(self.indices)), Layout(self._prints())
        )
        layout["right"].split_column(
            Layout(_lines("Margin calls", self.calls), ratio=2),
            Layout(_lines("Liquidations, waterfall, expiries", self.news), ratio=3),
        )
        return layout

    def _header(self) -> RenderableType:
        state = self.engine.state
        text = Text.assemble(
            (clock_text(state.time_ns), "bold"), " UTC   cycle ",
            (f"{state.cycle}/{self.cycles}", "bold"),
            f"   phase {PHASES[state.phase]}   batch {state.batch}\n",
            f"{self.tally.accounts} accounts   {len(state.contracts.listed())} contracts   "
            f"state {state.last_hash.hex()[:16]}",
        )  # fmt: skip
        return Panel(text, title=self.title, padding=(0, 1))

    def _indices(self) -> RenderableType:
        table = Table.grid(padding=(0, 1), expand=True)
        for spec, history in zip(self.engine.state.venue.underlyings, self.indices, strict=True):
            values = list(history)
            change = values[-1] / spec.opening_index_e8 - 1
            colour = "green" if change >= 0 else "red"
            table.add_row(
                spec.name,
                Text(f"{values[-1] / 1e8:,.2f}", justify="right"),
                Text(f"{change:+.2%}", style=colour, justify="right"),
                Text(sparkline(values[-40:]), style=colour, no_wrap=True),
            )
        return Panel(table, title="Index", padding=(0, 1))

    def _prints(self) -> RenderableType:
        return Panel(
            Text("\n".join(self.prints) or "no auction traded", no_wrap=True, overflow="ellipsis"),
            title="Last auctions: price, volume, what was left",
            padding=(0, 1),
        )

    def _fund(self) -> RenderableType:
        tally, total = self.tally, self.tally.total
        start, now = max(1, tally.fund_start_minor), tally.fund_minor
        bar = Table.grid(padding=(0, 1))
        gauge = ProgressBar(total=2 * start, completed=max(0, min(now, 2 * start)), width=40)
        bar.add_row(
            "Insurance fund", gauge, f"{usdc(now, 0)} USDC, started with {usdc(start, 0)}, "
            f"lowest {usdc(tally.fund_low_minor, 0)}",
        )  # fmt: skip
        counts = (
            f"orders {total.orders:,}   fills {total.fills:,}   "
            f"volume {usdc(total.volume_minor, 0)} USDC   "
            f"funding {total.funding_paid}   expiries {len(tally.expiries)}\n"
            f"calls {total.margin_calls}   cured {total.margin_calls_cured}   "
            f"liquidations {total.liquidations}   takeovers {total.fund_takeovers}   "
            f"deleveraged {total.adl_events}   haircuts {total.vm_haircuts}"
        )
        paid = "   ".join(f"{k} {usdc(v)}" for k, v in sorted(total.layers_minor.items()))
        title = f"Deficits paid: {paid}" if paid else "No deficit so far"
        return Panel(Group(bar, Text(counts)), title=title, padding=(0, 1))


def _lines(title: str, rows: deque[tuple[str, str, str]]) -> RenderableType:
    text = Text(no_wrap=True, overflow="ellipsis")
    for moment, line, style in reversed(rows):
        text.append(f"{moment} ", "dim")
        text.append(f"{line}\n", style)
    return Panel(text, title=title, padding=(0, 1))
