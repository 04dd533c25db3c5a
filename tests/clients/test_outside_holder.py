"""An outside holder, and what news about its credit does to a call that stands."""

from __future__ import annotations

from decimal import Decimal

import pytest

from clients.crowd import Mix, build_crowd
from clients.local_state import LocalState
from clients.outside_holder import OutsideHolder


def notice(outcome: str, amount: int = 5) -> dict[str, object]:
    return {"outcome": outcome, "amount": amount, "currency": "USDC", "timestamp": 1}


@pytest.mark.parametrize("outcome", ["credit_decaying", "credit_expired", "credit_fresh"])
def test_news_of_credit_leaves_a_margin_call_as_it_is(outcome: str) -> None:
    state = LocalState()
    state.take("user.margin_calls", notice("issued"))
    state.take("user.margin_calls", notice(outcome, 99))
    assert state.margin_call is not None
    assert state.margin_call.amount == 5
    assert state.margin_notices == 2
    state.take("user.margin_calls", notice("cured"))
    assert state.margin_call is None


def test_a_crowd_has_outside_holders_where_they_are_asked_for() -> None:
    assert not [bot for bot in build_crowd(Mix(), 1).bots if isinstance(bot, OutsideHolder)]
    mix = Mix(outside_holders=3, outside_holder_money=Decimal(7))
    holders = build_crowd(mix, 1, ("BTC", "ETH")).bots[-3:]
    assert [bot.name for bot in holders] == ["outside-01", "outside-02", "outside-03"]
    assert [bot.currency for bot in holders] == ["BTC", "ETH", "BTC"]  # type: ignore[attr-defined]
    assert {bot.money for bot in holders} == {Decimal(7)}
