"""The arrays of muted words: people's lists of words, and the operations that keep them consistent.

A person's words are a linked list of entries in a pool that all people share; nobody has more than
``words_per_person_max`` of them. An entry is what the person last said about a word: muted or unmuted, and when.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.id_map import IdMap, make_id_map
from engine.kernels.jit import inlined

#: Columns of ``Words.people``: the first entry + 1, entries, those of them that are muted, and whether a mute found no
#: room.
FIRST, ENTRIES, MUTED, UNKEPT = range(4)

#: Columns of ``Words.entries``: hash of the phrase, hash of its last word, hash of the name by which packed tweets name
#: hashtags; time; the number of words, their prefix and whether they are muted; the next entry + 1.
PHRASE, LAST, NAME, TIME, TRAITS, NEXT = range(6)

#: Bits of ``TRAITS``: words (8 bits), prefix of the first one (2 bits), muted.
SIZE_BITS, PREFIX_SHIFT, PREFIX_BITS, IS_MUTED = 255, 8, 3, 1 << 10

#: Indices of ``Words.header``: gauges (free entries' list + 1, entries ever used, entries in use), then counters.
#: UNKEPT_PEOPLE: people in the room with a mute that found no room; UNKEPT_ALL: mutes of others that found none.
(
    FREE,
    USED,
    IN_USE,
    MUTES,
    UNMUTES,
    SUPERSEDED,
    FORGOTTEN,
    REFUSED_OVER_CAP,
    WITHOUT_WORD,
    DROPPED_FULL,
    UNMUTES_DROPPED,
    UNKEPT_PEOPLE,
    UNKEPT_ALL,
) = range(13)
HEADER_SIZE = 16

ZERO = np.uint64(0)


class Words(NamedTuple):
    """All arrays of the room. ``ids``: people. ``people``: int32 (people, 4). ``entries``: int64 (entries, 6), hashes
    as their bits. ``header``: int64. ``limits``: int64 (1), not state: the most entries per person."""

    ids: IdMap
    people: NDArray[np.int32]
    entries: NDArray[np.int64]
    header: NDArray[np.int64]
    limits: NDArray[np.int64]


def make_words(people_max: int, words_max: int, per_person_max: int) -> Words:
    """Empty arrays."""
    return Words(
        ids=make_id_map(people_max),
        people=np.zeros((people_max, 4), np.int32),
        entries=np.zeros((words_max, 6), np.int64),
        header=np.zeros(HEADER_SIZE, np.int64),
        limits=np.array([per_person_max], np.int64),
    )


@inlined
def is_muted(s: Any, at: Any) -> Any:
    """Whether an entry says that its word is muted."""
    return s.entries[at, TRAITS] & IS_MUTED != 0
