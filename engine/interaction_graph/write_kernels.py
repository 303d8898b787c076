"""Writing kernels of the interaction graph: one event at a time, in order, so that batches may be cut anywhere.

Every edge is in the log, in its user's list and in its tweet's list, all three in order of time. So the edge that
leaves the log is the oldest in both lists, unless a list dropped it earlier (degree cap, taken back); the node's skip
count says how many were dropped. Edges with the same user, tweet and second are interchangeable when one leaves.

Cache misses limit the speed of ingest. While event i is applied, the cache lines of later events are prefetched in
three stages: hash slots, then node records, then the ends of the lists. A prefetch only reads, so the order of events
holds.
"""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import (
    DELETE_TWEET,
    ERASE_TWEET,
    IGNORE,
    NODE_BITS,
    NODE_MASK,
    SECONDS_MAX,
    TAKE_BACK,
    Limit,
    Scalar,
)
from engine.interaction_graph.undone_kernels import is_undone, remember
from engine.kernels import calendar_log, ring_slices
from engine.kernels.id_map import find, find_or_add, remove
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of, time_of, upper_bound
from engine.kernels.rng import mix64

#: At most this many of the oldest edges are evicted to make room for one event; after that the event is dropped.
_EVICTIONS_MAX = 64
#: ``find_edge`` compares this many entries before it tests whether any of them matched.
_SCAN = 128
#: How many events ahead the three stages of prefetching look.
_AHEAD_HASH, _AHEAD_RECORD, _AHEAD_LIST = 24, 16, 8
_ONE = np.uint64(1)

# IntEnum members as plain integers: numba freezes these as constants.
_WATERMARK, _ADDED, _EVICTED_TIME, _EVICTED_CAPACITY = (
    int(Scalar.WATERMARK_S),
    int(Scalar.ADDED),
    int(Scalar.EVICTED_BY_TIME),
    int(Scalar.EVICTED_BY_CAPACITY),
)
_TOO_LATE, _PLACED_LATE, _REFUSED, _DROPPED_FULL = (
    int(Scalar.TOO_LATE),
    int(Scalar.PLACED_LATE),
    int(Scalar.REFUSED),
    int(Scalar.DROPPED_FULL),
)
_CAME_AFTER_UNDO = int(Scalar.CAME_AFTER_UNDO)
_CAPPED_USER, _CAPPED_TWEET, _ARENA_FULL = int(Scalar.CAPPED_USER), int(Scalar.CAPPED_TWEET), int(Scalar.ARENA_FULL)
_TAKEN_BACK, _UNMATCHED, _DELETED = int(Scalar.TAKEN_BACK), int(Scalar.TAKE_BACK_UNMATCHED), int(Scalar.DELETED)
_OVER_SHARE = int(Scalar.OVER_SHARE)
_WINDOW, _LATE, _USER_DEGREE, _TWEET_DEGREE, _USER_ENTRIES, _UNDOS = (
    int(Limit.WINDOW_S),
    int(Limit.LATE_S),
    int(Limit.USER_DEGREE),
    int(Limit.TWEET_DEGREE),
    int(Limit.USER_ENTRIES),
    int(Limit.UNDOS_PER_DAY),
)


@inlined
def make_entry(second: Any, edge_type: Any, node: Any) -> Any:
    """An adjacency entry (int64)."""
    return (second << 32) | (edge_type << NODE_BITS) | node


@inlined
def _leave(ids: Any, records: Any, skips: Any, arena: Any, n: Any, other: Any, second: Any) -> None:
    """One side of an eviction: drop the edge from node n's list if it is there; release n if no edge names it."""
    record = records[n]
    held = False
    if degree(record) > 0:
        entry = arena.entries[slot_of(record, 0)]
        held = time_of(entry) == second and entry & NODE_MASK == other
    if held:
        ring_slices.pop_oldest(records, n, arena)
    else:
        skips[n] -= 1
    if records[n] == 0 and skips[n] == 0:
        remove(ids, ids.keys[n])


@inlined
def _evict_oldest(g: Any, second: Any) -> None:
    """Evict the log's oldest entry, whose second ``calendar_log.oldest`` has just returned."""
    entries = g.log.entries
    slot = calendar_log.pop_oldest(g.log)
    # A sliding window reuses the pool in order, so the slots after this one are very likely evicted next.
    size = entries.shape[0]
    far = slot + _AHEAD_RECORD
    far_payload = entries[far if far < size else 0] >> calendar_log.PAGE_BITS
    prefetch(g.user_records, (far_payload >> NODE_BITS) & NODE_MASK)
    prefetch(g.tweet_records, far_payload & NODE_MASK)
    near = slot + _AHEAD_LIST
    near_payload = entries[near if near < size else 0] >> calendar_log.PAGE_BITS
    prefetch(g.arena.entries, g.user_records[(near_payload >> NODE_BITS) & NODE_MASK] >> 32)
    prefetch(g.arena.entries, g.tweet_records[near_payload & NODE_MASK] >> 32)

    payload = entries[slot] >> calendar_log.PAGE_BITS
    user = (payload >> NODE_BITS) & NODE_MASK
    tweet = payload & NODE_MASK
    _leave(g.users, g.user_records, g.user_skips, g.arena, user, tweet, second)
    _leave(g.tweets, g.tweet_records, g.tweet_skips, g.arena, tweet, user, second)


@inlined
def advance(g: Any, limits: Any, second: Any) -> None:
    """Move the watermark to ``second`` if that is later, and evict the edges that fall out of the window."""
    scalars = g.scalars
    if second <= scalars[_WATERMARK]:
        return
    scalars[_WATERMARK] = second
    limit = second - limits[_WINDOW]
    header = g.log.header
    if header[calendar_log.COUNT] == 0 or calendar_log.oldest_at_least(g.log) > limit:
        return
    while header[calendar_log.COUNT] > 0:
        oldest = calendar_log.oldest(g.log)
        if oldest > limit:
            break
        _evict_oldest(g, oldest)
        scalars[_EVICTED_TIME] += 1


@kernel
def _abandon(ids: Any, records: Any, skips: Any, arena: Any, n: Any) -> None:
    """Release a node that was prepared for an edge that then did not fit."""
    if n >= 0 and degree(records[n]) == 0:
        ring_slices.clear(records, n, arena)
        if skips[n] == 0:
            remove(ids, ids.keys[n])


@inlined
def _prepare(g: Any, user_id: Any, tweet_id: Any) -> Any:
    """Find room for an edge: a log entry, both indices, both lists. Returns (user, tweet), or (-1, -1) without room.

    Makes room by evicting the oldest edges, at most ``_EVICTIONS_MAX``. An eviction may release an index that was just
    found, so everything is looked up again after it.
    """
    user = np.int64(-1)
    tweet = np.int64(-1)
    log_size = g.log.entries.shape[0]
    for _ in range(_EVICTIONS_MAX):
        if g.log.header[calendar_log.COUNT] < log_size:
            user = np.int64(find_or_add(g.users, user_id))
            tweet = np.int64(find_or_add(g.tweets, tweet_id))
            if (
                user >= 0
                and tweet >= 0
                and ring_slices.ensure_slice(g.user_records, user, g.arena)
                and ring_slices.ensure_slice(g.tweet_records, tweet, g.arena)
            ):
                return user, tweet
        oldest = calendar_log.oldest(g.log)
        if oldest < 0:
            break
        _evict_oldest(g, oldest)
        g.scalars[_EVICTED_CAPACITY] += 1
    _abandon(g.users, g.user_records, g.user_skips, g.arena, np.int64(find(g.users, user_id)))
    _abandon(g.tweets, g.tweet_records, g.tweet_skips, g.arena, np.int64(find(g.tweets, tweet_id)))
    return np.int64(-1), np.int64(-1)


@inlined
def _note(g: Any, skips: Any, n: Any, done: Any, capped: Any) -> None:
    """Count a push that dropped an edge: the node now has one more log entry that is not in its list."""
    if done == ring_slices.STORED:
        return
    skips[n] += 1
    if done <= ring_slices.NOT_STORED:
        g.scalars[capped] += 1
    else:
        g.scalars[_ARENA_FULL] += 1


@inlined
def add(g: Any, limits: Any, user_id: Any, tweet_id: Any, edge_type: Any, second: Any) -> None:
    """Store an edge, or count the reason for not storing it."""
    scalars = g.scalars
    watermark = scalars[_WATERMARK]
    full = g.log.header[calendar_log.COUNT] == g.log.entries.shape[0]
    user = np.int64(find(g.users, user_id))
    if user >= 0 and degree(g.user_records[user]) + g.user_skips[user] >= limits[_USER_ENTRIES]:
        scalars[_OVER_SHARE] += 1
        return
    if second < watermark:
        late = second < watermark - limits[_LATE] or second <= watermark - limits[_WINDOW]
        if late or (full and second < calendar_log.oldest(g.log)):
            scalars[_TOO_LATE] += 1
            return
        if is_undone(g, user_id, tweet_id, edge_type, second):
            scalars[_CAME_AFTER_UNDO] += 1
            return
        scalars[_PLACED_LATE] += 1
    user, tweet = _prepare(g, user_id, tweet_id)
    if user < 0:
        scalars[_DROPPED_FULL] += 1
        return
    done = ring_slices.push(g.user_records, user, g.arena, make_entry(second, edge_type, tweet), limits[_USER_DEGREE])
    _note(g, g.user_skips, user, done, _CAPPED_USER)
    done = ring_slices.push(g.tweet_records, tweet, g.arena, make_entry(second, edge_type, user), limits[_TWEET_DEGREE])
    _note(g, g.tweet_skips, tweet, done, _CAPPED_TWEET)
    calendar_log.append(g.log, second, (user << NODE_BITS) | tweet)
    scalars[_ADDED] += 1


@kernel
def find_edge(arena: Any, record: Any, other: Any, edge_type: Any, below: Any) -> Any:
    """Position of the newest entry before position ``below`` with this neighbor and type, -1 if none. O(below).

    Compares ``_SCAN`` entries at a time: an inner loop with no exit and with unsigned indices lets the CPU compare
    several entries at once.
    """
    wanted = (edge_type << NODE_BITS) | other
    entries = arena.entries
    mask = (np.int64(1) << ((record >> 27) & 31)) - 1
    stop = np.int64(below)
    while stop > 0:
        # A list may begin anywhere in its slice and wrap around to the slice's start: scan up to the wrap only.
        last = slot_of(record, stop - 1)
        size = min(stop, np.int64(_SCAN), (last & mask) + 1)
        first, found = np.uint64(last - size + 1), np.int64(0)
        for i in range(np.uint64(size)):
            found |= np.int64((entries[first + np.uint64(i)] & np.int64(0xFFFFFFFF)) == wanted)
        if found:
            for at in range(stop - 1, stop - size - 1, -1):
                if entries[slot_of(record, at)] & 0xFFFFFFFF == wanted:
                    return at
        stop -= size
    return np.int64(-1)


@kernel
def drop_exact(records: Any, skips: Any, arena: Any, n: Any, entry: Any) -> Any:
    """Remove one entry equal to ``entry`` from node n's list; returns whether one was found.

    O(log degree + entries of that second)."""
    record = records[n]
    second = time_of(entry)
    at = upper_bound(arena, record, second) - 1
    while at >= 0:
        held = arena.entries[slot_of(record, at)]
        if time_of(held) != second:
            break
        if held == entry:
            ring_slices.remove_at(records, n, arena, at)
            skips[n] += 1
            return True
        at -= 1
    return False


@kernel
def take_back(g: Any, limits: Any, user_id: Any, tweet_id: Any, edge_type: Any, second: Any) -> None:
    """Remove all edges of this user, tweet and type that are not newer than ``second``, from both lists.

    Their log entries stay until they are evicted, and count as skipped. O(user degree), plus O(tweet degree) if the
    user's list has dropped edges.
    """
    remember(g, user_id, tweet_id, edge_type, second, user_id, limits[_UNDOS])
    arena = g.arena
    user = np.int64(find(g.users, user_id))
    tweet = np.int64(find(g.tweets, tweet_id))
    taken = 0
    if user >= 0 and tweet >= 0:
        at = upper_bound(arena, g.user_records[user], second)
        while True:
            at = find_edge(arena, g.user_records[user], tweet, edge_type, at)
            if at < 0:
                break
            held = time_of(arena.entries[slot_of(g.user_records[user], at)])
            ring_slices.remove_at(g.user_records, user, arena, at)
            g.user_skips[user] += 1
            drop_exact(g.tweet_records, g.tweet_skips, arena, tweet, make_entry(held, edge_type, user))
            taken += 1
        at = upper_bound(arena, g.tweet_records[tweet], second)
        while g.user_skips[user] > 0:
            at = find_edge(arena, g.tweet_records[tweet], user, edge_type, at)
            if at < 0:
                break
            ring_slices.remove_at(g.tweet_records, tweet, arena, at)
            g.tweet_skips[tweet] += 1
            taken += 1
    g.scalars[_TAKEN_BACK] += taken
    if taken == 0:
        g.scalars[_UNMATCHED] += 1


@inlined
def prefetch_twins(other: Any, arena: Any, record: Any, count: Any, at: Any) -> None:
    """Prefetch the cache lines that dropping the entries after ``at`` from the other side's lists will touch.

    ``other``: (records, skips) of that side."""
    j = at + _AHEAD_RECORD
    if j < count:
        node = arena.entries[slot_of(record, j)] & NODE_MASK
        prefetch(other[0], node)
        prefetch(other[1], node)
    j = at + _AHEAD_LIST
    if j < count:
        held = other[0][arena.entries[slot_of(record, j)] & NODE_MASK]
        prefetch(arena.entries, slot_of(held, np.int64(0)))
        prefetch(arena.entries, slot_of(held, degree(held)))


@kernel
def drop_list(own: Any, other: Any, arena: Any, node: Any) -> Any:
    """Remove every edge in a node's list from both sides; returns how many. O(degree · (log + degree / 2 moves)).

    ``own``, ``other``: (records, skips) of the node's side and of the other side. Both degrees are capped, so the work
    is bounded.
    """
    records, skips = own
    record = records[node]
    count = degree(record)
    for at in range(count):
        prefetch_twins(other, arena, record, count, np.int64(at))
        entry = arena.entries[slot_of(record, at)]
        twin = make_entry(time_of(entry), (entry >> NODE_BITS) & 15, node)
        drop_exact(other[0], other[1], arena, entry & NODE_MASK, twin)
    ring_slices.clear(records, node, arena)
    skips[node] += count
    return count


@kernel
def delete_tweet(g: Any, limits: Any, tweet_id: Any, second: Any, by: Any) -> None:
    """Remove every edge in the tweet's list from both sides.

    Edges that the tweet's cap had dropped are not found; they stay in their users' lists until they are evicted.
    """
    remember(g, np.uint64(0), tweet_id, DELETE_TWEET, second, by, limits[_UNDOS])
    tweet = np.int64(find(g.tweets, tweet_id))
    if tweet >= 0:
        users = (g.user_records, g.user_skips)
        g.scalars[_DELETED] += drop_list((g.tweet_records, g.tweet_skips), users, g.arena, tweet)


@kernel
def erase_tweet(g: Any, tweet_id: Any) -> None:
    """Remove the edges in the list of an erased person's tweet. Unlike a delete's, its time is not remembered: so many
    at once would push out the undos of others."""
    tweet = np.int64(find(g.tweets, tweet_id))
    if tweet >= 0:
        users = (g.user_records, g.user_skips)
        g.scalars[_DELETED] += drop_list((g.tweet_records, g.tweet_skips), users, g.arena, tweet)


@inlined
def look_ahead(g: Any, user_ids: Any, tweet_ids: Any, i: Any) -> None:
    """Prefetch the cache lines that the events after i will touch."""
    n = user_ids.shape[0]
    j = i + _AHEAD_HASH
    if j < n:
        slots = g.users.slots
        prefetch(slots, (mix64(user_ids[j]) & np.uint64(slots.shape[0] // 2 - 1)) << _ONE)
        slots = g.tweets.slots
        prefetch(slots, (mix64(tweet_ids[j]) & np.uint64(slots.shape[0] // 2 - 1)) << _ONE)
    j = i + _AHEAD_RECORD
    if j < n:
        prefetch(g.user_records, np.int64(find(g.users, user_ids[j])))
        prefetch(g.tweet_records, np.int64(find(g.tweets, tweet_ids[j])))
    j = i + _AHEAD_LIST
    if j < n:
        node = np.int64(find(g.users, user_ids[j]))
        if node >= 0:
            record = g.user_records[node]
            prefetch(g.arena.entries, slot_of(record, degree(record)))
        node = np.int64(find(g.tweets, tweet_ids[j]))
        if node >= 0:
            record = g.tweet_records[node]
            prefetch(g.arena.entries, slot_of(record, degree(record)))


@kernel
def ingest(g: Any, limits: Any, user_ids: Any, tweet_ids: Any, codes: Any, operations: Any, times_ms: Any) -> None:
    """Apply n rows in order.

    ``user_ids``, ``tweet_ids`` uint64 (n,), ``codes`` uint8 (n,), ``operations`` uint8 (256,): the operation of each
    code (an edge type, ``TAKE_BACK`` + an edge type, ``DELETE_TWEET``, ``ERASE_TWEET`` or ``IGNORE``),
    ``times_ms`` int64 (n,), ``limits`` int64 by ``Limit``.
    """
    for i in range(user_ids.shape[0]):
        look_ahead(g, user_ids, tweet_ids, i)
        operation = np.int64(operations[codes[i]])
        if operation == IGNORE:
            continue
        second = times_ms[i] // 1000
        user_id = user_ids[i]
        tweet_id = tweet_ids[i]
        if operation == ERASE_TWEET:
            erase_tweet(g, tweet_id)
            continue
        if second < 0 or second >= SECONDS_MAX or tweet_id == 0 or (user_id == 0 and operation != DELETE_TWEET):
            g.scalars[_REFUSED] += 1
            continue
        advance(g, limits, second)
        if operation == DELETE_TWEET:
            delete_tweet(g, limits, tweet_id, second, user_id)
        elif operation >= TAKE_BACK:
            take_back(g, limits, user_id, tweet_id, operation - TAKE_BACK, second)
        else:
            add(g, limits, user_id, tweet_id, operation, second)
