"""Expected shortfall by the size of a position: longer horizons, and what they do to the rest."""

from __future__ import annotations

import numpy as np
import pytest

from exchange.core import limits
from exchange.core.risk.history_model import HistoryModel
from exchange.core.stored.ledger import HOUSE_POOLS
from exchange.core.stored.orders import INSTRUMENT_SHIFT
from exchange.gateway.pool_book import pool_book
from margin.portfolio import Positions
from margin.reasons.explain import explain
from margin.reasons.explanation import Explanation
from margin.simulation.pools import UNKNOWN_VOLUME_MINOR
from tests.core.charged_story import charged_venue, play
from tests.core.market import Market, changed

ETH = 1


@pytest.fixture(scope="module")
def market() -> Market:
    """After five cycles, with pools whose ETH takes one day, two and more to close."""
    found = play("fhs-es", 1, 5)
    found.age_ns = [0] * len(found.age_ns)
    found.cycle()
    return found


def model_of(market: Market) -> HistoryModel:
    model = market.engine.risk.models[0]
    assert isinstance(model, HistoryModel)
    return model


def ether_perpetual(market: Market) -> int:
    of, option = market.state.contracts.columns, market.state.contracts.columns.is_option()
    slots = np.flatnonzero((of.unit == ETH) & ~option)
    return int(slots[0])


def one_pool(market: Market, lots: int) -> Positions:
    """One pool with a position in ETH alone."""
    units = len(market.venue.underlyings)
    rows = np.array([0, 1 if lots else 0], np.int64)
    held = np.array([ether_perpetual(market)][: rows[1]], np.int64)
    return Positions(rows, held, held * 0 + lots, np.zeros((1, units), np.int64))


def lots_a_day(market: Market) -> int:
    """What can be closed in a day: a tenth of the volume."""
    value = int(model_of(market).lot_minor[ether_perpetual(market)])
    return market.venue.underlyings[ETH].daily_volume_minor // 10 // value


def explained(market: Market, pool: int) -> Explanation:
    """The pool as `private/explain_margin` explains it."""
    risk = market.engine.risk
    columns = risk.holdings.columns_of(pool)
    book = pool_book(
        market.engine, pool, columns.instrument.tolist(), columns.quantity_lots.tolist()
    )
    model = model_of(market)
    needed, _ = model.needed(columns, np.zeros(1, np.int64))
    others = int(risk.initial[pool]) - int(needed.initial_minor[0])
    return explain(
        model.preset, book, exponent=model.exponent, distances=False,
        venue_initial_minor=int(needed.initial_minor[0]), other_pools_minor=others,
    )  # fmt: skip


def test_a_position_is_measured_over_the_days_that_it_takes_to_close(market: Market) -> None:
    model, day = model_of(market), lots_a_day(market)
    found = [int(model.horizons(one_pool(market, lots))[0, ETH])
             for lots in (0, day, day + 1, -2 * day, 2 * day + 2, 100 * day)]  # fmt: skip
    assert found == [0, 0, 1, 1, 2, 2], "one day, two, and never more than the longest"


def test_a_larger_position_never_needs_less_and_one_over_a_day_more_than_its_share(
    market: Market,
) -> None:
    model, day = model_of(market), lots_a_day(market)
    for sign in (1, -1):
        sizes = [1, day // 2, day, day + 1, 2 * day, 2 * day + 1, 3 * day]
        worst = [int(model.requirements(one_pool(market, sign * lots)).worst_minor[0])
                 for lots in sizes]  # fmt: skip
        assert worst == sorted(worst)
        assert worst[3] > 1.2 * worst[2], "one lot more takes another day"
        assert worst[4] < 2 * worst[3] + 2, "within a horizon by the lot"


def test_a_trade_and_its_opposite_leave_the_requirement_as_it_was(market: Market) -> None:
    model, day = model_of(market), lots_a_day(market)
    before = model.requirements(one_pool(market, day))
    model.requirements(one_pool(market, 3 * day))
    after = model.requirements(one_pool(market, day))
    assert before.initial_minor.tolist() == after.initial_minor.tolist()
    assert model.requirements(one_pool(market, 0)).initial_minor.tolist() == [0]


def test_an_order_is_judged_at_the_horizon_that_its_fill_would_need(market: Market) -> None:
    """At least what the position after the fill needs, up to what is gained at the fill."""
    model, day = model_of(market), lots_a_day(market)
    slot, gate = ether_perpetual(market), market.engine.gate
    pool = int(np.unique(market.state.positions.pool)[-1])
    price = int(market.state.marks.reference_ticks(slot))
    for held, more in ((day, 1), (day, 2 * day), (0, day + 1), (2 * day, day)):
        row = np.array(
            [[slot << INSTRUMENT_SHIFT, pool, 1, price, more, 0, 0, 0]], np.int64
        ).T.copy()
        orders = gate.open_orders(pool, row)
        with_order = model.with_orders(one_pool(market, held), orders)[0]
        after = int(model.requirements(one_pool(market, held + more)).initial_minor[0])
        loss = int(orders.loss_quanta_per_lot[0]) * more >> model.exponent
        assert with_order >= after + min(0, -abs(loss)) - 2


def test_closing_a_large_position_shortens_its_horizon(market: Market) -> None:
    """A liquidation asks what smaller positions need: it is what is charged, and falls."""
    risk, model = market.engine.risk, model_of(market)
    pools = [p for p in np.unique(market.state.positions.pool).tolist() if p >= HOUSE_POOLS]
    large = [p for p in pools if int(model.horizons(risk.holdings.columns_of(p))[0, ETH]) == 2]
    assert large
    unit = market.state.contracts.columns.unit
    for pool in large:
        columns = risk.holdings.columns_of(pool)
        rows = columns.quantity_lots != 0
        held, of_ether = columns.quantity_lots[rows], unit[columns.instrument[rows]] == ETH
        requirement = risk.requirements(pool)
        assert requirement(held.tolist()) == (risk.initial[pool], risk.maintenance[pool])
        flat = requirement(np.where(of_ether, 0, held).tolist())
        less = requirement(np.where(of_ether, held // 20, held).tolist())
        assert max(less[1], flat[1]) < risk.maintenance[pool]


def test_explanations_are_what_pools_are_charged_and_name_their_days(market: Market) -> None:
    risk, model, days = market.engine.risk, model_of(market), set()
    pools = [p for p in np.unique(market.state.positions.pool).tolist() if p >= HOUSE_POOLS]
    for pool in pools:
        found = explained(market, pool)
        assert found.worst_minor == risk.worst.worst_minor[pool]
        assert found.call_initial_minor == risk.initial[pool]
        assert found.maintenance_minor == risk.maintenance[pool]
        parts = [part.profit_minor for unit in found.units for part in unit.positions]
        assert -sum(parts) == found.worst_minor
        told = found.simulated
        assert told is not None
        assert (told.dates, told.stressed_dates, told.stress_weight_ppb) == (398, 40, 25 * 10**7)
        place = model.horizons(risk.holdings.columns_of(pool))[0]
        for row in told.units:
            u = [unit.name for unit in market.venue.underlyings].index(row.unit)
            assert row.horizon_days == model.history.horizon_days[int(place[u])]
            name = market.venue.underlyings[u].risk_class
            assert row.range_e9 == max(row.floor_e9, model.preset.spot_range_e9(name))
            days.add(row.horizon_days)
    assert days >= {1, 3}


def test_without_a_volume_one_horizon_is_simulated() -> None:
    quiet = charged_venue("fhs-es")
    btc, eth = quiet.underlyings
    unknown = changed(quiet, underlyings=(btc, changed(eth, daily_volume_minor=0)))
    model = HistoryModel(unknown, unknown.preset)
    assert model.longest.tolist() == [0, 0]
    assert HistoryModel(quiet, quiet.preset).longest.tolist() == [0, 2]
    assert limits.DAILY_VOLUME_MINOR_MAX == UNKNOWN_VOLUME_MINOR, "what stands for none"


def test_the_floor_holds_where_the_forecast_is_lower(market: Market) -> None:
    """What a pool needs stays at a fifth less than the long run, however calm it is."""
    calm = play("fhs-es", 2, 1)
    model = model_of(calm)
    memory = calm.state.forecasts.memories[0]
    assert memory.ranges is not None
    needed = []
    for share in (0.9, 0.8, 0.7, 0.5):
        memory.ranges.range_e9[:] = [round(share * e9) for e9 in memory.terms.static_e9.tolist()]
        model.reprice(calm.state, calm.engine.risk.layout)
        needed.append(int(model._moves.spot_move_e9[0, :398, 0].min()))
    assert needed[0] < needed[1] == needed[2] == needed[3]
