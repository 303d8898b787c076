"""One connection's subscription: its terms, what was sent to it, and what may be on its screen."""

import asyncio
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from engine.feed import Explain, Feed, Product
from streams.events.served_feed import ServedPart
from streams.server.answers import PushedFeed
from streams.server.connections import Connection
from streams.server.encode import new_tweets_frame

#: What a client sees of a feed: its tweets, in order, and a hash of what each says.
Shown = dict[int, int]


def shown_of(feed: Feed) -> Shown:
    """What a client sees of a feed. Counts and explanations change all the time, so they alone are not pushed."""
    return {entry.tweet_id: hash(entry.text) for entry in feed.entries}


def is_same(shown: Shown, sent: Shown | None) -> bool:
    """Whether two feeds have the same tweets in the same order, and these say the same."""
    return sent is not None and list(shown.items()) == list(sent.items())


class Subscription:
    """One connection's subscription, and what was sent to it.

    ``version``: of the newest feed computed for it, at ``computed_s`` (the loop's time). While something concerns it,
    ``deadline_s`` is set; ``concerned`` is the newest version that did, ``urgent`` whether what is shown may have to
    leave; ``timer`` runs until its interval has passed.
    """

    def __init__(
        self,
        connection: Connection,
        viewer_id: int,
        *,
        product: Product,
        limit: int,
        interval_s: float,
        explain: Explain,
        on_sent: Callable[[ServedPart | None], None],
    ) -> None:
        self.connection = connection
        self.viewer_id = viewer_id
        self.product = product
        self.limit = limit
        self.interval_s = interval_s
        self.explain = explain
        self.on_sent = on_sent
        self.ended = False
        self.last_error: str | None = None
        self.version = -1
        self.computing = False
        self.computed_s = float("-inf")
        self.concerned = -1
        self.deadline_s: float | None = None
        self.urgent = False
        self.timer: asyncio.TimerHandle | None = None
        self._seq = 0
        self._sent: Shown | None = None
        self._sent_ids: NDArray[np.uint64] = np.empty(0, np.uint64)
        #: The tweets (uint64) that the client has, or will have when it has read what waits for it.
        self.shown_ids = self._sent_ids

    def begin(self) -> None:
        """Its feed begins to be computed, for all that concerned it so far."""
        self.settle()
        self.computing = True

    def settle(self) -> None:
        """Nothing concerns it any more."""
        self.deadline_s, self.urgent = None, False

    def is_new(self, feed: Feed) -> bool:
        """Whether the client would see a difference from the last feed sent. Any thread may call this."""
        return not is_same(shown_of(feed), self._sent)

    def push(self, pushed: PushedFeed) -> None:
        """Leave a computed feed to the connection, instead of an older one that waits."""
        entries = pushed.encoded.feed.entries
        waiting = np.array([entry.tweet_id for entry in entries], np.uint64)
        self.shown_ids = np.concatenate([self._sent_ids, waiting])
        self.connection.outbox.push(FeedPush(self, pushed))

    def render(self, pushed: PushedFeed) -> bytes | None:
        """The push for a feed, compared with what was really sent; None if nothing changed or all has ended."""
        shown, before = shown_of(pushed.encoded.feed), self._sent
        if self.ended or is_same(shown, before):
            return None
        before = before or {}
        self._seq += 1
        self._sent = shown
        self.shown_ids = self._sent_ids = np.array(list(shown), np.uint64)
        self.on_sent(pushed.served)
        return new_tweets_frame(
            pushed.encoded,
            seq=self._seq,
            new=[tweet for tweet in shown if tweet not in before],
            edited=[tweet for tweet, says in shown.items() if before.get(tweet, says) != says],
        )


class FeedPush:
    """A computed feed in an outbox's push slot."""

    __slots__ = ("_pushed", "_subscription")

    def __init__(self, subscription: Subscription, pushed: PushedFeed) -> None:
        self._subscription = subscription
        self._pushed = pushed

    def render(self) -> bytes | None:
        """The frame; None when the client already has this list."""
        return self._subscription.render(self._pushed)
