"""From continuous order flow to batch intervals: what a call-auction engine is fed, as columns.

A file of executions was made by another rule, so executions are not applied. What is kept is
intent: submissions rest, cancels and deletions reduce them, and every run of executions becomes
the marketable order that must have caused it. The result is a mechanical counterfactual, not a
forecast of how the same traders would behave under batch auctions.

Rules of the mapping:

1. Batch k covers [start + k * interval, start + (k + 1) * interval) in exchange time. Messages
   with equal times are one venue event and therefore always share a batch.
2. Type 1 becomes PLACE, a limit that rests until cancelled.
3. Types 2 and 3 become REDUCE: by the size of a partial cancel, or of ALL_REMAINING for a
   deletion, since what remains in the batch book need not be what remained in the historical one.
   Reductions act at once on the pool, before the batch is cleared.
4. Consecutive type 4 rows (other types between them do not count) with one time and one direction
   are one taker: TAKE, an immediate-or-cancel limit on the side opposite to the resting orders,
   of their total size, limited by the worst price reached. It stands where its first row stood.
5. Types 5, 6 and 7 (hidden executions, crosses, halts) are counted and left out.
6. A reduction of an order that this file never submitted is counted and left out. An execution of
   one is counted and still makes its taker. Many of them betray a file cut to a few levels, whose
   replay is worthless: deletions deep in the book are missing, and ghosts trade later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from margin.invariant import BoolArray, Int64Array
from replays.lobster import (
    CANCEL_PART,
    CROSS,
    DELETE,
    EXECUTE,
    EXECUTE_HIDDEN,
    HALT,
    SUBMIT,
    LobsterError,
    Messages,
)

PLACE: Final = 0
REDUCE: Final = 1
TAKE: Final = 2

ALL_REMAINING: Final = 2**31 - 1
"""The quantity of a REDUCE row that cancels whatever is left of its order."""

SESSION_OPEN_NS: Final = 34_200_000_000_000
"""09:30 New York, the opening of NASDAQ's session, in nanoseconds after midnight."""


@dataclass(frozen=True, slots=True)
class FlowTotals:
    """What became of the messages of one file.

    `messages` = `used` + `hidden` + `crosses` + `halts` + `unknown_ids`: submissions, reductions
    of known orders and all visible executions are used. `orders` counts PLACE rows and `takers`
    TAKE rows. `unknown_ids` counts cancels and deletions, and `unknown_executions` visible
    executions, of ids without an earlier submission in the file. Volumes are in shares.
    """

    messages: int
    used: int
    hidden: int
    crosses: int
    halts: int
    orders: int
    takers: int
    unknown_ids: int
    unknown_executions: int
    visible_volume: int
    hidden_volume: int
    cross_volume: int


@dataclass(frozen=True, slots=True)
class Flow:
    """Order flow cut into batches: R rows in file order, NB batches that have rows.

    Columns of R rows: `batch` (number of the interval, 0 starts at `start_ns`), `row_kind`
    (PLACE, REDUCE, TAKE), `reference` (0, 1, 2... in file order for PLACE; that number of the
    target for REDUCE; -1 for TAKE), `side` (1 buy, -1 sell; the target's for REDUCE),
    `price_ticks` (limit; the target's for REDUCE), `quantity_lots` (one lot is one share;
    ALL_REMAINING for a deletion), `time_ns` after midnight, `line` in the file (1 is the first).

    Batch `batch_number[j]` holds rows `row_start[j]` to `row_start[j + 1]`, exclusive. Batches
    from `first_batch` to `last_batch`, those of the file's first and last message of any type,
    are ticks of the venue's clock even where they have no rows.
    """

    interval_ns: int
    start_ns: int
    tick_e4: int
    batch: Int64Array
    row_kind: Int64Array
    reference: Int64Array
    side: Int64Array
    price_ticks: Int64Array
    quantity_lots: Int64Array
    time_ns: Int64Array
    line: Int64Array
    batch_number: Int64Array
    row_start: Int64Array
    first_batch: int
    last_batch: int
    totals: FlowTotals

    def __len__(self) -> int:
        return len(self.batch)


def build_flow(
    messages: Messages, interval_ns: int, tick_e4: int = 100, start_ns: int | None = None
) -> Flow:
    """Map the messages of one file to batches of `interval_ns`, by the rules of this module.

    `tick_e4` is the tick in dollars x 10000 (100 is a cent). Batch 0 starts at `start_ns`, by
    default at the session's open, 09:30; for a file that begins earlier, at the last whole number
    of intervals before the open that is not after its first message. Either way the boundaries
    lie on the grid of intervals through 09:30.

    Raises `LobsterError`, with the line, for a visible price off the tick, an id submitted twice,
    an order executed or reduced beyond its size, after its deletion, or at another price or side
    than submitted, and a size too large for a lot count. Raises `ValueError` for an interval or
    tick below 1, no messages, and a start after the first message.
    """
    if interval_ns < 1 or tick_e4 < 1:
        raise ValueError(f"interval_ns {interval_ns} and tick_e4 {tick_e4} must be at least 1")
    start_ns = _start(messages, interval_ns, start_ns)
    _check_visible(messages, tick_e4)
    submitted, target = _match_orders(messages)
    _check_histories(messages, submitted, target)
    takers, taker_shares, worst_e4 = _takers(messages)
    row_kind = np.full(len(messages), -1, dtype=np.int64)
    row_kind[submitted] = PLACE
    row_kind[(target >= 0) & (messages.kind != EXECUTE)] = REDUCE
    row_kind[takers] = TAKE
    rows = np.flatnonzero(row_kind >= 0)

    # One value per message first, then only those of rows.
    reference = target.copy()
    reference[submitted] = np.arange(len(submitted))
    reference[takers] = -1
    side = messages.direction.copy()
    side[takers] *= -1
    price_e4 = messages.price_e4.copy()
    price_e4[takers] = worst_e4
    quantity = np.where(messages.kind == DELETE, ALL_REMAINING, messages.size_shares)
    quantity[takers] = taker_shares

    batch = (messages.time_ns[rows] - start_ns) // interval_ns
    starts = np.flatnonzero(np.diff(batch, prepend=-1))
    return Flow(
        interval_ns=interval_ns,
        start_ns=start_ns,
        tick_e4=tick_e4,
        batch=batch,
        row_kind=row_kind[rows],
        reference=reference[rows],
        side=side[rows],
        price_ticks=price_e4[rows] // tick_e4,
        quantity_lots=quantity[rows],
        time_ns=messages.time_ns[rows],
        line=rows + 1,
        batch_number=batch[starts],
        row_start=np.append(starts, len(rows)),
        first_batch=int((messages.time_ns[0] - start_ns) // interval_ns),
        last_batch=int((messages.time_ns[-1] - start_ns) // interval_ns),
        totals=_totals(messages, target, orders=len(submitted), takers=len(takers)),
    )


def assign_accounts(flow: Flow, accounts: int, seed: int) -> Int64Array:
    """An account, 0 to `accounts` - 1, for every row: equity data names no owners.

    Order k of the file belongs to `mix(seed, k)` and taker t (the t-th TAKE row) to
    `mix(seed, K + t)`, K the number of orders; a reduction belongs to its order's account. `mix`
    takes splitmix64's output (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
    generators") of the state splitmix64(seed) + (k + 1) * gamma, drops the lowest bit and takes
    the remainder by `accounts`. So the owner depends on the seed and the position in the file
    alone, not on the interval. An account can meet its own order with chance 1 / `accounts`.

    Raises `ValueError` unless `accounts` is at least 1 and `seed` fits 63 bits.
    """
    if accounts < 1 or not 0 <= seed < 2**63:
        raise ValueError(f"accounts {accounts} must be at least 1, seed {seed} at least 0, 63 bits")
    is_take = flow.row_kind == TAKE
    ordinal = flow.reference.copy()
    ordinal[is_take] = flow.totals.orders + np.arange(flow.totals.takers)
    state = _splitmix64(np.array([seed], dtype=np.uint64))
    state = state + (ordinal.astype(np.uint64) + np.uint64(1)) * _GAMMA
    return ((_splitmix64(state) >> np.uint64(1)) % np.uint64(accounts)).astype(np.int64)


_GAMMA: Final = np.uint64(0x9E3779B97F4A7C15)


def _splitmix64(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finaliser of splitmix64 on an array of uint64, which wraps by definition."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return state


def _start(messages: Messages, interval_ns: int, start_ns: int | None) -> int:
    """Where batch 0 starts: as told, else at the open or on its grid before it."""
    if len(messages) == 0:
        raise ValueError("a flow needs at least one message")
    first_ns = int(messages.time_ns[0])
    if start_ns is None:
        intervals_early = max(0, -((first_ns - SESSION_OPEN_NS) // interval_ns))
        return SESSION_OPEN_NS - intervals_early * interval_ns
    if start_ns > first_ns:
        raise ValueError(f"start_ns {start_ns} is after the first message at {first_ns}")
    return start_ns


def _refuse_first(messages: Messages, bad: BoolArray, wrong: str, allowed: str) -> None:
    """Refuse the file at the first row where `bad` holds; `wrong` may quote columns of it."""
    if not bad.any():
        return
    row = int(np.argmax(bad))
    quoted = wrong.format(
        kind=messages.kind[row],
        order_id=messages.order_id[row],
        size=messages.size_shares[row],
        price_e4=messages.price_e4[row],
    )
    raise LobsterError(messages.path, row + 1, quoted, allowed)


def _check_visible(messages: Messages, tick_e4: int) -> None:
    visible = messages.kind <= EXECUTE
    _refuse_first(
        messages,
        visible & (messages.price_e4 % tick_e4 != 0),
        "price {price_e4} of a visible order (type {kind}) is off the tick",
        f"a multiple of {tick_e4}; only hidden executions may lie between ticks",
    )
    _refuse_first(
        messages,
        visible & (messages.size_shares >= ALL_REMAINING),
        "size {size} is too large for a lot count",
        f"a size below {ALL_REMAINING}",
    )


def _match_orders(messages: Messages) -> tuple[Int64Array, Int64Array]:
    """Find the submission that each cancel, deletion and visible execution speaks of.

    Returns the rows of submissions in file order, and for every row of the file the number of
    its order among them, -1 where there is none earlier in the file or none is meant.
    """
    submitted = np.flatnonzero(messages.kind == SUBMIT)
    ids = messages.order_id[submitted]
    by_id = np.argsort(ids, kind="stable")
    ids = ids[by_id]
    again = np.zeros(len(messages), dtype=np.bool_)
    again[submitted[by_id[1:]]] = ids[1:] == ids[:-1]
    _refuse_first(
        messages, again, "order id {order_id} was submitted before", "one submission for each id"
    )
    target = np.full(len(messages), -1, dtype=np.int64)
    speaks = np.flatnonzero((messages.kind > SUBMIT) & (messages.kind <= EXECUTE))
    if len(submitted) and len(speaks):
        wanted = messages.order_id[speaks]
        place = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        order = by_id[place]
        known = (ids[place] == wanted) & (submitted[order] < speaks)
        target[speaks[known]] = order[known]
    return submitted, target


def _check_histories(messages: Messages, submitted: Int64Array, target: Int64Array) -> None:
    """Refuse a file in which an order loses more than it was, or changes price or side."""
    rows = np.flatnonzero(target >= 0)
    order = target[rows]
    moved = np.zeros(len(messages), dtype=np.bool_)
    moved[rows] = (messages.price_e4[rows] != messages.price_e4[submitted[order]]) | (
        messages.direction[rows] != messages.direction[submitted[order]]
    )
    _refuse_first(
        messages,
        moved,
        "type {kind} of order {order_id} is not at the price and side it was submitted at",
        "the price and direction of the submission",
    )
    by_order = np.argsort(order, kind="stable")
    rows, order = rows[by_order], order[by_order]
    size = messages.size_shares[rows]
    deleted = (messages.kind[rows] == DELETE).astype(np.int64)
    # Running sums inside each order: the running sum of all, less what stood before its first row.
    first = np.searchsorted(order, order, side="left")
    size_before, deleted_before = np.cumsum(size) - size, np.cumsum(deleted) - deleted
    lost = size_before + size - size_before[first]
    gone = deleted_before - deleted_before[first]
    overdrawn = np.zeros(len(messages), dtype=np.bool_)
    overdrawn[rows] = (lost > messages.size_shares[submitted[order]]) | (gone > 0)
    _refuse_first(
        messages,
        overdrawn,
        "type {kind} takes {size} shares from order {order_id}, which has fewer left",
        "executions and cancels up to the submitted size, and none after a deletion",
    )


def _takers(messages: Messages) -> tuple[Int64Array, Int64Array, Int64Array]:
    """The marketable orders behind the visible executions: first row, shares, worst price."""
    executions = np.flatnonzero(messages.kind == EXECUTE)
    if len(executions) == 0:
        return executions, executions, executions
    time_ns = messages.time_ns[executions]
    resting = messages.direction[executions]
    price_e4 = messages.price_e4[executions]
    new = np.ones(len(executions), dtype=np.bool_)
    new[1:] = (time_ns[1:] != time_ns[:-1]) | (resting[1:] != resting[:-1])
    runs = np.flatnonzero(new)
    first = executions[runs]
    shares = np.add.reduceat(messages.size_shares[executions], runs)
    too_large = np.zeros(len(messages), dtype=np.bool_)
    too_large[first] = shares >= ALL_REMAINING
    _refuse_first(
        messages,
        too_large,
        "the executions of one taker start here and sum up to too many shares for a lot count",
        f"a total below {ALL_REMAINING}",
    )
    # Resting buys were hit by a seller, for whom the lowest price is the worst; and mirrored.
    lowest = np.minimum.reduceat(price_e4, runs)
    highest = np.maximum.reduceat(price_e4, runs)
    return first, shares, np.where(messages.direction[first] == 1, lowest, highest)


def _totals(messages: Messages, target: Int64Array, *, orders: int, takers: int) -> FlowTotals:
    kind, size = messages.kind, messages.size_shares
    unknown = target < 0
    hidden, crosses = kind == EXECUTE_HIDDEN, kind == CROSS
    visible = kind == EXECUTE
    halts = int(np.count_nonzero(kind == HALT))
    unknown_ids = int(np.count_nonzero(unknown & ((kind == CANCEL_PART) | (kind == DELETE))))
    left_out = int(np.count_nonzero(hidden | crosses)) + halts + unknown_ids
    return FlowTotals(
        messages=len(messages),
        used=len(messages) - left_out,
        hidden=int(np.count_nonzero(hidden)),
        crosses=int(np.count_nonzero(crosses)),
        halts=halts,
        orders=orders,
        takers=takers,
        unknown_ids=unknown_ids,
        unknown_executions=int(np.count_nonzero(unknown & visible)),
        visible_volume=int(size[visible].sum()),
        hidden_volume=int(size[hidden].sum()),
        cross_volume=int(size[crosses].sum()),
    )
