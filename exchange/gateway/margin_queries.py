"""Requests about margin that change nothing: an order's, other positions', the reasons for it.

They work on a copy: what is asked about is copied out of the engine's state at once, and what takes
long is then computed from the copy alone, on a thread of its own where the server gives one
(`executor`), so that the engine never waits. Without one (in process, on simulated time) it is
computed at once, and the same clients get the same answers in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from decimal import Decimal
from functools import partial
from typing import NamedTuple

import msgspec
import numpy as np

from exchange.core.elsewhere.outside_credit import Reading
from exchange.core.engine import Engine
from exchange.core.orders.admission import refusal_of_contract
from exchange.core.orders.loss import OrderLoss
from exchange.core.orders.risk_gate import RiskGate
from exchange.core.reject_reason import RejectReason
from exchange.core.risk.early_warning import call_chance, predictive_of
from exchange.core.stored.marks import IndexState
from exchange.core.stored.orders import INSTRUMENT_SHIFT
from exchange.core.stored.state import State
from exchange.core.venue import USDC
from exchange.gateway import query_parameters as q
from exchange.gateway.account_view import currency_of
from exchange.gateway.errors import CODES, WireError, invalid_params, refused
from exchange.gateway.instrument_view import slot_of
from exchange.gateway.pool_book import pool_book, venue_inputs
from exchange.gateway.pool_view import own_pool
from exchange.gateway.queries import Query, account_of
from exchange.gateway.session import Session
from exchange.gateway.strict_json import JsonRefused, check_json
from exchange.gateway.units import (
    E8,
    amount_number,
    decimal_text,
    lots_of,
    multiple_of,
    price_number,
    ticks_of,
)
from exchange.sequencer import Sequencer
from margin.book import Book, positions_of, traded
from margin.forecasts.opening import opening_growth_ppb
from margin.invariant import Int64Array, check
from margin.models.venue_models import venue_model
from margin.portfolio import Positions
from margin.presets.preset import Preset
from margin.reasons.explain import STALE_INDEX, explain
from margin.reasons.explain_formula import (
    INPUTS,
    FormulaModel,
    FormulaRefused,
    explain_formula,
    prepared,
    refusal_of_name,
)
from margin.reasons.explanation import Explanation
from margin.reasons.parts import NOTHING_ELSEWHERE, Elsewhere

USDC_MINOR = 10**6
SIZES = "simulated_positions"
_ALONE: Int64Array = np.zeros(1, np.int64)
_sizes = msgspec.json.Decoder(q.Sizes).decode


class Question(NamedTuple):
    """A copy of what is asked about: nothing here is the engine's own.

    `exponent` None: the finest. The amounts as in `explain`.
    """

    model: Preset | FormulaModel
    book: Book
    exponent: int | None = None
    venue_initial_minor: int | None = None
    open_orders_minor: int = 0
    other_pools_minor: int = 0
    correlations_ppb: Int64Array | None = None
    growth_ppb: int = 10**9
    stale: bool = False
    elsewhere: Elsewhere = NOTHING_ELSEWHERE


class Credited(NamedTuple):
    """What is attested elsewhere counts for, and what of it stands behind the pool's margin.

    A pool that owes has no credit but its debts elsewhere.
    """

    attested_minor: int
    counted_minor: int


class MarginForecast(msgspec.Struct, frozen=True):
    """What a pool's own model forecasts of it over a horizon of so many cycles.

    `initial_minor`: the most initial margin that it needs in them; `call_probability_ppb`: that of
    a margin call within them. Open orders are left out.
    """

    horizon_cycles: int
    initial_minor: int
    call_probability_ppb: int


class PoolExplanation(Explanation, frozen=True):
    """An explanation of a pool of the venue, and its forecast where its own model has one."""

    forecast: MarginForecast | None = None


class MarginQueries:
    """Margins, simulations and explanations of any pool of the caller's."""

    def __init__(self, sequencer: Sequencer) -> None:
        self.sequencer = sequencer
        self.executor: Executor | None = None
        self._presets: dict[str, Preset] = {}

    @property
    def engine(self) -> Engine:
        """The engine, which is only read."""
        return self.sequencer.engine

    def queries(self) -> dict[str, Query]:
        """Method name -> what answers it."""
        return {
            "private/get_margins": self._margins,
            "private/simulate_portfolio": self._simulate,
            "private/explain_margin": self._explain,
        }

    def _compute(self, work: Callable[[], object]) -> object:
        if self.executor is None:
            return work()
        return asyncio.get_running_loop().run_in_executor(self.executor, work)

    def _pool(self, session: Session, named: int) -> int:
        """The pool that is asked about: the account's, or its sub-accounts'."""
        state = self.engine.state
        if not state.marks.is_open:
            raise refused(RejectReason.MARKET_NOT_OPEN)
        return own_pool(state, account_of(session), named)

    # One order

    def _margins(self, session: Session, params: q.MarginsParameters) -> dict[str, float]:
        """What the gate's rule asks with the order less what it asks without, either side."""
        engine, state = self.engine, self.engine.state
        slot = slot_of(state, params.instrument_name)
        reason = refusal_of_contract(state, slot)
        if reason:
            raise refused(reason)
        account = account_of(session)
        pool, reason = state.accounts.pool_for(account, slot, params.pool_id)
        if reason:
            raise refused(reason, param="pool_id")
        spec = state.contracts.specs[slot]
        lots, ticks = lots_of(spec, params.amount), ticks_of(spec, params.price)
        if lots > state.contracts.lots_max[slot]:
            raise refused(RejectReason.QUANTITY_TOO_LARGE, param="amount")
        if ticks > state.contracts.price_max[slot]:
            raise refused(RejectReason.PRICE_TOO_HIGH, param="price")
        gate = engine.gate
        if not state.venue.risk_gate:
            gate = RiskGate(state, engine.risk)
            value_e6 = engine.risk.holdings.value_e6
            gate.losses = [OrderLoss(state, model, value_e6) for model in engine.risk.models]
        orders = state.orders.of_pool(pool)
        without, _ = gate.requirement(pool, orders)
        added = []
        for side in (1, -1):
            row = [slot << INSTRUMENT_SHIFT, pool, side, ticks, lots, 0, 0, 0]
            new = np.array(row, np.int64).reshape(-1, 1)
            with_order, _ = gate.requirement(pool, np.concatenate((orders, new), axis=1))
            added.append(with_order - without)
        index_e8 = E8 if state.contracts.currency[slot] == USDC else int(
            state.marks.index_e8[spec.underlying]
        )  # fmt: skip
        low, high = state.collars.widest(slot, state.marks.reference_ticks(slot))
        return {
            "buy": added[0] * E8 / (USDC_MINOR * index_e8),
            "sell": added[1] * E8 / (USDC_MINOR * index_e8),
            "min_price": price_number(spec, low),
            "max_price": price_number(spec, min(high, state.contracts.price_max[slot])),
        }

    # Other positions, and reasons

    def _explain(self, session: Session, params: q.ExplainParameters) -> object:
        pool = self._pool(session, params.pool_id)
        question = self._question(pool, {}, params.model)
        own = question.model is self.engine.risk.model(pool).preset
        forecast = self._forecast(pool) if own else None
        return self._compute(partial(_explained, question, params.distances, forecast))

    def _forecast(self, pool: int) -> MarginForecast | None:
        """What the early warning would say of a pool as it stands: small enough to do at once."""
        state = self.engine.state
        section, chance = predictive_of(state, pool), call_chance(state, self.engine.risk, pool)
        if section is None or chance is None:
            return None
        return MarginForecast(section.cycles, chance.forecast_minor, chance.probability_ppb)

    def _simulate(self, session: Session, params: q.SimulateParameters) -> object:
        pool, state = self._pool(session, params.pool_id), self.engine.state
        currency = currency_of(state, params.currency)
        wanted = _wanted_lots(state, params)
        self._require_room(pool, wanted)
        held = self._lots(pool)
        if params.add_positions:
            changes = wanted
        else:
            changes = {slot: wanted.get(slot, 0) - held.get(slot, 0) for slot in {**held, **wanted}}
        for slot, lots in changes.items():
            if abs(held.get(slot, 0) + lots) > state.contracts.lots_max[slot]:
                name = state.contracts.specs[slot].name
                reason = RejectReason.POSITION_LIMIT
                raise refused(reason, f"{name}: the position is too large", SIZES)
        question = self._question(pool, changes, params.model)
        sizes = {
            spec.name: amount_number(spec, held.get(slot, 0) + changes.get(slot, 0))
            for slot, spec in enumerate(state.contracts.specs)
            if held.get(slot, 0) + changes.get(slot, 0)
        }
        price_e8 = int(self.engine.risk.holdings.index_e8[currency])
        named = {"pool_id": pool, "currency": state.venue.currencies()[currency],
                 "add_positions": params.add_positions, "positions": sizes}  # fmt: skip
        own = question.model is self.engine.risk.model(pool).preset
        credit = Credited(
            self.engine.risk.backing.credit.get(pool, 0) if own else 0,
            question.elsewhere.credit_minor,
        )
        return self._compute(lambda: _simulated(answer(question, False), named, price_e8, credit))

    def _require_room(self, pool: int, wanted: dict[int, int]) -> None:
        """Refuse positions that no order could bring into the pool, as the order would be."""
        accounts, specs = self.engine.state.accounts, self.engine.state.contracts.specs
        holder = accounts.owner_of[pool]
        for slot in (slot for slot, lots in wanted.items() if lots):
            reason = accounts.pool_for(holder, slot, pool)[1]
            if reason:
                raise refused(reason, f"{specs[slot].name}: {CODES[reason][2]}", SIZES)

    def _lots(self, pool: int) -> dict[int, int]:
        """A pool's positions that are not flat, by slot."""
        columns = self.engine.risk.holdings.columns_of(pool)
        rows = zip(columns.instrument.tolist(), columns.quantity_lots.tolist(), strict=True)
        return {slot: lots for slot, lots in rows if lots}

    def _model(self, name: str, own: Preset, book: Book) -> Preset | FormulaModel:
        """The model that is asked for, which must be able to margin the book."""
        if name in ("", own.name):
            return own
        if refusal_of_name(name):
            raise _no_model(refusal_of_name(name))
        if name in INPUTS:
            formula = FormulaModel(name, venue_inputs(self.engine.state, name))
            try:
                prepared(formula, book)
            except FormulaRefused as error:
                raise _no_model(str(error)) from None
            return formula
        if name not in self._presets:
            self._presets[name] = venue_model(name)
        return self._presets[name]

    def _opening_growth(self, asked: Preset | FormulaModel, book: Book) -> int:
        """What the floor of a model that does not charge forecasts: it has seen no market."""
        if isinstance(asked, FormulaModel):
            return 10**9
        interval_ns = self.engine.state.venue.interval_ns
        return opening_growth_ppb(asked, book.risk_classes, book.marks.now_ns, interval_ns)

    def _question(self, pool: int, changes: dict[int, int], model: str) -> Question:
        """Copy what is asked about: the pool after trades of `changes` (slot -> lots) at marks."""
        engine, state = self.engine, self.engine.state
        risk, contracts = engine.risk, state.contracts
        held = self._lots(pool)
        slots = sorted({**held, **changes}, key=lambda slot: int(contracts.rank[slot]))
        book = pool_book(engine, pool, slots, [held.get(slot, 0) for slot in slots])
        for slot, lots in changes.items():
            book = traded(book, slots.index(slot), lots)
        charged_by = risk.model(pool)
        asked = self._model(model, charged_by.preset, book)
        if asked is not charged_by.preset:
            return Question(asked, book, growth_ppb=self._opening_growth(asked, book))
        after = [row for row, lots in enumerate(book.quantity_lots.tolist()) if lots]
        before = risk.holdings.columns_of(pool)
        columns = Positions(
            pool_start=np.array([0, len(after)], np.int64),
            instrument=np.array([slots[row] for row in after], np.int64),
            quantity_lots=np.ascontiguousarray(book.quantity_lots[after]),
            coin_minor=positions_of(book).coin_minor,
        )
        needed, _ = charged_by.needed(columns, _ALONE)
        elsewhere = NOTHING_ELSEWHERE
        if pool in risk.backing.credit:
            credit = risk.backing.of(pool) - int(risk.equity[pool])
            elsewhere = Elsewhere(credit, *risk.backing.shift(pool, Reading.NOW, columns))
        # where anything elsewhere moves the requirement, nothing is offset
        offset = elsewhere[1:] == NOTHING_ELSEWHERE[1:]
        rho_ppb = charged_by.correlations_ppb if offset else None
        # of what stands, what the owner's other pools add to the size of this one
        alone = charged_by.charged(before, _ALONE)
        others = risk.need(pool).add_on_minor - int(alone.add_on_minor[0])
        orders, of_orders = state.orders.of_pool(pool), 0
        if orders.shape[1] and state.venue.risk_gate:
            # the gate trusts no offset: with orders it is not charged
            charged = charged_by.charged(columns, _ALONE) if offset else None
            found = charged.requirements if charged else charged_by.requirements(columns)
            initial = found.initial_minor[0] - (charged.add_on_minor[0] if charged else 0)
            with_orders, _ = charged_by.with_orders(columns, engine.gate.open_orders(pool, orders))
            of_orders = with_orders - int(initial)
        stale = any(index != IndexState.FRESH for index in state.marks.index_state)
        return Question(
            asked, book, charged_by.exponent, int(needed.initial_minor[0]), of_orders, others,
            None if rho_ppb is None else rho_ppb.copy(), charged_by.charged_growth_ppb, stale,
            elsewhere,
        )  # fmt: skip


def answer(question: Question, distances: bool) -> Explanation:
    """The explanation of a copy; reads nothing else, so it may run on any thread."""
    if isinstance(question.model, FormulaModel):
        return explain_formula(question.model, question.book, distances=distances)
    found = explain(
        question.model, question.book, exponent=question.exponent, distances=distances,
        venue_initial_minor=question.venue_initial_minor,
        open_orders_minor=question.open_orders_minor,
        other_pools_minor=question.other_pools_minor,
        correlations_ppb=question.correlations_ppb, growth_ppb=question.growth_ppb,
        elsewhere=question.elsewhere,
    )  # fmt: skip
    widened = any(charge.name == STALE_INDEX for charge in found.charges)
    check(question.stale or not widened, "the venue asks what its model asks")
    return found


def _explained(
    question: Question, distances: bool, forecast: MarginForecast | None
) -> PoolExplanation:  # fmt: skip
    found = answer(question, distances)
    parts = {name: getattr(found, name) for name in Explanation.__struct_fields__}
    return PoolExplanation(**parts, forecast=forecast)


def _no_model(reason: str) -> WireError:
    data: dict[str, object] = {"reason": reason, "param": "model"}
    return WireError(11029, "invalid_arguments", data)


def _wanted_lots(state: State, params: q.SimulateParameters) -> dict[int, int]:
    """Signed lots by slot of the sizes that are simulated."""
    sizes = params.simulated_positions
    if isinstance(sizes, str):
        try:
            check_json(sizes or "{}")
            sizes = _sizes(sizes or "{}")
        except (JsonRefused, msgspec.DecodeError, RecursionError) as error:
            raise invalid_params(f"{SIZES}: {error}", SIZES) from None
    return {slot_of(state, name, SIZES): _lots(state, name, size) for name, size in sizes.items()}


def _lots(state: State, name: str, size: Decimal) -> int:
    spec = state.contracts.specs[slot_of(state, name)]
    lots = multiple_of(size, spec.lot_e8) if size.is_finite() else None
    if lots is None:
        reason = f"{name}: the size must be a multiple of {decimal_text(spec.lot_e8)}"
        data: dict[str, object] = {"reason": reason, "param": SIZES}
        raise WireError(10021, "invalid_amount", data)
    return lots


def _simulated(
    found: Explanation, named: dict[str, object], price_e8: int, credit: Credited
) -> dict[str, object]:  # fmt: skip
    """An explanation's main figures under Deribit's names, in a currency of this price.

    The explanation's equity holds the credit that counts; a margin balance is without.
    """
    amounts = {
        "margin_balance": found.equity_minor - credit.counted_minor,
        "available_funds": max(0, found.equity_minor - found.initial_minor),
        "attested_credit": credit.attested_minor,
        "initial_margin": found.initial_minor,
        "maintenance_margin": found.maintenance_minor,
        "open_orders_margin": found.initial_minor - found.call_initial_minor,
    }
    return {
        **named,
        "model": found.model,
        **{name: minor * E8 / (USDC_MINOR * price_e8) for name, minor in amounts.items()},
        **{
            f"total_{name}_usd": amounts[name] / USDC_MINOR
            for name in ("margin_balance", "initial_margin", "maintenance_margin")
        },
        "worst_scenarios": [
            {"underlying": unit.unit, "scenario": unit.worst.name,
             "loss": unit.loss_minor / USDC_MINOR}
            for unit in found.units
            if unit.worst is not None
        ],
    }  # fmt: skip
