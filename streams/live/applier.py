"""Applies pieces to the state: journal, decode, apply, count. One version per piece; the caller brings the thread.

A piece is written to the journal before it is applied, so that every version ever served can be rebuilt after a crash.
"""

import time
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from engine.batch import EventBatch, Kind
from engine.errors import InvariantError
from engine.state import EngineState
from streams.durable.journal import Journal
from streams.events.dead_letters import DeadLetter, passed_over
from streams.events.decode import Decoded, Decoder
from streams.events.json_types import APPLIED_TOPICS, KIND_BY_TYPE, TOPIC_BY_TYPE
from streams.log.interface import TopicPartition
from streams.log.record_times import settled_of
from streams.ordering.pieces import Piece, runs_of
from streams.ordering.proposals import events_only
from streams.reading.concerns import Concerns
from streams.reading.metrics import EngineMetrics
from streams.reading.state_lock import PhaseFairLock
from streams.recovery.effects import FoundMotif, dead_letters, found_motifs

#: Topic by kind, for counting. Derived rows (a create's mentions, hashtags, …) are not counted as events.
_TOPIC_OF_KIND = np.full(256, len(APPLIED_TOPICS), np.int64)
for _type, _kind in KIND_BY_TYPE.items():
    _TOPIC_OF_KIND[_kind] = APPLIED_TOPICS.index(TOPIC_BY_TYPE[_type])
_TOPIC_OF_KIND[Kind.ERASE] = APPLIED_TOPICS.index("users")

#: The rooms' metrics are updated about this often.
ROOMS_SHOWN_S = 0.5


class Applier:
    """The only writer of a state. Used by one thread at a time.

    ``positions`` (next offset to be applied, by partition) changes with the version; another thread may see it one
    piece late. ``journal`` None: nothing is kept (benchmarks, audits). ``concerns`` is told what pieces may
    change in feeds.
    """

    def __init__(
        self,
        state: EngineState,
        lock: PhaseFairLock,
        decoder: Decoder,
        metrics: EngineMetrics,
        *,
        journal: Journal | None = None,
        journal_sync: Literal["interval", "always"] = "interval",
        on_dead: Callable[[list[DeadLetter]], None] = lambda letters: None,
        on_motifs: Callable[[list[FoundMotif]], None] = lambda motifs: None,
        concerns: Concerns | None = None,
    ) -> None:
        self.state = state
        self.journal = journal
        #: True once the backlog of the start is applied. Until then freshness is not counted: replayed events are old.
        self.live = False
        self.positions: dict[TopicPartition, int] = {}
        self.applied_append_ms: dict[TopicPartition, int] = {}
        #: Whether something of an erased person is still to be removed, as of the piece applied last.
        self.is_erasing = state.is_erasing
        #: How many dead letters were given to ``on_dead``.
        self.dead_letters = 0
        self._lock = lock
        self._decoder = decoder
        self._metrics = metrics
        self._sync_always = journal_sync == "always"
        self._on_dead = on_dead
        self._on_motifs = on_motifs
        self._concerns = concerns
        self._shown_version = state.version
        self._shown_s = time.perf_counter()

    def apply(self, piece: Piece, *, journaled: bool) -> None:
        """Apply one piece as the next version. ``journaled``: the piece comes from the journal, which has it already.

        Raises:
            OSError: the journal cannot be written. Nothing has changed, so the same piece may be applied again.
            InvariantError: journal and state do not agree on the version.
        """
        # The journal comes first. Then even a piece that cannot be decoded or applied has a version, and an operator
        # can have it passed over.
        if self.journal is not None and not journaled:
            self._note(piece)
        if self.journal is not None and self.state.version + 1 in self.journal.skipped:
            self._pass_over(piece)
            return
        started = time.perf_counter()
        decoded = self._decoder.decode(events_only(piece))
        self._metrics.decode.observe(time.perf_counter() - started)
        # Only this thread writes, so the state cannot change while it is observed without the lock.
        self.state.keep_ahead()
        with self._metrics.observe.time():
            observed = self.state.observe(decoded.batch)
        with self._lock.writing():
            entered = time.perf_counter()
            applied = self.state.apply(decoded.batch, observed)
            held = time.perf_counter() - entered
        self.is_erasing = self.state.is_erasing
        self._metrics.apply.observe(held)
        if self._concerns is not None:
            self._concerns.note(self.state.version, decoded.batch, applied.keep)
        self._move(piece)
        self._count(decoded, applied.keep)
        if time.perf_counter() - self._shown_s >= ROOMS_SHOWN_S:
            self.show_rooms()
        self._bury(dead_letters(piece, decoded, applied.effects))
        if motifs := found_motifs(piece, decoded, applied.effects):
            self._on_motifs(motifs)

    def _pass_over(self, piece: Piece) -> None:
        """Pass over a piece that cannot be applied: its version changes no room, its records become dead letters."""
        events = events_only(piece)
        with self._lock.writing():
            self.state.skip(sum(len(run.offsets) for run in events))
        self._move(piece)
        self._metrics.version.set(self.state.version)
        self._bury(passed_over(events))

    def _move(self, piece: Piece) -> None:
        for run in piece:
            partition = TopicPartition(run.topic, run.partition)
            self.positions[partition] = run.offsets[-1] + 1
            self.applied_append_ms[partition] = run.append_ms[-1]

    def _bury(self, dead: list[DeadLetter]) -> None:
        for letter in dead:
            self._metrics.events.labels(letter.topic, "dead").inc()
        if dead:
            self.dead_letters += len(dead)
            self._on_dead(dead)

    @property
    def rooms_shown(self) -> bool:
        """Whether the rooms' metrics are those of the newest version."""
        return self._shown_version == self.state.version

    def show_rooms(self) -> None:
        """Copy the rooms' gauges to the metrics. Only the writer may call this, as it reads them without the lock."""
        self._metrics.rooms.show(self.state.gauges())
        self._shown_version, self._shown_s = self.state.version, time.perf_counter()

    def _note(self, piece: Piece) -> None:
        assert self.journal is not None
        # Where only the sync failed, this piece is in the journal already, and comes again.
        if self.journal.version == self.state.version:
            self.journal.append(runs_of(piece), settled_of(piece))
        if self.journal.version != self.state.version + 1:
            raise InvariantError(f"the journal is at version {self.journal.version}, the state at {self.state.version}")
        if self._sync_always:
            self.journal.sync()

    def _count(self, decoded: Decoded, keep: NDArray[np.bool_]) -> None:
        metrics, batch = self._metrics, decoded.batch
        metrics.version.set(self.state.version)
        metrics.clock.set(self.state.clock_ms / 1000.0)
        if not batch.size:
            return
        self._count_by_topic(batch, keep)
        if (batch.kind == Kind.MODEL_COMMIT).any():
            # Only this thread writes, so between two pieces it may read without the lock.
            metrics.note_models(self.state.models.in_force())
        if self.live:
            now_ms = time.time() * 1000.0
            metrics.append_freshness.observe((now_ms - decoded.append_ms) / 1000.0)
            metrics.event_freshness.observe((now_ms - batch.timestamp_ms) / 1000.0)

    def _count_by_topic(self, batch: EventBatch, keep: NDArray[np.bool_]) -> None:
        topic = _TOPIC_OF_KIND[batch.kind]
        for result, which in (("applied", topic[keep]), ("duplicate", topic[~keep])):
            for name, n in zip(APPLIED_TOPICS, np.bincount(which, minlength=len(APPLIED_TOPICS)), strict=False):
                if n:
                    self._metrics.events.labels(name, result).inc(int(n))
