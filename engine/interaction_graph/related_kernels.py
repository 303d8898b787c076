"""Counts shared neighbors of several query tweets one after the other, and adds up the scores of each tweet found."""

from typing import Any

import numpy as np

from engine.interaction_graph.similarity_kernels import RESULTS, STATS, TABLE_MIN, count_shared
from engine.kernels.jit import kernel
from engine.kernels.rng import mix64
from engine.kernels.top_k import top_k


def table_of(rows: int) -> int:
    """Slots of the hash table for ``rows`` different tweets: a power of two, at most half full."""
    return max(TABLE_MIN, 1 << (2 * rows - 1).bit_length())


@kernel
def count_shared_each(
    g: Any, ints: Any, floats: Any, sizes: Any, sums_sizes: Any, tweet_ids: Any, excluded: Any, seed: Any, o: Any,
    best_ids: Any, best_sums: Any,
) -> Any:  # fmt: skip
    """``count_shared`` from each of ``tweet_ids`` (uint64, distinct), all with one seed; writes the results' ids and
    sums into ``best_ids`` (uint64, k) and ``best_sums`` (float64, k), and returns how many there are.

    ``sums_sizes``: hash slots, tweets that can be found in all. After the part of ``count_shared``, ``ints`` holds the
    hash table, the found tweets' ids, and the results' rows (int32) among the found tweets; ``floats`` holds the found
    tweets' sums.
    """
    people_max, tweets_max, list_max, slots, results = sizes
    table_slots, rows = sums_sizes
    kept = best_ids.shape[0]
    # The layout of count_shared: candidates' ids, rows of the results, candidates' scores.
    at = STATS + 3 * people_max + list_max + 3 * tweets_max
    candidate_ids = ints[at : at + tweets_max].view(np.uint64)
    at += tweets_max + slots
    best = ints[at : at + results].view(np.int32)
    scores = floats[tweets_max : 2 * tweets_max]
    at += results
    table = ints[at : at + table_slots]
    ids = ints[at + table_slots : at + table_slots + rows].view(np.uint64)
    out = ints[at + table_slots + rows : at + table_slots + rows + kept].view(np.int32)
    sums = floats[2 * tweets_max : 2 * tweets_max + rows]
    table[:] = 0
    mask = table_slots - 1
    found = np.int64(0)
    for t in range(tweet_ids.shape[0]):
        count_shared(g, ints, floats, sizes, tweet_ids[t : t + 1], tweet_ids[:0], excluded, seed, o)
        for k in range(ints[RESULTS]):
            candidate = best[k]
            tweet_id = candidate_ids[candidate]
            slot = np.int64(mix64(tweet_id) & np.uint64(mask))
            while table[slot] > 0 and ids[table[slot] - 1] != tweet_id:
                slot = (slot + 1) & mask
            if table[slot] == 0:
                ids[found] = tweet_id
                sums[found] = 0.0
                found += 1
                table[slot] = found
            sums[table[slot] - 1] += scores[candidate]
    size = np.int64(top_k(sums, ids, found, np.int64(kept), out))
    for k in range(size):
        best_ids[k], best_sums[k] = ids[out[k]], sums[out[k]]
    return size
