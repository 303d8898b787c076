"""The writer thread: records in, decoded, applied batch by batch under the write side of the state lock.

A batch is whole records, capped so that a write holds the lock about 2 ms; each raises the version by one.
Decoding happens outside the lock. The thread talks to the event loop only through ``call_soon_threadsafe``.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import structlog
from numpy.typing import NDArray

from murmuration.engine.state import EngineState
from murmuration.engine.types import EventBatch
from murmuration.streams.events.dead_letters import DeadLetter
from murmuration.streams.events.decode import Decoded, Decoder
from murmuration.streams.events.packed import HEADER, ROW
from murmuration.streams.events.wire import APPLIED_TOPICS, KIND_BY_TYPE, TOPIC_BY_TYPE
from murmuration.streams.log.base import Format, Records, TopicPartition
from murmuration.streams.metrics import EngineMetrics
from murmuration.streams.rwlock import PhaseFairLock

log = structlog.get_logger("murmuration.state")

#: Topic by kind, for counting; derived rows (a create's mentions, hashtags, …) are not events of their own.
_TOPIC_OF_KIND = np.full(256, len(APPLIED_TOPICS), np.int64)
for _type, _kind in KIND_BY_TYPE.items():
    _TOPIC_OF_KIND[_kind] = APPLIED_TOPICS.index(TOPIC_BY_TYPE[_type])


def slices(runs: Sequence[Records], events_max: int) -> Iterator[list[Records]]:
    """Cut runs into pieces of at most ``events_max`` events, at record borders, in order.

    A packed record is never cut: a version is made of whole records.
    """
    piece: list[Records] = []
    room = events_max
    for run in runs:
        start = 0
        for i, size in enumerate(_sizes(run)):
            if size > room and (piece or i > start):
                if i > start:
                    piece.append(_part(run, start, i))
                yield piece
                piece, room, start = [], events_max, i
            room -= size
        piece.append(_part(run, start, len(run.values)))
    if piece:
        yield piece


def _sizes(run: Records) -> list[int]:
    if run.formats.count(Format.JSON) == len(run.formats):
        return [1] * len(run.formats)
    return [
        1 if form is Format.JSON else max(1, (len(value) - HEADER.size) // ROW.itemsize)
        for form, value in zip(run.formats, run.values, strict=True)
    ]


def _part(run: Records, start: int, stop: int) -> Records:
    if start == 0 and stop == len(run.values):
        return run
    return Records(
        run.topic,
        run.partition,
        run.offsets[start:stop],
        run.append_ms[start:stop],
        run.formats[start:stop],
        run.keys[start:stop],
        run.values[start:stop],
    )


class StateThread:
    """Owns the only writer. ``put`` is called on the event loop, ``on_applied`` is called back there.

    ``positions`` (next offset to be applied, by partition) is written by this thread alone; readers may see
    it one batch old.
    """

    def __init__(
        self,
        state: EngineState,
        lock: PhaseFairLock,
        decoder: Decoder,
        metrics: EngineMetrics,
        *,
        batch_events_max: int,
        queue_max: int,
        on_applied: Callable[[], None],
        on_dead: Callable[[list[DeadLetter]], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self.state = state
        #: Set once a start's backlog is applied: how old a replayed event is says nothing about freshness.
        self.live = False
        self.positions: dict[TopicPartition, int] = {}
        self.applied_append_ms: dict[TopicPartition, int] = {}
        self._lock = lock
        self._decoder = decoder
        self._metrics = metrics
        self._batch_events_max = batch_events_max
        self._on_applied, self._on_dead, self._on_failed = on_applied, on_dead, on_failed
        self._jobs: queue.SimpleQueue[list[Records] | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(queue_max)
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="murmuration-state", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def put(self, runs: list[Records]) -> None:
        """Hand over what a poll returned; waits while the queue is full."""
        await self._room.acquire()
        self._jobs.put(runs)

    async def stop(self) -> None:
        """Apply what is queued and end the thread."""
        if self._thread.is_alive():
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        try:
            while (runs := self._jobs.get()) is not None:
                for piece in slices(runs, self._batch_events_max):
                    self._apply(piece)
                self._loop.call_soon_threadsafe(self._room.release)
        except BaseException as error:
            log.exception("state thread died")
            self._loop.call_soon_threadsafe(self._on_failed, error)

    def _apply(self, piece: list[Records]) -> None:
        started = time.perf_counter()
        decoded = self._decoder.decode(piece)
        self._metrics.decode.observe(time.perf_counter() - started)
        keep: NDArray[np.bool_] = np.empty(0, bool)
        if decoded.batch.size:
            with self._lock.writing():
                entered = time.perf_counter()
                keep = self.state.apply(decoded.batch)
                held = time.perf_counter() - entered
            self._metrics.apply.observe(held)
        for run in piece:
            partition = TopicPartition(run.topic, run.partition)
            self.positions[partition] = run.offsets[-1] + 1
            self.applied_append_ms[partition] = run.append_ms[-1]
        self._count(decoded, keep)
        if decoded.dead:
            self._loop.call_soon_threadsafe(self._on_dead, decoded.dead)
        self._loop.call_soon_threadsafe(self._on_applied)

    def _count(self, decoded: Decoded, keep: NDArray[np.bool_]) -> None:
        metrics, batch = self._metrics, decoded.batch
        for dead in decoded.dead:
            metrics.events.labels(dead.topic, "dead").inc()
        if not batch.size:
            return
        self._count_by_topic(batch, keep)
        if self.live:
            now_ms = time.time() * 1000.0
            metrics.append_freshness.observe((now_ms - decoded.append_ms) / 1000.0)
            metrics.event_freshness.observe((now_ms - batch.timestamp_ms) / 1000.0)
        metrics.version.set(self.state.version)
        metrics.clock.set(self.state.clock_ms / 1000.0)

    def _count_by_topic(self, batch: EventBatch, keep: NDArray[np.bool_]) -> None:
        topic = _TOPIC_OF_KIND[batch.kind]
        for result, which in (("applied", topic[keep]), ("duplicate", topic[~keep])):
            for name, n in zip(APPLIED_TOPICS, np.bincount(which, minlength=len(APPLIED_TOPICS)), strict=False):
                if n:
                    self._metrics.events.labels(name, result).inc(int(n))
