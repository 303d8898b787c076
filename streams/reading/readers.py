"""The reader pool: feeds computed in parallel, each at exactly one state version."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

import structlog

from engine.errors import CapacityError, SafetyError
from engine.feed import Feed, Product, Request
from engine.pipeline.execute import Pipeline, execute
from engine.pipeline.scratch import Scratch
from engine.state import EngineState
from streams.reading.feed_meter import FeedMeter
from streams.reading.metrics import EngineMetrics
from streams.reading.reader_pool import Pool, ReaderPool
from streams.reading.state_lock import PhaseFairLock

log = structlog.get_logger("murmuration.readers")
T = TypeVar("T")


class _Watch:
    """Passes an execution's times and counts to the metrics, and tells it when the sources' deadline is over."""

    def __init__(self, metrics: EngineMetrics, meter: FeedMeter, deadline_ns: int) -> None:
        self._metrics = metrics
        self._candidates = meter.candidates
        self._deadline_ns = deadline_ns

    def clock_ns(self) -> int:
        return time.perf_counter_ns()

    def cpu_ns(self) -> int:
        return time.thread_time_ns()

    def expired(self) -> bool:
        return time.perf_counter_ns() > self._deadline_ns

    def count(self, stage: str, component: str, result: str, n: int) -> None:
        self._candidates[stage, component, result] += n

    def failed(self, component: str, error: Exception) -> None:
        self._metrics.component_failures.labels(component).inc()
        log.error("pipeline component failed", component=component, exc_info=error)


class _Reading:
    """Holds the read side of the state lock while a block runs, and gives the version. Any number of threads may enter
    it at once: it keeps nothing. (A generator as context manager takes a few µs, twice as long as the lock.)"""

    def __init__(self, state: EngineState, lock: PhaseFairLock) -> None:
        self._state, self._lock = state, lock

    def __enter__(self) -> int:
        self._lock.acquire_read()
        return self._state.version

    def __exit__(self, *exception: object) -> None:
        self._lock.release_read()


class Readers:
    """A pool of threads that answer requests from the state. Called on the event loop."""

    def __init__(
        self,
        state: EngineState,
        lock: PhaseFairLock,
        products: Mapping[Product, Pipeline],
        metrics: EngineMetrics,
        *,
        readers: int,
        queue_max: int,
        source_deadline_s: float,
    ) -> None:
        self._reading, self._products, self._metrics = _Reading(state, lock), products, metrics
        self._queue_max = queue_max
        self._source_deadline_ns = int(source_deadline_s * 1e9)
        self._waiting = 0
        metrics.requests_waiting.set_function(lambda: self._waiting)
        self._local = threading.local()
        self._pool: Pool = ReaderPool(readers, self._prepare, name="murmuration-reader")

    def run_on(self, pool: Pool) -> None:
        """End the threads, and run calls on ``pool`` and its one thread, which is the calling one."""
        self._pool.close()
        self._pool = pool
        self._prepare()

    def _prepare(self) -> None:
        """Make the calling thread's buffers. The pool's threads call this when they start."""
        self._local.scratch = Scratch()
        self._local.meter = self._metrics.feeds.new()

    @property
    def scratch(self) -> Scratch:
        """The calling reader thread's buffers."""
        scratch: Scratch = self._local.scratch
        return scratch

    async def answer(self, request: Request, finish: Callable[[Feed], T]) -> T:
        """Compute a feed and give it to ``finish`` on the same thread, after the state lock is released.

        Raises:
            CapacityError: too many requests wait already.
            RequestError: a bad request or cursor.
            SafetyError: a safety stage failed.
            Exception: what ``finish`` raised.
        """
        if self._waiting >= self._queue_max:
            raise CapacityError(f"{self._waiting} requests are waiting already")
        self._waiting += 1
        try:
            return await self._pool.run(partial(self._answer, request, finish))
        finally:
            self._waiting -= 1

    async def read(self, look: Callable[[], T]) -> T:
        """Run ``look`` in the pool; ``look`` takes the read lock (``reading``).

        Raises:
            CapacityError: too many requests wait already.
        """
        if self._waiting >= self._queue_max:
            raise CapacityError(f"{self._waiting} requests are waiting already")
        self._waiting += 1
        try:
            return await self.read_unbounded(look)
        finally:
            self._waiting -= 1

    async def read_unbounded(self, look: Callable[[], T]) -> T:
        """``read`` for background tasks of the engine: a full queue does not refuse it, and it takes no place there."""
        return await self._pool.run(look)

    def reading(self) -> AbstractContextManager[int]:
        """Hold the state at one version while the block runs; gives the version."""
        return self._reading

    def _answer(self, request: Request, finish: Callable[[Feed], T]) -> T:
        feed = self.feed(request, self._reading)
        computed_s = time.thread_time()
        answer = finish(feed)
        self._local.meter.cpu_s["finish"] += time.thread_time() - computed_s
        return answer

    def feed(self, request: Request, reading: AbstractContextManager[int]) -> Feed:
        """Compute a feed on a thread of the pool; ``reading`` holds the read side of the state lock."""
        meter: FeedMeter = self._local.meter
        watch = _Watch(self._metrics, meter, time.perf_counter_ns() + self._source_deadline_ns)
        try:
            feed = execute(
                self._products[request.product],
                request,
                scratch=self._local.scratch,
                reading=reading,
                watcher=watch,
            )
        except SafetyError:
            self._metrics.component_failures.labels("safety").inc()
            raise
        if feed.tier:
            meter.tiers[request.product, feed.tier] += 1
        meter.note(request.product, feed.timings_ms, feed.cpu_ms)
        return feed

    def count_served(self, source: str, entries: int) -> None:
        """Count entries that a source brought into feeds which a thread of the pool made without ``feed``."""
        meter: FeedMeter = self._local.meter
        meter.candidates["source", source, "served"] += entries

    async def close(self) -> None:
        """Finish what runs and end the threads."""
        await asyncio.to_thread(self._pool.close)
