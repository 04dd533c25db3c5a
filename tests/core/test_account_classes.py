"""Account classes: which margin model an account is charged by."""

from __future__ import annotations

import msgspec
import pytest

from exchange.core.commands import OpenAccount
from exchange.core.engine import Engine
from exchange.core.reject_reason import RejectReason as R
from exchange.core.venue import AccountClass, VenueError, validate
from exchange.venues import load_venue
from margin.presets import load_preset
from tests.core.market import Market, tiny


def with_class(name: str = "desk") -> AccountClass:
    return AccountClass(name, load_preset("ps-1"))


def test_an_account_opens_in_a_class_of_the_venue() -> None:
    market = Market(tiny(account_classes=(with_class(),)))
    market.do(OpenAccount, "ann", "desk")
    market.do(OpenAccount, "bob")
    assert market.state.accounts.model_of[-2:] == [1, 0]


def test_an_unknown_class_is_refused_and_opens_nothing() -> None:
    market = Market(tiny(account_classes=(with_class(),)))
    pools = market.state.accounts.pools
    assert market.refused(OpenAccount, "ann", "pit") == R.ACCOUNT_CLASS_UNKNOWN
    assert market.state.accounts.pools == pools


def test_a_snapshot_keeps_the_class() -> None:
    market = Market(tiny(account_classes=(with_class(),)))
    market.do(OpenAccount, "ann", "desk")
    again = Engine.restore(market.engine.snapshot())
    assert again.state.accounts.model_of == market.state.accounts.model_of


def test_two_classes_of_one_name_are_no_venue() -> None:
    venue = msgspec.structs.replace(
        load_venue("tiny"), account_classes=(with_class(), with_class())
    )
    with pytest.raises(VenueError, match="different names"):
        validate(venue)
