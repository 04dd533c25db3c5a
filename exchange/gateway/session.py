"""One client as the dispatcher sees it: who it is, what it may do, what it listens to."""

from __future__ import annotations

from collections.abc import Callable

Send = Callable[[str, bytes], None]
"""Queues a notification, given its channel and the whole encoded frame; must not block or raise."""

ALL_SCOPES = frozenset({"read", "trade"})


class Session:
    """A connection. `account` None may use the public methods only.

    `send` belongs to the transport and ends in a bounded outbox. What a subscription shows at once
    (the first book, the running batch) waits in `first_messages` until the transport has queued
    the answer and calls `release`, so that a client always knows of a subscription before it
    hears from it.
    """

    def __init__(
        self, account: int | None, send: Send, scopes: frozenset[str] = ALL_SCOPES
    ) -> None:
        self.account, self.send = account, send
        self.scopes = scopes if account is not None else frozenset()
        self.channels: dict[str, None] = {}
        self.first_messages: list[tuple[str, bytes]] = []

    def release(self) -> None:
        """Send what was held back for the answer before it."""
        if self.first_messages:
            held, self.first_messages = self.first_messages, []
            for channel, frame in held:
                self.send(channel, frame)
