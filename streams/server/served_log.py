"""What was served goes to the log behind the answer: a bounded queue and one task that empties it."""

import asyncio
from collections import deque
from typing import Final, NamedTuple, Protocol

import structlog

from engine.feed import Feed, Request
from streams.events.served_feed import TOPIC
from streams.log.interface import EventLog, LogError, LogUnavailableError, NewRecord
from streams.process.retry import Retries
from streams.server.metrics import ServingMetrics

#: Encoded between two turns of the event loop: some milliseconds.
BATCH_FEEDS_MAX: Final = 64
RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 5.0

_log = structlog.get_logger(__name__)


class Encoder(Protocol):
    """A served feed, and the request it answers, as the value of its log record."""

    def __call__(self, feed: Feed, request: Request) -> bytes: ...


class _Served(NamedTuple):
    feed: Feed
    request: Request


class ServedLog:
    """Appends a record of topic ``served`` for each feed offered, without the feed's viewer waiting for it.

    ``encoder`` makes a record's value. While the log is away the task tries again and the queue fills; what does not
    fit any more is counted in ``murmuration_served_dropped_total``. A batch whose append failed halfway may be written
    twice: the records carry ids, and consumers deduplicate.
    """

    def __init__(
        self,
        log: EventLog,
        encoder: Encoder,
        metrics: ServingMetrics,
        *,
        feeds_max: int = 4096,
        retry_s_min: float = RETRY_S_MIN,
    ) -> None:
        self._event_log = log
        self._encoder = encoder
        self._metrics = metrics
        self._feeds_max = feeds_max
        self._retries = Retries(
            "served records wait for the log", wait_s_min=retry_s_min, wait_s_max=RETRY_S_MAX, log=_log
        )
        self._queue: deque[_Served] = deque()
        self._appending = 0
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, feed: Feed, request: Request) -> None:
        """Queue a served feed; an empty one too: that nothing was shown may be asked about as well."""
        if len(self._queue) + self._appending >= self._feeds_max:
            self._metrics.served_dropped.labels("queue_full").inc()
            return
        self._queue.append(_Served(feed, request))
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

    async def _append(self, feeds: list[_Served]) -> None:
        records = [record for feed, request in feeds if (record := self._record(feed, request)) is not None]
        while True:
            try:
                await self._event_log.append(TOPIC, records)
                self._retries.succeeded()
                return
            except LogUnavailableError as error:
                await self._retries.wait(error)
            except LogError as error:
                _log.error("served records refused by the log", error=str(error), feeds=len(feeds))
                self._metrics.served_dropped.labels("refused").inc(len(feeds))
                return

    def _record(self, feed: Feed, request: Request) -> NewRecord | None:
        try:
            value = self._encoder(feed, request)
        except Exception:  # one feed that cannot be encoded must not stop the others' records
            _log.exception("a served feed cannot be recorded", request_id=feed.request_id, version=feed.version)
            self._metrics.served_dropped.labels("refused").inc()
            return None
        return NewRecord(value=value, key=str(feed.viewer_id).encode())
