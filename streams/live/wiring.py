"""Wiring and life cycle: builds every part from the configuration and runs them together.

A background task that dies ends the process: an engine that runs without one of its parts would serve wrong feeds.
"""

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import CollectorRegistry

from config.schema import Config, feed_hash, masked, room_hashes
from engine.errors import MurmurationError
from streams.durable.folder import opened_store
from streams.durable.metrics import DurableMetrics
from streams.durable.store import FolderError, Store
from streams.events.json_types import APPLIED_TOPICS
from streams.events.name_cache import NameCaches
from streams.events.open_topics import running_log
from streams.jobs.computation import Start, start_computation
from streams.jobs.metrics import JobMetrics
from streams.jobs.reputation import ReputationJob
from streams.jobs.runner import JobRunner
from streams.live.compilation import compile_kernels
from streams.live.erasing import see_erasing_through
from streams.live.keeper import Keeper, snapshots_on_signal
from streams.live.live_engine import LiveEngine
from streams.live.state_thread import StateThread
from streams.live.tail import apply_retention
from streams.log.interface import EventLog, TopicPartition
from streams.ordering.metrics import OrderMetrics
from streams.ordering.own import OwnOrder
from streams.ordering.pieces import PieceSource
from streams.ordering.shared_source import SharedSource
from streams.process.ending import end_tasks
from streams.process.loop import new_registry
from streams.processors.embedded import processors_beside
from streams.processors.notify_beside import notifications_beside
from streams.recovery.recover import Recovered, recover

RETENTION_INTERVAL_S = 600.0


@asynccontextmanager
async def running_engine(
    config: Config,
    *,
    registry: CollectorRegistry | None = None,
    accept_gap: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> AsyncIterator[tuple[LiveEngine, EventLog]]:
    """An engine that follows its log, and the log; background tasks end with the block.

    ``accept_gap``: go on even if the log has lost records that the state needs.

    Raises:
        ConfigError, LogUnavailableError: the engine cannot start; the message says what to do.
        FolderError: the disk of the durable folder refuses what the start needs.
        LogGapError, LogBehindError, JournalError: the log does not continue from the state on disk.
    """
    sys.setswitchinterval(config.serving.switch_interval_s)
    async with AsyncExitStack() as stack:
        # Listen from before the folder is locked until after it is released: another process that finds it locked may
        # send the signal.
        listener = stack.enter_context(snapshots_on_signal())
        event_log = await stack.enter_async_context(running_log(config.log))
        await asyncio.to_thread(compile_kernels, progress)
        store = stack.enter_context(opened_store(config, await event_log.identity()))
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
        await stack.enter_async_context(notifications_beside(config, event_log, engine.metrics.registry))
        assert engine.keeper is not None
        listener.ready(engine.keeper)
        engine.metrics.registry.register(NameCaches())
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
    start_job: Start = start_computation,
) -> AsyncIterator[LiveEngine]:
    """An engine on an open log and folder, recovered and following the log; ``running_engine`` and simulations use it.

    ``incarnation`` and ``now_ms``: see ``recover``. Raises what ``running_engine`` does.
    """
    async with AsyncExitStack() as stack:
        await event_log.check_readable(APPLIED_TOPICS)
        recovered = await recover(
            config,
            store,
            event_log,
            incarnation=incarnation,
            now_ms=now_ms,
            accept_gap=accept_gap,
            progress=progress,
        )
        engine = LiveEngine(config, registry, recovered.state)
        try:
            ingest, writer = engine.start(event_log, recovered, state_thread)
        except OSError as error:
            raise FolderError(f"the journal cannot be written: {error}") from error
        keeper = engine.keeper = Keeper(
            store,
            recovered,
            writer,
            config.durable,
            DurableMetrics(registry),
            event_log,
            rooms=room_hashes(config.rooms),
            settled=lambda: writer.applier.dead_letters == ingest.dead_letters_written,
            written=engine.candidates_written,
        )
        jobs = _jobs(config, engine, writer, keeper, event_log, registry, start_job)
        writer.between_pieces = jobs.between_pieces
        for close in (keeper.close, ingest.close, engine.close):  # the last one first
            stack.push_async_callback(close)
        await ingest.recall_dead_letters()
        source = await open_source(config, event_log, recovered, registry)
        stack.push_async_callback(source.close)
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(ingest.run(writer, source), name="tail"),
                tasks.create_task(ingest.watch_lag(writer), name="lag"),
                tasks.create_task(keeper.run(), name="snapshots"),
                tasks.create_task(
                    apply_retention(event_log, config.log, RETENTION_INTERVAL_S, engine.models_since_ms),
                    name="retention",
                ),
                tasks.create_task(jobs.run(), name="jobs"),
                tasks.create_task(see_erasing_through(event_log, writer.applier, engine.metrics), name="erasing"),
                tasks.create_task(_until_failed(engine), name="state thread"),
            ]
            if engine.candidates is not None:
                background.append(tasks.create_task(engine.candidates.run(), name="candidates"))
            try:
                yield engine
            finally:
                await end_tasks(background)


def _jobs(
    config: Config,
    engine: LiveEngine,
    writer: StateThread,
    keeper: Keeper,
    event_log: EventLog,
    registry: CollectorRegistry,
    start: Start,
) -> JobRunner:
    """The configured jobs, on the engine's state."""
    return JobRunner(
        (ReputationJob(config.jobs.reputation, config.rooms.models),),
        engine.state,
        event_log,
        JobMetrics(registry),
        start=start,
        live=lambda: writer.applier.live,
        call=writer.call,
        forks=keeper.forks,
    )


async def open_source(
    config: Config, event_log: EventLog, recovered: Recovered, registry: CollectorRegistry
) -> PieceSource:
    """The source of pieces for the recovered state, in the order that ``log.order`` chooses; raises ``LogError``."""
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
    compacted = await event_log.compacted(APPLIED_TOPICS)
    return OwnOrder(tail, config.ingest, recovered.entries, compacted=compacted)


async def _until_failed(engine: LiveEngine) -> None:
    await engine.failed


async def wait_applied(engine: LiveEngine, event_log: EventLog, *, timeout_s: float) -> None:
    """Wait until everything that is in the log at this moment has been applied, and feeds are served.

    Raises:
        MurmurationError: that took longer than ``timeout_s``.
    """
    ends = {
        TopicPartition(topic, partition): end
        for topic in APPLIED_TOPICS
        for partition, end in (await event_log.end_offsets(topic)).items()
    }
    deadline = time.monotonic() + timeout_s
    ingest = engine.ingest
    assert ingest is not None
    while any(ingest.position(where) < end for where, end in ends.items()) or not engine.readiness().ready:
        if time.monotonic() > deadline:
            raise MurmurationError(f"the log was not applied within {timeout_s:.0f} s: {engine.readiness().reason}")
        await engine.wait_version(engine.version, 0.1)


def shown_config(config: Config) -> dict[str, object]:
    """What ``/config`` and ``config show`` print."""
    return {"config_hash": feed_hash(config), "config": masked(config)}
