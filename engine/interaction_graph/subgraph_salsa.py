"""SALSA on the subgraph of the seeds' own edges, by propagation instead of walkers.

For viewers whose seeds are known to be good (the people they follow), the walk need not leave them: the seeds' edges,
sampled where a seed has more than its share of walks, are frozen as a small graph, and on it the expectation of the
walk is computed, not drawn. This is GraphJet's subgraph variant made a walk: reset mass leaves what is propagated, no
weight is rounded, each step's mass is propagated once. With P the row-normalised counts of the frozen edges,

    y = (1 - reset) · x · P_LR,   visits += y,   x' = y · P_RL + reset · |x| · e_query,   score = visits / Σ visits.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import ALL_TYPES, NODE_BITS, NODE_MASK
from engine.interaction_graph.salsa import (
    RESULTS_MAX,
    STEPS_MAX,
    SalsaScratch,
    SeedsError,
    WalkCountError,
    WalkLengthError,
    WalkOptionError,
)
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.interaction_graph.walk_kernels import BINS, ENTRIES_MAX, count_visit, draw_typed, threshold
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.ring_slices import degree, slot_of
from engine.kernels.rng import draw64, stream
from engine.kernels.top_k import top_k

#: Statistics at the start of ``ints``.
SEEDS, EDGES, TWEETS, RESULTS, BAD_WEIGHTS, BUDGET = 0, 1, 2, 3, 4, 5
STATS = 8


class SubgraphRequest(msgspec.Struct, frozen=True, kw_only=True):
    """As ``SalsaRequest``; ``walks`` bounds the frozen edges: a seed gives as many as its share of the walks, all of
    them if it has no more. Seeds are distinct; those that the graph does not know are passed over."""

    query_user_id: int
    seed_user_ids: NDArray[np.uint64]
    seed_weights: NDArray[np.float64]
    walks: int = 10_000
    length: int = 5
    reset: float = 0.3
    query_weight_fraction: float = 0.9
    edge_types: int = ALL_TYPES
    results_max: int = 100
    seed: int = 0


class SubgraphResult(NamedTuple):
    """Tweets, greatest score first, then by id (n rows), ``degrees`` in the subgraph (int32); seeds with edges, frozen
    edges and tweets of the subgraph."""

    tweet_ids: NDArray[np.uint64]
    scores: NDArray[np.float64]
    degrees: NDArray[np.int32]
    seeds: int
    edges: int
    tweets: int


@inlined
def _seat(g: Any, query_id: Any, seeds: Any, weights: Any, fraction: Any, users: Any, mass: Any) -> Any:
    """Users and starting mass (summing to 1) of the seeds with edges, and of the query user; returns how many, and
    which of them is the query user (-1 = none). (-1, -1) if a weight is negative or not finite."""
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
    """The tweets with most visits, then by id: candidates' ids, rows and shares, and the order of the best."""
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
    """Freeze seed i's edges behind ``first``; returns (end, tweets of the subgraph)."""
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
    """All steps; ``scores`` gets the visits."""
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


def salsa_on_subgraph(graph: InteractionGraph, request: SubgraphRequest, scratch: SalsaScratch) -> SubgraphResult:
    """Freeze, propagate and rank in one kernel call without the GIL; nothing is found from unknown users.

    O((walks + seeds) · length), within ``STEPS_MAX``; ``scratch`` belongs to the calling thread.

    Raises:
        RequestError: named by its ``code``: bad_walk_length, too_many_walks, bad_seeds, bad_walk_option.
    """
    count, k = len(request.seed_user_ids), request.results_max
    if not (request.length % 2 == 1 and 1 <= request.length <= 99):
        raise WalkLengthError(f"length {request.length} is not an odd number in 1 … 99")
    edges = request.walks + count + 1
    if request.walks < 1 or edges * request.length > STEPS_MAX:
        raise WalkCountError(f"{edges} edges and {request.length} steps are not within 1 … {STEPS_MAX}")
    if not 0.0 <= request.reset < 1.0 or not 0.0 <= request.query_weight_fraction < 1.0 or not 1 <= k <= RESULTS_MAX:
        raise WalkOptionError(f"reset and query_weight_fraction are in 0 … 1, results_max in 1 … {RESULTS_MAX}")
    if count != len(request.seed_weights) or not (count or request.query_user_id):
        raise SeedsError(f"{count} seeds, {len(request.seed_weights)} weights, query user {request.query_user_id}")
    tweets = min(edges, graph.config.tweets_max)
    slots = 1 << (2 * tweets - 1).bit_length()
    seats = count + 1
    scratch.reserve(STATS + 3 * k + BINS + 2 * seats + 4 * tweets + edges + slots, k + 2 * seats + 2 * tweets)
    ints, floats = scratch.ints, scratch.floats
    subgraph_salsa(
        graph.read_arrays,
        ints,
        floats,
        (edges, tweets, slots, k),
        np.array(request.seed_user_ids, np.uint64),
        np.array(request.seed_weights, np.float64),
        (
            np.uint64(request.query_user_id),
            request.edge_types & ALL_TYPES,
            request.walks,
            request.length,
            np.uint64(request.seed),
        ),
        (float(request.reset), float(request.query_weight_fraction)),
    )
    seeds, frozen, met, n, bad_weights, budget = ints[:6].tolist()
    if bad_weights:
        raise SeedsError("weights are finite and not negative")
    if budget < 0:
        raise WalkCountError(f"so many walks among types so rare count more than {ENTRIES_MAX} entries")
    return SubgraphResult(
        ints[STATS : STATS + n].view(np.uint64).copy(),
        floats[:n].copy(),
        ints[STATS + 2 * k : STATS + 2 * k + n].astype(np.int32),
        seeds,
        frozen,
        met,
    )


def warm() -> None:
    """Compile the kernel on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    request = SubgraphRequest(query_user_id=1, seed_user_ids=np.ones(1, np.uint64), seed_weights=np.ones(1))
    salsa_on_subgraph(graph, request, SalsaScratch())
