"""Where an index comes from: a path of (time, price) points per underlying."""

from __future__ import annotations

import csv
from bisect import bisect_right
from datetime import datetime
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from margin.fixed_point import RATE_SCALE


class FeedError(ValueError):
    """A file of index values that cannot be used; says where and why."""


class Reading(NamedTuple):
    """What a feed says at a time: last price, its age, confidence, points since the last call."""

    price_e8: int
    age_ns: int
    confidence_ppb: int
    observations: tuple[tuple[int, int], ...]


class PathFeed:
    """An index that follows given points; between points the last one holds."""

    def __init__(self, paths: list[list[tuple[int, int]]]) -> None:
        """`paths`: per underlying, points (time_ns, price_e8) with rising times, not empty."""
        for path in paths:
            if not path or any(b[0] <= a[0] for a, b in pairwise(path)):
                raise FeedError("each underlying needs points with rising times")
        self.paths = paths
        self._times = [[time_ns for time_ns, _ in path] for path in paths]

    def read(self, after_ns: int, until_ns: int) -> list[Reading]:
        """Per underlying the state at `until_ns`, with the points in (after_ns, until_ns].

        Before the first point the first price is given, with no age.
        """
        readings = []
        for path, times in zip(self.paths, self._times, strict=True):
            first, last = bisect_right(times, after_ns), bisect_right(times, until_ns)
            time_ns, price_e8 = path[max(0, last - 1)]
            age = max(0, until_ns - time_ns)
            readings.append(Reading(price_e8, age, RATE_SCALE, tuple(path[first:last])))
        return readings


def _time_ns(text: str, where: str) -> int:
    try:
        if text.lstrip("-").isdigit():
            return int(text) * 10**6
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise FeedError(f"{where}: time must be milliseconds or ISO 8601, not {text!r}") from None
    if moment.tzinfo is None:
        raise FeedError(f"{where}: time needs an offset, such as Z")
    return int(moment.timestamp() * 1000) * 10**6


def read_feed(path: Path, names: list[str]) -> PathFeed:
    """A CSV file with a header `time,NAME,...`: one column an underlying, one row a moment.

    Times are milliseconds since the epoch or ISO 8601 with an offset. Raises `FeedError` naming
    the line.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        header = next(rows, [])
        missing = [name for name in ("time", *names) if name not in header]
        if missing:
            raise FeedError(f"{path}: header lacks {', '.join(missing)}; it has {header}")
        paths: list[list[tuple[int, int]]] = [[] for _ in names]
        for line, row in enumerate(rows, start=2):
            where = f"{path}, line {line}"
            if len(row) != len(header):
                raise FeedError(f"{where}: {len(row)} fields, not {len(header)}")
            time_ns = _time_ns(row[header.index("time")], where)
            for index, name in enumerate(names):
                try:
                    price = Decimal(row[header.index(name)])
                    exact = price * 10**8
                except InvalidOperation:
                    raise FeedError(f"{where}: {name} is no number") from None
                if not exact.is_finite() or exact < 1:
                    raise FeedError(f"{where}: {name} must be a price of at least 0.00000001")
                paths[index].append((time_ns, int(exact)))
    if not paths or not paths[0]:
        raise FeedError(f"{path}: no rows")
    try:
        return PathFeed(paths)
    except FeedError as error:
        raise FeedError(f"{path}: {error}") from None
