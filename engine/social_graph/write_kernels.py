"""The social graph's writer: applies relationship events to the arrays of ``Graph``."""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.id_map import find, find_or_add
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.social_graph.arrays import (
    ABSENT,
    ALL_EDGES,
    ALL_USERS,
    BLOCK,
    BLOCKS,
    CUT_BY_BLOCK,
    DROPPED_EDGES,
    DROPPED_LISTS,
    DROPPED_USERS,
    EDGES,
    ENTRIES,
    FOLLOW,
    FOLLOW_EDGES,
    FOLLOW_USERS,
    FOLLOWEES_AT,
    FOLLOWERS_AT,
    FOLLOWS,
    FOLLOWS_NOW,
    LIFTED,
    MUTE,
    MUTES,
    REFUSED_BLOCKED,
    REFUSED_SELF,
    REPEATED,
    START,
    UNFOLLOWS,
    USER_COLUMNS,
    WITHOUT_USER,
    ZERO,
    add_flag,
    append,
    clear_flag,
    detach,
    edge_flags,
    find_edge,
    home,
    make_room,
    pack,
    prefetch_edge,
    prefetch_id,
    release,
    trim,
)

#: How many rows' users and edges are prefetched together, so that their cache misses overlap.
AHEAD_ROWS = 32

KIND_FOLLOW, KIND_MUTE, KIND_UNMUTE = int(Kind.FOLLOW), int(Kind.MUTE), int(Kind.UNMUTE)
KIND_UNFOLLOW, KIND_BLOCK, KIND_UNBLOCK = int(Kind.UNFOLLOW), int(Kind.BLOCK), int(Kind.UNBLOCK)


@inlined
def _index(g: Any, user_id: Any) -> Any:
    return np.int64(find(g.ids, user_id))


@inlined
def _add(g: Any, user_id: Any) -> Any:
    return np.int64(find_or_add(g.ids, user_id))


@inlined
def _fits(g: Any, source: Any, target: Any, users_max: Any, edges_max: Any) -> Any:
    """Whether both people (-1: not known yet) and the edge between them fit; counts a drop if not."""
    new_users = (1 if source < 0 else 0) + (1 if target < 0 else 0)
    if new_users > 0 and g.ids.header[0] + new_users > users_max:
        g.header[DROPPED_USERS] += 1
        return False
    if (new_users > 0 or find_edge(g, source, target) < 0) and g.header[EDGES] + 1 > edges_max:
        g.header[DROPPED_EDGES] += 1
        return False
    return True


@kernel
def _follow(g: Any, user_id: Any, other_id: Any) -> Any:
    """FOLLOW: add a new edge at the end of both lists."""
    source, target = _index(g, user_id), _index(g, other_id)
    if source >= 0 and target >= 0:
        flags = edge_flags(g, source, target)
        if flags & FOLLOW:
            g.header[REPEATED] += 1
            return
        if (flags | edge_flags(g, target, source)) & BLOCK:
            g.header[REFUSED_BLOCKED] += 1
            return
    if not _fits(g, source, target, g.limits[FOLLOW_USERS], g.limits[FOLLOW_EDGES]):
        return
    source, target = _add(g, user_id), _add(g, other_id)
    if not (make_room(g, source, FOLLOWEES_AT) and make_room(g, target, FOLLOWERS_AT)):
        g.header[DROPPED_LISTS] += 1
        trim(g, source, FOLLOWEES_AT)
        release(g, source)
        release(g, target)
        return
    slot = add_flag(g, source, target, FOLLOW)
    g.sequences[slot, 0] = append(g, source, FOLLOWEES_AT, target)
    g.sequences[slot, 1] = append(g, target, FOLLOWERS_AT, source)
    g.header[FOLLOWS_NOW] += 1
    g.header[FOLLOWS] += 1


@kernel
def _cut_follow(g: Any, source: Any, target: Any) -> Any:
    """Remove a follow edge; False when there is none."""
    slot = find_edge(g, source, target)
    if slot < 0 or g.edges[slot] & np.uint64(FOLLOW) == ZERO:
        return False
    detach(g, source, FOLLOWEES_AT, np.int64(g.sequences[slot, 0]))
    detach(g, target, FOLLOWERS_AT, np.int64(g.sequences[slot, 1]))
    g.sequences[slot, 0] = 0
    g.sequences[slot, 1] = 0
    g.header[FOLLOWS_NOW] -= 1
    clear_flag(g, source, target, FOLLOW)
    return True


@kernel
def _restrict(g: Any, user_id: Any, other_id: Any, flag: Any) -> Any:
    """BLOCK or MUTE. A block also ends following, both ways."""
    source, target = _index(g, user_id), _index(g, other_id)
    if not _fits(g, source, target, g.limits[ALL_USERS], g.limits[ALL_EDGES]):
        return
    source, target = _add(g, user_id), _add(g, other_id)
    if edge_flags(g, source, target) & flag:
        g.header[REPEATED] += 1
        return
    add_flag(g, source, target, flag)
    g.header[BLOCKS if flag == BLOCK else MUTES] += 1
    if flag == BLOCK:
        for cut in (_cut_follow(g, source, target), _cut_follow(g, target, source)):
            if cut:
                g.header[CUT_BY_BLOCK] += 1


@kernel
def _lift(g: Any, user_id: Any, other_id: Any, flag: Any) -> Any:
    """UNFOLLOW, UNBLOCK or UNMUTE."""
    source, target = _index(g, user_id), _index(g, other_id)
    if source < 0 or target < 0 or not edge_flags(g, source, target) & flag:
        g.header[ABSENT] += 1
    elif flag == FOLLOW:
        _cut_follow(g, source, target)
        g.header[UNFOLLOWS] += 1
    else:
        clear_flag(g, source, target, flag)
        g.header[LIFTED] += 1


@inlined
def _both(g: Any, kind: Any, user_id: Any, subject_id: Any) -> Any:
    """Indices of the two people of a relationship row, (-1, -1) unless both are known."""
    if kind < KIND_FOLLOW or kind > KIND_UNMUTE:
        return np.int64(-1), np.int64(-1)
    source, target = _index(g, user_id), _index(g, subject_id)
    if source < 0 or target < 0:
        return np.int64(-1), np.int64(-1)
    return source, target


@kernel
def _prefetch(g: Any, kind: Any, user_id: Any, subject_id: Any, start: Any, end: Any) -> Any:
    """Prefetch what the rows will touch, step by step: id slots; records and edges; list ends. Changes nothing."""
    for row in range(start, end):
        prefetch_id(g, user_id[row])
        prefetch_id(g, subject_id[row])
    for row in range(start, end):
        source, target = _both(g, kind[row], user_id[row], subject_id[row])
        if source >= 0:
            prefetch(g.users, source * USER_COLUMNS)
            prefetch(g.users, target * USER_COLUMNS)
            prefetch_edge(g, source, target)
            prefetch_edge(g, target, source)
            prefetch(g.sequences, 2 * home(g, pack(source, target)))
    for row in range(start, end):
        source, target = _both(g, kind[row], user_id[row], subject_id[row])
        if source >= 0:
            prefetch(g.arena, np.int64(g.users[source, START]) + g.users[source, ENTRIES])
            prefetch(g.arena, np.int64(g.users[target, 5 + START]) + g.users[target, 5 + ENTRIES])


@kernel
def apply(g: Any, kind: Any, user_id: Any, subject_id: Any) -> Any:
    """Apply a batch's relationship rows in order; other kinds are skipped.

    ``kind`` uint8 (n), ``user_id`` and ``subject_id`` uint64 (n). Writes every array of ``g``.
    """
    ahead = 0
    for row in range(kind.shape[0]):
        code = np.int64(kind[row])
        if code < KIND_FOLLOW or code > KIND_UNMUTE:
            continue
        if row >= ahead:
            ahead = min(row + AHEAD_ROWS, kind.shape[0])
            _prefetch(g, kind, user_id, subject_id, np.int64(row), np.int64(ahead))
        a, b = user_id[row], subject_id[row]
        if a == ZERO or b == ZERO:
            g.header[WITHOUT_USER] += 1
        elif a == b:
            g.header[REFUSED_SELF] += 1
        elif code == KIND_FOLLOW:
            _follow(g, a, b)
        elif code == KIND_UNFOLLOW:
            _lift(g, a, b, FOLLOW)
        elif code == KIND_BLOCK:
            _restrict(g, a, b, BLOCK)
        elif code == KIND_UNBLOCK:
            _lift(g, a, b, BLOCK)
        elif code == KIND_MUTE:
            _restrict(g, a, b, MUTE)
        else:
            _lift(g, a, b, MUTE)
