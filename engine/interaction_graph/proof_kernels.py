"""Social proof: which of some given people engaged with each of some given tweets, newest first."""

from typing import Any

import numpy as np

from engine.interaction_graph.arrays import NODE_BITS, NODE_MASK
from engine.kernels.id_map import find_in
from engine.kernels.jit import inlined, kernel
from engine.kernels.prefetch import prefetch
from engine.kernels.ring_slices import degree, slot_of, time_of
from engine.kernels.rng import mix64

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
#: Entries in a cache line; of a list how many are prefetched, and how many lists ahead.
_PER_LINE, _PREFETCHED, _AHEAD = 8, 64, 4


@inlined
def _slot_of_key(table: Any, shift: Any, key: Any) -> Any:
    """The place of a positive key, or the empty place where it belongs, in a table of (key, value) pairs; 0 = empty."""
    mask = table.shape[0] // 2 - 1
    at = np.int64((np.uint64(key) * _GOLDEN) >> shift)
    while table[2 * at] != 0 and table[2 * at] != key:
        at = np.int64((at + 1) & mask)
    return at


@inlined
def _offer(out: Any, row: Any, user_id: Any, kind: Any, time_ms: Any) -> None:
    """Insert an engagement into a row kept newest first (equal times: by user id, then type). Of engagements with the
    same user and type the row keeps the newest."""
    counts, users, types, times = out
    limit = users.shape[1]
    size = np.int64(counts[row])
    at = size
    for j in range(size):
        if users[row, j] == user_id and types[row, j] == kind:
            if times[row, j] >= time_ms:
                return
            # The same user and type at an earlier time: remove that entry, then insert the newer one.
            for i in range(j, size - 1):
                users[row, i] = users[row, i + 1]
                types[row, i] = types[row, i + 1]
                times[row, i] = times[row, i + 1]
            size -= 1
            break
    at = size
    while at > 0 and (
        times[row, at - 1] < time_ms
        or (
            times[row, at - 1] == time_ms
            and (user_id < users[row, at - 1] or (user_id == users[row, at - 1] and kind < types[row, at - 1]))
        )
    ):
        at -= 1
    if at == limit:
        return
    size = min(size + 1, limit)
    for i in range(size - 1, at, -1):
        users[row, i] = users[row, i - 1]
        types[row, i] = types[row, i - 1]
        times[row, i] = times[row, i - 1]
    users[row, at] = user_id
    types[row, at] = kind
    times[row, at] = time_ms
    counts[row] = size


@inlined
def _look_up(ids: Any, slots: Any, records: Any, nodes: Any) -> Any:
    """Write the nodes of ids (uint64, n) into ``nodes`` (int64, n; -1 unknown); returns how many edges they have."""
    mask = np.uint64(slots.shape[0] // 2 - 1)
    for i in range(ids.shape[0]):
        prefetch(slots, np.int64((mix64(ids[i]) & mask) << np.uint64(1)))
    for i in range(ids.shape[0]):
        nodes[i] = np.int64(find_in(slots, ids[i]))
        if nodes[i] >= 0:
            prefetch(records, nodes[i])
    total = np.int64(0)
    for i in range(ids.shape[0]):
        if nodes[i] >= 0:
            total += degree(records[nodes[i]])
    return total


@inlined
def _prefetch_list(entries: Any, record: Any) -> None:
    """Prefetch a list's newest entries."""
    for j in range(0, min(degree(record), _PREFETCHED), _PER_LINE):
        prefetch(entries, slot_of(record, degree(record) - 1 - j))


@kernel
def prove(g: Any, tweet_ids: Any, user_ids: Any, mask: Any, table: Any, nodes: Any, out: Any) -> Any:
    """Fill ``out`` (counts int32 (n,), users uint64, types uint8, times int64 (n, k), zeroed); returns entries read.

    ``table``: int64, zeroed, 2 · a power of two ≥ 2 · max(n, users) long; it maps the nodes of the side that is not
    read. ``nodes``: int64 (n + users), scratch. The side with fewer entries in all is read: the tweets' lists, in
    search of the people, or the people's lists, in search of the tweets.
    """
    shift = np.uint64(64)
    while np.int64(1) << np.int64(np.uint64(64) - shift) < table.shape[0] // 2:
        shift -= np.uint64(1)
    tweets, users = nodes[: tweet_ids.shape[0]], nodes[tweet_ids.shape[0] :]
    tweet_total = _look_up(tweet_ids, g.tweet_slots, g.tweet_records, tweets)
    user_total = _look_up(user_ids, g.user_slots, g.user_records, users)
    if tweet_total <= user_total:
        for i in range(users.shape[0]):
            if users[i] >= 0:
                table[2 * _slot_of_key(table, shift, users[i] + 1)] = users[i] + 1
        for i in range(tweets.shape[0]):
            if i + _AHEAD < tweets.shape[0] and tweets[i + _AHEAD] >= 0:
                _prefetch_list(g.entries, g.tweet_records[tweets[i + _AHEAD]])
            if tweets[i] < 0:
                continue
            record = g.tweet_records[tweets[i]]
            for j in range(degree(record) - 1, -1, -1):
                entry = g.entries[slot_of(record, j)]
                kind = (entry >> NODE_BITS) & 15
                user = entry & NODE_MASK
                if (mask >> kind) & 1 and table[2 * _slot_of_key(table, shift, user + 1)] != 0:
                    _offer(out, i, g.user_keys[user], kind, time_of(entry) * 1000)
        return tweet_total
    for i in range(tweets.shape[0]):
        if tweets[i] >= 0:
            at = _slot_of_key(table, shift, tweets[i] + 1)
            table[2 * at] = tweets[i] + 1
            table[2 * at + 1] = i
    for i in range(users.shape[0]):
        if i + _AHEAD < users.shape[0] and users[i + _AHEAD] >= 0:
            _prefetch_list(g.entries, g.user_records[users[i + _AHEAD]])
        if users[i] < 0:
            continue
        record = g.user_records[users[i]]
        for j in range(degree(record) - 1, -1, -1):
            entry = g.entries[slot_of(record, j)]
            kind = (entry >> NODE_BITS) & 15
            at = _slot_of_key(table, shift, (entry & NODE_MASK) + 1)
            if (mask >> kind) & 1 and table[2 * at] != 0:
                _offer(out, table[2 * at + 1], user_ids[i], kind, time_of(entry) * 1000)
    return user_total
