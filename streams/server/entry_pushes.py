"""Pushes of single entries, for subscriptions that keep their list themselves (docs/protocol.md).

A tweet for thousands of followers is one entry for all of them, so that their subscriptions are answered together, many
at a time, and none of their feeds is computed. What only a whole feed can tell (a retweet, a client that does not read,
too many tweets at once) is left to the scheduler of whole feeds.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import structlog

from engine.errors import CapacityError
from streams.live.service import FeedService
from streams.server.answers import Answers, PushedFeed
from streams.server.error_names import name_error
from streams.server.feeds import Feeds
from streams.server.metrics import ServingMetrics
from streams.server.subscription import Subscription

#: Subscriptions that are answered together: bounds how long they hold the read side of the state lock.
TOGETHER_MAX: Final = 32
#: Tweets that may wait for a subscription. With more of them its whole feed is computed.
NAMED_MAX: Final = 16

_log = structlog.get_logger(__name__)


class EntryPushes:
    """Answers subscriptions of which single tweets may be new, other or gone.

    ``whole`` has a subscription's whole feed computed. ``touched_version``: of the newest change by which a tweet may
    have had to leave feeds; what was answered before it is answered again.
    """

    def __init__(
        self,
        service: FeedService,
        feeds: Feeds,
        answers: Answers,
        metrics: ServingMetrics,
        *,
        whole: Callable[[Subscription], None],
        touched_version: Callable[[], int],
    ) -> None:
        self._service = service
        self._feeds = feeds
        self._answers = answers
        self._metrics = metrics
        self._whole = whole
        self._touched_version = touched_version
        self._queue: deque[Subscription] = deque()
        self._arrived = asyncio.Event()

    def add(self, subscription: Subscription, tweet_ids: Iterable[int]) -> None:
        """These tweets may be new, other or gone for the subscription."""
        if subscription.ended:
            return
        subscription.named.update(dict.fromkeys(tweet_ids))
        if len(subscription.named) > NAMED_MAX:
            subscription.named.clear()
            self._whole(subscription)
        elif not subscription.naming and subscription.named_timer is None and subscription.named:
            self._arm(subscription)

    def _arm(self, subscription: Subscription) -> None:
        loop = asyncio.get_running_loop()
        wait_s = subscription.named_s + subscription.interval_s - loop.time()
        subscription.naming = wait_s <= 0
        if wait_s > 0:
            subscription.named_timer = loop.call_later(wait_s, self._due, subscription)
        else:
            self._queue.append(subscription)
            self._arrived.set()

    def _due(self, subscription: Subscription) -> None:
        subscription.named_timer = None
        if subscription.named and not subscription.ended:
            self._arm(subscription)

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            await self._arrived.wait()
            group, named = self._next_group()
            if group:
                await self._answer(group, named)
            if not self._queue:
                self._arrived.clear()

    def _next_group(self) -> tuple[list[Subscription], tuple[int, ...]]:
        """The next subscriptions for which the same tweets wait, and these tweets."""
        group: list[Subscription] = []
        named: tuple[int, ...] = ()
        while self._queue and len(group) < TOGETHER_MAX:
            subscription = self._queue[0]
            waiting = tuple(sorted(subscription.named))
            if group and waiting != named:
                break
            self._queue.popleft()
            if subscription.ended or not waiting:
                subscription.naming = False
                continue
            subscription.named.clear()
            named = waiting
            group.append(subscription)
        return group, named

    async def _answer(self, group: list[Subscription], named: tuple[int, ...]) -> None:
        requests = [self._feeds.named_request(subscription.viewer_id, named) for subscription in group]
        pushed: Sequence[PushedFeed | None]
        try:
            self._feeds.require_ready()
            pushed, carried = await self._service.answer_named(requests, self._answers.finish_named(requests))
        except Exception as error:
            if not isinstance(error, CapacityError) and name_error(error)[0] == "internal":
                _log.exception("entries cannot be pushed")
            pushed, carried = [None] * len(group), True
        now_s = asyncio.get_running_loop().time()
        self._metrics.push_feeds.labels("entry").inc(len(group))
        for subscription, one in zip(group, pushed, strict=True):
            subscription.naming, subscription.named_s = False, now_s
            if not subscription.ended:
                self._leave(subscription, None if carried else one, named)
                self.add(subscription, ())

    def _leave(self, subscription: Subscription, pushed: PushedFeed | None, named: tuple[int, ...]) -> None:
        """Leave entries to the connection, or have what they miss computed."""
        if pushed is None or subscription.connection.outbox.push_waits:
            self._whole(subscription)
            return
        version = pushed.encoded.feed.version
        if version < max(self._touched_version(), subscription.version):
            self.add(subscription, named)
        else:
            subscription.named_version = version
            subscription.push_entries(pushed, named)
