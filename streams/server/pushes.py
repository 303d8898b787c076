"""Pushes: subscribers' feeds are computed again when the state has changed and their interval has passed.

Each subscription is in exactly one place: waiting for its interval (a loop timer), parked until the version changes,
in the queue, or with one of the workers. The queue is first in, first out, and a served subscription goes to its end.
So under overload every subscription's interval grows by about the same amount.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from engine.errors import CapacityError
from engine.feed import Explain, Feed, Product, Request
from streams.events.served_feed import ServedPart
from streams.live.service import FeedService
from streams.server.answers import Answers, PushedFeed
from streams.server.connections import Connection
from streams.server.encode import new_tweets_frame
from streams.server.error_names import name_error
from streams.server.feeds import Feeds
from streams.server.metrics import ServingMetrics
from streams.server.served_log import ServedLog

#: Longest wait for a new version: if the service missed a wake-up, pushes are late by at most this.
VERSION_WAIT_S: Final = 1.0

_log = structlog.get_logger(__name__)


class Subscription:
    """One connection's subscription, and what was sent to it."""

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
        self.version = -1
        self.ended = False
        self.timer: asyncio.TimerHandle | None = None
        self.last_error: str | None = None
        self._seq = 0
        self._sent: tuple[int, ...] | None = None

    def is_new(self, feed: Feed) -> bool:
        """Whether the feed's list differs from the last one sent. Any thread may call this."""
        return tuple(entry.tweet_id for entry in feed.entries) != self._sent

    def render(self, pushed: PushedFeed) -> bytes | None:
        """The push for a feed, compared with what was really sent; None if nothing changed or all has ended."""
        ids = tuple(entry.tweet_id for entry in pushed.encoded.feed.entries)
        if self.ended or ids == self._sent:
            return None
        before = set(self._sent or ())
        self._seq += 1
        self._sent = ids
        self.on_sent(pushed.served)
        return new_tweets_frame(pushed.encoded, seq=self._seq, new=[i for i in ids if i not in before])


class FeedPush:
    """A computed feed in an outbox's push slot."""

    __slots__ = ("_pushed", "_subscription")

    def __init__(self, subscription: Subscription, pushed: PushedFeed) -> None:
        self._subscription = subscription
        self._pushed = pushed

    def render(self) -> bytes | None:
        """The frame; None when the client already has this list."""
        return self._subscription.render(self._pushed)


class Pushes:
    """The scheduler of all subscriptions: computes at most ``workers`` feeds at a time."""

    def __init__(
        self,
        service: FeedService,
        feeds: Feeds,
        answers: Answers,
        served: ServedLog,
        metrics: ServingMetrics,
        *,
        workers: int,
    ) -> None:
        self._service = service
        self._feeds = feeds
        self._answers = answers
        self._served = served
        self._metrics = metrics
        self._workers = workers
        self._subscriptions: set[Subscription] = set()
        self._parked: dict[Subscription, None] = {}
        self._queue: deque[Subscription] = deque()
        self._arrived = asyncio.Semaphore(0)

    def add(
        self,
        connection: Connection,
        viewer_id: int,
        *,
        product: Product,
        limit: int,
        interval_s: float,
        explain: Explain,
    ) -> Subscription:
        """Start a subscription; its first push comes as soon as a worker is free."""
        subscription = Subscription(
            connection,
            viewer_id,
            product=product,
            limit=limit,
            interval_s=interval_s,
            explain=explain,
            on_sent=self._served.offer,
        )
        self._subscriptions.add(subscription)
        self._metrics.subscriptions.set(len(self._subscriptions))
        self._enqueue(subscription)
        return subscription

    def discard(self, subscription: Subscription) -> None:
        """End a subscription, and drop its waiting push."""
        subscription.ended = True
        if subscription.timer is not None:
            subscription.timer.cancel()
        self._parked.pop(subscription, None)
        self._subscriptions.discard(subscription)
        self._metrics.subscriptions.set(len(self._subscriptions))
        subscription.connection.outbox.push(None)

    async def run(self) -> None:
        """Compute pushes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="push versions")
            for worker in range(self._workers):
                group.create_task(self._work(), name=f"push worker {worker}")

    async def _watch(self) -> None:
        version = self._service.version
        while True:
            version = await self._service.wait_version(version, VERSION_WAIT_S)
            for subscription in [s for s in self._parked if s.version < version]:
                del self._parked[subscription]
                self._enqueue(subscription)

    async def _work(self) -> None:
        while True:
            await self._arrived.acquire()
            subscription = self._queue.popleft()
            if subscription.ended:
                continue
            await self._compute(subscription)
            if not subscription.ended:
                loop = asyncio.get_running_loop()
                subscription.timer = loop.call_later(subscription.interval_s, self._due, subscription)

    async def _compute(self, subscription: Subscription) -> None:
        request: Request = self._feeds.push_request(
            subscription.viewer_id, subscription.product, subscription.limit, subscription.explain
        )
        try:
            finish = self._answers.finish_push(request, subscription.is_new)
            pushed = await self._feeds.answer(request, finish, way="push")
        except CapacityError:
            return  # not logged: the next interval tries again
        except Exception as error:
            name, message = name_error(error)
            if name == "internal":
                _log.exception("push failed", session=subscription.connection.session)
            if not subscription.ended and name != subscription.last_error:
                subscription.last_error = name
                subscription.connection.error(name, message)
            return
        subscription.version = pushed.encoded.feed.version
        subscription.last_error = None
        if not subscription.ended:
            subscription.connection.outbox.push(FeedPush(subscription, pushed))

    def _due(self, subscription: Subscription) -> None:
        subscription.timer = None
        if subscription.ended:
            return
        if self._service.version > subscription.version:
            self._enqueue(subscription)
        else:
            self._parked[subscription] = None

    def _enqueue(self, subscription: Subscription) -> None:
        self._queue.append(subscription)
        self._arrived.release()
