"""Processors in the engine's process: they follow the log separately, with state and positions in a separate file."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry

from config.schema import Config
from streams.durable.folder import durable_folder
from streams.events.served_feed import TOPIC as SERVED
from streams.log.interface import (
    EventLog,
    LogUnavailableError,
    OffsetOutOfRangeError,
    Records,
    TopicMadeAgainError,
    TopicPartition,
)
from streams.process.ending import end_tasks
from streams.process.retry import Retries
from streams.processors.counting import Counting
from streams.processors.exposures import totals
from streams.processors.groups import GroupsTail
from streams.processors.metrics import ProcessorMetrics, show_pause_s
from streams.processors.saved_state import NotSavedError, SavedState

log = structlog.get_logger("murmuration.processors")

POLL_TIMEOUT_S = 0.5
#: A file that cannot be written (a full disk) is tried again after at most this long.
SAVE_RETRY_S_MAX = 5.0


class EmbeddedProcessors:
    """The exposure windows beside the engine. Counting runs on a separate thread; the event loop only reads the log."""

    def __init__(self, config: Config, event_log: EventLog, registry: CollectorRegistry, folder: Path | None) -> None:
        """``folder``: where the state is kept. With None it is not kept: a start counts what the log still holds."""
        self._config = config.processors
        self._log = event_log
        self._metrics = ProcessorMetrics(registry)
        self._counting = Counting(config.processors, config.ingest.future_ms_max, self._metrics)
        self._groups = GroupsTail(event_log, config.processors)
        self._path = folder / "processors.db" if folder is not None else None
        self._saves = Retries(
            "the counted exposures cannot be written to the disk, they stay in memory",
            wait_s_max=SAVE_RETRY_S_MAX,
            level="error",
            log=log,
        )
        self._save_at_s = 0.0

    async def run(self) -> None:
        """Count for ever. While the log is away, wait for it; a file that cannot be used ends nothing."""
        loop = asyncio.get_running_loop()
        async with AsyncExitStack() as stack:
            # One thread, so that jobs never overlap, not even with the close after a cancellation.
            thread = ThreadPoolExecutor(1, "murmuration-processors")
            stack.callback(thread.shutdown)
            state = await loop.run_in_executor(thread, SavedState, self._path)
            stack.callback(thread.submit, state.close)
            if state.problem is not None:
                self._metrics.state_failures.labels("damaged").inc()
                log.error("the counted exposures cannot be read: counting the log anew", error=state.problem)
            stack.push_async_callback(self._groups.close)
            retries = Retries("the log is away, waiting", log=log)
            while True:
                try:
                    await self._follow(thread, state, retries)
                except LogUnavailableError as error:
                    await retries.wait(error)
                except TopicMadeAgainError as error:  # a new start counts the new topic from its beginning
                    await retries.wait(error)
                except OffsetOutOfRangeError as error:
                    log.warning("feeds were removed from the log before they were counted", error=str(error))

    async def _follow(self, thread: ThreadPoolExecutor, state: SavedState, retries: Retries) -> None:
        loop = asyncio.get_running_loop()
        changed, show_at_s = True, loop.time()
        async with await self._log.tail(await self._positions(state), follow_new=True) as tail:
            while True:
                runs = await tail.poll(records_max=self._config.batch_feeds_max, timeout_s=POLL_TIMEOUT_S)
                retries.succeeded()
                if runs:
                    await self._groups.catch_up()
                    changed = True
                await loop.run_in_executor(thread, self._count, state, runs, dict(tail.positions))
                if changed and (began_s := loop.time()) >= show_at_s:
                    self._metrics.show(await loop.run_in_executor(thread, totals, state))
                    changed, show_at_s = False, loop.time() + show_pause_s(loop.time() - began_s)

    async def _positions(self, state: SavedState) -> dict[TopicPartition, int]:
        """The positions to read from: those of the state, or the start of the log where the state has none."""
        ends = await self._log.end_offsets(SERVED)
        saved = state.positions
        if any(position > ends.get(where.partition, 0) for where, position in saved.items()):
            log.warning("the state counted another log: counting this one from its beginning")
            state.reset()
            saved = {}
        starts = {TopicPartition(SERVED, p): start for p, start in (await self._log.start_offsets(SERVED)).items()}
        return {where: max(start, saved.get(where, start)) for where, start in starts.items()}

    def _count(self, state: SavedState, runs: list[Records], positions: Mapping[TopicPartition, int]) -> None:
        for run in runs:
            self._counting.count(run, self._groups.groups.of, state)
        if runs:
            state.move(positions)
        if (disturbed := state.disturbed()) is not None:
            self._metrics.state_failures.labels("disturbed").inc()
            log.error("the file of the counted exposures is written anew from memory", error=disturbed)
        if time.monotonic() < self._save_at_s or not (runs or state.unsaved):
            return
        try:
            state.save(state.positions)
        except NotSavedError as error:
            self._metrics.state_failures.labels("unsaved").inc()
            self._save_at_s = time.monotonic() + self._saves.failed(error)
        else:
            self._saves.succeeded()


@asynccontextmanager
async def processors_beside(config: Config, event_log: EventLog, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Run the processors while the block runs, if they run in the engine's process (``processors.run_in``)."""
    run_in = config.processors.run_in
    if run_in == "agents" or (run_in == "auto" and config.log.url.lower().startswith("kafka:")):
        yield
        return
    processors = EmbeddedProcessors(config, event_log, registry, durable_folder(config, await event_log.identity()))
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(processors.run(), name="processors")
        try:
            yield
        finally:
            await end_tasks([task])
