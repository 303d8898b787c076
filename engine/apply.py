"""How a piece changes the state: four steps, each with a stated view of time.

1. *Observe*: observers read the state as of the version before the piece. Nothing changes, so no lock is needed.
2. *Resolve*: the tweet store goes first. It fills, row by row, the columns that say which tweet a row is about.
3. *Base rooms* read the batch only, so their state does not depend on how the log is cut into pieces.
4. *Derived rooms* read the batch, and the rooms named in their ``reads``, as of the end of the piece.

Duplicates are left out before step 2. After it, the tweets of erased people are named, a row for each, so that other
rooms forget them too: some come after the row that erases the person, others after rows that follow (the erasing is
spread over them). Rooms return effects; here their rows become rows of the whole batch.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.batch import EVENT_COLUMNS, RESOLVED_COLUMNS, EventBatch, Kind
from engine.deduplication.state import Deduplication
from engine.effects import Effects, joined
from engine.profiles.state import ProfileRoom
from engine.room import DerivedRoom, Observer, Room
from engine.rooms import Rooms


class Observed(NamedTuple):
    """The observers' findings before a piece, in the order of the rooms; valid only for the next ``apply``."""

    version: int
    findings: tuple[Any, ...]


class Applied(NamedTuple):
    """The result of applying a batch of n rows. ``keep``: bool (n,), False for duplicates; ``effects``: by its rows."""

    keep: NDArray[np.bool_]
    effects: Effects


class Steps:
    """The rooms by the step in which they take part."""

    def __init__(self, rooms: Rooms) -> None:
        self._deduplication = rooms.deduplication
        self._profiles = rooms.profiles
        self._observers = [room for room in rooms.parts if isinstance(room, Observer)]
        #: Step 2: the tweet store resolves while it applies.
        self._store = rooms.tweet_store
        #: Steps 3 and 4, in order.
        self._rooms: list[Room | DerivedRoom] = [
            *(room for room in rooms.parts if isinstance(room, Room) and room is not self._store),
            *(room for room in rooms.parts if isinstance(room, DerivedRoom)),
        ]

    def observe(self, batch: EventBatch, events: int) -> tuple[Any, ...]:
        """Step 1; ``events``: how many events were applied so far. Reads the state and changes nothing."""
        return tuple(room.observe(batch, events) for room in self._observers)

    def apply(self, batch: EventBatch, findings: tuple[Any, ...]) -> tuple[EventBatch, Applied]:
        """Steps 2 to 4; returns the batch without duplicates, and the result."""
        kept, keep = kept_rows(self._deduplication, self._profiles, batch)
        for room, finding in zip(self._observers, findings, strict=True):
            room.learn(finding)
        resolved = self._store.apply(kept)
        whole, origin = with_erased_tweets(kept, self._store.take_erased())
        found = [effects for room in self._rooms if (effects := room.apply(whole)) is not None]
        if origin is not None:
            found = [effects._replace(row=origin[effects.row]) for effects in found]
        effects = joined(found if resolved is None else [resolved, *found])
        if effects.size and kept.size < batch.size:
            effects = effects._replace(row=np.flatnonzero(keep)[effects.row])
        return kept, Applied(keep, effects)


def kept_rows(
    deduplication: Deduplication, profiles: ProfileRoom, batch: EventBatch
) -> tuple[EventBatch, NDArray[np.bool_]]:
    """The batch without duplicates and what is late about erased people, its resolved columns not yet filled; and which
    rows of the batch were kept."""
    keep = deduplication.keep(batch, profiles.late(batch))
    whole = bool(keep.all())
    kept = batch if whole else batch._replace(**{name: getattr(batch, name)[keep] for name in EVENT_COLUMNS})
    # The tweet store writes these columns, so they must be copies: the caller's batch stays unchanged.
    kept = kept._replace(
        kind=kept.kind.copy() if whole else kept.kind,
        author_id=kept.author_id.copy() if whole else kept.author_id,
        **{name: np.empty(kept.size, dtype) for name, dtype in RESOLVED_COLUMNS.items()},
    )
    return kept, keep


def with_erased_tweets(
    batch: EventBatch, erased: tuple[NDArray[np.int64], NDArray[np.uint64]]
) -> tuple[EventBatch, NDArray[np.int64] | None]:
    """The batch with one ERASED_TWEET row for each tweet that the tweet store erased, after the row at which it did;
    and by row of the result the row of ``batch`` that it comes from (int64), None if nothing was added.

    ``erased``: the rows (ascending) and tweets that ``TweetStore.take_erased`` returned.
    """
    rows, tweet_ids = erased
    if not rows.size:
        return batch, None
    origin = np.insert(np.arange(batch.size), rows + 1, rows)
    added = rows + 1 + np.arange(rows.size)
    whole = batch._replace(**{name: getattr(batch, name)[origin] for name in (*EVENT_COLUMNS, *RESOLVED_COLUMNS)})
    whole.kind[added] = Kind.ERASED_TWEET
    whole.subject_id[added] = whole.original_id[added] = tweet_ids
    return whole, origin
