"""The tweet store's readers."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.exact_math import exp2
from engine.kernels.copy_bytes import copy_bytes
from engine.kernels.id_map import find
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.tweet_store import heap
from engine.tweet_store.arrays import (
    COUNTERS,
    CREATED,
    DELETED,
    EPOCH,
    EPOCH_MAX,
    FLAGS,
    HALF_LIVES,
    LANG,
    OLDER,
    ROW,
    SIZE,
    STATE,
    TEXT_BYTES,
    ZERO,
    Limit,
    epoch_ms,
    find_head,
    head_home,
    is_retweet,
    original_of,
    prefetch_id,
)
from engine.tweet_store.texts import has_text, place_in, ring_base, ring_size

_TWEETS, _STUBS_FROM = int(Limit.TWEETS), int(Limit.STUBS_FROM)
#: Bytes that one prefetch fetches.
CACHE_LINE = 64


class TweetColumns(NamedTuple):
    """Columns of k tweets; zeros for slot -1. ``totals``: int32 (k, 8) by ``Counter``.

    ``servable``: created and not deleted. ``state``: bits CREATED 1, STUB 2, DELETED 4, LISTED 8 of ``arrays.py``.
    """

    servable: NDArray[np.bool_]
    state: NDArray[np.uint8]
    tweet_id: NDArray[np.uint64]
    author_id: NDArray[np.uint64]
    created_ms: NDArray[np.int64]
    flags: NDArray[np.uint16]
    lang: NDArray[np.uint16]
    reply_to_id: NDArray[np.uint64]
    conversation_id: NDArray[np.uint64]
    quoted_id: NDArray[np.uint64]
    retweeted_id: NDArray[np.uint64]
    totals: NDArray[np.int32]


def make_columns(k: int) -> TweetColumns:
    """Uninitialized columns of k rows."""
    ids = [np.empty(k, np.uint64) for _ in range(6)]
    return TweetColumns(
        servable=np.empty(k, np.bool_),
        state=np.empty(k, np.uint8),
        tweet_id=ids[0],
        author_id=ids[1],
        created_ms=np.empty(k, np.int64),
        flags=np.empty(k, np.uint16),
        lang=np.empty(k, np.uint16),
        reply_to_id=ids[2],
        conversation_id=ids[3],
        quoted_id=ids[4],
        retweeted_id=ids[5],
        totals=np.empty((k, COUNTERS), np.int32),
    )


@inlined
def is_servable(s: Any, slot: Any) -> Any:
    """Whether a held tweet was created and not deleted."""
    return s.row[slot, STATE] & (CREATED | DELETED) == CREATED


@kernel
def lookup(s: Any, tweet_ids: Any, slots: Any) -> Any:
    """Slots (int32, n) of ids (uint64, n), -1 where unknown."""
    for i in range(tweet_ids.shape[0]):
        prefetch_id(s, tweet_ids[i])
    for i in range(tweet_ids.shape[0]):
        slots[i] = find(s.ids, tweet_ids[i])


@kernel
def gather(s: Any, slots: Any, out: Any) -> Any:
    """Write the slots' columns into ``out`` (a ``TweetColumns`` of n rows); slot -1 gives zeros."""
    for i in range(slots.shape[0]):
        if slots[i] >= 0:
            slot = np.int64(slots[i])
            prefetch(s.row, slot * ROW)
            prefetch(s.refs, slot * 4)
            prefetch(s.author_id, slot)
            prefetch(s.created_ms, slot)
            prefetch(s.ids.keys, slot)
    for i in range(slots.shape[0]):
        slot = np.int64(slots[i])
        known = slot >= 0
        at = slot if known else np.int64(0)
        out.servable[i] = known and is_servable(s, at)
        out.state[i] = s.row[at, STATE] if known else 0
        out.tweet_id[i] = s.ids.keys[at] if known else np.uint64(0)
        out.author_id[i] = s.author_id[at] if known else np.uint64(0)
        out.created_ms[i] = s.created_ms[at] if known else 0
        out.flags[i] = s.row[at, FLAGS] if known else 0
        out.lang[i] = s.row[at, LANG] if known else 0
        out.reply_to_id[i] = s.refs[at, 0] if known else np.uint64(0)
        out.conversation_id[i] = s.refs[at, 1] if known else np.uint64(0)
        out.quoted_id[i] = s.refs[at, 2] if known else np.uint64(0)
        out.retweeted_id[i] = s.refs[at, 3] if known else np.uint64(0)
        for c in range(COUNTERS):
            out.totals[i, c] = s.row[at, c] if known else 0


@kernel
def originals(s: Any, tweet_ids: Any, out: Any) -> None:
    """Write the tweets that the given ones (uint64, n) stand for into ``out`` (uint64, n)."""
    for i in range(tweet_ids.shape[0]):
        prefetch_id(s, tweet_ids[i])
    for i in range(tweet_ids.shape[0]):
        slot = np.int64(find(s.ids, tweet_ids[i]))
        original_id = tweet_ids[i]
        if slot >= 0 and is_retweet(s, slot):
            _, original_id = original_of(s, slot, tweet_ids[i])
        out[i] = original_id if original_id != ZERO else tweet_ids[i]


@kernel
def carriers(s: Any, tweet_ids: Any, slots: Any, carrier_ids: Any, original_ids: Any) -> Any:
    """List those of the given tweets (uint64, n) that stand for another, and for which, in the two arrays (uint64, n);
    returns how many. ``slots``: int32 (n) scratch."""
    for i in range(tweet_ids.shape[0]):
        prefetch_id(s, tweet_ids[i])
    for i in range(tweet_ids.shape[0]):
        slots[i] = find(s.ids, tweet_ids[i])
        if slots[i] >= 0:
            prefetch(s.row, np.int64(slots[i]) * ROW + FLAGS)
    count = 0
    for i in range(tweet_ids.shape[0]):
        slot = np.int64(slots[i])
        if slot >= 0 and is_retweet(s, slot):
            _, original_id = original_of(s, slot, tweet_ids[i])
            if original_id != ZERO and original_id != tweet_ids[i]:
                carrier_ids[count] = tweet_ids[i]
                original_ids[count] = original_id
                count += 1
    return count


@inlined
def _factor(s: Any, epoch: Any, time_ms: Any, h: Any) -> Any:
    """The factor that turns sums relative to a landmark into values at ``time_ms``."""
    return exp2((epoch * epoch_ms(s) - time_ms) / s.half_lives_ms[h])


@kernel
def decayed(s: Any, slots: Any, time_ms: Any, out: Any) -> Any:
    """Write the decayed counters at ``time_ms`` into ``out`` (float64, (n, 8, 2)); slot -1 gives zeros."""
    for i in range(slots.shape[0]):
        slot = np.int64(slots[i])
        for h in range(HALF_LIVES):
            factor = _factor(s, np.int64(s.row[slot, EPOCH]), time_ms, h) if slot >= 0 else 0.0
            for c in range(COUNTERS):
                out[i, c, h] = s.decayed[slot, h * COUNTERS + c] * factor if slot >= 0 else 0.0


@kernel
def popularity(s: Any, slots: Any, time_ms: Any, h: Any, out: Any) -> Any:
    """Write the weighted decayed engagement at ``time_ms`` into ``out`` (float64, n); slot -1 gives 0."""
    for i in range(slots.shape[0]):
        slot = np.int64(slots[i])
        out[i] = s.weight[slot, h] * _factor(s, np.int64(s.row[slot, EPOCH]), time_ms, h) if slot >= 0 else 0.0


@kernel
def popular(s: Any, time_ms: Any, h: Any, since_ms: Any, lang: Any, keys: Any, ties: Any, slots: Any) -> Any:
    """Write the most popular servable tweets created since a time, in a language (0: any), best first, into the three
    arrays (k); returns how many.

    One pass over the weights. No tweet's score exceeds its weight times the newest landmark's factor; that bound alone
    refuses nearly all tweets, so their other columns are not read.
    """
    most = _factor(s, s.header[EPOCH_MAX], time_ms, h)
    size, k = np.int64(0), keys.shape[0]
    held, factor = s.header[EPOCH_MAX], most
    crowded = s.limits[_STUBS_FROM] - s.limits[_TWEETS]
    for at in range(s.header[SIZE] + crowded):
        slot = at if at < s.header[SIZE] else at - s.header[SIZE] + s.limits[_TWEETS]
        weight = s.weight[slot, h]
        if weight <= 0.0 or (size == k and weight * most < keys[0]):
            continue
        if s.created_ms[slot] < since_ms or not is_servable(s, slot):
            continue
        if lang != 0 and s.row[slot, LANG] != lang:
            continue
        if s.row[slot, EPOCH] != held:
            held = np.int64(s.row[slot, EPOCH])
            factor = _factor(s, held, time_ms, h)
        score = weight * factor
        if score > 0.0:
            size = heap.offer(keys, ties, slots, size, score, s.ids.keys[slot], np.int32(slot))
    heap.sort(keys, ties, slots, size)
    return size


@inlined
def _prefetch_listed(s: Any, slot: Any) -> None:
    """Prefetch what ``recent`` reads of a tweet; slot -1 is no tweet."""
    if slot >= 0:
        prefetch(s.created_ms, slot)
        prefetch(s.ids.keys, slot)
        prefetch(s.row, slot * ROW)


@inlined
def _sink(heap_of: Any, at: Any, size: Any) -> None:
    """Restore a heap of people, the one with the newest next tweet first, after its row ``at`` was replaced."""
    created_ms, ids, slots, taken = heap_of
    time, tweet_id, slot, count = created_ms[at], ids[at], slots[at], taken[at]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            created_ms[right] > created_ms[child]
            or (created_ms[right] == created_ms[child] and ids[right] > ids[child])
        ):
            child = right
        if created_ms[child] < time or (created_ms[child] == time and ids[child] < tweet_id):
            break
        created_ms[at], ids[at], slots[at], taken[at] = created_ms[child], ids[child], slots[child], taken[child]
        at = child
    created_ms[at], ids[at], slots[at], taken[at] = time, tweet_id, slot, count


@kernel
def recent(s: Any, author_ids: Any, since_ms: Any, per_author_max: Any, people: Any, out: Any) -> Any:
    """Write the authors' newest listed tweets, newest first, then by greater id, into ``out``: ids (uint64, k),
    creation times (float64, exact), slots (int32); returns how many.

    A merge: each author's tweets stand in a chain from the newest on, and the chains' next tweets in a heap. ``people``
    is its scratch, for n authors: creation times (int64), ids (uint64), slots (int32), how many were taken (int32).
    """
    created_ms, ids, slots, taken = people
    out_ids, out_ms, out_slots = out
    for i in range(author_ids.shape[0]):
        prefetch(s.heads, head_home(s, author_ids[i]))
    for i in range(author_ids.shape[0]):
        head = np.int64(s.heads[head_home(s, author_ids[i])]) - 1
        if head >= 0:
            prefetch(s.author_id, head)
            _prefetch_listed(s, head)
    size = np.int64(0)
    for i in range(author_ids.shape[0]):
        slot = np.int64(s.heads[find_head(s, author_ids[i])]) - 1
        if slot >= 0 and s.created_ms[slot] >= since_ms and per_author_max > 0:
            created_ms[size], ids[size], slots[size], taken[size] = s.created_ms[slot], s.ids.keys[slot], slot, 1
            _prefetch_listed(s, np.int64(s.row[slot, OLDER]))
            size += 1
    for at in range(size // 2 - 1, -1, -1):
        _sink(people, np.int64(at), size)
    count = np.int64(0)
    while count < out_ids.shape[0] and size > 0:
        out_ids[count], out_ms[count], out_slots[count] = ids[0], created_ms[0], slots[0]
        count += 1
        slot = np.int64(s.row[slots[0], OLDER])
        if slot >= 0 and taken[0] < per_author_max and s.created_ms[slot] >= since_ms:
            created_ms[0], ids[0], slots[0] = s.created_ms[slot], s.ids.keys[slot], slot
            taken[0] += 1
            # By the time this tweet is the newest, the one after it is there.
            _prefetch_listed(s, np.int64(s.row[slot, OLDER]))
        else:
            size -= 1
            created_ms[0], ids[0], slots[0], taken[0] = created_ms[size], ids[size], slots[size], taken[size]
        if size > 0:
            _sink(people, np.int64(0), size)
    return count


@kernel
def recent_counts(s: Any, author_ids: Any, since_ms: Any, most: Any, slots: Any, out: Any) -> None:
    """Write how many listed tweets each author created at or after a time, at most ``most``, into ``out`` (int32, n).

    ``slots`` is int32 (n) scratch: the authors take turns, so that the cache misses of their chains overlap.
    """
    for i in range(author_ids.shape[0]):
        prefetch(s.heads, head_home(s, author_ids[i]))
    for i in range(author_ids.shape[0]):
        head = np.int64(s.heads[head_home(s, author_ids[i])]) - 1
        if head >= 0:
            prefetch(s.author_id, head)
            prefetch(s.created_ms, head)
            prefetch(s.row, head * ROW)
    for i in range(author_ids.shape[0]):
        slots[i], out[i] = s.heads[find_head(s, author_ids[i])] - 1, 0
    for _ in range(most):
        going = False
        for i in range(author_ids.shape[0]):
            slot = np.int64(slots[i])
            if slot < 0:
                continue
            if s.created_ms[slot] < since_ms:
                slots[i] = -1
                continue
            out[i] += 1
            slots[i] = s.row[slot, OLDER]
            if slots[i] >= 0:
                prefetch(s.created_ms, np.int64(slots[i]))
                prefetch(s.row, np.int64(slots[i]) * ROW)
            going = True
        if not going:
            break


@kernel
def show(s: Any, slots: Any, counted: Any, counters: Any, ends: Any, totals: Any, out: Any) -> Any:
    """Write the ``totals`` (int32, (n, c)) of some ``counters`` (int64, c) of ``counted``, where each text of ``slots``
    ends (int64, n) if all are put end to end, and if they fit, the texts into ``out`` (uint8); returns their bytes.
    Slot -1 gives zeros and no text."""
    text = s.text
    total = np.int64(0)
    for i in range(slots.shape[0]):
        slot, original = np.int64(slots[i]), np.int64(counted[i])
        for c in range(counters.shape[0]):
            totals[i, c] = s.row[original, counters[c]] if original >= 0 else 0
        if slot >= 0 and has_text(s, slot):
            size, held = np.int64(s.row[slot, TEXT_BYTES]), s.text_start[slot]
            at = ring_base(s, held) + place_in(s, held)
            total += size
            for line in range(0, size, CACHE_LINE):
                prefetch(text, min(at + line, text.shape[0] - 1))
        ends[i] = total
    start = np.int64(0)
    for i in range(slots.shape[0]):
        if total <= out.shape[0] and ends[i] > start:
            held, size = s.text_start[slots[i]], ends[i] - start
            base, at = ring_base(s, held), place_in(s, held)
            # A text that wraps around its ring's end has two parts.
            first = min(size, ring_size(s, held) - at)
            copy_bytes(out, start, text, base + at, first)
            copy_bytes(out, start + first, text, base, size - first)
        start = ends[i]
    return total


def warm_on(s: Any) -> None:
    """Compile the readers on the given (tiny) arrays."""
    one = np.zeros(1, np.int32)
    keys, ties = np.empty(1), np.empty(1, np.uint64)
    h, zero = np.int64(0), np.int64(0)
    lookup(s, np.ones(1, np.uint64), one)
    gather(s, one, make_columns(1))
    originals(s, np.ones(1, np.uint64), np.empty(1, np.uint64))
    carriers(s, np.ones(1, np.uint64), one.copy(), np.empty(1, np.uint64), np.empty(1, np.uint64))
    ends, totals = np.empty(1, np.int64), np.empty((1, 1), np.int32)
    show(s, one, one, np.zeros(1, np.int64), ends, totals, np.empty(1, np.uint8))
    decayed(s, one, zero, np.empty((1, COUNTERS, HALF_LIVES)))
    popularity(s, one, zero, h, np.empty(1))
    popular(s, zero, h, zero, zero, keys, ties, one.copy())
    people = (np.empty(1, np.int64), np.empty(1, np.uint64), np.empty(1, np.int32), np.empty(1, np.int32))
    recent(s, np.ones(1, np.uint64), zero, zero, people, (ties, keys, one.copy()))
    recent_counts(s, np.ones(1, np.uint64), zero, zero, one.copy(), one.copy())
