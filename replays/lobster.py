"""Reader of LOBSTER message files: every visible order event of one NASDAQ session, as columns.

The format is that of lobsterdata.com: comma-separated, no header, one event a line:
time (seconds after midnight, New York, up to nine decimals), type, order id, size (shares),
price (dollars x 10000), direction of the *resting* order (1 buy, -1 sell) and, in newer files,
the market participant id (MPID) or `null`. Types: 1 submission, 2 partial cancel, 3 deletion,
4 execution of a visible order, 5 execution of a hidden order, 6 cross trade, 7 trading halt.

Times are read digit by digit into integer nanoseconds, never through a float. Files that went
through somebody's floats can still carry residue behind the ninth decimal (the public AAPL sample
has one such line, 35821.088778456004). Digits within 0.05 ns of a whole nanosecond, several units
in the last place of a float64 of that size, are taken as that nanosecond and counted; others are
refused.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import numba
import numpy as np
import numpy.typing as npt

from margin.invariant import Int64Array

SUBMIT: Final = 1
CANCEL_PART: Final = 2
DELETE: Final = 3
EXECUTE: Final = 4
EXECUTE_HIDDEN: Final = 5
CROSS: Final = 6
HALT: Final = 7

MPID_BYTES: Final = 4
_NS_PER_SECOND: Final = 1_000_000_000
_SECONDS_PER_DAY: Final = 86_400
_DECIMALS: Final = 9
_LONGEST_NUMBER: Final = 18  # decimal digits that always fit a signed 64-bit integer
_GZIP: Final = 31  # zlib's window bits for a stream with gzip's header and checksum
_UNPACK_BYTES: Final = 4096  # small pieces, so that damage is located to within a few lines

# Rows of the table that the parser fills, in the order of the file's columns.
_TIME, _KIND, _ORDER_ID, _SIZE, _PRICE, _DIRECTION = range(6)
_COLUMNS: Final = ("time", "type", "order id", "size", "price", "direction", "MPID")

# What the parser can find wrong. 0 is a clean file.
_WRONG_COLUMNS, _NOT_A_NUMBER, _BAD_TIME, _TIME_RUNS_BACK = 1, 2, 3, 4
_BAD_KIND, _BAD_SIZE, _BAD_PRICE, _BAD_DIRECTION, _BAD_MPID, _FIELD_GOES_ON = 5, 6, 7, 8, 9, 10

_ALLOWED: Final = {
    _BAD_TIME: (
        "seconds after midnight, 0 to 86399.999999999, in plain digits with up to 9 decimals "
        "(beyond them only what rounding leaves, within 0.05 ns)"
    ),
    _TIME_RUNS_BACK: "a time not before that of the line above",
    _BAD_KIND: "a type from 1 to 7",
    _BAD_SIZE: "a size of at least 1 share (at least 0 for types 6 and 7)",
    _BAD_PRICE: "a price of at least 1 (at least 0 for type 6; -1, 0 or 1 for type 7)",
    _BAD_DIRECTION: "a direction of 1 (buy) or -1 (sell)",
    _BAD_MPID: "an MPID of 1 to 4 characters (all 4 where the file ends without a newline)",
}


class LobsterError(ValueError):
    """A file is not what it claims to be; names the file, the line, what is wrong, what is allowed.

    `path` and `line` (1 is the first) say the same to a program.
    """

    def __init__(self, path: Path, line: int, wrong: str, allowed: str) -> None:
        super().__init__(f"{path}, line {line}: {wrong}; allowed: {allowed}")
        self.path = path
        self.line = line


@dataclass(frozen=True, slots=True)
class Messages:
    """One message file as columns of equal length; row i is line i + 1 of `path`.

    `time_ns` counts from midnight, New York; `price_e4` is dollars x 10000; `direction` is the
    resting order's (1 buy, -1 sell). `mpid` holds up to four bytes a row, or is None where the
    file has six columns. `rounded_times` counts the times that had digits behind the nanosecond.
    """

    path: Path
    time_ns: Int64Array
    kind: Int64Array
    order_id: Int64Array
    size_shares: Int64Array
    price_e4: Int64Array
    direction: Int64Array
    mpid: npt.NDArray[np.bytes_] | None = None
    rounded_times: int = 0

    def __len__(self) -> int:
        return len(self.time_ns)


@numba.njit(cache=True)
def _digits(data, at, stop, most):  # type: ignore[no-untyped-def]
    """Read up to `most` decimal digits from `at`: the value and the place behind them."""
    value = np.int64(0)
    last = min(at + most, stop)
    while at < last:
        digit = np.int64(data[at]) - 48
        if digit < 0 or digit > 9:
            break
        value = value * 10 + digit
        at += 1
    return value, at


@numba.njit(cache=True)
def _residue_rounds(residue, digits):  # type: ignore[no-untyped-def]
    """What the digits behind the nanosecond amount to: 0, 1, or -1 where they are not residue."""
    for _ in range(digits, 2):
        residue *= 10
    for _ in range(2, digits):
        residue //= 10
    if residue < 5:
        return 0
    return 1 if residue >= 95 else -1


@numba.njit(cache=True)
def _time_field(data, at, stop):  # type: ignore[no-untyped-def]
    """Read `seconds[.decimals]`: nanoseconds (-1: malformed), the place behind, rounded or not."""
    seconds, end = _digits(data, at, stop, 5)
    if end == at or seconds >= _SECONDS_PER_DAY:
        return -1, end, False
    if end >= stop or data[end] != 46:  # "."
        return seconds * _NS_PER_SECOND, end, False
    first = end + 1
    nanoseconds, end = _digits(data, first, stop, _DECIMALS)
    if end == first:
        return -1, end, False
    for _ in range(_DECIMALS - (end - first)):
        nanoseconds *= 10
    behind = end
    residue, end = _digits(data, behind, stop, _DECIMALS)
    if end > behind:
        step = _residue_rounds(residue, end - behind)
        if step < 0:
            return -1, end, False
        nanoseconds += step
    return seconds * _NS_PER_SECOND + nanoseconds, end, end > behind


@numba.njit(cache=True)
def _integer_field(data, at, stop):  # type: ignore[no-untyped-def]
    """Read `[-]digits`: the value, the place behind, and whether there was a digit at all."""
    negative = at < stop and data[at] == 45  # "-"
    first = at + 1 if negative else at
    value, end = _digits(data, first, stop, _LONGEST_NUMBER)
    if negative:
        value = -value
    return value, end, end > first


@numba.njit(cache=True)
def _mpid_field(data, at, stop, row):  # type: ignore[no-untyped-def]
    """Copy up to four bytes of a market participant id; returns the place behind it."""
    end = at
    while end < stop and end - at < MPID_BYTES and data[end] > 32 and data[end] != 44:
        row[end - at] = data[end]
        end += 1
    return end


@numba.njit(cache=True)
def _fault_of(kind, size, price, direction):  # type: ignore[no-untyped-def]
    """Which rule of values one row breaks, 0 for none."""
    if kind < SUBMIT or kind > HALT:
        return _BAD_KIND, _KIND
    if size < 0 or (size == 0 and kind <= EXECUTE_HIDDEN):
        return _BAD_SIZE, _SIZE
    least = 1 if kind <= EXECUTE_HIDDEN else (0 if kind == CROSS else -1)
    if price < least or (kind == HALT and price > 1):
        return _BAD_PRICE, _PRICE
    if direction != 1 and direction != -1:
        return _BAD_DIRECTION, _DIRECTION
    return 0, 0


@numba.njit(cache=True)
def _field(data, at, stop, column, mpid):  # type: ignore[no-untyped-def]
    """Read one field: (value, place behind, fault or 0, 1 if its time was rounded)."""
    if column == _TIME:
        value, end, rounded = _time_field(data, at, stop)
        fault = 0 if value >= 0 else _BAD_TIME
        return value, end, fault, 1 if rounded else 0
    if column <= _DIRECTION:
        value, end, well_formed = _integer_field(data, at, stop)
        return value, end, 0 if well_formed else _NOT_A_NUMBER, 0
    end = _mpid_field(data, at, stop, mpid)
    cut = end == stop and end - at < MPID_BYTES
    return 0, end, _BAD_MPID if end == at or cut else 0, 0


@numba.njit(cache=True)
def _parse(data, columns, table, mpid):  # type: ignore[no-untyped-def]
    """Fill `table` (6 x lines) and `mpid` (lines x 4) from the bytes of a file.

    Returns (fault, line, column, rounded times). Fault is 0 for a clean file; line and column
    count from 0.
    """
    stop = len(data)
    at = 0
    rounded_times = 0
    for line in range(table.shape[1]):
        for column in range(columns):
            name = mpid[line if column > _DIRECTION else 0]
            value, end, fault, rounded = _field(data, at, stop, column, name)
            if fault != 0:
                return fault, line, column, rounded_times
            rounded_times += rounded
            if column <= _DIRECTION:
                table[column, line] = value
            last = column == columns - 1
            if last and end < stop and data[end] == 13:  # "\r" of a file saved on Windows
                end += 1
            line_ends = end >= stop or data[end] == 10
            if not line_ends and data[end] != 44:
                return _FIELD_GOES_ON, line, column, rounded_times
            if line_ends != last:
                return _WRONG_COLUMNS, line, column, rounded_times
            at = end + 1
        fault, column = _fault_of(
            table[_KIND, line], table[_SIZE, line], table[_PRICE, line], table[_DIRECTION, line]
        )
        if fault != 0:
            return fault, line, column, rounded_times
        if line > 0 and table[_TIME, line] < table[_TIME, line - 1]:
            return _TIME_RUNS_BACK, line, _TIME, rounded_times
    return 0, 0, 0, rounded_times


def read_messages(path: str | Path) -> Messages:
    """Read a LOBSTER message file, `.csv` or `.csv.gz`, of six or seven columns.

    Nothing is repaired: a wrong number of columns, text where a number belongs, a value outside
    the format, a time that runs back, an empty file, and a file or line that is cut off raise
    `LobsterError`. A last line without a newline is accepted if it is whole. A file that cannot
    be opened raises `OSError`.
    """
    path = Path(path)
    raw = _read_bytes(path)
    if not raw:
        raise LobsterError(path, 1, "the file is empty", "at least one message")
    first_line = raw.split(b"\n", 1)[0]
    columns = first_line.count(b",") + 1
    if columns not in (6, 7):
        wrong = f"{columns} columns in {_shown(first_line)}"
        raise LobsterError(path, 1, wrong, "6 columns, or 7 with an MPID")
    lines = raw.count(b"\n") + (not raw.endswith(b"\n"))
    table = np.zeros((6, lines), dtype=np.int64)
    mpid = np.zeros((lines if columns == 7 else 1, MPID_BYTES), dtype=np.uint8)
    data = np.frombuffer(raw, dtype=np.uint8)
    fault, line, column, rounded_times = _parse(data, columns, table, mpid)
    if fault:
        _refuse(path, raw, columns, int(fault), int(line), int(column))
    names = mpid.view(f"S{MPID_BYTES}").reshape(-1) if columns == 7 else None
    time_ns, kind, order_id, size_shares, price_e4, direction = table
    return Messages(
        path,
        time_ns,
        kind,
        order_id,
        size_shares,
        price_e4,
        direction,
        names,
        int(rounded_times),
    )


def warm_up() -> None:
    """Compile the parser on two lines, so that the first real file is not timed with it."""
    data = np.frombuffer(b"34200.5,1,1,1,1,1,null\n34201,3,1,1,1,1,null\n", dtype=np.uint8)
    _parse(data, 7, np.zeros((6, 2), dtype=np.int64), np.zeros((2, MPID_BYTES), dtype=np.uint8))


def _read_bytes(path: Path) -> bytes:
    """The file's text, unpacked; a damaged archive is refused at the line where it breaks off."""
    if path.name.endswith(".csv"):
        return path.read_bytes()
    if not path.name.endswith(".csv.gz"):
        raise LobsterError(path, 1, f"a file named {path.name}", "a name ending in .csv or .csv.gz")
    packed = path.read_bytes()
    unpacker = zlib.decompressobj(wbits=_GZIP)
    unpacked: list[bytes] = []
    wrong = "the gzip archive is cut off"
    try:
        for start in range(0, len(packed), _UNPACK_BYTES):
            piece = packed[start : start + _UNPACK_BYTES]
            while piece:
                if unpacker.eof:
                    unpacker = zlib.decompressobj(wbits=_GZIP)
                unpacked.append(unpacker.decompress(piece))
                piece = unpacker.unused_data
        whole = unpacker.eof
    except zlib.error as damage:
        wrong = f"the gzip archive is damaged at or behind this line ({damage})"
        whole = False
    raw = b"".join(unpacked)
    if not whole:
        raise LobsterError(path, 1 + raw.count(b"\n"), wrong, "a whole gzip archive")
    return raw


def _refuse(path: Path, raw: bytes, columns: int, fault: int, line: int, column: int) -> NoReturn:
    """Turn what the parser found into an error that quotes the line."""
    lines = raw.split(b"\n")
    text = lines[line]
    fields = text.split(b",")
    if fault == _FIELD_GOES_ON:  # the digits end, but neither a comma nor the line follows
        fault = _BAD_TIME if column == _TIME else _NOT_A_NUMBER
        fault = _BAD_MPID if column > _DIRECTION else fault
    if len(fields) != columns:
        wrong = f"{len(fields)} columns in {_shown(text)}"
        allowed = f"{columns} columns, as in the first line"
    elif fault == _NOT_A_NUMBER:
        wrong = f"{_COLUMNS[column]} {_shown(fields[column])} is not an integer"
        allowed = f"up to {_LONGEST_NUMBER} decimal digits, with or without a leading minus"
    else:
        wrong = f"{_COLUMNS[column]} {_shown(fields[column])}"
        allowed = _ALLOWED[fault]
    if line == len(lines) - 1:
        wrong += " (the last line has no newline: is the file cut off?)"
    raise LobsterError(path, line + 1, wrong, allowed)


def _shown(text: bytes) -> str:
    return repr(text[:80].decode("ascii", errors="backslashreplace"))
