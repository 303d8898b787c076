"""What was served goes to the log after the answer: a bounded queue and one task that empties it, many feeds at a time.

Feeds gather for a linger and become one record a partition: one append, one decode, one version for all of them. So a
feed is known as served, to feeds that ask (``ViewerFlag.SERVED``) and to audits, about a linger and an apply after its
answer. Until then it waits in this process, and goes with it when the process is killed; a drain leaves nothing.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

import structlog

from streams.events.served_feed import TOPIC, ServedPart
from streams.events.served_records import encode_served
from streams.log.interface import (
    EventLog,
    Format,
    LogError,
    LogUnavailableError,
    NewRecord,
    RecordTooLargeError,
)
from streams.log.placement import partitions_of
from streams.process.retry import Retries
from streams.server.metrics import ServingMetrics

#: Feeds that are recorded together; as many that wait end the linger.
BATCH_FEEDS_MAX: Final = 256
#: A record's entries (all are applied under one hold of the state lock) and bytes, where one feed has no more.
RECORD_ENTRIES_MAX: Final = 2048
RECORD_BYTES_MAX: Final = 262_144
RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 5.0
#: How long the number of partitions is believed.
PARTITIONS_S: Final = 60.0

_log = structlog.get_logger(__name__)


class ServedLog:
    """Records feeds in topic ``served``, without their viewers waiting for it.

    While the log is away the task tries again and the queue fills; what does not fit any more is counted in
    ``murmuration_served_dropped_total``. A batch whose append failed halfway may be written twice: the feeds carry
    ids, and consumers deduplicate.
    """

    def __init__(
        self,
        event_log: EventLog,
        metrics: ServingMetrics,
        *,
        linger_s: float,
        feeds_max: int = 4096,
        retry_s_min: float = RETRY_S_MIN,
    ) -> None:
        self._event_log = event_log
        self._metrics = metrics
        self._linger_s = linger_s
        self._feeds_max = feeds_max
        self._retries = Retries(
            "served records wait for the log", wait_s_min=retry_s_min, wait_s_max=RETRY_S_MAX, log=_log
        )
        self._queue: deque[ServedPart] = deque()
        self._appending = 0
        self._partitions = 0
        self._partitions_until_s = 0.0
        self._draining = False
        self._arrived = asyncio.Event()
        self._hurry = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def offer(self, part: ServedPart | None) -> None:
        """Queue a served feed; an empty one too: that nothing was shown may be asked about as well.

        None is a feed that could not be encoded; it is counted.
        """
        if part is None:
            self._metrics.served_dropped.labels("refused").inc()
            return
        waiting = len(self._queue) + self._appending
        if waiting >= self._feeds_max:
            self._metrics.served_dropped.labels("queue_full").inc()
            return
        self._queue.append(part)
        self._idle.clear()
        self._arrived.set()
        if self._draining or len(self._queue) >= BATCH_FEEDS_MAX:
            self._hurry.set()

    async def run(self) -> None:
        """Append what was offered, until cancelled."""
        while True:
            await self._arrived.wait()
            await self._linger()
            parts = [self._queue.popleft() for _ in range(min(BATCH_FEEDS_MAX, len(self._queue)))]
            self._appending = len(parts)
            await self._append(parts)
            self._appending = 0
            if not self._queue:
                self._arrived.clear()
                self._idle.set()

    async def drain(self, timeout_s: float) -> None:
        """Wait until the queue is empty or the time is over; what is left then is counted as dropped."""
        self._draining = True
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            self._metrics.served_dropped.labels("closing").inc(len(self._queue) + self._appending)
            self._queue.clear()
        finally:
            self._draining = False

    async def _linger(self) -> None:
        """Let feeds gather, unless many wait already or nothing more will come."""
        if not self._draining and len(self._queue) < BATCH_FEEDS_MAX:
            self._hurry.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._linger_s):
                    await self._hurry.wait()

    async def _append(self, parts: list[ServedPart]) -> None:
        while True:
            try:
                records = list(self._records(parts, await self._partition_count()))
                await self._event_log.append(TOPIC, records)
                self._retries.succeeded()
                return
            except LogUnavailableError as error:
                await self._retries.wait(error)
            except LogError as error:
                self._partitions_until_s = 0.0
                if isinstance(error, RecordTooLargeError) and len(parts) > 1:
                    # Nothing was written: halve, so that only the feeds that are too large are refused.
                    middle = len(parts) // 2
                    await self._append(parts[:middle])
                    await self._append(parts[middle:])
                    return
                _log.error("served records refused by the log", error=str(error), feeds=len(parts))
                self._metrics.served_dropped.labels("refused").inc(len(parts))
                return

    async def _partition_count(self) -> int:
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._partitions_until_s:
            self._partitions = await self._event_log.partitions(TOPIC)
            self._partitions_until_s = now_s + PARTITIONS_S
        return self._partitions

    def _records(self, parts: Sequence[ServedPart], partitions: int) -> Iterator[NewRecord]:
        """Records of each partition's feeds, in their order: a feed lies where its viewer's key belongs."""
        by_partition: dict[int, list[ServedPart]] = {}
        keys = [str(part.viewer_id).encode() for part in parts]
        for part, partition in zip(parts, partitions_of(keys, partitions, 0), strict=True):
            by_partition.setdefault(partition, []).append(part)
        for partition, own in by_partition.items():
            for group in _groups(own):
                key = str(group[0].viewer_id).encode()
                yield NewRecord(value=encode_served(group), key=key, format=Format.PACKED, partition=partition)


def _groups(parts: Sequence[ServedPart]) -> Iterator[list[ServedPart]]:
    """Feeds cut into records, in order."""
    group: list[ServedPart] = []
    entries = size = 0
    for part in parts:
        entries, size = entries + part.entries, size + part.size
        if group and (entries > RECORD_ENTRIES_MAX or size > RECORD_BYTES_MAX):
            yield group
            group, entries, size = [], part.entries, part.size
        group.append(part)
    if group:
        yield group
