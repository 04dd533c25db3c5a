"""A disclosed book kept in step with its channel: a snapshot, then changes."""

from __future__ import annotations

from decimal import Decimal

from clients.records import BookMessage, OrderBook

Level = tuple[Decimal, Decimal]


class FollowedBook:
    """The book of one contract; started by a snapshot."""

    def __init__(self, snapshot: BookMessage) -> None:
        self.instrument_name = snapshot.instrument_name
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._take(snapshot)

    def follow(self, change: BookMessage) -> bool:
        """Apply a change; False (and nothing done) where it does not follow the last message."""
        if change.prev_change_id != self.change_id:
            return False
        self._take(change)
        return True

    def _take(self, message: BookMessage) -> None:
        self.change_id, self.timestamp = message.change_id, message.timestamp
        for side, rows in ((self._bids, message.bids), (self._asks, message.asks)):
            for action, price, amount in rows:
                if action == "delete":
                    side.pop(price, None)
                else:
                    side[price] = amount

    @property
    def bids(self) -> list[Level]:
        """(price, amount), best first."""
        return sorted(self._bids.items(), reverse=True)

    @property
    def asks(self) -> list[Level]:
        """(price, amount), best first."""
        return sorted(self._asks.items())

    @property
    def book(self) -> OrderBook:
        """The whole of it, as `Venue.get_order_book` gives it."""
        return OrderBook(
            instrument_name=self.instrument_name, timestamp=self.timestamp, bids=self.bids,
            asks=self.asks, change_id=self.change_id,
        )  # fmt: skip
