"""The index that never ends: it follows its points, then walks on, the same for the same seed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from exchange.feed import PathFeed
from exchange.walk_feed import FLOOR_PARTS, NS, STEPS_MAX, WalkFeed

E8 = 10**8
HOUR_NS = 3_600 * NS


def walk(
    seed: str = "7", volatility_e9: int = 500_000_000, start_e8: int = 100_000 * E8
) -> WalkFeed:
    return WalkFeed([[(0, start_e8)]], [volatility_e9], seed)


def test_until_its_points_end_it_follows_them() -> None:
    points = [(0, 100 * E8), (10 * NS, 110 * E8), (20 * NS, 90 * E8)]
    feed, plain = WalkFeed([points], [10**9], "7"), PathFeed([points])
    for after in range(0, 20, 3):
        got, expected = (f.read(after * NS, (after + 3) * NS)[0] for f in (feed, plain))
        if after + 3 <= 20:
            assert (got.price_e8, got.observations) == (expected.price_e8, expected.observations)
    assert feed.read(20 * NS, 21 * NS)[0].price_e8 != 90 * E8


def test_the_same_seed_walks_the_same_way_and_another_does_not() -> None:
    def way(seed: str) -> list[int]:
        feed = walk(seed)
        return [feed.read((t - 5) * NS, t * NS)[0].price_e8 for t in range(5, 500, 5)]

    assert way("7") == way("7")
    assert way("7") != way("8")


def test_its_steps_have_the_deviation_of_the_volatility() -> None:
    """Annual 50 % is 0.5 / sqrt(31,536,000) = 0.0089 % a second."""
    feed = walk()
    observations = [price for _, price in feed.read(0, 4_000 * NS)[0].observations]
    moves = [b / a - 1 for a, b in pairwise(observations)]
    deviation = (sum(move * move for move in moves) / len(moves)) ** 0.5
    assert deviation == pytest.approx(0.5 / 31_536_000**0.5, rel=0.05)


def test_it_is_always_fresh_and_its_observations_rise() -> None:
    feed, last = walk(), 0
    for time_ns in (1, NS, 5 * NS // 2, 60 * NS, HOUR_NS):
        reading = feed.read(last, time_ns)[0]
        assert reading.age_ns == 0
        times = [at for at, _ in reading.observations]
        assert times == sorted(set(times))
        assert all(last < at <= time_ns for at in times)
        last = time_ns


def test_a_long_silence_is_a_bounded_number_of_steps_and_memory_is_too() -> None:
    feed = walk()
    assert len(feed.read(0, 30 * 24 * HOUR_NS)[0].observations) <= STEPS_MAX
    now = 30 * 24 * HOUR_NS
    for _ in range(200):
        feed.read(now, now + 5 * NS)
        now += 5 * NS
    assert len(feed.paths[0]) < 200


def test_it_stays_above_a_floor() -> None:
    feed = walk(volatility_e9=50 * 10**9, start_e8=1000)
    now = 0
    for _ in range(100):
        assert feed.read(now, now + 24 * HOUR_NS)[0].price_e8 >= 1000 // FLOOR_PARTS
        now += 24 * HOUR_NS
