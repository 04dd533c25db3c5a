"""Pools of fixed positions watched by the engine along a path of index prices.

The engine's own steps 4 to 6 of a cycle (marks, forecasts, variation margin, revaluation) and its
early warning, without the steps that act on a margin call: a pool that is called stays as it is, so
that what was forecast for it can be held against what happened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt
from typing import Any, NamedTuple

import msgspec
import numpy as np

from exchange.core.commands import (
    Deposit,
    ExpiryMark,
    Genesis,
    OpenAccount,
    PlaceOrder,
    Revalue,
    Seal,
    Uncross,
    UnderlyingMark,
)
from exchange.core.engine import VERSION, Engine
from exchange.core.market.revalue import release_gains, take_marks
from exchange.core.reject_reason import PostingCause
from exchange.core.risk.early_warning import Chance, call_chances
from exchange.core.stored.ledger import House
from exchange.core.venue import USDC, InstrumentSpec, UnderlyingSpec, Venue
from exchange.venues import load_venue
from margin.fixed_point import NS_PER_SECOND, USDC_SCALE
from margin.forecasts.forecast import DAYS_OF_MONTH
from margin.invariant import Int64Array, check
from margin.portfolio import LINEAR_CALL, LINEAR_PUT
from margin.presets import load_preset
from margin.presets.dynamic_sections import EwmaRule, GarchRule, Predictive
from margin.presets.preset import NamedRate, Preset

E8, PPB = 10**8, 10**9
YEAR_S = 365 * 86_400
LOTS = 1000
"""A position is one coin, of a thousand lots."""

LONG, SHORT, STRADDLE = "long", "short", "short straddle"
HOLDINGS = {LONG: ((0, LOTS),), SHORT: ((0, -LOTS),), STRADDLE: ((1, -LOTS), (2, -LOTS))}
FIRST_E8 = 10_000 * E8
EXPIRY_DAYS = 90
WARM_UP = 10 * DAYS_OF_MONTH
"""Periods that teach the forecasts before anything is asked of them."""

ENDOWMENT_MINOR = 10**12  # with which the positions are traded


@dataclass(frozen=True)
class Setting:
    """What is watched: horizon, forecaster and cushions.

    One cycle a period, `cycles` of them a horizon. `cushions_ppb`: by how much of the index equity
    exceeds initial margin when a horizon begins, one pool each. `garch`: (alpha, beta, annual
    long-run volatility), in its place an EWMA of `decay_ppb`.
    """

    period_s: int = 3600
    cycles: int = 24
    decay_ppb: int = 970_000_000
    garch: tuple[int, int, int] | None = None
    cushions_ppb: tuple[int, ...] = (
        5_000_000, 10_000_000, 20_000_000, 30_000_000, 45_000_000, 60_000_000, 90_000_000,
    )  # fmt: skip
    positions: tuple[str, ...] = (LONG, SHORT, STRADDLE)


class Watched(NamedTuple):
    """Forecasts and outcomes of one path, windows x pools; pools by position, then cushion.

    `chance_ppb[W, N]` at the start of each horizon; `called[W, N]`: 1 where equity fell below
    initial margin at any cycle of it.
    """

    chance_ppb: Int64Array
    called: Int64Array


def watched_preset(setting: Setting) -> Preset:
    """`ps-1-dynamic` with the forecaster, the period and the horizon of a setting.

    Whatever else the preset says stays: tools, bounds, caps, cushion of fat tails. Volatilities of
    options do not move in a watched market, so their shocks stand still too.
    """
    shipped = load_preset("ps-1-dynamic")
    check(shipped.dynamic is not None and shipped.predictive is not None, "a preset that predicts")
    assert shipped.dynamic is not None
    assert shipped.predictive is not None
    garch = None
    if setting.garch is not None:
        alpha, beta, annual_e9 = setting.garch
        long_run = (NamedRate(name="default", rate_e9=annual_e9),)
        garch = GarchRule(long_run=long_run, alpha_ppb=alpha, beta_ppb=beta)
    # a memory of the long run that lasts as long, however long a period is
    share = PPB - shipped.dynamic.long_run_decay_ppb
    slower = setting.period_s // shipped.dynamic.period_s
    dynamic = msgspec.structs.replace(
        shipped.dynamic,
        period_s=setting.period_s,
        ewma=None if garch is not None else EwmaRule(decay_ppb=setting.decay_ppb),
        garch=garch,
        long_run_decay_ppb=PPB - share * max(1, slower),
        implied=None,
    )
    predictive: Predictive = msgspec.structs.replace(shipped.predictive, cycles=setting.cycles)
    return msgspec.structs.replace(shipped, dynamic=dynamic, predictive=predictive, cross_unit=None)


def _venue(setting: Setting, price_e8: Int64Array, annual_e9: int, risk_class: str) -> Venue:
    """One coin, its perpetual, and a call and a put at the money if straddles are watched."""
    base = load_venue("tiny")
    unit = UnderlyingSpec(
        name="BTC", risk_class=risk_class, is_collateral=False,
        price_e8_max=2 * int(price_e8.max()), opening_index_e8=int(price_e8[0]),
        opening_volatility_e9=annual_e9,
    )  # fmt: skip
    contracts = [base.instruments[0]]
    if STRADDLE in setting.positions:
        contracts += [_option(base, LINEAR_CALL, "C"), _option(base, LINEAR_PUT, "P")]
    parts: dict[str, Any] = {
        "name": "watched",
        "preset": watched_preset(setting),
        "underlyings": (unit,),
        "instruments": tuple(contracts),
        "listings": (),
        "interval_ns": setting.period_s * NS_PER_SECOND,
        "risk_gate": False,
        "collar": msgspec.structs.replace(base.collar, band_ppb=0),
        "fees": msgspec.structs.replace(base.fees, future_ppb=0, option_ppb=0),
        "funding": msgspec.structs.replace(base.funding, cap_ppb=0),
        "default": msgspec.structs.replace(base.default, allow_uncovered=True),
    }
    return msgspec.structs.replace(base, **parts)


def _option(base: Venue, kind: int, letter: str) -> InstrumentSpec:
    perpetual = base.instruments[0]
    return InstrumentSpec(
        name=f"BTC_USDC-{EXPIRY_DAYS}D-{letter}",
        kind=kind,
        underlying=0,
        tick_e8=perpetual.tick_e8,
        lot_e8=perpetual.lot_e8,
        expiry_ns=base.opening_time_ns + EXPIRY_DAYS * 86_400 * NS_PER_SECOND,
        strike_e8=FIRST_E8,
    )


def from_first(price_e8: Int64Array) -> Int64Array:
    """A path of prices in the scale of the watched market, which begins at `FIRST_E8`."""
    first = int(price_e8[0])
    return np.array([int(p) * FIRST_E8 // first for p in price_e8.tolist()], np.int64)


class WatchedMarket:
    """One coin's market: the pools of a setting, and one that holds the other side of them all."""

    def __init__(self, setting: Setting, price_e8: Int64Array, risk_class: str = "BTC") -> None:
        """`price_e8[T]`, one a period, more than `WARM_UP` + a horizon of them.

        Forecasts open at the volatility of the first `WARM_UP` periods, and have seen them.
        """
        check(len(price_e8) > WARM_UP + setting.cycles, "watched: a longer path of prices")
        self.setting, self.price_e8 = setting, from_first(price_e8)
        moves = np.diff(self.price_e8[: WARM_UP + 1]) / self.price_e8[:WARM_UP]
        deviation_e9 = int(np.sqrt(np.mean(moves * moves)) * PPB)
        annual_e9 = max(1, isqrt(deviation_e9**2 * YEAR_S // setting.period_s))
        self.annual_e9 = annual_e9
        venue = _venue(setting, self.price_e8, annual_e9, risk_class)
        self.engine, self.at, self._now = Engine(), 0, venue.opening_time_ns
        self.engine.apply(Genesis(self._now, venue, 0, VERSION))
        self.columns = [(p, c) for p in setting.positions for c in setting.cushions_ppb]
        self._open()
        pools = self.engine.state.accounts.pool_of
        self.pools: Int64Array = np.array(pools[1 : len(self.columns) + 1], np.int64)

    def _marks(self) -> Revalue:
        """Index and future at the price of the period, options at the opening's volatility."""
        price = int(self.price_e8[self.at])
        index = UnderlyingMark(price, 0, PPB, ())
        expiries: tuple[ExpiryMark, ...] = ()
        if STRADDLE in self.setting.positions:
            expiry_ns = self.engine.state.contracts.specs[1].expiry_ns
            strike = ((FIRST_E8,), (self.annual_e9,))
            expiries = (ExpiryMark(0, expiry_ns, price, 0, *strike),)
        cycle = self.engine.state.batch
        return Revalue(self._now, cycle, (index,), ((0, price),), expiries, b"")

    def _cycle(self) -> None:
        """A whole cycle of the engine at the marks now."""
        batch = self.engine.state.batch
        for command in (Seal(self._now, batch), Uncross(self._now, batch), self._marks()):
            self.engine.apply(command)

    def _open(self) -> None:
        """Trade the positions at the first price; then let the forecasts see the first periods."""
        self._cycle()
        for account in range(len(self.columns) + 1):
            self.engine.apply(OpenAccount(self._now, f"watched-{account}"))
            self.engine.apply(Deposit(self._now, account, USDC, ENDOWMENT_MINOR))
        for account, (position, _) in enumerate(self.columns, 1):
            for slot, lots in HOLDINGS[position]:
                side = 1 if lots > 0 else -1
                ticks = self.engine.state.marks.reference_ticks(slot)
                for who, way in ((account, side), (0, -side)):
                    self.engine.apply(PlaceOrder(self._now, who, slot, way, ticks, abs(lots)))
        self._cycle()
        held = sum(len(HOLDINGS[position]) for position, _ in self.columns)
        check(len(self.engine.state.positions.pool) >= held, "watched: every position was traded")
        marks, forecasts = self.engine.state.marks, self.engine.state.forecasts
        for self.at in range(WARM_UP + 1):
            self._now += self.setting.period_s * NS_PER_SECOND
            marks.take(self._marks())
            forecasts.take(marks)
        self._revalue()

    def _revalue(self) -> None:
        """Variation margin and requirements at the marks just taken, gains released at once."""
        state, risk = self.engine.state, self.engine.risk
        risk.holdings.mark()
        elapsed_ns = self.setting.period_s * NS_PER_SECOND
        gains, _ = take_marks(state, risk.holdings.value_e6, elapsed_ns, 0)
        risk.reprice()
        risk.revalue(gains.pending)
        release_gains(state, gains)
        gains.pending[:] = 0

    def step(self) -> Int64Array:
        """One period on; returns equity less initial margin of each watched pool, minor USDC."""
        state, risk = self.engine.state, self.engine.risk
        self.at += 1
        self._now += self.setting.period_s * NS_PER_SECOND
        state.marks.take(self._marks())
        state.forecasts.take(state.marks)
        self._revalue()
        room: Int64Array = risk.equity[self.pools] - risk.initial[self.pools]
        return room

    def fund(self) -> None:
        """Bring equity of every watched pool to its initial margin and its cushion."""
        state, risk = self.engine.state, self.engine.risk
        price = int(self.price_e8[self.at])
        room = (risk.equity - risk.initial)[self.pools].tolist()
        for pool, (_, cushion_ppb), has in zip(
            self.pools.tolist(), self.columns, room, strict=True
        ):
            wanted = price * cushion_ppb // PPB * USDC_SCALE // E8
            state.ledger.transfer(
                PostingCause.DEPOSIT, House.EXTERNAL, pool, USDC, wanted - has
            )  # fmt: skip
        risk.revalue()

    def chances(self) -> list[Chance]:
        """What the venue's early warning says now of every pool that holds something."""
        section = self.engine.state.venue.preset.predictive
        check(section is not None, "watched: a preset that predicts")
        assert section is not None
        return call_chances(self.engine.state, self.engine.risk, 0, section)

    def watch(self, progress: Callable[[int, int], None] | None = None) -> Watched:
        """Horizon after horizon to the end of the path, none overlapping."""
        windows = (len(self.price_e8) - 1 - self.at) // self.setting.cycles
        shape = (windows, len(self.columns))
        chance, called = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for window in range(windows):
            self.fund()
            said = {row.pool: row.probability_ppb for row in self.chances()}
            chance[window] = [said[pool] for pool in self.pools.tolist()]
            for _ in range(self.setting.cycles):
                called[window] |= self.step() < 0
            if progress is not None:
                progress(window + 1, windows)
        return Watched(chance, called)
