"""EngineState owns every room: the whole of what the engine knows, and the one place it changes.

Concurrency contract: a single writer calls ``apply`` under the write side of the state lock; readers hold the
read side for as long as they look (docs/architecture.md, invariants 1 and 2).
"""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.batch import EVENT_COLUMNS, EventBatch
from engine.blend_learner import BlendLearner, BlendLearnerConfig
from engine.deduplication import Deduplication, DeduplicationConfig
from engine.entity_names import EntityNames, EntityNamesConfig
from engine.interaction_graph.entity_graph import EntityGraph, EntityGraphConfig
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.user_graph import UserGraph, UserGraphConfig
from engine.lessons import Lessons, LessonsConfig
from engine.room import Bounded, Room
from engine.signals.state import Signals, SignalsConfig
from engine.social_graph.state import SocialGraph, SocialGraphConfig
from engine.tweet_store.state import TweetStore, TweetStoreConfig

PAGE_BYTES = 4096
#: To be raised when the same arrays come to mean something else: older snapshots are then not loaded.
LAYOUT = 1
VERSION, CLOCK_MS, EVENTS, DUPLICATES, GAP_RECORDS = range(5)


class RoomsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Capacities and rules of every room; what the state's bytes depend on."""

    deduplication: DeduplicationConfig = DeduplicationConfig()
    interaction_graph: InteractionGraphConfig = InteractionGraphConfig()
    user_graph: UserGraphConfig = UserGraphConfig()
    entity_graph: EntityGraphConfig = EntityGraphConfig()
    entity_names: EntityNamesConfig = EntityNamesConfig()
    social_graph: SocialGraphConfig = SocialGraphConfig()
    tweet_store: TweetStoreConfig = TweetStoreConfig()
    signals: SignalsConfig = SignalsConfig()
    blend_learner: BlendLearnerConfig = BlendLearnerConfig()
    lessons: LessonsConfig = LessonsConfig()


class EngineState:
    """All rooms at one version. ``apply`` raises the version by one."""

    def __init__(self, config: RoomsConfig) -> None:
        self.config = config
        self.deduplication = Deduplication(config.deduplication)
        self.interaction_graph = InteractionGraph(config.interaction_graph)
        self.user_graph = UserGraph(config.user_graph)
        self.entity_graph = EntityGraph(config.entity_graph)
        self.entity_names = EntityNames(config.entity_names)
        self.social_graph = SocialGraph(config.social_graph)
        self.tweet_store = TweetStore(config.tweet_store)
        self.signals = Signals(config.signals)
        self.blend_learner = BlendLearner(config.blend_learner)
        self.lessons = Lessons(self.interaction_graph, self.blend_learner, config.lessons)
        #: Applied in this order; each room reads only the batch, never another room.
        self.rooms: tuple[Room, ...] = (
            self.tweet_store,
            self.interaction_graph,
            self.user_graph,
            self.entity_graph,
            self.entity_names,
            self.social_graph,
            self.signals,
            self.lessons,
        )
        #: Everything whose arrays are state, in the order of ``arrays``.
        self.parts: tuple[Bounded, ...] = (self.deduplication, *self.rooms, self.blend_learner)
        self._header = np.zeros(5, np.int64)

    @property
    def version(self) -> int:
        """How many batches were applied."""
        return int(self._header[VERSION])

    @property
    def clock_ms(self) -> int:
        """The newest event time applied so far (0 before the first event)."""
        return int(self._header[CLOCK_MS])

    @property
    def events(self) -> int:
        """Events applied, duplicates left out."""
        return int(self._header[EVENTS])

    @property
    def duplicates(self) -> int:
        """Events left out because their id was seen within the horizon."""
        return int(self._header[DUPLICATES])

    @property
    def gap_records(self) -> int:
        """Log records that were lost before they were applied (0 in a whole history)."""
        return int(self._header[GAP_RECORDS])

    def note_gap(self, records: int) -> None:
        """Remember that ``records`` records of the log will never be applied; feeds say so from now on."""
        self._header[GAP_RECORDS] += records

    def apply(self, batch: EventBatch) -> NDArray[np.bool_]:
        """Apply one batch to every room and raise the version; returns which events were kept (not duplicates)."""
        keep = self.deduplication.keep(batch.kind, batch.id, batch.timestamp_ms)
        kept = batch
        if not keep.all():
            kept = batch._replace(**{name: getattr(batch, name)[keep] for name in EVENT_COLUMNS})
        start = 0
        for row in self.lessons.rows(kept):
            # A lesson is about the state just before its event.
            self._apply_rows(kept, start, row)
            self.lessons.teach(
                int(kept.user_id[row]), int(kept.subject_id[row]), int(kept.timestamp_ms[row]), int(kept.id[row])
            )
            start = row
        self._apply_rows(kept, start, kept.size)
        self._header[VERSION] += 1
        self._header[EVENTS] += kept.size
        self._header[DUPLICATES] += batch.size - kept.size
        if kept.size:
            self._header[CLOCK_MS] = max(self.clock_ms, int(kept.timestamp_ms.max()))
        return keep

    def _apply_rows(self, batch: EventBatch, start: int, stop: int) -> None:
        if stop - start < batch.size:
            batch = batch._replace(**{name: getattr(batch, name)[start:stop] for name in EVENT_COLUMNS})
        for room in self.rooms:
            room.apply(batch)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Every array of the state by qualified name, in a fixed order: their bytes are the state's bytes."""
        yield "engine.header", self._header
        for room in self.parts:
            for name, array in room.arrays().items():
                yield f"{room.name}.{name}", array

    def digest(self) -> str:
        """SHA-256 over all arrays (names, shapes and bytes): equal digests mean equal states."""
        sha = hashlib.sha256()
        for name, array in self.arrays():
            sha.update(f"{name}{array.dtype.str}{array.shape}".encode())
            if array.size:
                sha.update(np.ascontiguousarray(array).data.cast("B"))
        return sha.hexdigest()

    def touch(self) -> None:
        """Make the system back every array with memory now, values unchanged: to be called once, before serving.

        Otherwise the first write to each page waits for one to be found and zeroed, under the write lock: single
        batches were seen to hold it for 300 ms. And a machine too small for its configuration fails at the start.
        """
        for _, array in self.arrays():
            if array.size:
                pages = array.reshape(-1).view(np.uint8)[::PAGE_BYTES]
                np.add(pages, 0, out=pages, casting="unsafe")

    @property
    def bytes_max(self) -> int:
        """Bytes of all rooms' arrays."""
        return sum(room.bytes_max for room in self.parts)

    def check(self) -> None:
        """Verify every room's invariants (slow)."""
        for room in self.parts:
            room.check()

    def gauges(self) -> Mapping[str, tuple[int, Mapping[str, float], Mapping[str, int]]]:
        """By room: bytes, fill of each bounded thing, cumulative counters."""
        return {room.name: (room.bytes_max, room.fill(), room.counters()) for room in self.parts}
