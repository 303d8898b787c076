"""Runs jobs when they are due: one at a time, each on the version at which the state's clock passed its due time.

Nodes that share one order of versions therefore compute the same model from the same state, and publish equal records.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from engine.state import EngineState
from streams.events.models import TOPIC, model_records
from streams.jobs.computation import Computation, ResultTooLargeError, Start
from streams.jobs.job import Job, Result, pack, unpack
from streams.jobs.metrics import JobMetrics
from streams.log.interface import EventLog, LogError, LogUnavailableError
from streams.process.retry import Retries

log = structlog.get_logger("murmuration.jobs")

#: How often to look for due jobs while no piece is applied: a job may be due after a start, or after a snapshot's end.
CHECK_INTERVAL_S = 1.0
#: A child that was killed is gone at once, but for a machine that swaps.
END_TIMEOUT_S = 5.0
#: Later than any event time.
NEVER_MS = 1 << 62


class _Begun(NamedTuple):
    """A computation that was started. ``began_s``: monotonic seconds."""

    job: Job
    due_ms: int
    computation: Computation
    began_s: float


class JobRunner:
    """Starts jobs on the writer thread (``between_pieces``) and publishes their results on the event loop (``run``).

    Concurrency: ``_idle`` says which thread owns the schedule. While it is true only the writer thread touches the
    schedule; the writer sets it to false when it starts a job. The event loop sets it to true again when that job is
    over, and to false for good at the end.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        state: EngineState,
        event_log: EventLog,
        metrics: JobMetrics,
        *,
        start: Start,
        live: Callable[[], bool],
        call: Callable[[Callable[[], None]], Awaitable[None]],
        forks: asyncio.Lock,
    ) -> None:
        """``live``: whether the backlog of the start is applied. ``call``: runs a function on the writer thread between
        two pieces. ``forks``: held while a forked child works, so that only one exists at a time."""
        self._jobs = [job for job in jobs if job.interval_ms]
        self._state, self._log, self._metrics = state, event_log, metrics
        self._start, self._live, self._call, self._forks = start, live, call, forks
        self._loop = asyncio.get_running_loop()
        self._idle = True
        #: By job name, the newest due time that was tried or has a result.
        self._tried_ms = dict.fromkeys((job.name for job in self._jobs), 0)
        #: No job is due before this event time.
        self._next_ms = 0
        self._begun: _Begun | None = None
        self._started = asyncio.Event()

    # On the writer thread

    def between_pieces(self) -> None:
        """Start a job that is due, if any. Called on the writer thread after every piece."""
        if not self._idle or self._state.clock_ms < self._next_ms or not self._live() or self._forks.locked():
            return
        waiting = False
        for job in self._jobs:
            due_ms = self._state.clock_ms // job.interval_ms * job.interval_ms
            if due_ms <= max(self._tried_ms[job.name], self._version(job)):
                continue
            if job.has_work(self._state):
                self._tried_ms[job.name] = due_ms
                self._begin(job, due_ms)
                return
            waiting = True
        if waiting:
            return
        following = ((self._state.clock_ms // job.interval_ms + 1) * job.interval_ms for job in self._jobs)
        self._next_ms = min(following, default=NEVER_MS)

    def _begin(self, job: Job, due_ms: int) -> None:
        began_s = time.monotonic()
        try:
            computation = self._start(lambda: pack(job.compute(self._state)), job.result_bytes_max)
        except OSError as error:
            self._loop.call_soon_threadsafe(self._failed, job, due_ms, "not_started", error)
            return
        self._idle = False
        self._loop.call_soon_threadsafe(self._note, _Begun(job, due_ms, computation, began_s))

    def _version(self, job: Job) -> int:
        """The due time of the model in force."""
        return int(self._state.models.versions().get(job.name, 0))

    # On the event loop

    def _note(self, begun: _Begun) -> None:
        self._begun = begun
        self._started.set()

    async def run(self) -> None:
        """For ever: look for due jobs, and publish the result of each started one."""
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(CHECK_INTERVAL_S):
                        await self._started.wait()
                if self._begun is None:
                    await self._call(self.between_pieces)
                    continue
                begun, self._begun = self._begun, None
                self._started.clear()
                await self._see_through(begun)
                self._idle = True
        finally:
            self._idle = False
            await self._end_begun()

    async def _end_begun(self) -> None:
        """Kill a computation that nobody waits for any more, and see it gone.

        A child holds the folder's lock, as its parent did when it forked: it has to be gone before the folder is free.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                # After this a start that was under way on the writer thread has been noted.
                await self._call(lambda: None)
        if self._begun is not None:
            begun, self._begun = self._begun, None
            begun.computation.kill()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(END_TIMEOUT_S):
                    await begun.computation.result()

    async def _see_through(self, begun: _Begun) -> None:
        job, due_ms, computation, began_s = begun
        self._metrics.running.labels(job.name).set(1)
        self._metrics.pause.labels(job.name).set(computation.pause_s)
        try:
            async with self._forks:
                result = await self._result(job, computation)
            await self._publish(job, due_ms, result)
        except TimeoutError as error:
            self._failed(job, due_ms, "overdue", error)
        except ResultTooLargeError as error:
            self._failed(job, due_ms, "too_large", error)
        except OSError as error:
            self._failed(job, due_ms, "failed", error)
        except LogError as error:
            self._failed(job, due_ms, "not_published", error)
        else:
            seconds = time.monotonic() - began_s
            self._metrics.due_time.labels(job.name).set(due_ms / 1000.0)
            self._metrics.seconds.labels(job.name).set(seconds)
            self._metrics.result_bytes.labels(job.name).set(len(result.payload))
            log.info(
                "job done", job=job.name, due_ms=due_ms, seconds=round(seconds, 3), **result.evaluation,
                bytes=len(result.payload), pause_ms=round(computation.pause_s * 1e3, 1),
            )  # fmt: skip
        finally:
            self._metrics.running.labels(job.name).set(0)

    async def _result(self, job: Job, computation: Computation) -> Result:
        """Wait for the computation's result.

        Raises:
            TimeoutError: the computation took too long and was killed.
            OSError: the computation failed.
        """
        waiting = asyncio.ensure_future(computation.result())
        # If this is cancelled, nobody awaits the computation: mark its error as seen, so that asyncio does not log it.
        waiting.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            await asyncio.wait((waiting,), timeout=job.seconds_max)
        finally:
            late = not waiting.done()
            if late:
                computation.kill()
                # Also when this is cancelled: the child has to be gone, see ``_end_begun``.
                await asyncio.wait((waiting,), timeout=END_TIMEOUT_S)
        if late:
            raise TimeoutError(f"no result within {job.seconds_max:g} s")
        return unpack(waiting.result())

    async def _publish(self, job: Job, due_ms: int, result: Result) -> None:
        """Append the model's records, unless the model is in force already; retries until the job's next due time.

        Raises:
            LogError: the records cannot be appended, or the log was away for too long.
        """
        # Hashing and encoding megabytes would block the event loop for too long.
        records = await asyncio.to_thread(
            model_records, job.name, due_ms, job.schema, result.payload, result.evaluation, due_ms
        )
        retries = Retries("a job's result waits for the log", log=log)
        while records and self._version(job) < due_ms:
            try:
                # One part at a time, so that other events come in between.
                await self._log.append(TOPIC, records[:1])
            except LogUnavailableError as error:
                if self._state.clock_ms >= due_ms + job.interval_ms:
                    raise
                await retries.wait(error, job=job.name)
                continue
            retries.succeeded()
            del records[0]

    def _failed(self, job: Job, due_ms: int, reason: str, error: Exception) -> None:
        self._metrics.failures.labels(job.name, reason).inc()
        log.error("a job has no result, the next due time tries again", job=job.name, due_ms=due_ms, reason=reason,
                  error=str(error))  # fmt: skip
