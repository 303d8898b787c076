"""The event log on Apache Kafka, for more than one machine: partitions, replication and retention are Kafka's.

An idempotent producer writes, and all in-sync replicas acknowledge (``producer``). Tails read without consumer groups,
from offsets that the engine keeps itself (``tail``). Topics that are made here carry the broker's append time.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

import structlog
from aiokafka import TopicPartition as KafkaPartition

from config.serving import LogConfig
from streams.log.interface import (
    EventLog,
    LogError,
    LogForbiddenError,
    LogIdentity,
    LogUnavailableError,
    NewRecord,
    Tail,
    TopicMadeAgainError,
    TopicPartition,
)
from streams.log.kafka.client import KafkaClient
from streams.log.kafka.identity import Operation, TopicFacts
from streams.log.kafka.options import parse_options, quiet_retries
from streams.log.kafka.producer import BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, KafkaAppender
from streams.log.kafka.refusals import no_right
from streams.log.kafka.tail import KafkaTail
from streams.log.placement import check_sizes, place
from streams.process.ending import end_tasks

#: Appends ask for the number of partitions again after this time: partitions may be added.
_COUNTS_MAX_AGE_S = 30.0
#: Questions about all partitions of a topic use a number of partitions that is at most this old.
_COUNTS_REUSED_S = 1.0
_LOOK_AGAIN_S = 0.05
#: Topics that keep the newest record of every key for ever, and every record for the retention time.
_COMPACTED = frozenset({"users"})
#: Added to the largest record's size, for keys, headers and the frame of a batch.
_FRAME_BYTES = 65_536
#: Marks the topics that are made here, for every node and every later start: only these are trimmed. Kafka has no field
#: for such a mark; ``delete.retention.ms`` has no effect where nothing is compacted. The number is "murm" in ASCII.
_MARK: Final = ("delete.retention.ms", str(int.from_bytes(b"murm", "big")))
_POLICY: Final = "cleanup.policy"
#: The largest batch that a topic takes, in bytes.
_LIMIT: Final = "max.message.bytes"
#: What is read of a topic's configuration before it is trimmed.
_TRIMMING: Final = (_MARK[0], _POLICY, "message.timestamp.type", "retention.ms")

log = structlog.get_logger("murmuration.log")


class KafkaLog(EventLog):
    """The Kafka backend; see the module. ``kafka://host:port[,host:port]``, options in ``log.kafka``."""

    def __init__(self, config: LogConfig) -> None:
        self._options = parse_options(config)
        self._prefix = config.topic_prefix
        self._record_bytes_max = config.record_bytes_max
        self._retention_ms = int(config.retention_h * 3_600_000)
        self._kept_topics = frozenset(config.kept_topics)
        self._client = KafkaClient(self._options)
        self._appender = KafkaAppender(self._options)
        #: By stored name, of every topic that was asked about: what the brokers said last, and its first id.
        self._facts: dict[str, TopicFacts] = {}
        self._names: set[str] = set()
        self._first_ids: dict[str, str] = {}
        #: By stored name: the largest batch that the topic takes, in bytes.
        self._batch_bytes_max: dict[str, int] = {}
        self._counted_at = 0.0
        self._recount: asyncio.Task[None] | None = None
        self._keyless = 0
        self._tails: set[KafkaTail] = set()

    async def open(self) -> None:
        quiet_retries()
        await self._client.open()
        self._appender.open()

    async def close(self) -> None:
        await asyncio.gather(*(tail.close() for tail in self._tails))
        if self._recount is not None:
            await end_tasks([self._recount])
            self._recount = None
        await self._appender.close()
        await self._client.close()

    async def identity(self) -> LogIdentity:
        cluster, ids = await self._client.identity()
        own = {name.removeprefix(self._prefix): id for name, id in ids.items() if name.startswith(self._prefix)}
        return LogIdentity(f"kafka:{cluster} {self._prefix}".strip(), own)

    async def ensure_topics(self, partitions: Mapping[str, int]) -> None:
        self._names |= {self._prefix + topic for topic in partitions}
        existing = await self._client.topics(self._names)
        new = {self._prefix + t: count for t, count in partitions.items() if self._prefix + t not in existing}
        if new:
            configs = {self._prefix + topic: self._topic_config(topic) for topic in partitions}
            await self._client.create_topics(new, configs)
            try:
                await self._wait_for(new)
            except TimeoutError:
                raise LogUnavailableError(
                    f"log kafka://{self._options.servers}: the topics made are not known to the brokers yet"
                ) from None

    def _topic_config(self, topic: str) -> dict[str, str]:
        config = {
            # The log's own time of the append, as EventLog has it; a producer's clock may be anything.
            "message.timestamp.type": "LogAppendTime",
            "max.message.bytes": str(max(1_048_588, self._record_bytes_max + _FRAME_BYTES)),
            "retention.ms": "-1" if topic in self._kept_topics else str(self._retention_ms),
        }
        if topic in _COMPACTED:
            config |= {"cleanup.policy": "compact", "min.compaction.lag.ms": str(self._retention_ms)}
        else:
            config |= dict([_MARK])
        return config

    async def _wait_for(self, new: Collection[str]) -> None:
        """Until the new topics are known to the brokers and have leaders (asking for their ends waits for that)."""
        async with asyncio.timeout(self._options.open_timeout_s):
            await self._count()
            while not self._facts.keys() >= set(new):
                await asyncio.sleep(_LOOK_AGAIN_S)
                await self._count()
        # Another process may have made a topic at the same time, with another number of partitions.
        partitions = [KafkaPartition(topic, p) for topic in new for p in range(self._facts[topic].partitions)]
        await self._client.end_offsets(partitions)

    async def partitions(self, topic: str) -> int:
        self._names.add(self._prefix + topic)
        await self._count()
        return self._counted(topic)

    async def _count(self) -> None:
        asked_at = asyncio.get_running_loop().time()
        self._facts = await self._client.topics(self._names)
        self._counted_at = asked_at
        for stored, facts in self._facts.items():
            self._first_ids.setdefault(stored, facts.id)

    def _counted(self, topic: str) -> int:
        stored = self._prefix + topic
        if stored not in self._facts:
            raise LogError(f"no topic {stored!r} at kafka://{self._options.servers}")
        return self._facts[stored].partitions

    async def _check_same(self, topics: Collection[str], *, age_s_max: float) -> None:
        """Raise TopicMadeAgainError if one of the topics is not the one any more that it was at first.

        The brokers are asked if what they said last is older than ``age_s_max``.
        """
        if asyncio.get_running_loop().time() - self._counted_at > age_s_max:
            await self._count()
        for topic in topics:
            facts = self._facts.get(self._prefix + topic)
            if facts is not None and facts.id != self._first_ids[self._prefix + topic]:
                raise TopicMadeAgainError(topic, f"kafka://{self._options.servers}")

    async def check_readable(self, topics: Collection[str]) -> None:
        self._names |= {self._prefix + topic for topic in topics}
        await self._count()
        for topic in topics:
            self._counted(topic)
            if not self._facts[self._prefix + topic].may(Operation.READ):
                raise LogForbiddenError(
                    f"log kafka://{self._options.servers}: {no_right('read', self._prefix + topic)}"
                )

    async def compacted(self, topics: Collection[str]) -> frozenset[str]:
        policies = {}
        for topic in topics:
            try:
                policies[topic] = (await self._client.configs(self._prefix + topic, [_POLICY])).get(_POLICY, "")
            except LogForbiddenError:
                policies[topic] = "compact" if topic in _COMPACTED else ""
        return frozenset(topic for topic, policy in policies.items() if "compact" in policy)

    async def _partitions_to_append(self, topic: str) -> int:
        """The known number of partitions. A background task asks for a new number, so that no append waits for it."""
        if self._prefix + topic not in self._facts:
            await self.partitions(topic)
        if self._prefix + topic not in self._batch_bytes_max:
            await self._learn_limit(self._prefix + topic)
        old = asyncio.get_running_loop().time() - self._counted_at > _COUNTS_MAX_AGE_S
        if old and (self._recount is None or self._recount.done()):
            self._recount = asyncio.create_task(self._count_quietly(), name="murmuration-count-partitions")
        return self._counted(topic)

    async def _count_quietly(self) -> None:
        with suppress(LogError):  # if the broker is away, the append raises
            await self._count()
            for stored in list(self._batch_bytes_max):
                await self._learn_limit(stored)

    async def _learn_limit(self, stored: str) -> None:
        """Ask for the largest batch that a topic takes; where that is not told, only the broker's refusal says it."""
        unknown = str(self._record_bytes_max + _FRAME_BYTES)
        try:
            told = (await self._client.configs(stored, [_LIMIT])).get(_LIMIT, unknown)
        except LogForbiddenError:
            told = unknown
        self._batch_bytes_max[stored] = int(told)

    async def append(self, topic: str, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        if not records:
            return []
        check_sizes(records, self._record_bytes_max)
        count = await self._partitions_to_append(topic)
        batch_bytes_max = self._batch_bytes_max[self._prefix + topic]
        if "compression_type" not in self._options.producer:
            room = batch_bytes_max - BATCH_OVERHEAD_BYTES - RECORD_OVERHEAD_BYTES
            check_sizes(records, room, f"{_LIMIT} of topic {self._prefix + topic!r}, less the frame,")
        self._keyless += 1
        placed = place(records, count, self._keyless)
        return await self._appender.append(self._prefix + topic, records, placed, batch_bytes_max)

    async def tail(self, positions: Mapping[TopicPartition, int], *, follow_new: bool = False) -> Tail:
        for topic in {partition.topic for partition in positions}:
            count = await self.partitions(topic)
            wrong = [p.partition for p in positions if p.topic == topic and not 0 <= p.partition < count]
            if wrong:
                raise LogError(f"topic {topic!r} has no partition {wrong[0]}")
            if follow_new:
                positions = {TopicPartition(topic, p): 0 for p in range(count)} | dict(positions)
        tail = KafkaTail(
            self._options,
            self._client,
            positions,
            self._prefix,
            self._tails.discard,
            self._check_same,
            follow_new=follow_new,
        )
        await tail.open(self._options.open_timeout_s)
        self._tails.add(tail)
        return tail

    async def _all(self, topic: str) -> list[KafkaPartition]:
        """All partitions of a topic. Their number is asked for at most once per second: lag is measured often."""
        age_s = asyncio.get_running_loop().time() - self._counted_at
        if self._prefix + topic not in self._facts or age_s > _COUNTS_REUSED_S:
            self._names.add(self._prefix + topic)
            await self._count()
        return [KafkaPartition(self._prefix + topic, p) for p in range(self._counted(topic))]

    async def start_offsets(self, topic: str) -> dict[int, int]:
        found = await self._client.beginning_offsets(await self._all(topic))
        return {kafka.partition: offset for kafka, offset in found.items()}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        found = await self._client.end_offsets(await self._all(topic))
        return {kafka.partition: offset for kafka, offset in found.items()}

    async def written_offsets(self, topic: str) -> dict[int, int]:
        found = await self._client.written_offsets(await self._all(topic))
        return {kafka.partition: offset for kafka, offset in found.items()}

    async def offsets_for_time(self, topic: str, time_ms: int) -> dict[int, int]:
        found = await self._client.offsets_for_time(await self._all(topic), time_ms)
        return {kafka.partition: offset for kafka, offset in found.items()}

    async def apply_retention(self, topic: str, *, before_ms: int) -> dict[int, int]:
        if topic not in _COMPACTED and await self._trimmed(topic):
            everywhere = await self._all(topic)
            firsts = await self._client.offsets_for_time(everywhere, before_ms)
            starts = await self._client.beginning_offsets(everywhere)
            try:
                await self._client.delete_before({p: first for p, first in firsts.items() if first > starts[p]})
            except LogForbiddenError as error:
                raise LogForbiddenError(
                    f"{no_right('delete records of', self._prefix + topic)}: they stay until the broker removes them"
                ) from error
        return await self.start_offsets(topic)

    async def _trimmed(self, topic: str) -> bool:
        """Whether old records may be removed: the topic was made here, and its operator did not decide otherwise."""
        stored = self._prefix + topic
        await self._all(topic)
        try:
            config = await self._client.configs(stored, _TRIMMING)
        except LogForbiddenError as error:
            raise LogForbiddenError(
                f"{no_right('read the configuration of', stored)}, which says who made it: its records stay until the "
                "broker removes them"
            ) from error
        made_here = config.get(_MARK[0]) == _MARK[1]
        as_made = config.get(_POLICY) == "delete" and config.get("message.timestamp.type") == "LogAppendTime"
        kept_ms = int(config.get("retention.ms", "-1"))
        # A topic that its operator keeps for longer is kept. (A kept topic was made with -1.)
        longer = topic not in self._kept_topics and not 0 <= kept_ms <= self._retention_ms
        return made_here and as_made and not longer
