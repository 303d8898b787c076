"""The slow path on Kafka: Faust workers that run the processors over tables (docs/processors.md).

Workers share the partitions of ``served``. A partition's state is in a table whose changelog is a compacted topic; the
worker that gets the partition reads the state back from there. The table also holds the position up to which feeds
were counted, and the state knows which feeds it holds. So wherever a worker dies, the next one goes on from both: it
counts nothing twice and leaves nothing out.
"""

import asyncio
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any

import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from config.schema import Config
from engine.errors import ConfigError, MurmurationError
from streams.agents.faust_app import ensure_changelog, faust_app, group
from streams.agents.notify_agent import NotifyAgent
from streams.agents.table import PartitionedTable, position_key
from streams.events.notifications import CANDIDATES
from streams.events.open_topics import running_log
from streams.events.served_feed import TOPIC as SERVED
from streams.log.interface import EventLog, LogUnavailableError, OffsetOutOfRangeError, Tail, TopicPartition
from streams.process.ending import end_tasks, force_end_after
from streams.process.listening import listen
from streams.process.logs import configure_logging
from streams.process.loop import new_registry
from streams.process.retry import Retries
from streams.process.signals import StopSignals, stop_signals
from streams.processors.counting import Counting
from streams.processors.exposures import totals
from streams.processors.groups import GroupsTail
from streams.processors.metrics import ProcessorMetrics, show_pause_s

log = structlog.get_logger("murmuration.agents")

#: Feeds are gathered for this long and counted together: a batch costs one write per minute of event time in it.
GATHER_S = 0.25
POLL_TIMEOUT_S = 0.5
CHECK_INTERVAL_S = 5.0
PARTITIONS_INTERVAL_S = 10.0
#: How long a worker that stops may take to finish its batch, and then to leave its group.
GIVE_UP_TIMEOUT_S = 10.0
END_TIMEOUT_S = 60.0


class Worker:
    """One Faust worker: the exposure windows of the partitions that Faust assigns to it.

    Faust says which partitions those are and when a record has come. The worker itself reads the records, from the
    position in the table on.
    """

    def __init__(
        self, config: Config, event_log: EventLog, registry: CollectorRegistry, *, partitions: int, folder: str
    ) -> None:
        """``partitions``: of ``served``. ``folder``: for Faust, which keeps nothing there that matters."""
        self.metrics = ProcessorMetrics(registry)
        self._config = config.processors
        self._log = event_log
        self._groups = GroupsTail(event_log, config.processors)
        self._counting = Counting(config.processors, config.ingest.future_ms_max, self.metrics)
        self._reads = Retries("the log is away, waiting", log=log)
        #: None while partitions move.
        self._owned: list[int] | None = None
        #: Held while a batch is counted and while partitions move: neither happens in the middle of the other.
        self._busy = asyncio.Lock()
        self._tail: Tail | None = None
        self.app = faust_app(config, partitions, folder)
        self.changelog = f"{group(partitions)}-exposures-changelog"
        self._table = PartitionedTable(self.app, name="exposures", partitions=partitions)
        self._stored = config.log.topic_prefix + SERVED
        topic = self.app.topic(self._stored, key_type=bytes, value_type=bytes, partitions=partitions)
        self.app.agent(topic, name="exposures")(self._agent)
        # Faust calls these two one after the other, and waits for each.
        self.app.on_partitions_revoked.connect(self._give_up, weak=False)
        self.app.on_partitions_assigned.connect(self._take_over, weak=False)

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

    async def _take_over(self, sender: Any, assigned: Any, **kwargs: Any) -> None:
        partitions = sorted(tp.partition for tp in assigned if tp.topic == self._stored)
        async with self._busy:
            await self._close_tail()
            # All of them, also those that this worker had before: another worker may have had them in between.
            await self._table.read_back(self._log, self.changelog, partitions)
            self._owned = partitions

    async def advance(self) -> None:
        """Count what the log holds at present from the positions in the table on."""
        try:
            ends = await self._log.end_offsets(SERVED)
            while await self._step(ends):
                pass
            self._reads.succeeded()
        except LogUnavailableError as error:
            # The next check or the next record from Faust is the next try.
            self._reads.failed(error)
            async with self._busy:
                # Some of what this tail gave may not be counted: the next tail begins at the positions in the table.
                await self._close_tail()
        except OffsetOutOfRangeError as error:
            log.warning("feeds were removed from the log before they were counted", error=str(error))
            async with self._busy:
                await self._close_tail()
                if error.partition.partition in (self._owned or ()):
                    self._table[position_key(error.partition.partition)] = b"%d" % error.earliest

    async def _step(self, ends: Mapping[int, int]) -> bool:
        """Count one batch; returns False if nothing was left to be counted."""
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
            # Were both sent together, a position could be written though a write before it failed.
            await self._table.written()
            for partition in {run.partition for run in runs}:
                position = tail.positions[TopicPartition(SERVED, partition)]
                self._table[position_key(partition)] = b"%d" % position
            await self._table.written()
            return True

    async def _open(self, partitions: Sequence[int]) -> Tail:
        """Read from the positions in the table on; a partition without one is read from its first record on."""
        starts = await self._log.start_offsets(SERVED)
        places = {
            TopicPartition(SERVED, partition): int(self._table.get(position_key(partition), starts[partition]))
            for partition in partitions
        }
        self._tail = await self._log.tail(places)
        return self._tail

    async def check(self) -> None:
        """Count at intervals, for ever: Faust does not announce every record."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            await self.advance()

    async def show(self) -> None:
        """Report the windows for ever; while partitions move none, for each partition belongs to one worker only."""
        while True:
            began_s = time.monotonic()
            self.metrics.show(totals(self._table, self._owned or ()))
            await asyncio.sleep(show_pause_s(time.monotonic() - began_s))

    async def run(self) -> None:
        """Work until cancelled.

        Raises:
            MurmurationError: Faust gave up.
        """
        try:
            await self.app.start()
            await self.app.wait()
            raise MurmurationError(f"the worker stopped: {self.app.crash_reason!r}")
        finally:
            # The batch in hand is finished before another worker can get its partition.
            with suppress(TimeoutError):
                async with asyncio.timeout(GIVE_UP_TIMEOUT_S):
                    await self._give_up()
            await self.app.stop()
            await self._close_tail()
            await self._groups.close()


def _answering(worker: Worker, registry: CollectorRegistry) -> web.AppRunner:
    """A server for ``/metrics``, ``/healthz`` and ``/readyz``."""

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthz(request: web.Request) -> web.Response:
        ok = not worker.app.crashed
        return web.json_response({"ok": ok}, status=200 if ok else 503)

    async def readyz(request: web.Request) -> web.Response:
        ready = worker.partitions is not None
        return web.json_response({"ready": ready, "partitions": worker.partitions or []}, status=200 if ready else 503)

    server = web.Application()
    server.add_routes([web.get("/metrics", metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    return web.AppRunner(server, access_log=None, handle_signals=False)


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
        signals = stack.enter_context(stop_signals())
        event_log = await stack.enter_async_context(running_log(config.log))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="murmuration-agents-"))
        registry = new_registry()
        partitions = await event_log.partitions(SERVED)
        worker = Worker(config, event_log, registry, partitions=partitions, folder=folder)
        await ensure_changelog(config, config.log.topic_prefix + worker.changelog, partitions)
        notify = await _notify_agent(worker, config, event_log, registry)
        runner = _answering(worker, registry)
        host = config.processors.agents_host
        port = await listen(runner, host, config.processors.agents_port, setting="processors.agents_")
        stack.push_async_callback(runner.cleanup)
        log.info("working", url=f"http://{host}:{port}", group=worker.app.conf.id, partitions=partitions)
        await _work(worker, notify, event_log, partitions, signals)
    log.info("stopped")


async def _notify_agent(
    worker: Worker, config: Config, event_log: EventLog, registry: CollectorRegistry
) -> NotifyAgent | None:
    """The worker's part in notifications; None if nobody is notified."""
    if not config.notifications.enabled:
        return None
    partitions = await event_log.partitions(CANDIDATES)
    return NotifyAgent(worker.app, config, event_log, registry, partitions=partitions)


async def _work(
    worker: Worker, notify: NotifyAgent | None, event_log: EventLog, partitions: int, signals: StopSignals
) -> None:
    """Work until SIGTERM or Ctrl-C, or until a part fails; then end within ``END_TIMEOUT_S``."""
    async with asyncio.TaskGroup() as running:
        works = [worker.run(), worker.check(), worker.show(), watch_partitions(event_log, partitions)]
        if notify is not None:
            works.append(notify.check())
        tasks = [running.create_task(work) for work in works]
        try:
            await signals.told()
        finally:
            force_end_after(2 * END_TIMEOUT_S)
            await end_tasks(tasks, timeout_s=END_TIMEOUT_S)


async def watch_partitions(event_log: EventLog, partitions: int) -> None:
    """Look at intervals whether ``served`` still has this many partitions, for ever.

    Raises:
        MurmurationError: it has more; the worker was made for the old number.
    """
    while True:
        await asyncio.sleep(PARTITIONS_INTERVAL_S)
        with suppress(LogUnavailableError):
            if (count := await event_log.partitions(SERVED)) != partitions:
                raise MurmurationError(f"topic {SERVED!r} has {count} partitions now, not {partitions}: start again")
