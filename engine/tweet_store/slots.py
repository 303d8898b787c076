"""Gives tweets and stubs their slots, and takes the slots of the oldest."""

from typing import Any

import numpy as np

from engine.kernels.daily_share import take_share
from engine.kernels.erasing import is_waiting, waits
from engine.kernels.id_map import enter_at, remove_from
from engine.kernels.jit import inlined, kernel
from engine.kernels.rng import mix64
from engine.tweet_store.arrays import (
    EPOCH,
    EPOCH_MAX,
    EVICTED,
    HALF_LIVES,
    NEWER,
    NONE,
    OLDER,
    POSITION,
    ROW,
    SIZE,
    STATE,
    STUB,
    STUBS,
    STUBS_EVICTED,
    ZERO,
    Limit,
    epoch_ms,
    unlink,
)
from engine.tweet_store.labels import forget_labels
from engine.tweet_store.texts import forget_text

_TWEETS, _STUBS_FROM, _AUTHOR_TWEETS = int(Limit.TWEETS), int(Limit.STUBS_FROM), int(Limit.AUTHOR_TWEETS)


@inlined
def _begin(s: Any, slot: Any, tweet_id: Any, author_id: Any, time_ms: Any, state: Any) -> None:
    """Enter a new tweet in a slot that no tweet has."""
    enter_at(s.ids, tweet_id, slot)
    s.author_id[slot] = author_id
    s.created_ms[slot] = 0
    s.original[slot] = ZERO
    s.text_start[slot] = 0
    s.edited_ms[slot] = 0
    for i in range(ROW):
        s.row[slot, i] = 0
        s.decayed[slot, i] = 0.0
    for i in range(4):
        s.refs[slot, i] = ZERO
    s.weight[slot, 0] = s.weight[slot, 1] = 0.0
    s.row[slot, OLDER], s.row[slot, NEWER], s.row[slot, STATE] = NONE, NONE, state
    epoch = np.int64(np.floor(time_ms / epoch_ms(s)))
    s.row[slot, EPOCH] = epoch
    s.header[EPOCH_MAX] = max(s.header[EPOCH_MAX], epoch)


@inlined
def _give_up(s: Any, slot: Any) -> None:
    """Forget the tweet in a slot, which another takes."""
    unlink(s, slot)
    forget_text(s, slot)
    remove_from(s.ids, s.ids.keys[slot])
    s.header[EVICTED] += 1


@kernel
def _shared_slot(s: Any) -> Any:
    """The next slot of the ring that all authors share; a full ring evicts the oldest arrival."""
    slot = s.header[POSITION]
    if s.header[SIZE] == s.limits[_TWEETS]:
        _give_up(s, slot)
    else:
        s.header[SIZE] += 1
    s.header[POSITION] = slot + 1 if slot + 1 < s.limits[_TWEETS] else 0
    return slot


@kernel
def _crowded_slot(s: Any, chooses: Any) -> Any:
    """The next slot of one of the rings for tweets beyond a share; ``chooses``: an id that chooses the ring."""
    rings = s.crowd_heads.shape[0]
    places = (s.limits[_STUBS_FROM] - s.limits[_TWEETS]) // rings
    ring = np.int64(mix64(chooses) & np.uint64(rings - 1))
    slot = s.limits[_TWEETS] + ring * places + s.crowd_heads[ring]
    s.crowd_heads[ring] = (s.crowd_heads[ring] + 1) % places
    if s.ids.keys[slot] != ZERO:
        _give_up(s, slot)
    return slot


@kernel
def take_slot(s: Any, tweet_id: Any, author_id: Any, time_ms: Any) -> Any:
    """A cleared slot for a new tweet, in the state STUB; the tweet that had it is evicted, and its text wiped.

    ``author_id``: whose share of the shared ring it is taken from; 0, of a tweet that is labeled before its create
    comes: all of these have one share.
    """
    if take_share(s.tweets_spent, author_id, 1, s.limits[_AUTHOR_TWEETS], time_ms):
        slot = _shared_slot(s)
    else:
        slot = _crowded_slot(s, author_id if author_id != ZERO else tweet_id)
    forget_labels(s.labels, slot)
    _begin(s, slot, tweet_id, author_id, time_ms, STUB)
    return slot


@inlined
def is_stub(s: Any, slot: Any) -> Any:
    """Whether a slot is one of those for stubs."""
    return slot >= s.limits[_STUBS_FROM]


@kernel
def take_stub(s: Any, tweet_id: Any, author_id: Any, time_ms: Any, user_id: Any) -> Any:
    """A cleared slot for a stub that a person made; a full ring evicts its oldest stub."""
    rings = s.stub_heads.shape[0]
    places = (s.created_ms.shape[0] - s.limits[_STUBS_FROM]) // rings
    ring = np.int64(mix64(user_id) & np.uint64(rings - 1))
    slot = s.limits[_STUBS_FROM] + ring * places + s.stub_heads[ring]
    s.stub_heads[ring] = (s.stub_heads[ring] + 1) % places
    if s.ids.keys[slot] != ZERO:
        remove_from(s.ids, s.ids.keys[slot])
        s.header[STUBS_EVICTED] += 1
    _begin(s, slot, tweet_id, author_id, time_ms, STUB)
    s.header[STUBS] += 1
    return slot


@kernel
def leave_stubs(s: Any, stub: Any, author_id: Any, time_ms: Any) -> Any:
    """Move a stub, with its author and counters, to a slot of tweets; returns that. ``author_id``: as for
    ``take_slot``."""
    tweet_id, known_id = s.ids.keys[stub], s.author_id[stub]
    remove_from(s.ids, tweet_id)
    slot = take_slot(s, tweet_id, author_id, time_ms)
    s.author_id[slot] = known_id
    for i in range(ROW):
        s.row[slot, i], s.row[stub, i] = s.row[stub, i], 0
        s.decayed[slot, i], s.decayed[stub, i] = s.decayed[stub, i], 0.0
    for h in range(HALF_LIVES):
        s.weight[slot, h], s.weight[stub, h] = s.weight[stub, h], 0.0
    # Whoever is being erased may have been looked for in this slot already.
    if is_waiting(s.erasing) and waits(s.erasing, s.author_id[slot]):
        s.author_id[slot] = ZERO
    s.author_id[stub] = ZERO
    return slot
