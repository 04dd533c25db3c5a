"""Contracts as Deribit describes them: terms, ticker, order book, index, marks' Greeks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from exchange.core.reject_reason import RejectReason
from exchange.core.stored.contracts import Life
from exchange.core.stored.marks import IndexState
from exchange.core.stored.state import State
from exchange.core.venue import CALL_KINDS, COIN_KINDS, InstrumentSpec
from exchange.gateway.errors import refused
from exchange.gateway.market_data import (
    Curve,
    Level,
    MarketData,
    discount_of,
    implied_percent,
)
from exchange.gateway.units import (
    E8,
    amount_number,
    base_currency,
    contract_size,
    counter_currency,
    expiration_ms,
    index_name,
    kind_name,
    milliseconds,
    option_type,
    price_number,
    quote_currency,
    settlement_name,
)
from margin.black76 import price_and_greeks
from margin.fixed_point import NS_PER_YEAR, RATE_SCALE
from margin.portfolio import NEVER_NS

PERCENT_E9 = 10**7
DAYS_PER_YEAR = 365


OF_TICKER = (
    "mark_price", "open_interest", "estimated_delivery_price", "current_funding", "funding_8h",
    "mark_iv", "interest_rate", "underlying_index", "underlying_price",
)  # fmt: skip
"""What a book summary shares with the ticker, by name."""


class Greeks(msgspec.Struct, frozen=True, gc=False):
    """Sensitivities of one coin of an option, in Deribit's units.

    Vega for a volatility point, rho for a point of the interest rate, theta for a day or for what
    is left of the option's life, whichever is shorter. Those of an inverse option are those of its
    value in USD, the premium times the forward.
    """

    delta: float
    gamma: float
    vega: float
    theta: float
    rho: float


def slot_of(state: State, name: str, param: str = "instrument_name") -> int:
    """The slot of a contract by name; 13020 where there is none. `param` is what named it."""
    slot = state.contracts.slot_of.get(name)
    if slot is None:
        raise refused(RejectReason.INSTRUMENT_UNKNOWN, f"no instrument {name!r}", param)
    return slot


def settlement_period(spec: InstrumentSpec) -> str:
    """`perpetual`, `month` (last Friday), `week` (other Fridays) or `day`."""
    if spec.expiry_ns == NEVER_NS:
        return "perpetual"
    day = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=spec.expiry_ns // 10**9)
    if day.isoweekday() != 5:
        return "day"
    return "month" if (day + timedelta(days=7)).month != day.month else "week"


def trading_state(state: State, slot: int) -> str:
    """`open`, `halted` or `closed`."""
    contracts, spec = state.contracts, state.contracts.specs[slot]
    if contracts.life[slot] != Life.LISTED or spec.expiry_ns <= state.time_ns:
        return "closed"
    dead = state.marks.index_state[spec.underlying] == IndexState.DEAD
    return "halted" if contracts.halted[slot] or dead else "open"


def instrument(state: State, slot: int, listed_ns: int) -> dict[str, object]:
    """The terms of a contract; `listed_ns` says since when it is listed."""
    venue, spec = state.venue, state.contracts.specs[slot]
    kind = kind_name(spec)
    form = "reversed" if spec.kind in COIN_KINDS else "linear"
    fee = (venue.fees.option_ppb if kind == "option" else venue.fees.future_ppb) / RATE_SCALE
    lot = amount_number(spec, 1)
    row: dict[str, object] = {
        "instrument_name": spec.name,
        "instrument_id": slot + 1,
        "kind": kind,
        "base_currency": base_currency(venue, spec),
        "quote_currency": quote_currency(venue, spec),
        "counter_currency": counter_currency(spec),
        "settlement_currency": settlement_name(venue, spec),
        "settlement_period": settlement_period(spec),
        "price_index": index_name(venue, spec),
        "instrument_type": form,
        "contract_size": contract_size(spec),
        "min_trade_amount": lot,
        "tick_size": price_number(spec, 1),
        "tick_size_steps": [],
        "maker_commission": fee,
        "taker_commission": fee,
        "max_liquidation_commission": venue.fees.liquidation_ppb / RATE_SCALE,
        "is_active": trading_state(state, slot) == "open",
        "state": trading_state(state, slot),
        "creation_timestamp": milliseconds(listed_ns),
        "expiration_timestamp": expiration_ms(spec),
        "rfq": False,
    }
    if kind == "option":
        row["strike"] = spec.strike_e8 / E8
        row["option_type"] = option_type(spec)
    else:
        row["future_type"] = form
        row["max_leverage"] = 50
    return row


def greeks_of(state: State, slot: int) -> Greeks:
    """Greeks of an option at the marks; of a future, those of one coin.

    Rho holds the spot, as Black-Scholes does: the forward moves with the rate, so it is
    years x (delta x forward - value), above 0 for calls and below 0 for puts.
    """
    spec, marks = state.contracts.specs[slot], state.marks
    if not state.contracts.is_option_slot(slot):
        return Greeks(1.0, 0.0, 0.0, 0.0, 0.0)
    years = max(0, spec.expiry_ns - marks.time_ns) / NS_PER_YEAR
    forward = int(marks.forward_e8[slot]) / E8
    value, delta, gamma, vega, theta = map(float, price_and_greeks(
        forward, spec.strike_e8 / E8, int(marks.volatility_e9[slot]) / RATE_SCALE,
        years, discount_of(state, slot, marks.time_ns), spec.kind in CALL_KINDS,
    ))  # fmt: skip
    rho = years * (delta * forward - value) / 100
    if state.contracts.is_inverse_option(slot):
        rho = 0.0  # its premium is not discounted
    return Greeks(
        round(delta, 5), round(gamma, 8), round(vega / 100, 5),
        round(theta * min(1 / DAYS_PER_YEAR, years), 5),
        round(rho, 5),
    )  # fmt: skip


def _implied(state: State, slot: int, levels: tuple[Level, ...]) -> float:
    """The volatility in percent of the best level; 0 where there is none."""
    if not levels:
        return 0.0
    price_e8 = levels[0][0] * state.contracts.specs[slot].tick_e8
    implied = implied_percent(state, slot, price_e8, state.marks.time_ns)
    return 0.0 if implied is msgspec.UNSET else implied


def levels_of(spec: InstrumentSpec, levels: tuple[Level, ...], depth: int) -> list[list[float]]:
    """The best `depth` levels as [price, amount]."""
    return [
        [price_number(spec, ticks), amount_number(spec, lots)] for ticks, lots in levels[:depth]
    ]


class InstrumentView:
    """Answers about contracts, from the engine's state and the market's read model."""

    def __init__(self, market: MarketData) -> None:
        self.market = market
        self.listed_ns: dict[int, int] = {}
        self._interest: tuple[int, int, list[int]] = (-1, -1, [])

    def listed(self, slots: tuple[int, ...], time_ns: int) -> None:
        """Remember since when contracts are listed."""
        self.listed_ns.update(dict.fromkeys(slots, time_ns))

    def instrument(self, state: State, slot: int) -> dict[str, object]:
        """The terms of a contract; one of the opening is as old as the venue."""
        return instrument(state, slot, self.listed_ns.get(slot, state.venue.opening_time_ns))

    def open_interest(self, state: State, slot: int) -> float:
        """Open contracts in the contract's amount; counted once a batch and phase."""
        batch, phase, lots = self._interest
        if (batch, phase) != (state.batch, state.phase) or slot >= len(lots):
            lots = state.positions.open_interest().tolist()
            self._interest = (state.batch, int(state.phase), lots)
        return amount_number(state.contracts.specs[slot], lots[slot])

    def quote(self, state: State, slot: int) -> dict[str, object]:
        """Best disclosed prices; 0 for price and amount where a side is empty."""
        spec, curve = state.contracts.specs[slot], self.market.curve(slot)
        bid_ticks, bid_lots = curve.bids[0] if curve.bids else (0, 0)
        ask_ticks, ask_lots = curve.asks[0] if curve.asks else (0, 0)
        return {
            "instrument_name": spec.name,
            "timestamp": milliseconds(self._time_ns(state)),
            "best_bid_price": price_number(spec, bid_ticks),
            "best_bid_amount": amount_number(spec, bid_lots),
            "best_ask_price": price_number(spec, ask_ticks),
            "best_ask_amount": amount_number(spec, ask_lots),
        }

    def _time_ns(self, state: State) -> int:
        return max(self.market.time_ns, state.marks.time_ns)

    def ticker(self, state: State, slot: int) -> dict[str, object]:
        """Deribit's ticker; a price that is not there is null."""
        spec, marks, curve = state.contracts.specs[slot], state.marks, self.market.curve(slot)
        tape = self.market.tapes.get(slot)
        index = int(marks.index_e8[spec.underlying]) / E8
        low, high = state.collars.widest(slot, marks.reference_ticks(slot))
        row = self.quote(state, slot)
        if not curve.bids:
            row["best_bid_price"] = None
        if not curve.asks:
            row["best_ask_price"] = None
        row |= {
            "timestamp": milliseconds(self._time_ns(state)),
            "state": trading_state(state, slot),
            "last_price": price_number(spec, tape.last_ticks) if tape and tape.last_ticks else None,
            "mark_price": int(marks.mark_e8[slot]) / E8,
            "index_price": index,
            "estimated_delivery_price": index,
            "min_price": price_number(spec, low),
            "max_price": price_number(spec, min(high, state.contracts.price_max[slot])),
            "open_interest": self.open_interest(state, slot),
            "stats": self.market.statistics(state, slot),
        }
        if state.contracts.is_option_slot(slot):
            row |= self._option_fields(state, slot, curve)
        elif spec.expiry_ns == NEVER_NS:
            funding = marks.funding_rate_e9.get(slot, 0) / RATE_SCALE
            row |= {"current_funding": funding, "funding_8h": funding, "interest_value": 0.0}
        return row

    def _option_fields(self, state: State, slot: int, curve: Curve) -> dict[str, object]:
        spec, marks = state.contracts.specs[slot], state.marks
        return {
            "greeks": greeks_of(state, slot),
            "mark_iv": int(marks.volatility_e9[slot]) / PERCENT_E9,
            "bid_iv": _implied(state, slot, curve.bids),
            "ask_iv": _implied(state, slot, curve.asks),
            "underlying_price": int(marks.forward_e8[slot]) / E8,
            "underlying_index": index_name(state.venue, spec),
            "interest_rate": int(marks.rate_e9[slot]) / RATE_SCALE,
        }

    def summary(self, state: State, slot: int, time_ms: int) -> dict[str, object]:
        """Deribit's book summary: the ticker in few words."""
        spec, ticker = state.contracts.specs[slot], self.ticker(state, slot)
        stats = self.market.statistics(state, slot)
        bid, ask = ticker["best_bid_price"], ticker["best_ask_price"]
        both = isinstance(bid, float) and isinstance(ask, float)
        row = {
            "instrument_name": spec.name,
            "base_currency": base_currency(state.venue, spec),
            "quote_currency": quote_currency(state.venue, spec),
            "creation_timestamp": time_ms,
            "bid_price": bid,
            "ask_price": ask,
            "mid_price": (bid + ask) / 2 if both else None,  # type: ignore[operator]
            "last": ticker["last_price"],
            "high": stats.high,
            "low": stats.low,
            "price_change": stats.price_change,
            "volume": stats.volume,
            "volume_usd": stats.volume_usd,
            "volume_notional": stats.volume_notional,
        }
        return row | {name: ticker[name] for name in OF_TICKER if name in ticker}

    def order_book(self, state: State, slot: int, depth: int) -> dict[str, object]:
        """The ticker with the disclosed curve."""
        spec, curve = state.contracts.specs[slot], self.market.curve(slot)
        return self.ticker(state, slot) | {
            "change_id": curve.change_id,
            "bids": levels_of(spec, curve.bids, depth),
            "asks": levels_of(spec, curve.asks, depth),
        }

    def book_snapshot(self, state: State, slot: int) -> dict[str, object]:
        """First message of a `book` channel."""
        spec, curve = state.contracts.specs[slot], self.market.curve(slot)
        everything = len(curve.bids) + len(curve.asks)
        return {
            "type": "snapshot",
            "timestamp": milliseconds(self._time_ns(state)),
            "instrument_name": spec.name,
            "change_id": curve.change_id,
            "bids": [["new", *row] for row in levels_of(spec, curve.bids, everything)],
            "asks": [["new", *row] for row in levels_of(spec, curve.asks, everything)],
        }

    def book_change(self, state: State, slot: int) -> dict[str, object]:
        """What the last print changed in a curve, as a `book` channel's message."""
        spec, change = state.contracts.specs[slot], self.market.changes[slot]
        return {
            "type": "change",
            "timestamp": milliseconds(self.market.time_ns),
            "instrument_name": spec.name,
            "prev_change_id": change.before.change_id,
            "change_id": change.after.change_id,
            "bids": level_changes(spec, change.before.bids, change.after.bids),
            "asks": level_changes(spec, change.before.asks, change.after.asks),
        }

    def funding(self, state: State, slot: int) -> dict[str, object]:
        """A perpetual's funding rate as the `perpetual` channel tells it."""
        marks = state.marks
        return {
            "timestamp": milliseconds(marks.time_ns),
            "index_price": int(marks.index_e8[state.contracts.specs[slot].underlying]) / E8,
            "interest": marks.funding_rate_e9.get(slot, 0) / RATE_SCALE,
        }

    def index(self, state: State, underlying: int, name: str) -> dict[str, object]:
        """An index as the `deribit_price_index` channel tells it."""
        return {
            "index_name": name,
            "price": int(state.marks.index_e8[underlying]) / E8,
            "timestamp": milliseconds(state.marks.time_ns),
        }


def level_changes(
    spec: InstrumentSpec, before: tuple[Level, ...], after: tuple[Level, ...]
) -> list[list[object]]:
    """One side's rows of a change: deleted levels, then new and changed ones, each best first."""
    old, new = dict(before), dict(after)
    rows: list[list[object]] = [
        ["delete", price_number(spec, ticks), 0.0] for ticks in old if ticks not in new
    ]
    rows += [
        ["change" if ticks in old else "new", price_number(spec, ticks), amount_number(spec, lots)]
        for ticks, lots in after
        if old.get(ticks) != lots
    ]
    return rows
