"""The interaction graph's writer of erased people: no list and no map names the person afterwards.

A node lives until its last edge has left the log. So an erased person's node stays under an id that means nobody, and
loses its edges piece by piece, first those in its own list, then those that its list had dropped but others' lists may
still have: for these the log is swept. Its entries of the log leave with the window.
"""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK, Scalar
from engine.interaction_graph.write_kernels import drop_exact, drop_list, make_entry
from engine.kernels import calendar_log, ring_slices
from engine.kernels.erasing import (
    COUNT,
    INDEX,
    LEFT,
    PEOPLE,
    PLACE,
    WORDS,
    drop,
    enter,
    is_full,
    is_waiting,
    pass_places,
    places_left,
)
from engine.kernels.id_map import find, rename
from engine.kernels.jit import kernel
from engine.kernels.ring_slices import degree, slot_of, time_of
from engine.kernels.rng import GOLDEN, mix64

_DELETED = int(Scalar.DELETED)
#: Looking at another node's list takes as long as so many of its entries.
_LOOK = 64
_ZERO, _ONE, _S1 = np.uint64(0), np.uint64(1), np.uint64(1)
#: What an ERASE row does at most: so many edges leave from their nodes' own lists; so many entries of the log and of
#: other nodes' lists are looked at.
EDGES_PER_ROW, ENTRIES_PER_ROW, LISTED_PER_ROW = 128, 1 << 14, 1 << 15


@kernel
def _node_of(g: Any, nobody: Any) -> Any:
    """The node of an id that means nobody, -1 if it is gone. The id's last bit says on which side it is."""
    return np.int64(find(g.users if nobody & _ONE else g.tweets, nobody))


@kernel
def _sides(g: Any, of_user: Any) -> Any:
    """(records, skips) of a node's own side, and of the other one."""
    users, tweets = (g.user_records, g.user_skips), (g.tweet_records, g.tweet_skips)
    return (users, tweets) if of_user else (tweets, users)


@kernel
def _drop_edges(g: Any, nobody: Any, most: Any) -> Any:
    """Remove edges of a node's own list from both sides, the newest first, at most so many; returns how many."""
    node = _node_of(g, nobody)
    if node < 0:
        return np.int64(0)
    own, other = _sides(g, nobody & _ONE != _ZERO)
    records, skips = own
    if degree(records[node]) <= most:
        dropped = np.int64(drop_list(own, other, g.arena, node))
        g.scalars[_DELETED] += dropped
        return dropped
    for _ in range(most):
        at = degree(records[node]) - 1
        entry = g.arena.entries[slot_of(records[node], at)]
        twin = make_entry(time_of(entry), (entry >> NODE_BITS) & 15, node)
        drop_exact(other[0], other[1], g.arena, entry & NODE_MASK, twin)
        ring_slices.remove_at(records, node, g.arena, at)
        skips[node] += 1
    g.scalars[_DELETED] += most
    return most


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
def _drop_entry(g: Any, payload: Any, of_user: Any) -> Any:
    """Remove what a log entry's other node has of a node that is being erased; returns how long that one's list was, 0
    if the entry names nobody who is erased. Free entries of the log name somebody, too: for nothing."""
    users = (payload >> NODE_BITS) & NODE_MASK
    node, named = (users, payload & NODE_MASK) if of_user else (payload & NODE_MASK, users)
    for at in range(PEOPLE, PEOPLE + WORDS * np.int64(g.erasing[COUNT]), WORDS):
        is_of_user = g.erasing[at] & _ONE != _ZERO
        if np.int64(g.erasing[at + INDEX]) == node and g.erasing[at + LEFT] != _ZERO and is_of_user == of_user:
            other = _sides(g, of_user)[1]
            if named >= other[0].shape[0]:
                return np.int64(_LOOK)
            listed = np.int64(degree(other[0][named]))
            g.scalars[_DELETED] += _drop_named(other, g.arena, named, node)
            return listed + _LOOK
    return np.int64(0)


@kernel
def _sweep(g: Any, places: Any, listed: Any) -> None:
    """Go on through the log, at most so many entries, until others' lists that were looked through are so long."""
    queue, size, high = g.erasing, g.log.entries.shape[0], g.log.header[calendar_log.HIGH]
    users, tweets = _ZERO, _ZERO
    for at in range(PEOPLE, PEOPLE + WORDS * np.int64(queue[COUNT]), WORDS):
        node = _node_of(g, queue[at])
        queue[at + INDEX] = np.uint64(node)
        if node >= 0 and queue[at] & _ONE:
            users |= _ONE << np.uint64(node & 63)
        elif node >= 0:
            tweets |= _ONE << np.uint64(node & 63)
    place, passed, end = np.int64(queue[PLACE]), np.int64(0), min(places, places_left(queue))
    while passed < end and listed > 0:
        if place >= high:
            passed += size - place
            place = np.int64(0)
            continue
        payload = g.log.entries[place] >> calendar_log.PAGE_BITS
        if (users >> np.uint64((payload >> NODE_BITS) & 63)) & _ONE != _ZERO:
            listed -= _drop_entry(g, payload, True)
        if (tweets >> np.uint64(payload & 63)) & _ONE != _ZERO:
            listed -= _drop_entry(g, payload, False)
        passed += 1
        place = place + 1 if place + 1 < size else np.int64(0)
    pass_places(queue, passed, size)


@kernel
def go_on_erasing(g: Any, edges: Any, places: Any, listed: Any) -> None:
    """Go on with those who are being erased, at most so far (see ``EDGES_PER_ROW``)."""
    queue, at = g.erasing, np.int64(0)
    while at < np.int64(queue[COUNT]) and edges > 0:
        edges -= _drop_edges(g, queue[PEOPLE + WORDS * at], edges)
        at += 1
    if places_left(queue) > 0:
        _sweep(g, places, listed)
    at = np.int64(0)
    while at < np.int64(queue[COUNT]):
        nobody = queue[PEOPLE + WORDS * at]
        node = _node_of(g, nobody)
        own = _sides(g, nobody & _ONE != _ZERO)[0]
        if queue[PEOPLE + WORDS * at + LEFT] == _ZERO and (node < 0 or degree(own[0][node]) == 0):
            drop(queue, at)
        else:
            at += 1


@kernel
def _begin(g: Any, user_id: Any, of_user: Any) -> None:
    """Give a person's node on one side an id that means nobody, and let it wait for its edges to leave."""
    ids = g.users if of_user else g.tweets
    node = np.int64(find(ids, user_id))
    if node < 0:
        return
    side = _ONE if of_user else _ZERO
    nobody = mix64(np.uint64(node) + GOLDEN)
    while True:
        nobody = ((nobody >> _S1) << _S1) | side
        if nobody > _ONE and find(ids, nobody) < 0:
            break
        nobody = mix64(nobody + _ONE)
    rename(ids, user_id, nobody)
    if is_full(g.erasing):
        go_on_erasing(g, np.int64(1 << 62), np.int64(g.log.entries.shape[0]), np.int64(1 << 62))
    had_dropped = _sides(g, of_user)[0][1][node] > 0
    enter(g.erasing, nobody, np.int64(g.log.entries.shape[0]) if had_dropped else np.int64(0))


@kernel
def erase_user(g: Any, user_id: Any, both_sides: Any) -> None:
    """ERASE: a person's edges, and with ``both_sides`` every edge to the person, are to leave all lists; and go on with
    those who wait. 0: nobody's further."""
    if user_id != _ZERO:
        _begin(g, user_id, True)
        if both_sides:
            _begin(g, user_id, False)
    if is_waiting(g.erasing):
        go_on_erasing(g, np.int64(EDGES_PER_ROW), np.int64(ENTRIES_PER_ROW), np.int64(LISTED_PER_ROW))
