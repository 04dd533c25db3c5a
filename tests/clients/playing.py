"""Play a bot against the fake venue, batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from clients.bot import Bot
from tests.clients.fake_venue import FakeVenue

Story = Callable[[FakeVenue], None]
ORDER_METHODS = ("private/buy", "private/sell", "private/edit")


async def play(bot: Bot, fake: FakeVenue, batches: int, story: Story | None = None) -> None:
    """Start `bot` and let it play; after each of its turns `story` happens, then the next batch."""
    await bot.start(fake)
    task = asyncio.create_task(bot.trade(last_batch=batches))
    for _ in range(batches):
        waiting = asyncio.create_task(fake.ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        if task.done():
            waiting.cancel()
            await task
            return
        if story is not None:
            story(fake)
        fake.next_batch()
    await asyncio.wait_for(task, 5)


def fill_all(fake: FakeVenue) -> None:
    """Every order trades in full."""
    for order in fake.open_orders():
        fake.fill(order)


def fill_immediate(fake: FakeVenue) -> None:
    """Immediate-or-cancel orders trade in full; resting ones rest."""
    for order in fake.open_orders():
        if order["time_in_force"] == "immediate_or_cancel":
            fake.fill(order)


def traffic(fake: FakeVenue) -> list[tuple[str, dict[str, Any]]]:
    """Everything that changes something at the venue, in order."""
    return [
        (method, params) for method, params in fake.requests
        if method.startswith("private/") and "get_" not in method and "subscribe" not in method
    ]  # fmt: skip


def orders_of(fake: FakeVenue) -> list[dict[str, Any]]:
    """Parameters of all buys and sells, with their direction, in order."""
    return [
        {**params, "direction": method.removeprefix("private/")}
        for method, params in fake.requests
        if method in ("private/buy", "private/sell")
    ]
