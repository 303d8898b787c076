"""Looks through all tweets, the newest arrival first."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import kernel
from engine.social_graph.arrays import BLOCK, MUTE, edge_flags
from engine.tweet_store.arrays import POSITION, SIZE, Limit
from engine.tweet_store.read_kernels import is_servable

_TWEETS = int(Limit.TWEETS)
_ZERO = np.uint64(0)
_KEEPS_AWAY = BLOCK | MUTE


@kernel
def newest(tweets: Any, graph: Any, viewer_id: Any, since_ms: Any, passed: Any, ids: Any, created_ms: Any) -> Any:
    """Write the newest arrivals that were created since a time and that nobody blocks or mutes between viewer and
    author, without the viewer's own, into ``ids`` (uint64, k) and ``created_ms`` (float64, k).

    ``tweets``, ``graph``: tweet store and social graph. ``passed``: how many arrivals, from the newest on, were looked
    at before. Returns how many were found, and how many arrivals are looked at now.
    """
    viewer = np.int64(find(graph.ids, viewer_id))
    size, slots = tweets.header[SIZE], tweets.limits[_TWEETS]
    count, last_author, kept_away = np.int64(0), _ZERO, False
    while passed < size and count < ids.shape[0]:
        slot = tweets.header[POSITION] - 1 - passed
        slot = slot + slots if slot < 0 else slot
        passed += 1
        author = tweets.author_id[slot]
        if tweets.created_ms[slot] < since_ms or author == viewer_id or not is_servable(tweets, slot):
            continue
        if author != last_author:
            last_author, kept_away = author, False
            other = np.int64(find(graph.ids, author))
            if viewer >= 0 and other >= 0:
                flags = edge_flags(graph, viewer, other) | edge_flags(graph, other, viewer)
                kept_away = flags & _KEEPS_AWAY != 0
        if not kept_away:
            ids[count] = tweets.ids.keys[slot]
            created_ms[count] = np.float64(tweets.created_ms[slot])
            count += 1
    return count, passed
