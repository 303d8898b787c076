"""The arrays of real_graph: people, their pairs, and the statistics of each kind of act in a pair.

A pair is what one person did toward another. It has a chain of *features*, one for each kind of act that was seen, so
that a pair takes memory for what happened only. People, pairs and features are pools: arrays of equal entries.
"""

from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.erasing import make_queue
from engine.kernels.id_map import IdMap, make_id_map
from engine.kernels.jit import inlined
from engine.kernels.rng import GOLDEN, mix64


class Feature(IntEnum):
    """Kinds of acts toward a person. THROUGH_…: an act on a tweet that this person retweeted."""

    FAVORITE = 0
    RETWEET = 1
    REPLY = 2
    QUOTE = 3
    MENTION = 4
    PHOTO_TAG = 5
    SHARE = 6
    TWEET_CLICK = 7
    PROFILE_VIEW = 8
    INSPECTED = 9
    DWELL_S = 10
    THROUGH_FAVORITE = 11
    THROUGH_RETWEET = 12
    THROUGH_REPLY = 13
    THROUGH_QUOTE = 14
    THROUGH_CLICK = 15


FEATURES = len(Feature)


class Status(IntFlag):
    """What holds of a pair, without decay. UNFOLLOWED fades after ``UNFOLLOWED_DAYS``."""

    UNFOLLOWED = 1
    BLOCKED = 2
    MUTED = 4
    REPORTED = 8
    CONTACT = 16


NEGATIVE = int(Status.UNFOLLOWED | Status.BLOCKED | Status.MUTED | Status.REPORTED)
UNFOLLOWED_DAYS = 90

MS_PER_DAY = 86_400_000
#: Days are counted from 1970 and kept in 16 bits; a later day (from 2149 on) counts as the last.
DAY_LAST = (1 << 16) - 1

#: Columns of ``Ties.feature_days``: kind, closed days with acts, first day, newest closed day, open days (0 none).
CODE, NON_ZERO, FIRST_DAY, CLOSED_DAY, DAY_0, DAY_1 = range(6)
#: Columns of ``Ties.feature_sums``: of closed days the ewma as of ``CLOSED_DAY``, mean and m2; open days' totals.
EWMA, MEAN, M2, TOTAL_0, TOTAL_1 = range(5)
#: Columns of ``Ties.pairs``: index of the source person; next pair of the source, and first feature, as index + 1.
SOURCE, NEXT, FEATURE = range(3)
#: Columns of ``Ties.statuses``: ``Status`` bits, and the day of the newest unfollow.
FLAGS, UNFOLLOW_DAY = range(2)
#: Columns of ``Ties.people``: first pair, pairs, and the people whose last act came next after and before (index + 1).
FIRST_PAIR, PAIRS_OF, NEWER, OLDER = range(4)

#: Indices of ``Ties.header``: gauges (entries as index + 1), then counters.
(
    PAIRS_FREE,
    PAIRS_HIGH,
    PAIRS,
    FEATURES_FREE,
    FEATURES_HIGH,
    FEATURES_USED,
    NEWEST,
    OLDEST,
    CLOCK_DAY,
    HAND,
    COUNTED,
    TAKEN_BACK,
    LATE,
    EVICTED_PEOPLE,
    EVICTED_PAIRS,
    LAPSED_PAIRS,
    DROPPED_FULL,
    WITHOUT_PERSON,
    TOWARD_SELF,
) = range(19)
HEADER_SIZE = 24


class Ties(NamedTuple):
    """All arrays of the room, for u people, e pairs and f features.

    ``ids``: ids of the people who acted, to indices. ``people``: int32 (u, 4). ``destinations``: uint64 (e,), 0 free.
    ``pairs``: int32 (e, 3). ``statuses``: uint16 (e, 2). ``table``: int32 (t,), pair + 1 by source and destination,
    open addressing. ``feature_days``: uint16 (f, 6). ``feature_sums``: float32 (f, 5). ``feature_marks``: uint64 (f,),
    totals of closed days, two bits each (0, 1, 2, more), the newest in the lowest bits. ``feature_next``: int32 (f,).
    ``erasing``: uint64, who is still to be looked for in others' pairs (engine/kernels/erasing.py).
    ``header``: int64 scalars. ``limits``: int64 (1,), not state: the most pairs of one person.
    """

    ids: IdMap
    people: NDArray[np.int32]
    destinations: NDArray[np.uint64]
    pairs: NDArray[np.int32]
    statuses: NDArray[np.uint16]
    table: NDArray[np.int32]
    feature_days: NDArray[np.uint16]
    feature_sums: NDArray[np.float32]
    feature_marks: NDArray[np.uint64]
    feature_next: NDArray[np.int32]
    erasing: NDArray[np.uint64]
    header: NDArray[np.int64]
    limits: NDArray[np.int64]


def table_size(pairs_max: int) -> int:
    """Slots of the table: the power of two at or above twice the pairs."""
    return 1 << (2 * pairs_max - 1).bit_length()


def make_ties(people_max: int, pairs_max: int, features_max: int, pairs_each: int) -> Ties:
    """Empty arrays."""
    return Ties(
        ids=make_id_map(people_max),
        people=np.zeros((people_max, 4), np.int32),
        destinations=np.zeros(pairs_max, np.uint64),
        pairs=np.zeros((pairs_max, 3), np.int32),
        statuses=np.zeros((pairs_max, 2), np.uint16),
        table=np.zeros(table_size(pairs_max), np.int32),
        feature_days=np.zeros((features_max, 6), np.uint16),
        feature_sums=np.zeros((features_max, 5), np.float32),
        feature_marks=np.zeros(features_max, np.uint64),
        feature_next=np.zeros(features_max, np.int32),
        erasing=make_queue(),
        header=np.zeros(HEADER_SIZE, np.int64),
        limits=np.array([pairs_each], np.int64),
    )


@inlined
def day_of(time_ms: Any) -> Any:
    """The day (int64, days since 1970 in UTC) of a time."""
    return min(max(np.int64(1), time_ms // np.int64(MS_PER_DAY)), np.int64(DAY_LAST))


@inlined
def home_of(t: Any, source: Any, destination: Any) -> Any:
    """The slot of the table where the search for a pair starts."""
    return np.int64(mix64(destination ^ (np.uint64(source + 1) * GOLDEN)) & np.uint64(t.table.shape[0] - 1))


@inlined
def find_pair(t: Any, source: Any, destination: Any) -> Any:
    """The pair of a person's index (-1 unknown) and another person's id (uint64); -1 when absent."""
    if source < 0:
        return np.int64(-1)
    at, mask = home_of(t, source, destination), np.int64(t.table.shape[0] - 1)
    while t.table[at] != 0:
        pair = np.int64(t.table[at]) - 1
        if t.destinations[pair] == destination and t.pairs[pair, SOURCE] == source:
            return pair
        at = (at + 1) & mask
    return np.int64(-1)


@inlined
def find_feature(t: Any, pair: Any, code: Any) -> Any:
    """The feature of a kind in a pair, -1 when absent."""
    f = np.int64(t.pairs[pair, FEATURE]) - 1
    while f >= 0 and t.feature_days[f, CODE] != code:
        f = np.int64(t.feature_next[f]) - 1
    return f
