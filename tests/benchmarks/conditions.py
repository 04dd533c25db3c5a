"""Timing of two rivals in turn, and the words that a figure is printed with."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numba


class Timing(NamedTuple):
    """Best and median seconds of several runs, and what the last one returned."""

    best: float
    median: float
    result: Any

    def milliseconds(self) -> str:
        """`best (median) ms`."""
        return f"{self.best * 1e3:.1f} ({self.median * 1e3:.1f}) ms"


def in_turn(rounds: int, *works: Callable[[], Any]) -> list[Timing]:
    """Time each work once a round, one after the other: a busy moment then meets all of them.

    Each is run once before, untimed, to compile and to touch its memory.
    """
    results = [work() for work in works]
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for n, work in enumerate(works):
            begin = time.perf_counter()
            results[n] = work()
            times[n].append(time.perf_counter() - begin)
    return [
        Timing(min(taken), statistics.median(taken), result)
        for taken, result in zip(times, results, strict=True)
    ]


def machine() -> str:
    """Processor, threads that kernels use, and how busy the machine is."""
    name = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        lines = [x for x in listed.read_text("utf-8").splitlines() if x.startswith("model name")]
        name = lines[0].partition(":")[2].strip() if lines else name
    cores = os.cpu_count()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return (
        f"{name}, {numba.get_num_threads()} threads of {cores}, load average {load:.1f}, "
        f"Python {platform.python_version()}"
    )


def rates(
    name: str,
    count: int,
    unit: str,
    ours: Timing,
    baseline: Timing,
    baseline_name: str,
    conditions: str,
    baseline_count: int | None = None,
) -> dict[str, Any]:
    """A row of the table in millions a second; `baseline_count` if it did fewer."""
    ours_rate = count / ours.best / 1e6
    baseline_rate = (baseline_count or count) / baseline.best / 1e6
    return {
        "name": name,
        "ours": ours_rate,
        "baseline": baseline_rate,
        "unit": f"M {unit}/s",
        "ratio": ours_rate / baseline_rate,
        "baseline_name": baseline_name,
        "conditions": f"{conditions}; best (median) {ours.milliseconds()} against "
        f"{baseline.milliseconds()}; {machine()}",
    }
