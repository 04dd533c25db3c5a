"""Counts what happened in a market, from the events of its commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exchange.core.commands import Command, Revalue
from exchange.core.engine import Engine
from exchange.core.events import (
    AccountOpened,
    Attested,
    CallChanged,
    Deleveraged,
    Event,
    Filled,
    FundingApplied,
    InstrumentSettled,
    LayerPaid,
    LiquidationStep,
    OrderAccepted,
    Printed,
    Rejected,
    ShortfallOpen,
)
from exchange.core.stored.ledger import House
from exchange.core.venue import lot_notional_minor
from margin.default.margin_call import CallOutcome
from margin.fixed_point import USDC_SCALE


@dataclass
class Counts:
    """What is counted, for a whole run or for one cycle. Volumes are minor USDC (10^-6)."""

    orders: int = 0
    refused: int = 0
    prints: int = 0
    fills: int = 0
    volume_minor: int = 0
    margin_calls: int = 0
    margin_calls_cured: int = 0
    margin_calls_expired: int = 0
    breaches: int = 0
    liquidations: int = 0
    restored: int = 0
    fund_takeovers: int = 0
    adl_events: int = 0
    vm_haircuts: int = 0
    shortfalls: int = 0
    attestations: int = 0
    funding_paid: int = 0
    contracts_settled: int = 0
    layers_minor: dict[str, int] = field(default_factory=dict)


class Tally:
    """A listener of the sequencer: totals of the run, counts of the running cycle."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.total, self.cycle = Counts(), Counts()
        self.last_cycle = Counts()
        self.accounts = 0
        self.fund_start_minor = 0
        self.fund_low_minor = 0
        self.expiries: set[tuple[int, int]] = set()

    def take(self, command: Command, events: list[Event]) -> None:
        """Count the events of one command."""
        for event in events:
            count = COUNTERS.get(type(event))
            if count is not None:
                count(self, event)
        if isinstance(command, Revalue):
            fund = self.fund_minor
            if command.cycle == 0:
                self.fund_start_minor = self.fund_low_minor = fund
            self.fund_low_minor = min(self.fund_low_minor, fund)
            self.last_cycle, self.cycle = self.cycle, Counts()

    @property
    def fund_minor(self) -> int:
        """Equity of the insurance fund at the last marks, in minor USDC."""
        return self.engine.risk.equity_of(int(House.INSURANCE), haircut=False)

    def add(self, name: str, by: int = 1) -> None:
        """Count something for the run and for the cycle."""
        for counts in (self.total, self.cycle):
            setattr(counts, name, getattr(counts, name) + by)

    def _accepted(self, event: OrderAccepted) -> None:
        if not event.repeated:
            self.add("orders")

    def _opened(self, event: AccountOpened) -> None:
        self.accounts += 1

    def _printed(self, event: Printed) -> None:
        state = self.engine.state
        for slot, ticks, lots in zip(
            event.instruments.tolist(), event.price_ticks.tolist(), event.volume_lots.tolist(),
            strict=True,
        ):  # fmt: skip
            if not lots:
                continue
            spec = state.contracts.specs[slot]
            price_e8 = ticks * spec.tick_e8
            if state.contracts.is_option_slot(slot):  # notional, not premium
                price_e8 = int(state.marks.index_e8[spec.underlying])
            self.add("prints")
            self.add("volume_minor", lots * lot_notional_minor(spec, price_e8))

    def _filled(self, event: Filled) -> None:
        self.add("fills", len(event.order_id))

    def _call(self, event: CallChanged) -> None:
        name = CALLS.get(event.outcome)
        if name is not None:
            self.add(name)

    def _step(self, event: LiquidationStep) -> None:
        name = STEPS.get(event.step)
        if name is not None:
            self.add(name)

    def _layer(self, event: LayerPaid) -> None:
        for counts in (self.total, self.cycle):
            paid = counts.layers_minor.get(event.layer, 0)
            counts.layers_minor[event.layer] = paid + event.amount_minor
        if event.layer == "gains_haircut":
            self.add("vm_haircuts")

    def _funding(self, event: FundingApplied) -> None:
        # Every perpetual crosses the same boundaries: the payments of one are those of the venue.
        more = self.engine.state.marks.funding_payments - self.total.funding_paid
        self.add("funding_paid", more)

    def _settled(self, event: InstrumentSettled) -> None:
        spec = self.engine.state.contracts.specs[event.instrument]
        self.expiries.add((spec.underlying, spec.expiry_ns))
        self.add("contracts_settled")

    def summary(self) -> dict[str, Any]:
        """Totals, with proofs: trial balance and sum of positions are 0 if nothing was lost."""
        state, total = self.engine.state, self.total
        lots = np.zeros(len(state.contracts), np.int64)
        np.add.at(lots, state.positions.instrument, state.positions.lots)
        return {
            "cycles": state.cycle,
            "accounts": self.accounts,
            "orders": total.orders,
            "refused": total.refused,
            "prints": total.prints,
            "fills": total.fills,
            "volume": total.volume_minor // USDC_SCALE,
            "margin_calls": total.margin_calls,
            "margin_calls_cured": total.margin_calls_cured,
            "margin_calls_expired": total.margin_calls_expired,
            "breaches": total.breaches,
            "liquidations": total.liquidations,
            "liquidations_restored": total.restored,
            "fund_start_minor": self.fund_start_minor,
            "fund_low_minor": self.fund_low_minor,
            "fund_end_minor": self.fund_minor,
            "fund_takeovers": total.fund_takeovers,
            "layers_minor": dict(sorted(total.layers_minor.items())),
            "adl_events": total.adl_events,
            "vm_haircuts": total.vm_haircuts,
            "shortfalls": total.shortfalls,
            "attestations": total.attestations,
            "funding_paid": total.funding_paid,
            "expiries_settled": len(self.expiries),
            "contracts_settled": total.contracts_settled,
            "trial_balance": sum(abs(x) for x in state.ledger.trial_balance()),
            "positions_sum": int(np.abs(lots).sum()),
            "state_hash": state.last_hash.hex(),
        }


CALLS = {
    CallOutcome.ISSUED: "margin_calls",
    CallOutcome.CURED: "margin_calls_cured",
    CallOutcome.EXPIRED: "margin_calls_expired",
    CallOutcome.BREACHED: "breaches",
}
STEPS = {"opened": "liquidations", "restored": "restored", "taken over": "fund_takeovers"}
COUNTERS: dict[type[Event], Any] = {
    OrderAccepted: Tally._accepted,
    Rejected: lambda tally, event: tally.add("refused"),
    AccountOpened: Tally._opened,
    Printed: Tally._printed,
    Filled: Tally._filled,
    CallChanged: Tally._call,
    LiquidationStep: Tally._step,
    LayerPaid: Tally._layer,
    Attested: lambda tally, event: tally.add("attestations"),
    Deleveraged: lambda tally, event: tally.add("adl_events"),
    ShortfallOpen: lambda tally, event: tally.add("shortfalls"),
    FundingApplied: Tally._funding,
    InstrumentSettled: Tally._settled,
}
