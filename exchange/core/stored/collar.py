"""The price collar: a band around the reference, widened at each extension, clamped at the last.

Reference and schedule are frozen at the first seal of an extension sequence. An auction whose
print would lie outside its band is interrupted and everything carries to the next batch, whose
band is wider; after the last extension the print is clamped into the band.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from exchange.core.venue import CollarSpec
from margin.fixed_point import RATE_SCALE

NO_BAND = 2**62


class Band(msgspec.Struct, frozen=True):
    """The collar of one auction attempt, in ticks; `clamp` at the last extension."""

    reference_ticks: int
    low_ticks: int
    high_ticks: int
    clamp: bool


def half_width_ticks(spec: CollarSpec, reference_ticks: int, extension: int) -> int:
    """Half width of the band at an extension: max(percentage, floor), widened each time."""
    width = max(reference_ticks * spec.band_ppb // RATE_SCALE, spec.floor_ticks)
    for _ in range(extension):
        width = width * spec.widen_ppb // RATE_SCALE
    return width


class Collars:
    """Per instrument: how many extensions have passed, and the reference they froze."""

    def __init__(self, spec: CollarSpec) -> None:
        self.spec = spec
        self.extension: dict[int, int] = {}
        self.frozen_ticks: dict[int, int] = {}

    def band(self, slot: int, reference_ticks: int) -> Band:
        """The band of this attempt; `reference_ticks` counts where no extension is running."""
        extension = self.extension.get(slot, 0)
        reference = self.frozen_ticks.get(slot, reference_ticks)
        if self.spec.band_ppb == 0:
            return Band(reference, -NO_BAND, NO_BAND, False)
        width = half_width_ticks(self.spec, reference, extension)
        last = extension == self.spec.extensions
        return Band(reference, max(1, reference - width), reference + width, last)

    def widest(self, slot: int, reference_ticks: int) -> tuple[int, int]:
        """Lowest and highest price that an order entered now can meet before its life ends."""
        if self.spec.band_ppb == 0:
            return 1, NO_BAND
        reference = self.frozen_ticks.get(slot, reference_ticks)
        width = half_width_ticks(self.spec, reference, self.spec.extensions)
        return max(1, reference - width), reference + width

    def interrupted(self, slot: int, reference_ticks: int) -> None:
        """The print lay outside: freeze the reference and widen for the next batch."""
        self.frozen_ticks.setdefault(slot, reference_ticks)
        self.extension[slot] = self.extension.get(slot, 0) + 1

    def printed(self, slot: int) -> None:
        """The auction ended (with or without a trade): the next starts at the base band."""
        self.extension.pop(slot, None)
        self.frozen_ticks.pop(slot, None)

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes of the running extensions."""
        state = sorted(self.extension.items()), sorted(self.frozen_ticks.items())
        yield "collars", msgspec.msgpack.encode(state)

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        pairs = list[tuple[int, int]]
        state = msgspec.msgpack.decode(parts["collars"], type=tuple[pairs, pairs])
        self.extension, self.frozen_ticks = dict(state[0]), dict(state[1])
