from __future__ import annotations

import gzip
import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from replays.lobster import LobsterError, Messages, read_messages, warm_up
from tests.reference.reference_replay import data_file, read_rows

COLUMNS = ("time_ns", "kind", "order_id", "size_shares", "price_e4", "direction")

SIX = b"""34200.000000001,1,101,30,1000100,1
34200.5,1,102,40,1000300,-1
34201.25,4,102,15,1000300,-1
34201.25,5,0,7,1000250,1
34202.000000999,3,102,25,1000300,-1
"""
SEVEN = b"""34200.1,1,7,5,500000,1,null
34200.1,6,-1,0,0,-1,NITE
34200.2,7,0,0,-1,-1,UB
"""


def write(folder: Path, content: bytes, name: str = "message.csv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content, mtime=0) if name.endswith(".gz") else content)
    return path


def rows_of(messages: Messages) -> list[tuple[int, ...]]:
    columns = [getattr(messages, name) for name in COLUMNS]
    assert all(column.dtype == np.int64 for column in columns)
    return [tuple(int(value) for value in row) for row in zip(*columns, strict=True)]


@pytest.mark.parametrize("name", ["message.csv", "message.csv.gz"])
def test_every_column_is_read_as_written(tmp_path: Path, name: str) -> None:
    messages = read_messages(write(tmp_path, SIX, name))
    assert rows_of(messages) == [
        (34_200_000_000_001, 1, 101, 30, 1_000_100, 1),
        (34_200_500_000_000, 1, 102, 40, 1_000_300, -1),
        (34_201_250_000_000, 4, 102, 15, 1_000_300, -1),
        (34_201_250_000_000, 5, 0, 7, 1_000_250, 1),
        (34_202_000_000_999, 3, 102, 25, 1_000_300, -1),
    ]
    assert messages.mpid is None
    assert len(messages) == 5


def test_a_seventh_column_is_kept_as_the_mpid(tmp_path: Path) -> None:
    messages = read_messages(write(tmp_path, SEVEN))
    assert messages.mpid is not None
    assert messages.mpid.tolist() == [b"null", b"NITE", b"UB"]
    assert rows_of(messages)[1:] == [
        (34_200_100_000_000, 6, -1, 0, 0, -1),
        (34_200_200_000_000, 7, 0, 0, -1, -1),
    ]


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("0", 0),
        ("34200", 34_200_000_000_000),
        ("34200.1", 34_200_100_000_000),
        ("0.000000001", 1),
        ("57599.123456789", 57_599_123_456_789),
        ("86399.999999999", 86_399_999_999_999),
        ("35821.088778456004", 35_821_088_778_456),
        ("35821.08877845599996", 35_821_088_778_456),
        ("1.999999999999", 2_000_000_000),
    ],
)
def test_times_are_exact_to_the_nanosecond(tmp_path: Path, text: str, time_ns: int) -> None:
    messages = read_messages(write(tmp_path, f"{text},1,1,1,1,1\n".encode()))
    assert messages.time_ns.tolist() == [time_ns]
    assert messages.rounded_times == (len(text.partition(".")[2]) > 9)


def test_a_whole_last_line_needs_no_newline_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    expected = rows_of(read_messages(write(tmp_path, SIX)))
    assert rows_of(read_messages(write(tmp_path, SIX[:-1]))) == expected
    assert rows_of(read_messages(write(tmp_path, SIX.replace(b"\n", b"\r\n")))) == expected


@pytest.mark.parametrize(
    ("line", "wrong", "allowed"),
    [
        ("34200.5,1,5,10,100", "5 columns", "6 columns"),
        ("34200.5,1,5,10,100,1,null", "7 columns", "6 columns"),
        ("34200.5,1,5,10,100,1,", "7 columns", "6 columns"),
        ("", "1 columns", "6 columns"),
        ("Time,Type,OrderID,Size,Price,Direction", "time 'Time'", "plain digits"),
        ("3.42e4,1,5,10,100,1", "time '3.42e4'", "plain digits"),
        ("34200.,1,5,10,100,1", "time '34200.'", "plain digits"),
        ("-1.5,1,5,10,100,1", "time '-1.5'", "plain digits"),
        ("86400,1,5,10,100,1", "time '86400'", "0 to 86399.999999999"),
        ("34200.0000000005,1,5,10,100,1", "time '34200.0000000005'", "0.05 ns"),
        ("34200.5,1,,10,100,1", "order id '' is not an integer", "digits"),
        ("34200.5,1,5x,10,100,1", "order id '5x' is not an integer", "digits"),
        ("34200.5,1,5,10.0,100,1", "size '10.0' is not an integer", "digits"),
        ("34200.5,1,5, 10,100,1", "size ' 10' is not an integer", "digits"),
        ("34200.5,1,1234567890123456789,10,100,1", "is not an integer", "up to 18"),
        ("34200.5,1,5,10,-,1", "price '-' is not an integer", "digits"),
        ("34200.5,0,5,10,100,1", "type '0'", "1 to 7"),
        ("34200.5,8,5,10,100,1", "type '8'", "1 to 7"),
        ("34200.5,1,5,-10,100,1", "size '-10'", "at least 1 share"),
        ("34200.5,4,5,0,100,1", "size '0'", "at least 1 share"),
        ("34200.5,6,-1,-1,100,1", "size '-1'", "at least 0"),
        ("34200.5,1,5,10,0,1", "price '0'", "at least 1"),
        ("34200.5,7,0,0,2,-1", "price '2'", "-1, 0 or 1"),
        ("34200.5,1,5,10,100,0", "direction '0'", "1 (buy) or -1 (sell)"),
        ("34200.5,1,5,10,100,2", "direction '2'", "1 (buy) or -1 (sell)"),
        ("34199.9,1,5,10,100,1", "time '34199.9'", "not before that of the line above"),
    ],
)
def test_a_bad_line_is_refused_by_name_number_and_rule(
    tmp_path: Path, line: str, wrong: str, allowed: str
) -> None:
    path = write(tmp_path, f"34200.4,1,4,10,100,1\n{line}\n34200.6,1,6,10,100,1\n".encode())
    with pytest.raises(LobsterError) as refusal:
        read_messages(path)
    assert refusal.value.line == 2
    said, _, rule = str(refusal.value).partition("; allowed: ")
    assert said.startswith(f"{path}, line 2: ")
    assert wrong in said
    assert allowed in rule


def test_an_mpid_is_one_to_four_characters(tmp_path: Path) -> None:
    for mpid in ("", "ABCDE", "A B", "ABC,"):
        with pytest.raises(LobsterError, match="line 1"):
            read_messages(write(tmp_path, f"34200,1,1,1,1,1,{mpid}\n".encode()))


def test_a_file_without_messages_is_refused(tmp_path: Path) -> None:
    for name in ("message.csv", "message.csv.gz"):
        with pytest.raises(LobsterError, match="line 1: the file is empty"):
            read_messages(write(tmp_path, b"", name))
    with pytest.raises(LobsterError, match="line 1: 1 columns"):
        read_messages(write(tmp_path, b"\n"))


def test_only_csv_and_gzipped_csv_are_read(tmp_path: Path) -> None:
    with pytest.raises(LobsterError, match=r"allowed: a name ending in \.csv or \.csv\.gz"):
        read_messages(write(tmp_path, SIX, "message.txt"))
    with pytest.raises(FileNotFoundError):
        read_messages(tmp_path / "absent.csv")


@pytest.mark.parametrize("content", [SIX, SEVEN.replace(b"UB", b"UBSS")])
def test_a_last_line_cut_anywhere_is_refused(tmp_path: Path, content: bytes) -> None:
    begin = content.rindex(b"\n", 0, -1) + 1
    for cut in range(begin + 1, len(content) - 1):
        with pytest.raises(LobsterError) as refusal:
            read_messages(write(tmp_path, content[:cut]))
        assert refusal.value.line == content.count(b"\n")
        assert "is the file cut off?" in str(refusal.value)


def test_a_gzip_archive_cut_anywhere_is_refused(tmp_path: Path) -> None:
    packed = gzip.compress(SIX, mtime=0)
    path = tmp_path / "message.csv.gz"
    for cut in range(len(packed)):
        path.write_bytes(packed[:cut])
        with pytest.raises(LobsterError, match="the gzip archive is cut off; allowed: a whole"):
            read_messages(path)


def test_a_damaged_archive_is_refused_near_the_line_of_the_damage(tmp_path: Path) -> None:
    lines = 20_000
    rng = random.Random(5)
    content = b"".join(
        b"34200,1,%d,%d,100,1\n" % (order, rng.randrange(1, 10**6)) for order in range(lines)
    )
    packed = bytearray(gzip.compress(content, mtime=0))
    path = tmp_path / "message.csv.gz"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(LobsterError, match="cut off") as refusal:
        read_messages(path)
    assert lines * 0.4 < refusal.value.line < lines * 0.6
    packed[-8] ^= 1
    path.write_bytes(packed)
    with pytest.raises(LobsterError, match="damaged"):
        read_messages(path)
    path.write_bytes(SIX)
    with pytest.raises(LobsterError, match="line 1: the gzip archive is damaged"):
        read_messages(path)


def test_archives_of_several_members_are_one_file(tmp_path: Path) -> None:
    path = tmp_path / "message.csv.gz"
    path.write_bytes(gzip.compress(SIX[:50]) + gzip.compress(SIX[50:]))
    assert rows_of(read_messages(path)) == rows_of(read_messages(write(tmp_path, SIX)))


def test_reading_twice_gives_the_same_and_warming_up_changes_nothing(tmp_path: Path) -> None:
    before = rows_of(read_messages(write(tmp_path, SIX)))
    warm_up()
    assert rows_of(read_messages(write(tmp_path, SIX))) == before


def outcomes(folder: Path, seed: int) -> str:
    """What reading a generated file and 300 damaged copies of it gives, as one digest."""
    rng = random.Random(seed)
    digest = hashlib.sha256()
    for trial in range(300):
        content = bytearray(rng.choice([SIX, SEVEN]))
        for _ in range(rng.randrange(4) if trial else 0):
            place = rng.randrange(len(content))
            what = rng.randrange(3)
            if what == 0:
                content[place] = rng.choice(b"0123456789,.-\n\r x\xff")
            elif what == 1:
                del content[place : place + rng.randrange(1, 12)]
            else:
                content[place:place] = rng.choice([b"9", b",", b"\n", b"-", b"."])
        try:
            messages = read_messages(write(folder, bytes(content)))
            said = f"{rows_of(messages)} {messages.mpid} {messages.rounded_times}"
        except LobsterError as refusal:
            said = f"{refusal.line} {str(refusal).partition(', line')[2]}"
        digest.update(said.encode())
    return digest.hexdigest()


def test_interpreted_and_compiled_parsers_agree_on_whole_and_damaged_files(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    program = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[1:3];"
        "import test_lobster; print(test_lobster.outcomes(Path(sys.argv[3]), 20120621))"
    )
    interpreted = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, root, Path(__file__).parent, tmp_path],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert interpreted.returncode == 0, interpreted.stderr
    assert interpreted.stdout.strip() == outcomes(tmp_path, 20120621)


def real(name: str) -> Path:
    path = data_file(f"lobster/{name}")
    if path is None:
        pytest.skip(f"real data absent: lobster/{name} under $UNCROSS_DATA or ../shared/data")
    return path


@pytest.mark.parametrize(
    ("name", "kinds", "mpids", "rounded_times"),
    [
        (
            "AAPL_2012-06-21_34200000_37800000_message_50.csv.gz",
            {1: 44_256, 2: 469, 3: 41_004, 4: 4_067, 5: 2_201},
            None,
            1,
        ),
        (
            "AMZN_2012-06-21_34200000_57600000_message_1.csv.gz",
            {1: 27_845, 2: 16, 3: 18_235, 4: 8_974, 5: 2_445},
            None,
            0,
        ),
        (
            "AMZN_2021-04-12_34200000_57600000_message_10_part.csv.gz",
            {1: 17_187, 2: 3, 3: 14_462, 4: 5_389, 5: 3_632, 6: 1},
            {b"null": 40_612, b"UBSS": 62},
            0,
        ),
        (
            "AAPL_2012-06-21_message_10_first1000.csv",
            {1: 471, 3: 369, 4: 98, 5: 61},
            None,
            0,
        ),
    ],
)
def test_real_files_read_as_their_text_says(
    name: str, kinds: dict[int, int], mpids: dict[bytes, int] | None, rounded_times: int
) -> None:
    path = real(name)
    messages = read_messages(path)
    found, counts = np.unique(messages.kind, return_counts=True)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == kinds
    assert messages.rounded_times == rounded_times
    assert rows_of(messages) == [tuple(row) for row in read_rows(path)]
    if mpids is None:
        assert messages.mpid is None
    else:
        assert messages.mpid is not None
        names, counts = np.unique(messages.mpid, return_counts=True)
        assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == mpids
