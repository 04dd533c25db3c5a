"""The memory that makes resubmission safe: a client order id names one order of an account.

Entries are kept for a fixed number of cycles. Each cycle's entries are digested once, when the
cycle ends, so that the state hash never walks the whole memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator

import msgspec

Entry = tuple[int, str, int]  # (account, client order id, order id)


def _digest(entries: list[Entry]) -> bytes:
    if not entries:
        return bytes(32)
    return hashlib.sha256(msgspec.msgpack.encode(entries)).digest()


class ClientOrders:
    """(account, client order id) -> order id, for the last `cycles` cycles."""

    def __init__(self, cycles: int) -> None:
        self.cycles = cycles
        self.order_of: dict[tuple[int, str], int] = {}
        self.current: list[Entry] = []
        self.closed: deque[tuple[bytes, list[Entry]]] = deque()

    def find(self, account: int, client_order_id: str) -> int | None:
        """The order that this account named so, or None."""
        return self.order_of.get((account, client_order_id))

    def remember(self, account: int, client_order_id: str, order_id: int) -> None:
        """Bind an id to an order."""
        self.order_of[account, client_order_id] = order_id
        self.current.append((account, client_order_id, order_id))

    def close_cycle(self) -> None:
        """End the cycle: digest its entries, forget those of the oldest."""
        self.closed.append((_digest(self.current), self.current))
        self.current = []
        while len(self.closed) > self.cycles:
            _, forgotten = self.closed.popleft()
            for account, client_order_id, _ in forgotten:
                self.order_of.pop((account, client_order_id), None)

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes: the digests chain the entries, which follow for the snapshot."""
        yield "client_orders.digests", b"".join(digest for digest, _ in self.closed)
        yield "client_orders.current", msgspec.msgpack.encode(self.current)

    def entries(self) -> bytes:
        """The entries behind the digests, for a snapshot."""
        return msgspec.msgpack.encode([entries for _, entries in self.closed])

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` and `entries` gave; raises ValueError where they disagree."""
        decode = msgspec.msgpack.decode
        closed = decode(parts["client_orders.entries"], type=list[list[Entry]])
        self.closed = deque((_digest(entries), entries) for entries in closed)
        if b"".join(digest for digest, _ in self.closed) != parts["client_orders.digests"]:
            raise ValueError("client order ids do not match their digests")
        self.current = decode(parts["client_orders.current"], type=list[Entry])
        for entries in (*closed, self.current):
            for account, client_order_id, order_id in entries:
                self.order_of[account, client_order_id] = order_id
