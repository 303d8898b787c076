"""The arrays of the interaction graph, and the codes that its kernels share."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.kernels.calendar_log import CalendarLog
from engine.kernels.daily_share import DailyShare
from engine.kernels.id_map import IdMap
from engine.kernels.ring_slices import SliceArena


class EdgeType(IntEnum):
    """Types of edges, 4 bits; 0 to 8 are GraphJet's. UNFAVORITE and UNRETWEET remove edges and are never stored."""

    CLICK = 0
    FAVORITE = 1
    RETWEET = 2
    REPLY = 3
    TWEET = 4
    IS_MENTIONED = 5
    IS_MEDIA_TAGGED = 6
    QUOTE = 7
    UNFAVORITE = 8
    DWELL = 9
    VIDEO_50 = 10
    SHARE = 11
    BOOKMARK = 12
    PHOTO_EXPAND = 13
    PROFILE_CLICK = 14
    UNRETWEET = 15


#: Operations beside adding an edge: remove a tweet's edges; add the edge of a tweet's author, who has no other to it;
#: forget a person who acts; forget a person on both sides; remove an erased tweet's edges; skip the row. Each plus the
#: type's code: remove a user's edges of this type to a tweet; add an edge that takes the place of an older one; do what
#: the row's ``Change`` says.
DELETE_TWEET = 16
PUBLISH = 17
ERASE_USER = 18
ERASE_BOTH = 19
ERASE_TWEET = 20
TAKE_BACK = 32
REPLACE = 64
ACT = 128
IGNORE = 255

ALL_TYPES = 0xFFFF

#: An adjacency entry: event second (32 bits) | edge type (4) | neighbor's index (28). A log entry's payload: user
#: index (28) | tweet index (28).
NODE_BITS = 28
NODE_MASK = (1 << NODE_BITS) - 1
NODES_MAX = 1 << NODE_BITS
SECONDS_MAX = 1 << 32


class Scalar(IntEnum):
    """Fields of ``GraphArrays.scalars``: the newest event second (-1 before the first), then cumulative counts."""

    WATERMARK_S = 0
    ADDED = 1
    EVICTED_BY_TIME = 2
    EVICTED_BY_CAPACITY = 3
    TOO_LATE = 4
    PLACED_LATE = 5
    REFUSED = 6
    DROPPED_FULL = 7
    CAPPED_USER = 8
    CAPPED_TWEET = 9
    ARENA_FULL = 10
    TAKEN_BACK = 11
    TAKE_BACK_UNMATCHED = 12
    DELETED = 13
    CAME_AFTER_UNDO = 14
    OVER_SHARE = 15
    RENEWED = 16


class Limit(IntEnum):
    """Fields of the limits array, which is configuration, not state."""

    WINDOW_S = 0
    LATE_S = 1
    USER_DEGREE = 2
    TWEET_DEGREE = 3
    USER_ENTRIES = 4
    NAMED_ENTRIES = 5
    UNDOS_PER_DAY = 6
    NAMED_PER_DAY = 7


class GraphArrays(NamedTuple):
    """The complete state. ``*_records``: (nodes,) see kernels/ring_slices.py. ``*_skips``: (nodes,) how many of the
    node's log entries are no longer in its list (dropped by the degree cap or taken back). ``undone``,
    ``undone_seconds`` (places,), ``undone_next`` (1,) and ``undos_spent``: see undone_kernels.py; ``named_spent``: see
    named_kernels.py. ``erasing``: whose edges are still to leave (engine/kernels/erasing.py), by the ids that took the
    people's places."""

    users: IdMap
    tweets: IdMap
    user_records: NDArray[np.int64]
    tweet_records: NDArray[np.int64]
    user_skips: NDArray[np.int32]
    tweet_skips: NDArray[np.int32]
    arena: SliceArena
    log: CalendarLog
    undone: IdMap
    undone_seconds: NDArray[np.int64]
    undone_next: NDArray[np.int64]
    erasing: NDArray[np.uint64]
    undos_spent: DailyShare
    named_spent: DailyShare
    scalars: NDArray[np.int64]
