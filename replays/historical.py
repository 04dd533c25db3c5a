"""Recorded order flow through the whole engine: batches, auctions, ledger, margin, state hash.

The flow's orders were chosen for another rule: a replay says how this market's machinery handles
them, not how their senders would have acted in it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from exchange.core.commands import (
    Command,
    Deposit,
    Genesis,
    OpenAccount,
    OrderColumns,
    Revalue,
    Seal,
    Uncross,
    UnderlyingMark,
)
from exchange.core.engine import VERSION, Engine
from exchange.core.events import ColumnsApplied, Event, Filled, Printed
from exchange.core.orders.batch_entry import FIELDS
from exchange.core.reject_reason import RejectReason
from exchange.core.venue import USDC, Venue
from exchange.venues import parse_venue
from margin.fixed_point import RATE_SCALE
from margin.invariant import Int64Array
from replays.flow import ALL_REMAINING, PLACE, REDUCE, TAKE, Flow, assign_accounts

ACCOUNTS = 64
ENDOWMENT_MINOR = 10**15

# One linear contract per share, in dollars and cents; collar and risk gate off, no fees, so that
# nothing but the auction decides. `price_max` leaves room above every price of the file.
VENUE = """
name = "{name}"
preset = "span-16"
interval_s = {interval_s}
opening = {opening}
disclosure = "outstanding"
risk_gate = false
client_order_id_cycles = 1

[[underlying]]
name = "{name}"
risk_class = "default"
collateral = false
price_max = {price_max}
opening_index = {opening_index}
opening_volatility = 0.5
linear = {{ tick = {tick}, lot = 1 }}

[collar]
band = 0
floor_ticks = 0
widen = 1
extensions = 0

[fees]
future = 0
option = 0
option_cap = 0
liquidation = 0

[funding]
dead_band = 0.0005
cap = 0
period_s = 28800

[index]
stale_after_s = 86400
dead_after_s = 86400
stale_initial_extra = 0
settlement_window_s = 1800

[calls]
deadline_cycles = 1

[default]
private_cycles = 0
public_cycles = 1
buffer = 0.15
large_notional = 100000
large_first_fraction = 0.2
spread_factor = 1.5
takeover_fee = 0
unwind_fraction = 0.1
unwind_spread = 0.005
fund = 0
venue_capital = 0
coverage_min = 0
allow_uncovered = true
"""


@dataclass
class HistoricalRun:
    """What a replay of recorded flow came to."""

    batches: int = 0
    orders: int = 0
    fills: int = 0
    prints: int = 0
    auction_volume: int = 0
    late_cancels: int = 0
    state_hash: str = ""
    seconds: float = 0.0


def share_venue(
    name: str, interval_ns: int, tick_e4: int, opening_ns: int, price_e4: Int64Array
) -> Venue:
    """The venue that one file of share orders replays on; `price_e4` are the file's prices."""
    from datetime import UTC, datetime, timedelta

    opening = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=opening_ns // 1000)
    text = VENUE.format(
        name=name,
        interval_s=f"{interval_ns // RATE_SCALE}.{interval_ns % RATE_SCALE:09d}",
        opening=opening.isoformat(),
        price_max=2 * (int(price_e4.max()) // 10_000 + 1),
        opening_index=f"{int(price_e4[0]) // 10_000}.{int(price_e4[0]) % 10_000:04d}",
        tick=f"{tick_e4 // 10_000}.{tick_e4 % 10_000:04d}",
    )
    return parse_venue(text, "replay venue")


def _by_batch(
    rows: Int64Array, row_start: Int64Array, reference: Int64Array
) -> list[tuple[Int64Array, Int64Array]]:
    """Chosen rows of a flow, cut by batch: where they are in their batch, and their references."""
    cuts = rows.searchsorted(row_start)
    within = rows - np.repeat(row_start[:-1], np.diff(cuts))
    found, bounds = reference[rows], cuts.tolist()
    return [(within[start:end], found[start:end]) for start, end in pairwise(bounds)]


class HistoricalReplay:
    """Feeds a flow to an engine, batch after batch."""

    def __init__(self, flow: Flow, venue: Venue, seed: int) -> None:
        self.flow, self.venue = flow, venue
        self.engine = Engine()
        self.run = HistoricalRun()
        self.on_command: Callable[[Command, list[Event]], None] | None = None
        start = venue.opening_time_ns
        self._mark_e8 = venue.underlyings[0].opening_index_e8
        self._tick_e8 = venue.instruments[0].tick_e8
        self._apply(Genesis(start, venue, seed, VERSION))
        for number in range(ACCOUNTS):
            self._apply(OpenAccount(start, f"replay-{number}"))
            self._apply(Deposit(start, number, USDC, ENDOWMENT_MINOR))
        self._prepare(assign_accounts(flow, ACCOUNTS, seed))
        self._order_ids = np.zeros(int(flow.reference.max(initial=-1)) + 1, np.int64)

    def _apply(self, command: Command) -> list[Event]:
        events = self.engine.apply(command)
        if self.on_command is not None:
            self.on_command(command, events)
        return events

    def _prepare(self, account: Int64Array) -> None:
        """The flow's rows as fields of `OrderColumns`; targets of other batches come later."""
        flow = self.flow
        columns = np.zeros((FIELDS, len(flow)), np.int64)
        columns[0], columns[2] = account, flow.side
        columns[3], columns[4] = flow.price_ticks, flow.quantity_lots
        columns[5] = flow.row_kind == TAKE
        placed = np.flatnonzero(flow.row_kind == PLACE)
        placed_at = np.full(int(flow.reference.max(initial=-1)) + 1, -1, np.int64)
        placed_at[flow.reference[placed]] = placed
        reduces = np.flatnonzero(flow.row_kind == REDUCE)
        origin = placed_at[flow.reference[reduces]]
        same = flow.batch[origin] == flow.batch[reduces]
        first_row = np.repeat(flow.row_start[:-1], np.diff(flow.row_start))
        # A target in the same command is named by its row there, counted from 1, negative.
        columns[6, reduces[same]] = -(origin[same] - first_row[reduces[same]] + 1)
        columns[4, reduces] = np.minimum(flow.quantity_lots[reduces], ALL_REMAINING)
        bounds, earlier = flow.row_start, reduces[~same]
        # Per batch: its columns one after the other, and where in them its new orders and the
        # targets of other batches are, with their numbers in `_order_ids`.
        self._blocks = [
            np.ascontiguousarray(columns[:, start:end]) for start, end in pairwise(bounds.tolist())
        ]
        self._placed = _by_batch(placed, bounds, flow.reference)
        self._earlier = _by_batch(earlier, bounds, flow.reference)
        self.run.orders = int((flow.row_kind != REDUCE).sum())

    def _enter(self, at: int, time_ns: int) -> int:
        """Enter the `at`-th batch that has rows; returns how many rows it has."""
        block, (rows, target) = self._blocks[at], self._earlier[at]
        block[6, rows] = self._order_ids[target]
        count = block.shape[1]
        applied = self._apply(OrderColumns(time_ns, count, block.tobytes()))[0]
        assert isinstance(applied, ColumnsApplied)
        rows, placed = self._placed[at]
        self._order_ids[placed] = applied.order_ids[rows]
        if np.count_nonzero(applied.reasons):
            late = applied.reasons == int(RejectReason.ORDER_NOT_OPEN)
            self.run.late_cancels += int(late.sum())
            other = applied.reasons[~late & (applied.reasons != 0)]
            if len(other):
                reason = RejectReason(int(other[0]))
                raise ValueError(f"an order of the file was refused: {reason.name}")
        return count

    def _close(self, batch: int, time_ns: int) -> None:
        self._apply(Seal(time_ns, batch))
        for event in self._apply(Uncross(time_ns, batch)):
            if isinstance(event, Printed):
                volume = int(event.volume_lots[0])
                self.run.auction_volume += volume
                if volume:
                    self.run.prints += 1
                    self._mark_e8 = int(event.price_ticks[0]) * self._tick_e8
            elif isinstance(event, Filled):
                self.run.fills += len(event.order_id)
        mark = self._mark_e8
        index = UnderlyingMark(mark, 0, RATE_SCALE, ((time_ns, mark),))
        self._apply(Revalue(time_ns, batch, (index,), ((0, mark),), (), b""))
        self.run.batches += 1

    def execute(self, progress: Callable[[int], None] | None = None) -> HistoricalRun:
        """Run every batch of the file, empty ones included; returns what it came to."""
        flow, interval = self.flow, self.flow.interval_ns
        opening = self.venue.opening_time_ns
        self._close(0, opening)  # cycle 0 sets the marks, without which nothing trades
        self.run.batches = 0
        row_of = dict(zip(flow.batch_number.tolist(), range(len(flow.batch_number)), strict=True))
        collects = gc.isenabled()
        gc.disable()  # a cycle leaves nothing circular behind
        began = time.perf_counter()
        for number in range(flow.first_batch, flow.last_batch + 1):
            batch = number - flow.first_batch + 1
            ends_ns = opening + batch * interval
            at = row_of.get(number)
            if at is not None:
                rows = self._enter(at, ends_ns - 1)
                if progress is not None:
                    progress(rows)
            self._close(batch, ends_ns)
        self.run.seconds = time.perf_counter() - began
        if collects:
            gc.enable()
        self.run.state_hash = self.engine.last_state_hash.hex()
        return self.run
