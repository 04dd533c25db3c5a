"""Positions in columns: sorted by margin order, netting to zero, found by key."""

from __future__ import annotations

import numpy as np
import pytest

from exchange.core.commands import ListInstruments
from exchange.core.stored.contracts import Contracts
from exchange.core.stored.positions import (
    ENTRY_MINOR,
    LOTS,
    REALISED_MINOR,
    SETTLED_MINOR,
    Positions,
)
from margin.invariant import InvariantBroken
from margin.portfolio import LINEAR
from tests.core.market import (
    CALL,
    E8,
    FUTURE,
    INVERSE_BTC,
    LINEAR_BTC,
    LINEAR_ETH,
    SECOND,
    Market,
    contract,
    small,
)


def listed() -> Contracts:
    venue = small()
    contracts = Contracts(venue)
    for spec in venue.instruments:
        contracts.list_spec(spec)
    contracts.reindex()
    return contracts


def column(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_rows_are_sorted_by_pool_then_margin_order() -> None:
    positions = Positions(listed())
    slots = column(LINEAR_ETH, LINEAR_BTC, CALL, FUTURE, LINEAR_BTC)
    pools = column(11, 11, 11, 11, 10)
    positions.apply(pools, slots, column(1, 1, 1, 1, 1), column(0, 0, 0, 0, 0))
    assert positions.pool.tolist() == [10, 11, 11, 11, 11]
    assert positions.instrument.tolist() == [LINEAR_BTC, FUTURE, CALL, LINEAR_BTC, LINEAR_ETH]
    assert positions.starts(12).tolist() == [0] * 11 + [1, 5]
    assert positions.rows_of(11) == slice(1, 5)


def test_two_fills_of_one_pool_in_one_contract_make_one_row() -> None:
    positions = Positions(listed())
    positions.apply(column(10, 10), column(0, 0), column(3, -5), column(300, -500))
    assert positions.table.shape[1] == 1
    assert positions.lots_of(10, 0) == -2
    assert positions.lots_of(11, 0) == 0


def test_entry_follows_the_average_and_reducing_realises_the_difference() -> None:
    positions = Positions(listed())
    for lots, value in ((10, 1000), (10, 1200), (-5, -600)):
        positions.apply(column(10), column(0), column(lots), column(value))
    row = positions.table[:, 0]
    assert (row[LOTS], row[ENTRY_MINOR], row[REALISED_MINOR]) == (15, 1650, 50)


def test_a_flip_closes_at_the_old_entry_and_opens_at_the_new_price() -> None:
    positions = Positions(listed())
    positions.apply(column(10), column(0), column(10), column(1000))
    positions.apply(column(10), column(0), column(-15), column(-1800))
    row = positions.table[:, 0]
    assert (row[LOTS], row[ENTRY_MINOR], row[REALISED_MINOR]) == (-5, -600, 200)


def test_a_future_owes_the_traded_value_and_an_option_does_not() -> None:
    positions = Positions(listed())
    positions.apply(column(10, 10), column(FUTURE, CALL), column(1, 1), column(70, 80))
    owed = {int(s): int(v) for s, v in zip(positions.instrument, positions.table[SETTLED_MINOR],
                                           strict=True)}  # fmt: skip
    assert owed == {FUTURE: 70, CALL: 0}


def test_a_flat_position_that_still_owes_a_unit_stays() -> None:
    positions = Positions(listed())
    positions.apply(column(10, 10), column(FUTURE, FUTURE), column(1, -1), column(70, -71))
    positions.drop_flat()
    assert positions.table.shape[1] == 1
    positions.table[SETTLED_MINOR] = 0
    positions.drop_flat()
    assert positions.table.shape[1] == 0


def test_open_interest_counts_the_long_side() -> None:
    positions = Positions(listed())
    positions.apply(column(10, 11, 12), column(0, 0, 0), column(5, -3, -2), column(0, 0, 0))
    assert positions.open_interest()[LINEAR_BTC] == 5
    positions.validate()


def test_positions_that_do_not_net_to_zero_stop_the_engine() -> None:
    positions = Positions(listed())
    positions.apply(column(10), column(0), column(5), column(0))
    assert positions.sums()[0] == 5
    with pytest.raises(InvariantBroken, match="sum to zero"):
        positions.validate()


def test_rows_out_of_order_stop_the_engine() -> None:
    positions = Positions(listed())
    positions.apply(column(10, 11), column(0, 0), column(5, -5), column(0, 0))
    positions.table = np.ascontiguousarray(positions.table[:, ::-1])
    with pytest.raises(InvariantBroken, match="sorted by key"):
        positions.validate()


def test_positions_survive_their_canonical_bytes() -> None:
    positions, copy = Positions(listed()), Positions(listed())
    positions.apply(column(10, 11), column(0, 4), column(5, -5), column(7, 8))
    copy.load(dict(positions.parts()))
    np.testing.assert_array_equal(copy.table, positions.table)


def test_listing_while_running_sorts_positions_anew() -> None:
    """A contract that expires earlier comes before the others in margin order."""
    market = Market(small())
    ann, bob = market.account("ann", BTC=10**9), market.account("bob", BTC=10**9)
    for slot in (LINEAR_BTC, INVERSE_BTC, FUTURE, LINEAR_ETH):
        market.trade(ann, bob, 5 + slot, market.state.marks.reference_ticks(slot), slot)
    before = [market.lots(ann, slot) for slot in range(9)]
    needed = market.initial(ann), market.maintenance(ann)
    sooner = market.now + 60 * SECOND
    market.do(ListInstruments, (contract("SOON", LINEAR, E8 // 2, E8 // 1000, 0, sooner),))
    market.state.positions.validate()
    assert int(market.state.contracts.rank[9]) == 0
    assert [market.lots(ann, slot) for slot in range(9)] == before
    assert (market.initial(ann), market.maintenance(ann)) == needed
    market.trade(ann, bob, 3, 200_000, 9)
    assert market.lots(ann, 9) == 3
