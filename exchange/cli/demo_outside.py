"""The outside venues of a story: they sign what they hold for accounts, unless they are silent."""

from __future__ import annotations

import asyncio

from clients.outside_venue import METHOD, OutsideVenue, simulated
from exchange.core.venue import Venue, VenueError
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.memory import MemoryConnection, MemoryHub
from replays.story import Story


class OutsideFeeds:
    """Feeds attestations to a market over its own wire, once a batch."""

    def __init__(self, story: Story, venue: Venue, dispatcher: Dispatcher) -> None:
        """Raises `VenueError` where the venue has no such outside venue, or with another key."""
        self.story, self.venue, self.dispatcher = story, venue, dispatcher
        self.signers: dict[str, OutsideVenue] = {}
        self._connection: MemoryConnection | None = None
        for feed in story.outside:
            signer = self.signers.setdefault(feed.venue, simulated(feed.venue))
            number = venue.outside_number(feed.venue)
            if number < 0 or venue.outside_venues[number].public_key != signer.public_key:
                raise VenueError(
                    f"story {story.name}: venue {venue.name} has no outside venue {feed.venue!r} "
                    f"with the public key {signer.public_key}"
                )

    async def speak(self) -> None:
        """Attest the balances of every account whose feed is up; all of it is durable afterwards.

        Raises what the market answers an attestation with, if it refuses one.
        """
        if not self.story.outside:
            return
        if self._connection is None:
            self._connection = MemoryHub(self.dispatcher).connect()
        sequencer, now = self.dispatcher.sequencer, self.dispatcher.now_ns()
        requests = [
            self.signers[feed.venue].attest(self.venue.name, name, now // 10**6, feed.balances)
            for feed in self.story.outside
            if feed.speaks_at(now)
            for name in self.dispatcher.state.accounts.names
            if name.startswith(feed.accounts)
        ]
        answers = [
            asyncio.ensure_future(self._connection.request(METHOD, params)) for params in requests
        ]
        while not all(answer.done() for answer in answers):
            await asyncio.sleep(0)
            sequencer.flush()
        for answer in answers:
            if "error" in answer.result():
                raise RuntimeError(f"an attestation was refused: {answer.result()['error']}")
