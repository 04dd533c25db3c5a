"""The columns a revaluation reads: what is listed, what it is worth now, who holds it.

A row of `Instruments` and `Marks` is an instrument slot; slots never move, so a slot number is a
valid key for as long as the instrument is listed. Positions are stored pool by pool, each pool's
rows in *margin order* (risk unit, expiry, strike, slot), so that a kernel meets the rows of one
risk unit, one expiry and one strike next to each other.
"""

from __future__ import annotations

from typing import Final

import msgspec
import numpy as np

from margin.invariant import BoolArray, Int64Array, check

LINEAR: Final = 0
INVERSE: Final = 1
LINEAR_CALL: Final = 2
LINEAR_PUT: Final = 3
INVERSE_CALL: Final = 4
"""Settled in coin: max(0, S - K) / S a coin. Premium and mark are in coin too."""
INVERSE_PUT: Final = 5
"""Settled in coin: max(0, K - S) / S a coin."""

NEVER_NS: Final = 2**62
"""Expiry of a perpetual."""

CERTAIN_PPB: Final = 10**9
"""Confidence of a price that nothing speaks against."""

NO_DELTA_E9: Final = 2**62
"""No quoted delta."""

STABLE_E9: Final = 10**9
"""A stable coin on its peg."""

NO_STRIKE_GROUP: Final = -1
"""Strike group of anything that is not an option."""


def _check_column(name: str, column: Int64Array, shape: tuple[int, ...]) -> None:
    check(column.dtype == np.int64, f"{name}: dtype {column.dtype}, expected int64")
    check(column.shape == shape, f"{name}: shape {column.shape}, expected {shape}")
    check(bool(column.flags.c_contiguous), f"{name}: not contiguous")


class Instruments(msgspec.Struct, frozen=True, gc=False):
    """What is listed, one row per slot; all columns have shape [I].

    `kind` is one of the constants above; `unit` the index of the risk unit (one underlying);
    `lot_e8` is base coin per lot x 10^8, for inverse contracts USD value per lot x 10^8.
    `strike_group` numbers the distinct (unit, expiry, strike) of options, any integers >= 0.
    """

    kind: Int64Array
    unit: Int64Array
    expiry_ns: Int64Array
    strike_e8: Int64Array
    lot_e8: Int64Array
    strike_group: Int64Array

    def __len__(self) -> int:
        return int(self.kind.shape[0])

    def is_option(self) -> BoolArray:
        """True for options, shape [I]."""
        return self.kind >= LINEAR_CALL

    def kernel_columns(self) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array]:
        """Kind, unit, expiry, strike and lot: what a kernel that reprices a lot reads."""
        return self.kind, self.unit, self.expiry_ns, self.strike_e8, self.lot_e8

    def validate(self, unit_count: int) -> None:
        """Raise `InvariantBroken` unless the columns describe listable instruments.

        Options of one strike group must also share the lot, because lots of one group are added
        when naked shorts are counted.
        """
        shape = (len(self),)
        for name in ("kind", "unit", "expiry_ns", "strike_e8", "lot_e8", "strike_group"):
            _check_column(f"instruments.{name}", getattr(self, name), shape)
        known = (self.kind >= LINEAR) & (self.kind <= INVERSE_PUT)
        check(known.all(), "instruments.kind: unknown")
        check(((self.unit >= 0) & (self.unit < unit_count)).all(), "instruments.unit: out of range")
        check((self.lot_e8 > 0).all(), "instruments.lot_e8: not positive")
        check(
            ((self.expiry_ns >= 0) & (self.expiry_ns <= NEVER_NS)).all(),
            "instruments.expiry_ns: out of range",
        )
        option = self.is_option()
        check((self.strike_e8[option] > 0).all(), "instruments.strike_e8: option without a strike")
        check((self.strike_e8[~option] == 0).all(), "instruments.strike_e8: strike without option")
        check(
            (self.strike_group[~option] == NO_STRIKE_GROUP).all(),
            "instruments.strike_group: delta-one instrument in a group",
        )
        self._validate_strike_groups()

    def _validate_strike_groups(self) -> None:
        group_of: dict[tuple[int, int, int], tuple[int, int]] = {}
        strike_of: dict[int, tuple[int, int, int]] = {}
        for row in np.flatnonzero(self.is_option()).tolist():
            strike = (int(self.unit[row]), int(self.expiry_ns[row]), int(self.strike_e8[row]))
            group = int(self.strike_group[row])
            check(group >= 0, "instruments.strike_group: option without a group")
            first = group_of.setdefault(strike, (group, int(self.lot_e8[row])))
            check(first[0] == group, "instruments.strike_group: one strike, two groups")
            check(first[1] == int(self.lot_e8[row]), "instruments.lot_e8: one strike, two lots")
            same = strike_of.setdefault(group, strike) == strike
            check(same, "instruments.strike_group: one group, two strikes")


def margin_order(instruments: Instruments) -> Int64Array:
    """The permutation of slots that sorts them by (unit, expiry, strike, slot), shape [I]."""
    return np.lexsort((instruments.strike_e8, instruments.expiry_ns, instruments.unit)).astype(
        np.int64
    )


class Marks(msgspec.Struct, frozen=True, gc=False):
    """What everything is worth at `now_ns`.

    `index_e8[U]`: USD per coin of a unit. `mark_e8[I]`: futures and perpetuals in USD per coin,
    options as the premium in USDC per coin, inverse options as the premium in coin per coin.
    `forward_e8[I]`, `volatility_e9[I]` and `rate_e9[I]` are read for options only. Slots without a
    live instrument keep their last marks.

    Of the rest, what is left out is taken as certain. `index_confidence_ppb[U]` and
    `confidence_ppb[I]`: how sure the index and the instrument's own prices are, 10^9 is certain.
    `fixed_e8[I]`: the part of a forward or of a future's mark that the settlement mean has fixed
    already; without it that part follows from the time left. `delta_e9[I]`: deltas as quoted,
    x 10^9, for charges on delta; without them the model's. `stable_e9`: USD per USDC.
    """

    now_ns: int
    index_e8: Int64Array
    mark_e8: Int64Array
    forward_e8: Int64Array
    volatility_e9: Int64Array
    rate_e9: Int64Array
    index_confidence_ppb: Int64Array | None = None
    confidence_ppb: Int64Array | None = None
    fixed_e8: Int64Array | None = None
    delta_e9: Int64Array | None = None
    stable_e9: int = STABLE_E9

    def kernel_columns(self) -> tuple[Int64Array, Int64Array, Int64Array, Int64Array, Int64Array]:
        """Index by unit; mark, forward, volatility and rate by instrument, likewise."""
        return self.index_e8, self.mark_e8, self.forward_e8, self.volatility_e9, self.rate_e9

    def validate(self, instruments: Instruments) -> None:
        """Raise `InvariantBroken` unless there is a usable mark for every row of `instruments`."""
        self._validate_certainty(len(instruments))
        shape = (len(instruments),)
        for name in ("mark_e8", "forward_e8", "volatility_e9", "rate_e9"):
            _check_column(f"marks.{name}", getattr(self, name), shape)
        _check_column("marks.index_e8", self.index_e8, (self.index_e8.shape[0],))
        check((self.index_e8 > 0).all(), "marks.index_e8: not positive")
        check(
            (instruments.unit < self.index_e8.shape[0]).all(),
            "marks.index_e8: a unit has no index",
        )
        option = instruments.is_option()
        check((self.mark_e8[~option] > 0).all(), "marks.mark_e8: future without a mark")
        check((self.mark_e8[option] >= 0).all(), "marks.mark_e8: negative premium")
        check((self.forward_e8[option] > 0).all(), "marks.forward_e8: option without a forward")
        check((self.volatility_e9[option] >= 0).all(), "marks.volatility_e9: negative")

    def _validate_certainty(self, count: int) -> None:
        for name, column, rows in (
            ("index_confidence_ppb", self.index_confidence_ppb, self.index_e8.shape[0]),
            ("confidence_ppb", self.confidence_ppb, count),
            ("fixed_e8", self.fixed_e8, count),
        ):
            if column is not None:
                _check_column(f"marks.{name}", column, (rows,))
                check((column >= 0).all(), f"marks.{name}: negative")
        check(self.stable_e9 > 0, "marks.stable_e9: not positive")


class Collateral(msgspec.Struct, frozen=True, gc=False):
    """Kinds of coin cash, shape [C]: the coins of the U units in their order, then other tokens.

    `unit`: the risk unit of a coin or token; `price_e8`: USD per coin; `moves`: 1 if its value
    moves with the unit's index in the scenarios, else 0. `maintenance_ppb`, `initial_extra_ppb`:
    charges as parts of its value; `confidence_ppb`: how sure the price is.
    """

    unit: Int64Array
    price_e8: Int64Array
    moves: Int64Array
    maintenance_ppb: Int64Array
    initial_extra_ppb: Int64Array
    confidence_ppb: Int64Array

    def validate(self, unit_count: int) -> None:
        """Raise `InvariantBroken` unless the first rows are the coins of `unit_count` units."""
        shape = self.unit.shape
        for name in self.__struct_fields__:
            _check_column(f"collateral.{name}", getattr(self, name), shape)
        own = np.arange(unit_count, dtype=np.int64)
        check(shape[0] >= unit_count, "collateral: a unit without its coin")
        check((self.unit[:unit_count] == own).all(), "collateral: coins out of order")
        known = (self.unit >= 0) & (self.unit < unit_count)
        check(known.all(), "collateral.unit: out of range")
        check((self.price_e8 > 0).all(), "collateral.price_e8: not positive")


def unit_coins(marks: Marks) -> Collateral:
    """The coin of every unit at its index, moving with it, without charges."""
    units = marks.index_e8.shape[0]
    one, none = np.ones(units, np.int64), np.zeros(units, np.int64)
    sure = marks.index_confidence_ppb
    sure = one * CERTAIN_PPB if sure is None else sure
    return Collateral(np.arange(units, dtype=np.int64), marks.index_e8, one, none, none, sure)


class Positions(msgspec.Struct, frozen=True, gc=False):
    """Who holds what, in compressed rows: pool p owns rows pool_start[p] .. pool_start[p+1].

    `pool_start[P+1]`, `instrument[N]`, `quantity_lots[N]` (positive is long). The rows of a pool
    are in margin order, each instrument once. `coin_minor[P,C]` is the net cash in the coin of
    each unit (10^-8 coin), zero in a unit that has no coin of its own, and after the units in each
    further token of a `Collateral`.
    """

    pool_start: Int64Array
    instrument: Int64Array
    quantity_lots: Int64Array
    coin_minor: Int64Array

    @property
    def pool_count(self) -> int:
        """Number of pools, P."""
        return int(self.pool_start.shape[0]) - 1

    def validate(self, instruments: Instruments) -> None:
        """Raise `InvariantBroken` unless rows are well formed and in margin order."""
        rows = int(self.instrument.shape[0])
        check(self.pool_start.shape[0] >= 1, "positions.pool_start: empty")
        _check_column("positions.pool_start", self.pool_start, (self.pool_count + 1,))
        _check_column("positions.instrument", self.instrument, (rows,))
        _check_column("positions.quantity_lots", self.quantity_lots, (rows,))
        units = self.coin_minor.shape[-1]
        _check_column("positions.coin_minor", self.coin_minor, (self.pool_count, units))
        check(self.pool_start[0] == 0, "positions.pool_start: does not start at 0")
        check(self.pool_start[-1] == rows, "positions.pool_start: does not end at the last row")
        check((np.diff(self.pool_start) >= 0).all(), "positions.pool_start: decreases")
        known = (self.instrument >= 0) & (self.instrument < len(instruments))
        check(known.all(), "positions.instrument: no such slot")
        check((instruments.unit < units).all(), "positions.coin_minor: a unit has no column")
        rank = np.empty(len(instruments), dtype=np.int64)
        rank[margin_order(instruments)] = np.arange(len(instruments), dtype=np.int64)
        ascending = np.diff(rank[self.instrument]) > 0
        first_rows = self.pool_start[1:-1]
        inner = first_rows[(first_rows > 0) & (first_rows < rows)]
        ascending[inner - 1] = True
        check(ascending.all(), "positions.instrument: rows of a pool out of margin order")
