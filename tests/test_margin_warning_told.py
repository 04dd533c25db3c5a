"""An early warning in words: what `uncross show` prints, with nothing said on other channels."""

from __future__ import annotations

from exchange.cli.narration import narrate
from exchange.core.events import MarginWarned
from exchange.gateway.account_view import default_notice
from tests.core.market import Market


def test_a_warning_is_in_the_story_of_the_cycle_and_is_no_margin_call() -> None:
    market = Market()
    pool = market.pool(market.account("ann"))
    event = MarginWarned(pool, 123_456_789, 2_500 * 10**6)
    assert default_notice(market.state, event, 5_000_000) is None
    told = narrate(market.state, event)
    assert told is not None
    assert told[0] == "warnings"
    assert "ann" in told[1]
    assert "12.3 %" in told[1]
