"""Makes the marks of a cycle from index, prints and resting interest; proposes them as a `Revalue`.

Futures: index plus a bounded average of how far auctions printed from the index. Options: a
volatility surface per underlying, fitted when something traded or rests that was not there before,
and approached by bounded steps; forwards by put-call parity around the future of the same expiry.
The marker keeps nothing of its own: its state travels inside `Revalue` and is read back from the
last one, so a recovered venue marks on as if nothing had happened. A fit's inputs and residuals
travel along, so that it can be made again.
"""

from __future__ import annotations

import msgspec
import numpy as np

from exchange.core.auction.clearing import CLAMPED, PRINTED
from exchange.core.commands import ExpiryMark, Revalue, UnderlyingMark
from exchange.core.events import Event, Printed
from exchange.core.stored.contracts import Life
from exchange.core.stored.state import State
from exchange.feed import PathFeed, Reading
from exchange.surface.forward import Pair, parity_forward
from exchange.surface.interest import Interest, resting_interest
from exchange.surface.marking import (
    Auctioned,
    Moment,
    OptionMemory,
    Strikes,
    approached,
    banded,
    clamped,
    next_memory,
)
from margin.fixed_point import RATE_SCALE
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, LINEAR_PUT, NEVER_NS

BASIS_WEIGHT_PPB = 125_000_000  # one print in eight cycles' memory
BASIS_BOUND_PPB = 10_000_000  # a mark stays within 1 % of the index
FITS_A_CYCLE = 1  # the underlying whose fit is oldest first, so that a cycle's time is bounded
EXCESS_DECAY = 64  # a forward's distance from its future fades by this part a cycle without quotes

Expiry = tuple[int, int]  # underlying, expiry_ns


class MarkerState(msgspec.Struct, array_like=True):
    """What the marker remembers.

    `basis_ppb`: per future, of the index. `excess_ppb`: per option expiry, how far parity has its
    forward above the future of that expiry, of the index. `options`: per underlying.
    """

    basis_ppb: dict[int, int] = {}
    excess_ppb: dict[Expiry, int] = {}
    options: dict[int, OptionMemory] = {}


class _Stored(msgspec.Struct, array_like=True):
    basis: list[tuple[int, int]]
    excess: list[tuple[Expiry, int]]
    options: list[tuple[int, OptionMemory]]


def encode_state(state: MarkerState) -> bytes:
    """Canonical bytes of the marker's state."""
    stored = _Stored(
        sorted(state.basis_ppb.items()),
        sorted(state.excess_ppb.items()),
        sorted(state.options.items(), key=lambda item: item[0]),
    )
    return msgspec.msgpack.encode(stored)


def decode_state(data: bytes) -> MarkerState:
    """The state that `encode_state` stored; empty bytes are a fresh marker."""
    if not data:
        return MarkerState()
    stored = msgspec.msgpack.decode(data, type=_Stored)
    return MarkerState(dict(stored.basis), dict(stored.excess), dict(stored.options))


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
        auctioned = _auctioned(prints)
        self._learn_basis(state, remembered, readings, auctioned)
        futures = self._futures(state, remembered, readings)
        expiries = self._expiries(state, remembered, readings, auctioned, time_ns)
        self._forget(state, remembered)
        return Revalue(
            time_ns, state.batch, underlyings, futures, expiries, encode_state(remembered)
        )

    def _learn_basis(
        self,
        state: State,
        remembered: MarkerState,
        readings: list[Reading],
        auctioned: list[Auctioned],
    ) -> None:
        for item in auctioned:
            if state.contracts.is_option_slot(item.slot):
                continue
            spec = state.contracts.specs[item.slot]
            index_e8 = readings[spec.underlying].price_e8
            price_e8 = item.price_ticks * spec.tick_e8
            observed = bounded((price_e8 - index_e8) * RATE_SCALE // index_e8, BASIS_BOUND_PPB)
            known = remembered.basis_ppb.get(item.slot, 0)
            remembered.basis_ppb[item.slot] = (
                known + (observed - known) * BASIS_WEIGHT_PPB // RATE_SCALE
            )

    def _futures(
        self, state: State, remembered: MarkerState, readings: list[Reading]
    ) -> tuple[tuple[int, int], ...]:
        marks = []
        for slot in state.contracts.listed():
            spec = state.contracts.specs[slot]
            if state.contracts.is_option_slot(slot):
                continue
            index_e8 = readings[spec.underlying].price_e8
            mark = index_e8 + index_e8 * remembered.basis_ppb.get(slot, 0) // RATE_SCALE
            bound = state.venue.underlyings[spec.underlying].price_e8_max
            marks.append((slot, max(1, min(mark, bound))))
        return tuple(marks)

    def _expiries(
        self,
        state: State,
        remembered: MarkerState,
        readings: list[Reading],
        auctioned: list[Auctioned],
        time_ns: int,
    ) -> tuple[ExpiryMark, ...]:
        listed = _options_by_expiry(state)
        if not listed:
            return ()
        interest = resting_interest(state)
        self._learn_excess(state, remembered, listed, interest)
        forwards = self._forwards(state, remembered, readings, listed)
        marks, fits = [], 0
        last_fit = {unit: memory.fitted_batch for unit, memory in remembered.options.items()}
        for unit in sorted({unit for unit, _ in listed}, key=lambda u: (last_fit.get(u, 0), u)):
            mine = {expiry: slots for (of, expiry), slots in sorted(listed.items()) if of == unit}
            own = {slot for slots in mine.values() for slot in slots}
            forward = {expiry: forwards[unit, expiry] for expiry in mine}
            marks += _mark_options(
                state, remembered, unit, mine, forward, time_ns,
                [item for item in auctioned if item.slot in own],
                [item for item in interest if item.slot in own], fits < FITS_A_CYCLE,
            )  # fmt: skip
            if unit in remembered.options:
                fits += remembered.options[unit].record is not None
        return tuple(sorted(marks, key=lambda mark: (mark.underlying, mark.expiry_ns)))

    def _learn_excess(
        self,
        state: State,
        remembered: MarkerState,
        listed: dict[Expiry, list[int]],
        interest: list[Interest],
    ) -> None:
        """Move each expiry's forward toward what the quotes of this batch leave open."""
        quotes = {item.slot: item for item in interest if item.born_batch == state.batch}
        for key, slots in listed.items():
            known = remembered.excess_ppb.get(key, 0)
            forward_e8 = int(state.marks.forward_e8[slots[0]])
            pairs = _pairs(state, [quotes[slot] for slot in slots if slot in quotes])
            if pairs:
                implied = parity_forward(pairs, given=float(forward_e8)) or forward_e8
                surprise = (round(implied) - forward_e8) * RATE_SCALE // forward_e8
                known = bounded(known + surprise * BASIS_WEIGHT_PPB // RATE_SCALE, BASIS_BOUND_PPB)
            else:
                known -= known // EXCESS_DECAY if known > 0 else -(-known // EXCESS_DECAY)
            remembered.excess_ppb[key] = known
            if abs(known) < EXCESS_DECAY:
                del remembered.excess_ppb[key]

    def _forwards(
        self,
        state: State,
        remembered: MarkerState,
        readings: list[Reading],
        listed: dict[Expiry, list[int]],
    ) -> dict[Expiry, int]:
        """Index plus the basis of the expiry's future (0 without one) plus the excess."""
        basis = {}
        for kind in (INVERSE, LINEAR):  # the linear future counts where there are both
            for slot in state.contracts.listed():
                spec = state.contracts.specs[slot]
                if spec.kind == kind and spec.expiry_ns != NEVER_NS:
                    basis[spec.underlying, spec.expiry_ns] = remembered.basis_ppb.get(slot, 0)
        forwards = {}
        for key in listed:
            index_e8 = readings[key[0]].price_e8
            distance = basis.get(key, 0) + remembered.excess_ppb.get(key, 0)
            forward = index_e8 + index_e8 * bounded(distance, BASIS_BOUND_PPB) // RATE_SCALE
            bound = state.venue.underlyings[key[0]].price_e8_max
            forwards[key] = max(1, min(forward, bound))
        return forwards

    def _forget(self, state: State, remembered: MarkerState) -> None:
        """Drop what belongs to contracts that are settled."""
        settled = {s for s, life in enumerate(state.contracts.life) if life == Life.SETTLED}
        for slot in [slot for slot in remembered.basis_ppb if slot in settled]:
            del remembered.basis_ppb[slot]
        for key in [key for key in remembered.excess_ppb if key[1] < state.marks.time_ns]:
            del remembered.excess_ppb[key]


def _auctioned(prints: list[Event]) -> list[Auctioned]:
    """The auctions with a trade, in slot order."""
    found = []
    for event in prints:
        if isinstance(event, Printed):
            traded = np.isin(event.states, (PRINTED, CLAMPED))
            columns = event.instruments, event.price_ticks, event.volume_lots
            rows = (column[traded].tolist() for column in columns)
            found += [Auctioned(*row) for row in zip(*rows, strict=True)]
    return found


def _options_by_expiry(state: State) -> dict[Expiry, list[int]]:
    """Slots of the options that trade or wait for settlement, by underlying and expiry."""
    listed: dict[Expiry, list[int]] = {}
    for slot in state.contracts.listed():
        spec = state.contracts.specs[slot]
        if state.contracts.is_option_slot(slot):
            listed.setdefault((spec.underlying, spec.expiry_ns), []).append(slot)
    return listed


def _pairs(state: State, quotes: list[Interest]) -> list[Pair]:
    """Linear calls and puts of a strike, both quoted on both sides, in prices of 1e-8."""
    calls: dict[int, tuple[int, int]] = {}
    puts: dict[int, tuple[int, int]] = {}
    for item in quotes:
        spec = state.contracts.specs[item.slot]
        if item.bid_ticks and item.ask_ticks and spec.kind in (LINEAR_CALL, LINEAR_PUT):
            side = calls if spec.kind == LINEAR_CALL else puts
            side[spec.strike_e8] = item.bid_ticks * spec.tick_e8, item.ask_ticks * spec.tick_e8
    return [Pair(strike, *calls[strike], *puts[strike]) for strike in sorted(calls.keys() & puts)]


def _mark_options(
    state: State, remembered: MarkerState, unit: int, listed: dict[int, list[int]],
    forward_e8: dict[int, int], time_ns: int, auctioned: list[Auctioned],
    interest: list[Interest], may_fit: bool,
) -> list[ExpiryMark]:  # fmt: skip
    """Marks of one underlying's options; its memory is brought up to this cycle."""
    specs = state.contracts.specs
    strikes = {
        expiry: tuple(sorted({specs[slot].strike_e8 for slot in slots}))
        for expiry, slots in listed.items()
    }
    alive = tuple(expiry for expiry in listed if expiry > time_ns)
    volatilities = {
        (specs[slot].expiry_ns, specs[slot].strike_e8): int(state.marks.volatility_e9[slot])
        for expiry, slots in listed.items()
        if expiry <= time_ns
        for slot in slots
    }
    if alive:
        volatilities |= _from_surface(
            state, remembered, unit, {expiry: strikes[expiry] for expiry in alive}, forward_e8,
            time_ns, auctioned, interest, may_fit,
        )  # fmt: skip
    return [
        ExpiryMark(
            unit,
            expiry,
            forward_e8[expiry],
            0,
            strikes[expiry],
            tuple(volatilities[expiry, strike] for strike in strikes[expiry]),
        )
        for expiry in listed
    ]


def _from_surface(
    state: State, remembered: MarkerState, unit: int, strikes: dict[int, tuple[int, ...]],
    forward_e8: dict[int, int], time_ns: int, auctioned: list[Auctioned],
    interest: list[Interest], may_fit: bool,
) -> dict[tuple[int, int], int]:  # fmt: skip
    """Volatility by expiry and strike: a step toward the fit, then into the band of each print."""
    memory = next_memory(
        state, unit, remembered.options.get(unit), tuple(strikes), auctioned, interest,
        Moment(time_ns, forward_e8), may_fit,
    )  # fmt: skip
    columns = Strikes(strikes, forward_e8)
    shown = approached(memory.shown, memory.target, columns, time_ns)
    remembered.options[unit] = msgspec.structs.replace(memory, shown=shown)
    keys = [(expiry, strike) for expiry, row in strikes.items() for strike in row]
    values = np.rint(columns.volatilities(shown, time_ns) * RATE_SCALE).astype(np.int64).tolist()
    marked = {key: clamped(value, value) for key, value in zip(keys, values, strict=True)}
    learned = {item.slot for item in memory.traded if item.time_ns == time_ns}
    if learned:
        before = columns.volatilities(memory.shown, time_ns) * RATE_SCALE
        around = dict(zip(keys, np.rint(before).astype(np.int64).tolist(), strict=True))
        for item in auctioned:
            spec = state.contracts.specs[item.slot]
            key = (spec.expiry_ns, spec.strike_e8)
            if item.slot in learned:
                forward = forward_e8[spec.expiry_ns]
                wanted = banded(state, item, marked[key], forward, time_ns)
                marked[key] = clamped(wanted, around[key])
    return marked
