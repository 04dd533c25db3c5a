"""The price at which each contract printed last: what a post-only order is measured against."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec


class LastPrints:
    """Per instrument slot the ticks of its last auction with a volume."""

    def __init__(self) -> None:
        self.price_ticks: dict[int, int] = {}

    def crossed_by(self, slot: int, side: int, price_ticks: int) -> bool:
        """Whether an order (`price_ticks` 0: market) would have been marketable at the last print.

        A limit at the print itself would have: its side is eligible there. A contract that never
        printed has nothing to cross but for market orders, which take whatever price comes.
        """
        if price_ticks == 0:
            return True
        last = self.price_ticks.get(slot, 0)
        return last > 0 and (price_ticks - last) * side >= 0

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes of the prints."""
        yield "last_prints", msgspec.msgpack.encode(sorted(self.price_ticks.items()))

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        pairs = msgspec.msgpack.decode(parts["last_prints"], type=list[tuple[int, int]])
        self.price_ticks = dict(pairs)
