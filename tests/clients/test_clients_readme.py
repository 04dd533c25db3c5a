"""The bot in the README does what the README says."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import clients
from tests.clients.fake_venue import FakeVenue
from tests.clients.playing import fill_all, orders_of


async def test_the_bot_of_the_readme_bids_each_batch_until_it_holds_something() -> None:
    text = (Path(clients.__file__).parent / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(from decimal.*?)```", text, re.DOTALL)
    assert len(code.splitlines()) <= 24
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)  # noqa: S102 - our own page
    fake = FakeVenue()
    running = asyncio.create_task(names["trade"](fake))
    for batch in range(1, 5):
        await asyncio.wait_for(fake.ready.wait(), 5)
        if batch == 2:
            fill_all(fake)
        fake.next_batch()
    await asyncio.wait_for(fake.ready.wait(), 5)
    await fake.close()
    await asyncio.wait_for(running, 5)
    assert [(row["direction"], row["price"]) for row in orders_of(fake)] == [("buy", 99_900)] * 2
    assert fake.readied == [1, 2, 3, 4, 5]
