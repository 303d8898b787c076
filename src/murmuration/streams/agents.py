"""The slow path on Kafka: Faust workers that run the processors over Tables (docs/processors.md).

Workers share the partitions of ``served``; a partition's state is in a table whose changelog is a compacted topic, and
moves with it. A feed is acknowledged to the consumer group only once the broker has what was counted of it, so that
no feed is lost when a worker dies, and the state itself knows which feeds it holds, so that none is counted twice.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import faust
import mode
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from murmuration.config.schema import Config
from murmuration.engine.errors import ConfigError, MurmurationError
from murmuration.streams.app import new_registry
from murmuration.streams.events.served import TOPIC as SERVED
from murmuration.streams.log.base import CONTENT_TYPES, EventLog, Format, LogUnavailableError
from murmuration.streams.log.kafka_client import KafkaClient
from murmuration.streams.log.kafka_options import KafkaOptions, parse_options
from murmuration.streams.logs import configure_logging
from murmuration.streams.processors.counting import Counting, ServedRecord
from murmuration.streams.processors.exposures import totals
from murmuration.streams.processors.groups import GroupsTail
from murmuration.streams.processors.metrics import ProcessorMetrics, show_pause_s
from murmuration.streams.serve import until_stopped
from murmuration.streams.topics import running_log

log = structlog.get_logger("murmuration.agents")

#: Feeds gather for so long before they are counted together: a batch costs one write a minute that it touches.
GATHER_S = 0.25
RETRY_S = 1.0
PARTITIONS_INTERVAL_S = 10.0

_FORMATS = {content: format_ for format_, content in CONTENT_TYPES.items()}


class PartitionedTable(faust.Table[bytes, bytes]):
    """A table whose keys say their partition ("3/29000000" or "3"), so that a batch may touch several."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sent: list[asyncio.Future[Any]] = []

    def partition_for_key(self, key: bytes) -> int:
        return int(key.partition(b"/")[0])

    def send_changelog(self, *args: Any, **kwargs: Any) -> Any:
        sent = super().send_changelog(*args, **kwargs)
        self._sent.append(sent)
        return sent

    async def written(self) -> None:
        """Wait until the broker has acknowledged every change so far."""
        sent, self._sent = self._sent, []
        await asyncio.gather(*sent)


class Worker:
    """One Faust worker: the exposure windows of the partitions it is given."""

    def __init__(
        self, config: Config, event_log: EventLog, registry: CollectorRegistry, *, partitions: int, folder: str
    ) -> None:
        """``partitions``: of ``served``; ``folder`` is Faust's, which puts nothing into it that matters."""
        self.metrics = ProcessorMetrics(registry)
        self._config = config.processors
        self._groups = GroupsTail(event_log, config.processors)
        self._counting = Counting(config.processors, config.ingest.future_ms_max, self.metrics)
        self._topic = config.log.topic_prefix + SERVED
        self.app = _faust_app(config, partitions, folder)
        self._table = PartitionedTable(
            self.app, name="exposures", key_type=bytes, value_type=bytes, partitions=partitions
        )
        self.app.tables.add(self._table)
        self.changelog = str(self._table.changelog_topic_name)
        topic = self.app.topic(self._topic, key_type=bytes, value_type=bytes, partitions=partitions)
        self.app.agent(topic, name="exposures")(self._agent)

    async def _agent(self, stream: Any) -> None:
        async for events in stream.noack_take(self._config.batch_feeds_max, within=GATHER_S):
            await self._caught_up()
            by_partition: dict[int, list[ServedRecord]] = {}
            for event in events:
                by_partition.setdefault(event.message.partition, []).append(_record(event.message))
            # What was taken away meanwhile is another worker's: writing to its changelog would spoil it.
            for partition in by_partition.keys() & set(self.partitions()):
                records = by_partition[partition]
                self._counting.count(partition, records, self._groups.groups.of, self._table)
            await self._table.written()
            for event in events:
                await stream.ack(event)

    async def _caught_up(self) -> None:
        while True:
            try:
                return await self._groups.catch_up()
            except LogUnavailableError as error:
                log.warning("the log is away, waiting", error=str(error))
                await asyncio.sleep(RETRY_S)

    @property
    def ready(self) -> bool:
        """Whether the partitions' state is there, and is counted on."""
        return bool(self.app.started and not self.app.rebalancing and self.app.tables.recovery.completed.is_set())

    def partitions(self) -> list[int]:
        """The partitions of ``served`` that this worker counts at present."""
        return [tp.partition for tp in self.app.consumer.assignment() if tp.topic == self._topic]

    async def show(self) -> None:
        """Report the windows for ever. While partitions move nothing is reported: each belongs to one worker only."""
        while True:
            began_s = time.monotonic()
            self.metrics.show(totals(self._table, self.partitions()) if self.ready else {})
            await asyncio.sleep(show_pause_s(time.monotonic() - began_s))

    async def run(self) -> None:
        """Work until stopped.

        Raises:
            MurmurationError: Faust gave up.
        """
        try:
            await self.app.start()
            await self.app.wait()
            if self.app.crashed:
                raise MurmurationError(f"the worker stopped: {self.app.crash_reason!r}")
        finally:
            await self.app.stop()
            await self._groups.close()


def _record(message: Any) -> ServedRecord:
    headers = dict(message.headers or ())
    format_ = _FORMATS.get(headers.get("content-type", b""), Format.JSON)
    return ServedRecord(format_, message.value or b"", int(message.timestamp * 1000))


def _faust_app(config: Config, partitions: int, folder: str) -> Any:
    options = parse_options(config.log)
    session_s = config.processors.agents_session_timeout_s
    return faust.App(
        # When partitions are added, a group and a table of their own begin with what the log still holds.
        f"{config.log.topic_prefix}murmuration-agents-{partitions}",
        broker=[f"kafka://{server}" for server in options.servers.split(",")],
        broker_credentials=_credentials(options),
        broker_session_timeout=session_s,
        broker_heartbeat_interval=session_s / 5,
        broker_rebalance_timeout=2 * session_s,
        broker_commit_interval=1.0,
        broker_max_poll_records=config.processors.batch_feeds_max,
        agent_supervisor=mode.CrashingSupervisor,
        store="memory://",
        datadir=folder,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=partitions,
        web_enabled=False,
    )


def _credentials(options: KafkaOptions) -> Any:
    client = options.client
    protocol = client.get("security_protocol", "PLAINTEXT")
    if protocol == "SSL":
        return faust.SSLCredentials(context=client["ssl_context"])
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=client.get("sasl_plain_username"),
            password=client.get("sasl_plain_password"),
            mechanism=client.get("sasl_mechanism", "PLAIN"),
            ssl_context=client.get("ssl_context"),
        )
    return None


async def _ensure_changelog(config: Config, topic: str, partitions: int) -> None:
    """Create a table's changelog with the log's own settings; Faust cannot leave replication to the broker."""
    client = KafkaClient(parse_options(config.log))
    await client.open()
    try:
        await client.create_topics({topic: partitions}, {topic: {"cleanup.policy": "compact"}})
    finally:
        await client.close()


@asynccontextmanager
async def _answering(config: Config, worker: Worker, registry: CollectorRegistry) -> AsyncIterator[str]:
    """Answer ``/metrics``, ``/healthz`` and ``/readyz`` while the block runs; gives the address."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"ok": not worker.app.crashed}, status=503 if worker.app.crashed else 200)

    async def readyz(request: web.Request) -> web.Response:
        return web.json_response(
            {"ready": worker.ready, "partitions": worker.partitions() if worker.ready else []},
            status=200 if worker.ready else 503,
        )

    server = web.Application()
    server.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(server, access_log=None, handle_signals=False)
    await runner.setup()
    host, port = config.processors.agents_host, config.processors.agents_port
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise ConfigError(f"processors.agents_port: cannot listen on {host}:{port}: {error.strerror}") from error
        yield f"http://{host}:{site.port}"
    finally:
        await runner.cleanup()


async def run_agents(config: Config) -> None:
    """Work until SIGTERM or Ctrl-C.

    Raises:
        ConfigError: not with this configuration; the message says what to do.
        LogUnavailableError: the log cannot be reached.
        MurmurationError: the worker gave up.
    """
    if not config.log.url.lower().startswith("kafka:"):
        raise ConfigError(
            "log.url: agents work on kafka://host:port; with the embedded log `serve` runs the processors"
        )
    if config.processors.run_in == "serve":
        raise ConfigError('processors.run_in: "serve" leaves nothing to agents')
    configure_logging()
    async with AsyncExitStack() as stack:
        event_log = await stack.enter_async_context(running_log(config.log))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="murmuration-agents-"))
        registry = new_registry()
        partitions = await event_log.partitions(SERVED)
        worker = Worker(config, event_log, registry, partitions=partitions, folder=folder)
        await _ensure_changelog(config, worker.changelog, partitions)
        url = await stack.enter_async_context(_answering(config, worker, registry))
        log.info("working", url=url, group=worker.app.conf.id, partitions=partitions)
        await _until_first([worker.run(), worker.show(), _until_grown(event_log, partitions), until_stopped()])
    log.info("stopped")


async def _until_grown(event_log: EventLog, partitions: int) -> None:
    """Raises:
    MurmurationError: ``served`` has more partitions than the worker was made for.
    """
    while True:
        await asyncio.sleep(PARTITIONS_INTERVAL_S)
        with suppress(LogUnavailableError):
            if (count := await event_log.partitions(SERVED)) != partitions:
                raise MurmurationError(f"topic {SERVED!r} has {count} partitions now, not {partitions}: start again")


async def _until_first(works: Sequence[Any]) -> None:
    """Run all until one ends or fails; the others are cancelled and waited for."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
