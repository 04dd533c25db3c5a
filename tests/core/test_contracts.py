"""What is listed: terms in columns, value of a lot, margin order, and the stages of a life."""

from __future__ import annotations

import pytest

from exchange.core.stored.contracts import Contracts, Life, value_per_lot_e6
from margin.invariant import InvariantBroken
from margin.portfolio import INVERSE, LINEAR, LINEAR_CALL, NEVER_NS
from tests.core.market import (
    CALL,
    COIN_CALL,
    COIN_PUT,
    E8,
    FUTURE,
    INVERSE_BTC,
    INVERSE_FUTURE,
    LINEAR_BTC,
    LINEAR_ETH,
    PUT,
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


def test_a_linear_lot_is_worth_coin_times_price() -> None:
    """0.001 BTC at 99,999.5 dollars: 99.9995 dollars."""
    spec = contract("X", LINEAR, E8 // 2, E8 // 1000)
    assert value_per_lot_e6(spec, 99_999_50000000) == 99_999_500 * 10**6


def test_an_inverse_lot_is_worth_minus_dollars_over_price_in_coin() -> None:
    """10 dollars at 80,000: a long gives up 0.000125 BTC, 12,500 minor units."""
    spec = contract("X", INVERSE, E8 // 2, 10 * E8)
    assert value_per_lot_e6(spec, 80_000 * E8) == -12_500 * 10**6
    assert value_per_lot_e6(spec, 90_000 * E8) == -11_111_111_112, "rounded down"


def test_an_inverse_long_gains_when_the_price_rises() -> None:
    spec = contract("X", INVERSE, E8 // 2, 10 * E8)
    assert value_per_lot_e6(spec, 90_000 * E8) > value_per_lot_e6(spec, 80_000 * E8)


def test_an_option_lot_is_worth_coin_times_premium() -> None:
    spec = contract("X", LINEAR_CALL, 5 * E8, E8 // 100, 0, 1, 100_000)
    assert value_per_lot_e6(spec, 2_000 * E8) == 20 * 10**6 * 10**6


def test_slots_come_in_listing_order_and_names_are_unique() -> None:
    contracts = listed()
    assert contracts.slot_of["BTC-PERPETUAL"] == INVERSE_BTC
    with pytest.raises(InvariantBroken, match="unique"):
        contracts.list_spec(contracts.specs[0])


def test_margin_order_is_unit_expiry_strike_slot() -> None:
    contracts = listed()
    assert contracts.by_rank.tolist() == [
        FUTURE, INVERSE_FUTURE, CALL, PUT, COIN_CALL, COIN_PUT, LINEAR_BTC, INVERSE_BTC, LINEAR_ETH,
    ]  # fmt: skip
    assert [int(contracts.rank[slot]) for slot in contracts.by_rank] == list(range(9))


def test_the_options_of_one_strike_share_a_group_whatever_they_settle_in() -> None:
    groups = listed().columns.strike_group.tolist()
    options = (CALL, PUT, COIN_CALL, COIN_PUT)
    assert {groups[slot] for slot in options} == {0}
    assert [g for slot, g in enumerate(groups) if slot not in options] == [-1] * 5


def test_inverse_contracts_settle_in_their_coin_all_others_in_dollars() -> None:
    contracts = listed()
    assert contracts.currency == [0, 1, 0, 0, 0, 0, 1, 1, 1]


def test_expiring_are_listed_contracts_at_or_after_their_expiry() -> None:
    contracts = listed()
    expiry = contracts.specs[FUTURE].expiry_ns
    assert contracts.expiring(expiry - 1) == []
    assert contracts.expiring(expiry) == [FUTURE, CALL, PUT, INVERSE_FUTURE, COIN_CALL, COIN_PUT]
    contracts.set_life(FUTURE, Life.CLOSED)
    assert FUTURE not in contracts.expiring(expiry)
    assert FUTURE in contracts.listed()
    contracts.set_life(FUTURE, Life.SETTLED)
    assert FUTURE not in contracts.listed()


def test_the_next_expiry_of_an_underlying_passes_over_what_is_settled() -> None:
    contracts = listed()
    assert contracts.next_expiry_ns(0) == contracts.specs[FUTURE].expiry_ns
    assert contracts.next_expiry_ns(1) == NEVER_NS
    for slot in (FUTURE, CALL, PUT, INVERSE_FUTURE, COIN_CALL, COIN_PUT):
        contracts.set_life(slot, Life.SETTLED)
    assert contracts.next_expiry_ns(0) == NEVER_NS


def test_terms_life_and_halts_survive_their_canonical_bytes() -> None:
    contracts, copy = listed(), Contracts(small())
    contracts.set_life(FUTURE, Life.CLOSED)
    contracts.halted[PUT] = True
    copy.load(dict(contracts.parts()))
    assert dict(copy.parts()) == dict(contracts.parts())
    assert (copy.life, copy.halted) == (contracts.life, contracts.halted)
    assert copy.by_rank.tolist() == contracts.by_rank.tolist()
