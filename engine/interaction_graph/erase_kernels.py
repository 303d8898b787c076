"""The interaction graph's writer of erased people: no list and no map names the person afterwards.

A node lives until its last edge has left the log. So an erased person's node stays, without edges, under an id that
means nobody; its entries of the log leave with the window.
"""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK, Scalar
from engine.interaction_graph.write_kernels import drop_list
from engine.kernels import calendar_log, ring_slices
from engine.kernels.id_map import find, rename
from engine.kernels.jit import kernel
from engine.kernels.ring_slices import degree, slot_of
from engine.kernels.rng import GOLDEN, mix64

_DELETED = int(Scalar.DELETED)
_ONE = np.uint64(1)


@kernel
def _drop_named(other: Any, arena: Any, at: Any, node: Any) -> Any:
    """Remove every edge that names ``node`` from the list of node ``at``; returns how many."""
    records, skips = other
    dropped, i = 0, degree(records[at]) - 1
    while i >= 0:
        if arena.entries[slot_of(records[at], i)] & NODE_MASK == node:
            ring_slices.remove_at(records, at, arena, i)
            skips[at] += 1
            dropped += 1
        i = min(i, degree(records[at])) - 1
    return dropped


@kernel
def _drop_beyond(g: Any, other: Any, node: Any, of_user: Any) -> Any:
    """Remove the edges that the node's own list had dropped from the other side's lists. O(edges_max).

    The log has them, and so have entries of the log that are free: their nodes are looked at for nothing.
    """
    dropped, size = 0, other[0].shape[0]
    own_shift = np.int64(NODE_BITS if of_user else 0) + calendar_log.PAGE_BITS
    other_shift = np.int64(0 if of_user else NODE_BITS) + calendar_log.PAGE_BITS
    for slot in range(g.log.header[calendar_log.HIGH]):
        payload = g.log.entries[slot]
        if (payload >> own_shift) & NODE_MASK == node:
            at = (payload >> other_shift) & NODE_MASK
            if at < size:
                dropped += _drop_named(other, g.arena, at, node)
    return dropped


@kernel
def _erase_node(g: Any, user_id: Any, of_user: Any) -> None:
    """Forget a person on one side: as one who acts, or as one who is named."""
    ids = g.users if of_user else g.tweets
    node = np.int64(find(ids, user_id))
    if node < 0:
        return
    users, tweets = (g.user_records, g.user_skips), (g.tweet_records, g.tweet_skips)
    own, other = (users, tweets) if of_user else (tweets, users)
    had_dropped = own[1][node] > 0
    g.scalars[_DELETED] += drop_list(own, other, g.arena, node)
    if had_dropped:
        g.scalars[_DELETED] += _drop_beyond(g, other, node, of_user)
    nobody = mix64(np.uint64(node) + GOLDEN) | _ONE
    while find(ids, nobody) >= 0:
        nobody = mix64(nobody) | _ONE
    rename(ids, user_id, nobody)


@kernel
def erase_user(g: Any, user_id: Any, both_sides: Any) -> None:
    """Forget a person: every edge of theirs, and with ``both_sides`` every edge to them, leaves all lists."""
    _erase_node(g, user_id, True)
    if both_sides:
        _erase_node(g, user_id, False)
