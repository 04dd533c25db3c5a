"""A short market under a model, as a program: prints what decides, for a comparison of machines."""

from __future__ import annotations

import sys

import msgspec

from exchange.core.venue import Venue
from margin.models.venue_models import venue_model
from tests.core.market import Market
from tests.core.random_story import Story, story_venue


def charged_venue(name: str) -> Venue:
    """The story's venue under a model; so little ETH trades that it takes days to close."""
    venue = story_venue(preset=venue_model(name))
    btc, eth = venue.underlyings
    thin = msgspec.structs.replace(eth, daily_volume_minor=6_000 * 10**6)
    return msgspec.structs.replace(venue, underlyings=(btc, thin))


def play(name: str, seed: int, cycles: int, orders: int = 40) -> Market:
    """A market under the model `name` after some cycles of random requests."""
    market = Market(charged_venue(name), seed=seed)
    story = Story(market, seed)
    for _ in range(cycles):
        for _ in range(orders):
            market.apply(story.pick())
        market.seal(story.move())
        market.uncross()
        market.revalue()
    return market


def told(market: Market) -> str:
    """The state hash, and the requirements and equity that the state implies."""
    risk = market.engine.risk
    columns = (risk.initial, risk.maintenance, risk.relief_minor, risk.equity)
    return " ".join((market.engine.state_hash().hex(), *(str(c.tolist()) for c in columns)))


if __name__ == "__main__":
    print(told(play(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
