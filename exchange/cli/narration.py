"""Events in words: what the live view and `uncross show` print."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from exchange.core.auction.clearing import CLAMPED, INTERRUPTED
from exchange.core.events import (
    CallChanged,
    CreditAged,
    Deleveraged,
    Event,
    FundingApplied,
    InstrumentSettled,
    InstrumentsListed,
    LayerPaid,
    LiquidationStep,
    MarginWarned,
    Printed,
    ShortfallOpen,
    Transferred,
)
from exchange.core.stored.attestations import CreditStage
from exchange.core.stored.state import State
from exchange.core.venue import USDC, InstrumentSpec
from exchange.pool_names import pool_name
from margin.default.margin_call import CallOutcome
from margin.fixed_point import COIN_SCALE, USDC_SCALE
from margin.portfolio import INVERSE

E8 = 10**8


def clock_text(time_ns: int) -> str:
    """A venue time for people, UTC."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_ns // 1000)
    return moment.strftime("%d %b %Y %H:%M:%S")


def usdc(amount_minor: int, decimals: int = 2) -> str:
    """Minor USDC as USDC."""
    return f"{amount_minor / USDC_SCALE:,.{decimals}f}"


def decimal_text(value_e8: int) -> str:
    """An amount of 10^-8 as a plain decimal without needless zeros."""
    whole, part = divmod(abs(value_e8), E8)
    tail = f".{part:08d}".rstrip("0") if part else ""
    return f"{'-' if value_e8 < 0 else ''}{whole:,}{tail}"


def amount_text(spec: InstrumentSpec, lots: int) -> str:
    """A quantity in the contract's unit: USD for inverse contracts, else the coin."""
    unit = "USD" if spec.kind == INVERSE else spec.name.split("_")[0].split("-")[0]
    return f"{decimal_text(lots * spec.lot_e8)} {unit}"


def price_text(spec: InstrumentSpec, ticks: int) -> str:
    """A price of an instrument in ticks as a decimal."""
    return decimal_text(ticks * spec.tick_e8)


def _side(lots: int) -> str:
    return "long" if lots > 0 else "short"


def print_lines(state: State, event: Printed) -> Iterator[str]:
    """One line for each auction that traded, and for those held back by the collar."""
    for slot, code, ticks, lots, surplus in zip(
        event.instruments.tolist(), event.states.tolist(), event.price_ticks.tolist(),
        event.volume_lots.tolist(), event.surplus_lots.tolist(), strict=True,
    ):  # fmt: skip
        spec = state.contracts.specs[slot]
        if code == INTERRUPTED:
            yield f"{spec.name:<28} {price_text(spec, ticks):>14}  outside the collar: extended"
        if not lots:
            continue
        heavy = "balanced"
        if surplus:
            side = "buy" if surplus > 0 else "sell"
            heavy = f"{side} surplus {amount_text(spec, abs(surplus))}"
        clamped = ", at the collar" if code == CLAMPED else ""
        yield (
            f"{spec.name:<28} {price_text(spec, ticks):>14}  {amount_text(spec, lots):>18}  "
            f"{heavy}{clamped}"
        )


def call_line(state: State, event: CallChanged) -> str:
    """A change of a margin call."""
    who, amount = pool_name(state, event.pool), usdc(event.amount_minor)
    if event.outcome == CallOutcome.ISSUED:
        return f"{who} called for {amount} by cycle {event.deadline_cycle}"
    words = {
        CallOutcome.CURED: "cured its call",
        CallOutcome.EXPIRED: f"let its call run out, {amount} short",
        CallOutcome.BREACHED: f"fell below maintenance, {amount} short of initial margin",
    }
    return f"{who} {words.get(event.outcome, event.outcome.name.lower())}"


def warning_line(state: State, event: MarginWarned) -> str:
    """A margin call that is likely to come."""
    who, forecast = pool_name(state, event.pool), usdc(event.forecast_minor)
    likely = f"{event.probability_ppb / 10**7:.1f} %"
    return f"{who} is called with probability {likely}: margin forecast {forecast}"


def credit_line(state: State, event: CreditAged) -> str:
    """An attestation that began to decay, got too old, or came back."""
    words = {
        CreditStage.FRESH: "speaks again",
        CreditStage.DECAYING: "is silent",
        CreditStage.EXPIRED: "has been silent for too long",
    }
    who, said = pool_name(state, event.pool), words[CreditStage(event.stage)]
    counted = f"{usdc(event.credit_minor)} of {usdc(event.full_minor)} credited"
    return f"{event.outside_venue} {said} of {who}: {counted}"


def step_line(state: State, event: LiquidationStep) -> str:
    """A step of a liquidation case."""
    who = pool_name(state, event.pool)
    if event.instrument < 0:
        tail = f", equity {usdc(event.amount_minor)}" if event.step == "restored" else ""
        return f"{who}: case {event.step}{tail}"
    spec = state.contracts.specs[event.instrument]
    amount = amount_text(spec, abs(event.quantity_lots))
    if event.step == "taken over":
        paid = event.amount_minor
        money = f"fee {usdc(-paid)}" if paid < 0 else f"fund pays {usdc(paid)}"
        side = _side(event.quantity_lots)
        return f"{who}: insurance fund takes over {side} {amount} {spec.name}, {money}"
    verb = "buys" if event.quantity_lots > 0 else "sells"
    price = f" at {price_text(spec, event.price_ticks)} or better" if event.price_ticks else ""
    fee = f", liquidation fee {usdc(event.amount_minor)}" if event.amount_minor else ""
    return f"{who}: {event.step}, {verb} {amount} {spec.name}{price}{fee}"


def layer_line(state: State, event: LayerPaid) -> str:
    """What a layer of the waterfall paid."""
    who = pool_name(state, event.pool)
    if event.layer == "gains_haircut":
        return f"gains of {who} cut by {usdc(event.amount_minor)}"
    return f"{event.layer} pays {usdc(event.amount_minor)} of {who}'s deficit"


def deleveraged_line(state: State, event: Deleveraged) -> str:
    """A healthy pool closed against a defaulter."""
    spec = state.contracts.specs[event.instrument]
    return (
        f"{pool_name(state, event.pool)} deleveraged against {pool_name(state, event.defaulter)}: "
        f"{amount_text(spec, abs(event.quantity_lots))} {spec.name}, mark "
        f"{decimal_text(event.price_e8)}"
    )


def transfer_line(state: State, event: Transferred) -> str:
    """A deposit or withdrawal."""
    scale = USDC_SCALE if event.currency == USDC else COIN_SCALE
    amount = abs(event.amount_minor) / scale
    verb = "deposits" if event.amount_minor > 0 else "withdraws"
    name = state.accounts.names[event.account]
    return f"{name} {verb} {amount:,.2f} {state.venue.currencies()[event.currency]}"


def settled_line(state: State, event: InstrumentSettled) -> str:
    """An expired contract's settlement."""
    name = state.contracts.specs[event.instrument].name
    held = f"{event.positions} position{'s' * (event.positions != 1)}"
    return f"{name} expired at {decimal_text(event.settlement_e8)}, {held}"


def listed_line(state: State, event: InstrumentsListed) -> str:
    """New contracts."""
    first = state.contracts.specs[event.slots[0]].name
    return f"{len(event.slots)} contracts listed, {first} first"


def shortfall_line(state: State, event: ShortfallOpen) -> str:
    """A deficit that nobody paid."""
    return f"{pool_name(state, event.pool)}: {usdc(event.amount_minor)} unpaid"


def funding_line(state: State, event: FundingApplied) -> str:
    """A funding payment at a boundary of its period."""
    name = state.contracts.specs[event.instrument].name
    return f"{name} {event.rate_8h_e9 / 10**7:+.4f} % per 8 h"


NARRATORS: dict[type[Event], tuple[str, Callable[[State, Any], str]]] = {
    Transferred: ("transfers", transfer_line),
    InstrumentsListed: ("listings", listed_line),
    InstrumentSettled: ("expiries", settled_line),
    CallChanged: ("margin calls", call_line),
    MarginWarned: ("warnings", warning_line),
    CreditAged: ("credit", credit_line),
    LiquidationStep: ("liquidations", step_line),
    LayerPaid: ("layers", layer_line),
    Deleveraged: ("deleveraging", deleveraged_line),
    ShortfallOpen: ("shortfalls", shortfall_line),
}


def narrate(state: State, event: Event) -> tuple[str, str] | None:
    """(heading, line) of an event worth a line, or None."""
    if isinstance(event, FundingApplied):
        return ("funding", funding_line(state, event)) if event.payments else None
    found = NARRATORS.get(type(event))
    return None if found is None else (found[0], found[1](state, event))
