"""The readers of real_graph: statistics of pairs, columns of the model, and the strength of ties."""

from typing import Any

import numpy as np

from engine.exact_math import exp, log
from engine.kernels.id_map import find, prefetch_slot
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.real_graph import daily
from engine.real_graph.arrays import (
    CODE,
    DAY_0,
    DAY_1,
    FEATURE,
    FEATURES,
    FIRST_DAY,
    FIRST_PAIR,
    FLAGS,
    M2,
    MEAN,
    NEGATIVE,
    NEXT,
    NON_ZERO,
    TOTAL_0,
    TOTAL_1,
    UNFOLLOW_DAY,
    UNFOLLOWED_DAYS,
    Feature,
    Status,
    find_pair,
    home_of,
)
from engine.real_graph.pairs import count_days, has_lapsed, is_look, recent

#: Statistics of a feature: columns of ``statistics``.
EWMA, AVERAGE, VARIANCE, NON_ZERO_DAYS, ELAPSED_DAYS, DAYS_SINCE = range(6)
STATISTICS = 6
#: The strongest tie weighs so much more than none.
WEIGHT_MORE = 1.97
_UNFOLLOWED = int(Status.UNFOLLOWED)
DAYS_SINCE_MOST = 30

#: The default score (docs/real_graph.md): a logistic function of these weights.
BIAS, PER_ACTIVE_DAY, PER_DAY_SINCE = -2.5, 0.12, -0.06
WEIGHTS = np.zeros(FEATURES, np.float64)
for _feature, _weight in {
    Feature.FAVORITE: 0.6,
    Feature.RETWEET: 1.0,
    Feature.REPLY: 1.0,
    Feature.QUOTE: 1.0,
    Feature.MENTION: 0.8,
    Feature.PHOTO_TAG: 0.8,
    Feature.SHARE: 0.6,
    Feature.TWEET_CLICK: 0.3,
    Feature.PROFILE_VIEW: 0.4,
    Feature.INSPECTED: 0.1,
    Feature.DWELL_S: 0.05,
    Feature.THROUGH_FAVORITE: 0.3,
    Feature.THROUGH_RETWEET: 0.5,
    Feature.THROUGH_REPLY: 0.5,
    Feature.THROUGH_QUOTE: 0.5,
    Feature.THROUGH_CLICK: 0.15,
}.items():
    WEIGHTS[_feature] = _weight


@inlined
def flags_at(t: Any, pair: Any, day: Any) -> Any:
    """The pair's ``Status`` bits on a day; an unfollow fades."""
    flags = np.int64(t.statuses[pair, FLAGS])
    if flags & _UNFOLLOWED and day - np.int64(t.statuses[pair, UNFOLLOW_DAY]) >= UNFOLLOWED_DAYS:
        flags &= ~_UNFOLLOWED
    return flags


@kernel
def _with_open_days(t: Any, f: Any, out: Any) -> None:
    """Mean and m2 of a feature with its open days, and the days with acts, into ``out`` (float64, 3)."""
    days, sums = t.feature_days[f], t.feature_sums[f]
    mean, m2, n = np.float64(sums[MEAN]), np.float64(sums[M2]), np.float64(days[NON_ZERO])
    for k in range(2):
        day, total = (days[DAY_1], sums[TOTAL_1]) if k == 0 else (days[DAY_0], sums[TOTAL_0])
        if day:
            n += 1.0
            delta = np.float64(total) - mean
            mean += delta / n
            m2 += delta * (np.float64(total) - mean)
    out[0], out[1], out[2] = mean, m2, n


@kernel
def statistics(t: Any, viewer_id: Any, other_ids: Any, day: Any, flags: Any, work: Any, out: Any) -> None:
    """The daily statistics of pairs as of the end of a day.

    ``other_ids`` uint64 (n,). ``flags`` uint8 (n,): ``Status``. ``work`` float64 (3,), scratch. ``out`` float32 (n,
    ``FEATURES``, ``STATISTICS``); zeros where a feature is missing: never seen, or dropped.
    """
    u = np.int64(find(t.ids, viewer_id))
    for i in range(other_ids.shape[0]):
        flags[i] = 0
        for k in range(FEATURES):
            for column in range(STATISTICS):
                out[i, k, column] = np.float32(0.0)
        pair = find_pair(t, u, other_ids[i])
        if pair < 0:
            continue
        flags[i] = flags_at(t, pair, day)
        f = np.int64(t.pairs[pair, FEATURE]) - 1
        while f >= 0:
            if not daily.has_lapsed(t, f, day):
                row = out[i, np.int64(t.feature_days[f, CODE])]
                _with_open_days(t, f, work)
                row[EWMA] = np.float32(daily.ewma_at(t, f, day))
                row[AVERAGE] = np.float32(work[0])
                row[VARIANCE] = np.float32(work[1] / max(1.0, work[2]))
                row[NON_ZERO_DAYS] = np.float32(work[2])
                row[ELAPSED_DAYS] = np.float32(max(np.int64(1), day - np.int64(t.feature_days[f, FIRST_DAY]) + 1))
                row[DAYS_SINCE] = np.float32(max(np.int64(1), day - daily.newest_day(t, f) + 1))
            f = np.int64(t.feature_next[f]) - 1


@kernel
def _logistic(t: Any, pair: Any, day: Any) -> Any:
    """The default score of a pair, float64 in [0, 1); 0 after a negative act, and where nothing counts any more."""
    flags = flags_at(t, pair, day)
    if flags & NEGATIVE:
        return 0.0
    counts, newest, total, marks = flags != 0, np.int64(0), np.float64(0.0), np.uint64(0)
    f = np.int64(t.pairs[pair, FEATURE]) - 1
    while f >= 0:
        code = np.int64(t.feature_days[f, CODE])
        if not daily.has_lapsed(t, f, day):
            total += WEIGHTS[code] * log(1.0 + daily.ewma_at(t, f, day))
            newest = max(newest, daily.newest_day(t, f))
            counts = counts or not is_look(code)
        marks |= daily.days_marked(t, f, day)
        f = np.int64(t.feature_next[f]) - 1
    if newest == 0 or not counts:
        return 0.0
    since = min(np.int64(DAYS_SINCE_MOST), max(np.int64(0), day - newest))
    active = count_days(recent(marks))
    z = BIAS + (total + PER_ACTIVE_DAY * np.float64(active) + PER_DAY_SINCE * np.float64(since))
    return 1.0 / (1.0 + exp(-z))


@inlined
def tie_weight(strength: Any) -> Any:
    """What a tie of a strength (float32) in [0, 1] weighs: from 1, for no tie, to 2.97."""
    return 1.0 + WEIGHT_MORE * np.float64(strength)


@kernel
def strength(t: Any, viewer_id: Any, other_ids: Any, day: Any, out: Any) -> None:
    """How strongly a viewer is tied to others (uint64, n): float32 (n,) in [0, 1), 0 where nothing is known."""
    u = np.int64(find(t.ids, viewer_id))
    for i in range(other_ids.shape[0]):
        out[i] = np.float32(0.0)
    if u < 0:
        return
    for i in range(other_ids.shape[0]):
        prefetch(t.table, home_of(t, u, other_ids[i]))
    for i in range(other_ids.shape[0]):
        pair = find_pair(t, u, other_ids[i])
        if pair >= 0:
            out[i] = np.float32(_logistic(t, pair, day))


@kernel
def strength_between(t: Any, source_ids: Any, other_ids: Any, day: Any, out: Any) -> None:
    """``strength`` of each source (uint64, n) toward the other (uint64, n) at its place."""
    for i in range(source_ids.shape[0]):
        prefetch_slot(t.ids, source_ids[i])
    for i in range(source_ids.shape[0]):
        pair = find_pair(t, np.int64(find(t.ids, source_ids[i])), other_ids[i])
        out[i] = np.float32(_logistic(t, pair, day)) if pair >= 0 else np.float32(0.0)


@kernel
def statuses_toward(t: Any, source_ids: Any, viewer_id: Any, day: Any, out: Any) -> None:
    """``Status`` bits (uint8, n) of each source (uint64, n) toward the viewer."""
    for i in range(source_ids.shape[0]):
        pair = find_pair(t, np.int64(find(t.ids, source_ids[i])), viewer_id)
        out[i] = flags_at(t, pair, day) if pair >= 0 else 0


@kernel
def destinations(t: Any, viewer_id: Any, day: Any, ids: Any, scores: Any, flags: Any) -> Any:
    """All pairs of a viewer in which something counts: others (uint64), scores (float64), ``Status`` (uint8), each (at
    least the pairs of one person,); returns how many."""
    u = np.int64(find(t.ids, viewer_id))
    if u < 0:
        return 0
    n, pair = 0, np.int64(t.people[u, FIRST_PAIR]) - 1
    while pair >= 0:
        if not has_lapsed(t, pair, day):
            ids[n], scores[n], flags[n] = t.destinations[pair], _logistic(t, pair, day), flags_at(t, pair, day)
            n += 1
        pair = np.int64(t.pairs[pair, NEXT]) - 1
    return n
