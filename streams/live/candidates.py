"""From motifs to candidates for notifications in the log: judged at the newest version, then appended.

Nothing waits for this: a bounded queue, and one task that empties it. Old motifs (of a replay) make no candidates. A
motif that is found again, by a restart or by another node, makes the same candidate again, which the processor of
notifications recognizes; of those that this process made lately, it makes none again.
"""

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog

from engine.motifs.state import Motif
from engine.notifications.judge import Judged, Verdict
from streams.events.notifications import CANDIDATES, candidate_of, record_of
from streams.log.interface import EventLog, LogError, LogForbiddenError, LogUnavailableError, NewRecord
from streams.process.retry import Retries
from streams.reading.metrics import EngineMetrics
from streams.recovery.effects import FoundMotif

log = structlog.get_logger("murmuration.notifications")

#: Motifs that may wait, and that are judged under one hold of the state lock; about 0.1 ms each.
WAITING_MAX: Final = 4096
TOGETHER_MAX: Final = 8
#: Recipients and targets of the candidates made last, and for how long one is not made again.
MADE_MAX: Final = 1 << 16
MADE_AGE_S: Final = 600.0


class CandidateWriter:
    """Makes candidates of the motifs that it is offered. Lives on the event loop."""

    def __init__(
        self,
        event_log: EventLog,
        judge: Callable[[Sequence[Motif]], Awaitable[Sequence[Judged]]],
        metrics: EngineMetrics,
        *,
        age_ms_max: int,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``age_ms_max``: motifs whose record was appended earlier than that make no candidate."""
        self._log = event_log
        self._judge = judge
        self._metrics = metrics
        self._age_ms_max = age_ms_max
        self._now_ms = now_ms
        self._queue: deque[FoundMotif] = deque()
        self._arrived = asyncio.Event()
        self._made: OrderedDict[tuple[int, int, int], float] = OrderedDict()
        self._retries = Retries("candidates for notifications wait for the log", log=log)
        #: How many motifs were queued, and how many of them are in the log or need not be.
        self._offered = self._settled = 0
        self._progress = asyncio.Event()

    async def written(self, timeout_s: float) -> bool:
        """Wait until all motifs offered by now are in the log, or need not be; False if that takes longer."""
        offered = self._offered
        try:
            async with asyncio.timeout(timeout_s):
                while self._settled < offered:
                    self._progress.clear()
                    await self._progress.wait()
        except TimeoutError:
            return False
        return True

    def offer(self, motifs: Sequence[FoundMotif]) -> None:
        """Take motifs; those that are old, made lately, or for which there is no room are counted and left out."""
        since_ms = self._now_ms() - self._age_ms_max
        for found in motifs:
            if found.append_ms < since_ms:
                self._count("old")
            elif self._is_made(found.motif):
                self._count("made_already")
            elif len(self._queue) >= WAITING_MAX:
                self._count("queue_full")
            else:
                self._queue.append(found)
                self._offered += 1
                self._arrived.set()

    def _is_made(self, motif: Motif) -> bool:
        made_s = self._made.get(motif[:3])
        return made_s is not None and time.monotonic() - made_s < MADE_AGE_S

    def _count(self, result: str) -> None:
        self._metrics.motifs.labels(result).inc()

    async def run(self) -> None:
        """Make candidates for ever. While the log is away, wait for it."""
        while True:
            await self._arrived.wait()
            await self._write_next()

    async def drain(self, timeout_s: float) -> None:
        """Make candidates of what waits, as far as the time reaches. To be called when ``run`` has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while self._queue:
                    await self._write_next()

    async def _write_next(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(TOGETHER_MAX, len(self._queue)))]
        if not self._queue:
            self._arrived.clear()
        try:
            fresh = {found.motif[:3]: found for found in batch if not self._is_made(found.motif)}
            await self._write(list(fresh.values()))
        except BaseException:
            self._queue.extendleft(reversed(batch))
            raise
        self._settled += len(batch)
        self._progress.set()

    async def _write(self, batch: Sequence[FoundMotif]) -> None:
        records = []
        for found, judged in zip(batch, await self._judge([found.motif for found in batch]), strict=True):
            self._count(judged.verdict)
            if judged.verdict is Verdict.ALLOWED:
                place = f"{found.topic}/{found.partition}/{found.offset}"
                times = {"append_ms": found.append_ms, "visited_ms": judged.visited_ms}
                records.append(record_of(candidate_of(found.motif, judged.actor_ids, place=place, **times)))
        if records and not await self._append(records, max(found.append_ms for found in batch)):
            self._metrics.motifs.labels("not_written").inc(len(records))
            return
        for found in batch:
            self._made[found.motif[:3]] = time.monotonic()
        while len(self._made) > MADE_MAX:
            self._made.popitem(last=False)

    async def _append(self, records: Sequence[NewRecord], newest_ms: int) -> bool:
        """Append; False if the log refuses them, or is away until they are too old. Snapshots wait for this."""
        while self._now_ms() - newest_ms <= self._age_ms_max:
            try:
                await self._log.append(CANDIDATES, records)
            except LogUnavailableError as error:
                self._metrics.log_failures.labels("append").inc()
                if isinstance(error, LogForbiddenError):
                    self._retries.failed(error)  # told once
                    return False
                await self._retries.wait(error)
            except LogError as error:
                self._retries.failed(error)
                return False
            else:
                self._retries.succeeded()
                return True
        return False
