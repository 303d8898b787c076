"""Deletes of tweets whose create has not come: each holds only for a tweet of the author who deleted it."""

from typing import Any

import numpy as np

from engine.kernels.id_map import find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64
from engine.tweet_store.arrays import CLAIMS_POSITION, ZERO


@inlined
def claim_of(tweet_id: Any, author_id: Any) -> Any:
    """The key of a delete by an author of a tweet that is not known yet."""
    key = mix64(tweet_id ^ mix64(author_id))
    return key if key != ZERO else np.uint64(1)


@kernel
def claim(s: Any, tweet_id: Any, author_id: Any) -> Any:
    """Remember a delete of an unknown tweet: it holds only if the tweet turns out to be this author's."""
    key = claim_of(tweet_id, author_id)
    if find(s.claims, key) >= 0:
        return
    at = s.header[CLAIMS_POSITION]
    if s.claims.keys[at] != ZERO:
        remove(s.claims, s.claims.keys[at])
    find_or_add(s.claims, key)
    s.header[CLAIMS_POSITION] = at + 1 if at + 1 < s.claims.keys.shape[0] else 0


@inlined
def is_claimed(s: Any, tweet_id: Any, author_id: Any) -> Any:
    """Whether this author has deleted a tweet before its create came."""
    return s.claims.header[0] > 0 and find(s.claims, claim_of(tweet_id, author_id)) >= 0
