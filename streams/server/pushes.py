"""Pushes: a subscriber's feed is computed again when something concerns it, and in turn after anything happened.

Whom an applied piece concerns, the engine says (``streams/reading/concerns.py``). Each subscription that is concerned
gets a deadline, the later the more people the same thing matters to, and the earliest deadline is computed first. So a
block, or a tweet for few, does not wait for a tweet for thousands, and nobody waits forever. Whatever happens, a
subscription is computed at most once per interval. Feeds that nothing concerns change as well, each a little by
everything: they are refreshed in turn, for a bounded share of a processor.
"""

import asyncio
import contextlib
import heapq
import itertools
from collections import OrderedDict
from typing import Final

import numpy as np
import structlog

from engine.errors import CapacityError
from streams.live.service import FeedService
from streams.reading.concerns import NOBODY, Concern
from streams.server.answers import Answers
from streams.server.connections import Connection
from streams.server.entry_pushes import EntryPushes
from streams.server.error_names import name_error
from streams.server.feeds import Feeds, Terms
from streams.server.metrics import ServingMetrics
from streams.server.roster import Roster
from streams.server.served_log import ServedLog
from streams.server.subscription import Subscription

#: Longest wait for something that concerns anybody.
CONCERN_WAIT_S: Final = 1.0
#: What may have to leave screens is this much more urgent than what is new for as many people.
LEAVING_FACTOR: Final = 4
#: How long a feed takes: the first estimate, and the weight of each measurement.
COST_S: Final = 0.002
COST_WEIGHT: Final = 0.05
#: How many subscriptions are looked at for the one to be refreshed next, and the pause between two.
LOOKED_AT_MAX: Final = 256
REFRESH_PAUSE_S_MIN: Final = 0.005
REFRESH_PAUSE_S_MAX: Final = 1.0
#: Of feeds that nothing concerns, so many are refreshed at full share for each event; the others at this part of it. So
#: a few events do not cost thousands of feeds at once, and yet every feed is refreshed after the last event.
REFRESHED_PER_EVENT: Final = 4
SLOWLY: Final = 1 / 8
#: When all that are to be refreshed wait for their intervals, they are looked at again after this long.
REFRESH_WAIT_S: Final = 0.1

_NOTHING: Final = np.empty(0, np.uint64), np.empty(0, np.int64)
_log = structlog.get_logger(__name__)


class Pushes:
    """The scheduler of all subscriptions. It computes at most ``workers`` feeds at a time, and one more to refresh.

    ``refresh_share``: share of a processor for feeds that nothing concerns. ``interval_s_min``: what may have to leave
    a screen waits at most for this interval.
    """

    def __init__(
        self,
        service: FeedService,
        feeds: Feeds,
        answers: Answers,
        served: ServedLog,
        metrics: ServingMetrics,
        *,
        workers: int,
        refresh_share: float,
        interval_s_min: float,
    ) -> None:
        self._service = service
        self._feeds = feeds
        self._answers = answers
        self._served = served
        self._metrics = metrics
        self._workers = workers
        self._refresh_share = refresh_share
        self._interval_s_min = interval_s_min
        self._cost_s = COST_S
        #: All subscriptions; those whose feed was computed longest ago come first.
        self._in_turn: OrderedDict[Subscription, None] = OrderedDict()
        self._roster: Roster | None = None
        #: Those that are concerned and whose interval has passed, by deadline. An entry whose deadline is not (or no
        #: longer) that of its subscription is void.
        self._due: list[tuple[float, int, Subscription]] = []
        self._entries = itertools.count()
        self._arrived = asyncio.Semaphore(0)
        #: The newest versions at which anything happened, and at which tweets may have had to leave feeds.
        self._news_version = -1
        #: How many feeds are still to be refreshed at full share.
        self._refresh_soon = 0
        self._touched_version = -1
        self._news = asyncio.Event()
        self._entry_pushes = EntryPushes(
            service,
            feeds,
            answers,
            metrics,
            whole=lambda subscription: self._concern(subscription, _now() + self._cost_s),
            touched_version=lambda: self._touched_version,
        )

    def add(
        self,
        connection: Connection,
        viewer_id: int,
        terms: Terms,
    ) -> Subscription:
        """Start a subscription; its first push comes as soon as a worker is free."""
        subscription = Subscription(connection, viewer_id, terms, on_sent=self._served.offer)
        self._service.listen(True)
        self._in_turn[subscription] = None
        self._count()
        self._concern(subscription, _now() + self._cost_s)
        return subscription

    def discard(self, subscription: Subscription) -> None:
        """End a subscription, and drop its waiting push."""
        subscription.end()
        self._in_turn.pop(subscription, None)
        self._count()
        if not self._in_turn:
            self._service.listen(False)
        subscription.connection.outbox.push(None)

    def _count(self) -> None:
        self._roster = None
        self._metrics.subscriptions.set(len(self._in_turn))

    async def run(self) -> None:
        """Compute pushes until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._watch(), name="push concerns")
            group.create_task(self._refresh(), name="push refresh")
            group.create_task(self._entry_pushes.run(), name="push entries")
            for worker in range(self._workers):
                group.create_task(self._work(), name=f"push worker {worker}")

    # Who is concerned

    async def _watch(self) -> None:
        while True:
            concern = await self._service.wait_concern(CONCERN_WAIT_S)
            if concern is None:
                continue
            began_s = _now()
            if self._in_turn and (concern.everybody or concern.size):
                await self._look_up(concern)
            if concern.news:
                # Only now: whom it concerns must not be refreshed as if it did not.
                self._news_version = concern.version
                soon = self._refresh_soon + REFRESHED_PER_EVENT * concern.news
                self._refresh_soon = len(self._in_turn) if concern.everybody else min(soon, len(self._in_turn))
                self._news.set()
            if self._in_turn:
                # A pause of at least the same length: in a flood of pieces, more of them are looked up together.
                await asyncio.sleep(_now() - began_s)

    async def _look_up(self, concern: Concern) -> None:
        """Find out which subscriptions the concern means, and give each its deadline."""
        roster = self._roster = self._roster or Roster(tuple(self._in_turn))
        if concern.touches:
            # Noted before the shown tweets are gathered: a feed that is being computed now is not yet among them.
            self._touched_version = concern.version
        if concern.everybody:
            people, leaves, named = roster.everybody()
        else:
            shown, rows = roster.shown() if concern.touches else _NOTHING
            found = await self._service.concerned(concern, roster.audience, shown)
            people, leaves, named = roster.means(found, shown, rows)
        for row, tweets in named.items():
            self._entry_pushes.add(roster.subscriptions[row], tweets)
        now_s = _now()
        for row in np.flatnonzero(people != NOBODY).tolist():
            subscription, urgent = roster.subscriptions[row], bool(leaves[row])
            subscription.concerned = concern.version
            after_s = int(people[row]) * self._cost_s / (LEAVING_FACTOR if urgent else 1)
            self._concern(subscription, now_s + after_s, urgent=urgent)

    def _concern(self, subscription: Subscription, deadline_s: float, *, urgent: bool = False) -> None:
        """The subscription is to be computed by this time, but not before its interval has passed; if ``urgent``, not
        before the shortest interval has."""
        if subscription.ended:
            return
        known_s, was_urgent = subscription.deadline_s, subscription.urgent
        if known_s is not None and known_s <= deadline_s and was_urgent >= urgent:
            return
        subscription.deadline_s = deadline_s if known_s is None else min(known_s, deadline_s)
        subscription.urgent = was_urgent or urgent
        if not subscription.computing:
            self._arm(subscription)

    def _arm(self, subscription: Subscription) -> None:
        """Queue a concerned subscription, now or when its interval has passed."""
        if subscription.timer is not None:
            subscription.timer.cancel()
        interval_s = subscription.interval_s
        if subscription.urgent:
            interval_s = min(interval_s, self._interval_s_min)
        wait_s = subscription.computed_s + interval_s - _now()
        if wait_s > 0:
            subscription.timer = asyncio.get_running_loop().call_later(wait_s, self._enqueue, subscription)
        else:
            self._enqueue(subscription)

    def _enqueue(self, subscription: Subscription) -> None:
        subscription.timer = None
        if subscription.deadline_s is not None and not subscription.ended:
            heapq.heappush(self._due, (subscription.deadline_s, next(self._entries), subscription))
            self._metrics.pushes_due.set(len(self._due))
            self._arrived.release()

    # Computing

    async def _work(self) -> None:
        while True:
            await self._arrived.acquire()
            deadline_s, _, subscription = heapq.heappop(self._due)
            self._metrics.pushes_due.set(len(self._due))
            if not subscription.ended and not subscription.computing and subscription.deadline_s == deadline_s:
                await self._compute(subscription, "concerned")

    async def _refresh(self) -> None:
        """Compute feeds that nothing concerns, in turn, for at most the share of a processor."""
        while True:
            subscription = self._next_in_turn()
            if subscription is None:
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REFRESH_WAIT_S if self._any_stale() else None):
                        await self._news.wait()
                continue
            began_s = _now()
            await self._compute(subscription, "refresh")
            took_s, share = _now() - began_s, self._refresh_share * (1 if self._refresh_soon else SLOWLY)
            self._refresh_soon = max(0, self._refresh_soon - 1)
            await self._rest(min(REFRESH_PAUSE_S_MAX, max(REFRESH_PAUSE_S_MIN, took_s / share - took_s)))

    async def _rest(self, pause_s: float) -> None:
        """Pause between two refreshed feeds. News end a pause that was for slow refreshing."""
        if self._refresh_soon:
            await asyncio.sleep(pause_s)
            return
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await self._news.wait()

    def _next_in_turn(self) -> Subscription | None:
        """The next whose feed is older than the news, and which is not computed anyway; its interval has passed."""
        now_s = _now()
        for _ in range(min(LOOKED_AT_MAX, len(self._in_turn))):
            subscription = next(iter(self._in_turn))
            if self._is_stale(subscription) and now_s >= subscription.refreshable_s:
                return subscription
            self._in_turn.move_to_end(subscription)
        return None

    def _any_stale(self) -> bool:
        return any(self._is_stale(subscription) for subscription in self._in_turn)

    def _is_stale(self, subscription: Subscription) -> bool:
        computed = subscription.computing or subscription.naming or subscription.named
        return not computed and subscription.deadline_s is None and subscription.version < self._news_version

    async def _compute(self, subscription: Subscription, cause: str) -> None:
        subscription.begin()
        began_s = _now()
        version = await self._push_feed(subscription)
        now_s = _now()
        self._cost_s += COST_WEIGHT * ((now_s - began_s) / self._workers - self._cost_s)
        self._metrics.push_feeds.labels(cause).inc()
        if not subscription.ended:
            self._in_turn.move_to_end(subscription)
            if version is None:
                self._concern(subscription, now_s)  # tried again when the interval has passed
            elif version < self._touched_version:
                self._concern(subscription, now_s, urgent=True)
            elif version >= subscription.concerned:
                subscription.settle()
        subscription.computing, subscription.computed_s = False, now_s
        if subscription.deadline_s is not None:
            self._arm(subscription)

    async def _push_feed(self, subscription: Subscription) -> int | None:
        """Compute a feed and leave it to the connection; its version, None if there is none."""
        terms = subscription.terms
        request = self._feeds.push_request(subscription.viewer_id, terms.product, terms.limit, terms.explain)
        try:
            finish = self._answers.finish_push(request, subscription.is_new)
            pushed = await self._feeds.answer(request, finish, way="push")
        except CapacityError:
            return None  # not logged: the next interval tries again
        except Exception as error:
            name, message = name_error(error)
            if name == "internal":
                _log.exception("push failed", session=subscription.connection.session)
            if not subscription.ended and name != subscription.last_error:
                subscription.last_error = name
                subscription.connection.error(name, message)
            return None
        subscription.last_error = None
        if pushed.encoded.feed.version < subscription.named_version:
            return None  # entries of a newer version were pushed meanwhile
        subscription.version = pushed.encoded.feed.version
        if not subscription.ended:
            subscription.push(pushed)
        return subscription.version


def _now() -> float:
    return asyncio.get_running_loop().time()
