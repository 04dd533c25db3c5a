"""What the client library needs of a connection, whatever carries it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

RECONNECTED = "connection.restored"
"""In place of a channel: what was missed while there was no connection has to be asked for."""


class Transport(Protocol):
    """An authenticated JSON-RPC connection to the venue, in one account's name.

    JSON numbers with a fraction arrive as `decimal.Decimal`, so that no price or amount passes
    through a float.
    """

    async def request(self, method: str, params: dict[str, object]) -> object:
        """The decoded `result`. Raises `VenueRefused` or `ConnectionLost`."""
        ...

    def notifications(self) -> AsyncIterator[tuple[str, object]]:
        """(channel, data) in the order of arrival; ends when the connection does.

        A transport that reconnects by itself says so by the channel `RECONNECTED`.
        """
        ...

    async def close(self) -> None:
        """End the connection. May be called twice."""
        ...
