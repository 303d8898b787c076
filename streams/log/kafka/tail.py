"""Following Kafka partitions: assigned by hand (no consumer group), merged by append time, bounded in memory."""

import asyncio
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.errors import KafkaError
from aiokafka.errors import OffsetOutOfRangeError as KafkaOffsetOutOfRangeError

from streams.log.interface import (
    CONTENT_TYPES,
    Format,
    LogForbiddenError,
    LogUnavailableError,
    OffsetOutOfRangeError,
    Records,
    Tail,
    TopicPartition,
)
from streams.log.kafka.client import KafkaClient
from streams.log.kafka.connect import start, stop
from streams.log.kafka.options import KafkaOptions
from streams.log.kafka.refusals import FORBIDDEN, describe, no_right
from streams.log.merge import TimeMerge
from streams.log.record_times import doubted

#: A partition whose buffer holds this much memory is not fetched from.
_BUFFER_BYTES_MAX = 2 << 20
#: The other partitions wait this long for one that has records but brings none (its leader may be away).
_HOLD_S = 0.5
#: Interval at which a waiting tail looks for added partitions.
_LOOK_AGAIN_S = 1.0
#: If a tail has nothing to return and no broker has answered for this long, the log counts as unavailable.
_SILENCE_S = 5.0
#: After that every poll makes a new consumer; the poll waits at least this long for it before it fails.
_RECONNECT_S = 1.0
#: A topic cannot be deleted, made again and filled within this time.
_ID_AGE_S_MAX = 0.1
#: Kafka's number for times that the broker gave.
_LOG_APPEND_TIME = 1


class CheckSame(Protocol):
    """Raises TopicMadeAgainError if one of the topics was deleted and made again, as was known ``age_s_max`` ago."""

    async def __call__(self, topics: Collection[str], *, age_s_max: float) -> None: ...


class KafkaTail(Tail):
    """Reads with a consumer whose positions are kept here. Records that a poll cannot return yet are buffered."""

    def __init__(
        self,
        options: KafkaOptions,
        client: KafkaClient,
        positions: Mapping[TopicPartition, int],
        prefix: str,
        on_close: Callable[["KafkaTail"], None],
        check_same: CheckSame,
        *,
        follow_new: bool,
    ) -> None:
        self._options = options
        self._client = client
        self._prefix = prefix
        self._on_close = on_close
        self._check_same = check_same
        self._follow_new = follow_new
        self._kafka: dict[TopicPartition, KafkaPartition] = {}
        self._own: dict[KafkaPartition, TopicPartition] = {}
        self._positions: dict[TopicPartition, int] = {}
        #: By partition: the offset after the last buffered record.
        self._fetched: dict[TopicPartition, int] = {}
        self._merge = TimeMerge(())
        for partition, position in positions.items():
            self._take_up(partition, position)
        self._lost: dict[TopicPartition, int] = {}
        self._held_since: dict[TopicPartition, float] = {}
        self._silent_since: float | None = None
        self._silent_since_ms = 0
        self._consumer: AIOKafkaConsumer | None = None
        self._closed = False

    def _take_up(self, partition: TopicPartition, position: int) -> None:
        kafka = KafkaPartition(self._prefix + partition.topic, partition.partition)
        self._kafka[partition], self._own[kafka] = kafka, partition
        self._positions[partition] = self._fetched[partition] = position
        self._merge.add(partition)

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return self._positions

    async def open(self, timeout_s: float) -> None:
        """Connect, and seek to the positions.

        Raises:
            LogUnavailableError: no broker answered in time.
        """
        options = self._options
        consumer: AIOKafkaConsumer = await start(
            lambda client: AIOKafkaConsumer(
                **client, **options.consumer, enable_auto_commit=False, auto_offset_reset="none"
            ),
            options,
            timeout_s=timeout_s,
        )
        self._assign(consumer)
        self._consumer = consumer

    def _assign(self, consumer: AIOKafkaConsumer) -> None:
        """Fetch from all partitions, each from the offset after its buffered records.

        The consumer drops the records that it holds, and fetches them again. There is no await in here, so a poll that
        is cancelled leaves either everything assigned or nothing.
        """
        consumer.assign(list(self._kafka.values()))
        for partition, kafka in self._kafka.items():
            consumer.seek(kafka, self._fetched[partition])
            if partition in self._lost:
                consumer.pause(kafka)
        self._held_since.clear()

    def _take_up_new(self, consumer: AIOKafkaConsumer) -> None:
        """Also follow partitions that were added since, each from its first record."""
        added = [
            partition
            for topic in {partition.topic for partition in self._kafka}
            for number in consumer.partitions_for_topic(self._prefix + topic) or ()
            if (partition := TopicPartition(topic, number)) not in self._kafka
        ]
        if added:
            for partition in sorted(added):
                self._take_up(partition, 0)
            self._assign(consumer)

    async def close(self) -> None:
        self._closed = True
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await stop(consumer)
        self._on_close(self)

    def _opened(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise LogUnavailableError(f"log kafka://{self._options.servers}: the tail is closed")
        return self._consumer

    async def poll(self, *, records_max: int, timeout_s: float) -> list[Records]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        if self._consumer is None and not self._closed:
            await self._reconnect(deadline)
        await self._check_topics(age_s_max=math.inf)
        await self._fetch(0)
        while True:
            if self._follow_new:
                self._take_up_new(self._opened())
            behind, hold_s = await self._behind(loop.time())
            if not self._merge.all_empty:
                # The id is asked for after the fetch: records of another topic of the same name are not returned.
                await self._check_topics(age_s_max=_ID_AGE_S_MAX)
            await self._raise_if_lost()
            runs = self._merge.release(records_max, behind)
            if runs:
                for run in runs:
                    self._positions[TopicPartition(run.topic, run.partition)] = run.offsets[-1] + 1
                self._silent_since = None
                return runs
            left_s = deadline - loop.time()
            if left_s <= 0:
                await self._raise_if_silent(loop.time())
                return []
            await self._fetch(min(left_s, hold_s, _LOOK_AGAIN_S))

    async def _check_topics(self, *, age_s_max: float) -> None:
        await self._check_same(sorted({partition.topic for partition in self._kafka}), age_s_max=age_s_max)

    async def _fetch(self, timeout_s: float) -> None:
        """Buffer the records that have arrived; wait for some at most ``timeout_s``."""
        consumer = self._opened()
        wanted = self._wanted()
        if not wanted:
            # Every partition is lost or full. ``poll`` releases a full buffer before it waits.
            await asyncio.sleep(timeout_s)
            return
        try:
            fetched = await consumer.getmany(*wanted, timeout_ms=math.ceil(timeout_s * 1000))
        except KafkaOffsetOutOfRangeError as error:
            for kafka, offset in error.args[0].items():
                self._lost[self._own[kafka]] = offset
                consumer.pause(kafka)
            return
        except FORBIDDEN as error:
            topic = error.args[0] if error.args else "?"
            raise LogForbiddenError(f"log kafka://{self._options.servers}: {no_right('read', topic)}") from error
        except KafkaError as error:  # the consumer stands where it stood, and a later poll tries again
            raise LogUnavailableError(
                f"log kafka://{self._options.servers}: cannot be read ({describe(error)})"
            ) from error
        for kafka, messages in fetched.items():
            partition = self._own[kafka]
            self._merge.push(_records(partition, messages, int(time.time() * 1000)))
            self._fetched[partition] = messages[-1].offset + 1
            self._held_since.pop(partition, None)

    def _wanted(self) -> list[KafkaPartition]:
        """The partitions to fetch from. Those with a full buffer are paused: the consumer does not fetch them."""
        consumer, wanted = self._opened(), []
        paused = consumer.paused()
        for partition, kafka in self._kafka.items():
            if partition in self._lost:
                continue
            if self._merge.bytes(partition) >= _BUFFER_BYTES_MAX:
                if kafka not in paused:
                    consumer.pause(kafka)
                continue
            if kafka in paused:
                consumer.resume(kafka)
            wanted.append(kafka)
        return wanted

    async def _behind(self, now: float) -> tuple[list[TopicPartition], float]:
        """The partitions to wait for, and the seconds until the first of those with an empty buffer is given up."""
        consumer = self._opened()
        behind, hold_s = [], float("inf")
        for partition, kafka in self._kafka.items():
            if partition in self._lost:
                continue
            end = consumer.last_stable_offset(kafka)
            if self._merge.empty(partition):
                position = await consumer.position(kafka)
                if position > self._fetched[partition]:
                    # After the last record come offsets without a record (transaction markers, compacted records).
                    # The position passes over them to the end offset, so that the lag reaches 0.
                    self._fetched[partition] = self._positions[partition] = position
                if end is not None and position >= end:
                    self._held_since.pop(partition, None)
                    continue
                left_s = self._held_since.setdefault(partition, now) + _HOLD_S - now
                if left_s > 0:
                    behind.append(partition)
                    hold_s = min(hold_s, left_s)
            elif end is None or self._fetched[partition] < end:
                behind.append(partition)  # ``end`` is None before the first answer: there may be more records
        return behind, hold_s

    async def _raise_if_lost(self) -> None:
        """Once the next record of a partition is gone, no partition is read on: the gap is said at once."""
        for partition in self._lost:
            if self._merge.empty(partition):
                await self._check_topics(age_s_max=0.0)
                kafka = self._kafka[partition]
                starts = await self._client.beginning_offsets([kafka])
                raise OffsetOutOfRangeError(partition, self._positions[partition], starts[kafka])

    async def _raise_if_silent(self, now: float) -> None:
        """A poll was empty: find out whether brokers still answer. They answer a fetch within fetch_max_wait_ms."""
        consumer = self._opened()
        if self._silent_since is None:
            self._silent_since, self._silent_since_ms = now, int(time.time() * 1000)
        if now - self._silent_since < _SILENCE_S:
            return
        answered = [consumer.last_poll_timestamp(k) or 0 for p, k in self._kafka.items() if p not in self._lost]
        answered_ms = max(answered, default=0)
        if not answered or time.time() * 1000 - max(answered_ms, self._silent_since_ms) < _SILENCE_S * 1000:
            return
        self._consumer = None
        await stop(consumer)
        raise LogUnavailableError(
            f"log kafka://{self._options.servers}: no broker has answered for {_SILENCE_S:g} s; is Kafka running there?"
        )

    async def _reconnect(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        timeout_s = max(deadline - loop.time(), _RECONNECT_S)
        await self.open(timeout_s)
        self._silent_since = None


def _records(partition: TopicPartition, messages: Sequence[ConsumerRecord[Any, Any]], now_ms: int) -> Records:
    claimed = [m for m in messages if m.timestamp_type != _LOG_APPEND_TIME]
    return Records(
        partition.topic,
        partition.partition,
        [m.offset for m in messages],
        [m.timestamp for m in messages],
        [_format(m.headers) if m.headers else Format.JSON for m in messages],
        [m.key or b"" for m in messages],
        [m.value or b"" for m in messages],
        doubted([m.offset for m in claimed], [m.timestamp for m in claimed], now_ms),
    )


def _format(headers: Sequence[tuple[str, bytes]]) -> Format:
    packed = CONTENT_TYPES[Format.PACKED]
    return Format.PACKED if any(k == "content-type" and v == packed for k, v in headers) else Format.JSON
