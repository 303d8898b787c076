"""The tweet store's writer of acts: what a row changes of what a person does, and the tweets' counters of people."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import UNDOES, Change, Kind
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.tweet_store.acts import ENTERED, HOLDS, NEVER, STAMP, ZERO, enter, newest_ms, place_of
from engine.tweet_store.arrays import (
    COUNTERS,
    CREATED,
    ENGAGEMENTS,
    STATE,
    STUB,
    UNDONE,
    UNDONE_UNKNOWN,
    WITHOUT_PERSON,
    count,
    follow,
    is_retweet,
)
from engine.tweet_store.slots import take_stub
from engine.tweet_store.stub_acts import link_act, newest_place

FAVORITE, RETWEET, REPLY, QUOTE, CLICK, SHARE, IMPRESSION, NEGATIVE = range(COUNTERS)
_COUNTED = {
    Kind.FAVORITE: FAVORITE,
    Kind.RETWEET: RETWEET,
    Kind.REPLY: REPLY,
    Kind.QUOTE: QUOTE,
    Kind.CLICK: CLICK,
    Kind.PHOTO_EXPAND: CLICK,
    Kind.VIDEO_50: CLICK,
    Kind.PROFILE_CLICK: CLICK,
    Kind.DWELL: CLICK,
    Kind.SHARE: SHARE,
    Kind.BOOKMARK: SHARE,
    Kind.IMPRESSION: IMPRESSION,
    Kind.NOT_INTERESTED: NEGATIVE,
    Kind.SEE_FEWER: NEGATIVE,
    Kind.REPORT: NEGATIVE,
}
_RELATIONS = (Kind.FOLLOW, Kind.BLOCK, Kind.MUTE, Kind.REPORT_USER)


def _make_rules() -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """By kind: the counter of an act (-1 for none); the act that a row makes or takes back (0 for none); whether it
    makes it."""
    counter, act, holds = np.full(128, NEVER, np.int64), np.zeros(256, np.int64), np.ones(256, np.bool_)
    for kind, which in _COUNTED.items():
        counter[kind] = which
    for kind in (*_COUNTED, *_RELATIONS):
        act[kind] = kind
    for undo, kind in UNDOES.items():
        act[undo], holds[undo] = kind, False
    return counter, act, holds


COUNTER_OF, ACT_OF, HOLDS_OF = _make_rules()
#: Acts that make a viewer engaged with a tweet.
ENGAGING = np.array([Kind.FAVORITE, Kind.RETWEET, Kind.REPLY, Kind.QUOTE, Kind.SHARE, Kind.BOOKMARK], np.int64)
KIND_DWELL, KIND_IMPRESSION = int(Kind.DWELL), int(Kind.IMPRESSION)
NOTHING, BEGINS = np.uint8(Change.NOTHING), np.uint8(Change.BEGINS)


@kernel
def _enter(s: Any, batch: Any, row: Any, subject: Any) -> Any:
    """Take in the row's act on a subject, and write ``change`` and ``replaced_ms``; returns the newest act of its
    counter before and after the row."""
    kind, holds = ACT_OF[batch.kind[row]], HOLDS_OF[batch.kind[row]]
    user_id, time_ms = batch.user_id[row], batch.timestamp_ms[row]
    if kind == KIND_IMPRESSION:
        change, replaced_ms, before_ms, after_ms = enter(s.looks, user_id, subject, kind, holds, time_ms, COUNTER_OF)
    else:
        change, replaced_ms, before_ms, after_ms = enter(s.acts, user_id, subject, kind, holds, time_ms, COUNTER_OF)
    batch.change[row], batch.replaced_ms[row] = change, replaced_ms
    return before_ms, after_ms


@inlined
def relate(s: Any, batch: Any, row: Any) -> Any:
    """A follow, block, mute or report of a person, or its undo."""
    if ACT_OF[batch.kind[row]] != 0 and batch.user_id[row] != ZERO and batch.subject_id[row] != ZERO:
        _enter(s, batch, row, batch.subject_id[row])


@inlined
def engage(s: Any, batch: Any, row: Any, slot: Any) -> Any:
    """Count the row's person for the original of the tweet in ``slot`` (-1 not held); returns the tweet's slot.

    An act on an unknown original, or its undo, makes a stub; an impression makes none. The author's own acts count in
    the totals, but do not make the tweet popular.
    """
    code, user_id, tweet_id = batch.kind[row], batch.user_id[row], batch.subject_id[row]
    if ACT_OF[code] == 0:
        return slot
    if user_id == ZERO:
        s.header[WITHOUT_PERSON] += 1
        return slot
    if code == KIND_DWELL and batch.value[row] < s.dwell_s_min[0]:
        return slot
    original, original_id = slot, tweet_id
    if slot >= 0:
        if is_retweet(s, slot):
            original, original_id = follow(s, slot, tweet_id)
        elif s.row[slot, STATE] & STUB != 0 and s.author_id[slot] == ZERO:
            s.author_id[slot] = batch.author_id[row]
    entered = s.acts.header[ENTERED]
    before_ms, after_ms = _enter(s, batch, row, tweet_id if original_id == ZERO else original_id)
    is_new = s.acts.header[ENTERED] != entered
    if original_id == ZERO:
        return slot
    if original < 0 and (is_new or (batch.change[row] == BEGINS and code != KIND_IMPRESSION)):
        author_id = batch.author_id[row] if original_id == tweet_id else ZERO
        original = take_stub(s, original_id, author_id, batch.timestamp_ms[row], user_id)
        slot = np.int64(find(s.ids, tweet_id))
    if is_new and s.row[original, STATE] & STUB != 0:
        link_act(s, original, newest_place(s))
    if before_ms == after_ms:
        return slot
    if original < 0:
        s.header[UNDONE_UNKNOWN] += code != KIND_IMPRESSION
        return slot
    s.header[ENGAGEMENTS if HOLDS_OF[code] else UNDONE] += 1
    own = s.row[original, STATE] & CREATED != 0 and s.author_id[original] == user_id
    people = np.int64(after_ms >= 0) - np.int64(before_ms >= 0)
    if own:
        before_ms = after_ms = NEVER
    count(s, original, COUNTER_OF[ACT_OF[code]], people, before_ms, after_ms)
    return slot


@kernel
def leave_out_own(s: Any, slot: Any) -> Any:
    """Take the author's own acts out of the decayed sums of a tweet that people knew before its create arrived."""
    author_id, tweet_id = s.author_id[slot], s.ids.keys[slot]
    for counter in range(COUNTERS):
        if s.row[slot, counter] > 0:
            entries = s.looks if counter == IMPRESSION else s.acts
            at_ms = newest_ms(entries, author_id, tweet_id, np.int64(counter), COUNTER_OF)
            if at_ms >= 0:
                count(s, slot, np.int64(counter), np.int64(0), at_ms, NEVER)


@kernel
def took_back(s: Any, person_id: Any, tweet_id: Any) -> Any:
    """Whether a person has taken back what they did to a tweet, and no other engagement of theirs with it holds."""
    undone = False
    for kind in ENGAGING:
        place = place_of(s.acts, person_id, tweet_id, kind)
        if place >= 0:
            if s.acts.places[place, STAMP] & HOLDS != 0:
                return False
            undone = True
    return undone
