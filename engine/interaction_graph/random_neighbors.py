"""What random edges of given people lead to: draws with repeats, each edge of a person equally likely per unit weight.

A person is drawn with probability in proportion to weight times number of wanted edges, then one of these edges. So a
tweet's expected share of the draws is Σ weight over the wanted edges to it / Σ weight over all of them. The choice of
persons is a search in the cumulative sum: exact, where a table of rounded weights is not.
"""

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.interaction_graph.arrays import ALL_TYPES, NODE_BITS, NODE_MASK
from engine.interaction_graph.salsa import RESULTS_MAX, SeedsError
from engine.interaction_graph.similarity import (
    ENTRIES_MAX,
    CountScratch,
    IdList,
    Ids,
    WorkBudgetError,
    bound,
    ids_of,
)
from engine.interaction_graph.similarity_kernels import (
    STATS,
    TABLE_MIN,
    rank_of,
    shift_for,
    slots_for,
)
from engine.interaction_graph.state import InteractionGraph, InteractionGraphConfig
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of
from engine.kernels.rng import bounded, draw64, stream, uniform01
from engine.kernels.top_k import top_k

#: Fields of the statistics, at the start of ``ints``.
FOUND, DRAWN, REACHED, RESULTS = range(4)


class RandomNeighborsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Whose edges to draw, and how many draws. ``user_ids`` (each at most once counts as one seed; repeats add up)
    with ``weights`` float64, finite, none negative; ``edge_types``: bit mask by ``EdgeType``; ``seed``: 64 bits."""

    user_ids: IdList
    weights: NDArray[np.float64]
    samples: int = 1000
    edge_types: int = ALL_TYPES
    excluded_tweet_ids: IdList = ()
    results_max: int = 100
    seed: int = 0


class RandomNeighbors(NamedTuple):
    """The tweets drawn most often, most first, then by id (n rows): ``scores`` share of all draws asked for, ``counts``
    int64 draws, ``degrees`` int64 edges of the tweet. ``seeds``: people with weight and wanted edges, ``drawn``: draws
    made (0 if there is nobody)."""

    tweet_ids: Ids
    scores: NDArray[np.float64]
    counts: NDArray[np.int64]
    degrees: NDArray[np.int64]
    seeds: int
    drawn: int


@inlined
def _weigh(g: Any, user_ids: Any, weights: Any, types: Any, cut: Any, sums: Any) -> Any:
    """The people with weight and wanted edges, and the cumulative sum of weight · wanted edges; returns how many."""
    users, _, draws, _ = cut
    n = np.int64(0)
    total = 0.0
    for i in range(user_ids.shape[0]):
        user = np.int64(find_in(g.user_slots, user_ids[i]))
        if user < 0:
            continue
        record = g.user_records[user]
        wanted = degree(record)
        if types != ALL_TYPES:
            wanted = np.int64(0)
            for j in range(degree(record)):
                wanted += (types >> ((g.entries[slot_of(record, j)] >> NODE_BITS) & 15)) & 1
        if wanted > 0 and weights[i] > 0.0:
            total += weights[i] * np.float64(wanted)
            users[n] = user
            draws[n] = 0
            sums[n] = total
            n += 1
    return n


@inlined
def _draw(g: Any, cut: Any, n: Any, sums: Any, samples: Any, types: Any, seed: Any) -> Any:
    """Make the draws: the tweets into the last part of ``cut``; returns how many."""
    users, wanted, draws, drawn = cut
    start = stream(seed, np.uint64(0))
    for s in range(samples):
        point = uniform01(draw64(start, np.uint64(s))) * sums[n - 1]
        low = np.int64(0)
        high = n - 1
        while low < high:
            middle = (low + high) // 2
            if sums[middle] > point:
                high = middle
            else:
                low = middle + 1
        draws[low] += 1
    start = stream(seed, np.uint64(1))
    made = np.int64(0)
    for p in range(n):
        record = g.user_records[users[p]]
        size = degree(record)
        if draws[p] > 0 and types != ALL_TYPES:
            size = np.int64(0)
            for j in range(degree(record)):
                slot = slot_of(record, j)
                wanted[size] = slot
                size += (types >> ((g.entries[slot] >> NODE_BITS) & 15)) & 1
        for _ in range(draws[p]):
            at = bounded(draw64(start, np.uint64(made)), size)
            drawn[made] = wanted[at] if types != ALL_TYPES else slot_of(record, at)
            prefetch(g.entries, drawn[made])
            made += 1
    for i in range(made):
        drawn[i] = g.entries[drawn[i]] & NODE_MASK
    return made


@inlined
def _select(g: Any, cut: Any, drawn: Any, excluded: Any, stats: Any, results: Any) -> None:
    """Count the drawn tweets and choose the most frequent."""
    whole, tweets, counts, ids, kept, best = cut
    table = whole[: slots_for(stats[DRAWN], whole.shape[0])]
    table[:] = 0
    shift = shift_for(table.shape[0])
    reached = np.int64(0)
    for i in range(stats[DRAWN]):
        rank = rank_of(table, shift, drawn[i], reached)
        if rank == reached:
            tweets[reached] = drawn[i]
            counts[reached] = 0
            reached += 1
        counts[rank] += 1
    stats[REACHED] = reached
    for i in range(excluded.shape[0]):
        tweet = np.int64(find_in(g.tweet_slots, excluded[i]))
        if tweet >= 0:
            rank = rank_of(table, shift, tweet, np.int64(-1))
            if rank >= 0:
                counts[rank] = 0
    keys = ids.view(np.uint64)
    n = np.int64(0)
    for r in range(reached):
        if counts[r] > 0:
            tweets[n] = tweets[r]
            counts[n] = counts[r]
            keys[n] = g.tweet_keys[tweets[r]]
            kept[n] = np.float64(counts[r])
            n += 1
    stats[RESULTS] = top_k(kept, keys, n, results, best)


@kernel
def draw_neighbors(
    g: Any, ints: Any, floats: Any, sizes: Any, user_ids: Any, weights: Any, excluded: Any, seed: Any, types: Any
) -> None:
    """A whole request: weigh the people, draw edges, count tweets, select.

    ``g``: ReadArrays. ``sizes``: (samples, longest list, hash slots, results). ``user_ids`` and ``excluded`` uint64,
    ``weights`` float64, ``seed`` uint64, ``types`` int64 bit mask. ``ints`` holds: statistics; per person index and
    draws; slots of wanted edges; per draw a tweet, a distinct tweet, its count, its id; the hash table; rows of results
    (int32). ``floats``: per person a cumulative sum, per tweet a score.
    """
    samples, longest, slots, results = sizes
    stats = ints[:STATS]
    stats[:] = 0
    at = np.int64(STATS)
    size = user_ids.shape[0]
    users = ints[at : at + size]
    draws = ints[at + size : at + 2 * size]
    at += 2 * size
    wanted = ints[at : at + longest]
    at += longest
    drawn = ints[at : at + samples]
    tweets = ints[at + samples : at + 2 * samples]
    counts = ints[at + 2 * samples : at + 3 * samples]
    ids = ints[at + 3 * samples : at + 4 * samples]
    at += 4 * samples
    whole = ints[at : at + slots]
    best = ints[at + slots : at + slots + results].view(np.int32)
    sums = floats[:size]
    cut = (users, wanted, draws, drawn)
    n = _weigh(g, user_ids, weights, types, cut, sums)
    stats[FOUND] = n
    if n > 0:
        stats[DRAWN] = _draw(g, cut, n, sums, samples, types, seed)
    _select(g, (whole, tweets, counts, ids, floats[size : size + samples], best), drawn, excluded, stats, results)


def _weights_of(request: RandomNeighborsRequest, users: Ids) -> NDArray[np.float64]:
    weights = np.array(request.weights, np.float64).reshape(-1)
    if not len(users) or len(users) != len(weights):
        raise SeedsError(f"{len(users)} seeds with {len(weights)} weights")
    if not (weights.min() >= 0.0 and weights.max() < np.inf):
        raise SeedsError("weights are finite and not negative")
    # Only ratios matter: so no sum of weight times degree can overflow.
    greatest = float(weights.max())
    return weights / greatest if greatest > 0.0 else weights


def random_neighbors(
    graph: InteractionGraph, request: RandomNeighborsRequest, scratch: CountScratch
) -> RandomNeighbors:
    """Draw edges of the people with replacement and rank the tweets by how often they come.

    ``scratch`` belongs to the calling thread. O(samples · log people), and with ``edge_types`` two passes over the
    people's lists; within ``ENTRIES_MAX``.

    Raises:
        RequestError: named by its ``code``: bad_seeds, bad_similarity_option, too_much_work.
    """
    users = ids_of(request.user_ids)
    weights = _weights_of(request, users)
    samples = bound("samples", request.samples, 1, ENTRIES_MAX)
    results = bound("results_max", request.results_max, 1, RESULTS_MAX)
    bound("seed", request.seed, 0, (1 << 64) - 1)
    types = request.edge_types & ALL_TYPES
    longest = graph.config.user_degree_max
    passes = 2 * longest if types != ALL_TYPES else 1
    if samples + len(users) * passes > ENTRIES_MAX:
        raise WorkBudgetError(f"{samples} draws from {len(users)} people may read more than {ENTRIES_MAX} entries")
    slots = max(TABLE_MIN, 1 << (2 * samples - 1).bit_length())
    size = len(users)
    before = STATS + 2 * size + longest
    scratch.fit(before + 4 * samples + slots + results, size + samples)
    draw_neighbors(
        graph.read_arrays,
        scratch.ints,
        scratch.floats,
        (samples, longest, slots, results),
        users,
        weights,
        ids_of(request.excluded_tweet_ids),
        np.uint64(request.seed),
        types,
    )
    ints = scratch.ints
    n = int(ints[RESULTS])
    best = ints[before + 4 * samples + slots :][:results].view(np.int32)[:n]
    tweets, counts, ids = (ints[before + k * samples : before + (k + 1) * samples] for k in (1, 2, 3))
    return RandomNeighbors(
        ids[best].view(np.uint64),
        counts[best] / samples,
        counts[best],
        graph.read_arrays.tweet_records[tweets[best]] & ((1 << 27) - 1),
        int(ints[FOUND]),
        int(ints[DRAWN]),
    )


def warm() -> None:
    """Compile the draws on the real types."""
    graph = InteractionGraph(InteractionGraphConfig(users_max=2, tweets_max=2, edges_max=2))
    random_neighbors(graph, RandomNeighborsRequest(user_ids=[1], weights=np.ones(1)), CountScratch())
