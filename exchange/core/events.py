"""Everything the engine can say. Events of many rows stay columns until somebody encodes them."""

from __future__ import annotations

import hashlib

import msgspec

from exchange.core.reject_reason import DoneReason, PostingCause, RejectReason
from margin.default.margin_call import CallOutcome
from margin.invariant import Int64Array


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something that happened."""


class Rejected(Event, frozen=True):
    """A request was refused and changed nothing."""

    reason: RejectReason
    text: str = ""


class VenueOpened(Event, frozen=True):
    """The venue exists; it trades after its first cycle."""

    name: str
    instruments: int


class AccountOpened(Event, frozen=True):
    """An account and its cross pool."""

    account: int
    pool: int
    name: str


class PoolOpened(Event, frozen=True):
    """A margin pool of an account; `kind` is a `layers.PoolKind`."""

    account: int
    pool: int
    kind: int
    instrument: int
    name: str


class PoolClosed(Event, frozen=True):
    """A pool that held nothing is gone."""

    account: int
    pool: int


class MarginMoved(Event, frozen=True):
    """Collateral went from one pool of an owner to another."""

    account: int
    from_pool: int
    to_pool: int
    currency: int
    amount_minor: int


class ModeSwitched(Event, frozen=True):
    """A contract fills into another pool from now on; position and orders that moved with it."""

    account: int
    instrument: int
    from_pool: int
    to_pool: int
    quantity_lots: int
    orders: int


class GuaranteePaid(Event, frozen=True):
    """A group's collateral covered what a pool lacked of its initial margin, or part of it."""

    pool: int
    group: int
    amount_minor: int


class Transferred(Event, frozen=True):
    """A deposit (positive) or withdrawal (negative)."""

    account: int
    currency: int
    amount_minor: int


class OrderAccepted(Event, frozen=True):
    """The order waits for the next auction; `repeated` if this client order id came before."""

    order_id: int
    account: int
    repeated: bool = False


class OrderEdited(Event, frozen=True):
    """New price and open quantity of an order."""

    order_id: int
    account: int
    price_ticks: int
    quantity_lots: int


class OrderDone(Event, frozen=True):
    """An order left the book with `open_lots` unfilled."""

    order_id: int
    account: int
    open_lots: int
    reason: DoneReason


class ColumnsApplied(Event, frozen=True):
    """What became of each row of `OrderColumns`: its order identifier and its reject reason."""

    order_ids: Int64Array
    reasons: Int64Array


class InstrumentsListed(Event, frozen=True):
    """Contracts that trade from now on, by slot."""

    slots: tuple[int, ...]


class InstrumentHalted(Event, frozen=True):
    """Auctions of an instrument stop, or resume."""

    instrument: int
    halted: bool


class BatchSealed(Event, frozen=True):
    """The order set of a batch: per instrument slot with orders, how many; and its digest."""

    batch: int
    time_ns: int
    instruments: Int64Array
    orders: Int64Array
    sealed: Int64Array  # the orders themselves, columns x n; never shown

    @property
    def root(self) -> bytes:
        """SHA-256 of the sealed orders: what the venue commits to before it computes."""
        return hashlib.sha256(self.sealed.tobytes()).digest()


class Printed(Event, frozen=True):
    """The outcome of each auction that had orders, one row an instrument (see `auction`)."""

    batch: int
    instruments: Int64Array
    states: Int64Array
    price_ticks: Int64Array
    volume_lots: Int64Array
    surplus_lots: Int64Array
    reference_ticks: Int64Array


class Filled(Event, frozen=True):
    """Fills, one row an order and print."""

    batch: int
    order_id: Int64Array
    pool: Int64Array
    instrument: Int64Array
    side: Int64Array
    price_ticks: Int64Array
    quantity_lots: Int64Array
    open_lots: Int64Array
    age_batch: Int64Array
    fee_minor: Int64Array


class OrdersDone(Event, frozen=True):
    """Orders that left the book in one step, for one reason each."""

    order_id: Int64Array
    pool: Int64Array
    open_lots: Int64Array
    reason: Int64Array


class Posted(Event, frozen=True):
    """Ledger postings of one cause: each row credits `pool` and debits `counter`."""

    cycle: int
    cause: PostingCause
    pool: Int64Array
    counter: Int64Array
    currency: Int64Array
    instrument: Int64Array
    amount_minor: Int64Array


class FundingApplied(Event, frozen=True):
    """Funding of one perpetual over the time since the last revaluation."""

    instrument: int
    rate_8h_e9: int
    per_lot_e12: int
    payments: int


class InstrumentSettled(Event, frozen=True):
    """An expired contract's settlement price, the index average of its last window."""

    instrument: int
    settlement_e8: int
    positions: int


class CallChanged(Event, frozen=True):
    """A margin call was issued, cured, expired or overtaken by a breach."""

    pool: int
    outcome: CallOutcome
    amount_minor: int
    deadline_cycle: int


class MarginWarned(Event, frozen=True):
    """A pool is likely to be called within the horizon that its margin model forecasts.

    `forecast_minor`: the initial margin it is forecast to need then.
    """

    pool: int
    probability_ppb: int
    forecast_minor: int


class Attested(Event, frozen=True):
    """An outside venue's word on an account was taken; `credit_minor`: what the pool's count for.

    All outside venues together, at the last marks; 0 before the first.
    """

    account: int
    pool: int
    outside_venue: str
    sequence: int
    observed_ns: int
    credit_minor: int


class CreditAged(Event, frozen=True):
    """A pool's attestation is fresh again, began to decay, or is too old: see `CreditStage`.

    `credit_minor`: what all attestations of the pool count for now, `full_minor`: what those within
    their age limit would, were they fresh.
    """

    pool: int
    outside_venue: str
    stage: int
    credit_minor: int
    full_minor: int


class LiquidationStep(Event, frozen=True):
    """One step of a liquidation case, in words of the waterfall."""

    pool: int
    step: str
    instrument: int = -1
    quantity_lots: int = 0
    price_ticks: int = 0
    amount_minor: int = 0


class LayerPaid(Event, frozen=True):
    """A layer of the default waterfall paid part of a pool's deficit."""

    pool: int
    layer: str
    amount_minor: int


class Deleveraged(Event, frozen=True):
    """A healthy pool's position was closed against a defaulting one."""

    pool: int
    defaulter: int
    instrument: int
    quantity_lots: int
    price_e8: int


class ShortfallOpen(Event, frozen=True):
    """A deficit that every layer together could not pay; withdrawals are frozen until it is."""

    pool: int
    amount_minor: int


class CycleClosed(Event, frozen=True):
    """The cycle's books balance; the hash proves the whole state."""

    cycle: int
    time_ns: int
    state_hash: bytes
