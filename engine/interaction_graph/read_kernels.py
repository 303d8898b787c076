"""Plain look-ups: degrees and neighbors, newest first."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK, GraphArrays
from engine.kernels.id_map import IdMap, lookup
from engine.kernels.jit import kernel
from engine.kernels.ring_slices import SliceArena, degree, slot_of, time_of
from engine.kernels.top_k import top_k

Ids = NDArray[np.uint64]
_COUNT_MASK = (1 << 27) - 1


class ReadArrays(NamedTuple):
    """The arrays of the graph that reading kernels use (fewer arrays make a cheaper call)."""

    user_slots: NDArray[np.uint64]
    user_keys: NDArray[np.uint64]
    tweet_slots: NDArray[np.uint64]
    tweet_keys: NDArray[np.uint64]
    user_records: NDArray[np.int64]
    tweet_records: NDArray[np.int64]
    entries: NDArray[np.int64]


def read_arrays(state: GraphArrays) -> ReadArrays:
    """The reading kernels' view of the state."""
    return ReadArrays(
        state.users.slots,
        state.users.keys,
        state.tweets.slots,
        state.tweets.keys,
        state.user_records,
        state.tweet_records,
        state.arena.entries,
    )


@kernel
def newest(record: Any, entries: Any, other_keys: Any, ids: Any, types: Any, times_ms: Any) -> None:
    """Write the list's newest entries, newest first, into ``ids`` (uint64), ``types`` (uint8) and ``times_ms`` (int64),
    all of them as long as ``ids``, which is at most the list's degree."""
    last = degree(record) - 1
    for i in range(ids.shape[0]):
        entry = entries[slot_of(record, last - i)]
        ids[i] = other_keys[entry & NODE_MASK]
        types[i] = (entry >> NODE_BITS) & 15
        times_ms[i] = time_of(entry) * 1000


def degree_of(ids: IdMap, records: NDArray[np.int64], node_id: int) -> int:
    """The node's degree, 0 when unknown."""
    index = lookup(ids, node_id)
    return int(records[index]) & _COUNT_MASK if index >= 0 else 0


def neighbors_of(
    ids: IdMap, records: NDArray[np.int64], other: IdMap, arena: SliceArena, node_id: int, limit: int
) -> tuple[Ids, NDArray[np.uint8], NDArray[np.int64]]:
    """The newest ``limit`` neighbors of a node: ids, types, times in ms."""
    index = lookup(ids, node_id)
    record = records[index] if index >= 0 else np.int64(0)
    size = max(0, min(limit, int(record) & _COUNT_MASK))
    out = (np.empty(size, np.uint64), np.empty(size, np.uint8), np.empty(size, np.int64))
    newest(record, arena.entries, other.keys, *out)
    return out


def top_nodes(ids: IdMap, records: NDArray[np.int64], limit: int) -> tuple[Ids, NDArray[np.int64]]:
    """The nodes of greatest degree, greatest first, then by id; nodes without edges are left out."""
    degrees = records & _COUNT_MASK
    rows = np.empty(max(0, min(limit, len(degrees))), np.int32)
    # Unused rows have key 0 and degree 0: every node that has an edge sorts before them.
    size = int(top_k(degrees.astype(np.float64), ids.keys, np.int64(len(degrees)), np.int64(len(rows)), rows))
    rows = rows[:size]
    rows = rows[degrees[rows] > 0]
    return ids.keys[rows], degrees[rows]
