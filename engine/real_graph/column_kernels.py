"""The columns by which the model judges pairs, and the labels that it is fitted to (docs/real_graph.md).

Source: ``IG/bqe`` and ``IG/scio/ml/labels`` of Twitter's release, without the ids of the two people.
"""

from typing import Any

import numpy as np

from engine.kernels.id_map import find, prefetch_slot
from engine.kernels.jit import inlined, kernel
from engine.real_graph import daily
from engine.real_graph.arrays import CODE, FEATURE, FEATURES, NEGATIVE, Feature, day_of, find_pair
from engine.real_graph.pairs import count_days, is_look, recent
from engine.real_graph.read_kernels import DAYS_SINCE_MOST, flags_at

_FAVORITE, _TWEET_CLICK, _PROFILE_VIEW = int(Feature.FAVORITE), int(Feature.TWEET_CLICK), int(Feature.PROFILE_VIEW)

#: The model's columns (docs/real_graph.md), counted over the last 30 days: days with acts, looks left out; tweets that
#: the other, if followed, wrote in the last three days; days with a follow, favorites, clicks on tweets, views of the
#: profile; days since the newest act (30 for none); kinds of acts.
(
    NUM_DAYS,
    NUM_TWEETS,
    NUM_FOLLOWS,
    NUM_FAVORITES,
    NUM_TWEET_CLICKS,
    NUM_PROFILE_VIEWS,
    DAYS_SINCE_LAST,
    LABEL_TYPES,
) = range(8)
COLUMNS = 8

#: Labels of a day; and the kinds of acts that are explicit.
ACTED, EXPLICITLY = np.uint8(1), np.uint8(2)
IS_EXPLICIT = np.ones(FEATURES, np.bool_)
for _feature in (
    Feature.TWEET_CLICK,
    Feature.PROFILE_VIEW,
    Feature.THROUGH_CLICK,
    Feature.INSPECTED,
    Feature.DWELL_S,
):
    IS_EXPLICIT[_feature] = False


@inlined
def ties(t: Any, pair: Any, day: Any) -> Any:
    """Whether a pair is a tie: something that counts is left in it, more than looks, and nothing negative holds."""
    if flags_at(t, pair, day) & NEGATIVE:
        return False
    seen, counts, f = False, flags_at(t, pair, day) != 0, np.int64(t.pairs[pair, FEATURE]) - 1
    while f >= 0:
        if not daily.has_lapsed(t, f, day):
            seen, counts = True, counts or not is_look(t.feature_days[f, CODE])
        f = np.int64(t.feature_next[f]) - 1
    return seen and counts


@kernel
def _columns(t: Any, pair: Any, day: Any, follow_day: Any, tweets: Any, out: Any) -> None:
    """The model's columns of a pair (``COLUMNS``) into ``out`` (float64, 8). ``follow_day``: of the follow in force, 0
    for none; ``tweets``: of the other lately."""
    for column in range(COLUMNS):
        out[column] = 0.0
    today = np.uint64(1)
    follow_back = day - follow_day if follow_day > 0 else np.int64(DAYS_SINCE_MOST)
    followed = 0 <= follow_back < DAYS_SINCE_MOST
    marks = today << np.uint64(2 * follow_back) if followed else np.uint64(0)
    out[NUM_FOLLOWS] = out[LABEL_TYPES] = 1.0 if followed else 0.0
    since = follow_back if followed else np.int64(DAYS_SINCE_MOST)
    f = np.int64(t.pairs[pair, FEATURE]) - 1
    while f >= 0:
        code = np.int64(t.feature_days[f, CODE])
        if not is_look(code):
            days = recent(daily.days_marked(t, f, day))
            if days:
                marks |= days
                out[LABEL_TYPES] += 1.0
                since = min(since, max(np.int64(0), day - daily.newest_day(t, f)))
                if code == _FAVORITE:
                    out[NUM_FAVORITES] = np.float64(count_days(days))
                elif code == _TWEET_CLICK:
                    out[NUM_TWEET_CLICKS] = np.float64(count_days(days))
                elif code == _PROFILE_VIEW:
                    out[NUM_PROFILE_VIEWS] = np.float64(count_days(days))
        f = np.int64(t.feature_next[f]) - 1
    out[NUM_DAYS] = np.float64(count_days(marks))
    out[DAYS_SINCE_LAST] = np.float64(since)
    out[NUM_TWEETS] = np.float64(tweets) if follow_day > 0 else 0.0


@kernel
def columns(
    t: Any, source_ids: Any, other_ids: Any, day: Any, followed_ms: Any, tweets: Any, tied: Any, out: Any
) -> None:
    """The model's columns of pairs as of the end of a day.

    ``source_ids``, ``other_ids`` uint64 (n,). ``followed_ms`` int64 (n,): when the one followed the other, -1 not.
    ``tweets`` int32 (n,): how many the other lately wrote. ``tied`` bool (n,): whether the pair is a tie; ``out``
    float64 (n, 8): zeros for those that are none.
    """
    for i in range(source_ids.shape[0]):
        prefetch_slot(t.ids, source_ids[i])
    for i in range(other_ids.shape[0]):
        out[i] = 0.0
        pair = find_pair(t, np.int64(find(t.ids, source_ids[i])), other_ids[i])
        tied[i] = pair >= 0 and ties(t, pair, day)
        if tied[i]:
            follow_day = day_of(followed_ms[i]) if followed_ms[i] >= 0 else np.int64(0)
            _columns(t, pair, day, follow_day, tweets[i], out[i])


@kernel
def labels(t: Any, source_ids: Any, other_ids: Any, day: Any, followed_ms: Any, out: Any) -> None:
    """What was done in pairs on a day: uint8 (n,), ``ACTED`` for anything but looks, ``EXPLICITLY`` for what others may
    see or the other is told. ``followed_ms``: as of ``columns``."""
    today = np.uint64(1)
    for i in range(other_ids.shape[0]):
        bits = np.uint8(0)
        if followed_ms[i] >= 0 and day_of(followed_ms[i]) == day:
            bits |= ACTED | EXPLICITLY
        pair = find_pair(t, np.int64(find(t.ids, source_ids[i])), other_ids[i])
        f = np.int64(t.pairs[pair, FEATURE]) - 1 if pair >= 0 else np.int64(-1)
        while f >= 0:
            code = np.int64(t.feature_days[f, CODE])
            if not is_look(code) and daily.days_marked(t, f, day) & today:
                bits |= ACTED
                if IS_EXPLICIT[code]:
                    bits |= EXPLICITLY
            f = np.int64(t.feature_next[f]) - 1
        out[i] = bits
