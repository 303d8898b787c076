"""The kernel of random neighbors: weigh the people, draw edges, count tweets, select."""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import ALL_TYPES, NODE_BITS, NODE_MASK
from engine.interaction_graph.similarity_kernels import STATS, rank_of, shift_for, slots_for
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of
from engine.kernels.rng import bounded, draw64, stream, uniform01
from engine.kernels.top_k import top_k

#: Fields of the statistics, at the start of ``ints``.
FOUND, DRAWN, REACHED, RESULTS = range(4)


@inlined
def _weigh(g: Any, user_ids: Any, weights: Any, types: Any, cut: Any, sums: Any) -> Any:
    """List the people with weight and wanted edges, and the cumulative sums of weight · wanted edges; returns how many
    people."""
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
    """Make the draws: write the tweets into the last part of ``cut``; returns how many."""
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
    ``weights`` float64, ``seed`` uint64, ``types`` int64 bit mask. ``ints`` holds: statistics; per person: index,
    draws; slots of wanted edges; per draw: tweet, distinct tweet, its count, its id; the hash table; rows of results
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
