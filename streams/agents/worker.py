"""The slow path on Kafka: Faust workers that run the processors over Tables (docs/processors.md).

Workers share the partitions of ``served``; a partition's state is in a table whose changelog is a compacted topic, and
moves with it. The position up to which feeds were counted is in the table too, and the state itself knows which feeds
it holds: wherever a worker dies, the next one goes on from both, and counts nothing twice and leaves nothing out.
"""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from config.schema import Config
from engine.errors import ConfigError, MurmurationError
from streams.agents.faust_app import ensure_changelog, faust_app, group
from streams.agents.table import PartitionedTable, position_key
from streams.events.open_topics import running_log
from streams.events.served_feed import TOPIC as SERVED
from streams.log.interface import EventLog, LogUnavailableError, OffsetOutOfRangeError, Tail, TopicPartition
from streams.process.ending import end_tasks, force_end_after
from streams.process.logs import configure_logging
from streams.process.loop import new_registry
from streams.process.retry import Retries
from streams.process.signals import until_stopped
from streams.processors.counting import Counting
from streams.processors.exposures import totals
from streams.processors.groups import GroupsTail
from streams.processors.metrics import ProcessorMetrics, show_pause_s

log = structlog.get_logger("murmuration.agents")

#: Feeds gather for so long before they are counted together: a batch costs one write a minute that it touches.
GATHER_S = 0.25
POLL_TIMEOUT_S = 0.5
CHECK_INTERVAL_S = 5.0
PARTITIONS_INTERVAL_S = 10.0
#: What the worker may take to leave its group and to close its tables.
END_TIMEOUT_S = 60.0


class Worker:
    """One Faust worker: the exposure windows of the partitions that it is given.

    Faust says which partitions those are and when something has come; what is read begins at the position that stands
    in the table beside what was counted.
    """

    def __init__(
        self, config: Config, event_log: EventLog, registry: CollectorRegistry, *, partitions: int, folder: str
    ) -> None:
        """``partitions``: of ``served``; ``folder`` is Faust's, which puts nothing into it that matters."""
        self.metrics = ProcessorMetrics(registry)
        self._config = config.processors
        self._log = event_log
        self._groups = GroupsTail(event_log, config.processors)
        self._counting = Counting(config.processors, config.ingest.future_ms_max, self.metrics)
        self._reads = Retries("the log is away, waiting", log=log)
        #: None while partitions move.
        self._owned: list[int] | None = None
        #: Held while something is counted: partitions are given up between two batches only.
        self._busy = asyncio.Lock()
        self._tail: Tail | None = None
        self.app = faust_app(config, partitions, folder)
        self.changelog = f"{group(partitions)}-exposures-changelog"
        self._table = PartitionedTable(
            self.app, name="exposures", partitions=partitions, event_log=event_log, topic=self.changelog
        )
        self.app.tables.add(self._table)
        self._stored = config.log.topic_prefix + SERVED
        topic = self.app.topic(self._stored, key_type=bytes, value_type=bytes, partitions=partitions)
        self.app.agent(topic, name="exposures")(self._agent)
        self.app.on_partitions_revoked.connect(self._give_up, weak=False)
        self.app.on_rebalance_complete.connect(self._take_over, weak=False)

    @property
    def partitions(self) -> list[int] | None:
        """The partitions of ``served`` that this worker counts at present; None while they move."""
        return self._owned

    async def _agent(self, stream: Any) -> None:
        async for _ in stream.take(self._config.batch_feeds_max, within=GATHER_S):
            await self.advance()

    async def _give_up(self, *args: Any, **kwargs: Any) -> None:
        async with self._busy:
            self._owned = None
            await self._close_tail()

    async def _close_tail(self) -> None:
        tail, self._tail = self._tail, None
        if tail is not None:
            await tail.close()

    async def _take_over(self, *args: Any, **kwargs: Any) -> None:
        assigned = self.app.consumer.assignment()
        self._owned = sorted(tp.partition for tp in assigned if tp.topic == self._stored)

    async def advance(self) -> None:
        """Count what the log holds at present beyond the positions in the table."""
        try:
            ends = await self._log.end_offsets(SERVED)
            while await self._step(ends):
                pass
            self._reads.succeeded()
        except LogUnavailableError as error:
            # The next check, or the next record that Faust hands over, is the next try.
            self._reads.failed(error)
            async with self._busy:
                # What it gave may not have been counted: the next one begins at the positions in the table.
                await self._close_tail()
        except OffsetOutOfRangeError as error:
            log.warning("feeds were removed from the log before they were counted", error=str(error))
            async with self._busy:
                await self._close_tail()
                if error.partition.partition in (self._owned or ()):
                    self._table[position_key(error.partition.partition)] = b"%d" % error.earliest

    async def _step(self, ends: Mapping[int, int]) -> bool:
        """Count one batch; whether there was anything left to be counted."""
        async with self._busy:
            if not self._owned:
                return False
            tail = self._tail if self._tail is not None else await self._open(self._owned)
            if all(position >= ends[place.partition] for place, position in tail.positions.items()):
                return False
            runs = await tail.poll(records_max=self._config.batch_feeds_max, timeout_s=POLL_TIMEOUT_S)
            if runs:
                await self._groups.catch_up()
            for run in runs:
                self._counting.count(run, self._groups.groups.of, self._table)
            for partition in {run.partition for run in runs}:
                position = tail.positions[TopicPartition(SERVED, partition)]
                self._table[position_key(partition)] = b"%d" % position
            await self._table.written()
            return True

    async def _open(self, partitions: Sequence[int]) -> Tail:
        """Read from the positions in the table on; from the log's beginning where there are none."""
        starts = await self._log.start_offsets(SERVED)
        places = {
            TopicPartition(SERVED, partition): int(self._table.get(position_key(partition), starts[partition]))
            for partition in partitions
        }
        self._tail = await self._log.tail(places)
        return self._tail

    async def check(self) -> None:
        """Count for ever what Faust did not tell of."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await self.advance()

    async def show(self) -> None:
        """Report the windows for ever. While partitions move nothing is reported: each belongs to one worker only."""
        while True:
            began_s = time.monotonic()
            self.metrics.show(totals(self._table, self._owned or ()))
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
            await self._give_up()
            await self._groups.close()


@asynccontextmanager
async def _answering(config: Config, worker: Worker, registry: CollectorRegistry) -> AsyncIterator[str]:
    """Answer ``/metrics``, ``/healthz`` and ``/readyz`` while the block runs; gives the address."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"ok": not worker.app.crashed}, status=503 if worker.app.crashed else 200)

    async def readyz(request: web.Request) -> web.Response:
        return web.json_response(
            {"ready": worker.partitions is not None, "partitions": worker.partitions or []},
            status=200 if worker.partitions is not None else 503,
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
        await ensure_changelog(config, config.log.topic_prefix + worker.changelog, partitions)
        url = await stack.enter_async_context(_answering(config, worker, registry))
        log.info("working", url=url, group=worker.app.conf.id, partitions=partitions)
        await _until_first(
            [worker.run(), worker.check(), worker.show(), _until_grown(event_log, partitions), _until_told()]
        )
    log.info("stopped")


async def _until_told() -> None:
    await until_stopped()
    force_end_after(2 * END_TIMEOUT_S)


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
        await end_tasks(tasks, timeout_s=END_TIMEOUT_S)
