"""Runs a journal again and tells what it sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click

from exchange.cli.narration import clock_text, decimal_text, narrate, print_lines, usdc
from exchange.cli.progress import record_progress
from exchange.cli.tally import Counts, Tally
from exchange.core.commands import Command, Revalue, decode_command
from exchange.core.engine import Engine
from exchange.core.events import Event, Filled, OrderAccepted, Printed, Rejected
from exchange.storage.journal import Journal
from exchange.storage.recovery import STATE_HASH_KIND, held_mark

HEADINGS = (
    "transfers", "auctions", "funding", "expiries", "warnings", "credit", "margin calls",
    "liquidations", "layers", "deleveraging", "shortfalls", "listings",
)  # fmt: skip
ROWS_MAX = 60
TOLD = ("margin_calls", "margin_calls_cured", "liquidations", "fund_takeovers", "adl_events",
        "vm_haircuts", "contracts_settled")  # fmt: skip


class Step(NamedTuple):
    """One command of a journal after it was applied; `cycle` is the one that it belongs to."""

    sequence: int
    cycle: int
    command: Command
    events: list[Event]


class Rerun:
    """A journal run again on an engine of its own."""

    def __init__(self, path: Path) -> None:
        self.path, self.engine = path, Engine()
        self.tally = Tally(self.engine)
        self.records = 0

    def steps(self) -> Iterator[Step]:
        """Every command with its events. Raises `StorageRefused` for a journal that is damaged."""
        with (
            Journal.open(self.path, read_only=True) as journal,
            record_progress("reading the journal") as advance,
        ):
            held_mark(journal, allow_missing=True)
            total = journal.head.sequence
            for record in journal.records():
                self.records = record.sequence
                if record.sequence % 1000 == 0:
                    advance(record.sequence, total)
                if record.kind == STATE_HASH_KIND:
                    continue
                command = decode_command(record.kind, record.payload)
                cycle = self.engine.state.batch if self.engine.has_begun else 0
                events = self._apply(record.sequence, command)
                self.tally.take(command, events)
                yield Step(record.sequence, cycle, command, events)

    def _apply(self, sequence: int, command: Command) -> list[Event]:
        try:
            return self.engine.apply(command)
        except Exception as error:  # the engine's own checks refuse a history that cannot be
            raise click.ClickException(
                f"{self.path}: record {sequence}: the engine refused it: {error!r}"
            ) from error


def cycle_text(path: Path, cycle: int) -> list[str]:
    """Everything that happened in one cycle, from its first order to its state hash."""
    rerun = Rerun(path)
    told: dict[str, list[str]] = {heading: [] for heading in HEADINGS}
    entered = refused = filled = 0
    closing: Revalue | None = None
    for step in rerun.steps():
        if step.cycle > cycle:
            break
        if step.cycle < cycle:
            continue
        for event in step.events:
            _tell(rerun.engine, event, told)
            entered += isinstance(event, OrderAccepted)
            refused += isinstance(event, Rejected)
            filled += len(event.order_id) if isinstance(event, Filled) else 0
        if isinstance(step.command, Revalue):
            closing = step.command
    if closing is None:
        last = rerun.engine.cycle
        raise click.ClickException(f"{path}: cycle {cycle} is not in it; the last is {last}")
    lines = [f"cycle {cycle}, closed {clock_text(closing.time_ns)} UTC", "", "index"]
    lines += [
        f"  {spec.name:<6} {decimal_text(mark.index_e8)}"
        for spec, mark in zip(
            rerun.engine.state.venue.underlyings, closing.underlyings, strict=True
        )
    ]
    lines += ["", f"orders: {entered} accepted, {refused} requests refused, {filled} fills"]
    for heading in HEADINGS:
        if told[heading]:
            lines += ["", heading, *(f"  {line}" for line in told[heading])]
    return [*lines, "", *_closing(rerun)]


def _tell(engine: Engine, event: Event, told: dict[str, list[str]]) -> None:
    if isinstance(event, Printed):
        told["auctions"] += print_lines(engine.state, event)
        return
    line = narrate(engine.state, event)
    if line is not None:
        told[line[0]].append(line[1])


def _closing(rerun: Rerun) -> list[str]:
    """Where the books stand when the rerun has stopped."""
    figures = rerun.tally.summary()
    return [
        f"insurance fund {usdc(rerun.tally.fund_minor)} USDC, trial balance "
        f"{figures['trial_balance']}, sum of positions {figures['positions_sum']}",
        f"state hash {figures['state_hash']}",
    ]


def overview_text(path: Path) -> list[str]:
    """The market, its totals, and a line for every cycle in which something happened."""
    rerun = Rerun(path)
    rows: list[tuple[int, str]] = []
    opened = 0
    for step in rerun.steps():
        if not isinstance(step.command, Revalue):
            continue
        opened = opened or step.command.time_ns
        counts = rerun.tally.last_cycle
        weight = sum(getattr(counts, name) for name in TOLD)
        if weight:
            rows.append((weight, _row(step.cycle, step.command.time_ns, counts, rerun.tally)))
    if rerun.records == 0:
        raise click.ClickException(f"{path}: the journal is empty")
    state = rerun.engine.state
    lines = [
        f"venue {state.venue.name}, seed {state.seed}, {rerun.records} records, "
        f"{state.cycle + 1} cycles of {state.venue.interval_ns / 1e9:g} s",
        f"{clock_text(opened)} to {clock_text(state.time_ns)} UTC, "
        f"{rerun.tally.accounts} accounts, {len(state.contracts)} contracts",
        "",
    ]
    total = rerun.tally.total
    lines.append(
        f"{total.orders:,} orders, {total.fills:,} fills, {usdc(total.volume_minor, 0)} USDC traded"
    )
    shown = rows
    if len(rows) > ROWS_MAX:
        least = sorted((weight for weight, _ in rows), reverse=True)[ROWS_MAX - 1]
        shown = [row for row in rows if row[0] > least]
        shown += [row for row in rows if row[0] == least][: ROWS_MAX - len(shown)]
        shown = [row for row in rows if row in shown]
        lines.append(f"the {len(shown)} busiest of {len(rows)} cycles with events:")
    lines += ["", HEADER, *(text for _, text in shown), "", *_closing(rerun)]
    return [*lines, f"one cycle in full: uncross show {path} --cycle N"]


HEADER = (
    f"{'cycle':>6} {'closed (UTC)':<20} {'fills':>6} {'calls':>6} {'cured':>6} {'cases':>6} "
    f"{'taken':>6} {'adl':>5} {'expired':>8} {'fund USDC':>14}"
)


def _row(cycle: int, time_ns: int, counts: Counts, tally: Tally) -> str:
    return (
        f"{cycle:>6} {clock_text(time_ns):<20} {counts.fills:>6} {counts.margin_calls:>6} "
        f"{counts.margin_calls_cured:>6} {counts.liquidations:>6} {counts.fund_takeovers:>6} "
        f"{counts.adl_events:>5} {counts.contracts_settled:>8} {usdc(tally.fund_minor, 0):>14}"
    )
