"""Checks the invariants of the interaction graph, array by array. Slow; for tests and the debug flag."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import InvariantError
from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK, GraphArrays, Limit, Scalar
from engine.kernels import calendar_log, id_map, ring_slices
from engine.kernels.id_map import IdMap
from engine.kernels.ring_slices import SliceArena

_COUNT_MASK = (1 << 27) - 1
Int64s = NDArray[np.int64]


def _require(holds: Any, what: str) -> None:
    if not holds:
        raise InvariantError(f"interaction_graph: {what}")


def check(state: GraphArrays, limits: Int64s) -> None:
    """Verify everything.

    Raises:
        InvariantError: names the first invariant that does not hold.
    """
    seconds, users, tweets = _log_edges(state, limits)
    _check_ids(state.users, "users")
    _check_ids(state.tweets, "tweets")
    _check_undone(state)
    used = np.zeros(state.arena.entries.shape[0] // 4, np.uint8)
    _check_free_lists(state.arena, used)
    sides = (
        ("user", state.users, state.user_records, state.user_skips, users, tweets, limits[Limit.USER_DEGREE]),
        ("tweet", state.tweets, state.tweet_records, state.tweet_skips, tweets, users, limits[Limit.TWEET_DEGREE]),
    )
    for side, ids, records, skips, own, other, degree_max in sides:
        counts = np.bincount(own, minlength=len(records))
        degrees = records & _COUNT_MASK
        _require((counts == degrees + skips).all(), f"{side} degree + skips is not the number of log entries")
        _require(((ids.keys != 0) == (counts > 0)).all(), f"a {side} index is held without log entries, or missing")
        _require((degrees <= degree_max).all(), f"a {side} degree is over its maximum")
        _require(((degrees > 0) == (records != 0)).all(), f"a {side} holds a slice without entries")
        _check_lists(state.arena, records, used, side, (own, other, seconds))
    _require((used == 1).all(), "arena slots are lost")


def _log_edges(state: GraphArrays, limits: Int64s) -> tuple[Int64s, Int64s, Int64s]:
    """Seconds, user and tweet indices of all log entries, oldest first."""
    count = int(state.log.header[calendar_log.COUNT])
    seconds = np.zeros(count, np.int64)
    payloads = np.zeros(count, np.int64)
    _require(int(calendar_log.dump(state.log, seconds, payloads)) == count, "the log's lists do not add up")
    watermark = int(state.scalars[Scalar.WATERMARK_S])
    if count:
        _require((np.diff(seconds) >= 0).all(), "the log is not in order of time")
        _require(seconds[-1] <= watermark, "an edge is newer than the watermark")
        _require(seconds[0] > watermark - int(limits[Limit.WINDOW_S]), "an edge is older than the window")
    return seconds, payloads >> NODE_BITS, payloads & NODE_MASK


def _check_ids(ids: IdMap, side: str) -> None:
    live = np.flatnonzero(ids.keys)
    _require(len(live) == ids.header[id_map.SIZE], f"{side}: size is not the number of keys")
    for index in live.tolist():
        _require(id_map.lookup(ids, int(ids.keys[index])) == index, f"{side}: key of index {index} is not found")
    free = ids.free[: ids.header[id_map.FREE]]
    _require(len(np.unique(free)) == len(free) and not ids.keys[free].any(), f"{side}: the free list is wrong")
    _require(len(free) + len(live) == ids.header[id_map.HIGH], f"{side}: indices are lost")


def _check_undone(state: GraphArrays) -> None:
    _check_ids(state.undone, "undone")
    size, places = int(state.undone.header[id_map.SIZE]), len(state.undone_seconds)
    _require(
        state.undone_seconds.max() <= max(0, int(state.scalars[Scalar.WATERMARK_S])),
        "an undo is newer than the watermark",
    )
    _require(0 <= state.undone_next[0] < places, "the next place for an undo is outside the table")
    _require(size == places or state.undone_next[0] == size, "undos are not in order of arrival")


def _check_free_lists(arena: SliceArena, used: NDArray[np.uint8]) -> None:
    """Check that free slices are aligned, marked and linked both ways, and no two buddies are free.

    Counts their slots in ``used``."""
    total = 0
    for c in range(ring_slices.CLASSES):
        link, before = int(arena.header[c]), 0
        while link:
            start = link - 1
            _require(start % (1 << c) == 0, "a free slice is not aligned")
            _require(arena.marks[start >> 2] == c + 1, "a free slice is not marked")
            _require(arena.entries[start + 1] == before, "a free list is not linked back")
            buddy = start ^ (1 << c)
            _require(buddy >> 2 >= len(arena.marks) or arena.marks[buddy >> 2] != c + 1, "two buddies are free")
            used[start >> 2 : (start + (1 << c)) >> 2] += 1
            total += 1 << c
            before, link = link, int(arena.entries[start])
    _require(total == arena.header[ring_slices.FREE_SLOTS], "free slots do not add up")
    _require(np.count_nonzero(arena.marks > 0) == _free_count(arena), "a mark belongs to no free slice")


def _free_count(arena: SliceArena) -> int:
    count = 0
    for c in range(ring_slices.CLASSES):
        link = int(arena.header[c])
        while link:
            count += 1
            link = int(arena.entries[link - 1])
    return count


def _check_lists(
    arena: SliceArena,
    records: Int64s,
    used: NDArray[np.uint8],
    side: str,
    log: tuple[Int64s, Int64s, Int64s],
) -> None:
    """Check that each list is in order of time, shares no slot with another, and has only edges that the log has."""
    left: dict[tuple[int, int, int], int] = {}
    for key in zip(*(column.tolist() for column in log), strict=True):
        left[key] = left.get(key, 0) + 1
    for node in np.flatnonzero(records).tolist():
        record = int(records[node])
        size = 1 << ((record >> 27) & 31)
        start = (record >> 32) & ~(size - 1)
        _require((record & _COUNT_MASK) <= size, f"a {side} list is longer than its slice")
        used[start >> 2 : (start + size) >> 2] += 1
        at = start + (((record >> 32) - start + np.arange(record & _COUNT_MASK)) & (size - 1))
        entries = arena.entries[at]
        seconds = (entries >> 32) & 0xFFFFFFFF
        _require((np.diff(seconds) >= 0).all(), f"a {side} list is not in order of time")
        for other, second in zip((entries & NODE_MASK).tolist(), seconds.tolist(), strict=True):
            key = (node, other, second)
            left[key] = left.get(key, 0) - 1
            _require(left[key] >= 0, f"a {side} list has an edge that is not in the log")
