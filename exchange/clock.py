"""The only reader of time: a real clock and its simulated twin."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the venue knows of time."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; never runs backwards."""
        ...

    async def sleep_until(self, time_ns: int) -> None:
        """Return when `now_ns` has reached `time_ns`."""
        ...


class RealClock:
    """The machine's clock, kept from running backwards."""

    def __init__(self) -> None:
        self._latest_ns = 0

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        self._latest_ns = max(self._latest_ns, time.time_ns())
        return self._latest_ns

    async def sleep_until(self, time_ns: int) -> None:
        """Sleep on the event loop."""
        while (left_ns := time_ns - self.now_ns()) > 0:  # noqa: ASYNC110 - a timer
            await asyncio.sleep(left_ns / 1e9)


class SimulatedClock:
    """Time that stands still until somebody sleeps; then it is that time."""

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Simulated nanoseconds since the epoch."""
        return self._now_ns

    async def sleep_until(self, time_ns: int) -> None:
        """Jump to `time_ns` (never backwards)."""
        self._now_ns = max(self._now_ns, time_ns)
