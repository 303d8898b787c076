"""The social graph's readers."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.social_graph.arrays import (
    BLOCK,
    ENTRIES,
    FOLLOW,
    LIVE,
    MUTE,
    START,
    edge_flags,
    prefetch_edge,
    prefetch_id,
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


@kernel
def relation(g: Any, viewer_id: Any, other_ids: Any, indices: Any, out: Any) -> Any:
    """Write the relation bits between a viewer and others into ``out`` (uint8, n); ``indices`` is int32 (n) scratch.

    Separate loops prefetch the table slots, so that the cache misses overlap.
    """
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
def relations(g: Any, viewer_id: Any, other_ids: Any, more_ids: Any, indices: Any, out: Any) -> None:
    """Write the relation bits between a viewer and two columns of others (uint64, n) into ``out`` (uint8, (2, n)). A
    user that both columns name in one row is looked up once; ``indices`` is int32 (n) scratch."""
    relation(g, viewer_id, other_ids, indices, out[0])
    viewer = np.int64(find(g.ids, viewer_id))
    for i in range(other_ids.shape[0]):
        out[1, i] = out[0, i]
        if more_ids[i] != other_ids[i]:
            out[1, i] = _bits(g, viewer, np.int64(find(g.ids, more_ids[i]))) if viewer >= 0 else 0
