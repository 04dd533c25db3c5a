"""The outside venues of a story: they sign what they hold for accounts, unless they are silent."""

from __future__ import annotations

import asyncio

from clients.outside_venue import METHOD, OutsideVenue, simulated
from exchange.core.venue import Venue, VenueError
from exchange.gateway.dispatch import Dispatcher
from exchange.gateway.memory import MemoryConnection, MemoryHub
from replays.story import Story


class AttestationRefused(RuntimeError):
    """The market did not take a word of an outside venue; says why."""


def require_outside_venues(story: Story, venue: Venue) -> None:
    """Raise `VenueError` where a venue lacks an outside venue of a story, or knows another key."""
    for feed in story.outside:
        number, key = venue.outside_number(feed.venue), simulated(feed.venue).public_key
        if number < 0 or venue.outside_venues[number].public_key != key:
            raise VenueError(
                f"story {story.name}: venue {venue.name} has no outside venue {feed.venue!r} "
                f"with the public key {key}"
            )


class OutsideFeeds:
    """Feeds attestations to a market over its own wire, once a batch.

    A story's silences are moved with its prices: its opening is the venue's, and its batches are as
    long as the venue's. On a market that is resumed each outside venue goes on counting its words.
    """

    def __init__(self, story: Story, dispatcher: Dispatcher) -> None:
        """`dispatcher`: of the market that is open, with the outside venues of the story."""
        self.story, self.dispatcher = story, dispatcher
        self._connection: MemoryConnection | None = None
        self.signers: dict[str, OutsideVenue] = {}
        state = dispatcher.state
        for feed in story.outside:
            signer = self.signers.setdefault(feed.venue, simulated(feed.venue))
            number = state.venue.outside_number(feed.venue)
            for account, name in enumerate(state.accounts.names):
                known = state.attestations.latest(account, number)
                if known is not None:
                    signer.sequences[state.venue.name, name] = known.sequence

    async def speak(self) -> None:
        """Attest the balances of every account whose feed is up; all of it is durable afterwards.

        Raises `AttestationRefused`, after all were sent, if the market refuses one.
        """
        if not self.story.outside:
            return
        if self._connection is None:
            self._connection = MemoryHub(self.dispatcher).connect()
        sequencer, now = self.dispatcher.sequencer, self.dispatcher.now_ns()
        venue = self.dispatcher.state.venue
        told_ns = self.story.time_ns(now, venue.opening_time_ns, venue.interval_ns)
        requests = [
            self.signers[feed.venue].attest(venue.name, name, now // 10**6, feed.balances)
            for feed in self.story.outside
            if feed.speaks_at(told_ns)
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
                raise AttestationRefused(f"an attestation was refused: {answer.result()['error']}")
