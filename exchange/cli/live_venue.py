"""A venue that opens now, and the index that it follows from then on.

Prices need not be those of today: a story or a file is moved so that its first moment is the
opening. A batch of a story becomes a batch of the venue, however long either lasts.
"""

from __future__ import annotations

import msgspec

from exchange.cli.outside_feeds import require_outside_venues
from exchange.cli.serve_request import ServeRequest
from exchange.core.stored.state import State
from exchange.core.venue import Venue, VenueError
from exchange.coverage import require_coverage
from exchange.feed import PathFeed, read_feed
from exchange.venues import load_venue, resolved
from exchange.walk_feed import NS, WalkFeed
from replays.story import Story, index_paths, load_story

DEFAULT_VENUE = "demo"


def story_of(request: ServeRequest) -> Story | None:
    """The story that was asked for. Raises `StoryError`."""
    return None if request.story is None else load_story(request.story)


def live_venue(request: ServeRequest, story: Story | None, now_ns: int) -> Venue:
    """The venue that was asked for, opening at the last whole interval before `now_ns`.

    Raises `VenueError` where it cannot be opened, or where its margin covers too little.
    """
    name = request.venue or (story.venue if story else DEFAULT_VENUE)
    changes: dict[str, int | str] = {}
    if request.interval_s is not None:
        changes["interval_s"] = request.interval_s
    venue = load_venue(name, **changes)
    opening_ns = now_ns - now_ns % venue.interval_ns
    prices = [spec.opening_index_e8 for spec in venue.underlyings]
    if story is not None:
        _require_what_is_told(venue, story)
        prices = [path.knots[0][1] for path in story.paths]
        house = msgspec.structs.replace(
            venue.default, fund_minor=story.insurance_minor,
            venue_capital_minor=story.venue_capital_minor,
        )  # fmt: skip
        venue = msgspec.structs.replace(venue, default=house)
    elif request.index is not None:
        prices = [path[0][1] for path in read_feed(request.index, _names(venue)).paths]
    underlyings = tuple(
        msgspec.structs.replace(spec, opening_index_e8=price)
        for spec, price in zip(venue.underlyings, prices, strict=True)
    )
    venue = msgspec.structs.replace(venue, opening_time_ns=opening_ns, underlyings=underlyings)
    venue = resolved(venue)
    require_coverage(venue)
    return venue


def live_feed(request: ServeRequest, story: Story | None, venue: Venue,
              state: State | None) -> tuple[PathFeed, str]:  # fmt: skip
    """The index of an open venue, and where it comes from in words.

    `state` is that of a market which is resumed: its walk goes on where it stood. A story or a file
    goes on where it would be by now. Raises `FeedError`, `VenueError`.
    """
    volatilities = [spec.opening_volatility_e9 for spec in venue.underlyings]
    if request.index is not None:
        return _file_feed(request, venue), f"the file {request.index}, from its first row on"
    if story is not None:
        _require_what_is_told(venue, story)
        paths = _moved_story(story, request.seed, venue)
        if state is None or state.marks.time_ns < min(path[-1][0] for path in paths):
            step_ns = max(1, story.path_step_s * venue.interval_ns // story.interval_s)
            feed = WalkFeed(paths, volatilities, f"{request.seed}/after", max(step_ns, NS // 10))
            return feed, f"the story {story.name}, then a random walk of seed {request.seed}"
    if state is None:
        starts = [[(venue.opening_time_ns, spec.opening_index_e8)] for spec in venue.underlyings]
        seed = str(request.seed)
    else:
        prices = state.marks.index_e8.tolist()
        starts = [[(state.marks.time_ns, price)] for price in prices]
        seed = f"{request.seed}/{state.cycle}"
    return WalkFeed(starts, volatilities, seed), f"a random walk of seed {request.seed}"


def _names(venue: Venue) -> list[str]:
    return [spec.name for spec in venue.underlyings]


def _require_what_is_told(venue: Venue, story: Story) -> None:
    told = [path.name for path in story.paths]
    if _names(venue) != told:
        raise VenueError(
            f"venue {venue.name} needs the indices {', '.join(_names(venue))} in this order; "
            f"story {story.name} has {', '.join(told)}"
        )
    require_outside_venues(story, venue)


def _moved_story(story: Story, seed: int, venue: Venue) -> list[list[tuple[int, int]]]:
    """The story's paths, its opening at the venue's and its batches as long as the venue's."""
    theirs_ns, ours_ns = story.interval_s * NS, venue.interval_ns
    return [
        [
            (venue.opening_time_ns + (time_ns - story.opening_ns) * ours_ns // theirs_ns, price)
            for time_ns, price in path
        ]
        for path in index_paths(story, seed)
    ]


def _file_feed(request: ServeRequest, venue: Venue) -> PathFeed:
    """The file's rows, the first at the opening; after the last one the index grows stale."""
    assert request.index is not None
    feed = read_feed(request.index, _names(venue))
    move_ns = venue.opening_time_ns - feed.paths[0][0][0]
    return PathFeed([[(time_ns + move_ns, price) for time_ns, price in p] for p in feed.paths])
