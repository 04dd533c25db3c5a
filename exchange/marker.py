"""Makes the marks of a cycle from the index feed and the prints; proposes them as a `Revalue`.

Futures: index plus a bounded average of how far auctions printed from the index. Options: the mark
volatility of a strike starts at the venue's default and moves toward the volatility that a print
implies, by a bounded step. The marker keeps nothing of its own: its state travels inside `Revalue`
and is read back from the last one, so a recovered venue marks on as if nothing had happened.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from exchange.core.auction import CLAMPED, PRINTED
from exchange.core.commands import ExpiryMark, Revalue, UnderlyingMark
from exchange.core.contracts import Life, premium_in_dollars_e8
from exchange.core.events import Event, Printed
from exchange.core.limits import VOLATILITY_E9_MAX
from exchange.core.state import State
from exchange.core.venue import CALL_KINDS
from exchange.feed import PathFeed, Reading
from margin.black76 import implied_volatility
from margin.fixed_point import NS_PER_YEAR

PPB = 10**9
BASIS_WEIGHT_PPB = 125_000_000  # one print in eight cycles' memory
BASIS_BOUND_PPB = 10_000_000  # a mark stays within 1 % of the index
VOLATILITY_WEIGHT_PPB = 250_000_000
VOLATILITY_STEP_E9 = 20_000_000  # at most two volatility points a print
VOLATILITY_E9_MIN = 50_000_000


class MarkerState(msgspec.Struct, array_like=True):
    """What the marker remembers: basis per future, volatility per option strike."""

    basis_ppb: dict[int, int] = {}
    volatility_e9: dict[tuple[int, int, int], int] = {}


class _Stored(msgspec.Struct, array_like=True):
    basis: list[tuple[int, int]]
    volatility: list[tuple[tuple[int, int, int], int]]


def encode_state(state: MarkerState) -> bytes:
    """Canonical bytes of the marker's state."""
    stored = _Stored(sorted(state.basis_ppb.items()), sorted(state.volatility_e9.items()))
    return msgspec.msgpack.encode(stored)


def decode_state(data: bytes) -> MarkerState:
    """The state that `encode_state` stored; empty bytes are a fresh marker."""
    if not data:
        return MarkerState()
    stored = msgspec.msgpack.decode(data, type=_Stored)
    return MarkerState(dict(stored.basis), dict(stored.volatility))


def bounded(value: int, bound: int) -> int:
    """`value` held within +-bound."""
    return max(-bound, min(bound, value))


class Marker:
    """Builds the `Revalue` command of each cycle."""

    def __init__(self, feed: PathFeed) -> None:
        self.feed = feed

    def revalue(self, state: State, prints: list[Event], time_ns: int) -> Revalue:
        """The marks of the open cycle at `time_ns`, after these prints."""
        remembered = decode_state(state.marks.marker_state)
        after_ns = state.marks.time_ns if state.marks.is_open else time_ns - 10**9
        readings = self.feed.read(after_ns, time_ns)
        bounds = [u.price_e8_max for u in state.venue.underlyings]
        underlyings = tuple(
            UnderlyingMark(
                min(r.price_e8, bound),
                r.age_ns,
                r.confidence_ppb,
                tuple((t, min(p, bound)) for t, p in r.observations),
            )
            for r, bound in zip(readings, bounds, strict=True)
        )
        for event in prints:
            if isinstance(event, Printed):
                self._learn(state, remembered, readings, event, time_ns)
        futures = self._futures(state, remembered, readings)
        expiries = self._expiries(state, remembered, readings)
        self._forget(state, remembered)
        return Revalue(
            time_ns, state.batch, underlyings, futures, expiries, encode_state(remembered)
        )

    def _learn(
        self,
        state: State,
        remembered: MarkerState,
        readings: list[Reading],
        printed: Printed,
        time_ns: int,
    ) -> None:
        traded = np.isin(printed.states, (PRINTED, CLAMPED))
        for slot, ticks in zip(
            printed.instruments[traded].tolist(), printed.price_ticks[traded].tolist(), strict=True
        ):
            spec = state.contracts.specs[slot]
            index_e8 = readings[spec.underlying].price_e8
            price_e8 = ticks * spec.tick_e8
            if state.contracts.is_option_slot(slot):
                self._learn_volatility(state, remembered, slot, price_e8, time_ns)
                continue
            observed = bounded((price_e8 - index_e8) * PPB // index_e8, BASIS_BOUND_PPB)
            known = remembered.basis_ppb.get(slot, 0)
            remembered.basis_ppb[slot] = known + (observed - known) * BASIS_WEIGHT_PPB // PPB

    def _learn_volatility(
        self, state: State, remembered: MarkerState, slot: int, price_e8: int, time_ns: int
    ) -> None:
        spec = state.contracts.specs[slot]
        key = (spec.underlying, spec.expiry_ns, spec.strike_e8)
        known = remembered.volatility_e9.get(key, self._default(state, spec.underlying))
        years = (spec.expiry_ns - time_ns) / NS_PER_YEAR
        if years <= 0:
            return
        forward = int(state.marks.forward_e8[slot])
        implied = implied_volatility(
            premium_in_dollars_e8(spec, price_e8, forward) / 1e8,
            forward / 1e8,
            spec.strike_e8 / 1e8,
            years,
            1.0,
            spec.kind in CALL_KINDS,
        )
        if not math.isfinite(implied):
            return
        step = (min(int(implied * PPB), VOLATILITY_E9_MAX) - known) * VOLATILITY_WEIGHT_PPB // PPB
        moved = known + bounded(step, VOLATILITY_STEP_E9)
        remembered.volatility_e9[key] = max(VOLATILITY_E9_MIN, min(moved, VOLATILITY_E9_MAX))

    @staticmethod
    def _default(state: State, unit: int) -> int:
        return state.venue.underlyings[unit].opening_volatility_e9

    def _futures(
        self, state: State, remembered: MarkerState, readings: list[Reading]
    ) -> tuple[tuple[int, int], ...]:
        marks = []
        for slot in state.contracts.listed():
            spec = state.contracts.specs[slot]
            if state.contracts.is_option_slot(slot):
                continue
            index_e8 = readings[spec.underlying].price_e8
            mark = index_e8 + index_e8 * remembered.basis_ppb.get(slot, 0) // PPB
            bound = state.venue.underlyings[spec.underlying].price_e8_max
            marks.append((slot, max(1, min(mark, bound))))
        return tuple(marks)

    def _expiries(
        self, state: State, remembered: MarkerState, readings: list[Reading]
    ) -> tuple[ExpiryMark, ...]:
        strikes: dict[tuple[int, int], set[int]] = {}
        for slot in state.contracts.listed():
            spec = state.contracts.specs[slot]
            if state.contracts.is_option_slot(slot):
                strikes.setdefault((spec.underlying, spec.expiry_ns), set()).add(spec.strike_e8)
        marks = []
        for (unit, expiry_ns), listed in sorted(strikes.items()):
            ordered = tuple(sorted(listed))
            default = self._default(state, unit)
            volatilities = tuple(
                remembered.volatility_e9.get((unit, expiry_ns, strike), default)
                for strike in ordered
            )
            bound = state.venue.underlyings[unit].price_e8_max
            forward = min(readings[unit].price_e8, bound)
            marks.append(ExpiryMark(unit, expiry_ns, forward, 0, ordered, volatilities))
        return tuple(marks)

    def _forget(self, state: State, remembered: MarkerState) -> None:
        """Drop what belongs to contracts that are settled."""
        settled = {s for s, life in enumerate(state.contracts.life) if life == Life.SETTLED}
        for slot in [slot for slot in remembered.basis_ppb if slot in settled]:
            del remembered.basis_ppb[slot]
        gone = [key for key in remembered.volatility_e9 if key[1] < state.marks.time_ns]
        for key in gone:
            del remembered.volatility_e9[key]
