"""The contracts listed at the venue: their terms in columns, and where each stands in its life."""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum

import msgspec
import numpy as np

from exchange.core import limits
from exchange.core.venue import (
    CALL_KINDS,
    COIN_KINDS,
    INVERSE_OPTION_KINDS,
    OPTION_KINDS,
    USDC,
    InstrumentSpec,
    Venue,
    position_lots_max,
    price_ticks_max,
    tick_value_minor,
)
from margin.invariant import BoolArray, Int64Array, check
from margin.portfolio import INVERSE, NEVER_NS, Instruments, margin_order


class Life(IntEnum):
    """Where a contract stands."""

    LISTED = 0
    CLOSED = 1  # past expiry: no orders, waiting for its settlement price
    SETTLED = 2


def value_per_lot_e6(spec: InstrumentSpec, price_e8: int) -> int:
    """Value of one long lot at `price_e8`, in 10^-6 minor units of the settlement currency.

    Linear and option: coin per lot x price; the price of an inverse option is coin, and so is its
    value. Inverse future: minus USD per lot / price, because a long gives up coin worth that many
    dollars. Rounded down.
    """
    if spec.kind == INVERSE:
        return -spec.lot_e8 * 10**14 // price_e8
    if spec.kind in INVERSE_OPTION_KINDS:
        return spec.lot_e8 * price_e8 // 10**2
    return spec.lot_e8 * price_e8 // 10**4


def settlement_value_e6(spec: InstrumentSpec, settlement_e8: int) -> int:
    """Value of one long lot at expiry, in 10^-6 minor units of the settlement currency.

    A future is worth its value at the settlement index, an option its payoff: coin per lot x
    max(0, index - strike) for a call, max(0, strike - index) for a put; of an inverse option that
    divided by the index, in coin (source: Deribit's inverse options), at most
    `limits.PREMIUM_E8_MAX`. Rounded down.
    """
    if spec.kind not in OPTION_KINDS:
        return value_per_lot_e6(spec, settlement_e8)
    payoff_e8 = settlement_e8 - spec.strike_e8
    payoff_e8 = max(0, payoff_e8 if spec.kind in CALL_KINDS else -payoff_e8)
    if spec.kind not in INVERSE_OPTION_KINDS:
        return value_per_lot_e6(spec, payoff_e8)
    in_coin = spec.lot_e8 * payoff_e8 * 10**6 // settlement_e8
    return min(in_coin, value_per_lot_e6(spec, limits.PREMIUM_E8_MAX))


def premium_in_dollars_e8(spec: InstrumentSpec, price_e8: int, forward_e8: int) -> int:
    """An option's premium in USD per coin: that of an inverse option is coin, times the forward."""
    if spec.kind not in INVERSE_OPTION_KINDS:
        return price_e8
    return price_e8 * forward_e8 // 10**8


class Contracts:
    """All contracts by slot. Slots are given in listing order and never reused."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.specs: list[InstrumentSpec] = []
        self.slot_of: dict[str, int] = {}
        self.life: list[Life] = []
        self.halted: list[bool] = []
        self.price_max: list[int] = []
        self.lots_max: list[int] = []
        self.currency: list[int] = []
        self._by_life: tuple[list[int], list[int]] | None = None
        self._next_expiry: list[int] | None = None
        self._index_columns()

    def __len__(self) -> int:
        return len(self.specs)

    def list_spec(self, spec: InstrumentSpec) -> int:
        """Add a validated contract and return its slot. Call `reindex` after the last one."""
        check(spec.name not in self.slot_of, "names of contracts are unique")
        check(len(self.specs) < limits.INSTRUMENTS_MAX, "room for another contract")
        slot = len(self.specs)
        self.specs.append(spec)
        self.slot_of[spec.name] = slot
        self.life.append(Life.LISTED)
        self._by_life = self._next_expiry = None
        self.halted.append(False)
        self.price_max.append(price_ticks_max(self.venue, spec))
        self.lots_max.append(position_lots_max(self.venue, spec))
        self.currency.append(self.venue.settlement_currency(spec))
        return slot

    def _index_columns(self) -> None:
        def column(values: list[int]) -> Int64Array:
            return np.array(values, np.int64)

        specs = self.specs
        strikes: dict[tuple[int, int, int], int] = {}
        groups = [
            strikes.setdefault((s.underlying, s.expiry_ns, s.strike_e8), len(strikes))
            if s.kind in OPTION_KINDS
            else -1
            for s in specs
        ]
        self.columns = Instruments(
            kind=column([s.kind for s in specs]),
            unit=column([s.underlying for s in specs]),
            expiry_ns=column([s.expiry_ns for s in specs]),
            strike_e8=column([s.strike_e8 for s in specs]),
            lot_e8=column([s.lot_e8 for s in specs]),
            strike_group=column(groups),
        )
        self.by_rank: Int64Array = margin_order(self.columns)
        self.rank: Int64Array = np.empty(len(specs), np.int64)
        self.rank[self.by_rank] = np.arange(len(specs))
        self.tick_e8 = column([s.tick_e8 for s in specs])
        self.tick_value = column([tick_value_minor(s) for s in specs])
        self.currency_column = column(self.currency)
        self.is_option = column([int(s.kind in OPTION_KINDS) for s in specs])
        self.has_options = bool(self.is_option.any())
        self.is_coin_settled: BoolArray = np.array([s.kind in COIN_KINDS for s in specs], np.bool_)
        self.price_max_column = column(self.price_max)
        self.lots_max_column = column(self.lots_max)
        # A flow is -lots x step; a step is 10^-12 of the currency, its minor unit coarser.
        steps = np.where(self.currency_column == USDC, 10**6, 10**4).astype(np.int64)
        self.payment_terms = np.stack((self.is_option, self.currency_column, steps), axis=1)
        self._specs_bytes = msgspec.msgpack.encode(specs)

    def reindex(self) -> None:
        """Rebuild the columns after listing."""
        self._index_columns()

    def is_option_slot(self, slot: int) -> bool:
        """Whether the contract in this slot is an option."""
        return self.specs[slot].kind in OPTION_KINDS

    def is_inverse_option(self, slot: int) -> bool:
        """Whether the contract in this slot is an option that settles in coin."""
        return self.specs[slot].kind in INVERSE_OPTION_KINDS

    def set_life(self, slot: int, life: Life) -> None:
        """Move a contract along its life."""
        self.life[slot] = life
        self._by_life = self._next_expiry = None

    def _slots_by_life(self) -> tuple[list[int], list[int]]:
        if self._by_life is None:
            alive = [slot for slot, life in enumerate(self.life) if life != Life.SETTLED]
            self._by_life = alive, [slot for slot in alive if self.life[slot] == Life.CLOSED]
        return self._by_life

    def lot_values_e6(self, mark_e8: Int64Array) -> Int64Array:
        """`value_per_lot_e6` of every listed contract at these marks, [I]; 0 without a mark."""
        marks, values = mark_e8.tolist(), np.zeros(len(self), np.int64)
        for slot in self.listed():
            if marks[slot] > 0:
                values[slot] = value_per_lot_e6(self.specs[slot], marks[slot])
        return values

    def listed(self) -> list[int]:
        """Slots that trade or wait for settlement, in slot order."""
        return self._slots_by_life()[0]

    def closed(self) -> list[int]:
        """Slots past their expiry that wait for a settlement price."""
        return self._slots_by_life()[1]

    def expiring(self, time_ns: int) -> list[int]:
        """Listed slots whose expiry is at or before `time_ns`."""
        return [
            slot
            for slot in self.listed()
            if self.specs[slot].expiry_ns <= time_ns and self.life[slot] == Life.LISTED
        ]

    def next_expiry_ns(self, unit: int) -> int:
        """The earliest expiry not yet settled on an underlying; NEVER_NS if there is none."""
        if self._next_expiry is None:
            self._next_expiry = [NEVER_NS] * len(self.venue.underlyings)
            for slot in self.listed():
                at, expiry = self.specs[slot].underlying, self.specs[slot].expiry_ns
                self._next_expiry[at] = min(self._next_expiry[at], expiry)
        return self._next_expiry[unit]

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Canonical bytes: terms, then life and halts."""
        yield "contracts.specs", self._specs_bytes
        yield "contracts.life", bytes(self.life)
        yield "contracts.halted", bytes(self.halted)

    def load(self, parts: dict[str, bytes]) -> None:
        """Restore what `parts` gave."""
        for spec in msgspec.msgpack.decode(parts["contracts.specs"], type=list[InstrumentSpec]):
            self.list_spec(spec)
        self.reindex()
        self.life = [Life(x) for x in parts["contracts.life"]]
        self._by_life = self._next_expiry = None
        self.halted = [bool(x) for x in parts["contracts.halted"]]
