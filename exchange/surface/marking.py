"""Marks of one underlying's options: what traded and what rests, the fit, the step toward it."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence

import msgspec
import numpy as np

from exchange.core.limits import VOLATILITY_E9_MAX
from exchange.core.stored.collar import half_width_ticks
from exchange.core.stored.contracts import premium_in_dollars_e8
from exchange.core.stored.state import State
from exchange.core.venue import CALL_KINDS, InstrumentSpec
from exchange.surface.fit import fit_surface, is_free_of_arbitrage, residuals
from exchange.surface.interest import Interest
from exchange.surface.quotes import LIVE_AGE_MS, NO_ASK_E9, NO_BID_E9, Quotes, quotes_of
from exchange.surface.ssvi import Floats, total_variance
from exchange.surface.surface import (
    ROUNDED_E9,
    Origin,
    Slice,
    Surface,
    carried,
    flat_surface,
    parameters,
)
from margin.black76 import implied_volatility
from margin.fixed_point import NS_PER_YEAR, RATE_SCALE
from margin.invariant import Int64Array

STEP_E9 = 20_000_000  # a volatility moves by at most two points a cycle at a given moneyness
SHARE = 0.25  # of the way to the fitted surface that a cycle goes
ARRIVED = 2e-5  # closer than this the fitted surface itself is shown
EXPLAINED = 0.005  # new quotes that the last fit misses by less do not ask for another
EVALUATIONS = 4  # of a cycle
UNFINISHED = 2e-4  # a fit that moved a level by more is continued in the next cycle
HALVINGS = 6
VOLATILITY_E9_MIN = 50_000_000
MS_NS = 10**6


class Traded(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An option's last print: the volatilities half a tick below and above its price, and when."""

    slot: int
    log_moneyness_e9: int
    bid_e9: int
    ask_e9: int
    size_e6: int
    time_ns: int


class FitRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A fit as it was made: enough to make it again, and what it left over.

    `table`: the columns of `Quotes.table` one after the other, six numbers a quote.
    """

    before: Surface
    time_ns: int
    expiries_ns: tuple[int, ...]
    table: list[int]
    residuals_e9: list[int]

    def quotes(self) -> Quotes:
        """The quotes that were fitted."""
        columns = np.array(self.table, np.int64).reshape(len(self.residuals_e9), -1)
        return Quotes(self.time_ns, self.expiries_ns, np.ascontiguousarray(columns.T))

    def refitted(self) -> Surface:
        """The surface that these quotes give: the target that was journaled beside this record."""
        return fit_surface(self.quotes(), self.before, EVALUATIONS)


class OptionMemory(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is remembered of one underlying's options between two cycles.

    `target`: the last fit. `shown`: where the marks stand on their way to it. `is_due`: whether
    something new has waited for a fit since. `record`: the fit of this cycle, if there was one.
    """

    target: Surface
    shown: Surface
    traded: tuple[Traded, ...] = ()
    interest: tuple[Interest, ...] = ()
    is_due: bool = False
    fitted_batch: int = 0
    record: FitRecord | None = None


class Auctioned(msgspec.Struct, frozen=True, gc=False):
    """An option's auction with a trade, of this cycle."""

    slot: int
    price_ticks: int
    lots: int


def volatility_at(state: State, slot: int, price_e8: int, forward_e8: int, years: float) -> int:
    """Volatility that a price implies; `NO_BID_E9` at or below the intrinsic value, `NO_ASK_E9`
    from the upper bound on."""
    spec = state.contracts.specs[slot]
    is_call = spec.kind in CALL_KINDS
    price_e8 = premium_in_dollars_e8(spec, price_e8, forward_e8)
    implied = implied_volatility(
        price_e8 / 1e8, forward_e8 / 1e8, spec.strike_e8 / 1e8, years, 1.0, is_call
    )
    if math.isfinite(implied):
        return min(int(implied * RATE_SCALE), NO_ASK_E9)
    return NO_ASK_E9 if price_e8 >= (forward_e8 if is_call else spec.strike_e8) else NO_BID_E9


class Moment(msgspec.Struct, frozen=True):
    """The moment of a cycle's marks and the new forward of each expiry.

    Whoever traded or quoted in the batch saw the forward of the last marks, and may have foreseen
    the new one, so a price stands for the volatilities that either implies.
    """

    time_ns: int
    forward_e8: dict[int, int]

    def log_moneyness_e9(self, spec: InstrumentSpec) -> int:
        """ln(strike / new forward) of an option."""
        return round(math.log(spec.strike_e8 / self.forward_e8[spec.expiry_ns]) * RATE_SCALE)

    def implied(self, state: State, slot: int, price_e8: int) -> tuple[int, int]:
        """The lower and the higher of the volatilities at the last and at the new forward."""
        spec = state.contracts.specs[slot]
        years = (spec.expiry_ns - self.time_ns) / NS_PER_YEAR
        new_e8, last_e8 = self.forward_e8[spec.expiry_ns], int(state.marks.forward_e8[slot])
        one = volatility_at(state, slot, price_e8, new_e8, years)
        other = one if last_e8 == new_e8 else volatility_at(state, slot, price_e8, last_e8, years)
        return min(one, other), max(one, other)


def _as_traded(
    state: State, auctioned: Sequence[Auctioned], expiries_ns: Container[int], moment: Moment
) -> dict[int, Traded]:
    """Prints of these expiries by slot, as spans of volatilities: a price is known to half a tick.

    A print that no volatility gives teaches nothing and is left out.
    """
    found = {}
    for item in auctioned:
        slot, spec = item.slot, state.contracts.specs[item.slot]
        if spec.expiry_ns not in expiries_ns:
            continue
        price_e8, half = item.price_ticks * spec.tick_e8, spec.tick_e8 // 2
        bid = moment.implied(state, slot, price_e8 - half)[0]
        ask = moment.implied(state, slot, price_e8 + half)[1]
        if bid != NO_ASK_E9 and ask != NO_BID_E9:
            k, size_e6 = moment.log_moneyness_e9(spec), max(1, item.lots * spec.lot_e8 // 100)
            found[slot] = Traded(slot, k, bid, ask, size_e6, moment.time_ns)
    return found


def _as_row(state: State, resting: Interest, moment: Moment, expiry: int) -> tuple[int, ...]:
    """Resting interest as a row of a table of quotes."""
    slot, spec = resting.slot, state.contracts.specs[resting.slot]
    bid, ask = NO_BID_E9, NO_ASK_E9
    if resting.bid_ticks:
        bid = moment.implied(state, slot, resting.bid_ticks * spec.tick_e8)[0]
    if resting.ask_ticks:
        ask = moment.implied(state, slot, resting.ask_ticks * spec.tick_e8)[1]
    age_ms = (state.batch - resting.born_batch) * state.venue.interval_ns // MS_NS
    size_e6 = max(1, resting.lots * spec.lot_e8 // 100)
    return expiry, moment.log_moneyness_e9(spec), bid, ask, size_e6, age_ms


def next_memory(
    state: State, unit: int, memory: OptionMemory | None, expiries_ns: tuple[int, ...],
    auctioned: Sequence[Auctioned], interest: Sequence[Interest], moment: Moment,
    may_fit: bool = True,
) -> OptionMemory:  # fmt: skip
    """The memory after this cycle's prints and resting interest, with a fit if one is due.

    One is due when a print or resting interest is new and the last fit misses it; without
    `may_fit` it stays due. `expiries_ns`: the unit's expiries after the moment's time, not empty.
    Marks are not moved here.
    """
    specs, time_ns = state.contracts.specs, moment.time_ns
    if memory is None:
        flat = flat_surface(expiries_ns, state.venue.underlyings[unit].opening_volatility_e9)
        memory = OptionMemory(flat, flat)
    target = carried(memory.target, expiries_ns, time_ns)
    # In the window of the settlement price an option is worth an average, which is no Black-76.
    window_ns = state.venue.index.settlement_window_ns
    number = {expiry: at for at, expiry in enumerate(expiries_ns) if expiry - window_ns > time_ns}
    known = {
        item.slot: item
        for item in memory.traded
        if specs[item.slot].expiry_ns in number and time_ns - item.time_ns <= LIVE_AGE_MS * MS_NS
    }
    fresh = _as_traded(state, auctioned, number, moment)
    traded = tuple(item for _, item in sorted((known | fresh).items()))
    resting = tuple(item for item in interest if specs[item.slot].expiry_ns in number)
    memory = OptionMemory(
        target, carried(memory.shown, expiries_ns, time_ns), traded, resting,
        memory.is_due or bool(fresh) or resting != memory.interest, memory.fitted_batch,
    )  # fmt: skip
    if not (memory.is_due and may_fit):
        return memory
    return _with_fit(state, memory, number, moment, expiries_ns)


def _with_fit(
    state: State, memory: OptionMemory, number: dict[int, int], moment: Moment,
    expiries_ns: tuple[int, ...],
) -> OptionMemory:  # fmt: skip
    """The memory with a new target, unless the last one explains every quote."""
    specs, time_ns = state.contracts.specs, moment.time_ns
    rows = [
        (number[specs[t.slot].expiry_ns], t.log_moneyness_e9, t.bid_e9, t.ask_e9, t.size_e6,
         (time_ns - t.time_ns) // MS_NS)
        for t in memory.traded
    ]  # fmt: skip
    rows += [
        _as_row(state, item, moment, number[specs[item.slot].expiry_ns]) for item in memory.interest
    ]
    quotes = quotes_of(time_ns, expiries_ns, rows)
    before, target = memory.target, memory.target
    done = msgspec.structs.replace(memory, is_due=False)
    if not quotes.table.shape[1]:
        return done
    if np.abs(residuals(before, quotes)).max() <= EXPLAINED:
        return done
    target = fit_surface(quotes, before, EVALUATIONS)
    missed = np.rint(residuals(target, quotes) * RATE_SCALE).astype(np.int64).tolist()
    record = FitRecord(before, time_ns, expiries_ns, quotes.table.T.ravel().tolist(), missed)
    moved = any(
        abs(a.volatility_e9 - b.volatility_e9) > UNFINISHED * RATE_SCALE
        for a, b in zip(before.slices, target.slices, strict=True)
    )
    return msgspec.structs.replace(
        memory, target=target, is_due=moved, fitted_batch=state.batch, record=record
    )


class Strikes:
    """The listed strikes of one underlying in columns, at the forwards of the new marks."""

    def __init__(self, strikes_e8: dict[int, tuple[int, ...]], forward_e8: dict[int, int]) -> None:
        """`strikes_e8`, `forward_e8`: by expiry, in the order of the surface."""
        self.by_expiry = strikes_e8
        lengths = [len(strikes) for strikes in strikes_e8.values()]
        self.expiry: Int64Array = np.repeat(np.arange(len(lengths)), lengths)
        self.k: Floats = np.concatenate(
            [np.log(np.array(s, float) / forward_e8[e]) for e, s in strikes_e8.items()]
        )

    def volatilities(self, surface: Surface, time_ns: int) -> Floats:
        """The surface's volatility at each strike."""
        at = parameters(surface, time_ns)
        number = self.expiry
        variance = total_variance(self.k, at.theta[number], at.rho[number], at.phi[number])
        return np.sqrt(variance / at.years[number])


def _between(shown: Surface, target: Surface, share: float) -> Surface:
    """Parameters a share of the way from one surface to the other, rounded."""

    def mixed(here: int, there: int) -> int:
        return here + round((there - here) * share / ROUNDED_E9) * ROUNDED_E9

    slices = tuple(
        Slice(a.expiry_ns, mixed(a.volatility_e9, b.volatility_e9), mixed(a.rho_e9, b.rho_e9))
        for a, b in zip(shown.slices, target.slices, strict=True)
    )
    return Surface(
        slices, mixed(shown.eta_e9, target.eta_e9), mixed(shown.gamma_e9, target.gamma_e9),
        target.origin, target.error_e9,
    )  # fmt: skip


def approached(shown: Surface, target: Surface, strikes: Strikes, time_ns: int) -> Surface:
    """A quarter of the way to the target, less where a strike would move by more than the step.

    The surface shown is free of arbitrage as the target is; where a point between them is not, the
    marks stay (`HELD`) until the next fit.
    """
    if shown == target:
        return shown
    here = strikes.volatilities(shown, time_ns)
    distance = float(np.abs(strikes.volatilities(target, time_ns) - here).max())
    if distance <= ARRIVED:
        return target
    share = min(SHARE, STEP_E9 / RATE_SCALE / distance)
    for _ in range(HALVINGS):
        between = _between(shown, target, share)
        moved = float(np.abs(strikes.volatilities(between, time_ns) - here).max())
        if moved <= STEP_E9 / RATE_SCALE + ARRIVED:
            if is_free_of_arbitrage(between, time_ns):
                return between
            break
        share *= max(0.5, STEP_E9 / RATE_SCALE / moved)
    return msgspec.structs.replace(shown, origin=Origin.HELD)


def banded(
    state: State, auctioned: Auctioned, volatility_e9: int, forward_e8: int, time_ns: int
) -> int:
    """A strike's volatility, moved until the option's mark is within the collar of its print."""
    if state.venue.collar.band_ppb == 0:
        return volatility_e9
    slot, spec = auctioned.slot, state.contracts.specs[auctioned.slot]
    years = (spec.expiry_ns - time_ns) / NS_PER_YEAR
    width = half_width_ticks(state.venue.collar, auctioned.price_ticks, 0)
    edges = [
        volatility_at(state, slot, (auctioned.price_ticks + w) * spec.tick_e8, forward_e8, years)
        for w in (-width, width)
    ]
    return min(max(volatility_e9, edges[0]), edges[1])


def clamped(volatility_e9: int, around_e9: int) -> int:
    """A volatility within the step around another, and within what a mark may be."""
    near = min(max(volatility_e9, around_e9 - STEP_E9), around_e9 + STEP_E9)
    return max(VOLATILITY_E9_MIN, min(near, VOLATILITY_E9_MAX))
