"""From the log to the state thread: reading, dead letters, lag and readiness."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog
from prometheus_client import Gauge

from config.serving import IngestConfig, LogConfig
from streams.events.dead_letters import DeadLetter
from streams.events.json_types import APPLIED_TOPICS, TOPICS
from streams.events.models import TOPIC as MODELS
from streams.live.applier import Applier
from streams.live.lag import Arrivals, Transactions
from streams.live.state_thread import StateThread
from streams.log.interface import (
    EventLog,
    LogError,
    LogForbiddenError,
    LogUnavailableError,
    OffsetOutOfRangeError,
    TopicMadeAgainError,
    TopicPartition,
)
from streams.ordering.pieces import PieceSource
from streams.ordering.proposals import ORDER
from streams.process.retry import Retries
from streams.reading.metrics import EngineMetrics
from streams.recovery.dead_letters import LetterBox, WrittenLetters

log = structlog.get_logger("murmuration.tail")

RECALL_POLL_S = 1.0
LAG_INTERVAL_S = 0.25
#: How long a stop waits for the last dead letters to be written to the log.
CLOSE_TIMEOUT_S = 5.0
#: The lag counts as unknown when the log has not answered for this long.
LAG_TIMEOUT_S = 5.0
#: What follows the name of the record that is gone.
_OVERTAKEN = (
    "; records were removed before they were read, and nothing more is read: start with serve --accept-gap, which goes "
    "on without them"
)


class Ingest:
    """Feeds the state thread from the log and knows how far behind it is. Lives on the event loop."""

    def __init__(
        self, event_log: EventLog, config: IngestConfig, log_config: LogConfig, metrics: EngineMetrics
    ) -> None:
        self.lag_records: dict[TopicPartition, int] = {}
        #: How many of the state thread's dead letters are in the log.
        self.dead_letters_written = 0
        self._log, self._config, self._metrics = event_log, config, metrics
        #: Why nothing is read, why dead letters are not written (nothing is read meanwhile), and what the lag says.
        self._read_problem: str | None = None
        #: Whether nothing more can be read until the operator has decided, at a new start, what to go on without.
        self.at_a_loss = False
        self._letters_problem: str | None = None
        self._lag_problem: str | None = "the log was not read yet"
        self._state_thread: StateThread | None = None
        self._arrivals: dict[TopicPartition, Arrivals] = {}
        self._transactions = Transactions()
        #: By partition, the gauges of its lag in records and in seconds: looking them up costs more than setting them.
        self._lag_gauges: dict[TopicPartition, tuple[Gauge, Gauge]] = {}
        self._source: PieceSource | None = None
        #: By partition, the offset after the last record that was given to the state thread.
        self._handed: dict[TopicPartition, int] = {}
        self._ends_at_start: dict[TopicPartition, int] = {}
        #: Whether everything that the log had at the start was applied.
        self.replayed = False
        self._reads = Retries("the log cannot be read, waiting", log=log)
        self._appends = Retries("dead letters wait for the log", log=log)
        self._dead: list[DeadLetter] = []
        self._written = WrittenLetters({}, ())
        self._box = LetterBox(event_log, log_config.record_bytes_max)

    @property
    def problem(self) -> str | None:
        """Why the engine is not ready as far as reading goes; None when all is well."""
        applying = None if self._state_thread is None else self._state_thread.problem
        away = self._read_problem or self._letters_problem or applying or self._log.append_problem()
        return away or self._lag_problem

    def on_dead(self, letters: list[DeadLetter]) -> None:
        """Take dead letters from the state thread; they are written before the next read."""
        self._dead += letters

    async def recall_dead_letters(self) -> None:
        """Learn which records have a dead letter in the log already, so that a replay does not write it again."""
        self._written = await WrittenLetters.recalled(self._log)

    async def run(self, state_thread: StateThread, source: PieceSource) -> None:
        """Read the log for ever. While the log cannot be read this waits, and resumes where it stopped.

        After a topic was made again, or when retention has removed records before they were read, it waits for the
        operator (``at_a_loss``): reading on would apply other records than those that follow. Feeds go on from what is
        known. A new start finds the same, and says what to do.
        """
        self._source = source
        while True:
            try:
                pieces = await source.next()
            except (LogUnavailableError, TopicMadeAgainError, OffsetOutOfRangeError) as error:
                self._metrics.log_failures.labels("read").inc()
                self.at_a_loss = not isinstance(error, LogUnavailableError)
                self._read_problem = str(error)
                if isinstance(error, OffsetOutOfRangeError):
                    self._read_problem += _OVERTAKEN
                await self._reads.wait(self._read_problem)
                continue
            self._read_problem, self.at_a_loss = None, False
            self._reads.succeeded()
            if pieces.pieces:
                for piece in pieces.pieces:
                    for run in piece:
                        where = TopicPartition(run.topic, run.partition)
                        self._handed[where] = run.offsets[-1] + 1
                        self._arrivals_of(where).note(run.offsets[-1], run.append_ms[0] / 1000.0)
                await state_thread.put(pieces)
            await self.flush_dead_letters()

    def _arrivals_of(self, where: TopicPartition) -> Arrivals:
        return self._arrivals.setdefault(where, Arrivals())

    async def flush_dead_letters(self) -> None:
        """Write the dead letters collected so far; keeps trying while the log is away."""
        while letters := list(self._dead):
            fresh = self._written.fresh(letters)
            try:
                await self._box.write(fresh)
            except LogUnavailableError as error:
                self._metrics.log_failures.labels("append").inc()
                self._letters_problem = f"{len(letters)} dead letters cannot be written, nothing is read: {error}"
                await self._appends.wait(error, waiting=len(letters))
                continue
            self._letters_problem = None
            self._appends.succeeded()
            for letter in fresh:
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
        self._state_thread = state_thread
        while True:
            try:
                async with asyncio.timeout(LAG_TIMEOUT_S):
                    self._lag_problem = await self._measure_lag(state_thread.applier)
            except LogError as error:
                self._lag_problem = str(error)
            except TimeoutError:
                self._lag_problem = f"the log has not said for {LAG_TIMEOUT_S:g} s where it ends"
            await asyncio.sleep(LAG_INTERVAL_S)

    async def _measure_lag(self, applier: Applier) -> str | None:
        """Measure once; returns why the engine is not ready as far as the lag says."""
        written = await self._log.written_offsets_of(APPLIED_TOPICS)
        readable: dict[TopicPartition, int] = {}
        for topic in dict.fromkeys(w.topic for w, end in written.items() if end > self._position(applier, w)):
            ends = await self._log.end_offsets(topic)
            readable |= {TopicPartition(topic, partition): end for partition, end in ends.items()}
        now_s = time.time()
        self._transactions.see(readable, now_s, written)
        self.lag_records = {where: max(0, end - self._position(applier, where)) for where, end in written.items()}
        for where, end in written.items():
            self._arrivals_of(where).see_end(end, now_s)
            self._show_lag(where, self.lag_records[where], self._position(applier, where), now_s)
        # All records that the log had at the start must be applied, whatever the lag bound: a short log would be under
        # the bound before anything was applied.
        self._ends_at_start = self._ends_at_start or written
        left = sum(max(0, end - self._position(applier, where)) for where, end in self._ends_at_start.items())
        if self.replayed or not left:
            self.replayed = True
            applier.live = True
        if (held := self._transactions.held(now_s, written)) is not None:
            return held.line(now_s)
        return None if self.replayed else f"replaying the log, {left} records to go"

    def _show_lag(self, where: TopicPartition, records: int, position: int, now_s: float) -> None:
        gauges = self._lag_gauges.get(where)
        if gauges is None:
            labels, of = (where.topic, str(where.partition)), self._metrics
            gauges = self._lag_gauges[where] = (of.lag_records.labels(*labels), of.lag_seconds.labels(*labels))
        oldest_s = self._arrivals_of(where).oldest_s(position)
        gauges[0].set(records)
        gauges[1].set(max(0.0, now_s - (oldest_s or now_s)) if records else 0.0)

    def position(self, where: TopicPartition) -> int:
        """The next offset to apply."""
        return 0 if self._state_thread is None else self._position(self._state_thread.applier, where)

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
    told: dict[str, str] = {}
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
            except LogForbiddenError as error:  # the same every time: said once
                if told.get(topic) != str(error):
                    told[topic] = str(error)
                    log.warning("old records are not removed", topic=topic, error=str(error))
            except LogError as error:
                log.warning("retention was not applied", topic=topic, error=str(error))
        await asyncio.sleep(interval_s)
