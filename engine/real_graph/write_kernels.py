"""The writer of real_graph: a piece's resolved rows onto the arrays."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.batch import ENGAGEMENT_KINDS, UNDOES, Change, Kind
from engine.kernels.erasing import (
    PLACE,
    bits_of,
    drop_done,
    enter,
    is_full,
    is_waiting,
    may_wait,
    pass_places,
    places_left,
    waits,
)
from engine.kernels.id_map import find, prefetch_slot
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.real_graph import daily
from engine.real_graph.arrays import (
    CLOCK_DAY,
    COUNTED,
    FEATURE,
    FLAGS,
    HAND,
    LAPSED_PAIRS,
    PAIRS_HIGH,
    SOURCE,
    TAKEN_BACK,
    TOWARD_SELF,
    UNFOLLOW_DAY,
    WITHOUT_PERSON,
    Feature,
    Status,
    day_of,
    find_feature,
    find_pair,
    home_of,
)
from engine.real_graph.pairs import (
    all_lapsed,
    drop_feature,
    drop_pair,
    enter_feature,
    enter_pair,
    enter_person,
    forget_person,
    leave_empty,
    touch,
)

ZERO, NONE = np.uint64(0), 255
#: Rows whose people and pairs are prefetched together, so that their cache misses overlap.
AHEAD_ROWS = 32
#: An ERASE row looks for erased people in so many pairs of others, and drops so many.
PAIRS_PER_ROW, DROPPED_PER_ROW = 1 << 14, 256
#: One dwell counts for at most so many seconds.
DWELL_S_MAX = 600.0
KIND_DWELL, KIND_ERASE, KIND_USER = int(Kind.DWELL), int(Kind.ERASE), int(Kind.USER)
KIND_MENTION, KIND_MEDIA_TAG = int(Kind.MENTION), int(Kind.MEDIA_TAG)
KIND_CONTACT, KIND_UNCONTACT = int(Kind.CONTACT), int(Kind.UNCONTACT)
ENGAGEMENTS_END = max(ENGAGEMENT_KINDS) + 1
DWELL_S, UNFOLLOWED = int(Feature.DWELL_S), int(Status.UNFOLLOWED)
NOTHING, BEGINS, RENEWED, ENDS, UNCOUNTED = (np.uint8(change) for change in Change)


def _make_rules() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """By kind: the feature, the feature toward who retweeted the tweet, ``NONE`` for none; and the status bit."""
    own, through, status = np.full(256, NONE, np.uint8), np.full(256, NONE, np.uint8), np.zeros(256, np.uint8)
    for kind, feature in {
        Kind.FAVORITE: Feature.FAVORITE,
        Kind.RETWEET: Feature.RETWEET,
        Kind.REPLY: Feature.REPLY,
        Kind.QUOTE: Feature.QUOTE,
        Kind.MENTION: Feature.MENTION,
        Kind.MEDIA_TAG: Feature.PHOTO_TAG,
        Kind.SHARE: Feature.SHARE,
        Kind.BOOKMARK: Feature.SHARE,
        Kind.CLICK: Feature.TWEET_CLICK,
        Kind.PHOTO_EXPAND: Feature.TWEET_CLICK,
        Kind.VIDEO_50: Feature.TWEET_CLICK,
        Kind.PROFILE_CLICK: Feature.PROFILE_VIEW,
        Kind.DWELL: Feature.INSPECTED,
    }.items():
        own[kind] = feature
    for kind, feature in {
        Kind.FAVORITE: Feature.THROUGH_FAVORITE,
        Kind.RETWEET: Feature.THROUGH_RETWEET,
        Kind.REPLY: Feature.THROUGH_REPLY,
        Kind.QUOTE: Feature.THROUGH_QUOTE,
        Kind.CLICK: Feature.THROUGH_CLICK,
        Kind.PHOTO_EXPAND: Feature.THROUGH_CLICK,
        Kind.VIDEO_50: Feature.THROUGH_CLICK,
    }.items():
        through[kind] = feature
    for kind, bit in {
        Kind.FOLLOW: Status.UNFOLLOWED,
        Kind.BLOCK: Status.BLOCKED,
        Kind.MUTE: Status.MUTED,
        Kind.REPORT_USER: Status.REPORTED,
        Kind.REPORT: Status.REPORTED,
        Kind.CONTACT: Status.CONTACT,
        Kind.UNCONTACT: Status.CONTACT,
    }.items():
        status[kind] = bit
    for undo, kind in UNDOES.items():
        own[undo], through[undo], status[undo] = own[kind], through[kind], status[kind]
    return own, through, status


FEATURE_OF, THROUGH_OF, STATUS_OF = _make_rules()


@inlined
def _source_of(batch: Any, row: Any) -> Any:
    """Who did it: of a mention and a photo tag, the tweet's author."""
    code = batch.kind[row]
    return batch.author_id[row] if code in (KIND_MENTION, KIND_MEDIA_TAG) else batch.user_id[row]


@inlined
def _target_of(batch: Any, row: Any) -> Any:
    """Toward whom: the original's author, the person named, or the other person."""
    code = batch.kind[row]
    if code < ENGAGEMENTS_END:
        return batch.original_author_id[row]
    return batch.user_id[row] if code in (KIND_MENTION, KIND_MEDIA_TAG) else batch.subject_id[row]


# --- one act ----------------------------------------------------------------------------------------------------


@kernel
def _take_back(t: Any, source: Any, target: Any, code: Any, day: Any) -> None:
    """Take an act of a day back; the feature, the pair and the person go with their last act."""
    pair = find_pair(t, np.int64(find(t.ids, source)), target)
    f = find_feature(t, pair, code) if pair >= 0 else np.int64(-1)
    if f < 0 or not daily.remove(t, f, day, 1.0):
        return
    t.header[TAKEN_BACK] += 1
    if daily.is_empty(t, f):
        drop_feature(t, pair, f)
        leave_empty(t, np.int64(t.pairs[pair, SOURCE]), pair)


@kernel
def _count(t: Any, source: Any, target: Any, code: Any, day: Any, amount: Any, scratch: Any) -> None:
    """Count an act."""
    u = enter_person(t, source)
    touch(t, u)
    pair = enter_pair(t, u, target, t.header[CLOCK_DAY], scratch[0], scratch[1], scratch[2])
    if pair < 0:
        leave_empty(t, u, pair)
        return
    f = enter_feature(t, u, pair, code, day)
    if f < 0:
        leave_empty(t, u, pair)
        return
    daily.add(t, f, day, amount)
    t.header[COUNTED] += 1


@kernel
def _set_status(t: Any, batch: Any, row: Any, source: Any, target: Any, scratch: Any) -> None:
    """Note a block, mute, report, contact or unfollow, or the end of one."""
    code, bit = np.int64(batch.kind[row]), np.int64(STATUS_OF[batch.kind[row]])
    sets = batch.change[row] != ENDS and code != KIND_UNCONTACT
    if bit == UNFOLLOWED:
        sets = not sets
    if not sets:
        pair = find_pair(t, np.int64(find(t.ids, source)), target)
        if pair >= 0:
            t.statuses[pair, FLAGS] = np.int64(t.statuses[pair, FLAGS]) & ~bit
            if bit == UNFOLLOWED:
                t.statuses[pair, UNFOLLOW_DAY] = 0
            leave_empty(t, np.int64(t.pairs[pair, SOURCE]), pair)
        return
    u = enter_person(t, source)
    if code != KIND_CONTACT:
        touch(t, u)
    pair = enter_pair(t, u, target, t.header[CLOCK_DAY], scratch[0], scratch[1], scratch[2])
    if pair < 0:
        leave_empty(t, u, pair)
        return
    t.statuses[pair, FLAGS] = np.int64(t.statuses[pair, FLAGS]) | bit
    if bit == UNFOLLOWED:
        t.statuses[pair, UNFOLLOW_DAY] = day_of(batch.timestamp_ms[row])


@kernel
def _act(t: Any, batch: Any, row: Any, target: Any, code: Any, scratch: Any) -> None:
    """An act of a row that changes something: add it, and take away the one that it renews or ends."""
    source, change = _source_of(batch, row), batch.change[row]
    day = day_of(batch.timestamp_ms[row])
    if batch.replaced_ms[row] >= 0:
        before = day_of(batch.replaced_ms[row])
        if change == RENEWED and before == day:
            if batch.kind[row] == KIND_DWELL:
                seconds = min(DWELL_S_MAX, np.float64(batch.value[row]))
                _count(t, source, target, np.int64(DWELL_S), day, seconds, scratch)
            return
        _take_back(t, source, target, code, before)
    if change == ENDS:
        return
    _count(t, source, target, code, day, 1.0, scratch)
    if batch.kind[row] == KIND_DWELL:
        _count(t, source, target, np.int64(DWELL_S), day, min(DWELL_S_MAX, np.float64(batch.value[row])), scratch)


@kernel
def _act_through(t: Any, batch: Any, row: Any, scratch: Any) -> None:
    """The same act toward the person whose retweet the tweet is, if it is one. A repeated act counts once."""
    code, via = np.int64(THROUGH_OF[batch.kind[row]]), batch.author_id[row]
    if code == NONE or batch.original_id[row] == batch.subject_id[row] or via == ZERO:
        return
    if via == batch.original_author_id[row] or via == batch.user_id[row]:
        return
    if batch.change[row] == BEGINS:
        _count(t, batch.user_id[row], via, code, day_of(batch.timestamp_ms[row]), 1.0, scratch)
    elif batch.change[row] == ENDS and batch.replaced_ms[row] >= 0:
        _take_back(t, batch.user_id[row], via, code, day_of(batch.replaced_ms[row]))


# --- erasing and sweeping ---------------------------------------------------------------------------------------


@kernel
def _forget_destinations(t: Any, pairs: Any, most: Any) -> None:
    """Go on to forget erased people in the pairs of others: at most so many, among the next so many pairs."""
    queue, size, high = t.erasing, t.destinations.shape[0], t.header[PAIRS_HIGH]
    pair, bits = np.int64(queue[PLACE]), bits_of(queue)
    passed, end = np.int64(0), min(pairs, places_left(queue))
    while passed < end and most > 0:
        if pair >= high:
            passed += size - pair
            pair = np.int64(0)
            continue
        if may_wait(bits, t.destinations[pair]) and waits(queue, t.destinations[pair]):
            drop_pair(t, pair)
            most -= 1
        passed += 1
        pair = pair + 1 if pair + 1 < size else np.int64(0)
    pass_places(queue, passed, size)
    drop_done(queue)


@kernel
def _finish_erasing(t: Any) -> None:
    """Erase everybody who waits."""
    size = np.int64(t.destinations.shape[0])
    _forget_destinations(t, size, size + 1)


@kernel
def _erase(t: Any, user_id: Any) -> None:
    """ERASE: what a person did at once, what others did toward the person piece by piece. 0: nobody's further, go on
    with those who wait."""
    if user_id != ZERO:
        forget_person(t, user_id)
        if is_full(t.erasing):
            _finish_erasing(t)
        enter(t.erasing, user_id, np.int64(t.destinations.shape[0]))
    if is_waiting(t.erasing):
        _forget_destinations(t, np.int64(PAIRS_PER_ROW), np.int64(DROPPED_PER_ROW))


@kernel
def _sweep(t: Any) -> None:
    """Look at the next pair, and forget it if nothing in it counts any more."""
    if t.header[HAND] >= t.header[PAIRS_HIGH]:
        t.header[HAND] = 0
    pair = t.header[HAND]
    t.header[HAND] += 1
    over = t.header[CLOCK_DAY] - 1  # of the clock's day more acts may come
    if pair < t.header[PAIRS_HIGH] and t.destinations[pair] != ZERO and all_lapsed(t, pair, over):
        drop_pair(t, pair)
        t.header[LAPSED_PAIRS] += 1


# --- rows -------------------------------------------------------------------------------------------------------


@inlined
def _concerns(batch: Any, row: Any) -> Any:
    """Whether a row is about two people."""
    return FEATURE_OF[batch.kind[row]] != NONE or STATUS_OF[batch.kind[row]] != 0


@inlined
def _changes(batch: Any, row: Any) -> Any:
    """Whether a row changes anything. Of contacts, mentions and photo tags it is not said: they do."""
    code = batch.kind[row]
    if code in (KIND_CONTACT, KIND_UNCONTACT, KIND_MENTION, KIND_MEDIA_TAG):
        return True
    return batch.change[row] != NOTHING and batch.change[row] != UNCOUNTED


@kernel
def _prefetch(t: Any, batch: Any, start: Any, end: Any) -> None:
    """Prefetch what the rows will touch, step by step: people; slots of the table; pairs; their first features. Changes
    nothing."""
    pairs, days, sums = t.pairs.reshape(-1), t.feature_days.reshape(-1), t.feature_sums.reshape(-1)
    for row in range(start, end):
        if _concerns(batch, row):
            prefetch_slot(t.ids, _source_of(batch, row))
    for row in range(start, end):
        if _concerns(batch, row):
            u = np.int64(find(t.ids, _source_of(batch, row)))
            if u >= 0:
                prefetch(t.table, home_of(t, u, _target_of(batch, row)))
    for row in range(start, end):
        if _concerns(batch, row):
            u = np.int64(find(t.ids, _source_of(batch, row)))
            pair = np.int64(t.table[home_of(t, u, _target_of(batch, row))]) - 1 if u >= 0 else np.int64(-1)
            if pair >= 0:
                prefetch(t.destinations, pair)
                prefetch(pairs, 3 * pair)
    for row in range(start, end):
        if _concerns(batch, row):
            pair = find_pair(t, np.int64(find(t.ids, _source_of(batch, row))), _target_of(batch, row))
            f = np.int64(t.pairs[pair, FEATURE]) - 1 if pair >= 0 else np.int64(-1)
            if f >= 0:
                prefetch(days, 6 * f)
                prefetch(sums, 5 * f)
                prefetch(t.feature_next, f)


@kernel
def apply(t: Any, batch: Any, scratch: Any) -> None:
    """Apply a resolved batch in order. ``scratch``: of ``_forget_weakest``. Writes every array of ``t``."""
    ahead = 0
    for row in range(batch.kind.shape[0]):
        code = np.int64(batch.kind[row])
        if code == KIND_USER and is_waiting(t.erasing) and waits(t.erasing, batch.user_id[row]):
            # What is done toward the person after coming back must stay.
            _finish_erasing(t)
        if code == KIND_ERASE:
            _erase(t, batch.user_id[row])
        if not _concerns(batch, row):
            continue
        if row >= ahead:
            ahead = min(row + AHEAD_ROWS, batch.kind.shape[0])
            _prefetch(t, batch, np.int64(row), np.int64(ahead))
        if not _changes(batch, row):
            continue
        source, target = _source_of(batch, row), _target_of(batch, row)
        if source == ZERO:
            t.header[WITHOUT_PERSON] += 1
            continue
        t.header[CLOCK_DAY] = max(t.header[CLOCK_DAY], day_of(batch.timestamp_ms[row]))
        _sweep(t)
        if target == ZERO:
            t.header[WITHOUT_PERSON] += 1
        elif target == source:
            t.header[TOWARD_SELF] += 1
        else:
            if FEATURE_OF[code] != NONE:
                _act(t, batch, np.int64(row), target, np.int64(FEATURE_OF[code]), scratch)
            if STATUS_OF[code] != 0:
                _set_status(t, batch, np.int64(row), source, target, scratch)
        if code < ENGAGEMENTS_END:
            _act_through(t, batch, np.int64(row), scratch)
