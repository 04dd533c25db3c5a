"""Where an index comes from: a path of points, from a script or a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from exchange.feed import (
    FeedError,
    PathFeed,
    Reading,
    read_feed,
)
from margin.fixed_point import RATE_SCALE

PATH = [(10, 100), (20, 110), (40, 130)]


@pytest.mark.parametrize(
    ("after", "until", "reading"),
    [
        (0, 5, Reading(100, 0, RATE_SCALE, ())),
        (0, 10, Reading(100, 0, RATE_SCALE, ((10, 100),))),
        (10, 19, Reading(100, 9, RATE_SCALE, ())),
        (10, 40, Reading(130, 0, RATE_SCALE, ((20, 110), (40, 130)))),
        (40, 1000, Reading(130, 960, RATE_SCALE, ())),
    ],
)
def test_the_last_point_holds_and_grows_old(after: int, until: int, reading: Reading) -> None:
    assert PathFeed([PATH]).read(after, until) == [reading]


def test_readings_one_after_another_see_every_point_once() -> None:
    feed, seen, last = PathFeed([PATH]), [], 0
    for until in (7, 10, 15, 33, 40, 41):
        seen += feed.read(last, until)[0].observations
        last = until
    assert seen == PATH


def test_underlyings_have_paths_of_their_own() -> None:
    readings = PathFeed([PATH, [(15, 7)]]).read(12, 20)
    assert [(r.price_e8, r.age_ns) for r in readings] == [(110, 0), (7, 5)]


@pytest.mark.parametrize("path", [[], [(10, 1), (10, 2)], [(10, 1), (9, 2)]])
def test_times_rise_and_there_is_a_point(path: list[tuple[int, int]]) -> None:
    with pytest.raises(FeedError, match="rising times"):
        PathFeed([PATH, path])


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "index.csv"
    path.write_text(text, "utf-8")
    return path


def test_a_file_has_a_column_an_underlying_and_times_in_milliseconds(tmp_path: Path) -> None:
    path = written(tmp_path, "time,ETH,BTC\n1000,4000.5,100000\n2000,4001,100001.00000001\n")
    feed = read_feed(path, ["BTC", "ETH"])
    assert feed.paths == [
        [(10**9, 10**13), (2 * 10**9, 10_000_100_000_001)],
        [(10**9, 400_050_000_000), (2 * 10**9, 400_100_000_000)],
    ]


def test_times_may_be_iso_8601_with_an_offset(tmp_path: Path) -> None:
    path = written(tmp_path, "time,BTC\n2025-10-10T20:00:00.250Z,5\n2025-10-10T22:00:01+02:00,6\n")
    start = 1_760_126_400_000 * 10**6
    assert [t for t, _ in read_feed(path, ["BTC"]).paths[0]] == [start + 250 * 10**6, start + 10**9]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "header lacks time, BTC"),
        ("time,ETH\n1,2\n", "header lacks BTC"),
        ("time,BTC\n", "no rows"),
        ("time,BTC\n1,5\n2\n", "line 3: 1 fields, not 2"),
        ("time,BTC\nsoon,5\n", "line 2: time must be milliseconds or ISO 8601"),
        ("time,BTC\n2025-10-10T20:00:00,5\n", "line 2: time needs an offset"),
        ("time,BTC\n1,five\n", "line 2: BTC is no number"),
        ("time,BTC\n1,0\n", "line 2: BTC must be a"),
        ("time,BTC\n1,-5\n", "line 2: BTC must be a"),
        ("time,BTC\n1,nan\n", "line 2: BTC"),
        ("time,BTC\n1,inf\n", "line 2: BTC must be a"),
        ("time,BTC\n1,0.000000001\n", "line 2: BTC must be a"),
        ("time,BTC\n2,5\n1,6\n", "rising times"),
        ("time,BTC\n1,5\n1,6\n", "rising times"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(
    tmp_path: Path, text: str, words: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(FeedError) as caught:
        read_feed(path, ["BTC"])
    assert words in str(caught.value)
    assert str(path) in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    path.write_bytes(b"time,BTC\n1,\xff\xfe\n")
    with pytest.raises((FeedError, UnicodeDecodeError)):
        read_feed(path, ["BTC"])
