"""The arrays of interests, and the order in which they are given up."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.interests.content import LANGUAGES_MAX, TAGS_MAX
from engine.kernels.id_map import IdMap, make_id_map

#: Indices of ``Interests.header``: counters.
UPDATES, OLDER, EVICTED, MALFORMED = range(4)
HEADER_SIZE = 4

#: Columns of ``Interests.sizes``.
TAGS, LANGUAGES = 0, 1


class Interests(NamedTuple):
    """All arrays of the room, by place of a person.

    ``ids``: people to places. ``times_ms``: int64 (n), when the person said it. ``sizes``: uint8 (n, 2), how many
    ``TAGS`` and ``LANGUAGES``. ``tags``: uint64 (n, 32), ``languages``: uint16 (n, 4); 0 after the last. ``order``:
    int32 (n + 1, 2), a list of all people by their last update; row p + 1 is place p, row 0 the list's ends (its AFTER
    is the person who was updated longest ago). ``header``: int64.
    """

    ids: IdMap
    times_ms: NDArray[np.int64]
    sizes: NDArray[np.uint8]
    tags: NDArray[np.uint64]
    languages: NDArray[np.uint16]
    order: NDArray[np.int32]
    header: NDArray[np.int64]


def make_interests(people_max: int) -> Interests:
    """Empty arrays."""
    return Interests(
        ids=make_id_map(people_max),
        times_ms=np.zeros(people_max, np.int64),
        sizes=np.zeros((people_max, 2), np.uint8),
        tags=np.zeros((people_max, TAGS_MAX), np.uint64),
        languages=np.zeros((people_max, LANGUAGES_MAX), np.uint16),
        order=np.zeros((people_max + 1, 2), np.int32),
        header=np.zeros(HEADER_SIZE, np.int64),
    )
