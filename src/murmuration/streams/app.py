"""Wiring and life cycle: builds every part from the configuration and runs them together.

A background task that dies ends the process: half an engine is worse than none.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from murmuration.config.schema import Config, feed_hash, masked, rooms_hash
from murmuration.engine.errors import MurmurationError
from murmuration.engine.feed import Feed, Product, Request
from murmuration.engine.home_mixer.config import HomeMixerConfig
from murmuration.engine.home_mixer.products import build_products
from murmuration.engine.kernels import warmup
from murmuration.engine.pipeline.execute import Pipeline
from murmuration.engine.state import EngineState
from murmuration.streams.applier import Applier
from murmuration.streams.durable.folder import opened_store
from murmuration.streams.durable.keeper import Keeper
from murmuration.streams.durable.recovery import Recovered, recover
from murmuration.streams.durable.store import Store
from murmuration.streams.ending import end_tasks
from murmuration.streams.events import kernels as event_kernels
from murmuration.streams.events.dead_letters import DeadLetter
from murmuration.streams.events.decode import Decoder
from murmuration.streams.events.wire import APPLIED_TOPICS
from murmuration.streams.graph_service import GraphQuery, GraphService
from murmuration.streams.log.base import EventLog, TopicPartition
from murmuration.streams.metrics import DurableMetrics, EngineMetrics, OrderMetrics
from murmuration.streams.ordering.own import OwnOrder
from murmuration.streams.ordering.pieces import PieceSource
from murmuration.streams.ordering.shared_source import SharedSource
from murmuration.streams.processors.embedded import processors_beside
from murmuration.streams.readers import Readers
from murmuration.streams.rwlock import PhaseFairLock
from murmuration.streams.service import Origin, Readiness, Viewer
from murmuration.streams.state_thread import StateThread
from murmuration.streams.tail import Ingest, apply_retention
from murmuration.streams.topics import running_log

log = structlog.get_logger("murmuration.app")

RETENTION_INTERVAL_S = 600.0
PROGRESS_AFTER_S = 1.5


class Engine:
    """State, writer thread and reader pool; implements ``service.FeedService``."""

    def __init__(self, config: Config, registry: CollectorRegistry, state: EngineState | None = None) -> None:
        self.config = config
        self.state = EngineState(config.rooms) if state is None else state
        self.lock = PhaseFairLock()
        self.metrics = EngineMetrics(registry)
        self.metrics.watch_rooms(self._gauges)
        self.metrics.ready.set_function(lambda: self.readiness().ready)
        self.config_hash = feed_hash(config)
        self.products: Mapping[Product, Pipeline] = build_products(self.state, config.home_mixer, self.config_hash)
        self.readers = Readers(
            self.state,
            self.lock,
            self.products,
            self.metrics,
            readers=config.serving.readers,
            queue_max=config.serving.request_queue_max,
            source_deadline_s=config.serving.source_deadline_s,
        )
        self.graph = GraphService(self.state, self.readers, concurrent_max=max(1, config.serving.readers - 1))
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._published = asyncio.Event()
        self.ingest: Ingest | None = None
        self.state_thread: StateThread | None = None
        self.keeper: Keeper | None = None
        self._origin = Origin("", 0)

    def start(
        self, event_log: EventLog, recovered: Recovered, state_thread: Callable[..., StateThread] = StateThread
    ) -> tuple[Ingest, StateThread]:
        """Start the writer thread where the recovery has brought the state."""
        loop = asyncio.get_running_loop()
        self.ingest = ingest = Ingest(event_log, self.config.ingest, self.config.log, self.metrics)

        def on_dead(letters: list[DeadLetter]) -> None:
            loop.call_soon_threadsafe(ingest.on_dead, letters)

        applier = Applier(
            self.state,
            self.lock,
            Decoder(future_ms_max=self.config.ingest.future_ms_max),
            self.metrics,
            journal=recovered.journal,
            journal_sync=self.config.durable.journal_sync,
            on_dead=on_dead,
        )
        applier.positions.update(recovered.positions)
        if recovered.journal is not None:
            recovered.journal.note_models({str(p): pipeline.model_version for p, pipeline in self.products.items()})
        self._origin = recovered.origin
        self.state_thread = state_thread(
            applier,
            queue_max=self.config.ingest.queue_batches_max,
            on_applied=self._publish,
            on_failed=self._fail,
        )
        self.state_thread.start()
        return self.ingest, self.state_thread

    def _gauges(self) -> Mapping[str, tuple[int, Mapping[str, float], Mapping[str, int]]]:
        with self.lock.reading():
            return self.state.gauges()

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _publish(self) -> None:
        published, self._published = self._published, asyncio.Event()
        published.set()

    async def close(self) -> None:
        """End the threads; what is queued is applied first."""
        if self.state_thread is not None:
            await self.state_thread.stop()
        await self.readers.close()
        if not self.failed.done():
            self.failed.cancel()

    # What the server asks (service.FeedService)

    @property
    def home_mixer(self) -> HomeMixerConfig:
        return self.config.home_mixer

    @property
    def origin(self) -> Origin:
        return self._origin

    @property
    def version(self) -> int:
        return self.state.version

    @property
    def positions(self) -> Mapping[TopicPartition, int]:
        return self.state_thread.applier.positions if self.state_thread is not None else {}

    def now_ms(self) -> int:
        if self.config.serving.clock == "event":
            return self.state.clock_ms
        return int(time.time() * 1000)

    def alive(self) -> bool:
        return self.state_thread is not None and self.state_thread.alive()

    def readiness(self) -> Readiness:
        lag = self.ingest.lag_records if self.ingest is not None else {}
        named = {f"{part.topic}/{part.partition}": n for part, n in lag.items() if n}
        total = sum(named.values())
        problem = "the engine was not started yet" if self.ingest is None else self.ingest.problem
        if problem is None and total > self.config.serving.ready_lag_records_max:
            problem = f"{total} records behind the log"
        return Readiness(problem is None, problem or "caught up", named)

    async def feed(self, request: Request) -> Feed:
        return await self.readers.feed(request)

    async def query(self, query: GraphQuery) -> bytes:
        return await self.graph.run(query)

    async def viewers(self, limit: int) -> list[Viewer]:
        return await self.readers.read(lambda: self._viewers(limit))

    def _viewers(self, limit: int) -> list[Viewer]:
        with self.readers.reading():
            users, counts = self.state.signals.activity(limit)
            return [
                Viewer(int(user), self.state.social_graph.followee_count(int(user)), int(count))
                for user, count in zip(users, counts, strict=True)
            ]

    async def wait_version(self, after: int, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        while self.version <= after:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            published = self._published
            if self.version > after:
                break
            try:
                # Not wait_for: on Python 3.11 it loses a cancellation that comes together with the version.
                async with asyncio.timeout(left):
                    await published.wait()
            except TimeoutError:
                break
        return self.version


def new_registry() -> CollectorRegistry:
    """A metrics registry with the process's own figures."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


@asynccontextmanager
async def running_engine(
    config: Config,
    *,
    registry: CollectorRegistry | None = None,
    accept_gap: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> AsyncIterator[tuple[Engine, EventLog]]:
    """An engine that follows its log, and the log; background tasks end with the block.

    ``accept_gap``: go on where the log has lost records that the state needs.

    Raises:
        ConfigError, LogUnavailableError: it cannot start; the message says what to do.
        LogGapError, LogBehindError, JournalError: what is on disk and what is in the log do not meet.
    """
    sys.setswitchinterval(config.serving.switch_interval_s)
    async with AsyncExitStack() as stack:
        event_log = await stack.enter_async_context(running_log(config.log))
        await asyncio.to_thread(compile_kernels, progress)
        store = stack.enter_context(opened_store(config))
        engine = await stack.enter_async_context(
            following_engine(
                config,
                event_log,
                store,
                incarnation=random.getrandbits(63) + 1,
                now_ms=int(time.time() * 1000),
                registry=registry if registry is not None else new_registry(),
                accept_gap=accept_gap,
                progress=progress,
            )
        )
        await stack.enter_async_context(processors_beside(config, event_log, engine.metrics.registry))
        yield engine, event_log


@asynccontextmanager
async def following_engine(
    config: Config,
    event_log: EventLog,
    store: Store | None,
    *,
    incarnation: int,
    now_ms: int,
    registry: CollectorRegistry,
    accept_gap: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    state_thread: Callable[..., StateThread] = StateThread,
) -> AsyncIterator[Engine]:
    """An engine on an open log and folder: recovered, and following; what ``running_engine`` and simulations share.

    ``incarnation`` and ``now_ms``: see ``recover``. Raises what ``running_engine`` does.
    """
    async with AsyncExitStack() as stack:
        recovered = await recover(
            config,
            store,
            event_log,
            incarnation=incarnation,
            now_ms=now_ms,
            accept_gap=accept_gap,
            progress=progress,
        )
        engine = Engine(config, registry, recovered.state)
        ingest, writer = engine.start(event_log, recovered, state_thread)
        keeper = engine.keeper = Keeper(
            store,
            recovered,
            writer,
            config.durable,
            DurableMetrics(registry),
            event_log,
            rooms_hash=rooms_hash(config),
            settled=lambda: writer.applier.dead_letters == ingest.dead_letters_written,
        )
        stack.push_async_callback(keeper.close)
        stack.push_async_callback(ingest.close)
        stack.push_async_callback(engine.close)
        await ingest.recall_dead_letters()
        source = await open_source(config, event_log, recovered, registry)
        stack.push_async_callback(source.close)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(ingest.run(writer, source), name="tail"),
                tasks.create_task(ingest.watch_lag(writer), name="lag"),
                tasks.create_task(keeper.run(), name="snapshots"),
                tasks.create_task(apply_retention(event_log, config.log, RETENTION_INTERVAL_S), name="retention"),
                tasks.create_task(_until_failed(engine), name="state thread"),
            ]
            try:
                yield engine
            finally:
                await end_tasks(background)


async def open_source(
    config: Config, event_log: EventLog, recovered: Recovered, registry: CollectorRegistry
) -> PieceSource:
    """What is to be applied to the recovered state, in the order that ``log.order`` says; raises ``LogError``."""
    if config.log.order == "shared":
        return await SharedSource.open(
            event_log,
            config.log,
            config.ingest,
            OrderMetrics(registry),
            line=recovered.origin.history,
            node=recovered.origin.incarnation,
            positions=recovered.positions,
            entries=recovered.entries,
        )
    tail = await event_log.tail(recovered.positions, follow_new=True)
    return OwnOrder(tail, config.ingest, recovered.entries)


def compile_kernels(progress: Callable[[str], None] = lambda line: None) -> None:
    """Compile, or load from the cache, every kernel: the engine's and the decoder's.

    ``progress`` hears of it only when it takes a while: with a filled cache it is over at once.
    """
    began = time.monotonic()

    def tell(line: str) -> None:
        if time.monotonic() - began > PROGRESS_AFTER_S:
            progress(f"compiling, cached from the next start on: {line}")

    warmup.all(tell)
    tell("kernels: events")
    event_kernels.warm()


async def _until_failed(engine: Engine) -> None:
    await engine.failed


async def wait_applied(engine: Engine, event_log: EventLog, *, timeout_s: float) -> None:
    """Wait until everything that is in the log at this moment has been applied, and feeds are served.

    Raises:
        MurmurationError: it has not within ``timeout_s``.
    """
    ends = {
        TopicPartition(topic, partition): end
        for topic in APPLIED_TOPICS
        for partition, end in (await event_log.end_offsets(topic)).items()
    }
    deadline = time.monotonic() + timeout_s
    while any(engine.positions.get(where, 0) < end for where, end in ends.items()) or not engine.readiness().ready:
        if time.monotonic() > deadline:
            raise MurmurationError(f"the log was not applied within {timeout_s:.0f} s: {engine.readiness().reason}")
        await engine.wait_version(engine.version, 0.1)


def shown_config(config: Config) -> dict[str, object]:
    """What ``/config`` and ``config show`` print."""
    return {"config_hash": feed_hash(config), "config": masked(config)}


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where it runs, else asyncio's own."""
    if os.name == "nt":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()
