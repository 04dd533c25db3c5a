"""How a request becomes a command: queued, committed, answered by its events or refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from exchange.core.commands import CommandBase
from exchange.core.events import Event, Rejected
from exchange.gateway.errors import refused
from exchange.gateway.session import Session
from exchange.sequencer import Sequencer

Action = Callable[[Session, Any], Awaitable[object]]
"""What carries out a request that changes the venue: session and parameters -> the result."""


async def granted(
    sequencer: Sequencer, kind: type[CommandBase], *fields: object, edit: bool = False
) -> list[Event]:
    """Queue a command and wait for its events. Raises `WireError` with the number of a refusal.

    `edit`: the request edits an order, for which some refusals have errors of their own.
    """
    events = await sequencer.submit(kind, *fields)
    if events and isinstance(events[0], Rejected):
        raise refused(events[0].reason, events[0].text, edit=edit)
    return events
