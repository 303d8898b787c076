"""Looks through the tweets that carry certain hashtags, the newest first."""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_MASK
from engine.kernels.id_map import find, find_in
from engine.kernels.jit import kernel
from engine.kernels.ring_slices import degree, slot_of
from engine.pipeline.kernels import place_of
from engine.tweet_store.read_kernels import is_servable

#: So many of a tag's newest tweets are looked at, and at most so many of one author are taken for one tag.
LOOKED_AT_MAX = 8192
OF_AN_AUTHOR_MAX = 5


@kernel
def tagged(graph: Any, tweets: Any, tags: Any, since_ms: Any, cut: Any, ids: Any, created_ms: Any) -> Any:
    """Write the newest tweets of each of ``tags`` (uint64, t) that were created since a time into ``ids`` (uint64, t ·
    k) and ``created_ms`` (float64, t · k), at most k of one tag; returns how many there are, repetitions included.

    ``graph``: the read arrays of the graph of hashtags, ``tweets``: the tweet store. ``cut``: scratch, authors uint64
    (k), how many tweets of each int64 (k), and a table int32, a power of two greater than k. However many tweets
    somebody tags, the tag's others are found among the newest ``LOOKED_AT_MAX``.
    """
    authors, counts, table = cut
    per_tag, found = authors.shape[0], 0
    for which in range(tags.shape[0]):
        node = np.int64(find_in(graph.user_slots, tags[which]))
        if node < 0:
            continue
        record = graph.user_records[node]
        for at in range(table.shape[0]):
            table[at] = 0
        people, taken, last = 0, 0, degree(record) - 1
        for back in range(min(degree(record), LOOKED_AT_MAX)):
            entry = graph.entries[slot_of(record, last - back)]
            tweet_id = graph.tweet_keys[entry & NODE_MASK]
            slot = np.int64(find(tweets.ids, tweet_id))
            if slot < 0 or not is_servable(tweets, slot) or tweets.created_ms[slot] < since_ms:
                continue
            at = place_of(authors, table, tweets.author_id[slot])
            if table[at] == 0:
                authors[people], counts[people] = tweets.author_id[slot], 0
                people += 1
                table[at] = people
            who = np.int64(table[at]) - 1
            if counts[who] == OF_AN_AUTHOR_MAX:
                continue
            counts[who] += 1
            ids[found], created_ms[found] = tweet_id, np.float64(tweets.created_ms[slot])
            found += 1
            taken += 1
            if taken == per_tag:
                break
    return found
