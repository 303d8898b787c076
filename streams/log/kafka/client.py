"""Questions to a Kafka cluster (topics, offsets, deletion), each bounded in time and with this project's errors."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as KafkaPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.errors import BrokerResponseError, KafkaError, for_code

from engine.errors import ConfigError
from streams.log.interface import LogError, LogUnavailableError
from streams.log.kafka.identity import TopicIdsRequest, topic_ids
from streams.log.kafka.options import KafkaOptions, last_refusal
from streams.process.ending import end_tasks, wait_ended
from streams.process.retry import Retries

_TOPIC_EXISTS = 36
_RETRY_S_MAX = 0.3
#: How long a client may take to stop by itself, and how long again after it was cancelled.
_STOP_TIMEOUT_S = 3.0


async def start(make: Callable[[], Any], options: KafkaOptions, *, timeout_s: float) -> Any:
    """Make an aiokafka client and start it; try again until ``timeout_s`` is over.

    Raises:
        LogUnavailableError: no broker answered; the message names the address.
        ConfigError: aiokafka refuses the options.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    retries = Retries("", wait_s_max=_RETRY_S_MAX)
    while True:
        try:
            client = make()
        except (ValueError, TypeError, AssertionError, RuntimeError) as error:
            raise ConfigError(f"log.kafka: {error}") from error
        try:
            async with asyncio.timeout_at(deadline):
                await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await stop(client)
            retry_s = retries.failed(error)
            if loop.time() + retry_s >= deadline or _hopeless(error):
                raise LogUnavailableError(
                    f"log kafka://{options.servers}: no answer within {timeout_s:g} s; is Kafka running there, "
                    f"and are address and credentials right? ({last_refusal() or describe(error)})"
                ) from error
            await asyncio.sleep(retry_s)
        except BaseException:
            await stop(client)
            raise
        else:
            return client


async def stop(client: Any) -> None:
    """Stop an aiokafka client, within a bounded time and whatever state it is in."""
    # If a consumer is stopped before its background task has run once, its stop raises that task's CancelledError.
    await asyncio.sleep(0)
    # The connections are closed separately as well: a client's stop that fails half-way leaves them open.
    for owner in (client, getattr(client, "client", None) or client._client):
        # Each in a separate task: with a broker away, a fetcher's stop raises CancelledError as if we were cancelled.
        end = owner.stop() if hasattr(owner, "stop") else owner.close()
        closing = asyncio.create_task(end, name=f"stop {type(owner).__name__}")
        await wait_ended([closing], timeout_s=_STOP_TIMEOUT_S)
        if not closing.done():
            await end_tasks([closing], timeout_s=_STOP_TIMEOUT_S)
        if closing.done() and not closing.cancelled():
            closing.exception()  # retrieved, so that asyncio does not log it: the client is given up anyway


def describe(error: BaseException) -> str:
    """A Kafka error in a few words."""
    return str(error) or type(error).__name__


def _hopeless(error: BaseException) -> bool:
    """Whether trying again is useless (authentication, authorization)."""
    return isinstance(error, BrokerResponseError) and not error.retriable


class KafkaClient:
    """Asks a cluster about topics and offsets, over one connection for each. For one event loop."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._admin: AIOKafkaAdminClient | None = None
        self._offsets: AIOKafkaConsumer | None = None

    async def open(self) -> None:
        """Connect.

        Raises:
            LogUnavailableError: no broker answered in time.
        """
        options = self._options
        self._admin = await start(
            lambda: AIOKafkaAdminClient(**options.client), options, timeout_s=options.open_timeout_s
        )
        try:
            self._offsets = await start(
                lambda: AIOKafkaConsumer(
                    **options.client,
                    enable_auto_commit=False,
                    isolation_level=options.consumer["isolation_level"],
                ),
                options,
                timeout_s=options.open_timeout_s,
            )
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect; idempotent."""
        admin, self._admin = self._admin, None
        offsets, self._offsets = self._offsets, None
        await asyncio.gather(*(stop(client) for client in (admin, offsets) if client is not None))

    async def topics(self) -> dict[str, int]:
        """The number of partitions of every topic (asking for one topic by name could create it)."""
        described = await self._ask(lambda: self._opened()[0].describe_topics())
        return {topic["topic"]: len(topic["partitions"]) for topic in described if not topic["error_code"]}

    async def identity(self) -> tuple[str, dict[str, str]]:
        """The cluster's id, and the ids by topic. Brokers before 2.8 do not tell topic ids: then there are none."""
        cluster = await self._ask(lambda: self._opened()[0].describe_cluster())
        client = self._opened()[0]._client
        try:
            answer = await self._ask(lambda: client.send(client.get_random_node(), TopicIdsRequest()))
        except NotImplementedError:
            return str(cluster["cluster_id"]), {}
        return str(cluster["cluster_id"]), topic_ids(answer)

    async def create_topics(self, partitions: dict[str, int], configs: dict[str, dict[str, str]]) -> None:
        """Create topics; a topic that exists already is not changed."""
        new = [NewTopic(topic, count, 1, topic_configs=configs[topic]) for topic, count in partitions.items()]
        for topic in new:  # NewTopic refuses −1 (the broker's default), but the broker takes it
            topic.replication_factor = self._options.replication_factor
        response = await self._ask(lambda: self._opened()[0].create_topics(new, timeout_ms=self._timeout_ms))
        for name, code, *message in response.topic_errors:
            if code not in (0, _TOPIC_EXISTS):
                raise LogError(f"topic {name!r} cannot be created: {message[0] or for_code(code).__name__}")

    async def beginning_offsets(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        """The first offset in the log, by partition."""
        return dict(await self._ask(lambda: self._opened()[1].beginning_offsets(partitions)))

    async def end_offsets(self, partitions: list[KafkaPartition]) -> dict[KafkaPartition, int]:
        """The offset after the last record, by partition."""
        return dict(await self._ask(lambda: self._opened()[1].end_offsets(partitions)))

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
        await self._ask(lambda: self._opened()[0].delete_records(deletions, timeout_ms=self._timeout_ms))

    @property
    def _timeout_ms(self) -> int:
        return int(self._options.open_timeout_s * 1000)

    def _opened(self) -> tuple[AIOKafkaAdminClient, AIOKafkaConsumer]:
        if self._admin is None or self._offsets is None:
            raise LogUnavailableError(f"log kafka://{self._options.servers}: is not open")
        return self._admin, self._offsets

    async def _ask(self, question: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again until answered or until ``open_timeout_s`` is over: a leader may just be being elected."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.open_timeout_s
        retries = Retries("", wait_s_max=_RETRY_S_MAX)
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await question()
            except (KafkaError, OSError, TimeoutError) as error:
                if _hopeless(error):
                    raise LogError(f"log kafka://{self._options.servers}: {describe(error)}") from error
                retry_s = retries.failed(error)
                if loop.time() + retry_s >= deadline:
                    raise LogUnavailableError(
                        f"log kafka://{self._options.servers}: does not answer ({describe(error)})"
                    ) from error
            await asyncio.sleep(retry_s)
