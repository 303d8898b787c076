"""The kernel of SALSA on the subgraph of the seeds' own edges: freeze the edges, propagate, choose."""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK
from engine.interaction_graph.walk_kernels import BINS, ENTRIES_MAX, count_visit, draw_typed, threshold
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.ring_slices import degree, slot_of
from engine.kernels.rng import draw64, stream
from engine.kernels.top_k import top_k

#: Statistics at the start of ``ints``.
SEEDS, EDGES, TWEETS, RESULTS, BAD_WEIGHTS, BUDGET = 0, 1, 2, 3, 4, 5
STATS = 8


@inlined
def _seat(g: Any, query_id: Any, seeds: Any, weights: Any, fraction: Any, users: Any, mass: Any) -> Any:
    """List the seeds with edges and the query user, with starting masses that sum to 1; returns how many there are, and
    the query user's place (-1 = none). (-1, -1) if a weight is negative or not finite."""
    query = np.int64(find_in(g.user_slots, query_id))
    own = np.int64(-1)
    n = np.int64(0)
    total = 0.0
    for i in range(seeds.shape[0]):
        if not 0.0 <= weights[i] < np.inf:
            return np.int64(-1), np.int64(-1)
        user = np.int64(find_in(g.user_slots, seeds[i]))
        if user >= 0 and degree(g.user_records[user]) > 0:
            own = n if user == query else own
            users[n] = user
            mass[n] = weights[i]
            total += weights[i]
            n += 1
    if own < 0 and query >= 0 and degree(g.user_records[query]) > 0:
        own = n
        users[n] = query
        mass[n] = total * fraction / (1.0 - fraction) if total > 0.0 else 1.0
        total += mass[n]
        n += 1
    for i in range(n):
        mass[i] = mass[i] / total if total > 0.0 else 0.0
    return n, own


@inlined
def _choose(g: Any, cut: Any, reached: Any, results: Any) -> Any:
    """Choose the tweets with most visits, then by id: fill the candidates' ids, rows and shares, and ``best``."""
    nodes, scores, shares, order, rows, bins, best = cut
    visits = 0.0
    for r in range(reached):
        visits += scores[r]
    least = threshold(scores, reached, results, bins)
    n = np.int64(0)
    keys = order.view(np.uint64)
    for r in range(reached):
        if scores[r] > 0.0 and scores[r] >= least:
            rows[n] = r
            keys[n] = g.tweet_keys[nodes[r]]
            shares[n] = scores[r] / visits
            n += 1
    return top_k(shares, keys, n, results, best)


@inlined
def _freeze(g: Any, cut: Any, i: Any, share: Any, types: Any, seed: Any, first: Any, reached: Any) -> Any:
    """Copy seed i's edges to ``edges`` from ``first`` on; returns (end, tweets of the subgraph)."""
    users, table, shift, nodes, degrees, edges, budget = cut
    record = g.user_records[users[i]]
    count = degree(record)
    bits = stream(seed, np.uint64(i))
    n = first
    for j in range(min(count, share)):
        if count > share:
            slot = draw_typed(g.entries, record, types, draw64(bits, np.uint64(j)), budget)
            if slot < 0:
                break
        else:
            slot = slot_of(record, j)
        entry = g.entries[slot]
        if (types >> ((entry >> NODE_BITS) & 15)) & 1:
            rank = count_visit(table, shift, nodes, degrees, reached, entry & NODE_MASK)
            reached += rank == reached
            edges[n] = rank
            n += 1
    return n, reached


@inlined
def _propagate(cut: Any, n_seeds: Any, reached: Any, steps: Any, reset: Any, query: Any) -> None:
    """Propagate for all steps; ``scores`` receives the visits."""
    ends, edges, degrees, mass, moving, arrived, scores = cut
    for r in range(reached):
        scores[r] = 0.0
    for step in range(steps):
        for r in range(reached):
            arrived[r] = 0.0
        total = 0.0
        first = np.int64(0)
        for i in range(n_seeds):
            total += mass[i]
            if ends[i] > first:
                each = (1.0 - reset) * mass[i] / np.float64(ends[i] - first)
                for e in range(first, ends[i]):
                    arrived[edges[e]] += each
            first = ends[i]
        for r in range(reached):
            scores[r] += arrived[r]
            arrived[r] /= np.float64(degrees[r])
        if step + 1 == steps:
            break
        first = np.int64(0)
        for i in range(n_seeds):
            moving[i] = 0.0
            for e in range(first, ends[i]):
                moving[i] += arrived[edges[e]]
            first = ends[i]
        if query >= 0:
            moving[query] += reset * total
        for i in range(n_seeds):
            mass[i] = moving[i]


@kernel
def subgraph_salsa(g: Any, ints: Any, floats: Any, sizes: Any, seeds: Any, weights: Any, rules: Any, odds: Any) -> None:
    """A whole request. ``sizes``: (edges, tweets, hash slots (power of two), results). ``rules``: (query id, type mask,
    walks, length, seed). ``odds``: (reset, query weight fraction). ``ints``: statistics; per result: id, row, degree.
    ``floats`` begins with a score per result.
    """
    edges_max, tweets_max, slots, results = sizes
    query_id, types, walks, length, seed = rules
    reset, fraction = odds
    seats = seeds.shape[0] + 1
    stats = ints[:STATS]
    stats[:] = 0
    stats[BUDGET] = ENTRIES_MAX
    ids = ints[STATS : STATS + results]
    best = ints[STATS + results : STATS + 2 * results].view(np.int32)
    counts = ints[STATS + 2 * results : STATS + 3 * results]
    at = STATS + 3 * results
    bins = ints[at : at + BINS]
    at += BINS
    users, ends = ints[at : at + seats], ints[at + seats : at + 2 * seats]
    at += 2 * seats
    nodes, degrees = ints[at : at + tweets_max], ints[at + tweets_max : at + 2 * tweets_max]
    order, rows = ints[at + 2 * tweets_max : at + 3 * tweets_max], ints[at + 3 * tweets_max : at + 4 * tweets_max]
    at += 4 * tweets_max
    edges = ints[at : at + edges_max]
    table = ints[at + edges_max : at + edges_max + slots]
    table[:] = 0
    out = floats[:results]
    mass, moving = floats[results : results + seats], floats[results + seats : results + 2 * seats]
    at = results + 2 * seats
    scores, arrived = floats[at : at + tweets_max], floats[at + tweets_max : at + 2 * tweets_max]

    n, own = _seat(g, query_id, seeds, weights, fraction, users, mass)
    if n < 0:
        stats[BAD_WEIGHTS] = 1
        return
    shift = np.uint64(64)
    while np.int64(1) << np.int64(np.uint64(64) - shift) < slots:
        shift -= np.uint64(1)
    end = np.int64(0)
    reached = np.int64(0)
    for i in range(n):
        share = min(np.int64(np.ceil(mass[i] * walks)), edges_max - end)
        cut = (users, table, shift, nodes, degrees, edges, stats[BUDGET : BUDGET + 1])
        end, reached = _freeze(g, cut, i, share, types, seed, end, reached)
        ends[i] = end
    _propagate((ends, edges, degrees, mass, moving, arrived, scores), n, reached, (length + 1) // 2, reset, own)
    stats[SEEDS] = n
    stats[EDGES] = end
    stats[TWEETS] = reached
    stats[RESULTS] = _choose(g, (nodes, scores, arrived, order, rows, bins, best), reached, results)
    for k in range(stats[RESULTS]):
        out[k] = arrived[best[k]]
        ids[k] = order[best[k]]
        counts[k] = degrees[rows[best[k]]]
