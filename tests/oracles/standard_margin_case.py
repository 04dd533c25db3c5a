"""Cases of Derive's standard manager: two underlyings, options, perpetuals, coin and feeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from margin.fixed_point import NS_PER_SECOND
from margin.invariant import Int64Array
from margin.models.standard import Feeds, loss_multiple, pool_margins, standard_table
from margin.models.standard_constants import (
    CoinCollateral,
    Levels,
    ShortOption,
    Standard,
    Threshold,
)
from margin.pools.requirement import equity
from margin.portfolio import (
    LINEAR,
    LINEAR_CALL,
    LINEAR_PUT,
    NEVER_NS,
    NO_STRIKE_GROUP,
    Instruments,
    Marks,
    Positions,
    margin_order,
)
from margin.presets.preset import NamedRate
from margin.valuation import option_marks
from tests.oracles.case_files import Kind, Outcome
from tests.oracles.case_inputs import (
    E6,
    E8,
    E9,
    column,
    finest_exponent,
    finest_lot_e8,
    scaled,
    understood,
)

COINS = ("ETH", "BTC")
SETTLEMENT_SECONDS = 3600
"""Within its last hour an option is valued at the settlement price, which is partly fixed."""

MARKET = (
    "params", "Cash", "Perps_ETH", "Perps_BTC", "wETH", "wBTC", "LastEntryETH", "LastEntryBTC",
    "ETHGlobalFundingIndex", "BTCGlobalFundingIndex", "AccountETHFundingIndex",
    "AccountBTCFundingIndex", "ETHSpotPrice", "BTCSpotPrice", "SpotPerpConfidences", "USDCValue",
    "PerpPrice", "OptionUnderlying", "OptionStrikes", "OptionIsCall", "OptionAmounts",
    "OptionVols", "OptionVolConfidences", "OptionExpiries_sec", "Forwards", "ForwardConfidences",
    "FeedExpiries_sec",
)  # fmt: skip
ALSO = ("SettlementPriceETH", "SettlementPriceBTC", "PercentFixedETH", "PercentFixedBTC",
        "TWAP_ETH", "TWAP_BTC", "SpotPrice")  # fmt: skip


def _constants(table: dict[str, Any]) -> Standard:
    """The constants of a case; coin keeps `base_margin_factor` of its value."""
    understood(
        table, "maxS", "minS", "mmC", "mmP", "mmPM", "uIM", "uMM", "off", "perp_mm", "perp_im",
        "oracle", "depeg", "base_margin_factor", "base_im_scale",
    )  # fmt: skip
    ppb = {key: scaled(value, E9) for key, value in table.items() if not isinstance(value, dict)}
    oracle, depeg = table["oracle"], table["depeg"]
    return Standard(
        name="case",
        perpetual=Levels(maintenance_ppb=ppb["perp_mm"], initial_ppb=ppb["perp_im"]),
        short_option=ShortOption(
            call_maintenance_ppb=ppb["mmC"],
            put_maintenance_ppb=ppb["mmP"],
            put_maintenance_of_mark_ppb=ppb["mmPM"],
            initial_most_ppb=ppb["maxS"],
            initial_least_ppb=ppb["minS"],
            put_initial_over_maintenance_ppb=ppb["off"],
        ),
        unpaired_call=Levels(maintenance_ppb=ppb["uMM"], initial_ppb=ppb["uIM"]),
        oracle=Threshold(threshold_e9=scaled(oracle["th"], E9), factor_ppb=scaled(oracle["f"], E9)),
        depeg=Threshold(
            threshold_e9=scaled(depeg["threshold"], E9), factor_ppb=scaled(depeg["factor"], E9)
        ),
        coin=CoinCollateral(initial_scale_ppb=ppb["base_im_scale"]),
        haircut=(
            NamedRate(name="USDC", rate_e9=0),
            NamedRate(name="default", rate_e9=E9 - ppb["base_margin_factor"]),
        ),
    )


@dataclass
class _Listing:
    """Rows of instruments with marks and the size held, as they are met."""

    kind: list[int] = field(default_factory=list)
    unit: list[int] = field(default_factory=list)
    expiry_ns: list[int] = field(default_factory=list)
    strike_e8: list[int] = field(default_factory=list)
    forward_e8: list[int] = field(default_factory=list)
    volatility_e9: list[int] = field(default_factory=list)
    confidence_ppb: list[int] = field(default_factory=list)
    size: list[Decimal] = field(default_factory=list)

    def add(self, size: Any, **row: int) -> None:
        """One more holding; the second of the same instrument adds to the first."""
        keys = ("kind", "unit", "expiry_ns", "strike_e8")
        for at in range(len(self.kind)):
            if all(getattr(self, key)[at] == row[key] for key in keys):
                self.size[at] += Decimal(size)
                return
        self.size.append(Decimal(size))
        for key, value in row.items():
            getattr(self, key).append(value)


def _listing(inputs: dict[str, Any]) -> _Listing:
    listing = _Listing()
    for at, coin in enumerate(inputs["OptionUnderlying"]):
        seconds = inputs["OptionExpiries_sec"][at]
        feed = next(
            k
            for k, expiry in enumerate(inputs["FeedExpiries_sec"])
            if expiry == seconds and inputs["OptionUnderlying"][k] == coin
        )
        forward = inputs["Forwards"][feed]
        if seconds < SETTLEMENT_SECONDS:
            forward = inputs[f"SettlementPrice{coin}"]
        sure = min(inputs["ForwardConfidences"][feed], inputs["OptionVolConfidences"][at])
        listing.add(
            inputs["OptionAmounts"][at],
            kind=LINEAR_CALL if inputs["OptionIsCall"][at] else LINEAR_PUT,
            unit=COINS.index(coin),
            expiry_ns=scaled(seconds, NS_PER_SECOND),
            strike_e8=scaled(inputs["OptionStrikes"][at], E8),
            forward_e8=scaled(forward, E8),
            volatility_e9=scaled(inputs["OptionVols"][at], E9),
            confidence_ppb=scaled(sure, E9),
        )
    for unit, coin in enumerate(COINS):
        if inputs[f"Perps_{coin}"]:
            listing.add(
                inputs[f"Perps_{coin}"],
                kind=LINEAR, unit=unit, expiry_ns=NEVER_NS, strike_e8=0,
                forward_e8=scaled(inputs["PerpPrice"][unit], E8), volatility_e9=0,
                confidence_ppb=scaled(inputs["SpotPerpConfidences"][unit][1], E9),
            )  # fmt: skip
    return listing


def _cash(inputs: dict[str, Any]) -> Decimal:
    """USDC with unsettled profit and funding of the perpetuals, which become cash each cycle."""
    cash = Decimal(inputs["Cash"])
    for unit, coin in enumerate(COINS):
        size = Decimal(inputs[f"Perps_{coin}"])
        if size:
            moved = Decimal(inputs["PerpPrice"][unit]) - Decimal(inputs[f"LastEntry{coin}"])
            funding = Decimal(inputs[f"Account{coin}FundingIndex"]) - Decimal(
                inputs[f"{coin}GlobalFundingIndex"]
            )
            cash += size * (moved + funding)
    return cash


def derive_standard_margin(inputs: dict[str, Any]) -> Outcome:
    """Net margins (equity less requirement) and the value of everything at the mark."""
    understood(inputs, *MARKET, optional=ALSO)
    standard, listing = _constants(inputs["params"]), _listing(inputs)
    spot = [Decimal(inputs[f"{coin}SpotPrice"]) for coin in COINS]
    instruments, lots = _instruments(listing)
    index_e8 = column(scaled(price, E8) for price in spot)
    forward_e8 = column(listing.forward_e8)
    marks = Marks(0, index_e8, forward_e8.copy(), forward_e8, column(listing.volatility_e9),
                  column(0 for _ in lots))  # fmt: skip
    premium_e8 = option_marks(instruments, marks)
    marks.mark_e8[instruments.is_option()] = premium_e8[instruments.is_option()]
    feeds = Feeds(
        stable_e9=scaled(inputs["USDCValue"], E9),
        index_confidence_ppb=column(scaled(c[0], E9) for c in inputs["SpotPerpConfidences"]),
        confidence_ppb=column(listing.confidence_ppb),
    )
    haircut = column([0] + [standard.haircut_ppb(coin) for coin in COINS])
    exponent = column([finest_exponent(loss_multiple(standard))] * len(COINS))
    coin_minor = column(scaled(inputs[f"w{coin}"], E8) for coin in COINS).reshape(1, 2)
    order = margin_order(instruments)
    positions = Positions(column([0, len(order)]), order, lots[order], coin_minor)
    positions.validate(instruments)
    table = standard_table(standard, instruments, marks, feeds, haircut[1:], exponent)
    margins = pool_margins(table, positions)

    cash = np.concatenate([[[scaled(_cash(inputs), E6)]], coin_minor], axis=1)
    options = np.zeros_like(cash)
    options[0, 0] = sum(
        int(q) * int(lot) * int(price) // (E8 * E8 // E6)
        for q, lot, price in zip(lots, instruments.lot_e8, premium_e8, strict=True)
    )
    stable = Decimal(inputs["USDCValue"])
    worth = equity(cash, options, column([E8, *index_e8.tolist()]), haircut)[0]
    in_stable = column([E8, *(scaled(price / stable, E8) for price in spot)])
    at_mark = equity(cash, options, in_stable, np.zeros_like(haircut))[0]
    gross = sum(
        (abs(size) * spot[unit] for size, unit in zip(listing.size, listing.unit, strict=True)),
        sum(abs(Decimal(inputs[f"w{coin}"])) * price
            for coin, price in zip(COINS, spot, strict=True)),
    )  # fmt: skip
    figures = {
        "IM": Decimal(int(worth - margins.initial_minor[0])) / E6,
        "MM": Decimal(int(worth - margins.maintenance_minor[0])) / E6,
        "MTM": Decimal(int(at_mark)) / E6,
    }
    return Outcome(figures, Kind.ENGINE, gross_notional=Decimal(gross))


def _instruments(listing: _Listing) -> tuple[Instruments, Int64Array]:
    """What is held, in the finest lot that its sizes need, and how many lots of each."""
    lot_e8 = finest_lot_e8(listing.size)
    strikes = list(zip(listing.unit, listing.expiry_ns, listing.strike_e8, strict=True))
    number = {strike: at for at, strike in enumerate(dict.fromkeys(strikes))}
    group = [
        NO_STRIKE_GROUP if kind == LINEAR else number[strike]
        for kind, strike in zip(listing.kind, strikes, strict=True)
    ]
    instruments = Instruments(
        column(listing.kind), column(listing.unit), column(listing.expiry_ns),
        column(listing.strike_e8), column(lot_e8 for _ in group), column(group),
    )  # fmt: skip
    instruments.validate(len(COINS))
    return instruments, column(scaled(size, E8) // lot_e8 for size in listing.size)
