"""Appending to Kafka: one lane per partition gathers waiting records into batches, at most two of them under way.

aiokafka's ``send`` costs a future and a task step per record; a whole batch costs them once. While one batch is being
acknowledged and the next one is ready, further appends gather in the lane and leave together.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from streams.log.interface import (
    CONTENT_TYPES,
    Format,
    LogError,
    LogForbiddenError,
    LogUnavailableError,
    NewRecord,
    RecordTooLargeError,
)
from streams.log.kafka.connect import start, stop
from streams.log.kafka.options import KafkaOptions
from streams.log.kafka.refusals import FORBIDDEN, TOO_LARGE, describe, no_right
from streams.process.ending import end_tasks, wait_ended

_UNDER_WAY_MAX = 2
#: Pause between two looks for the leader of a partition.
_LEADER_LOOK_S = 0.1
#: What Kafka adds to a batch, and at most to a record beside key and value (numbers, and the header of packed records).
BATCH_OVERHEAD_BYTES = 61
RECORD_OVERHEAD_BYTES = 80
#: A record without the header is JSON, so the common case costs no bytes.
_HEADERS: dict[Format, list[tuple[str, bytes]]] = {
    format: [] if format == Format.JSON else [("content-type", content)] for format, content in CONTENT_TYPES.items()
}


class _Part:
    """One append's records for one partition."""

    __slots__ = ("future", "offsets", "records", "taken")

    def __init__(self, records: Sequence[NewRecord]) -> None:
        self.records = records
        self.taken = 0
        self.offsets: list[int] = []
        self.future: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()


class _Share(NamedTuple):
    """The number of records of a part that a batch holds."""

    part: _Part
    records: int


class _Lane:
    """The parts that wait for one partition, and a limit to its batches under way."""

    __slots__ = ("batch_bytes_max", "pump", "topic_partition", "under_way", "waiting")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic_partition = (topic, partition)
        self.batch_bytes_max = 0
        self.waiting: deque[_Part] = deque()
        self.under_way = asyncio.Semaphore(_UNDER_WAY_MAX)
        self.pump: asyncio.Task[None] | None = None


class KafkaAppender:
    """Appends by an idempotent producer, acknowledged by all in-sync replicas. For many tasks of one event loop.

    After a batch has failed for good the producer is replaced, because its sequence numbers no longer fit the broker's.
    """

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._lanes: dict[tuple[str, int], _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_open = False

    def open(self) -> None:
        """Accept appends from now on. The producer connects at the first append."""
        self._is_open = True

    async def append(
        self, topic: str, records: Sequence[NewRecord], placed: Sequence[int], batch_bytes_max: int
    ) -> list[tuple[int, int]]:
        """Append records, each to its partition in ``placed``; returns (partition, offset) of each.

        ``batch_bytes_max``: the topic takes no larger batch.

        Raises:
            LogUnavailableError: not acknowledged within ``append_timeout_s``.
            RecordTooLargeError: a record is larger than the broker's own limit.
        """
        if not self._is_open:
            raise LogUnavailableError(f"log kafka://{self._options.servers}: is not open")
        by_partition: dict[int, list[NewRecord]] = {}
        for record, partition in zip(records, placed, strict=True):
            by_partition.setdefault(partition, []).append(record)
        parts = {p: self._enqueue(topic, p, mine, batch_bytes_max) for p, mine in by_partition.items()}
        try:
            async with asyncio.timeout(self._options.append_timeout_s):
                done = await asyncio.gather(*(part.future for part in parts.values()))
        except TimeoutError:
            raise LogUnavailableError(
                f"log kafka://{self._options.servers}: {topic}: not acknowledged within "
                f"{self._options.append_timeout_s:g} s; is Kafka running there?"
            ) from None
        finally:
            self._withdraw(topic, parts)
        offsets = {p: iter(found) for p, found in zip(parts, done, strict=True)}
        return [(p, next(offsets[p])) for p in placed]

    def _enqueue(self, topic: str, partition: int, records: Sequence[NewRecord], batch_bytes_max: int) -> _Part:
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = _Lane(topic, partition)
        part = _Part(records)
        lane.batch_bytes_max = batch_bytes_max
        lane.waiting.append(part)
        if lane.pump is None or lane.pump.done():
            lane.pump = asyncio.create_task(self._pump(lane), name=f"murmuration-append-{topic}-{partition}")
        return part

    def _withdraw(self, topic: str, parts: dict[int, _Part]) -> None:
        """Nobody waits for these parts any more: do not send those that are not under way yet."""
        for partition, part in parts.items():
            if not part.future.done():
                part.future.cancel()
            waiting = self._lanes[topic, partition].waiting
            if part in waiting:
                waiting.remove(part)

    async def _pump(self, lane: _Lane) -> None:
        topic, partition = lane.topic_partition
        while lane.waiting:
            await lane.under_way.acquire()
            shares: list[_Share] = []
            try:
                producer = await self._started(topic, partition)
                shares, batch = self._fill(producer, lane)
                if not shares:
                    lane.under_way.release()
                    continue
                acknowledged = await producer.send_batch(batch, topic, partition=partition)
            except (KafkaError, LogError, OSError) as error:
                lane.under_way.release()
                _fail(shares or _all(lane), self._problem(error, topic))
                continue
            except BaseException as error:
                _fail(shares + _all(lane), self._problem(error, topic))
                raise
            acknowledged.add_done_callback(partial(self._settle, lane, producer, shares))

    def _fill(self, producer: AIOKafkaProducer, lane: _Lane) -> tuple[list[_Share], BatchBuilder]:
        """Move waiting records into a new batch until it is full; returns the parts' shares in it, and the batch."""
        batch = producer.create_batch()
        append = batch.append
        shares: list[_Share] = []
        full, room = False, lane.batch_bytes_max - BATCH_OVERHEAD_BYTES
        while lane.waiting and not full:
            part = lane.waiting[0]
            if part.future.done():  # withdrawn, or an earlier batch of it failed: nobody wants the rest
                lane.waiting.popleft()
                continue
            first = part.taken
            for record in part.records[first:] if first else part.records:
                key, value = record.key or None, record.value or None
                room -= len(record.key) + len(record.value) + RECORD_OVERHEAD_BYTES
                if (room < 0 and batch.record_count()) or append(
                    timestamp=None, key=key, value=value, headers=_HEADERS[record.format]
                ) is None:
                    full = True
                    break
                part.taken += 1
            if part.taken > first:
                shares.append(_Share(part, part.taken - first))
            if part.taken == len(part.records):
                lane.waiting.popleft()
        batch.close()
        return shares, batch

    def _settle(
        self, lane: _Lane, producer: AIOKafkaProducer, shares: list[_Share], acknowledged: "asyncio.Future[object]"
    ) -> None:
        lane.under_way.release()
        error = acknowledged.exception()
        base = -1 if error else getattr(acknowledged.result(), "offset", -1)
        if base < 0:
            # No offset and no error: the producer was given up, or a batch was sent twice and the broker no longer
            # knows the offset of the first.
            _fail(shares, self._problem(error or KafkaError("no offset acknowledged"), lane.topic_partition[0]))
            if error is not None:
                self._replace(producer)
            return
        for part, count in shares:
            part.offsets.extend(range(base, base + count))
            base += count
            if len(part.offsets) == len(part.records) and not part.future.done():
                part.future.set_result(part.offsets)

    def _problem(self, error: BaseException, topic: str) -> Exception:
        if isinstance(error, LogError):
            return error
        if isinstance(error, TOO_LARGE):
            return RecordTooLargeError("over the broker's limit: lower log.record_bytes_max or raise max.message.bytes")
        if isinstance(error, FORBIDDEN):
            return LogForbiddenError(f"log kafka://{self._options.servers}: {no_right('write to', topic)}")
        return LogUnavailableError(f"log kafka://{self._options.servers}: append failed ({describe(error)})")

    async def _started(self, topic: str, partition: int) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                options = self._options
                self._producer = await start(
                    lambda client: AIOKafkaProducer(**client, **options.producer, acks="all", enable_idempotence=True),
                    options,
                    timeout_s=options.append_timeout_s,
                )
            producer = self._producer
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.append_timeout_s
        # The producer may not know an added partition yet: update its metadata. If the partition's broker is away, wait
        # for it until the time of an append is over.
        while partition not in await producer.partitions_for(topic):
            await producer.client.force_metadata_update()
            if partition in await producer.partitions_for(topic):
                break
            if loop.time() >= deadline:
                raise LogUnavailableError(f"log kafka://{self._options.servers}: {topic}/{partition} has no leader yet")
            await asyncio.sleep(_LEADER_LOOK_S)
        return producer

    def _replace(self, producer: AIOKafkaProducer) -> None:
        if self._producer is producer:
            self._producer = None
            task = asyncio.create_task(_abandon(producer), name="murmuration-abandon-producer")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Send the waiting records, within ``append_timeout_s``, and disconnect; idempotent."""
        self._is_open = False
        deadline = asyncio.get_running_loop().time() + self._options.append_timeout_s
        pumps = [lane.pump for lane in self._lanes.values() if lane.pump is not None and not lane.pump.done()]
        if pumps:
            await asyncio.wait(pumps, timeout=self._options.append_timeout_s)
        await end_tasks(pumps)
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await producer.flush()
            await _abandon(producer)
        await wait_ended(self._tasks, timeout_s=self._options.append_timeout_s)


class _Forgiving(set[Any]):
    """A set whose ``remove`` does nothing where the element is missing."""

    remove = set.discard


async def _abandon(producer: AIOKafkaProducer) -> None:
    """Stop a producer that still has unsent or unacknowledged batches, and give these batches up.

    An idempotent producer retries a batch for ever, and its public ``stop`` and ``flush`` wait for that. So the future
    of every batch is settled here with None, which its lane takes as a failure, and ``stop`` has nothing to wait for.

    There is no public way in aiokafka 0.14, and two private ways are worse. ``MessageAccumulator.fail_all`` is made for
    a sender that has ended: while the sender runs, it may queue a failed batch again and then removes it a second time
    from ``_pending_batches``, a KeyError. ``Sender.close`` waits for the requests in flight, with a hung broker for
    ``request_timeout_ms``. tests/streams/log/test_kafka_parts.py notices when the private parts change.
    """
    accumulator = producer._message_accumulator
    queued = {batch for batches in accumulator._batches.values() for batch in batches}
    accumulator._pending_batches = _Forgiving(accumulator._pending_batches | queued)
    accumulator._batches.clear()
    for batch in list(accumulator._pending_batches):
        if not batch.future.done():
            batch.future.set_result(None)
    await stop(producer)


def _all(lane: _Lane) -> list[_Share]:
    shares = [_Share(part, 0) for part in lane.waiting]
    lane.waiting.clear()
    return shares


def _fail(shares: Sequence[_Share], error: Exception) -> None:
    for share in shares:
        if not share.part.future.done():
            share.part.future.set_exception(error)
