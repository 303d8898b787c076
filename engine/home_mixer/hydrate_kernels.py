"""Kernels that read rooms: what a viewer did with candidates, which of them answer strangers, tweets' features.

n is the number of candidates. Rooms are passed whole.
"""

from typing import Any

import numpy as np

from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel, quick
from engine.kernels.prefetch import prefetch
from engine.pipeline.kernels import place_of, slots_for
from engine.signals import read_kernels as signal_kernels
from engine.signals.read_kernels import BIT_ENGAGED
from engine.social_graph.arrays import FOLLOW, edge_flags
from engine.tweet_store import read_kernels as tweet_kernels
from engine.tweet_store.act_kernels import took_back
from engine.tweet_store.arrays import COUNTERS, FLAGS, REPLY_TO, ROW, is_retweet

MS_PER_HOUR = 3_600_000.0
#: Flags of a tweet that are features, from bit 0 on.
FLAG_COLUMNS = 6
_ZERO = np.uint64(0)


@quick
def answers_strangers(
    graph: Any, tweets: Any, viewer_id: Any, answered: Any, authors: Any, slots: Any, out: Any
) -> None:
    """1 into ``out`` (uint16, n) where a candidate answers somebody whom the viewer does not follow, other than the
    viewer and the candidate's author; 0 for the viewer's own. 3 where the viewer follows the candidate's author, and
    what is answered is itself an answer or a retweet.

    ``graph``, ``tweets``: the social graph, the tweet store. ``answered``, ``authors``: uint64 (n), 0 where nobody is
    answered. ``slots``: int32 (n), the candidates' places in the tweet store.
    """
    viewer = np.int64(find(graph.ids, viewer_id))
    for i in range(out.shape[0]):
        out[i] = 0
        if answered[i] == _ZERO or answered[i] == viewer_id or answered[i] == authors[i] or authors[i] == viewer_id:
            continue
        other = np.int64(find(graph.ids, answered[i]))
        if viewer < 0 or other < 0 or edge_flags(graph, viewer, other) & FOLLOW == 0:
            out[i] = 1
            author = np.int64(find(graph.ids, authors[i]))
            if viewer < 0 or author < 0 or edge_flags(graph, viewer, author) & FOLLOW == 0:
                continue
            parent = np.int64(find(tweets.ids, tweets.refs[slots[i], REPLY_TO]))
            if parent >= 0 and (tweets.refs[parent, REPLY_TO] != _ZERO or is_retweet(tweets, parent)):
                out[i] = 3


@quick
def tweet_features(store: Any, columns: Any, rows: Any, now_ms: Any, out: Any, at: Any) -> None:
    """Age in hours (not below 0) and the six flags of each kept tweet, and the totals of its original, into the columns
    ``at`` … of ``out`` (float32, (m, F)).

    ``columns``: slots and originals' slots (int32, n; -1 gives zeros), creation times (int64, n); ``rows`` int32 (m).
    """
    slots, counted, created_ms = columns
    for i in range(rows.shape[0]):
        if counted[rows[i]] >= 0:
            prefetch(store.row, np.int64(counted[rows[i]]) * ROW)
    for i in range(rows.shape[0]):
        slot, original = np.int64(slots[rows[i]]), np.int64(counted[rows[i]])
        out[i, at] = np.float32(np.float64(max(now_ms - created_ms[rows[i]], 0)) / MS_PER_HOUR)
        flags = np.int64(store.row[slot, FLAGS]) if slot >= 0 else np.int64(0)
        for bit in range(FLAG_COLUMNS):
            out[i, at + 1 + bit] = np.float32((flags >> bit) & 1)
        for c in range(COUNTERS):
            out[i, at + 1 + FLAG_COLUMNS + c] = np.float32(store.row[original, c]) if original >= 0 else np.float32(0.0)


@inlined
def _add_late(originals: Any, stood_for: Any, flags: Any, table: Any, out: Any) -> None:
    """Add to ``out`` (uint16, n) the flags of late acts: ``stood_for`` (uint64, k) names the original that each of
    ``flags`` (uint16, k; overwritten) counts for."""
    table[:] = 0
    for j in range(stood_for.shape[0]):
        at = place_of(stood_for, table, stood_for[j])
        if table[at] == 0:
            table[at] = j + 1
        flags[table[at] - 1] |= flags[j]
    for i in range(originals.shape[0]):
        at = place_of(stood_for, table, originals[i])
        if table[at] > 0:
            out[i] |= flags[table[at] - 1]


@inlined
def _leave_out_undone(store: Any, viewer_id: Any, ids: Any, originals: Any, flags: Any) -> None:
    """Clear ``flags`` (uint16) of engagements with retweets (``ids`` other than ``originals``, uint64) that were taken
    back as engagements with the originals, after it was known that these are what the retweets stand for."""
    for i in range(ids.shape[0]):
        if ids[i] != originals[i] and flags[i] & BIT_ENGAGED and took_back(store, viewer_id, originals[i]):
            flags[i] &= ~BIT_ENGAGED


@kernel
def viewer_flags(
    signals: Any, store: Any, viewer_id: Any, tweets: Any, authors: Any, since_ms: Any, cut: Any, out: Any
) -> None:
    """The viewer's flags of each candidate and its author, with those of its original and that one's author, into
    ``out`` (uint16, n).

    ``tweets``: candidates and their originals, ``authors``: of both, uint64 (n) each; ``since_ms`` as in
    ``signals.read_kernels.flags``. The viewer may have acted on a tweet before it was known that it stands for another:
    such acts count for the original. ``cut``: scratch for c ≥ 2 n + the most acts of a viewer: ids uint64 (3, c), flags
    uint16 (2, c), numbers int32 (c,), table int32 (a power of two ≥ 2 c).
    """
    ids, originals = tweets
    author_ids, original_author_ids = authors
    many_ids, flags, numbers, table = cut
    asked, asked_authors, stood_for = many_ids[0], many_ids[1], many_ids[2]
    n = ids.shape[0]
    out[:] = 0
    viewer = np.int64(find(signals.ids, viewer_id))
    if viewer < 0:
        return
    count = np.int64(n)
    for i in range(n):
        asked[i] = ids[i]
        asked_authors[i] = author_ids[i]
        if originals[i] != ids[i]:
            asked[count] = originals[i]
            asked_authors[count] = original_author_ids[i]
            count += 1
    acts = np.int64(signal_kernels.acted_on(signals, viewer_id, stood_for))
    late = np.int64(
        tweet_kernels.carriers(store, stood_for[:acts], numbers[:acts], asked[count:], asked_authors[count:])
    )
    total = count + late
    for i in range(late):
        stood_for[i] = asked_authors[count + i]
        asked_authors[count + i] = _ZERO  # of late acts only the tweets count
    flags[:, :total] = 0
    small = table[: slots_for(total)]
    signal_kernels.flags(signals, viewer, asked[:total], asked_authors[:total], since_ms, small, numbers[:total], flags)
    _leave_out_undone(store, viewer_id, ids, originals, flags[0])
    _leave_out_undone(store, viewer_id, asked[count:total], stood_for[:late], flags[0, count:])
    carried = np.int64(n)
    for i in range(n):
        out[i] = flags[0, i]
        if originals[i] != ids[i]:
            out[i] |= flags[0, carried]
            carried += 1
    if late > 0:
        _add_late(originals, stood_for[:late], flags[0, count:total], small, out)
