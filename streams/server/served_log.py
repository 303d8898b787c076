"""Writes served feeds to the log after their answers: a bounded queue, and one task that empties it in batches.

Feeds gather for ``served_linger_s`` and become one record per partition, so that one append, one decode and one version
serve all of them. Later feeds (``ViewerFlag.SERVED``) and audits therefore know a served feed only after the linger
and the apply. Until then the feed waits in this process: a kill loses it, a drain writes it first.
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

#: Feeds that are recorded together. The linger ends early when this many wait.
BATCH_FEEDS_MAX: Final = 256
#: Most entries and bytes of a record, unless a single feed has more. All entries of a record are applied under one
#: hold of the state lock.
RECORD_ENTRIES_MAX: Final = 2048
RECORD_BYTES_MAX: Final = 262_144
RETRY_S_MIN: Final = 0.1
RETRY_S_MAX: Final = 5.0
#: How long the known number of partitions is used before the log is asked again.
PARTITIONS_S: Final = 60.0

_log = structlog.get_logger(__name__)


class ServedLog:
    """Records feeds in topic ``served``, without their viewers waiting for it.

    While the log is away the task retries and the queue fills. Feeds that no longer fit are dropped and counted in
    ``murmuration_served_dropped_total``. A batch whose append failed halfway may be written twice; consumers drop the
    second copy by the feeds' ids.
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
        """Queue a served feed. An empty feed counts too: somebody may audit that nothing was shown.

        None stands for a feed that could not be encoded; it is counted as dropped.
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
        """Append offered feeds until cancelled."""
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
        """Wait until the queue is empty or the time is up. Feeds left then are counted as dropped."""
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
                    # Nothing was written. Try each half by itself, so that only feeds that are too large are refused.
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
        """Records of each partition's feeds, in their order, of tweets and of people apart. The viewer's key chooses
        the partition."""
        by_partition: dict[tuple[int, bool], list[ServedPart]] = {}
        keys = [str(part.viewer_id).encode() for part in parts]
        for part, partition in zip(parts, partitions_of(keys, partitions, 0), strict=True):
            by_partition.setdefault((partition, part.of_people), []).append(part)
        for (partition, _), own in by_partition.items():
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
