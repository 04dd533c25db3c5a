"""One client as the dispatcher sees it: who it is, what it may do, what it listens to."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Send = Callable[[str, bytes], None]
"""Queues a notification, given its channel and the whole encoded frame; must not block or raise."""

ALL_SCOPES = frozenset({"read", "trade"})


class Ending(NamedTuple):
    """Why a session is over: the close code of a WebSocket, and the reason in words.

    `unanswered`: it takes the place of the answer to the request that ended the session.
    """

    code: int
    reason: str
    unanswered: bool = False


class Session:
    """A connection. `account` None may use the public methods only.

    `send` belongs to the transport and ends in a bounded outbox. What a subscription shows at once
    (the first book, the running batch) waits in `first_messages` until the transport has queued
    the answer and calls `release`, so that a client always knows of a subscription before it
    hears from it.

    `lasting` is False for one request over HTTP: it can neither listen nor stay logged in.
    `address` is where the client calls from, for the rates of sessions without an account. The
    transport reads `heartbeat_s` (0: none was asked for) and `ending` after each answer. `orders`
    are those entered over this connection, while cancel on disconnect may need them.
    """

    def __init__(
        self, account: int | None, send: Send, scopes: frozenset[str] = ALL_SCOPES, *,
        lasting: bool = True, address: str = "",
    ) -> None:  # fmt: skip
        self.account, self.send = account, send
        self.scopes = scopes if account is not None else frozenset()
        self.lasting, self.address = lasting, address
        self.channels: dict[str, None] = {}
        self.first_messages: list[tuple[str, bytes]] = []
        self.key_id = ""
        self.heartbeat_s = 0
        self.cancel_on_disconnect = False
        self.orders: dict[int, None] = {}
        self.ending: Ending | None = None

    def release(self) -> None:
        """Send what was held back for the answer before it."""
        if self.first_messages:
            held, self.first_messages = self.first_messages, []
            for channel, frame in held:
                self.send(channel, frame)
