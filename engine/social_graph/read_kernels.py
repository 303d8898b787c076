"""The social graph's readers."""

from typing import Any

import numpy as np

from engine.batch import Kind
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.social_graph.acts import unkept_flags
from engine.social_graph.arrays import (
    ALL_USERS,
    BLOCK,
    BLOCKING,
    BLOCKS_EACH,
    EDGES,
    ENTRIES,
    FOLLOW,
    FOLLOW_EDGES,
    FOLLOW_USERS,
    FOLLOWEES_AT,
    FOLLOWS_EACH,
    LIVE,
    MUTE,
    MUTES_EACH,
    MUTING,
    RESTRICTIONS,
    RESTRICTIONS_MAX,
    START,
    UNKEPT_ALL,
    USER_COLUMNS,
    ZERO,
    edge_flags,
    find_edge,
    prefetch_edge,
    prefetch_id,
)
from engine.social_graph.write_kernels import (
    ARRIVAL_BITS,
    FULL,
    TAKEN,
    TOO_MANY_BLOCKS,
    TOO_MANY_FOLLOWS,
    TOO_MANY_MUTES,
)


@kernel
def newest(g: Any, user_id: Any, at: Any, out: Any) -> Any:
    """Write the ids of a list's newest live entries into ``out`` (uint64), newest first; returns how many."""
    user = find(g.ids, user_id)
    if user < 0:
        return 0
    record = g.users[user]
    start, count = np.int64(record[at + START]), 0
    for i in range(np.int64(record[at + ENTRIES]) - 1, -1, -1):
        if count == out.shape[0]:
            break
        entry = g.arena[start + i]
        if entry >= 0:
            out[count] = g.ids.keys[entry]
            count += 1
    return count


@kernel
def live_count(g: Any, user_id: Any, at: Any) -> Any:
    """How many people a list has."""
    user = find(g.ids, user_id)
    return np.int64(g.users[user, at + LIVE]) if user >= 0 else 0


@inlined
def _bits(g: Any, viewer: Any, other: Any) -> Any:
    """Relation bits: FOLLOWS 1, FOLLOWED_BY 2, BLOCKS 4, BLOCKED_BY 8, MUTES 16, MUTED_BY 32; 0 for an unknown user and
    for the viewer."""
    if other < 0 or other == viewer:
        return np.int64(0)
    to = edge_flags(g, viewer, other)
    back = edge_flags(g, other, viewer)
    bits = (to & FOLLOW) | (back & FOLLOW) << 1 | (to & BLOCK) << 1 | (back & BLOCK) << 2
    return bits | (to & MUTE) << 2 | (back & MUTE) << 3


@inlined
def _close(g: Any, viewer_id: Any, other_ids: Any, out: Any) -> None:
    """Add what is not known to be safe, because a block or a mute found no room: whoever may have been blocked by the
    viewer, or may have blocked the viewer, counts as blocked; whoever may have been muted, as muted."""
    if g.unkept.ids.header[0] == 0 and g.header[UNKEPT_ALL] == 0:
        return
    everybody = g.header[UNKEPT_ALL] != 0
    viewer = unkept_flags(g, viewer_id)
    for i in range(other_ids.shape[0]):
        if other_ids[i] == ZERO or other_ids[i] == viewer_id:
            continue
        if everybody or viewer & BLOCK:
            out[i] |= np.uint8(BLOCK << 1)
        if everybody or viewer & MUTE:
            out[i] |= np.uint8(MUTE << 2)
        if everybody or unkept_flags(g, other_ids[i]) & BLOCK:
            out[i] |= np.uint8(BLOCK << 2)


@kernel
def _relation(g: Any, viewer_id: Any, other_ids: Any, indices: Any, out: Any) -> Any:
    """``relation`` by what is kept. Separate loops prefetch the table slots, so that the cache misses overlap."""
    out[:] = 0
    viewer = np.int64(find(g.ids, viewer_id))
    if viewer < 0:
        return
    for i in range(other_ids.shape[0]):
        prefetch_id(g, other_ids[i])
    for i in range(other_ids.shape[0]):
        other = np.int64(find(g.ids, other_ids[i]))
        indices[i] = other
        if other >= 0:
            prefetch_edge(g, viewer, other)
            prefetch_edge(g, other, viewer)
    for i in range(other_ids.shape[0]):
        out[i] = _bits(g, viewer, np.int64(indices[i]))


@kernel
def followees(g: Any, user_id: Any, indices: Any, out: Any, relation: Any) -> Any:
    """Write whom a user follows, newest first, into ``out`` (uint64, k), and into ``relation`` (uint8, k) the relation
    bits without FOLLOWED_BY; returns how many. ``indices`` is int32 (k) scratch.

    Edges are only looked up of those who block or mute anybody: of all others, following is all that there is.
    """
    user = np.int64(find(g.ids, user_id))
    if user < 0:
        return 0
    record = g.users[user]
    start, count = np.int64(record[FOLLOWEES_AT + START]), 0
    for i in range(np.int64(record[FOLLOWEES_AT + ENTRIES]) - 1, -1, -1):
        if count == out.shape[0]:
            break
        entry = np.int64(g.arena[start + i])
        if entry >= 0:
            indices[count] = entry
            prefetch(g.ids.keys, entry)
            prefetch(g.users, entry * USER_COLUMNS + BLOCKING)
            count += 1
    restricts = record[BLOCKING] + record[MUTING] > 0
    for i in range(count):
        other = np.int64(indices[i])
        out[i] = g.ids.keys[other]
        relation[i] = FOLLOW
        if restricts:
            flags = edge_flags(g, user, other)
            relation[i] |= np.uint8((flags & BLOCK) << 1 | (flags & MUTE) << 2)
        if g.users[other, BLOCKING] + g.users[other, MUTING] > 0:
            flags = edge_flags(g, other, user)
            relation[i] |= np.uint8((flags & BLOCK) << 2 | (flags & MUTE) << 3)
    _close(g, user_id, out[:count], relation)
    return count


@kernel
def followed_ms(g: Any, user_ids: Any, other_ids: Any, sources: Any, out: Any) -> None:
    """Write when users (uint64, n) followed others (uint64, n), pair by pair, into ``out`` (int64, n): ms, -1 for those
    not followed now. ``sources`` is int32 (n) scratch."""
    for i in range(other_ids.shape[0]):
        prefetch_id(g, user_ids[i])
        prefetch_id(g, other_ids[i])
    for i in range(other_ids.shape[0]):
        sources[i], out[i] = find(g.ids, user_ids[i]), find(g.ids, other_ids[i])
        if sources[i] >= 0 and out[i] >= 0:
            prefetch_edge(g, np.int64(sources[i]), out[i])
    for i in range(other_ids.shape[0]):
        known = sources[i] >= 0 and out[i] >= 0
        slot = np.int64(find_edge(g, np.int64(sources[i]), out[i])) if known else np.int64(-1)
        followed = slot >= 0 and g.edges[slot] & np.uint64(FOLLOW) != ZERO
        out[i] = g.follow_moment[slot] >> ARRIVAL_BITS if followed else np.int64(-1)


@kernel
def relation(g: Any, viewer_id: Any, other_ids: Any, indices: Any, out: Any) -> Any:
    """Write the relation bits between a viewer and others into ``out`` (uint8, n); ``indices`` is int32 (n) scratch."""
    _relation(g, viewer_id, other_ids, indices, out)
    _close(g, viewer_id, other_ids, out)


@kernel
def relations(g: Any, viewer_id: Any, other_ids: Any, more_ids: Any, indices: Any, out: Any) -> None:
    """Write the relation bits between a viewer and two columns of others (uint64, n) into ``out`` (uint8, (2, n)). A
    user that both columns name in one row is looked up once; ``indices`` is int32 (n) scratch."""
    _relation(g, viewer_id, other_ids, indices, out[0])
    viewer = np.int64(find(g.ids, viewer_id))
    for i in range(other_ids.shape[0]):
        out[1, i] = out[0, i]
        if more_ids[i] != other_ids[i]:
            out[1, i] = _bits(g, viewer, np.int64(find(g.ids, more_ids[i]))) if viewer >= 0 else 0
    _close(g, viewer_id, other_ids, out[0])
    _close(g, viewer_id, more_ids, out[1])


# --- at the entrance --------------------------------------------------------------------------------------------

_KIND_FOLLOW, _KIND_BLOCK, _KIND_MUTE = int(Kind.FOLLOW), int(Kind.BLOCK), int(Kind.MUTE)


@inlined
def _margin(most: Any) -> Any:
    """Room that is left for events which were accepted but are not applied yet: a 64th."""
    return most - (most >> 6)


@kernel
def refusals(g: Any, kind: Any, user_id: Any, subject_id: Any, group: Any, waiting: Any, out: Any) -> None:
    """Write into ``out[0]`` (uint8, n) why each event would be refused now (0 for most), and into ``out[1]`` whether it
    would add one to what its person follows, blocks or mutes.

    ``group`` int64 (n): a number for each person and kind. ``waiting`` int64 (groups): how many events that add one
    were accepted but are not applied yet; those of this call are added.
    """
    for i in range(kind.shape[0]):
        out[0, i] = TAKEN
        out[1, i] = 0
        code = np.int64(kind[i])
        if code != _KIND_FOLLOW and code != _KIND_BLOCK and code != _KIND_MUTE:
            continue
        source, target = np.int64(find(g.ids, user_id[i])), np.int64(find(g.ids, subject_id[i]))
        flag = FOLLOW if code == _KIND_FOLLOW else BLOCK if code == _KIND_BLOCK else MUTE
        if source >= 0 and target >= 0 and edge_flags(g, source, target) & flag:
            continue
        if code == _KIND_FOLLOW:
            have, most, why = int(FOLLOWEES_AT) + LIVE, g.limits[FOLLOWS_EACH], TOO_MANY_FOLLOWS
            full = g.header[EDGES] >= _margin(g.limits[FOLLOW_EDGES])
            users_max = _margin(g.limits[FOLLOW_USERS])
        else:
            blocks = code == _KIND_BLOCK
            have, most = BLOCKING if blocks else MUTING, g.limits[BLOCKS_EACH if blocks else MUTES_EACH]
            why = TOO_MANY_BLOCKS if blocks else TOO_MANY_MUTES
            full = g.header[RESTRICTIONS] >= _margin(g.limits[RESTRICTIONS_MAX])
            users_max = _margin(g.limits[ALL_USERS])
        if (np.int64(g.users[source, have]) if source >= 0 else 0) + waiting[group[i]] >= most:
            out[0, i] = why
        elif full or (min(source, target) < 0 and g.ids.header[0] >= users_max):
            out[0, i] = FULL
        else:
            out[1, i] = 1
            waiting[group[i]] += 1
