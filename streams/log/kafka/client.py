"""Questions to a Kafka cluster (topics, offsets, deletion), each bounded in time and with this project's errors."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, for_code

from streams.log.interface import LogError, LogForbiddenError, LogUnavailableError
from streams.log.kafka.connect import start, stop
from streams.log.kafka.identity import TopicFacts, TopicIdsRequest, topic_facts
from streams.log.kafka.options import KafkaOptions, last_refusal
from streams.log.kafka.refusals import FORBIDDEN, describe, hopeless, no_right
from streams.process.retry import Retries

_TOPIC_EXISTS, _FORBIDDEN_TOPIC = 36, 29
_RETRY_S_MAX = 0.3
#: One try of a question takes at most this share of the time for the question, and less with more brokers, so that each
#: of them can be asked: those asked first may be silent.
_TRY_SHARE = 1 / 3
_TRY_S_MIN = 1.0
#: A broker that did not answer is not asked again for so long, where another can be asked.
_SILENT_S = 60.0


class KafkaClient:
    """Asks a cluster about topics and offsets, over one connection for each. For one event loop."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._admin: AIOKafkaAdminClient | None = None
        self._offsets: AIOKafkaConsumer | None = None
        self._written: AIOKafkaConsumer | None = None
        self._making = asyncio.Lock()
        #: By broker's number: until when it is not asked again, because it was silent. The last one asked.
        self._silent_until: dict[int, float] = {}
        self._asked: int | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            LogUnavailableError: no broker answered in time.
        """
        options = self._options
        self._admin = await start(
            lambda client: AIOKafkaAdminClient(**client), options, timeout_s=options.open_timeout_s
        )
        try:
            self._offsets = await start(
                lambda client: AIOKafkaConsumer(
                    **client,
                    enable_auto_commit=False,
                    isolation_level=options.consumer["isolation_level"],
                ),
                options,
                timeout_s=options.open_timeout_s,
            )
        except BaseException:
            await self.close()
            raise
        # aiokafka's choice is any broker, also one that has just kept a question waiting to its end.
        self._admin._client.get_random_node = self._answering_node

    def _answering_node(self) -> int | None:
        """The number of a broker to ask: any of those that were not silent lately."""
        now, known = asyncio.get_running_loop().time(), self._brokers()
        self._asked = random.choice([n for n in known if self._silent_until.get(n, 0.0) < now] or known or [None])
        return self._asked

    def _brokers(self) -> list[int]:
        """The numbers of all brokers that are known."""
        return [broker.nodeId for broker in self._opened()[0]._client.cluster.brokers()]

    async def close(self) -> None:
        """Disconnect; idempotent."""
        admin, self._admin = self._admin, None
        offsets, self._offsets = self._offsets, None
        written, self._written = self._written, None
        await asyncio.gather(*(stop(client) for client in (admin, offsets, written) if client is not None))

    async def topics(self, names: Collection[str]) -> dict[str, TopicFacts]:
        """Facts of those of the topics that exist. None is created by asking.

        Raises:
            LogForbiddenError: a topic may not be seen.
        """
        client = self._opened()[0]._client
        try:
            answer = await self._ask(lambda: client.send(client.get_random_node(), TopicIdsRequest(names)))
        except NotImplementedError:  # older than 2.8; asking for a topic by name could create it
            described = await self._ask(lambda: self._opened()[0].describe_topics())
            known = {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}
            return {name: TopicFacts("", known[name], None) for name in names if name in known}
        facts, refused = topic_facts(answer)
        hidden = sorted(name for name, code in refused.items() if code == _FORBIDDEN_TOPIC)
        if hidden:
            raise LogForbiddenError(self._line(no_right("describe", hidden[0])))
        return facts

    async def identity(self) -> tuple[str, dict[str, str]]:
        """The cluster's id, and the ids by topic. Brokers before 2.8 do not tell topic ids: then there are none."""
        cluster = await self._ask(lambda: self._opened()[0].describe_cluster())
        client = self._opened()[0]._client
        try:
            answer = await self._ask(lambda: client.send(client.get_random_node(), TopicIdsRequest()))
        except NotImplementedError:
            return str(cluster["cluster_id"]), {}
        return str(cluster["cluster_id"]), {topic: facts.id for topic, facts in topic_facts(answer)[0].items()}

    async def configs(self, topic: str, names: Collection[str]) -> dict[str, str]:
        """These settings of a topic, as far as the broker has them.

        Raises:
            LogForbiddenError: they may not be read.
        """
        asked = [ConfigResource(ConfigResourceType.TOPIC, topic, dict.fromkeys(names, ""))]
        (answer,) = await self._ask(lambda: self._opened()[0].describe_configs(asked))
        ((code, message, _, _, entries),) = answer.resources
        if code == _FORBIDDEN_TOPIC:
            raise LogForbiddenError(self._line(no_right("read the configuration of", topic)))
        if code:
            raise LogError(self._line(f"the configuration of topic {topic!r}: {message or for_code(code).__name__}"))
        return {name: value for name, value, *_ in entries if name in names}

    async def create_topics(self, partitions: dict[str, int], configs: dict[str, dict[str, str]]) -> None:
        """Create topics; a topic that exists already is not changed."""
        new = [NewTopic(topic, count, 1, topic_configs=configs[topic]) for topic, count in partitions.items()]
        for topic in new:  # NewTopic refuses −1 (the broker's default), but the broker takes it
            topic.replication_factor = self._options.replication_factor
        response = await self._ask(lambda: self._opened()[0].create_topics(new, timeout_ms=self._timeout_ms))
        for name, code, *message in response.topic_errors:
            if isinstance(for_code(code)(), FORBIDDEN):
                raise LogForbiddenError(self._line(f"topic {name!r} is not there, and there is no right to create it"))
            if code not in (0, _TOPIC_EXISTS):
                raise LogError(f"topic {name!r} cannot be created: {message[0] or for_code(code).__name__}")

    async def beginning_offsets(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        """The first offset in the log, by partition."""
        return dict(await self._ask(lambda: self._opened()[1].beginning_offsets(partitions)))

    async def end_offsets(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        """The offset after the last record that can be read, by partition."""
        return dict(await self._ask(lambda: self._opened()[1].end_offsets(partitions)))

    async def written_offsets(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        """The offset after the last record (the high watermark), by partition."""
        consumer = await self._uncommitted()
        return dict(await self._ask(lambda: consumer.end_offsets(partitions)))

    async def _uncommitted(self) -> AIOKafkaConsumer:
        """A consumer for which records of open transactions count. It is made when it is first needed."""
        if self._options.consumer["isolation_level"] == "read_uncommitted":
            return self._opened()[1]
        async with self._making:
            self._opened()
            if self._written is None:
                self._written = await start(
                    lambda client: AIOKafkaConsumer(**client, enable_auto_commit=False),
                    self._options,
                    timeout_s=self._options.open_timeout_s,
                )
            return self._written

    async def offsets_for_time(self, partitions: list[KafkaPartition], time_ms: int) -> dict[KafkaPartition, int]:
        """The first offset at or after the time, by partition; the end offset where there is none."""
        # Ask for the ends first: a record that arrives between the two questions is then never skipped.
        ends = await self.end_offsets(partitions)
        times = dict.fromkeys(partitions, max(time_ms, 0))
        found = await self._ask(lambda: self._opened()[1].offsets_for_times(times))
        return {p: found[p].offset if found.get(p) is not None else ends[p] for p in partitions}

    async def delete_before(self, offsets: dict[KafkaPartition, int]) -> None:
        """Remove the records before these offsets."""
        deletions = {partition: RecordsToDelete(offset) for partition, offset in offsets.items()}
        if deletions:
            await self._ask(lambda: self._opened()[0].delete_records(deletions, timeout_ms=self._timeout_ms))

    @property
    def _timeout_ms(self) -> int:
        return int(self._options.open_timeout_s * 1000)

    def _opened(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._admin is None or self._offsets is None:
            raise LogUnavailableError(self._line("is not open"))
        return self._admin, self._offsets

    def _line(self, what: str) -> str:
        return f"log kafka://{self._options.servers}: {what}"

    async def _ask(self, question: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again until answered or until ``open_timeout_s`` is over: a leader may just be being elected."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.open_timeout_s
        share = min(_TRY_SHARE, 1 / (len(self._brokers()) + 1))
        try_s = max(_TRY_S_MIN, self._options.open_timeout_s * share)
        retries = Retries("", wait_s_max=_RETRY_S_MAX)
        while True:
            try:
                self._asked = None
                async with asyncio.timeout_at(min(deadline, loop.time() + try_s)):
                    return await question()
            except (KafkaError, OSError, TimeoutError) as error:
                if isinstance(error, FORBIDDEN):
                    raise LogForbiddenError(self._line(describe(error))) from error
                if hopeless(error):
                    raise LogError(self._line(describe(error))) from error
                if self._asked is not None:
                    self._silent_until[self._asked] = loop.time() + _SILENT_S
                retry_s = retries.failed(error)
                if loop.time() + retry_s >= deadline:
                    why = last_refusal() or error
                    raise LogUnavailableError(self._line(f"does not answer ({describe(why)})")) from error
            await asyncio.sleep(retry_s)
