"""One connection's subscription: its terms, what was sent to it, and what may be on its screen."""

import asyncio
from collections.abc import Callable, Collection
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.feed import Feed
from streams.events.served_feed import ServedPart
from streams.server.answers import PushedFeed
from streams.server.connections import Connection
from streams.server.encode import Changes, new_entries_frame, new_tweets_frame
from streams.server.feeds import Terms

#: Shortest time between whole feeds of a subscription to single entries that nothing concerns.
ENTRIES_REFRESH_S: Final = 10.0

#: What a client sees of a feed: of each tweet, in order, its time (ms) and a hash of what it says.
Shown = dict[int, tuple[int, int]]


def shown_of(feed: Feed) -> Shown:
    """What a client sees of a feed. Counts and explanations change all the time, so they alone are not pushed."""
    return {entry.tweet_id: (entry.created_ms, hash(entry.text)) for entry in feed.entries}


def is_same(shown: Shown, sent: Shown | None) -> bool:
    """Whether two feeds have the same tweets in the same order, and these say the same."""
    return sent is not None and list(shown.items()) == list(sent.items())


class Subscription:
    """One connection's subscription, and what was sent to it.

    ``version``: of the newest feed computed for it, at ``computed_s`` (the loop's time). While something concerns it,
    ``deadline_s`` is set; ``concerned`` is the newest version that did, ``urgent`` whether what is shown may have to
    leave; ``timer`` runs until its interval has passed.

    Where single entries are pushed: ``named``, the tweets that may be new, other or gone; ``naming`` while they wait
    for an answer; ``named_version`` and ``named_s``, version and time of the newest one; ``named_timer`` runs until the
    interval has passed.
    """

    def __init__(
        self,
        connection: Connection,
        viewer_id: int,
        terms: Terms,
        *,
        on_sent: Callable[[ServedPart | None], None],
    ) -> None:
        self.connection = connection
        self.viewer_id = viewer_id
        self.terms = terms
        self.interval_s = terms.interval_s
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
        self.named: dict[int, None] = {}
        self.named_s = float("-inf")
        self.named_version = -1
        self.named_timer: asyncio.TimerHandle | None = None
        self.naming = False
        self._seq = 0
        self._sent: Shown | None = None
        self._sent_ids: NDArray[np.uint64] = np.empty(0, np.uint64)
        #: The tweets (uint64) that the client has, or will have when it has read what waits for it.
        self.shown_ids = self._sent_ids

    @property
    def refreshable_s(self) -> float:
        """When its whole feed may be computed again though nothing concerns it. Where single entries are pushed, the
        list is nearly always right without that, so it waits longer."""
        interval_s = max(self.interval_s, ENTRIES_REFRESH_S) if self.terms.entries else self.interval_s
        return max(self.computed_s + interval_s, self.named_s + self.interval_s)

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

    def end(self) -> None:
        """Nothing more is computed for it."""
        self.ended = True
        for timer in (self.timer, self.named_timer):
            if timer is not None:
                timer.cancel()

    def push(self, pushed: PushedFeed) -> None:
        """Leave a computed feed to the connection, instead of an older one that waits."""
        self._leave(pushed, lambda: self._render(pushed))

    def push_entries(self, pushed: PushedFeed, named: Collection[int]) -> None:
        """Leave to the connection what there is to say about the tweets that ``pushed`` was asked for."""
        self._leave(pushed, lambda: self._render_entries(pushed, named))

    def _leave(self, pushed: PushedFeed, render: Callable[[], bytes | None]) -> None:
        waiting = np.array([entry.tweet_id for entry in pushed.encoded.feed.entries], np.uint64)
        self.shown_ids = np.concatenate([self._sent_ids, waiting])
        self.connection.outbox.push(_Push(render))

    def _render(self, pushed: PushedFeed) -> bytes | None:
        """The push for a feed, compared with what was really sent; None if nothing changed or all has ended."""
        shown, before = shown_of(pushed.encoded.feed), self._sent
        if self.ended or is_same(shown, before):
            return None
        self._note_sent(shown, pushed)
        return new_tweets_frame(pushed.encoded, seq=self._seq, changes=changes(shown, before or {}))

    def _render_entries(self, pushed: PushedFeed, named: Collection[int]) -> bytes | None:
        """The push for some tweets, compared with what was really sent; None if the client has it so already."""
        found, before = shown_of(pushed.encoded.feed), self._sent
        if self.ended or before is None:
            return None  # the first push is the whole feed
        kept = {tweet: says for tweet, says in before.items() if tweet not in named}
        newest = sorted((kept | found).items(), key=lambda item: (item[1][0], item[0]), reverse=True)
        shown = dict(newest[: self.terms.limit])
        changed = changes(shown, before)
        gone = [tweet for tweet in named if tweet in before and tweet not in found]
        if not gone and not changed.new and not changed.edited:
            return None
        self._note_sent(shown, pushed)
        return new_entries_frame(pushed.encoded, seq=self._seq, changes=changed, gone=gone)

    def _note_sent(self, shown: Shown, pushed: PushedFeed) -> None:
        self._seq += 1
        self._sent = shown
        self.shown_ids = self._sent_ids = np.array(list(shown), np.uint64)
        self.on_sent(pushed.served)


def changes(shown: Shown, before: Shown) -> Changes:
    """Which of the shown tweets were not there before, and which said something else."""
    new = [tweet for tweet in shown if tweet not in before]
    return Changes(new, [tweet for tweet, says in shown.items() if before.get(tweet, says) != says])


class _Push:
    """What waits in an outbox's push slot; rendered when its turn comes."""

    __slots__ = ("render",)

    def __init__(self, render: Callable[[], bytes | None]) -> None:
        self.render = render
