"""Gives tweets and stubs their slots, and takes the slots of the oldest."""

from typing import Any

import numpy as np

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
    TWEETS,
    ZERO,
    epoch_ms,
    forget_text,
    unlink,
)
from engine.tweet_store.labels import forget_labels


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


@kernel
def take_slot(s: Any, tweet_id: Any, author_id: Any, time_ms: Any, state: Any) -> Any:
    """A cleared slot for a new tweet; a full ring evicts the oldest arrival, and wipes its text."""
    slot = s.header[POSITION]
    if s.header[SIZE] == s.limits[TWEETS]:
        unlink(s, slot)
        forget_text(s, slot)
        remove_from(s.ids, s.ids.keys[slot])
        s.header[EVICTED] += 1
    else:
        s.header[SIZE] += 1
    s.header[POSITION] = slot + 1 if slot + 1 < s.limits[TWEETS] else 0
    forget_labels(s.labels, slot)
    _begin(s, slot, tweet_id, author_id, time_ms, state)
    return slot


@inlined
def is_stub(s: Any, slot: Any) -> Any:
    """Whether a slot is one of those for stubs."""
    return slot >= s.limits[TWEETS]


@kernel
def take_stub(s: Any, tweet_id: Any, author_id: Any, time_ms: Any, user_id: Any) -> Any:
    """A cleared slot for a stub that a person made; a full ring evicts its oldest stub."""
    rings = s.stub_heads.shape[0]
    places = (s.created_ms.shape[0] - s.limits[TWEETS]) // rings
    ring = np.int64(mix64(user_id) & np.uint64(rings - 1))
    slot = s.limits[TWEETS] + ring * places + s.stub_heads[ring]
    s.stub_heads[ring] = (s.stub_heads[ring] + 1) % places
    if s.ids.keys[slot] != ZERO:
        remove_from(s.ids, s.ids.keys[slot])
        s.header[STUBS_EVICTED] += 1
    _begin(s, slot, tweet_id, author_id, time_ms, STUB)
    s.header[STUBS] += 1
    return slot


@kernel
def leave_stubs(s: Any, stub: Any) -> Any:
    """Move a stub, with its author and counters, to a slot of tweets; returns that."""
    tweet_id = s.ids.keys[stub]
    remove_from(s.ids, tweet_id)
    slot = take_slot(s, tweet_id, s.author_id[stub], s.row[stub, EPOCH] * epoch_ms(s), STUB)
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
