"""Price histories from files: CSV, also compressed by gzip, and Parquet.

A row is a time and a price; order does not matter. Whatever would silently spoil a return is an
error that names its line: text, a price that is not positive, a time twice, a missing period.
"""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from margin.fixed_point import PRICE_SCALE, VOLATILITY_SCALE
from margin.invariant import Int64Array

PRICE_COLUMNS = ("close", "Adj_Close", "Value")
TIME_COLUMNS = ("unix", "timestamp", "time", "datetime", "date", "open_time")
VOLATILITY_COLUMN = "iv"
NS_PER_HOUR = 3600 * 10**9
VOLATILITY_MOST = 5  # 500 %; what is above was written in per cent
PARQUET_HINT = (
    "reading Parquet needs pyarrow: install the extra `parquet` (pip install 'uncross[parquet]')"
)
_PRICE_MOST = Decimal(2**62) / PRICE_SCALE
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A whole number is seconds, milliseconds, microseconds or nanoseconds, by its size.
_TIME_UNITS = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3), (10**20, 1))


class PriceFileError(ValueError):
    """A price file that cannot be used; says where and why."""


class PriceSeries(NamedTuple):
    """Prices at rising times, `time_ns[T]`, `price_e8[T]`; `volatility_e9[T]` if the file has any.

    `step_ns` is the period of the file, the most frequent distance; `gaps` how many are longer.
    """

    time_ns: Int64Array
    price_e8: Int64Array
    volatility_e9: Int64Array | None
    step_ns: int
    gaps: int
    column: str


class _Row(NamedTuple):
    place: str
    time_ns: int
    price_e8: int
    volatility_e9: int


def read_prices(path: Path, column: str | None = None, allow_gaps: bool = False) -> PriceSeries:
    """The prices of a file, sorted by time.

    The price column is `column`, else the first of `PRICE_COLUMNS` (case as written) in the
    header; the time column the first of `TIME_COLUMNS`, in any case. Times are ISO 8601 (UTC if
    they do not say) or whole numbers since 1970. A column `iv` is the implied volatility of each
    row as a fraction a year. Blank lines do not count. `allow_gaps` takes what follows a missing
    period as its next return. `PriceFileError` for anything else; OSError if there is no file.
    """
    if path.suffix == ".parquet":
        name, has_volatility, rows = _parquet_rows(path, column)
    else:
        name, has_volatility, rows = _csv_rows(path, column)
    if len(rows) < 3:
        raise PriceFileError(f"{path.name}: {len(rows)} prices, which is no history")
    rows.sort(key=lambda row: row.time_ns)
    step_ns, gaps = _period(path.name, rows, allow_gaps)
    table = np.array([row[1:] for row in rows], dtype=np.int64)
    volatility = np.ascontiguousarray(table[:, 2]) if has_volatility else None
    return PriceSeries(
        np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1]), volatility,
        step_ns, gaps, name,
    )  # fmt: skip


def _period(name: str, rows: list[_Row], allow_gaps: bool) -> tuple[int, int]:
    """The most frequent distance of sorted rows, and how many are longer."""
    distances: Counter[int] = Counter()
    for before, after in pairwise(rows):
        if before.time_ns == after.time_ns:
            raise PriceFileError(
                f"{name}, {after.place}: {_said(after.time_ns)} is there already, at {before.place}"
            )
        distances[after.time_ns - before.time_ns] += 1
    step_ns = distances.most_common(1)[0][0]
    gaps = 0
    for before, after in pairwise(rows):
        distance = after.time_ns - before.time_ns
        if distance == step_ns:
            continue
        gaps += distance > step_ns
        if not allow_gaps:
            raise PriceFileError(
                f"{name}, {after.place}: {_said(after.time_ns)} follows {_said(before.time_ns)} at "
                f"{before.place}, but the period is {step_ns / NS_PER_HOUR:g} h; "
                "with --allow-gaps it is taken as one return"
            )
    return step_ns, gaps


def _said(time_ns: int) -> str:
    moment = _EPOCH + timedelta(microseconds=time_ns // 1000)
    return moment.strftime("%Y-%m-%d" if time_ns % (86_400 * 10**9) == 0 else "%Y-%m-%d %H:%M:%S")


def _price_column(name: str, header: list[str], column: str | None) -> str:
    wanted = PRICE_COLUMNS if column is None else (column,)
    for candidate in wanted:
        if candidate in header:
            return _single(name, header, candidate)
    missing = f"no column {column!r}" if column else f"none of the columns {', '.join(wanted)}"
    hint = "" if column else "; name one with --column"
    raise PriceFileError(f"{name}: {missing}; there are {', '.join(header)}{hint}")


def _single(name: str, header: list[str], column: str) -> str:
    """A column that is there once: of two of one name, nothing says which is meant."""
    if header.count(column) > 1:
        raise PriceFileError(f"{name}: {header.count(column)} columns are called {column!r}")
    return column


def _time_column(name: str, header: list[str]) -> str:
    lowered = [title.lower() for title in header]
    for candidate in TIME_COLUMNS:
        if candidate in lowered:
            return _single(name, header, header[lowered.index(candidate)])
    raise PriceFileError(
        f"{name}: no column of times; looked for {', '.join(TIME_COLUMNS)}, "
        f"there are {', '.join(header)}"
    )


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    opener: Any = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        yield file


def _csv_rows(path: Path, column: str | None) -> tuple[str, bool, list[_Row]]:
    try:
        with _opened(path) as file:
            return _parse_csv(path.name, csv.reader(file), column)
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, csv.Error) as error:
        raise PriceFileError(f"{path.name}: not a CSV file: {error}") from None


def _parse_csv(name: str, reader: Any, column: str | None) -> tuple[str, bool, list[_Row]]:
    header: list[str] = []
    rows = []
    price = time = volatility = -1
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        if not header:
            header = [cell.strip() for cell in cells]
            price = header.index(_price_column(name, header, column))
            time = header.index(_time_column(name, header))
            if VOLATILITY_COLUMN in header:
                volatility = header.index(_single(name, header, VOLATILITY_COLUMN))
            continue
        place = f"line {reader.line_num}"
        if len(cells) != len(header):
            raise PriceFileError(f"{name}, {place}: {len(cells)} cells, {len(header)} columns")
        iv = cells[volatility] if volatility >= 0 else None
        rows.append(_row(name, place, _time_ns(cells[time], name, place), cells[price], iv))
    if not header:
        raise PriceFileError(f"{name}: empty")
    return header[price], volatility >= 0, rows


def _parquet_rows(path: Path, column: str | None) -> tuple[str, bool, list[_Row]]:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError:
        raise PriceFileError(f"{path.name}: {PARQUET_HINT}") from None
    try:
        table = parquet.read_table(path)
    except arrow.ArrowInvalid as error:
        raise PriceFileError(f"{path.name}: not a Parquet file: {error}") from None
    price = _price_column(path.name, table.column_names, column)
    times = table.column(_time_column(path.name, table.column_names))
    if arrow.types.is_timestamp(times.type):
        times = times.cast(arrow.timestamp("ns", times.type.tz)).cast(arrow.int64())
        stamps = times.to_pylist()
    else:
        stamps = [
            _time_ns(str(value), path.name, f"row {number}")
            for number, value in enumerate(times.to_pylist(), 1)
        ]
    has_volatility = VOLATILITY_COLUMN in table.column_names
    prices = table.column(price).to_pylist()
    ivs = table.column(VOLATILITY_COLUMN).to_pylist() if has_volatility else [None] * len(prices)
    rows = []
    for number, (stamp, value, iv) in enumerate(zip(stamps, prices, ivs, strict=True), 1):
        if stamp is None:
            raise PriceFileError(f"{path.name}, row {number}: no time")
        said = str(iv) if has_volatility else None
        rows.append(_row(path.name, f"row {number}", stamp, str(value), said))
    return price, has_volatility, rows


def _row(name: str, place: str, time_ns: int, price: str, iv: str | None) -> _Row:
    where = f"{name}, {place}"
    amount = _number(price, where, "price")
    if amount <= 0:
        raise PriceFileError(f"{where}: the price {price} is not positive")
    price_e8 = int((amount * PRICE_SCALE).to_integral_value())
    if price_e8 == 0 or amount >= _PRICE_MOST:
        raise PriceFileError(f"{where}: the price {price} is outside 10^-8 .. {int(_PRICE_MOST)}")
    volatility_e9 = 0
    if iv is not None:
        fraction = _number(iv, where, "iv")
        if not 0 < fraction <= VOLATILITY_MOST:
            raise PriceFileError(
                f"{where}: iv {iv} is outside 0 .. {VOLATILITY_MOST}: it is a fraction a year "
                "(0.65, not 65)"
            )
        volatility_e9 = max(1, int((fraction * VOLATILITY_SCALE).to_integral_value()))
    return _Row(place, time_ns, price_e8, volatility_e9)


def _number(text: str, where: str, what: str) -> Decimal:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise PriceFileError(f"{where}: the {what} is not a number: {text!r}")
    return number


def _time_ns(text: str, name: str, place: str) -> int:
    said = text.strip()
    try:
        if said.removesuffix(".0").isdigit() and len(said) != len("YYYYMMDD"):
            number = int(said.removesuffix(".0"))
            return next(number * unit for most, unit in _TIME_UNITS if number < most)
        moment = datetime.fromisoformat(said)
    except (ValueError, StopIteration):
        raise PriceFileError(
            f"{name}, {place}: the time is neither ISO 8601 nor a number since 1970: {text!r}"
        ) from None
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    return since // timedelta(microseconds=1) * 1000
