"""From the log to the state thread: reading, dead letters, lag and readiness."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from config.serving import IngestConfig, LogConfig
from streams.events.dead_letters import TOPIC as DEAD_LETTERS
from streams.events.dead_letters import DeadLetter, encode_dead_letter
from streams.events.json_types import APPLIED_TOPICS, TOPICS
from streams.events.models import TOPIC as MODELS
from streams.live.applier import Applier
from streams.live.state_thread import StateThread
from streams.log.interface import EventLog, LogError, LogUnavailableError, TopicPartition
from streams.ordering.pieces import PieceSource
from streams.ordering.proposals import ORDER
from streams.process.retry import Retries
from streams.reading.metrics import EngineMetrics
from streams.recovery.dead_letters import WrittenLetters

log = structlog.get_logger("murmuration.tail")

RECALL_POLL_S = 1.0
LAG_INTERVAL_S = 0.25
#: How long a stop waits for the last dead letters to be written to the log.
CLOSE_TIMEOUT_S = 5.0
#: The lag counts as unknown when the log has not answered for this long.
LAG_TIMEOUT_S = 5.0


class Ingest:
    """Feeds the state thread from the log and knows how far behind it is. Lives on the event loop."""

    def __init__(
        self, event_log: EventLog, config: IngestConfig, log_config: LogConfig, metrics: EngineMetrics
    ) -> None:
        self.lag_records: dict[TopicPartition, int] = {}
        #: Why the engine is not ready as far as reading goes: the lag is unknown, or the start's backlog is not applied
        #: yet, or the state thread has a problem. None when all is well.
        self.problem: str | None = "the log was not read yet"
        #: How many of the state thread's dead letters are in the log.
        self.dead_letters_written = 0
        self._log, self._config, self._metrics = event_log, config, metrics
        self._log_config = log_config
        self._source: PieceSource | None = None
        #: By partition, the offset after the last record that was given to the state thread.
        self._handed: dict[TopicPartition, int] = {}
        self._ends_at_start: dict[TopicPartition, int] = {}
        #: Whether everything that the log had at the start was applied.
        self.replayed = False
        self._reads = Retries("the log is away, waiting", log=log)
        self._appends = Retries("dead letters wait for the log", log=log)
        self._dead: list[DeadLetter] = []
        self._written = WrittenLetters()

    def on_dead(self, letters: list[DeadLetter]) -> None:
        """Take dead letters from the state thread; they are written before the next read."""
        self._dead += letters

    async def recall_dead_letters(self) -> None:
        """Learn which records have a dead letter in the log already, so that a replay does not write it again."""
        await self._written.recall(self._log)

    async def run(self, state_thread: StateThread, source: PieceSource) -> None:
        """Read the log for ever. While the log is away this waits, and resumes where it stopped."""
        self._source = source
        while True:
            try:
                pieces = await source.next()
            except LogUnavailableError as error:
                self._metrics.log_failures.labels("read").inc()
                self.problem = str(error)
                await self._reads.wait(error)
                continue
            self._reads.succeeded()
            if pieces.pieces:
                for piece in pieces.pieces:
                    self._handed |= {TopicPartition(r.topic, r.partition): r.offsets[-1] + 1 for r in piece}
                await state_thread.put(pieces)
            await self.flush_dead_letters()

    async def flush_dead_letters(self) -> None:
        """Write the dead letters collected so far; keeps trying while the log is away."""
        while letters := list(self._dead):
            fresh = [letter for letter in letters if self._written.is_fresh(letter)]
            records = [
                encode_dead_letter(letter, record_bytes_max=self._log_config.record_bytes_max) for letter in fresh
            ]
            if records:
                try:
                    await self._log.append(DEAD_LETTERS, records)
                except LogUnavailableError as error:
                    self._metrics.log_failures.labels("append").inc()
                    await self._appends.wait(error, waiting=len(letters))
                    continue
                self._appends.succeeded()
            for letter in fresh:
                self._written.note(letter)
                self._metrics.dead_letters.labels(letter.reason).inc()
            del self._dead[: len(letters)]
            self.dead_letters_written += len(letters)

    async def close(self) -> None:
        """Write the last dead letters, for at most ``CLOSE_TIMEOUT_S``. To be called after the writer thread ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.flush_dead_letters()

    async def watch_lag(self, state_thread: StateThread) -> None:
        """Measure the lag for ever, a few times a second."""
        while True:
            try:
                async with asyncio.timeout(LAG_TIMEOUT_S):
                    await self._measure_lag(state_thread)
            except LogError as error:
                self.problem = str(error)
            except TimeoutError:
                self.problem = f"the log has not said for {LAG_TIMEOUT_S:g} s where it ends"
            await asyncio.sleep(LAG_INTERVAL_S)

    async def _measure_lag(self, state_thread: StateThread) -> None:
        applier = state_thread.applier
        now_ms = time.time() * 1000
        lag: dict[TopicPartition, int] = {}
        ends: dict[TopicPartition, int] = {}
        for topic in APPLIED_TOPICS:
            for partition, end in (await self._log.end_offsets(topic)).items():
                where = TopicPartition(topic, partition)
                ends[where] = end
                lag[where] = max(0, end - self._position(applier, where))
                applied_ms = applier.applied_append_ms.get(where, now_ms)
                labels = (topic, str(partition))
                self._metrics.lag_records.labels(*labels).set(lag[where])
                self._metrics.lag_seconds.labels(*labels).set(
                    max(0.0, (now_ms - applied_ms) / 1000.0) if lag[where] else 0.0
                )
        self.lag_records = lag
        # All records that the log had at the start must be applied, whatever the lag bound: a short log would be under
        # the bound before anything was applied.
        self._ends_at_start = self._ends_at_start or ends
        left = sum(max(0, end - self._position(applier, where)) for where, end in self._ends_at_start.items())
        self.problem = state_thread.problem or self._log.append_problem()
        if not self.replayed and left:
            self.problem = self.problem or f"replaying the log, {left} records to go"
        else:
            self.replayed = True
            applier.live = True

    def _position(self, applier: Applier, where: TopicPartition) -> int:
        """The next offset to apply. Once all read records are applied, also past trailing offsets without a record."""
        applied = applier.positions.get(where, 0)
        if self._source is None or applied < self._handed.get(where, applied):
            return applied
        return max(applied, self._source.positions.get(where, applied))


async def apply_retention(
    event_log: EventLog,
    config: LogConfig,
    interval_s: float,
    models_since_ms: Callable[[], Awaitable[int | None]],
) -> None:
    """Every ``interval_s``, for ever, remove records that are older than the retention.

    ``models_since_ms``: the append time of the oldest record of topic ``models`` that a model in force needs, or None.
    From ``models``, though one of the kept topics, older records are removed, if they are past the retention as well;
    with None nothing is.
    """
    retention_ms = int(config.retention_h * 3_600_000)
    while True:
        cutoff_ms = int(time.time() * 1000) - retention_ms
        topics = {*TOPICS, *((ORDER.topic,) if config.order == "shared" else ())} - set(config.kept_topics)
        before_ms = dict.fromkeys(sorted(topics), cutoff_ms)
        since_ms = await models_since_ms()
        if since_ms is not None:
            before_ms[MODELS] = min(cutoff_ms, since_ms)
        for topic, time_ms in before_ms.items():
            try:
                await event_log.apply_retention(topic, before_ms=time_ms)
            except LogUnavailableError as error:
                log.warning("retention was not applied", topic=topic, error=str(error))
        await asyncio.sleep(interval_s)
