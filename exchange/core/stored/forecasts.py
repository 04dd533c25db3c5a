"""What the venue's margin models remember of the market: forecasts, ranges in force, correlations.

Made from the journaled marks alone, once a revaluation, so a replay makes them again; they are
part of the hashed state all the same, since a snapshot does not hold the marks of the past. A model
without moving ranges and without offsets remembers nothing, and a venue of only such models has no
such part in its state.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from exchange.core.stored.marks import IndexState, MarkBoard
from exchange.core.venue import Venue
from margin.fixed_point import RATE_SCALE
from margin.forecasts import cross_unit, ranges
from margin.forecasts.cross_unit import CorrelationState
from margin.forecasts.predictive import (
    growth_ppb,
    horizon_volatility_e9,
    mean_growth_ppb,
    range_path_e9,
    variance_path_e18,
)
from margin.forecasts.ranges import RangeState, RangeTerms, range_terms
from margin.invariant import Int64Array, check
from margin.presets.preset import Preset

_encode = msgspec.msgpack.Encoder().encode
_RANGE_COLUMNS = tuple(
    name for name in RangeState.__struct_fields__ if name not in ("memory", "day")
)


class Memory:
    """What one margin model remembers; `ranges` and `correlation` are None where it need not."""

    def __init__(self, venue: Venue, preset: Preset) -> None:
        units = venue.underlyings
        annual = [unit.opening_volatility_e9 for unit in units]
        self.preset = preset
        self.terms: RangeTerms | None = None
        self.ranges: RangeState | None = None
        self.correlation: CorrelationState | None = None
        self._known_ppb: Int64Array | None = None  # correlations of the moments as they are
        if preset.dynamic is not None:
            self.terms = range_terms(preset, [unit.risk_class for unit in units])
            self.ranges = ranges.opening(self.terms, annual)
        if preset.cross_unit is not None:
            period_s = preset.cross_unit.period_s
            variance = [ranges.period_variance_e18(e9, period_s) for e9 in annual]
            self.correlation = cross_unit.opening(preset.cross_unit, np.array(variance, np.int64))

    def take(self, marks: MarkBoard) -> None:
        """Move on to the marks just taken."""
        index_e8 = marks.index_e8.tolist()
        fresh = [state == IndexState.FRESH for state in marks.index_state]
        if self.terms is not None and self.ranges is not None:
            at_the_money = None
            if self.terms.section.implied is not None:
                at_the_money = marks.at_the_money()
            ranges.step(self.terms, self.ranges, marks.time_ns, index_e8, fresh, at_the_money)
        section, state = self.preset.cross_unit, self.correlation
        if section is not None and state is not None:
            learnt = cross_unit.step(section, state, marks.time_ns, index_e8, all(fresh))
            self._known_ppb = None if learnt else self._known_ppb

    def ranges_now(self) -> tuple[int, ...]:
        """The ranges in force, by unit, then the scale of the volatility shocks; () where fixed."""
        if self.ranges is None:
            return ()
        return (*self.ranges.range_e9.tolist(), int(self.ranges.scale_e9.max()))

    def growth_ppb(self, time_ns: int, interval_ns: int, cycles: int) -> tuple[int, int]:
        """Ranges of the cycles to come over today's: the most, and the mean, x 10^9, at least 1."""
        if self.terms is None or self.ranges is None:
            return RATE_SCALE, RATE_SCALE
        now = self.ranges.range_e9.tolist()
        path = range_path_e9(self.terms, self.ranges, time_ns, interval_ns, cycles)
        return growth_ppb(now, path), mean_growth_ppb(now, path)

    def horizon_volatility_e9(self, unit: int, horizon_ns: int) -> int:
        """Forecast volatility of a unit over a horizon, not annualised."""
        check(self.terms is not None and self.ranges is not None, "forecasts: nothing is forecast")
        assert self.terms is not None
        assert self.ranges is not None
        period_s = self.terms.section.period_s
        periods = -(-horizon_ns // (period_s * 10**9))
        memory = self.ranges.memory[:, unit].tolist()
        path = variance_path_e18(self.terms.forecasters[unit], memory, periods)
        return horizon_volatility_e9(path, period_s, horizon_ns)

    def correlations_ppb(self) -> Int64Array:
        """Correlations [U,U] of a model with offsets."""
        section, state = self.preset.cross_unit, self.correlation
        check(section is not None and state is not None, "forecasts: a model without correlations")
        assert section is not None
        assert state is not None
        if self._known_ppb is None:
            self._known_ppb = cross_unit.correlations_ppb(section, state)
        return self._known_ppb

    def columns(self) -> tuple[list[list[int]], list[list[int]], list[int], list[list[int]]]:
        """Everything remembered, in lists: memory, other columns and the day; correlation."""
        memory: list[list[int]] = []
        columns: list[list[int]] = []
        numbers, moment = [0, 0], []
        if self.ranges is not None:
            memory = self.ranges.memory.tolist()
            columns = [getattr(self.ranges, name).tolist() for name in _RANGE_COLUMNS]
            numbers[0] = self.ranges.day
        if self.correlation is not None:
            moment = [*self.correlation.moment_e18.tolist(), self.correlation.price_e8.tolist()]
            numbers[1] = self.correlation.period
        return memory, columns, numbers, moment

    def load(
        self, memory: list[list[int]], columns: list[list[int]], numbers: list[int],
        moment: list[list[int]],
    ) -> None:  # fmt: skip
        """Remember what `columns` gave."""
        self._known_ppb = None
        if self.ranges is not None:
            check(len(columns) == len(_RANGE_COLUMNS), "forecasts: columns of another version")
            named = {
                name: np.array(column, np.int64)
                for name, column in zip(_RANGE_COLUMNS, columns, strict=True)
            }
            self.ranges = RangeState(memory=np.array(memory, np.int64), day=numbers[0], **named)
        if self.correlation is not None:
            self.correlation = CorrelationState(
                np.array(moment[:-1], np.int64), np.array(moment[-1], np.int64), numbers[1]
            )


class Forecasts:
    """The memories of the venue's margin models, in the order of `Venue.presets`."""

    def __init__(self, venue: Venue) -> None:
        self.memories = [Memory(venue, preset) for preset in venue.presets()]
        self.moving = [
            memory
            for memory in self.memories
            if memory.ranges is not None or memory.correlation is not None
        ]
        self.warns = any(preset.predictive is not None for preset in venue.presets())
        self.warned: list[int] = []  # pools likely to be called, rising

    def take(self, marks: MarkBoard) -> None:
        """Move every memory on to the marks just taken."""
        for memory in self.moving:
            memory.take(marks)

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes; nothing where no model remembers anything."""
        if self.moving:
            yield "forecasts", _encode([memory.columns() for memory in self.moving])
        if self.warns:
            yield "warned", _encode(self.warned)

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        if not self.moving:
            return
        rows = list[list[int]]
        layout = list[tuple[rows, rows, list[int], rows]]
        data = msgspec.msgpack.decode(parts["forecasts"], type=layout)
        for memory, columns in zip(self.moving, data, strict=True):
            memory.load(*columns)
        if self.warns:
            self.warned = msgspec.msgpack.decode(parts["warned"], type=list[int])
