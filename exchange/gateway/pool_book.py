"""A pool and its market as margin explains them, copied out of the engine's state.

What models by formula need of the venue beyond that, its open interest, is read here, too.
"""

from __future__ import annotations

import numpy as np

from exchange.core import limits
from exchange.core.engine import Engine
from exchange.core.stored.state import State
from exchange.core.venue import FUTURE_KINDS
from margin.book import NO_COIN, Book, Conditions, OtherPools
from margin.fixed_point import PRICE_SCALE, USDC_SCALE
from margin.invariant import Int64Array
from margin.portfolio import INVERSE, Instruments, Marks
from margin.reasons.explain_formula import INPUTS, Overrides

_E16_PER_MINOR = PRICE_SCALE * PRICE_SCALE // USDC_SCALE


def pool_book(engine: Engine, pool: int, slots: list[int], lots: list[int]) -> Book:
    """A copy of what margin reads of a pool that holds `lots` in the contracts of `slots`."""
    state = engine.state
    contracts, marks, venue = state.contracts, state.marks.columns(), state.venue
    at = np.array(slots, np.int64)

    def taken(column: Int64Array) -> Int64Array:
        return np.ascontiguousarray(column[at])

    of = contracts.columns
    return Book(
        instrument_names=tuple(contracts.specs[slot].name for slot in slots),
        unit_names=tuple(unit.name for unit in venue.underlyings),
        risk_classes=tuple(unit.risk_class for unit in venue.underlyings),
        currency_names=venue.currencies(),
        coin_of_unit=tuple(
            coin if coin > 0 else NO_COIN
            for coin in (venue.coin_of(unit) for unit in range(len(venue.underlyings)))
        ),
        instruments=Instruments(
            taken(of.kind), taken(of.unit), taken(of.expiry_ns), taken(of.strike_e8),
            taken(of.lot_e8), taken(of.strike_group),
        ),
        marks=Marks(
            marks.now_ns, marks.index_e8.copy(), taken(marks.mark_e8), taken(marks.forward_e8),
            taken(marks.volatility_e9), taken(marks.rate_e9),
            index_confidence_ppb=state.marks.confidence_ppb.copy(),
        ),
        quantity_lots=np.array(lots, np.int64),
        cash_minor=engine.risk.holdings.cash_of(pool).copy(),
        conditions=_conditions(state, slots),
        others=_others(engine, pool),
    )  # fmt: skip


def open_interest_minor(state: State) -> list[int]:
    """The long side of each underlying's futures and perpetuals at the mark, minor USDC.

    Valued as models by formula value positions: an inverse lot is worth its dollars.
    """
    value_e16 = [0] * len(state.venue.underlyings)
    lots = state.positions.open_interest()
    for slot in np.flatnonzero(lots).tolist():
        spec = state.contracts.specs[slot]
        if spec.kind in FUTURE_KINDS:
            price_e8 = PRICE_SCALE if spec.kind == INVERSE else int(state.marks.mark_e8[slot])
            value_e16[spec.underlying] += int(lots[slot]) * spec.lot_e8 * price_e8
    return [value // _E16_PER_MINOR for value in value_e16]


def venue_inputs(state: State, model: str) -> Overrides:
    """What the venue knows of the inputs of a model by formula; the rest stand at constants."""
    if "open_interest" not in INPUTS[model]:
        return {}
    most, values = INPUTS[model]["open_interest"].high, open_interest_minor(state)
    units = zip(state.venue.underlyings, values, strict=True)
    return {"open_interest": {unit.name: min(value, most) for unit, value in units}}


def _others(engine: Engine, pool: int) -> OtherPools | None:
    """What the owner's other pools have, where the venue's haircuts of a pool grow with it."""
    if not engine.risk.model(pool).haircuts.grow:
        return None
    family = engine.state.accounts.family(pool)
    held = engine.risk.holdings
    rows = [held.cash_of(other) + held.option_values_of(other) for other in family if other != pool]
    amounts = np.array(rows, np.int64).reshape(len(rows), engine.state.ledger.currencies)
    return OtherPools(amounts, family.index(pool)) if rows else None


def _conditions(state: State, slots: list[int]) -> Conditions:
    """The market as the venue's add-ons see it."""
    volumes = [
        unit.daily_volume_minor or limits.DAILY_VOLUME_MINOR_MAX for unit in state.venue.underlyings
    ]
    rates = [state.marks.funding_rate_e9.get(slot, 0) for slot in slots]
    return Conditions(
        volatility_e9=state.marks.unit_volatility_e9(),
        daily_volume_minor=np.array(volumes, np.int64),
        interval_ns=state.venue.interval_ns,
        funding_rate_e9=np.array(rates, np.int64),
    )
