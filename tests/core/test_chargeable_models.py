"""A venue charged by scenarios, by rules or by dates of the past: the gate keeps its promises."""

from __future__ import annotations

import random

import numpy as np
import pytest

from exchange.core.reject_reason import RejectReason
from exchange.core.risk.history_model import HistoryModel
from exchange.core.risk.model import RiskModel
from exchange.core.risk.models import risk_model
from exchange.core.risk.standard_model import StandardModel
from exchange.core.stored.ledger import HOUSE_POOLS
from exchange.core.stored.orders import INSTRUMENT_SHIFT, MARKET, ORDER_ID
from margin.invariant import Int64Array
from margin.models.venue_models import venue_model
from margin.portfolio import Positions
from margin.scenarios.grid import COIN_STEP_MINOR
from tests.core.charged_story import charged_venue
from tests.core.market import CALL, COIN_CALL, E8, PUT, Market, small
from tests.core.random_story import Story, story_venue

MODELS = ["standard", "fhs-es", "ps-1", "deribit"]
OWN = ["standard", "fhs-es"]
_MARKETS: dict[tuple[str, int], Market] = {}


def moved(name: str, seed: int) -> Market:
    """A market under a model at fractional marks, with positions and orders; tests only read it."""
    if (name, seed) not in _MARKETS:
        market = Market(charged_venue(name), seed=seed)
        story = Story(market, seed)
        for _ in range(5):
            for _ in range(60):
                market.apply(story.pick())
            market.seal(story.move())
            market.uncross()
            market.revalue()
        _MARKETS[name, seed] = market
    return _MARKETS[name, seed]


def some_orders(market: Market, pool: int, chance: random.Random, count: int) -> Int64Array:
    """Orders of a pool as columns: near the mark and far, both sides, a few at the market."""
    rows = []
    for n in range(count):
        slot = chance.randrange(9)
        reference = market.state.marks.reference_ticks(slot)
        price = max(1, int(reference * chance.uniform(0.8, 1.25)))
        price = price if chance.random() < 0.9 else 0
        flags = MARKET if price == 0 else 0
        rows.append((slot << INSTRUMENT_SHIFT | n + 1, pool, chance.choice([1, -1]), price,
                     chance.randrange(1, 400), flags, 0, n))  # fmt: skip
    return np.array(rows, np.int64).reshape(-1, 8).T.copy()


def pools_with_positions(market: Market) -> list[int]:
    held = np.unique(market.state.positions.pool)
    return [pool for pool in held.tolist() if pool >= HOUSE_POOLS]


def after(market: Market, pool: int, rows: Int64Array) -> tuple[int, int]:
    """Initial margin of a pool once all of `rows` filled at their limits, and what these gain."""
    risk, gate = market.engine.risk, market.engine.gate
    model, loss, columns = risk.model(pool), gate.loss_of(pool), risk.holdings.columns_of(pool)
    lots = dict(zip(columns.instrument.tolist(), columns.quantity_lots.tolist(), strict=True))
    coins, gain_quanta = columns.coin_minor.copy(), 0
    for at in range(rows.shape[1]):
        slot, side = int(rows[ORDER_ID, at]) >> INSTRUMENT_SHIFT, int(rows[2, at])
        size, price = int(rows[4, at]), loss.price_met(slot, side, int(rows[3, at]))
        lots[slot] = lots.get(slot, 0) + side * size
        if loss.rows[slot].inverse:
            quanta, coin_e6 = loss.coin_terms(slot, side, price)
            unit, paid = (
                int(risk.state.contracts.columns.unit[slot]),
                side * coin_e6 * size // 10**6,
            )
            coins[0, unit] += paid
            gain_quanta += paid * int(model.matrix.coin_value[unit]) // COIN_STEP_MINOR
            gain_quanta += side * size * quanta
        else:
            gain_quanta -= size * loss.at_once(slot, side, price)
    slots = sorted(lots, key=lambda slot: int(market.state.contracts.rank[slot]))
    held = Positions(np.array([0, len(slots)], np.int64), np.array(slots, np.int64),
                     np.array([lots[slot] for slot in slots], np.int64), coins)  # fmt: skip
    return int(model.requirements(held).initial_minor[0]), gain_quanta >> model.exponent


@pytest.mark.parametrize("name", MODELS)
def test_a_preset_names_its_model(name: str) -> None:
    kinds = {"standard": StandardModel, "fhs-es": HistoryModel}
    preset = venue_model(name)
    assert type(risk_model(story_venue(preset=preset), preset)) is kinds.get(name, RiskModel)


def test_a_model_that_is_only_asked_about_keeps_its_own_ranges() -> None:
    """The venue remembers ranges of one deviation; another model's are of several."""
    market = moved("fhs-es", 0)
    asked = risk_model(market.venue, venue_model("ps-1"))
    asked.reprice(market.state, market.engine.risk.layout)
    assert asked.preset == venue_model("ps-1")


def test_pools_of_these_markets_need_long_horizons_and_orders_lengthen_them() -> None:
    """So that what follows is about longer horizons, too, and about orders that lengthen them."""
    market, chance = moved("fhs-es", 0), random.Random(0)
    model, gate = market.engine.risk.models[0], market.engine.gate
    assert isinstance(model, HistoryModel)
    held, with_orders = set(), set()
    for pool in pools_with_positions(market):
        columns = market.engine.risk.holdings.columns_of(pool)
        rows = some_orders(market, pool, chance, 3)
        before = model.horizons(columns)[0]
        after_fills = model.horizons_with(columns, gate.open_orders(pool, rows))
        assert (after_fills >= before).all()
        held.add(int(before[1]))
        with_orders.add(int(after_fills[1] - before[1]))
    assert {0, 2} <= held
    assert {0, 2} <= with_orders


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_the_bound_never_understates_the_rule(name: str, seed: int) -> None:
    """What admits most orders: the base of the headroom plus every order's own bound."""
    market, chance = moved(name, seed), random.Random(seed)
    gate, risk = market.engine.gate, market.engine.risk
    for pool in chance.choices(pools_with_positions(market), k=20):
        rows = some_orders(market, pool, chance, chance.randrange(1, 8))
        needed, fees = gate.requirement(pool, rows)
        base = int(risk.initial[pool] + risk.relief_minor[pool])
        assert needed + fees <= base + int(gate.loss_of(pool).bounds(rows).sum())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MODELS)
def test_the_rule_covers_any_of_the_orders_filling(name: str, seed: int) -> None:
    market, chance = moved(name, seed), random.Random(100 + seed)
    gate, risk = market.engine.gate, market.engine.risk
    for pool in chance.choices(pools_with_positions(market), k=20):
        rows = some_orders(market, pool, chance, chance.randrange(1, 7))
        needed = gate.requirement(pool, rows)[0] - int(risk.add_on_minor[pool])
        for _ in range(8):
            filled = [at for at in range(rows.shape[1]) if chance.random() < 0.6]
            initial, gain = after(market, pool, rows[:, filled])
            assert initial - gain <= needed + 2 + len(filled), (pool, filled)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", MODELS)
def test_without_orders_the_rule_is_the_requirement(name: str, seed: int) -> None:
    market = moved(name, seed)
    risk, none = market.engine.risk, np.zeros((8, 0), np.int64)
    assert pools_with_positions(market)
    for pool in pools_with_positions(market):
        assert market.engine.gate.requirement(pool, none) == (int(risk.initial[pool]), 0)


@pytest.mark.parametrize("name", OWN)
def test_the_gate_decides_by_the_rule(name: str) -> None:
    """An account is admitted exactly to where the rule, with all its orders, still fits."""
    market = Market(story_venue(preset=venue_model(name)), seed=5)
    chance, gate = random.Random(5), market.engine.gate
    ann = market.account("ann", 4_000)
    pool, admitted = market.pool(ann), 0
    for _ in range(80):
        rows = some_orders(market, pool, chance, 1)
        slot, side, price, lots = int(rows[0, 0]) >> INSTRUMENT_SHIFT, *rows[2:5, 0].tolist()
        lots = max(1, lots // 20)
        rows[4, 0] = lots
        before = market.state.orders.of_pool(pool)
        both = np.concatenate((before, rows), axis=1)
        with_order, fees = gate.requirement(pool, both)
        without, _ = gate.requirement(pool, before)
        fits = market.equity(ann) - fees >= with_order or with_order <= without
        reason = gate.admit(pool, slot, side, price, lots, False)
        assert (reason == RejectReason.NONE) == fits, (slot, side, price, lots)
        if fits:
            market.place(ann, side, lots, price, slot)
            admitted += 1
    assert 5 < admitted < 80


def test_the_bound_counts_on_no_spread_that_a_fill_may_end() -> None:
    """Ten calls short against ten coin-settled ones long need next to nothing at expiry; once ten
    puts are short too, the end is far worse than option by option, and the calls count in full."""
    market = Market(small(preset=venue_model("standard")))
    ann, bob = market.account("ann", 500_000, BTC=E8), market.account("bob", 500_000, BTC=10 * E8)
    for slot, buyer, seller in ((COIN_CALL, ann, bob), (CALL, bob, ann)):
        ticks = market.state.marks.reference_ticks(slot)
        market.trade(buyer, seller, 10, ticks, slot)
    pool, gate, risk = market.pool(ann), market.engine.gate, market.engine.risk
    alone = 10 * 1_000 * 10**6 * 15 // 100  # lots of 0.01 BTC: 15 % of 1,000 dollars each
    assert int(risk.initial[pool]) < alone // 10
    assert int(risk.relief_minor[pool]) > alone
    ticks = market.state.marks.reference_ticks(PUT)
    sale = np.array(
        [[PUT << INSTRUMENT_SHIFT | 1, pool, -1, ticks, 10, 0, 0, 0]], np.int64
    ).T.copy()
    needed, fees = gate.requirement(pool, sale)
    bound = int(gate.loss_of(pool).bounds(sale).sum())
    assert needed + fees <= int(risk.initial[pool] + risk.relief_minor[pool]) + bound
    assert needed > int(risk.initial[pool]) + bound, "the requirement alone is no base for a bound"


@pytest.mark.parametrize("name", MODELS)
def test_a_stale_index_widens_every_model(name: str) -> None:
    market = Market(small(preset=venue_model(name)))
    ann, bob = market.account("ann"), market.account("bob")
    market.trade(ann, bob, 100, 200_000)
    pool, initial = market.pool(ann), market.initial(ann)
    maintenance = market.maintenance(ann)
    market.age_ns[0] = 11 * 10**9
    market.cycle()
    assert market.initial(ann) == initial + 500 * 10**6, "5 % of 10,000"
    assert market.maintenance(ann) == maintenance
    none = np.zeros((8, 0), np.int64)
    assert market.engine.gate.requirement(pool, none)[0] == market.initial(ann)
