"""The arrays of the engagement aggregates: vectors of decayed counts, by author and by viewer and author.

A count is stored against its vector's own time (forward decay): Σ 2^((t_i − landmark) / half-life). An act then adds to
one label and leaves the others as they are; only when it is ``REBASE_HALF_LIVES`` later than the landmark is the whole
vector brought to the act's time. Decaying a float32 at every act instead would lose the decay: between two acts a few
milliseconds apart the factor of a day's half-life rounds to 1.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.exact_math import exp2
from engine.kernels.decay import factor
from engine.kernels.erasing import make_queue
from engine.kernels.id_map import IdMap, make_id_map, remove
from engine.kernels.jit import inlined, kernel


class Label(IntEnum):
    """Labels of an author's counts. IMPRESSION stands for every record; FROM_FOLLOWER for any positive act of a viewer
    who follows the author at the end of the piece."""

    FAVORITE = 0
    RETWEET = 1
    REPLY = 2
    QUOTE = 3
    CLICK = 4
    PHOTO_EXPAND = 5
    VIDEO_50 = 6
    PROFILE_CLICK = 7
    DWELL = 8
    SHARE = 9
    BOOKMARK = 10
    IMPRESSION = 11
    NOT_INTERESTED = 12
    SEE_FEWER = 13
    REPORT = 14
    BLOCK = 15
    MUTE = 16
    REPORT_USER = 17
    FOLLOW = 18
    FROM_FOLLOWER = 19


class PairLabel(IntEnum):
    """Labels of a viewer's counts with an author; NEGATIVE is the union of all negatives."""

    FAVORITE = 0
    RETWEET = 1
    REPLY = 2
    QUOTE = 3
    CLICK = 4
    PHOTO_EXPAND = 5
    VIDEO_50 = 6
    PROFILE_CLICK = 7
    DWELL = 8
    SHARE = 9
    BOOKMARK = 10
    IMPRESSION = 11
    NEGATIVE = 12


#: Places of the half-lives.
SHORT, LONG = 0, 1
HALF_LIVES = 2
#: A vector is brought to an act's time when that is later than its landmark by more than so many short half-lives: what
#: an act adds stays below 2^4.
REBASE_HALF_LIVES = 4.0

#: Indices of ``Aggregates.header``: gauges, then counters.
(
    AUTHORS_HAND,
    VIEWERS_HAND,
    PAIRS,
    COUNTED,
    EVICTED_AUTHORS,
    EVICTED_VIEWERS,
    EVICTED_PAIRS,
    IMPRESSIONS_WITHOUT_PAIR,
    UNKNOWN_AUTHOR,
    WITHOUT_AUTHOR,
    WITHOUT_USER,
    OWN_TWEETS,
    UNCHANGED,
    SHORT_DWELLS,
    TAKEN_BACK,
) = range(15)
HEADER_SIZE = 16


class Aggregates(NamedTuple):
    """All arrays of the room, for a authors, v viewers and p pairs of each viewer.

    ``authors``: author ids to indices. ``author_counts``: float32 (a, labels, half-lives). ``author_ms``: int64 (a,),
    landmarks. ``author_since_ms``: int64 (a,), the oldest act that is counted. ``author_touched``: uint8 (a,), 1 where
    somebody acted since the hand of eviction last passed. ``viewers``, ``viewer_touched``: the same of viewers.
    ``pair_author``: uint64 (v, p), 0 empty. ``pair_ms``: int64 (v, p), landmarks. ``pair_since_ms``: int64 (v, p), the
    oldest act that is counted. ``pair_act_ms``: int64 (v, p), the newest act other than an impression.
    ``pair_counts``: float32 (v, p, pair labels, half-lives). ``erasing``: uint64, who is
    still to be looked for in others' pairs (engine/kernels/erasing.py). ``header``: int64 scalars. ``half_lives_ms``:
    float64 (2,), not state.
    """

    authors: IdMap
    author_counts: NDArray[np.float32]
    author_ms: NDArray[np.int64]
    author_since_ms: NDArray[np.int64]
    author_touched: NDArray[np.uint8]
    viewers: IdMap
    viewer_touched: NDArray[np.uint8]
    pair_author: NDArray[np.uint64]
    pair_ms: NDArray[np.int64]
    pair_since_ms: NDArray[np.int64]
    pair_act_ms: NDArray[np.int64]
    pair_counts: NDArray[np.float32]
    erasing: NDArray[np.uint64]
    header: NDArray[np.int64]
    half_lives_ms: NDArray[np.float64]


def make_aggregates(
    authors_max: int, viewers_max: int, pairs_per_viewer: int, half_lives_ms: tuple[int, int]
) -> Aggregates:
    """Empty arrays."""
    pairs = (viewers_max, pairs_per_viewer)
    return Aggregates(
        authors=make_id_map(authors_max),
        author_counts=np.zeros((authors_max, len(Label), HALF_LIVES), np.float32),
        author_ms=np.zeros(authors_max, np.int64),
        author_since_ms=np.zeros(authors_max, np.int64),
        author_touched=np.zeros(authors_max, np.uint8),
        viewers=make_id_map(viewers_max),
        viewer_touched=np.zeros(viewers_max, np.uint8),
        pair_author=np.zeros(pairs, np.uint64),
        pair_ms=np.zeros(pairs, np.int64),
        pair_since_ms=np.zeros(pairs, np.int64),
        pair_act_ms=np.zeros(pairs, np.int64),
        pair_counts=np.zeros((*pairs, len(PairLabel), HALF_LIVES), np.float32),
        erasing=make_queue(),
        header=np.zeros(HEADER_SIZE, np.int64),
        half_lives_ms=np.array(half_lives_ms, np.float64),
    )


# --- vectors ----------------------------------------------------------------------------------------------------


@kernel
def _rebase(counts: Any, elapsed_ms: Any, half_lives_ms: Any) -> None:
    """Bring a vector (float32, (labels, half-lives)) to a time ``elapsed_ms`` after its landmark."""
    for h in range(HALF_LIVES):
        share = factor(elapsed_ms, half_lives_ms[h])
        for label in range(counts.shape[0]):
            counts[label, h] = np.float32(np.float64(counts[label, h]) * share)


@inlined
def landmark_for(counts: Any, landmark_ms: Any, time_ms: Any, half_lives_ms: Any) -> Any:
    """The landmark that a vector has for an act at ``time_ms``: its own, or the act's time after a rebase."""
    elapsed_ms = time_ms - landmark_ms
    if np.float64(elapsed_ms) <= REBASE_HALF_LIVES * half_lives_ms[SHORT]:
        return landmark_ms
    _rebase(counts, elapsed_ms, half_lives_ms)
    return time_ms


@inlined
def add(counts: Any, label: Any, short: Any, long: Any) -> None:
    """Add to both counts of a label, in float64, rounded once; what is taken away leaves 0 at least."""
    counts[label, SHORT] = np.float32(max(0.0, np.float64(counts[label, SHORT]) + short))
    counts[label, LONG] = np.float32(max(0.0, np.float64(counts[label, LONG]) + long))


@inlined
def clear(counts: Any) -> None:
    """Set a vector to nothing."""
    for label in range(counts.shape[0]):
        counts[label, SHORT] = np.float32(0.0)
        counts[label, LONG] = np.float32(0.0)


@inlined
def weight(time_ms: Any, landmark_ms: Any, half_life_ms: Any) -> Any:
    """What an act counts against a landmark, as float64: more than 1 after it, less before it."""
    if time_ms == landmark_ms:
        return 1.0
    return exp2(np.float64(time_ms - landmark_ms) / half_life_ms)


# --- eviction ---------------------------------------------------------------------------------------------------


@inlined
def evict(ids: Any, touched: Any, header: Any, hand: Any) -> Any:
    """Forget an id of a full map by second chance; returns its index, which is the next to be given out.

    The hand, ``header[hand]``, goes round the indices: one that was touched since it last passed loses its mark, the
    first without a mark leaves.
    """
    at = header[hand]
    while touched[at]:
        touched[at] = 0
        at = (at + 1) % touched.shape[0]
    header[hand] = (at + 1) % touched.shape[0]
    remove(ids, ids.keys[at])
    return at
