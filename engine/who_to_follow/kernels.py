"""Kernels of who to follow: neighbors of people in the social graph, sums over people, and personalized PageRank."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.rng import mix64
from engine.social_graph.arrays import (
    ENTRIES,
    FOLLOW,
    FOLLOWEES_AT,
    FOLLOWERS_AT,
    LIVE,
    START,
    USER_COLUMNS,
    edge_flags,
    prefetch_id,
)

#: Indices of ``spread``'s limits: newest follows that count of a person; follows until it ends.
EACH_MAX, FOLLOWS_MAX = range(2)


@kernel
def neighbors(g: Any, seed_ids: Any, at: Any, each_max: Any, mutual: Any, place: Any, ids: Any) -> Any:
    """List the newest ``each_max`` people of one list of each seed, newest first; returns how many there are.

    ``seed_ids``: uint64 (k). ``at``: FOLLOWEES_AT or FOLLOWERS_AT. ``mutual``: of these only those with whom the seed's
    follow is mutual. ``place`` int32 (n): which seed; ``ids`` uint64 (n): the person. It ends when they are full.
    """
    count = np.int64(0)
    for seed in range(seed_ids.shape[0]):
        user = np.int64(find(g.ids, seed_ids[seed]))
        if user < 0:
            continue
        start, looked_at = np.int64(g.users[user, at + START]), np.int64(0)
        for i in range(np.int64(g.users[user, at + ENTRIES]) - 1, -1, -1):
            if looked_at == each_max or count == ids.shape[0]:
                break
            entry = np.int64(g.arena[start + i])
            if entry < 0:
                continue
            looked_at += 1
            if mutual and not (edge_flags(g, entry, user) & FOLLOW and edge_flags(g, user, entry) & FOLLOW):
                continue
            place[count], ids[count] = seed, g.ids.keys[entry]
            count += 1
    return count


@inlined
def _slot_of(ids: Any, table: Any, person: Any) -> Any:
    """The slot of ``table`` (row + 1, 0 = empty) that holds a person's row, or the empty slot where it would go."""
    mask = np.uint64(table.shape[0] - 1)
    slot = np.int64(mix64(np.uint64(person)) & mask)
    while table[slot] != 0 and ids[table[slot] - 1] != person:
        slot = (slot + 1) & np.int64(mask)
    return slot


@kernel
def tally(ids: Any, weights: Any, left_out: Any, table: Any, people: Any, sums: Any, place: Any) -> Any:
    """Sum the weights of each person; returns how many rows there are, of which the first ones are ``left_out``.

    ``ids`` uint64 (n), ``weights`` float64 (n). ``left_out``: uint64 (k), distinct. ``table``: int32 scratch, a power
    of two above twice k + n. ``people`` uint64 and ``sums`` float64 (k + n): rows, in the order in which they are met;
    ``place`` int32 (n): the row of each of ``ids``. Sums are in the order of ``ids``.
    """
    table[:] = 0
    count = np.int64(left_out.shape[0])
    for row in range(count):
        people[row], sums[row] = left_out[row], 0.0
        table[_slot_of(people, table, left_out[row])] = row + 1
    for i in range(ids.shape[0]):
        slot = _slot_of(people, table, ids[i])
        if table[slot] == 0:
            people[count], sums[count] = ids[i], 0.0
            count += 1
            table[slot] = count
        at = np.int64(table[slot]) - 1
        sums[at] += weights[i]
        place[i] = at
    return count


@kernel
def degrees(g: Any, ids: Any, followers: Any, followees: Any) -> None:
    """Write how many people follow each of ``ids`` (uint64, n), and how many each follows: int64 (n)."""
    for i in range(ids.shape[0]):
        prefetch_id(g, ids[i])
    for i in range(ids.shape[0]):
        user = np.int64(find(g.ids, ids[i]))
        followers[i] = user
        if user >= 0:
            prefetch(g.users, user * USER_COLUMNS)
    for i in range(ids.shape[0]):
        user = followers[i]
        followers[i] = np.int64(g.users[user, FOLLOWERS_AT + LIVE]) if user >= 0 else 0
        followees[i] = np.int64(g.users[user, FOLLOWEES_AT + LIVE]) if user >= 0 else 0


@inlined
def _node(nodes: Any, table: Any, count: Any, index: Any) -> Any:
    """The node of a user index; a new one is ``count``, -1 if there is no room for it."""
    slot = _slot_of(nodes, table, index)
    if table[slot] == 0:
        if count == nodes.shape[0]:
            return np.int64(-1)
        nodes[count] = index
        table[slot] = count + 1
    return np.int64(table[slot]) - 1


@kernel
def spread(g: Any, viewer_id: Any, seeds: Any, weights: Any, terms: Any, limits: Any, work: Any, ids: Any) -> Any:
    """Personalized PageRank of a viewer by forward push (Andersen, Chung and Lang, FOCS 2006); returns how many nodes.

    A walk goes back to the viewer with probability ``terms[0]`` per step; from the viewer it goes to a seed by weight,
    from others to one of the newest ``limits[EACH_MAX]`` follows, from who follows nobody to the viewer. What is left
    to be spread at a person is spread while it is at least ``terms[1]`` per follow, the oldest first, until
    ``limits[FOLLOWS_MAX]`` follows were gone along. The sum of what is left bounds the error of every node.

    ``seeds`` uint64 (k) in the order in which they are spread; ``weights`` float64 (k), of sum 1. ``work``: ``nodes``
    int64 (n), ``table`` int32 (a power of two above 2n), ``rank`` and ``left`` float64 (n), ``queue`` int32 (n) and
    ``waits`` bool (n). ``ids``: uint64 (n), the nodes' people; node 0 is the viewer.
    """
    nodes, table, rank, left, queue, waits = work
    table[:] = 0
    # The viewer may not be in the graph; -1 is an index that nobody has.
    viewer, count = np.int64(find(g.ids, viewer_id)), np.int64(0)
    _node(nodes, table, count, viewer)
    count += 1
    rank[0], left[0], waits[0], queue[0] = 0.0, 1.0, True, 0
    head, tail, gone = np.int64(0), np.int64(1), np.int64(0)
    while head < tail and gone < limits[FOLLOWS_MAX]:
        node = np.int64(queue[head % queue.shape[0]])
        head += 1
        waits[node] = False
        mass = left[node]
        left[node] = 0.0
        rank[node] += terms[0] * mass
        mass *= 1.0 - terms[0]
        user = nodes[node]
        start, i, degree = np.int64(0), np.int64(0), np.int64(seeds.shape[0])
        if node != 0:
            start = np.int64(g.users[user, FOLLOWEES_AT + START])
            i = np.int64(g.users[user, FOLLOWEES_AT + ENTRIES]) - 1
            degree = min(np.int64(g.users[user, FOLLOWEES_AT + LIVE]), limits[EACH_MAX])
        if degree == 0:
            left[0] += mass
        taken = np.int64(0)
        while taken < degree:
            if node != 0:
                other, share = np.int64(g.arena[start + i]), mass / np.float64(degree)
                i -= 1
                if other < 0:
                    continue
            else:
                other, share = np.int64(find(g.ids, seeds[taken])), mass * weights[taken]
            taken += 1
            to = _node(nodes, table, count, other) if other >= 0 else np.int64(-1)
            if to < 0:
                left[0] += share
                continue
            if to == count:
                count += 1
                rank[to], left[to], waits[to] = 0.0, 0.0, False
            left[to] += share
            follows = max(np.int64(1), np.int64(g.users[other, FOLLOWEES_AT + LIVE])) if to != 0 else 1
            if not waits[to] and left[to] >= terms[1] * np.float64(min(follows, limits[EACH_MAX])):
                waits[to] = True
                queue[tail % queue.shape[0]] = to
                tail += 1
        gone += degree
        if not waits[0] and left[0] >= terms[1]:
            waits[0] = True
            queue[tail % queue.shape[0]] = 0
            tail += 1
    for at in range(count):
        ids[at] = g.ids.keys[nodes[at]] if nodes[at] >= 0 else viewer_id
    return count


def warm_on(g: Any) -> None:
    """Compile the kernels on the given (tiny) arrays."""
    ids, place, sums = np.ones(2, np.uint64), np.zeros(2, np.int32), np.ones(2)
    for at in (FOLLOWEES_AT, FOLLOWERS_AT):
        neighbors(g, ids, at, np.int64(1), True, place, ids.copy())
    tally(ids, sums, ids[:0], np.zeros(8, np.int32), ids.copy(), sums.copy(), place)
    degrees(g, ids, np.zeros(2, np.int64), np.zeros(2, np.int64))
    work = (np.zeros(2, np.int64), np.zeros(8, np.int32), np.zeros(2), np.zeros(2), place, np.zeros(2, np.bool_))
    spread(g, np.uint64(1), ids[:1], sums[:1], np.array([0.5, 0.5]), np.ones(2, np.int64), work, ids.copy())
