"""A slow, obvious replay of LOBSTER order flow through batch auctions, in plain Python.

It shares no code with `replays`: it reads text with `Decimal`, keeps the book in dicts and walks
every tick of an auction. `to_events` is the twin of `replays.flow.build_flow`, `replay` is an
oracle for any engine that is fed the same events.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

PLACE, REDUCE, TAKE = 0, 1, 2
ALL_REMAINING = 2**31 - 1
SESSION_OPEN_NS = 34_200 * 10**9


class Row(NamedTuple):
    """One message, in the file's own terms; `direction` is the resting order's."""

    time_ns: int
    kind: int
    order_id: int
    size_shares: int
    price_e4: int
    direction: int


class Event(NamedTuple):
    """One row of flow. `reference` numbers submissions from 0; takers have -1."""

    batch: int
    kind: int
    reference: int
    side: int
    price_ticks: int
    quantity_lots: int
    time_ns: int
    line: int


class Fill(NamedTuple):
    """One order's share of one auction; `event` is the place of its PLACE or TAKE in the flow."""

    batch: int
    event: int
    side: int
    price_ticks: int
    quantity_lots: int


class Print(NamedTuple):
    """What one auction published; `surplus_lots` is demand less supply at the price."""

    batch: int
    price_ticks: int
    volume_lots: int
    surplus_lots: int


@dataclass
class Replay:
    """What a replay reports. `late_cancels` counts reductions of orders with nothing left."""

    auction_volume: int = 0
    late_cancels: int = 0
    batches: int = 0
    prints: list[Print] = field(default_factory=list)
    fills: list[Fill] = field(default_factory=list)


@dataclass
class Flow:
    """The events of a file and what was counted on the way."""

    events: list[Event] = field(default_factory=list)
    visible_volume: int = 0
    unknown_ids: int = 0
    unknown_executions: int = 0


def data_file(name: str) -> Path | None:
    """A file of the folder of real data, which is not part of the repository; None if absent.

    The folder is the environment variable UNCROSS_DATA or `../shared/data` beside the repository.
    """
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    path = Path(os.environ.get("UNCROSS_DATA", beside)) / name
    return path if path.is_file() else None


def read_rows(path: Path, first: int | None = None) -> list[Row]:
    """The messages of a file, or its first so many. Residue behind the nanosecond is rounded."""
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = []
    for line in text.decode("ascii").splitlines()[:first]:
        time, *numbers = line.split(",")[:6]
        rows.append(Row(round(Decimal(time) * 10**9), *(int(number) for number in numbers)))
    return rows


def to_events(
    rows: list[Row], interval_ns: int, tick_e4: int = 100, start_ns: int = SESSION_OPEN_NS
) -> Flow:
    """Cut messages into batches: submissions, reductions, and a taker per run of executions."""
    flow = Flow()
    submissions: dict[int, int] = {}
    taker: Event | None = None
    place_of_taker = -1
    for line, row in enumerate(rows, start=1):
        batch = (row.time_ns - start_ns) // interval_ns
        ticks = Decimal(row.price_e4) / tick_e4
        known = row.order_id in submissions
        if row.kind == 1:
            submissions[row.order_id] = len(submissions)
            kind, reference, side, size = PLACE, submissions[row.order_id], 1, row.size_shares
        elif row.kind in (2, 3):
            if not known:
                flow.unknown_ids += 1
                continue
            size = row.size_shares if row.kind == 2 else ALL_REMAINING
            kind, reference, side = REDUCE, submissions[row.order_id], 1
        elif row.kind == 4:
            flow.visible_volume += row.size_shares
            flow.unknown_executions += not known
            kind, reference, side, size = TAKE, -1, -1, row.size_shares
        else:
            continue
        event = Event(
            batch, kind, reference, side * row.direction, int(ticks), size, row.time_ns, line
        )
        assert ticks == event.price_ticks, f"line {line}: {row.price_e4} is off the tick"
        if kind == TAKE and taker and (taker.time_ns, taker.side) == (event.time_ns, event.side):
            worst = max if event.side == 1 else min
            taker = taker._replace(
                price_ticks=worst(taker.price_ticks, event.price_ticks),
                quantity_lots=taker.quantity_lots + size,
            )
            flow.events[place_of_taker] = taker
            continue
        if kind == TAKE:
            taker, place_of_taker = event, len(flow.events)
        flow.events.append(event)
    return flow


Age = tuple[int, ...]  # the smaller one fills first at the price of the auction


@dataclass
class _Order:
    event: int
    age: Age
    side: int
    price_ticks: int
    remaining_lots: int


def batch_age(event: Event, place: int) -> Age:
    """Orders of one batch are equals, whenever in it they came."""
    return (event.batch,)


def arrival_age(event: Event, place: int) -> Age:
    """Price-time priority: file order inside a batch, takers behind the orders of their batch."""
    return (event.batch, int(event.kind == TAKE), place)


def replay(
    events: Iterable[Event],
    reference_ticks: int | None = None,
    *,
    reference_follows_prints: bool = True,
    age_of: Callable[[Event, int], Age] = batch_age,
    lottery: Callable[[int, int], int] = lambda batch, event: event,
) -> Replay:
    """Run events through one call auction per batch that has any.

    Reductions act at once on the pool. Then the auction; then what is left of takers cancels.

    `reference_ticks` is where the ladder's last step starts from, by default the limit of the
    first event; with `reference_follows_prints` it becomes each print. `age_of(event, place)` is
    what orders at the price queue by, those of equal age pro rata. `lottery(batch, place)` orders
    equal remainders of that split, the lowest first; `place` is as in `Fill.event`.
    """
    result = Replay()
    # Orders with something left, by side, price and place in the flow.
    book: dict[int, dict[int, dict[int, _Order]]] = {1: {}, -1: {}}
    submissions: list[_Order] = []
    batches: dict[int, list[tuple[int, Event]]] = {}
    for place, event in enumerate(events):
        batches.setdefault(event.batch, []).append((place, event))
        if reference_ticks is None:
            reference_ticks = event.price_ticks
    for batch, rows in batches.items():
        takers: list[_Order] = []
        for place, event in rows:
            if event.kind == REDUCE:
                order = submissions[event.reference]
                if order.remaining_lots == 0:
                    result.late_cancels += 1
                else:
                    _take_off(book, order, min(order.remaining_lots, event.quantity_lots))
                continue
            age = age_of(event, place)
            order = _Order(place, age, event.side, event.price_ticks, event.quantity_lots)
            (takers if event.kind == TAKE else submissions).append(order)
            book[event.side].setdefault(event.price_ticks, {})[place] = order
        assert reference_ticks is not None
        crossed = book[1] and book[-1] and max(book[1]) >= min(book[-1])
        found = crossed and find_print(_volumes(book[1]), _volumes(book[-1]), reference_ticks)
        if found:
            price, volume, surplus = found
            result.prints.append(Print(batch, price, volume, surplus))
            result.auction_volume += volume
            for side in (1, -1):
                for order, lots in _ration(book[side], side, price, volume, batch, lottery):
                    result.fills.append(Fill(batch, order.event, side, price, lots))
                    _take_off(book, order, lots)
            reference_ticks = price if reference_follows_prints else reference_ticks
        for order in takers:
            _take_off(book, order, order.remaining_lots)
    result.batches = len(batches)
    return result


def find_print(
    bids: dict[int, int], asks: dict[int, int], reference_ticks: int
) -> tuple[int, int, int] | None:
    """Price, volume and surplus of a call auction of limit orders given as lots by price.

    Maximum volume, then least imbalance, then pressure (highest price of a range that is all
    buy-heavy, lowest of one that is all sell-heavy), then the price of the range, narrowed to the
    last buy-heavy and first sell-heavy tick where signs are mixed, nearest to the reference. Every
    tick is a candidate; those outside the lowest ask and highest bid trade nothing.
    """
    if not bids or not asks or max(bids) < min(asks):
        return None
    curve = []
    for price in range(min(asks), max(bids) + 1):
        demand = sum(lots for limit, lots in bids.items() if limit >= price)
        supply = sum(lots for limit, lots in asks.items() if limit <= price)
        curve.append((price, min(demand, supply), demand - supply))
    volume = max(traded for _, traded, _ in curve)
    curve = [point for point in curve if point[1] == volume]
    least = min(abs(surplus) for _, _, surplus in curve)
    curve = [point for point in curve if abs(point[2]) == least]
    lowest, highest = curve[0][0], curve[-1][0]
    if all(surplus > 0 for _, _, surplus in curve):
        price = highest
    elif all(surplus < 0 for _, _, surplus in curve):
        price = lowest
    else:
        lowest = max([price for price, _, surplus in curve if surplus > 0], default=lowest)
        highest = min([price for price, _, surplus in curve if surplus < 0], default=highest)
        price = min(max(reference_ticks, lowest), highest)
    surplus = next(surplus for tick, _, surplus in curve if tick == price)
    return price, volume, surplus


def _volumes(levels: dict[int, dict[int, _Order]]) -> dict[int, int]:
    return {
        price: sum(order.remaining_lots for order in orders.values())
        for price, orders in levels.items()
    }


def _take_off(
    book: dict[int, dict[int, dict[int, _Order]]], order: _Order, quantity_lots: int
) -> None:
    """Take lots off an order, and the order off the book when it has none left."""
    if order.remaining_lots == 0:
        return
    order.remaining_lots -= quantity_lots
    assert order.remaining_lots >= 0
    if order.remaining_lots == 0:
        level = book[order.side][order.price_ticks]
        del level[order.event]
        if not level:
            del book[order.side][order.price_ticks]


def _ration(
    levels: dict[int, dict[int, _Order]],
    side: int,
    price: int,
    volume: int,
    batch: int,
    lottery: Callable[[int, int], int],
) -> list[tuple[_Order, int]]:
    """Share the volume of one side: better prices in full, then by age, then pro rata."""
    fills = []
    left = volume
    better = [limit for limit in levels if (limit - price) * side > 0]
    for limit in sorted(better, reverse=side == 1):
        for order in levels[limit].values():
            fills.append((order, order.remaining_lots))
            left -= order.remaining_lots
    assert left >= 0, "orders strictly better than the print fill in full"
    at_price = list(levels.get(price, {}).values())
    for age in sorted({order.age for order in at_price}):
        group = [order for order in at_price if order.age == age]
        shares = pro_rata(
            [order.remaining_lots for order in group],
            left,
            [lottery(batch, order.event) for order in group],
        )
        fills += [(order, lots) for order, lots in zip(group, shares, strict=True) if lots]
        left -= sum(shares)
    assert left == 0, "both sides trade the whole volume"
    return fills


def pro_rata(sizes: list[int], available: int, tickets: list[int]) -> list[int]:
    """Split lots by size, rounded down; what is over goes by largest remainder, then ticket."""
    total = sum(sizes)
    if available >= total:
        return list(sizes)
    shares = [size * available // total for size in sizes]
    by_remainder = sorted(
        range(len(sizes)), key=lambda i: (-(sizes[i] * available % total), tickets[i])
    )
    for i in by_remainder[: available - sum(shares)]:
        shares[i] += 1
    return shares
