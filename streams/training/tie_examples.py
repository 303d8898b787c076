"""Examples for the model of ties: what was known of pairs at the end of a day, and what was done on the next."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import EVENT_COLUMNS, EventBatch
from engine.real_graph.arrays import MS_PER_DAY
from engine.real_graph.column_kernels import ACTED, COLUMNS, EXPLICITLY
from engine.state import EngineState
from engine.tie_strength import TieStrength

Ids = NDArray[np.uint64]
#: One source in so many is kept for the evaluation, all its pairs together.
HELD_OUT = 10


class Examples(NamedTuple):
    """Pairs on days. ``source_ids``: uint64 (n). ``rows``: float32 (n, 8), the model's columns. ``acted``,
    ``explicitly``: bool (n), what was done on the next day. ``default``: float32 (n), the default score.
    """

    source_ids: Ids
    rows: NDArray[np.float32]
    acted: NDArray[np.bool_]
    explicitly: NDArray[np.bool_]
    default: NDArray[np.float32]

    def where(self, which: NDArray[np.bool_]) -> "Examples":
        """Those examples."""
        return Examples._make(column[which] for column in self)

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Which examples are kept for the evaluation: by the hash of their source."""
        out: NDArray[np.bool_] = hashed(self.source_ids) % np.uint64(HELD_OUT) == 0
        return out


class _Day(NamedTuple):
    """Pairs at the end of a day, whose next day is not over yet; columns as in ``Examples``."""

    day: int
    source_ids: Ids
    other_ids: Ids
    rows: NDArray[np.float32]
    default: NDArray[np.float32]


class Collector:
    """Applies events to a state and looks at all ties whenever a day of event time is over.

    Of each day at most ``pairs_max`` pairs, drawn by a hash, become examples; of the last ``days_max`` days whose next
    day is over. Blocked, muted, reported and unfollowed people are no ties, so no examples.
    """

    def __init__(self, state: EngineState, *, pairs_max: int, days_max: int) -> None:
        self.state = state
        self._ties = TieStrength(state)
        self._pairs_max, self._days_max = pairs_max, days_max
        self._pending: _Day | None = None
        self._done: list[Examples] = []

    def apply(self, batch: EventBatch) -> None:
        """Apply a batch; where it goes beyond the end of a day, up to there first."""
        while batch.size:
            now_ms = self.state.clock_ms or int(batch.timestamp_ms[0])
            end_ms = (now_ms // MS_PER_DAY + 1) * MS_PER_DAY
            later = np.flatnonzero(batch.timestamp_ms >= end_ms)
            if not later.size:
                self.state.apply(batch)
                return
            if later[0]:
                self.state.apply(_rows(batch, slice(0, int(later[0]))))
            self._end_day(end_ms // MS_PER_DAY - 1, int(batch.timestamp_ms[later[0]]) // MS_PER_DAY)
            # The first row moves the clock beyond this day.
            self.state.apply(_rows(batch, slice(int(later[0]), int(later[0]) + 1)))
            batch = _rows(batch, slice(int(later[0]) + 1, None))

    def _end_day(self, day: int, following: int) -> None:
        """A day is over; ``following``: the day on which something happened next."""
        pending, self._pending = self._pending, None
        if pending is not None and pending.day == day - 1:
            self._done = [*self._done[-self._days_max + 1 :], self._labeled(pending)]
        if following == day + 1:  # else the log says nothing of the next day
            self._pending = self._look(day)

    def _look(self, day: int) -> _Day:
        time_ms = day * MS_PER_DAY
        sources, others = self.state.real_graph.all_pairs()
        rows, tied = self._ties.columns(sources, others, time_ms)
        if np.count_nonzero(tied) > self._pairs_max:
            chance = hashed(sources ^ hashed(others ^ np.uint64(day)))
            tied &= chance < np.uint64(2**64 * self._pairs_max // np.count_nonzero(tied))
        sources, others = sources[tied], others[tied]
        default = self.state.real_graph.strength_between(sources, others, time_ms)
        return _Day(day, sources, others, rows[tied].astype(np.float32), default)

    def _labeled(self, pending: _Day) -> Examples:
        """With what was done on the day that is over now."""
        followed_ms = self.state.social_graph.followed_ms(pending.source_ids, pending.other_ids)
        time_ms = (pending.day + 1) * MS_PER_DAY
        done = self.state.real_graph.labels(pending.source_ids, pending.other_ids, followed_ms, time_ms)
        acted, explicitly = (done & ACTED).astype(np.bool_), (done & EXPLICITLY).astype(np.bool_)
        return Examples(pending.source_ids, pending.rows, acted, explicitly, pending.default)

    @property
    def days(self) -> int:
        """On how many days there are examples."""
        return len(self._done)

    def examples(self) -> Examples:
        """All examples of days whose next day is over, oldest first."""
        empty = np.empty(0, np.float32)
        nothing = empty.astype(np.bool_)
        none = Examples(np.empty(0, np.uint64), empty.reshape(0, COLUMNS), nothing, nothing, empty)
        return Examples._make(np.concatenate(columns) for columns in zip(none, *self._done, strict=True))


def hashed(ids: Ids) -> Ids:
    """A 64-bit hash of each id (uint64): the finalizer of splitmix64."""
    x = (ids ^ (ids >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _rows(batch: EventBatch, rows: slice) -> EventBatch:
    return batch._replace(**{name: getattr(batch, name)[rows] for name in EVENT_COLUMNS})
