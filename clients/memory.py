"""A market in the same process: its in-memory connections as transports.

Frames go in and out as they would on a socket, so a bot sees the same order of events either way.
"""

from __future__ import annotations

from collections.abc import Callable

from clients.crowd import Connect
from clients.frames import Frames, FrameTransport


def connector(open_connection: Callable[[str], Frames]) -> Connect:
    """`connect(name)` for `crowd.run`, from whatever opens a connection in an account's name."""

    async def connect(name: str) -> FrameTransport:
        return FrameTransport(open_connection(name))

    return connect
