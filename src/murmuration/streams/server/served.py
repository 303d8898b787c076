"""What was served goes to the log behind the answer: a bounded queue and one task that empties it."""

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from murmuration.engine.feed import Feed
from murmuration.streams.log.base import EventLog, Format, LogError, LogUnavailableError, NewRecord
from murmuration.streams.server.metrics import ServingMetrics

TOPIC: Final = "served"
BATCH_FEEDS_MAX: Final = 256
RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 5.0

_log = structlog.get_logger(__name__)


class ServedLog:
    """Appends a record of topic ``served`` for each feed offered, without the feed's viewer waiting for it.

    ``encoder`` packs a feed into a record's value. While the log is away the task tries again and the queue fills;
    what does not fit any more is counted in ``murmuration_served_dropped_total``. A batch whose append failed halfway
    may be written twice: the rows carry ids, and consumers deduplicate.
    """

    def __init__(
        self,
        log: EventLog,
        encoder: Callable[[Feed], bytes],
        metrics: ServingMetrics,
        *,
        feeds_max: int = 4096,
        retry_s_min: float = RETRY_S_MIN,
    ) -> None:
        self._event_log = log
        self._encoder = encoder
        self._metrics = metrics
        self._feeds_max = feeds_max
        self._retry_s_min = retry_s_min
        self._queue: deque[Feed] = deque()
        self._appending = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, feed: Feed) -> None:
        """Queue a served feed; an empty one leaves no record."""
        if not feed.entries:
            return
        if len(self._queue) + self._appending >= self._feeds_max:
            self._metrics.served_dropped.labels("queue_full").inc()
            return
        self._queue.append(feed)
        self._idle.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Append what was offered, until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                feeds = [self._queue.popleft() for _ in range(min(BATCH_FEEDS_MAX, len(self._queue)))]
                self._appending = len(feeds)
                await self._append(feeds)
                self._appending = 0
            self._idle.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait until the queue is empty or the time is over; what is left then is counted as dropped."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            self._metrics.served_dropped.labels("closing").inc(len(self._queue) + self._appending)
            self._queue.clear()

    async def _append(self, feeds: list[Feed]) -> None:
        records = [record for feed in feeds if (record := self._record(feed)) is not None]
        wait_s = self._retry_s_min
        while True:
            try:
                await self._event_log.append(TOPIC, records)
                return
            except LogUnavailableError as error:
                _log.warning("served records wait for the log", error=str(error), retry_s=wait_s)
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
                wait_s = min(wait_s * 2, RETRY_S_MAX)
            except LogError as error:
                _log.error("served records refused by the log", error=str(error), feeds=len(feeds))
                self._metrics.served_dropped.labels("refused").inc(len(feeds))
                return

    def _record(self, feed: Feed) -> NewRecord | None:
        try:
            value = self._encoder(feed)
        except Exception:  # one feed that cannot be packed must not stop the others' records
            _log.exception("a served feed cannot be packed", request_id=feed.request_id, version=feed.version)
            self._metrics.served_dropped.labels("refused").inc()
            return None
        return NewRecord(value=value, key=str(feed.viewer_id).encode(), format=Format.PACKED)
