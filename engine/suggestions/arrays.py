"""The arrays of suggestions: each viewer's list of people who were dismissed, or suggested lately.

A viewer's list is a linked list of entries in a pool that all viewers share; nobody has more than
``entries_per_person_max`` of them. An entry is about one person: what the viewer said last about suggesting that
person, and how often the person was suggested.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.erasing import make_queue
from engine.kernels.id_map import IdMap, make_id_map
from engine.kernels.jit import inlined

#: Columns of ``Suggested.viewers``: the first entry + 1, and how many entries.
FIRST, ENTRIES = range(2)

#: Columns of ``Suggested.entries``: the person; when the viewer last dismissed the person or took that back, and
#: whether it was a dismissal; how often the person was suggested, and when last; the viewer + 1; the next entry + 1.
PERSON, ACT_MS, IS_DISMISSED, SHOWN, SHOWN_MS, VIEWER, NEXT = range(7)
COLUMNS = 7

#: Indices of ``Suggested.header``: gauges (free entries' list + 1, entries ever used, entries in use: the pool's; the
#: next place to be looked at, the newest event time), then counters.
(
    FREE,
    USED,
    IN_USE,
    HAND,
    CLOCK_MS,
    DISMISSED,
    TAKEN_BACK,
    SHOWINGS,
    LATE,
    LAPSED,
    OVER_SHARE,
    DROPPED_FULL,
    WITHOUT_PERSON,
) = range(13)
HEADER_SIZE = 16

#: Indices of ``Suggested.limits``.
ENTRIES_EACH, DISMISSED_AGE_MS, SHOWN_AGE_MS = range(3)
#: Suggestions of one person to one viewer within this time count once: looking often tires nobody out sooner.
SHOWN_AGAIN_MS = 3_600_000


class Suggested(NamedTuple):
    """All arrays of the room. ``ids``: viewers. ``viewers``: int32 (viewers, 2). ``entries``: int64 (entries, 7), ids
    as their bits. ``header``: int64. ``erasing``: who is being erased. ``limits``: int64 (3), not state."""

    ids: IdMap
    viewers: NDArray[np.int32]
    entries: NDArray[np.int64]
    header: NDArray[np.int64]
    erasing: NDArray[np.uint64]
    limits: NDArray[np.int64]


def make_suggested(viewers_max: int, entries_max: int, limits: tuple[int, int, int]) -> Suggested:
    """Empty arrays; ``limits`` as the array of this name."""
    return Suggested(
        ids=make_id_map(viewers_max),
        viewers=np.zeros((viewers_max, 2), np.int32),
        entries=np.zeros((entries_max, COLUMNS), np.int64),
        header=np.zeros(HEADER_SIZE, np.int64),
        erasing=make_queue(),
        limits=np.array(limits, np.int64),
    )


@inlined
def is_dismissed(s: Any, at: Any, time_ms: Any) -> Any:
    """Whether an entry keeps its person away from the viewer at a time."""
    return s.entries[at, IS_DISMISSED] != 0 and time_ms - s.entries[at, ACT_MS] <= s.limits[DISMISSED_AGE_MS]


@inlined
def shown(s: Any, at: Any, time_ms: Any) -> Any:
    """How often an entry's person was suggested, as far as that counts at a time."""
    return s.entries[at, SHOWN] if time_ms - s.entries[at, SHOWN_MS] <= s.limits[SHOWN_AGE_MS] else np.int64(0)
