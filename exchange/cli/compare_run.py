"""One story under one margin model and one seed: what `uncross compare-margin` runs many times.

Everything here can be sent to another process: requests and records are plain data.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exchange.cli.demo_market import DemoMarket, story_venue
from exchange.cli.margin_course import LONG, STRADDLE, MarginCourse, figures
from exchange.coverage import horizon_ns
from margin.fixed_point import USDC_SCALE
from replays.story import Story, load_story

RISE_CYCLES = (10, 60)


@dataclass(frozen=True)
class RunRequest:
    """A story by name or path, a venue model by name, a seed, and how many batches."""

    story: str
    model: str
    seed: int
    cycles: int


@dataclass(frozen=True)
class RunRecord:
    """What one run came to, and its course: values by name, one a revaluation; None of the rate of
    a book that then held nothing."""

    request: RunRequest
    figures: dict[str, Any]
    course: dict[str, list[float | None]]


def run_story(request: RunRequest) -> RunRecord:
    """Play the story in process, bit for bit the same each time, with a journal that is not kept.

    Raises what `load_story` and `story_venue` refuse.
    """
    began = time.perf_counter()
    story = load_story(request.story)
    venue = story_venue(story, preset=request.model)
    with tempfile.TemporaryDirectory(prefix="uncross-compare-") as folder:
        market = DemoMarket(story, venue, request.seed, Path(folder) / "run.journal")
        sampler = MarginCourse(market.engine)
        market.sequencer.listeners.append(sampler.take)
        try:
            asyncio.run(market.play(request.cycles))
        finally:
            market.close()
        total = market.tally.summary()
    course = sampler.course
    horizon = horizon_ns(venue) // venue.interval_ns
    found = {**_counted(total), **figures(course, horizon, RISE_CYCLES)}
    found["seconds"] = round(time.perf_counter() - began, 3)
    series: dict[str, list[float | None]] = {
        "index": [row[0] / 10**8 for row in course.index_e8],
        "initial": [minor / USDC_SCALE for minor in course.initial_minor],
        "interest": [minor / USDC_SCALE for minor in course.interest_minor],
        "fund": [minor / USDC_SCALE for minor in course.fund_minor],
        "called": [float(n) for n in course.called],
        **{book: [rate / 10**9 if rate else None for rate in course.rate_ppb[book]]
           for book in (LONG, STRADDLE)},
    }  # fmt: skip
    return RunRecord(request, found, series)


def _counted(total: dict[str, Any]) -> dict[str, Any]:
    """Of a run's totals, those that models differ by; proofs that the books balance."""
    names = (
        "orders", "refused", "fills", "margin_calls", "margin_calls_cured", "margin_calls_expired",
        "breaches", "liquidations", "liquidations_restored", "fund_takeovers", "adl_events",
        "vm_haircuts", "shortfalls", "trial_balance", "positions_sum", "state_hash",
    )  # fmt: skip
    found = {name: total[name] for name in names}
    found["fund_used_minor"] = total["fund_start_minor"] - total["fund_low_minor"]
    found["layers_minor"] = sum(total["layers_minor"].values())
    return found


def refuse_before_running(story: Story, models: list[str]) -> None:
    """Raise `VenueError` or `PresetError` for a model that cannot charge the story's venue."""
    for model in models:
        story_venue(story, preset=model)
