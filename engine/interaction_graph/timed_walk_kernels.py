"""Kernels that score given tweets at eight half-lives: walks whose visits are weighed by age, and sums over edges.

One walk serves all half-lives: a visit over an edge adds 2^(-age / half-life) at each of them. Only the given tweets
get a score, so nothing is ranked or copied: a hash table of the request maps a tweet to its row.
"""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import ALL_TYPES, NODE_MASK
from engine.interaction_graph.count_kernels import find_slot
from engine.interaction_graph.walk_kernels import (
    BUDGET,
    ENTRIES_MAX,
    STATS,
    TOTAL_MIN,
    WALKERS,
    count_visit,
    place_walkers,
    step_left,
    step_right,
)
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of, time_of
from engine.kernels.rng import mix64, stream

#: Half-lives that are scored at once.
WIDTH = 8
#: Bounds of ``company``: engagements of the viewer, people per engagement's tweet, people in all.
OWN_NEWEST = 8
COMPANY_NEWEST = 64
COMPANY_MAX = OWN_NEWEST * COMPANY_NEWEST


def walk_ints(walkers: int, length: int, table: int) -> int:
    """Length of a walk's buffer: statistics, five numbers per walker, two per tweet reached, the hash table."""
    return STATS + 5 * walkers + 2 * walkers * ((length + 1) // 2) + table


@inlined
def _shift_for(slots: Any) -> Any:
    shift = np.uint64(64)
    while np.int64(1) << np.int64(np.uint64(64) - shift) < slots:
        shift -= np.uint64(1)
    return shift


@kernel
def enter(g: Any, tweet_ids: Any, nodes: Any, table: Any) -> None:
    """Look tweets (uint64, n) up: fill ``nodes`` (int64, n; -1 unknown) and a hash ``table`` (int64, a power of two of
    at least 2n slots; a slot holds node + 1 in the upper half, the tweet's row in the lower)."""
    table[:] = 0
    shift = _shift_for(table.shape[0])
    mask = np.uint64(g.tweet_slots.shape[0] // 2 - 1)
    for i in range(tweet_ids.shape[0]):
        prefetch(g.tweet_slots, np.int64((mix64(tweet_ids[i]) & mask) << np.uint64(1)))
    for i in range(tweet_ids.shape[0]):
        nodes[i] = np.int64(find_in(g.tweet_slots, tweet_ids[i]))
        if nodes[i] >= 0:
            prefetch(g.tweet_records, nodes[i])
            table[find_slot(table, table.shape[0] - 1, shift, nodes[i])] = ((nodes[i] + 1) << 32) | i


@kernel
def company(g: Any, viewer_id: Any, users: Any, weights: Any, table: Any) -> Any:
    """List the people who lately engaged with the tweets that the viewer lately engaged with; returns how many.

    Each of the viewer's newest ``OWN_NEWEST`` engagements spreads a weight of 1 evenly over the newest
    ``COMPANY_NEWEST`` people of its tweet; the viewer is left out. ``users`` (uint64) and ``weights`` (float64) have
    room for ``COMPANY_MAX``; ``table``: int64, a power of two of at least twice as many slots.
    """
    viewer = np.int64(find_in(g.user_slots, viewer_id))
    if viewer < 0:
        return 0
    table[:] = 0
    mask, shift = table.shape[0] - 1, _shift_for(table.shape[0])
    own = g.user_records[viewer]
    found = np.int64(0)
    for i in range(min(degree(own), OWN_NEWEST)):
        tweet = g.entries[slot_of(own, degree(own) - 1 - i)] & NODE_MASK
        people = g.tweet_records[tweet]
        size = min(degree(people), np.int64(COMPANY_NEWEST))
        for j in range(size):
            user = g.entries[slot_of(people, degree(people) - 1 - j)] & NODE_MASK
            if user == viewer:
                continue
            at = find_slot(table, mask, shift, user)
            if table[at] == 0:
                table[at] = ((user + 1) << 32) | found
                users[found] = g.user_keys[user]
                weights[found] = 0.0
                found += 1
            weights[table[at] & 0xFFFFFFFF] += 1.0 / np.float64(size)
    return found


@inlined
def _weigh(found: Any, ranks: Any, moved: Any, now: Any, ages: Any, weights: Any) -> None:
    """Add each visit's weight at each half-life to its tweet's row: the product of two rows of ``ages``."""
    tables, lows, bits = ages
    last = np.int64(tables.shape[0] - 1)
    for m in range(moved):
        age = max(np.int64(0), now - time_of(found[m]))
        low = age & (lows - 1)
        high = min(lows + (age >> bits), last)
        rank = ranks[m]
        for h in range(WIDTH):
            weights[rank, h] += tables[low, h] * tables[high, h]


@kernel
def timed_walk(
    g: Any, ints: Any, visit_weights: Any, query_id: Any, start: Any, sizes: Any, seed: Any, now: Any, ages: Any,
    asked: Any, out: Any, first: Any, lanes: Any,
) -> None:  # fmt: skip
    """Walk, and write each given tweet's share of all weight at the half-lives ``lanes[0]:lanes[1]`` to ``out[row,
    first + half-life]``.

    ``start``: seeds uint64 (k,) and their weights float64 (k,); without seeds the walk starts at ``query_id`` (0: there
    is no walk). ``sizes``: (walks, length, walkers, hash slots) divide ``ints`` and ``visit_weights``, float64
    (reached + 1, WIDTH). ``now`` in s. ``ages``: (tables float64 (rows, WIDTH), rows of the low part of an age, bits of
    the low part). ``asked``: the table of ``enter``. Rows of tweets that are not reached stay as they are in ``out``.
    O(walks · length).
    """
    walks, length, walkers, slots_count = sizes
    stats = ints[:STATS]
    stats[:] = 0
    stats[BUDGET] = ENTRIES_MAX
    at = STATS
    users, movers, slots = (
        ints[at : at + walkers],
        ints[at + walkers : at + 2 * walkers],
        ints[at + 2 * walkers : at + 3 * walkers],
    )
    found, ranks = ints[at + 3 * walkers : at + 4 * walkers], ints[at + 4 * walkers : at + 5 * walkers]
    at += 5 * walkers
    steps = (length + 1) // 2
    nodes, visits = ints[at : at + walkers * steps], ints[at + walkers * steps : at + 2 * walkers * steps]
    at += 2 * walkers * steps
    table = ints[at : at + slots_count]
    table[:] = 0
    shift = _shift_for(slots_count)
    query = np.int64(find_in(g.user_slots, query_id))
    place_walkers(g, query, start[0], start[1], np.float64(walks), 0.0, users, stats)
    paths = (users, movers, slots, found, stats[BUDGET : BUDGET + 1])
    types, never = np.int64(ALL_TYPES), np.uint64(0)
    n = stats[WALKERS]
    reached = np.int64(0)
    for step in range(steps):
        moved, waiting = step_left(g, paths, n, query, types, never, stream(seed, np.uint64(2 * step)))
        for m in range(moved):
            rank = count_visit(table, shift, nodes, visits, reached, found[m] & NODE_MASK)
            ranks[m] = rank
            if rank == reached:
                reached += 1
                for h in range(WIDTH):
                    visit_weights[rank, h] = 0.0
        _weigh(found, ranks, moved, now, ages, visit_weights)
        if step + 1 < steps:
            n = step_right(g, paths, moved, waiting, types, stream(seed, np.uint64(2 * step + 1)))
    _share(nodes, visit_weights, reached, asked, out, first, lanes)


@inlined
def _share(nodes: Any, weights: Any, reached: Any, asked: Any, out: Any, first: Any, lanes: Any) -> None:
    """Write the given tweets' shares of the weight of all reached tweets, at the half-lives ``lanes[0]:lanes[1]``."""
    shift = _shift_for(asked.shape[0])
    totals = weights[weights.shape[0] - 1]
    for h in range(WIDTH):
        totals[h] = 0.0
    for r in range(reached):
        for h in range(WIDTH):
            totals[h] += weights[r, h]
    for h in range(WIDTH):
        totals[h] = 1.0 / totals[h] if totals[h] > TOTAL_MIN else 0.0
    for r in range(reached):
        at = find_slot(asked, asked.shape[0] - 1, shift, nodes[r])
        if asked[at] != 0:
            row = asked[at] & 0xFFFFFFFF
            for h in range(lanes[0], lanes[1]):
                out[row, first + h] = weights[r, h] * totals[h]


@kernel
def add_edges(g: Any, nodes: Any, now: Any, ages: Any, out: Any, first: Any) -> None:
    """Add 2^(-age / half-life) over each tweet's edges to ``out[row, first:first + WIDTH]``: ``nodes`` int64 (n,), -1 =
    unknown; ``now`` and ``ages`` as in ``timed_walk``. O(edges)."""
    tables, lows, bits = ages
    last = np.int64(tables.shape[0] - 1)
    for i in range(nodes.shape[0]):
        if nodes[i] >= 0:
            prefetch(g.entries, slot_of(g.tweet_records[nodes[i]], np.int64(0)))
    for i in range(nodes.shape[0]):
        if nodes[i] < 0:
            continue
        record = g.tweet_records[nodes[i]]
        # Eight variables instead of a loop over ``out``: they stay in one register, since nothing can overlap them.
        a, b, c, d = out[i, first], out[i, first + 1], out[i, first + 2], out[i, first + 3]
        e, f, p, q = out[i, first + 4], out[i, first + 5], out[i, first + 6], out[i, first + 7]
        for j in range(degree(record)):
            age = max(np.int64(0), now - time_of(g.entries[slot_of(record, j)]))
            low = age & (lows - 1)
            high = min(lows + (age >> bits), last)
            a += tables[low, 0] * tables[high, 0]
            b += tables[low, 1] * tables[high, 1]
            c += tables[low, 2] * tables[high, 2]
            d += tables[low, 3] * tables[high, 3]
            e += tables[low, 4] * tables[high, 4]
            f += tables[low, 5] * tables[high, 5]
            p += tables[low, 6] * tables[high, 6]
            q += tables[low, 7] * tables[high, 7]
        out[i, first], out[i, first + 1], out[i, first + 2], out[i, first + 3] = a, b, c, d
        out[i, first + 4], out[i, first + 5], out[i, first + 6], out[i, first + 7] = e, f, p, q


@kernel
def scale_columns(out: Any, greatest: Any) -> None:
    """Scale each column of ``out``, float64 (n, k), not negative, to a maximum of 1; a column of zeros stays.
    ``greatest``: float64 (k,), scratch."""
    greatest[:] = 0.0
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            greatest[k] = max(greatest[k], out[i, k])
    for k in range(out.shape[1]):
        greatest[k] = greatest[k] if greatest[k] > 0.0 else 1.0
    for i in range(out.shape[0]):
        for k in range(out.shape[1]):
            out[i, k] /= greatest[k]
