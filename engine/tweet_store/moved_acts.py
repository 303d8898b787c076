"""Acts on a retweet that came before its create: when the create comes, they move to the original.

Until the create, nobody knows that the tweet is a retweet: it is a stub, with counters of its own. The acts on a stub
are linked (``Tweets.of_stub``), so that the create finds them. Each becomes an act on the original, as if it had come
after the create: a person counts once, and the later act holds.

A link is the place of an act in the ring of acts, and nothing is unlinked when an act is forgotten. So a place that
meanwhile has an act on another tweet ends the way: what was linked after it is older, and forgotten, too.
"""

from typing import Any, Final

import numpy as np

from engine.kernels.jit import inlined, kernel
from engine.tweet_store.act_kernels import COUNTER_OF
from engine.tweet_store.acts import (
    HOLDS,
    KIND_MASK,
    NEVER,
    OWNER,
    STAMP,
    SUBJECT,
    TIME_SHIFT,
    newest_ms,
    place_of,
    rename_subject,
)
from engine.tweet_store.arrays import (
    COUNTERS,
    CREATED,
    HALF_LIVES,
    NONE,
    OLDER,
    STATE,
    STUB,
    ZERO,
    count,
    follow,
)
from engine.tweet_store.slots import take_stub
from engine.tweet_store.stub_acts import link_act

#: So many acts move at most, the newest; this bounds the time of a create.
MOVED_MAX: Final = 1024


@kernel
def _move(s: Any, place: Any, original: Any, original_id: Any) -> None:
    """Make the act at ``place`` one on the original, which is in the slot ``original``, and count it there."""
    a = s.acts
    person_id, stamp = np.uint64(a.places[place, OWNER]), a.places[place, STAMP]
    kind = stamp & KIND_MASK
    counter = COUNTER_OF[kind]
    before_ms = newest_ms(a, person_id, original_id, counter, COUNTER_OF)
    known = place_of(a, person_id, original_id, kind)
    if known < 0:
        rename_subject(a, place, original_id)
        if s.row[original, STATE] & STUB != 0:
            link_act(s, original, place)
    else:
        # The person did both: the later act holds, and the place of the other is empty until its turn comes.
        if stamp >> TIME_SHIFT >= a.places[known, STAMP] >> TIME_SHIFT:
            a.places[known, STAMP] = stamp
        a.places[place, STAMP] &= ~HOLDS
        rename_subject(a, place, ZERO)
    after_ms = newest_ms(a, person_id, original_id, counter, COUNTER_OF)
    if before_ms == after_ms:
        return
    people = np.int64(after_ms >= 0) - np.int64(before_ms >= 0)
    if s.row[original, STATE] & CREATED != 0 and s.author_id[original] == person_id:
        before_ms = after_ms = NEVER
    count(s, original, counter, people, before_ms, after_ms)


@inlined
def _clear_counters(s: Any, slot: Any) -> None:
    for c in range(COUNTERS):
        s.row[slot, c] = 0
    for at in range(HALF_LIVES * COUNTERS):
        s.decayed[slot, at] = 0.0
    for h in range(HALF_LIVES):
        s.weight[slot, h] = 0.0


@kernel
def move_acts(s: Any, slot: Any, place: Any, time_ms: Any) -> None:
    """Move the acts on a tweet that has turned out to be a retweet to its original, as far as there is one.

    ``place``: of the first linked act, -1 for none. The counters of ``slot`` become 0: what they counted is counted for
    the original. (Impressions before the create count nowhere, as those of any tweet before its create.)
    """
    tweet_id = s.ids.keys[slot]
    original, original_id = follow(s, slot, tweet_id)
    _clear_counters(s, slot)
    if original_id == ZERO:
        return
    a = s.acts
    for _ in range(MOVED_MAX):
        if place < 0 or (a.places[place, OWNER] != 0 and np.uint64(a.places[place, SUBJECT]) != tweet_id):
            break
        further = np.int64(s.of_stub[place]) - 1
        if a.places[place, OWNER] != 0:
            if original < 0:
                original = take_stub(s, original_id, ZERO, time_ms, np.uint64(a.places[place, OWNER]))
            _move(s, place, original, original_id)
        place = further


@inlined
def take_acts(s: Any, slot: Any) -> Any:
    """The first act that is linked to a stub, -1 for none; it is linked no more."""
    place = np.int64(s.row[slot, OLDER])
    s.row[slot, OLDER] = NONE
    return place
