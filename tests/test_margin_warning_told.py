"""An early warning in words: on its owner's channel, and in what `uncross show` prints."""

from __future__ import annotations

from exchange.cli.narration import narrate
from exchange.core.events import MarginWarned
from exchange.gateway.account_view import default_notice
from tests.core.market import Market


def test_a_warning_goes_to_the_owner_and_into_the_story_of_the_cycle() -> None:
    market = Market()
    pool = market.pool(market.account("ann"))
    event = MarginWarned(pool, 123_456_789, 2_500 * 10**6)
    notice = default_notice(market.state, event, 5_000_000)
    assert notice is not None
    assert notice[0] == pool
    assert notice[1]["outcome"] == "warning"
    assert (notice[1]["amount"], notice[1]["probability"]) == (2500.0, 0.123456789)
    told = narrate(market.state, event)
    assert told is not None
    assert told[0] == "warnings"
    assert "ann" in told[1]
    assert "12.3 %" in told[1]
