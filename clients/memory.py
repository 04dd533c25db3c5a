"""A market in the same process: its in-memory connections as transports.

Frames go in and out as they would on a socket, so a bot sees the same order of events either way.
A notification is one frame for all its listeners, and here it is also read only once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from clients.crowd import Connect
from clients.frames import Frames, FrameTransport, decode_frame

FRAMES_REMEMBERED = 512


def connector(open_connection: Callable[[str], Frames]) -> Connect:
    """`connect(name)` for `crowd.run`, from whatever opens a connection in an account's name."""

    decode = lru_cache(FRAMES_REMEMBERED)(decode_frame)

    async def connect(name: str) -> FrameTransport:
        return FrameTransport(open_connection(name), decode)

    return connect
