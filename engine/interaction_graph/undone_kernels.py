"""Remembers undone acts and deleted tweets, so that an older act that arrives after its undo is not stored.

A bounded table from (user, tweet, type) to the newest second at which the act was taken back; a deleted tweet has
user 0 and type ``DELETE_TWEET``. When the table is full, the entry that entered first is dropped. The map hands out
places in order and reuses the place of the entry that it just dropped, so it doubles as a first-in-first-out queue.
Only events that arrive late are looked up here.

Whoever takes back or deletes has a share of the table per day; what is more is not remembered, so that nobody pushes
out what others took back.
"""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import DELETE_TWEET
from engine.kernels.daily_share import take_share
from engine.kernels.id_map import CAPACITY, SIZE, find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import GOLDEN, mix64

_NOBODY = np.uint64(0)
_ONE = np.uint64(1)


@inlined
def _key(user_id: Any, tweet_id: Any, edge_type: Any) -> Any:
    """64 mixed bits, not 0: among a million keys, two collide with probability 3e-8."""
    return max(_ONE, mix64(mix64(user_id + np.uint64(edge_type + 1) * GOLDEN) ^ tweet_id))


@kernel
def remember(g: Any, user_id: Any, tweet_id: Any, edge_type: Any, second: Any, by: Any, share: Any) -> None:
    """Note that this user's acts of this type on this tweet, up to ``second``, were taken back. ``by``: by whom, and
    ``share``: how many new entries a person may make per day."""
    ids = g.undone
    key = _key(user_id, tweet_id, edge_type)
    place = np.int64(find(ids, key))
    if place >= 0:
        g.undone_seconds[place] = max(g.undone_seconds[place], second)
        return
    if not take_share(g.undos_spent, by, 1, share, second * 1000):
        return
    oldest = g.undone_next[0]
    if ids.header[SIZE] == ids.header[CAPACITY]:
        remove(ids, ids.keys[oldest])
    place = np.int64(find_or_add(ids, key))
    g.undone_seconds[place] = second
    g.undone_next[0] = (oldest + 1) % ids.header[CAPACITY]


@kernel
def is_undone(g: Any, user_id: Any, tweet_id: Any, edge_type: Any, second: Any) -> Any:
    """Whether an act at ``second`` was taken back, or its tweet deleted, at a later second."""
    place = np.int64(find(g.undone, _key(user_id, tweet_id, edge_type)))
    if place >= 0 and g.undone_seconds[place] > second:
        return True
    place = np.int64(find(g.undone, _key(_NOBODY, tweet_id, DELETE_TWEET)))
    return place >= 0 and g.undone_seconds[place] > second
