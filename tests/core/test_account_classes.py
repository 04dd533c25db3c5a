"""Account classes: which margin model an account is charged by, and that each keeps to its own."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from exchange.core.commands import Deposit, OpenAccount
from exchange.core.engine import Engine
from exchange.core.reject_reason import RejectReason as R
from exchange.core.venue import AccountClass, Venue, VenueError, validate
from exchange.venues import load_venue, parse_venue
from margin.presets import load_preset
from margin.presets.preset import Preset
from tests.core.market import BUY, SELL, Market, tiny


def dearer() -> Preset:
    """PS-1 with twice the spot range, and no haircut changed."""
    preset = load_preset("ps-1")
    wide = tuple(msgspec.structs.replace(row, rate_e9=2 * row.rate_e9) for row in preset.spot_range)
    return msgspec.structs.replace(preset, name="dearer", spot_range=wide)


def with_desk(**parts: Any) -> Venue:
    return tiny(account_classes=(AccountClass("desk", dearer()),), **parts)


def opened(market: Market, name: str, usdc: int, account_class: str = "") -> int:
    market.do(OpenAccount, name, account_class)
    number = market.state.accounts.number_of[name]
    market.do(Deposit, number, 0, usdc * 10**6)
    return number


def traded(usdc: int = 100_000) -> tuple[Market, int, int]:
    """A plain account that bought one coin from an account of the desk class."""
    market = Market(with_desk())
    plain, desk = opened(market, "ann", usdc), opened(market, "bob", usdc, "desk")
    price = market.state.marks.reference_ticks(0)
    lots = 10**8 // market.state.contracts.specs[0].lot_e8
    market.place(plain, BUY, lots, price)
    market.place(desk, SELL, lots, price)
    market.cycle()
    assert market.state.positions.lots_of(market.state.accounts.pool_of[plain], 0) == lots
    return market, plain, desk


def test_an_account_opens_in_a_class_of_the_venue() -> None:
    market = Market(with_desk())
    opened(market, "ann", 1, "desk")
    opened(market, "bob", 1)
    assert market.state.accounts.model_of[-2:] == [1, 0]


def test_an_unknown_class_is_refused_and_opens_nothing() -> None:
    market = Market(with_desk())
    pools = market.state.accounts.pools
    assert market.refused(OpenAccount, "ann", "pit") == R.ACCOUNT_CLASS_UNKNOWN
    assert market.said == "the venue has no account class 'pit'"
    assert market.state.accounts.pools == pools


def test_each_class_is_charged_by_its_own_model() -> None:
    market, plain, desk = traded()
    risk, pool_of = market.engine.risk, market.state.accounts.pool_of
    plain_worst = risk.initial[pool_of[plain]] - risk.add_on_minor[pool_of[plain]]
    desk_worst = risk.initial[pool_of[desk]] - risk.add_on_minor[pool_of[desk]]
    alone = risk.models[1].needed(
        risk.holdings.columns_of(pool_of[desk]), risk.add_on_minor[:1] * 0
    )
    assert risk.initial[pool_of[desk]] == alone[0].initial_minor[0]
    assert desk_worst > 1.5 * plain_worst


def test_a_recomputed_pool_is_charged_as_in_the_pass_over_all() -> None:
    market, plain, desk = traded()
    risk = market.engine.risk
    for account in (plain, desk):
        pool = market.state.accounts.pool_of[account]
        before = (risk.initial[pool], risk.maintenance[pool], risk.equity[pool])
        risk.revalue_pool(pool)
        assert (risk.initial[pool], risk.maintenance[pool], risk.equity[pool]) == before


def test_the_gate_asks_each_class_for_its_own_margin() -> None:
    market = Market(with_desk())
    index = int(market.state.marks.index_e8[0]) // 10**8
    money = index * 25 // 100  # more than PS-1 asks for a coin, less than twice that
    plain, desk = opened(market, "ann", money), opened(market, "bob", money, "desk")
    price = market.state.marks.reference_ticks(0)
    lots = 10**8 // market.state.contracts.specs[0].lot_e8
    market.place(plain, BUY, lots, price)
    assert market.refused_order(desk, BUY, lots, price) == R.MARGIN_INSUFFICIENT


def test_a_snapshot_keeps_class_and_margin() -> None:
    market, _, desk = traded()
    again = Engine.restore(market.engine.snapshot())
    pool = market.state.accounts.pool_of[desk]
    assert again.state.accounts.model_of == market.state.accounts.model_of
    assert again.risk.initial[pool] == market.engine.risk.initial[pool]
    assert again.state_hash() == market.engine.state_hash()


def test_two_classes_of_one_name_are_no_venue() -> None:
    kind = AccountClass("desk", load_preset("ps-1"))
    venue = msgspec.structs.replace(load_venue("tiny"), account_classes=(kind, kind))
    with pytest.raises(VenueError, match="different names"):
        validate(venue)


def test_a_venue_file_names_its_classes() -> None:
    from importlib import resources

    text = resources.files("exchange.venues").joinpath("tiny.toml").read_text("utf-8")
    text += '\n[[account_class]]\nname = "desk"\npreset = "derive-pmrm2"\n'
    venue = parse_venue(text, "a test")
    assert [preset.name for preset in venue.presets()] == ["ps-1", "derive-pmrm2"]
    assert [venue.model_of(name) for name in ("", "desk", "pit")] == [0, 1, -1]
    with pytest.raises(VenueError, match="no preset 'none'"):
        parse_venue(text.replace("derive-pmrm2", "none"), "a test")
