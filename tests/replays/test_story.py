from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import stdev

import pytest

from exchange.feed import PathFeed
from exchange.listing import contracts_due
from exchange.venues import load_venue
from replays.story import (
    IndexPath,
    Random,
    StoryError,
    bridge,
    index_paths,
    load_story,
    parse_story,
    story_names,
)

NS = 10**9
E8 = 10**8
STORY = b"""
name = "toy"
title = "A small slide"
venue = "tiny"
opening = 2025-10-10T20:00:00Z
interval_s = 60
cycles = 10
path_step_s = 20

[crowd]
market_makers = 1
noise_traders = 2
trend_followers = 3
arbitrageurs = 0
option_sellers = 0
market_maker_money = 1000
noise_trader_money = 10.5
trend_follower_money = 100
arbitrageur_money = 0
option_seller_money = 0

[fund]
insurance = 500
venue_capital = 0

[[path]]
name = "BTC"
volatility = 0.5
knots = [[2025-10-10T20:00:00Z, 100000.5], [2025-10-10T20:10:00Z, 90000]]
"""


def test_a_story_is_read_into_integers() -> None:
    story = parse_story(STORY, "toy")
    assert (story.name, story.venue, story.cycles, story.cycles_max) == ("toy", "tiny", 10, 10)
    assert story.crowd["trend_followers"] == 3
    assert story.money_minor["noise_trader_money"] == 10_500_000
    assert story.insurance_minor == 500_000_000
    assert story.paths[0].knots[0] == (story.opening_ns, 10_000_050_000_000)
    assert story.opening_ns == 1_760_126_400 * NS


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'name = "toy"', b'name = "toy"\nmood = 1', "unknown key story.mood; allowed: name, "),
        (b"[fund]\ninsurance = 500\n", b"[fund]\n", "key fund.insurance is missing"),
        (b"noise_traders = 2", b"noise_traders = -2", "crowd.noise_traders = -2"),
        (b"noise_traders = 2", b"noise_traders = 2.5", "crowd.noise_traders = 2.5"),
        (b"noise_traders = 2", b"noise_traders = true", "must be a number"),
        (b"volatility = 0.5", b'volatility = "high"', "path[0].volatility must be a number"),
        (b"interval_s = 60", b"interval_s = 0", "story.interval_s = 0"),
        (b"20:10:00Z", b"20:00:00Z", "path[0].knots[1]: times must rise"),
        (b"[[2025-10-10T20:00:00Z", b"[[2025-10-10T20:00:01Z", "at the opening"),
        (b"20:10:00Z", b"20:10:00", "with an offset"),
        (b"90000]", b"0]", "price = 0"),
        (b"90000]", b"nan]", "price"),
        (b"cycles = 10", b"cycles = 11", "the knots reach 10"),
        (b"[fund]", b"[fund", "not TOML"),
        (b"small", b"\xff", "not UTF-8"),
        (b"= 500", b"= 1e30", "fund.insurance = 1E+30: must be from"),
        (b"= 500", b"= 5e9", "fund.insurance = 5E+9: must be at most 4503599627.370496"),
        (b"venue_capital = 0", b"venue_capital = 1e30", "fund.venue_capital = 1E+30: must be"),
        (b"arbitrageur_money = 0", b"arbitrageur_money = 1e400", "crowd.arbitrageur_money = 1E"),
        (b"noise_traders = 2", b"noise_traders = 1e9", "noise_traders = 1E+9: must be at most"),
        (b"interval_s = 60", b"interval_s = 1e9", "interval_s = 1E+9: must be at most 86400"),
        (b"path_step_s = 20", b"path_step_s = 1e30", "story.path_step_s = 1E+30: must be"),
        (b"volatility = 0.5", b"volatility = 21", "path[0].volatility = 21: must be at most 20"),
        (b"90000]", b"1e9]", "price = 1E+9: must be at most 11258999.06842624"),
        (b"20:10:00Z, 9", b"20:10:00Z, 9e99999999999999999999999", "too many digits"),
        (b"2025-10-10T20:10", b"9999-10-10T20:10", "must be between the years 1970 and 2116"),
        (b"cycles = 10", b"cycles = " + b"9" * 5000, "digits"),
    ],
)
def test_a_wrong_story_says_which_key(old: bytes, new: bytes, message: str) -> None:
    assert old in STORY
    with pytest.raises(StoryError) as refused:
        parse_story(STORY.replace(old, new, 1), "toy")
    assert str(refused.value).startswith("toy: ")
    assert message in str(refused.value)


def test_an_unknown_story_names_those_that_ship() -> None:
    with pytest.raises(StoryError, match="neither a file nor one of 2020-03-12, 2025-10-10"):
        load_story("yesterday")


def test_a_story_file_is_read_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes(STORY)
    assert load_story(str(path)).name == "toy"


def test_a_path_meets_every_knot_and_has_a_point_every_step() -> None:
    story = load_story("2025-10-10")
    for told, points in zip(story.paths, index_paths(story, 7), strict=True):
        at = dict(points)
        assert all(at[time_ns] == price_e8 for time_ns, price_e8 in told.knots)
        steps = [b[0] - a[0] for a, b in pairwise(points)]
        assert max(steps) <= story.path_step_s * NS
        assert min(price for _, price in points) > 0
    PathFeed(index_paths(story, 7))  # times rise


def test_the_seed_moves_the_way_but_not_the_knots() -> None:
    story = load_story("2025-10-10")
    assert index_paths(story, 7) == index_paths(story, 7)
    assert index_paths(story, 7) != index_paths(story, 8)


def test_a_bridge_without_volatility_is_a_straight_line() -> None:
    knots = ((0, 1000 * E8), (100 * NS, 2000 * E8))
    points = bridge(IndexPath("X", 0, knots), 10 * NS, Random(1))
    for time_ns, price_e8 in points:
        assert abs(price_e8 - (1000 * E8 + time_ns)) < 20  # 10 a second


@pytest.mark.parametrize("place", [0.25, 0.5])
def test_a_bridge_spreads_as_its_volatility_says(place: float) -> None:
    """Standard deviation at a share x of the way: price x volatility x sqrt(T x (1 - x))."""
    span_s, price = 86_400, 100
    knots = ((0, price * E8), (span_s * NS, price * E8))
    at = int(span_s * place) * NS
    values = [
        dict(bridge(IndexPath("X", 500_000_000, knots), 3600 * NS, Random(seed)))[at] / E8
        for seed in range(2000)
    ]
    expected = price * 0.5 * (span_s / (365 * 86_400) * place * (1 - place)) ** 0.5
    assert stdev(values) == pytest.approx(expected, rel=0.06)


LOWEST = {
    "2020-03-12": {"BTC": 3_850.0, "ETH": 88.2},
    "2025-10-10": {"BTC": 102_497.5, "ETH": 3_400, "SOL": 141.28},
}


def test_the_stories_that_ship_are_those_named_here() -> None:
    assert story_names() == sorted([*LOWEST, "venue-outage"])


@pytest.mark.parametrize("name", sorted(LOWEST))
def test_a_shipped_story_holds_a_crash_a_funding_boundary_and_an_expiry(name: str) -> None:
    story = load_story(name)
    assert story.name == name
    assert story.crowd["trend_followers"] >= 100
    ends_ns = story.opening_ns + story.cycles * story.interval_s * NS
    lowest = {path.name: min(price for _, price in path.knots) / E8 for path in story.paths}
    assert lowest == LOWEST[name]
    for path in story.paths:  # at least a tenth is lost on the way, before the last cycle
        first = path.knots[0][1]
        fallen = [time_ns for time_ns, price in path.knots if 10 * price <= 9 * first]
        assert fallen
        assert fallen[0] < ends_ns
    venue = load_venue(story.venue)
    period_ns = venue.funding.period_ns
    assert story.opening_ns // period_ns < (ends_ns - 1) // period_ns
    day = 86_400 * NS
    expiry = next(
        spec.expiry_ns
        for spec in contracts_due(venue, [p.knots[0][1] for p in story.paths], story.opening_ns)
        if spec.strike_e8
    )
    assert story.opening_ns < expiry < ends_ns
    assert (expiry - 8 * 3600 * NS) % day == 0
